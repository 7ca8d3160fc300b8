"""Errors as callers see them: a D-Bus error name and one sentence, never a traceback."""

import logging

from vnetd.model.errors import VnetError

PREFIX = "org.vnetd1.Error."
STANDARD = "org.freedesktop.DBus.Error."
LONGEST_SENTENCE = 2000  # characters; a message may quote what the caller sent, which may be megabytes

log = logging.getLogger(__name__)


class ProtocolError(Exception):
    """A call that is wrong as a D-Bus call; ``name`` is the last part of the standard error's name."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(sentence)
        self.name = STANDARD + name


class BusLost(ConnectionError):
    """The message bus closed the connection, or broke its protocol."""


def wire_error(error: BaseException, doing: str) -> tuple[str, str]:
    """The D-Bus error name and text for ``error``; what nobody foresaw is logged whole and shown as one sentence.

    ``doing`` names the call for the log, such as ``Network.Start``.
    """
    match error:
        case ProtocolError():
            return error.name, shortened(str(error))
        case VnetError():
            return PREFIX + error.wire, shortened(str(error))
        case _:
            log.error("%s failed unexpectedly", doing, exc_info=error)
            return PREFIX + "Host", f"{doing} failed for a reason vnetd did not foresee; its log has the details"


def shortened(text: str) -> str:
    """``text`` in a length that fits a log line and a terminal."""
    return text if len(text) <= LONGEST_SENTENCE else text[:LONGEST_SENTENCE] + "…"
