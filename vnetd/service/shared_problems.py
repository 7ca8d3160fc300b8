"""What is wrong with something many share, rules or forwarding, shown with each network and port it concerns."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from vnetd.reconcile.backoff import Quarrel, in_words
from vnetd.reconcile.errands import Errands
from vnetd.reconcile.loop import Loop
from vnetd.service.network_object import NetworkObject
from vnetd.service.notices import Notices, by_turns
from vnetd.service.port_object import PortObject
from vnetd.service.registry import Registry
from vnetd.service.views import Added, Changed, Notice

Sharer = NetworkObject | PortObject
Texts = tuple[str, ...]


class SharedProblems:
    """Who shows what; told only where it is another thing than before.

    ``find`` finds what owns a part of the rules, by its name there.
    """

    def __init__(
        self,
        loop: Loop,
        notices: Notices,
        errands: Errands,
        networks: Registry[NetworkObject],
        find: Callable[[str], object],
    ) -> None:
        self.keys = frozenset({loop.rules.key, loop.forwarding.key})
        """Of the targets that many share."""
        self._loop = loop
        self._notices = notices
        self._errands = errands
        self._networks = networks
        self._find = find
        self._troubles: dict[str, tuple[str, Mapping[str, Quarrel]]] = {}
        self._showing: dict[str, dict[Sharer, None]] = {}
        notices.subscribe(self._follow)

    def show(self, key: str, failure: str, fought: Mapping[str, Quarrel]) -> None:
        """This is wrong with target ``key`` now; where it concerns nobody any more, it is taken back."""
        self._troubles[key] = failure, fought
        concerned = dict.fromkeys(self.sharers(key) if failure else ())
        for what in fought:
            concerned.update(dict.fromkeys(self.sharers(key, what)))
        before, self._showing[key] = self._showing.get(key, {}), concerned
        self._change(key, {one: self._texts(key, one) for one in (*before, *concerned)})

    def sharers(self, key: str, what: str = "") -> Iterator[Sharer]:
        """Whom something many share concerns, or one thing of it."""
        if what and key == self._loop.rules.key:
            owners = map(self._find, self._loop.rules.wanted_by(what))
            yield from (one for one in owners if isinstance(one, NetworkObject | PortObject))
        else:
            yield from (network for network in self._networks if self._served(key, network))

    def _follow(self, notice: Notice) -> None:
        """A network or port that is another now may have come to share what is wrong, or share it no more."""
        if not isinstance(notice, Added | Changed):
            return
        for key in [key for key, trouble in self._troubles.items() if any(trouble)]:
            one = self._find(f"{notice.kind}:{notice.view.uuid}")
            if isinstance(one, NetworkObject | PortObject) and (texts := self._texts(key, one)) != one.shared.get(
                key, ()
            ):
                self._showing[key][one] = None
                self._change(key, {one: texts})

    def _texts(self, key: str, one: Sharer) -> Texts:
        """What is wrong for this one."""
        failure, fought = self._troubles[key]
        texts = in_words({what: quarrel for what, quarrel in fought.items() if self._concerns(key, one, what)})
        return (failure, *texts) if failure and self._served(key, one) else texts

    def _concerns(self, key: str, one: Sharer, what: str) -> bool:
        if key != self._loop.rules.key:
            return self._served(key, one)
        return any(self._loop.rules.wants(owner, what) for owner in _owners(one))

    def _served(self, key: str, one: Sharer) -> bool:
        if not isinstance(one, NetworkObject) or not (one.active and one.target):  # none as long as it starts
            return False
        return key != self._loop.forwarding.key or self._loop.forwarding.serves(f"network:{one.uuid}")

    def _change(self, key: str, now: Mapping[Sharer, Texts]) -> None:
        changed = [one for one, texts in now.items() if one.shared.get(key, ()) != texts]
        for one in changed:
            one.shared[key] = now[one]
        if changed:
            self._errands.run(self._tell(key, changed))

    async def _tell(self, key: str, changed: Iterable[Sharer]) -> None:
        async for one in by_turns(changed):
            if key in one.shared:  # not stopped or detached meanwhile
                self._notices.tell(Changed("port" if isinstance(one, PortObject) else "network", one.view()))


def _owners(one: Sharer) -> tuple[str, ...]:
    """What owns its parts of the rules."""
    if isinstance(one, PortObject):
        return one.target.key, one.target.place_key
    return (one.target.key,) if one.target else ()
