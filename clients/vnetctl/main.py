"""Entry point: from the command line to an exit code."""

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from vnetctl.errors import CommandError, Exit
from vnetctl.output import Output
from vnetctl.text import printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line, by default the process's; its exit code. Reasons go to stderr, a line each."""
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except BaseExceptionGroup as group:
        return _report(list(_leaves(group)))
    except CommandError as error:
        return _report([error])
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return Exit.BROKEN_PIPE
    except OSError as error:
        _drop_output()
        return _report([CommandError(f"cannot write the result: {error.strerror or error}")])


def _run(words: Sequence[str]) -> int:
    from vnetctl.arguments import parse

    stream = _standard_output()
    try:
        parsed = parse(words)
    except SystemExit:  # help or wrong usage: what was printed has to be out before the interpreter ends
        stream.flush()
        raise
    parsed.run(Output(stream, as_json=parsed.json), parsed)
    stream.flush()
    return Exit.DONE


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[CommandError]:
    for error in group.exceptions:
        if not isinstance(error, CommandError):
            raise error
        yield error


def _report(errors: Sequence[CommandError]) -> int:
    """What was done comes before what was not; the first reason decides the exit code."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _drop_output()
    for error in errors:
        print(f"error: {printable(error)}", file=sys.stderr)
    return errors[0].code


def _standard_output() -> TextIO:
    """Documents leave in UTF-8 whatever the locale; a terminal that cannot show a character gets its escape."""
    stream = sys.stdout
    if stream is None:  # the caller closed it
        return open(os.devnull, "w", encoding="utf-8")
    if hasattr(stream, "reconfigure"):
        if stream.isatty():
            stream.reconfigure(errors="backslashreplace")
        else:
            stream.reconfigure(encoding="utf-8", errors="strict")
    return stream


def _drop_output() -> None:
    """What is still buffered has nowhere to go, and must not fail once more when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
