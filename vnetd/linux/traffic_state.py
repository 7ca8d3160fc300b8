"""Traffic control of one device as it is: its qdiscs, classes and filters."""

import errno
from collections.abc import Iterator

from vnetd.linux import tc
from vnetd.linux.netlink import U32, Attributes, ReadSocket, nested
from vnetd.linux.operations import index_of
from vnetd.plan.traffic import HtbClass, Traffic


def read_traffic(sock: ReadSocket, name: str) -> Traffic | None:
    """Traffic control of the link ``name``, ``None`` if there is no such link. Raises ``OSError``."""
    try:
        index = index_of(name)
        root, ingress = tc.qdisc(sock, index, tc.ROOT), tc.qdisc(sock, index, tc.INGRESS)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    ours = root is not None and root.handle == tc.HANDLE and root.kind == "htb"
    filters = tc.filters(sock, index, tc.HANDLE) if ours else []
    return Traffic(
        root=_root_kind(root),
        default=_default(root) if ours and root else 0,
        classes=frozenset(_classes(sock, index)) if ours else frozenset(),
        filters=frozenset(found for one in filters if (found := tc.to_class(one))),
        strange=frozenset(tc.priority(one) for one in filters if not tc.to_class(one) and _is_rule(one)),
        ingress=ingress is not None,
        redirect=_redirect(sock, index) if ingress else 0,
    )


def _root_kind(root: tc.Message | None) -> str:
    if root is None or not root.handle:
        return ""
    return root.kind if root.handle == tc.HANDLE else "other"


def _default(root: tc.Message) -> int:
    init = nested(root.options).get(tc.TCA_HTB_INIT, b"")
    default: int = tc.HTB_GLOBAL.unpack(init)[2] if len(init) == tc.HTB_GLOBAL.size else 0
    return default


def _classes(sock: ReadSocket, index: int) -> Iterator[HtbClass]:
    for one in sock.dump(tc.RTM_GETTCLASS, tc.TC.pack(0, index, 0, tc.HANDLE, 0), tc.parse):
        found = nested(one.options)
        parameters = found.get(tc.TCA_HTB_PARMS, b"")
        buffer, ceil_buffer, quantum, *_ = tc.HTB_OPTIONS.unpack_from(parameters, 2 * tc.RATE.size)
        parent = 0 if one.parent in {tc.ROOT, tc.HANDLE} else one.parent & 0xFFFF
        minor = one.handle & 0xFFFF
        yield HtbClass(
            minor=minor,
            parent=parent,
            rate=_shown_rate(found, tc.TCA_HTB_RATE64, parameters, 0),
            ceil=_shown_rate(found, tc.TCA_HTB_CEIL64, parameters, tc.RATE.size),
            buffer=buffer,
            ceil_buffer=ceil_buffer,
            quantum=quantum,
            queue=_queue(sock, index, minor) if one.info else 0,
        )


def _shown_rate(found: Attributes, wide: int, parameters: bytes, start: int) -> int:
    rate: int = tc.U64.unpack(found[wide])[0] if wide in found else tc.RATE.unpack_from(parameters, start)[-1]
    return rate


def _queue(sock: ReadSocket, index: int, minor: int) -> int:
    """Length of a class's queue in bytes if it is of vnetd's kind."""
    queue = tc.qdisc(sock, index, tc.HANDLE | minor)
    if queue is None or queue.kind != "bfifo" or queue.handle != minor << 16 or len(queue.options) < U32.size:
        return 0
    limit: int = U32.unpack_from(queue.options)[0]
    return limit


def _is_rule(message: tc.Message) -> bool:
    """The kernel lists a filter's hash tables, and the filter itself, beside its rules."""
    return bool(message.handle & 0xFFF) if message.kind == "u32" else bool(message.handle)


def _takes_all(filter: Attributes) -> bool:
    keys = tc.keys(filter.get(tc.TCA_U32_SEL, b""))
    return bool(keys) and not any(mask for mask, *_ in keys)


def _redirect(sock: ReadSocket, index: int) -> int:
    """Index of the device that takes all that is received, -1 for one that was deleted, 0 for none."""
    for one in tc.filters(sock, index, tc.INGRESS_HANDLE):
        found = nested(one.options)
        if one.kind == "u32" and tc.priority(one) == tc.REDIRECT_PRIORITY and _takes_all(found):
            for action in nested(found.get(tc.TCA_U32_ACT)).values():
                parameters = nested(nested(action).get(tc.TCA_ACT_OPTIONS)).get(tc.TCA_MIRRED_PARMS, b"")
                if len(parameters) == tc.MIRRED.size:
                    *_, verdict, _, _, kind, to = tc.MIRRED.unpack(parameters)
                    return (int(to) or -1) if (verdict, kind) == (tc.STOLEN, tc.EGRESS_REDIRECT) else 0
    return 0
