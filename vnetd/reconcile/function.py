"""One virtual function handed out whole: what its card does for it is kept, and given back as it was."""

from vnetd.model.functions import FunctionUse, VfState
from vnetd.plan.functions import plan_function
from vnetd.reconcile.absent import Absent
from vnetd.reconcile.port import PortTarget, Seen


class FunctionTarget(PortTarget):
    """Keeps MAC address, VLAN and the rest of one function at its card."""

    async def _converge(self, seen: Seen | None) -> tuple[str, ...]:
        """Compare with the card. Raises ``Absent`` while the card is away."""
        use = self._use
        self._devices.watch(use.pf, self.key)
        have = await self._state(use)
        if have is None:
            raise Absent(f"virtual function {use.vf} of {use.pf} is not there: its port waits for it")
        wanted = use.wanted if self.desired.up else use.wanted.model_copy(update={"link_state": "disable"})
        return await self._set(use, wanted, have)

    async def take_down(self) -> None:
        """Have the card do for the function what it did before."""
        use = self._use
        if (have := await self._state(use)) is not None:
            await self._set(use, use.former, have)
        await self.clear()

    async def _state(self, use: FunctionUse) -> VfState | None:
        return (await self._host.kernel.functions(use.pf)).get(use.vf)

    async def _set(self, use: FunctionUse, want: VfState, have: VfState) -> tuple[str, ...]:
        change = plan_function(use.pf, use.vf, want, have)
        if change is None:
            return ()
        await self._host.kernel.apply([change])
        return (f"virtual function {use.vf} of {use.pf}",)

    @property
    def _use(self) -> FunctionUse:
        assert isinstance(self.desired.plug, FunctionUse)
        return self.desired.plug
