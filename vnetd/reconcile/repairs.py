"""What one look at a target repairs, noted before it is done: a look that fails half-way has made some of it."""


class Repairs:
    """Names of what is repaired, in order and each once. Something made anew is named alone, and all that is on it is
    part of it until a look comes to its end.
    """

    def __init__(self) -> None:
        self._begun: dict[str, None] = {}
        self._anew = ""

    @property
    def begun(self) -> tuple[str, ...]:
        """What the last look began to repair."""
        return tuple(self._begun)

    def look(self) -> None:
        """A look begins."""
        self._begun = dict.fromkeys(filter(None, [self._anew]))

    def begin(self, *what: str) -> None:
        """This is repaired next."""
        if not self._anew:
            self._begun |= dict.fromkeys(what)

    def begin_anew(self, what: str) -> None:
        """This is made anew, and everything that is to be on it."""
        self._anew = what
        self._begun = {what: None}

    def done(self) -> tuple[str, ...]:
        """The look came to its end; what it repaired."""
        self._anew = ""
        return self.begun
