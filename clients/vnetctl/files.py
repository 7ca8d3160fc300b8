"""Reads documents that are named on the command line."""

import sys

from vnetctl.errors import CommandError

LIMIT = 1 << 20
"""Bytes a document may have: the daemon takes no more."""


def read_document(file: str) -> str:
    """The text of FILE, ``-`` for standard input. Raises ``CommandError``."""
    try:
        data = _read(file)
    except OSError as error:
        raise CommandError(f"cannot read {file!r}: {error.strerror}") from None
    if len(data) > LIMIT:
        raise CommandError(f"{file!r} is longer than 1 MiB: no document may be")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CommandError(f"{file!r} is not UTF-8 text: byte {error.start} is none") from None


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read(LIMIT + 1)
    with open(file, "rb") as stream:
        return stream.read(LIMIT + 1)
