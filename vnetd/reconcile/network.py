"""One network on the host: brought up as a transaction, kept as it should be, taken away whole."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace

from vnetd.model.errors import HostError, InUse, VnetError
from vnetd.plan.dnsmasq import DnsmasqState
from vnetd.plan.links import LinkView
from vnetd.plan.network import (
    DesiredNetwork,
    ForeignLink,
    KernelStep,
    ObservedNetwork,
    Phase,
    ReloadDnsmasq,
    RulesStep,
    StartDnsmasq,
    Step,
    StopDnsmasq,
    network_owner,
    plan,
    plan_removal,
)
from vnetd.plan.shaping import Shaping
from vnetd.reconcile.healer import NOTHING
from vnetd.reconcile.loop import Loop
from vnetd.reconcile.own_bridge import OwnBridge
from vnetd.reconcile.repairs import Repairs
from vnetd.reconcile.shaping import Shaper
from vnetd.reconcile.together import together

KernelView = tuple[LinkView | None, dict[tuple[str, ...], str | None]]


class NetworkTarget:
    """Realises one network; its holder takes ``lock`` around every call."""

    def __init__(self, loop: Loop, desired: DesiredNetwork) -> None:
        self.key = network_owner(desired.uuid)
        self.lock = asyncio.Lock()
        self.desired = desired
        self.repairs = Repairs()
        self.shaper = Shaper(loop, self.key, self.repairs)
        self.remains = False
        """Whether a failed start, this or an earlier one, left something that could not be taken away."""
        self._host = loop.host
        self._rules = loop.rules
        self._healer = loop.healer
        self._devices = loop.devices
        self._previous: DesiredNetwork | None = None
        self._bridge = OwnBridge(loop.host.kernel, self.repairs)

    async def bring_up(self, intent: Awaitable[object]) -> None:
        """Make everything, once ``intent`` is done; if a step fails, undo what was made and raise the step's error."""
        before, _ = await together(self.observe(), intent)
        try:
            self._prepare()
            await self._converge(before)
        except BaseException as failure:
            await self._undo(failure)
            raise

    async def change(self, desired: DesiredNetwork) -> None:
        """Turn the running network into ``desired``; if that fails, back into what it was, and raise."""
        await self._healer.mend(self.key)
        before = self.desired
        self._previous, self.desired = before, desired
        try:
            await self.converge()
        except BaseException as failure:
            self._previous, self.desired = desired, before
            try:
                await self.converge()
            except VnetError as error:
                failure.add_note(f"and going back failed: {error}")
            raise
        finally:
            self._previous = None

    async def limit(self, shaping: Shaping) -> None:
        """Give the running bridge these limits."""
        await self._healer.mend(self.key)
        self.reshape(shaping)
        await self.converge()

    def reshape(self, shaping: Shaping) -> None:
        """The bridge's limits are to be these."""
        self.desired = replace(self.desired, shaping=shaping)

    async def converge(self, *, spare: frozenset[str] = NOTHING) -> tuple[str, ...]:
        """Make everything as desired but for what is spared; returns what was repaired, without repetition."""
        self.repairs.look()
        return await self._converge(await self.observe(), spare)

    async def _converge(self, before: ObservedNetwork, spare: frozenset[str] = NOTHING) -> tuple[str, ...]:
        if before.view is None and spare & self._itself:  # and nothing can be on it
            return ()
        await self._realise(before, spare)
        if self.shaper.concerned(self.desired.shaping) and (
            bridge := await self._host.kernel.link(self.desired.bridge.name)
        ):
            await self.shaper.converge(bridge, self.desired.shaping, spare)
        return self.repairs.done()

    @property
    def _itself(self) -> frozenset[str]:
        """What is said to be repaired when the bridge is made anew or gets its name back."""
        return frozenset({f"bridge {self.desired.bridge.name}", f"name of {self.desired.bridge.name}"})

    async def _realise(self, before: ObservedNetwork, spare: frozenset[str]) -> None:
        """Plan, execute, observe again."""
        if before.view is None and self._bridge.known and await self._recover():
            before = await self.observe()
        steps = self._plan(before, spare)
        if not steps:
            return
        after = await self._round(steps, before)
        # Somebody may have changed something meanwhile: once more, and if that does not hold he does it on purpose.
        again = self._plan(after, spare)
        if again and (left := self._plan(await self._round(again, after), spare)):
            raise HostError("verify", self.desired.bridge.name, f"{left[0].what} does not stay as it was made")

    async def _round(self, steps: Sequence[Step], before: ObservedNetwork) -> ObservedNetwork:
        """Execute what was planned, and observe."""
        if before.view is None:  # everything else on it went with the bridge
            self.repairs.begin_anew(f"bridge {self.desired.bridge.name}")
        self.repairs.begin(*(step.what for step in steps))
        await self._execute([step for step in steps if step.phase == Phase.REMOVE])
        await self._guard(steps)
        # dnsmasq takes milliseconds to start: the bridge is raised and the kernel read again meanwhile.
        (view, sysctls), dnsmasq = await together(self._raise(steps), self._serve(steps, before.dnsmasq))
        return ObservedNetwork(view, sysctls, self._rules.fragment(self.key), dnsmasq, self._is_ours(view))

    async def _guard(self, steps: Sequence[Step]) -> None:
        """The bridge with its addresses beside its rules, while dnsmasq is loaded; a new bridge is still down."""
        if any(isinstance(step, StartDnsmasq) for step in steps):
            self._prepare()
        await together(
            self._execute([step for step in steps if step.phase in {Phase.LINK, Phase.ADDRESSES}]),
            self._execute([step for step in steps if step.phase == Phase.RULES]),
        )

    def _prepare(self) -> None:
        """dnsmasq takes as long to load as all the rest takes to make: nobody waits for it before it is to start."""
        if self.desired.dnsmasq:
            self._host.dnsmasq.prepare(self.desired.dnsmasq)

    async def _raise(self, steps: Sequence[Step]) -> KernelView:
        await self._execute([step for step in steps if step.phase in {Phase.UP, Phase.ROUTES}])
        return await self._observe_kernel()

    async def _serve(self, steps: Sequence[Step], before: DnsmasqState) -> DnsmasqState:
        for step in steps:
            if isinstance(step, StartDnsmasq):
                return await self._host.dnsmasq.start(step.instance)
        changes = [step for step in steps if isinstance(step, ReloadDnsmasq | StopDnsmasq)]
        await self._execute([step for step in changes if step.phase == Phase.DNSMASQ])
        return await self._host.dnsmasq.observe(self.desired.uuid) if changes else before

    async def take_down(self) -> None:
        """Remove everything; finishes all its steps, then raises what went wrong."""
        failures: list[BaseException] = []
        try:
            await self._recover()
        except HostError as error:
            failures.append(error)
        *removals, rules = plan_removal(self.desired.uuid, self.desired.bridge)
        removing = (*(self._execute([step]) for step in removals), self.shaper.clear(self.desired.shaping))
        results = await asyncio.gather(*removing, return_exceptions=True)
        failures += [result for result in results if isinstance(result, BaseException)]
        if not failures:  # a bridge that could not be deleted keeps its rules: it must not open up
            await self._execute([rules])
            return
        _raisetogether(failures)

    async def _recover(self) -> bool:
        return await self._bridge.recover(self.desired.bridge)

    async def _undo(self, failure: BaseException) -> None:
        try:
            if isinstance(failure, InUse):  # what is there is somebody else's
                await self._host.dnsmasq.stop(self.desired.uuid, forget=False)
                return
            await self.take_down()
            self.remains = False
        except HostError as error:
            self.remains = True
            failure.add_note(f"and undoing it failed: {error}")

    def _plan(self, observed: ObservedNetwork, spare: frozenset[str]) -> list[Step]:
        try:
            steps = plan(self.desired, observed, self._previous)
            return [step for step in steps if step.what not in spare] if spare else steps
        except ForeignLink as error:
            raise InUse(
                f"network bridge {error}: a network device of this name exists that vnetd did not make; "
                "remove it or give the network another bridge name"
            ) from None

    async def _observe_kernel(self) -> KernelView:
        paths = [sysctl.path for sysctl in self.desired.sysctls]
        view, sysctls = await self._host.kernel.view_with(self.desired.bridge.name, paths)
        self._devices.seen(self.key, view.link.index if view else 0)
        return view, dict(sysctls)

    async def observe(self) -> ObservedNetwork:
        """What is there now."""
        (view, sysctls), dnsmasq = await together(self._observe_kernel(), self._host.dnsmasq.observe(self.desired.uuid))
        return ObservedNetwork(view, sysctls, self._rules.fragment(self.key), dnsmasq, self._is_ours(view))

    def _is_ours(self, view: LinkView | None) -> bool:
        return self._bridge.is_ours(self.desired.bridge, view.link if view else None)

    async def _execute(self, steps: Sequence[Step]) -> None:
        """Execute in order; kernel steps that follow each other go in one batch."""
        batch: list[KernelStep] = []
        for step in steps:
            if isinstance(step, KernelStep):
                batch.append(step)
                continue
            await self._flush(batch)
            await self._single(step)
        await self._flush(batch)

    async def _flush(self, batch: list[KernelStep]) -> None:
        if batch:
            await self._host.kernel.apply([step.operation for step in batch])
            batch.clear()

    async def _single(self, step: Step) -> None:
        match step:
            case RulesStep():
                await self._rules.put({step.owner: step.fragment})
            case ReloadDnsmasq():
                await self._host.dnsmasq.reload(step.instance)
            case StopDnsmasq():
                await self._host.dnsmasq.stop(step.network, forget=False)


def _raisetogether(failures: list[BaseException]) -> None:
    for failure in failures:
        if not isinstance(failure, HostError):
            raise failure
    if len(failures) == 1:
        raise failures[0]
    raise HostError("remove", "network", "; ".join(str(failure) for failure in failures))
