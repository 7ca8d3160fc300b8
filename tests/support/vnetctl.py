"""vnetctl as people run it: a process with a command line, a bus, and what it prints."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
PATH = f"{TOP}:{TOP / 'clients'}"
# A checkout may lie where root alone can look, such as in /root: the command keeps the right to read, and no other.
AS_USER = ("--clear-groups", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
PATIENCE = 60.0
"""Seconds a command may take before the test fails."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, for programs."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[list[str]]:
        """What it printed, as words of lines."""
        return [line.split() for line in self.out.splitlines()]


class Vnetctl:
    """Runs commands against the bus at ``address``."""

    def __init__(self, address: str) -> None:
        self.environment = {**os.environ, "PYTHONPATH": PATH, "VNETD_BUS": address, "TZ": "UTC"}

    async def __call__(
        self, *words: str, stdin: str = "", user: int | None = None, environment: Mapping[str, str] | None = None
    ) -> Done:
        """Run one command to its end."""
        process = await self.start(*words, user=user, environment=environment)
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), PATIENCE)
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), err.decode())

    async def ok(self, *words: str, stdin: str = "", environment: Mapping[str, str] | None = None) -> Done:
        """Run a command that has to succeed without a word on stderr."""
        done = await self(*words, stdin=stdin, environment=environment)
        assert (done.code, done.err) == (0, "")
        return done

    async def start(
        self, *words: str, user: int | None = None, environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start a command; the caller ends it."""
        as_user = ("setpriv", f"--reuid={user}", f"--regid={user}", *AS_USER) if user else ()
        return await asyncio.create_subprocess_exec(
            *as_user,
            sys.executable,
            "-m",
            "vnetctl",
            *words,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env={**self.environment, **(environment or {})},
        )
