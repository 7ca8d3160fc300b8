"""What the rules of a filter rely on: sets, chains named by their content, and what is to be said about them."""

from base64 import b32encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b

from vnetd.plan.rules import Chain, Json, Set

Statements = tuple[Json, ...]


def digest(content: object) -> str:
    """A short name for a value with a stable ``repr``: 80 bits, 16 letters."""
    return b32encode(blake2b(repr(content).encode(), digest_size=10).digest()).decode().lower()


def chain_of(kind: str, towards_guest: bool, rules: Iterable[Statements]) -> Chain:
    """A chain named by its content: equal rules are the same chain for all ports and filters."""
    content = tuple(rules)
    label = "".join(letter if letter.isalnum() else "_" for letter in kind[:8])
    return Chain("bridge", f"{'to' if towards_guest else 'from'}_{label}_{digest(content)}", content, counted=True)


@dataclass(slots=True)
class Uses:
    """What the rules built so far rely on, and what is to be said about them."""

    sets: dict[str, Set] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)
    warnings: dict[str, None] = field(default_factory=dict)

    def set(self, one: Set) -> str:
        """A rule names that set; returns its name as rules write it."""
        self.sets[one.name] = one
        return f"@{one.name}"

    def chain(self, kind: str, towards_guest: bool, rules: Iterable[Statements]) -> str:
        """Make a chain and return its name."""
        made = chain_of(kind, towards_guest, rules)
        self.chains[made.name] = made
        return made.name

    def warn(self, text: str) -> None:
        """Say something, once."""
        self.warnings[text] = None
