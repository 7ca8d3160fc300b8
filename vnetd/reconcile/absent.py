"""Something of the host's that a target needs is not there."""

from vnetd.model.errors import NotFound


class Absent(NotFound):
    """An event tells when it comes: it is a problem to be shown, and nothing to be tried again."""
