"""Every error a caller may see. Raised where the facts are; front ends map the class to a wire name.

Each message is one sentence a person can act on: what, where, why and, if there is one, what to do.
"""

import os


class VnetError(Exception):
    """Base of all errors that may be shown to a caller; ``wire`` is the last part of its D-Bus name."""

    wire = "Host"


class NotFound(VnetError):
    """The named object does not exist."""

    wire = "NotFound"


class Exists(VnetError):
    """An object with this name or UUID exists already."""

    wire = "Exists"


class Invalid(VnetError):
    """A document or argument breaks a rule; the message names element, value and rule."""

    wire = "Invalid"


class InUse(VnetError):
    """The object, subnet or device is used by something else, which the message names."""

    wire = "InUse"


class Denied(VnetError):
    """The caller may not do this."""

    wire = "Denied"


class Busy(VnetError):
    """The object is in the middle of another change, or not in the state the call needs."""

    wire = "Busy"


class Unsupported(VnetError):
    """Well formed, but this version, kernel or host cannot realise it; the message names what is missing."""

    wire = "Unsupported"


class NotConfirmed(VnetError):
    """A change that had to be confirmed was not, and has been taken back."""

    wire = "NotConfirmed"


class HostError(VnetError):
    """The host refused an operation. Carries the operation, its object and the host's own words.

    ``errno`` is the kernel's error number, or 0 where there is none (a process that failed).
    """

    wire = "Host"

    def __init__(self, operation: str, subject: str, cause: int | str) -> None:
        self.operation = operation
        self.subject = subject
        self.errno = cause if isinstance(cause, int) else 0
        self.reason = os.strerror(cause) if isinstance(cause, int) else cause
        super().__init__(f"{operation} {subject}: {self.reason}")
