"""Completion in bash: nouns, verbs, options, and names the daemon has, which may hold anything."""

import asyncio
import os
import shlex
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from support.fake_services import FakeServices, one_of_each
from support.fake_world import network_view
from support.private_bus import PrivateBus
from support.vnetctl import PATH
from vnetctl.arguments import parser

from vnetd.bus.server import BusServer

TOP = Path(__file__).resolve().parents[2]
SCRIPT = TOP / "clients" / "completion" / "vnetctl.bash"
# What readline does before it calls a completion function: it splits the line at blanks and at its own separators.
HARNESS = r"""
source "$1"
COMP_LINE=$2 COMP_POINT=${#2} COMP_WORDS=()
rest=$2
while [[ -n $rest ]]; do
    rest=${rest#"${rest%%[! ]*}"}
    [[ -z $rest ]] && break
    if [[ $rest == [:=]* ]]; then
        part=${rest%%[!:=]*}
    else
        part=${rest%%[ :=]*}
        while [[ $part == *\\ ]]; do tail=${rest#"$part "}; part="$part ${tail%%[ :=]*}"; done
    fi
    COMP_WORDS+=("$part")
    rest=${rest#"$part"}
done
[[ $2 == *[\ :=] ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_vnetctl vnetctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" 2>&1
printf '%s\n' "${COMPREPLY[@]}"
"""
Complete = Callable[[str], Awaitable[list[str]]]


@pytest.fixture
def complete(bus: PrivateBus, server: BusServer, tmp_path: Path) -> Complete:
    """``complete(line)``: what bash offers at the end of ``line``."""
    command = tmp_path / "bin" / "vnetctl"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m vnetctl "$@"\n')
    command.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": PATH,
        "VNETD_BUS": bus.address,
    }

    def ask(line: str) -> list[str]:
        done = subprocess.run(
            ["bash", "--norc", "-c", HARNESS, "bash", str(SCRIPT), line],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
            timeout=60,
            check=True,
        )
        assert done.stderr == ""
        return [word for word in done.stdout.splitlines() if word]

    async def complete(line: str) -> list[str]:
        return await asyncio.to_thread(ask, line)

    return complete


async def test_nouns_and_verbs_are_those_of_the_command(complete: Complete) -> None:
    (nouns,) = [action for action in parser()._actions if action.dest == "noun"]
    assert isinstance(nouns.choices, dict)
    assert set(await complete("vnetctl ")) == set(nouns.choices)
    assert await complete("vnetctl net") == ["network"]
    for noun in ("network", "filter", "port"):
        (verbs,) = [action for action in nouns.choices[noun]._actions if action.dest == "verb"]
        assert set(await complete(f"vnetctl --json {noun} ")) == set(verbs.choices)


async def test_options_are_those_of_the_command(complete: Complete) -> None:
    (nouns,) = [action for action in parser()._actions if action.dest == "noun"]
    assert isinstance(nouns.choices, dict)
    for noun in nouns.choices:
        verbs = [action.choices for action in nouns.choices[noun]._actions if action.dest == "verb"] or [{"": None}]
        for verb in verbs[0]:
            command = verbs[0][verb] or nouns.choices[noun]
            options = {name for action in command._actions for name in action.option_strings if name != "-h"}
            offered = await complete(f"vnetctl {noun} {verb} -".replace("  ", " "))
            assert set(offered) == options, f"{noun} {verb}"


async def test_names_are_the_daemons(complete: Complete, services: FakeServices) -> None:
    await one_of_each(services)
    for name in ("lab2", "default"):
        services.world.add("network", network_view(name))
    device = services.ports.list()[0].device
    assert await complete("vnetctl network start ") == ["default", "lab", "lab2"]
    assert await complete("vnetctl network start default l") == ["lab", "lab2"]
    assert await complete("vnetctl network show de") == ["default"]
    assert await complete("vnetctl filter show ") == ["block"]
    assert await complete("vnetctl filter bind tap7 ") == ["block"]
    assert await complete("vnetctl filter unbind ta") == ["tap0"]
    assert await complete("vnetctl port detach ") == [device]
    assert await complete("vnetctl port attach de") == ["default"]
    assert await complete("vnetctl port attach default --filter ") == ["block"]


async def test_a_hostile_name_is_quoted_and_never_run(
    complete: Complete, services: FakeServices, tmp_path: Path
) -> None:
    names = ["$(touch pwned)", "`touch pwned`", "two words", "a;touch pwned", "*", "-n"]
    for name in names:
        services.world.add("network", network_view(name))
    offered = await complete("vnetctl network start ")
    assert sorted(shlex.split(" ".join(offered))) == sorted(names)
    assert len(offered) == len(names)
    assert not (tmp_path / "pwned").exists()
    assert await complete("vnetctl network start two\\ w") == ["two\\ words"]


async def test_names_come_from_the_bus_on_the_line(
    complete: Complete, services: FakeServices, bus: PrivateBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.world.add("network", network_view("lab"))
    assert await complete(f"vnetctl --bus {bus.address} network show ") == ["lab"]
    assert await complete(f"vnetctl network --bus={bus.address} show ") == ["lab"]
    assert await complete("vnetctl --bus unix:path=/nonexistent network show ") == []


async def test_fixed_values_and_files_are_offered(complete: Complete, tmp_path: Path) -> None:
    (tmp_path / "default.xml").touch()
    assert await complete("vnetctl network update lab m") == ["modify"]
    assert await complete("vnetctl network update lab modify ip-dhcp-h") == ["ip-dhcp-host"]
    assert await complete("vnetctl network define def") == ["default.xml"]
    assert await complete("vnetctl convert --to ") == ["xml", "json"]
    assert await complete("vnetctl convert def") == ["default.xml"]
    assert await complete("vnetctl schema f") == ["filter"]
    assert await complete("vnetctl network show lab --format t") == ["table"]
    assert await complete("vnetctl port attach lab --hostdev --trust ") == ["on", "off"]


async def test_an_unreachable_daemon_offers_nothing_and_says_nothing(complete: Complete, server: BusServer) -> None:
    await server.stop()
    assert await complete("vnetctl network start ") == []
