"""Filters and frames made up at random over few values, so that many frames meet many rules."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from support import frames as f
from support.frames import Frame, ip

from vnetd.model.errors import Invalid
from vnetd.model.filter import Filter
from vnetd.xmlcodec.filter import filter_from_xml

LINK = ("mac", "vlan", "arp", "rarp", "ip", "ipv6")
IP = ("tcp", "udp", "sctp", "udplite", "esp", "ah", "all", "icmp", "igmp")
PORTS = ("22", "53", "0x50", "1024")
NUMBERS = {"tcp": f.TCP, "udp": f.UDP, "sctp": f.SCTP, "udplite": f.UDPLITE, "esp": f.ESP, "ah": f.AH, "igmp": f.IGMP}
CHAINS = ("mac", "ipv4", "ipv4-x", "ipv6", "arp", "arp-x", "vlan", "rarp")


@dataclass(frozen=True, slots=True)
class World:
    """Addresses of a guest, of its peer and of a third party. ``tracked``: the kernel tracks connections itself."""

    macs: tuple[str, str, str]
    ipv4: tuple[str, str, str]
    ipv6: tuple[str, str, str]
    tracked: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """A filter with what it refers to, the values of its variables, and frames in order: from the guest (true) or to
    it."""

    filters: dict[str, Filter]
    parameters: dict[str, list[str]]
    frames: Sequence[tuple[bool, Frame]]
    documents: tuple[str, ...]


def world(batch: int, place: int, tracked: bool) -> World:
    """A world of its own: what is remembered of one is nothing to another."""
    macs = tuple(f"52:54:{batch:02x}:{place:02x}:00:0{n}" for n in (1, 2, 3))
    ipv4 = (f"10.{batch}.{place}.1", f"10.{batch}.{place}.2", f"10.{batch}.{place}.200")
    ipv6 = tuple(f"fd00:{batch:x}:{place:x}:{n}::1" for n in ("0", "0", "8"))
    return World(macs, ipv4, (ipv6[0], ipv6[1][:-1] + "2", ipv6[2]), tracked)  # type: ignore[arg-type]


class Generator:
    """Makes up cases."""

    def __init__(self, seed: int, place: World) -> None:
        self._random = Random(seed)
        self._world = place

    def case(self, frames: int) -> Case:
        """A case whose filter is valid."""
        while True:
            documents = self._documents()
            try:
                filters = {one.name: one for one in (filter_from_xml(text).value for text in documents)}
            except Invalid:  # ports without a protocol that has them
                continue
            return Case(filters, self._parameters(), list(self._frames(frames)), documents)

    def _parameters(self) -> dict[str, list[str]]:
        world, some = self._world, self._random
        return {
            "IP": some.sample(world.ipv4, some.randint(1, 3)),
            "IPV6": some.sample(world.ipv6, some.randint(1, 2)),
            "PEER": some.sample(world.macs, 2),
            "PORT": some.sample(["22", "53", "80"], some.randint(1, 2)),
        }

    # Filters

    def _documents(self) -> tuple[str, ...]:
        some = self._random
        inner = []
        for number in range(some.randint(0, 2)):
            chain = some.choice(CHAINS)
            name = {"ipv4": "ip", "ipv6": "ipv6", "arp": "arp", "rarp": "rarp", "vlan": "vlan"}.get(chain.split("-")[0])
            rules = "".join(self._rule(some.choice(("mac", name or "mac", ""))) for _ in range(some.randint(1, 3)))
            inner.append(f"<filter name='inner{number}' chain='{chain}'>{rules}</filter>")
        entries = [f"<filterref filter='inner{number}'/>" for number in range(len(inner))]
        entries += [self._rule(some.choice((*LINK, *IP, *IP))) for _ in range(some.randint(1, 4))]
        some.shuffle(entries)
        if some.random() < 0.6:
            entries += [
                f"<rule action='drop' direction='inout' priority='950'><{name}/></rule>" for name in self._end()
            ]
        return (*inner, f"<filter name='outer'>{''.join(entries)}</filter>")

    def _end(self) -> Sequence[str]:
        return self._random.choice((("all",), ("all-ipv6",), ("all", "all-ipv6")))

    def _rule(self, element: str) -> str:
        some = self._random
        action = some.choices(("accept", "drop", "return", "continue", "reject"), (5, 5, 1, 1, 1))[0]
        direction = some.choice(("in", "out", "inout"))
        priority = some.choice((-900, -650, 100, 500, 500, 900))
        more = " statematch='false'" if some.random() < 0.15 else ""
        match = self._element(element) if element else ""
        return f"<rule action='{action}' direction='{direction}' priority='{priority}'{more}>{match}</rule>"

    def _element(self, name: str) -> str:
        some = self._random
        six = name in IP and name != "igmp" and some.random() < 0.4
        tag = ("icmpv6" if name == "icmp" else f"{name}-ipv6") if six else name
        known = dict(self._attributes(name, 6 if six or name == "ipv6" else 4))
        chosen = some.sample(sorted(known), min(len(known), some.choice((0, 1, 1, 2, 3))))
        negated = [one for one in chosen if some.random() < 0.15]
        plain = " ".join(known[one] for one in chosen if one not in negated)
        text = f"<{tag} {plain}/>" if plain or not negated else ""
        return text + (f"<{tag} match='no' {' '.join(known[one] for one in negated)}/>" if negated else "")

    def _attributes(self, name: str, version: int) -> Iterator[tuple[str, str]]:
        """What an element can have: attributes with their masks and ends, by the name of the first."""
        some, world = self._random, self._world
        layer3 = name in IP
        mac, variable = some.choice(world.macs), some.random() < 0.3
        mask = f" srcmacmask='{some.choice(('ff:ff:ff:ff:ff:ff', 'ff:ff:ff:ff:ff:fe'))}'"
        macs = ("srcmacaddr",) if layer3 else ("srcmacaddr", "dstmacaddr")
        for side in macs:
            masked = mask.replace("src", side[:3]) if not layer3 and some.random() < 0.3 else ""
            yield side, f"{side}='{'$PEER[0]' if variable else mac}'{masked}"
        if layer3 or name in {"ip", "ipv6"}:
            yield from self._internet(version, layer3)
        if name in {"arp", "rarp"}:
            yield from self._messages()
        if name == "mac":
            yield "protocolid", f"protocolid='{some.choice(('ipv4', 'ipv6', 'arp', 'rarp', 'vlan', '0x88b5'))}'"
        if name == "vlan":
            yield "vlanid", f"vlanid='{some.choice((5, 6))}'"
            yield "encap-protocol", f"encap-protocol='{some.choice(('ipv4', 'arp', '0x88b5'))}'"
        if name in {"tcp", "udp", "sctp"}:
            yield from self._ports()
        if name == "tcp":
            yield "flags", f"flags='{some.choice(('SYN/SYN', 'SYN,ACK/SYN', 'ALL/SYN', 'FIN,RST/NONE'))}'"
            yield "option", f"option='{some.choice((2, 30, 77))}'"
        if name == "icmp":
            kinds = (0, 8, 3, 13) if version == 4 else (128, 129, 1, 135)
            code = " code='0'" if some.random() < 0.3 else ""
            yield "type", f"type='{some.choice(kinds)}'{code}"
        if layer3:
            more = ("INVALID", "NEW,INVALID", "RELATED") if world.tracked else ()
            yield "state", f"state='{some.choice(('NEW', 'ESTABLISHED', 'NEW,ESTABLISHED', 'NONE', *more))}'"

    def _internet(self, version: int, layer3: bool) -> Iterator[tuple[str, str]]:
        some = self._random
        ips = self._world.ipv4 if version == 4 else self._world.ipv6
        for side in ("src", "dst"):
            value = f"${'IP' if version == 4 else 'IPV6'}" if some.random() < 0.3 else some.choice(ips)
            mask = f" {side}ipmask='{some.choice((24, 25, 31) if version == 4 else (64, 126))}'"
            yield f"{side}ipaddr", f"{side}ipaddr='{value}'{mask if some.random() < 0.3 else ''}"
            if layer3 and some.random() < 0.5:
                yield f"{side}ipfrom", f"{side}ipfrom='{ips[0]}' {side}ipto='{some.choice(ips[1:])}'"
        if version == 4 or layer3:
            yield "dscp", f"dscp='{some.choice((0, 10))}'"
        if not layer3:
            name = some.choice(("tcp", "udp", "icmp" if version == 4 else "icmpv6"))
            port = f" dstportstart='{some.choice(PORTS)}'" if name != "icmp" and some.random() < 0.5 else ""
            yield "protocol", f"protocol='{name}'{port}"

    def _ports(self) -> Iterator[tuple[str, str]]:
        some = self._random
        variable, range_ = some.random() < 0.3, some.random() < 0.3
        start = "$PORT[@1]" if variable else some.choice(PORTS)
        end = f" srcportend='{some.choice((1024, 2000))}'" if range_ else ""
        yield "srcportstart", f"srcportstart='{start}'{end}"
        yield "dstportstart", f"dstportstart='{start}'{end.replace('src', 'dst')}"

    def _messages(self) -> Iterator[tuple[str, str]]:
        some, world = self._random, self._world
        yield "opcode", f"opcode='{some.choice(('Request', 'Reply', 'Request_Reverse'))}'"
        yield "gratuitous", "gratuitous='true'"
        yield "hwtype", "hwtype='1'"
        for side in ("src", "dst"):
            yield f"arp{side}macaddr", f"arp{side}macaddr='{some.choice((*world.macs, '$PEER[1]'))}'"
            mask = f" arp{side}ipmask='{some.choice((24, 31))}'" if some.random() < 0.3 else ""
            yield f"arp{side}ipaddr", f"arp{side}ipaddr='{some.choice((*world.ipv4, '$IP'))}'{mask}"

    # Frames

    def _frames(self, number: int) -> Iterator[tuple[bool, Frame]]:
        sent: list[tuple[bool, Frame]] = []
        for tag in range(number):
            if sent and self._random.random() < 0.4:
                out, one = self._random.choice(sent)
                if self._random.random() < 0.7:
                    out, one = not out, one.answer()
            else:
                out, one = self._random.random() < 0.5, self._frame()
                one = one if out else replace(one, source=one.destination, destination=one.source)
            sent.append((out, replace(one, tag=tag + 1)))
            yield sent[-1]

    def _frame(self) -> Frame:
        some, world = self._random, self._world
        source = some.choices(world.macs, (6, 1, 1))[0]
        vlan = some.choice((5, 6)) if some.random() < 0.12 else None
        kind = some.choices((f.IPV4, f.IPV6, f.ARP, f.RARP, 0x88B5), (8, 4, 3, 1, 1))[0]
        if world.tracked and kind in (f.IPV4, f.IPV6):
            vlan = None  # the kernel tracks no connections of tagged frames on bridges
        fields = {f.IPV4: self._packet, f.IPV6: self._packet, f.ARP: self._message, f.RARP: self._message}
        made = fields[kind](kind) if kind in fields else {}
        return Frame(source, some.choices(world.macs, (1, 6, 1))[0], kind, made, vlan)

    def _packet(self, kind: int) -> dict[str, object]:
        some, world = self._random, self._world
        ips = world.ipv4 if kind == f.IPV4 else world.ipv6
        # A made-up AH is a broken extension header of IPv6, and made-up SCTP begins no association: both are INVALID.
        broken = {f.SCTP, f.AH} if kind == f.IPV6 else {f.SCTP}
        known = [one for one in NUMBERS.values() if not (world.tracked and one in broken)]
        icmp = f.ICMP if kind == f.IPV4 else f.ICMPV6
        protocol = some.choice([*known, f.TCP, f.UDP, f.TCP, f.UDP, icmp, icmp])
        found = ip(some.choice(ips), some.choice(ips), protocol, dscp=some.choice((0, 0, 10)))
        if protocol in f.WITH_PORTS:
            found |= {"sport": some.choice((22, 53, 80, 1024)), "dport": some.choice((22, 53, 80, 1024))}
        if protocol == f.TCP:
            flags = (0x02,) if world.tracked else (0x02, 0x02, 0x10, 0x12, 0x01, 0x00)
            found |= {"flags": some.choice(flags), "option": some.choice((None, 2, 30, 77))}
        if protocol == icmp:
            kinds = (0, 8, 8, 3, 13) if kind == f.IPV4 else (128, 128, 129, 1, 135)
            found |= {"type": some.choice(kinds), "code": some.choice((0, 0, 1))}
        return found

    def _message(self, kind: int) -> dict[str, object]:
        some, world = self._random, self._world
        codes = (1, 2) if kind == f.ARP else (3, 4)
        return {
            "hwtype": some.choice((1, 1, 6)),
            "protocoltype": 0x800,
            "opcode": some.choice(codes),
            "source mac": some.choice(world.macs),
            "source": some.choice(world.ipv4),
            "destination mac": some.choice(world.macs),
            "destination": some.choice(world.ipv4),
        }
