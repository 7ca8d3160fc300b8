"""One port of mode user: a passt process that serves its socket."""

from vnetd.plan.passt import PasstInstance
from vnetd.reconcile.port import PortTarget, Seen


class PasstTarget(PortTarget):
    """Keeps one passt running, with the arguments of its port."""

    async def _converge(self, seen: Seen | None) -> tuple[str, ...]:
        """Start it where it does not run, or runs as it should not."""
        serves = await self._host.passt.serves(self._instance)
        if not self.desired.up:
            await self._host.passt.stop(self.desired.uuid)
            return (f"passt of port {self.desired.device}",) if serves else ()
        if serves:
            return ()
        await self._host.passt.start(self._instance)
        return (f"passt of port {self.desired.device}",)

    async def take_down(self) -> None:
        """End it."""
        await self._host.passt.stop(self.desired.uuid)
        await self.clear()

    @property
    def _instance(self) -> PasstInstance:
        assert isinstance(self.desired.plug, PasstInstance)
        return self.desired.plug
