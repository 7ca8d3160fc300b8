"""Lets people change a document in their own editor until the daemon takes it."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from vnetctl.errors import CommandError, NoAnswer
from vnetctl.files import read_document
from vnetctl.text import printable


class Draft:
    """A document on its way through an editor, in a file only its user can read."""

    def __init__(self, document: str, suffix: str) -> None:
        handle, name = tempfile.mkstemp(prefix="vnetctl-", suffix=suffix)
        with open(handle, "w", encoding="utf-8") as stream:
            stream.write(document)
        self.path = Path(name)
        self._document = document

    def changed(self) -> str | None:
        """What it is after the editor ran; None if that is what it was. Raises ``CommandError``."""
        _run_editor(self.path)
        text = read_document(str(self.path))
        return None if text == self._document else text

    def lost(self) -> bool:
        """Whether deleting the file would lose something people wrote."""
        return self.path.exists() and self.path.read_bytes() != self._document.encode()

    def discard(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)


async def edit(document: str, suffix: str, submit: Callable[[str], Awaitable[None]]) -> bool:
    """Offer ``document`` in an editor and submit what comes back; whether there was a change.

    What is refused is offered again with the reason. Raises ``CommandError`` when people give up; their text is kept
    then, and the message says where.
    """
    draft = Draft(document, suffix)
    try:
        changed = await _until_accepted(draft, submit)
    except CommandError as error:
        if draft.lost():
            raise CommandError(f"{error} (your text is kept in {draft.path})", error.code) from None
        draft.discard()
        raise
    draft.discard()
    return changed


async def _until_accepted(draft: Draft, submit: Callable[[str], Awaitable[None]]) -> bool:
    while (text := draft.changed()) is not None:
        try:
            await submit(text)
            return True
        except NoAnswer:
            raise
        except CommandError as error:
            if not _again(error):
                raise
    return False


def _again(error: CommandError) -> bool:
    """Ask on stderr, as stdout may be read by a program; the end of input and an interrupt are a no."""
    sys.stderr.write(f"error: {printable(error)}\nEdit again? [Y/n] ")
    sys.stderr.flush()
    # asyncio's own treatment of an interrupt waits for the loop, which waits for this answer.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        answer = ""
    finally:
        signal.signal(signal.SIGINT, before)
    if not answer.endswith("\n"):
        sys.stderr.write("\n")
    return bool(answer) and answer.strip().lower() in {"", "y", "yes"}


def _run_editor(path: Path) -> None:
    """Run $VISUAL or $EDITOR, which may hold arguments but are never given to a shell."""
    command = _editor()
    # An interrupt typed at the terminal is for the editor alone. Not SIG_IGN, which the editor would inherit.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        status = subprocess.run([*command, str(path)], check=False).returncode
    except OSError as error:
        raise CommandError(f"cannot run the editor {command[0]!r}: {error.strerror}") from None
    finally:
        signal.signal(signal.SIGINT, before)
    if status:
        raise CommandError(f"the editor {command[0]!r} ended with status {status}: nothing was changed")


def _editor() -> list[str]:
    for variable in ("VISUAL", "EDITOR"):
        try:
            if command := shlex.split(os.environ.get(variable, "")):
                return command
        except ValueError as error:
            raise CommandError(f"${variable} cannot be understood: {error}") from None
    return [shutil.which("sensible-editor") or "vi"]
