"""What is wrong with something many share, rules or forwarding, shown with each network and port it concerns."""

from collections.abc import Mapping

from vnetd.service.network_object import NetworkObject
from vnetd.service.notices import Notices
from vnetd.service.port_object import PortObject
from vnetd.service.views import Changed

Sharer = NetworkObject | PortObject


class SharedProblems:
    """Who shows what; told only where it is another thing than before."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self._showing: dict[str, tuple[Sharer, ...]] = {}

    def show(self, key: str, problems: Mapping[Sharer, tuple[str, ...]]) -> None:
        """These are the problems of target ``key`` now; with whom there are none, earlier ones are taken back."""
        before, self._showing[key] = self._showing.get(key, ()), tuple(problems)
        for one in dict.fromkeys((*before, *problems)):
            texts = problems.get(one, ())
            if one.shared.get(key, ()) != texts:
                one.shared[key] = texts
                self._notices.tell(Changed("port" if isinstance(one, PortObject) else "network", one.view()))
