"""vnetd's nftables tables through libnftables, in process and in JSON.

One library context, for one thread at a time. Where kernel (6.9) and library (1.1) can, the tables are owned by the
context's socket and persist without it: other processes can then neither flush nor edit them. While no vnetd runs they
are orphans (the kernel takes the owner flag off), open to everybody; the next one adopts them as they are. libnftables
before 1.1 drops the flags without a word, therefore they are read back.
"""

import errno
import json
import logging
import os
import socket
import stat
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from nftables import Nftables

from vnetd.host.commit import Commit
from vnetd.linux.capabilities_nft import bridge_features
from vnetd.linux.netlink import NETLINK_NETFILTER, DumpInterrupted
from vnetd.linux.nft_batch import BatchWriter
from vnetd.linux.nft_handles import HandleSocket
from vnetd.linux.nft_json import (
    OWNED,
    TABLE,
    Command,
    contents,
    counts,
    reason,
    rewriting,
    table,
    transaction,
)
from vnetd.linux.nft_messages import Unsuited
from vnetd.linux.nft_strangers import strangers
from vnetd.linux.threads import Worker
from vnetd.model.errors import HostError
from vnetd.plan.features import PLAIN, BridgeFeatures
from vnetd.plan.rules import (
    EMPTY,
    FAMILIES,
    Count,
    Element,
    Family,
    Fragment,
    MissingRule,
    Set,
    Stranger,
    TableContents,
)
from vnetd.plan.stages import Stage, stages

log = logging.getLogger(__name__)

T = TypeVar("T")
Args = TypeVarTuple("Args")

PROBE = "vnetd-probe"
"""A table that lives for the moment in which it is tried whether tables can be owned."""
NOWHERE = "No such file or directory"


class LinuxNft:
    """``host.Nft`` on the kernel, in the network namespace of the thread that calls ``open``.

    ``own``: whether to own the tables where that can be.
    """

    def __init__(self, *, own: bool = True) -> None:
        self._own = own
        self._worker = Worker("nft")
        self._lock = threading.Lock()
        self._library: Nftables | None = None
        self._handles: HandleSocket | None = None
        self._ports: frozenset[int] = frozenset()
        self._can_own = False
        self._features = PLAIN
        self._plain: set[Family] = set()
        self._kinds: dict[tuple[Family, str], Set] = {}
        self._batches: BatchWriter | None = None

    @property
    def owned(self) -> bool:
        """Whether the tables are, or will be made, such that no other process can change them."""
        return self._can_own and not self._plain

    @property
    def claimable(self) -> bool:
        """Whether there are plain tables that ``rewrite`` would make owned."""
        return self._can_own and bool(self._plain)

    @property
    def features(self) -> BridgeFeatures:
        """See ``host.Nft``."""
        return self._features

    @property
    def ports(self) -> frozenset[int]:
        """Netlink port ids this host writes from: they mark its own transactions among the kernel's events."""
        return self._ports

    async def open(self) -> None:
        """Open the library, find out whether tables can be owned, and adopt what an earlier process left.

        Plain tables stay as they are, and ``owned`` false, until ``rewrite``. ``HostError`` if the kernel has no
        nftables or another process owns the tables.
        """
        await self._do(self._open)

    async def close(self) -> None:
        """Let go of the tables, which stay."""
        await self._worker.close(self._close)

    async def commit(self, remove: Fragment, add: Fragment, rules: Sequence[MissingRule] = ()) -> None:
        """See ``host.Nft``. A caller that is cancelled leaves the ruleset as it was, but for ``rules``."""
        if remove != EMPTY or add != EMPTY or rules:
            await self._do(self._commit, remove, add, rules, discard=lambda _: self._alone(self._commit, add, remove))

    def committing(self, remove: Fragment, add: Fragment) -> Commit:
        """See ``host.Nft``."""
        return Commit(partial(self._alone, self._commit, remove, add))

    async def rewrite(self, contents: Fragment) -> None:
        """See ``host.Nft``. Elements that packets added to dynamic sets are lost; plain tables become owned."""
        await self._do(self._rewrite, contents)

    async def clear(self) -> None:
        """See ``host.Nft``."""
        await self._do(self._clear)

    async def table(self, family: Family) -> TableContents | None:
        """See ``host.Nft``."""
        return await self._do(self._table, family)

    async def chain(self, family: Family, name: str) -> TableContents | None:
        """See ``host.Nft``."""
        return await self._do(self._list, "chain", family, name)

    async def handles(self, family: Family, chain: str) -> tuple[int, ...]:
        """See ``host.Nft``."""
        return await self._do(self._read_handles, family, chain)

    async def set(self, family: Family, name: str) -> frozenset[Element] | None:
        """See ``host.Nft``."""
        listed = await self._do(self._set, family, name)
        return listed.sets[name] if listed else None

    async def exclusively(self, function: Callable[[], T]) -> T:
        """Run something that uses libnftables by itself while nobody else does: its contexts share state."""
        return await self._do(function)

    async def counts(self, family: Family, chains: Collection[str]) -> Mapping[str, tuple[Count, ...]]:
        """See ``host.Nft``."""
        return await self._do(self._counts, family, chains)

    async def strangers(self) -> tuple[Stranger, ...]:
        """See ``host.Nft``."""
        return await self._do(self._strangers)

    async def _do(
        self, function: Callable[[*Args], T], *args: *Args, discard: Callable[[T], object] | None = None
    ) -> T:
        return await self._worker.run(partial(self._alone, function, *args), discard=discard)

    def _alone(self, function: Callable[[*Args], T], *args: *Args) -> T:
        """On any thread: neither the library nor its socket is one for several."""
        with self._lock:
            return function(*args)

    def _read_handles(self, family: Family, chain: str) -> tuple[int, ...]:
        assert self._handles is not None, "open() comes first"
        try:
            return self._handles.read(family, TABLE, chain)
        except (OSError, DumpInterrupted) as error:
            raise HostError("list", f"rules of chain {chain} of family {family}", str(error)) from error

    def _counts(self, family: Family, chains: Collection[str]) -> Mapping[str, tuple[Count, ...]]:
        found: dict[str, tuple[Count, ...]] = {}
        for name in sorted(chains):
            where = {"family": family, "name": name, "table": TABLE}
            with suppress(HostError):  # gone meanwhile
                found |= counts(self._run([{"list": {"chain": where}}], "list", f"chain {name}"))
        return found

    def _strangers(self) -> tuple[Stranger, ...]:
        return strangers(self._run([{"list": {"ruleset": None}}], "list", "the ruleset"))

    def _open(self) -> None:
        before = _netfilter_sockets()
        self._library = Nftables()
        self._library.set_json_output(True)
        self._can_own = self._probe() and self._own
        self._features = bridge_features(self._library)
        # Only now does the library's socket have its port: the first message binds it.
        opened = {fd: port for fd, port in _netfilter_sockets().items() if fd not in before}
        for fd in opened:
            # A child that inherited the socket would keep the tables from being adopted after a restart.
            os.set_inheritable(fd, False)
        self._ports = frozenset(opened.values())
        if len(opened) == 1:
            self._batches = BatchWriter(socket.socket(fileno=os.dup(*opened)))
        self._handles = HandleSocket()
        self._library.set_terse_output(True)
        for family in FAMILIES:
            if (flags := self._flags(family)) is None:
                continue
            if self._can_own and "persist" in flags:
                self._run([{"add": table(family, True)}], "adopt", f"table {family} {TABLE}")
            listed = self._table(family)
            self._kinds |= {(family, name): one for name, one in listed.definitions.items()} if listed else {}
        self._library.set_terse_output(False)

    def _close(self) -> None:
        self._library = None
        if self._batches:  # the last descriptor of the socket: only now are tables orphans
            self._batches.close()
        if self._handles:
            self._handles.close()

    def _probe(self) -> bool:
        """Make a table that is owned and persists, and look whether it is."""
        where = {"family": "inet", "name": PROBE}
        try:
            self._run([{"add": {"table": {**where, "flags": OWNED}}}], "probe", f"table {PROBE}")
        except HostError:
            return False
        objects = self._run([{"list": {"table": where}}], "list", f"table {PROBE}")
        self._run([{"delete": {"table": where}}], "remove", f"table {PROBE}")
        return any(set(OWNED) <= _flags_of(one["table"]) for one in objects if "table" in one)

    def _flags(self, family: Family) -> frozenset[str] | None:
        """The flags of our table, ``None`` if there is none."""
        for one in self._run([{"list": {"tables": {"family": family}}}], "list", f"tables {family}"):
            if "table" in one and (one["table"]["family"], one["table"]["name"]) == (family, TABLE):
                return _flags_of(one["table"])
        return None

    def _owned_families(self) -> list[Family]:
        return [family for family in FAMILIES if self._can_own and family not in self._plain]

    def _commit(self, remove: Fragment, add: Fragment, rules: Sequence[MissingRule] = ()) -> None:
        if rules:  # they are put back where all else is as it was
            self._transact(remove, add, rules)
            return
        done: list[Stage] = []
        try:
            for stage in stages(remove, add, self._kinds):
                self._transact(*stage)
                done.append(stage)
        except HostError:
            self._undo(done)
            raise

    def _undo(self, done: Sequence[Stage]) -> None:
        try:
            for gone, come in reversed(done):
                self._transact(come, gone)
        except HostError as error:  # what is left leads nowhere, and whoever was refused looks for it
            log.warning("cannot take back half a change of rules: %s", error)

    def _transact(self, remove: Fragment, add: Fragment, rules: Sequence[MissingRule] = ()) -> None:
        if not rules and self._commit_directly(remove, add):
            return
        if not (commands := transaction(remove, add, rules, self._kinds, self._owned_families())):
            return
        self._run(commands, "commit rules", _words(remove, add, rules))
        for one in remove.sets:
            self._kinds.pop((one.family, one.name), None)
        self._kinds |= {(one.family, one.name): one for one in add.sets}

    def _commit_directly(self, remove: Fragment, add: Fragment) -> bool:
        """The short way, if it is one for this transaction."""
        if self._batches is None:
            return False
        try:
            self._batches.commit(remove, add, self._kinds)
        except Unsuited:
            return False
        except OSError as error:
            raise HostError("commit rules", _words(remove, add, ()), error.errno or errno.EIO) from error
        return True

    def _rewrite(self, contents: Fragment) -> None:
        there = [family for family in FAMILIES if self._flags(family) is not None]
        commands = rewriting(contents, there, FAMILIES if self._can_own else ())
        self._run(commands, "commit rules", "all of them")
        self._plain.clear()
        self._kinds = {(one.family, one.name): one for one in contents.sets}

    def _clear(self) -> None:
        there = [family for family in FAMILIES if self._flags(family) is not None]
        if there:
            commands = [{"delete": {"table": {"family": family, "name": TABLE}}} for family in there]
            self._run(commands, "remove", f"tables {TABLE}")
        self._plain.clear()
        self._kinds.clear()

    def _remember_flags(self, family: Family, flags: frozenset[str] | None) -> None:
        if self._can_own and flags is not None and "persist" not in flags:
            self._plain.add(family)
        else:
            self._plain.discard(family)

    def _table(self, family: Family) -> TableContents | None:
        self._remember_flags(family, self._flags(family))
        return self._list("table", family, TABLE)

    def _set(self, family: Family, name: str) -> TableContents | None:
        known = self._kinds.get((family, name))
        kinds = ("map", "set") if known and known.data else ("set", "map")
        return self._list(kinds[0], family, name) or self._list(kinds[1], family, name)

    def _list(self, kind: str, family: Family, name: str) -> TableContents | None:
        where = {"family": family, "name": name} | ({} if kind == "table" else {"table": TABLE})
        try:
            objects = self._run([{"list": {kind: where}}], "list", f"{kind} {name} of family {family}")
        except HostError as error:
            if NOWHERE in error.reason:
                return None
            raise
        return contents(family, objects)

    def _run(self, commands: list[Command], operation: str, subject: str) -> list[Mapping[str, Any]]:
        """Hand commands to the library, as one transaction, and return the objects it lists."""
        assert self._library is not None, "open() comes first"
        code, output, errors = self._library.cmd(json.dumps({"nftables": commands}))
        if code:
            raise HostError(operation, subject, reason(errors))
        try:
            return list(json.loads(output)["nftables"]) if output.strip() else []
        except ValueError:  # so libnftables 1.0.6 lists a table that belongs to somebody
            raise HostError(operation, subject, "libnftables lists it in no form that can be read") from None


def _words(remove: Fragment, add: Fragment, rules: Sequence[MissingRule]) -> str:
    """A few of the objects of a transaction, for an error."""
    names = [
        *(f"chain {chain.name}" for part in (remove, add) for chain in part.chains),
        *(f"chain {rule.chain.name}" for rule in rules),
        *(f"set {one.name}" for part in (remove, add) for one in part.sets),
        *(f"element {', '.join(one.key)} of {one.set}" for part in (remove, add) for one in _some(part)),
    ]
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:3]) + (f" and {len(unique) - 3} more" if len(unique) > 3 else "")


def _some(part: Fragment) -> list[Element]:
    """Elements in stable order, few enough to show."""
    return sorted(part.elements, key=lambda element: (element.set, element.key))[:3]


def _flags_of(listed: Mapping[str, Any]) -> frozenset[str]:
    flags = listed.get("flags", ())
    return frozenset([flags] if isinstance(flags, str) else flags)


def _netfilter_sockets() -> dict[int, int]:
    """This process's netfilter netlink sockets and their port ids; the library does not tell its own."""
    found = {}
    for fd in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                with socket.socket(fileno=os.dup(fd)) as copy:
                    if copy.family == socket.AF_NETLINK and copy.proto == NETLINK_NETFILTER:
                        found[fd] = copy.getsockname()[0]
    return found
