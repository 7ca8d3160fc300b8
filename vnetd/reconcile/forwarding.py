"""Forwarding sysctls: switched on where active networks need them, put back when the last of them stops.

IPv4 forwards by the receiving interface's own switch, so only uplinks in use get it and the host's global one is
left alone. IPv6 has a global switch; throwing it makes the host deaf to router advertisements, so interfaces that
got their default route from one are told to listen all the same (``accept_ra`` 2; kernel: ip-sysctl.rst).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vnetd.host.protocols import Kernel, Store
from vnetd.plan.kernel import WriteSysctl
from vnetd.reconcile.healer import NOTHING
from vnetd.reconcile.repairs import Repairs
from vnetd.reconcile.surroundings import HostRoutes

RA_PROTOCOL = 9  # RTPROT_RA
KIND, NAME = "run/host", "forwarding"
GLOBAL_IPV4 = ("net", "ipv4", "conf", "all", "forwarding")
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Need:
    """What one network needs forwarded: IP versions, and its uplink if it names one."""

    versions: frozenset[int]
    uplink: str = ""


class ForwardingKeeper:
    """Target of key ``forwarding``; what it changed is recorded in the runtime state before it is changed."""

    key = "forwarding"

    def __init__(self, kernel: Kernel, store: Store, routes: HostRoutes) -> None:
        self.lock = asyncio.Lock()
        self.mended: Callable[[tuple[str, ...]], None] = lambda what: None
        """Told of what was put right when somebody's needs changed."""
        self._kernel = kernel
        self._store = store
        self._routes = routes
        self._needs: dict[str, Need] = {}
        self._originals: dict[Path, str] = {}
        self.repairs = Repairs()

    async def load(self) -> None:
        """Read back what an earlier run of the daemon changed."""
        document = (await self._store.load(KIND)).get(NAME)
        if isinstance(document, Mapping):
            self._originals = {tuple(path.split("/")): str(value) for path, value in document.items()}

    async def require(self, owner: str, need: Need) -> None:
        """Note what ``owner`` needs and switch it on."""
        async with self.lock:
            self._needs[owner] = need
            self.mended(await self.converge())

    async def release(self, owner: str) -> None:
        """``owner`` needs nothing any more: put back what nobody needs."""
        async with self.lock:
            if self._needs.pop(owner, None) is not None:
                self.mended(await self.converge())

    def expect(self, owner: str, need: Need) -> None:
        """Note a need without acting on it (networks found active when the daemon starts)."""
        self._needs[owner] = need

    def serves(self, owner: str) -> bool:
        """Whether ``owner`` has something forwarded."""
        return owner in self._needs

    async def converge(self, *, spare: frozenset[str] = NOTHING) -> tuple[str, ...]:
        """Write what differs but for what is spared; returns which sysctls were put right."""
        self.repairs.look()
        desired = {path: value async for path, value in self._desired()}
        current = await self._kernel.sysctls(list(desired.keys() | self._originals.keys()))
        wrong = {
            path: value
            for path, value in desired.items()
            if current[path] not in {value, None} and _words(path) not in spare
        }
        restore = await self._restorable({p: v for p, v in self._originals.items() if p not in desired})
        undone = [path for path in self._originals if path not in desired]
        if not wrong and not undone:
            return ()
        self.repairs.begin(*(_words(path) for path in wrong if path in self._originals))
        # What is changed is on record before, what is put back until after: a crash in between forgets nothing.
        await self._record({path: str(current[path]) for path in wrong if path not in self._originals}, ())
        writes = [(p, v) for p, v in restore.items() if current[p] not in {v, None}] + list(wrong.items())
        await self._kernel.apply([WriteSysctl(path, value, optional=True) for path, value in writes])
        await self._record({}, undone)
        return self.repairs.done()

    async def _restorable(self, originals: dict[Path, str]) -> dict[Path, str]:
        """Without IPv4 ones where the global switch is on by now: then somebody else wants all of it forwarded."""
        if originals and (await self._kernel.sysctls([GLOBAL_IPV4]))[GLOBAL_IPV4] != "0":
            return {path: value for path, value in originals.items() if path[1] != "ipv4"}
        return originals

    async def _record(self, changed: Mapping[Path, str], restored: Sequence[Path]) -> None:
        if not changed and not restored:
            return
        originals = {path: value for path, value in {**self._originals, **changed}.items() if path not in restored}
        await self._store.save(KIND, NAME, {"/".join(path): value for path, value in originals.items()})
        self._originals = originals

    async def _desired(self) -> AsyncIterator[tuple[Path, str]]:
        versions = {version for need in self._needs.values() for version in need.versions}
        if not versions:
            return
        routes = await self._routes.all()
        if 4 in versions:
            for device in self._uplinks({r.device for r in routes if r.destination.version == 4}):
                yield ("net", "ipv4", "conf", device, "forwarding"), "1"
        if 6 in versions:
            # Before the switch itself: it makes the kernel drop default routes that were advertised.
            for device in sorted({r.device for r in routes if r.protocol == RA_PROTOCOL}):
                yield ("net", "ipv6", "conf", device, "accept_ra"), "2"
            yield ("net", "ipv6", "conf", "all", "forwarding"), "1"

    def _uplinks(self, candidates: set[str]) -> Iterator[str]:
        needs = [need for need in self._needs.values() if 4 in need.versions]
        if all(need.uplink for need in needs):
            candidates = candidates & {need.uplink for need in needs}
        yield from sorted(candidates)


def _words(path: Path) -> str:
    return f"sysctl {'/'.join(path)}"
