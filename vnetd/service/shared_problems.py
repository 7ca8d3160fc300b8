"""What is wrong with something many share, rules or forwarding, shown with each network and port it concerns."""

from collections.abc import Iterable, Mapping

from vnetd.reconcile.errands import Errands
from vnetd.service.network_object import NetworkObject
from vnetd.service.notices import Notices, by_turns
from vnetd.service.port_object import PortObject
from vnetd.service.views import Changed

Sharer = NetworkObject | PortObject


class SharedProblems:
    """Who shows what; told only where it is another thing than before."""

    def __init__(self, notices: Notices, errands: Errands) -> None:
        self._notices = notices
        self._errands = errands
        self._showing: dict[str, tuple[Sharer, ...]] = {}

    def show(self, key: str, problems: Mapping[Sharer, tuple[str, ...]]) -> None:
        """These are the problems of target ``key`` now; with whom there are none, earlier ones are taken back."""
        before, self._showing[key] = self._showing.get(key, ()), tuple(problems)
        now = {one: problems.get(one, ()) for one in (*before, *problems)}
        changed = [one for one, texts in now.items() if one.shared.get(key, ()) != texts]
        for one in changed:
            one.shared[key] = now[one]
        if changed:
            self._errands.run(self._tell(key, changed))

    async def _tell(self, key: str, changed: Iterable[Sharer]) -> None:
        async for one in by_turns(changed):
            if key in one.shared:  # not stopped or detached meanwhile
                self._notices.tell(Changed("port" if isinstance(one, PortObject) else "network", one.view()))
