"""What can go wrong for a user of the command, and the exit code it ends with."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes: a fixed part of the command's interface. The last two are the shell's own for the signals."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    DENIED = 4
    UNREACHABLE = 5
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class CommandError(Exception):
    """A reason for people, one sentence, and the exit code; ``wire`` is the name of the D-Bus error it came as."""

    def __init__(self, message: str, code: Exit = Exit.FAILED, wire: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.wire = wire


class NoAnswer(CommandError):
    """Nobody answers for vnetd, or no longer."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Exit.UNREACHABLE)


_BUS_ERROR = "org.freedesktop.DBus.Error."
_CODES = {
    "org.vnetd1.Error.NotFound": Exit.NOT_FOUND,
    "org.vnetd1.Error.Denied": Exit.DENIED,
    _BUS_ERROR + "AccessDenied": Exit.DENIED,
}
_ABSENT = {_BUS_ERROR + name for name in ("ServiceUnknown", "NameHasNoOwner", "Disconnected", "NoServer")}
_SILENT = {_BUS_ERROR + name for name in ("NoReply", "Timeout", "TimedOut")}


def from_bus(name: str, text: str, bus: str) -> CommandError:
    """The error to show for a D-Bus error ``name`` with its sentence ``text``, received on ``bus``."""
    if name in _ABSENT or name.startswith(_BUS_ERROR + "Spawn."):
        return NoAnswer(f"vnetd does not run on the {bus} and could not be started: 'systemctl status vnetd' says why")
    if name in _SILENT:
        return NoAnswer("vnetd went away before it answered: look with 'vnetctl status' what has been done")
    return CommandError(text or name, _CODES.get(name, Exit.FAILED), name)
