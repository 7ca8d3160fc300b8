"""README.md and docs/GUIDE.md: their documents are read without a warning, and their commands are commands."""

import os
import re
import shlex
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from vnetctl.arguments import parse
from vnetctl.bridge_helper import parser as helper_parser

from vnetd.xmlcodec.documents import parse_network, parse_switch

TOP = Path(__file__).parents[2]
PAGE = (TOP / "README.md").read_text() + (TOP / "docs" / "GUIDE.md").read_text()
DOCUMENTS = dict(re.findall(r"^cat > (/tmp/\S+) <<'END'\n(.*?)^END$", PAGE, re.DOTALL | re.MULTILINE))
SHELL = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
LINES = [line.removeprefix("sudo ") for block in SHELL for line in block.splitlines()]
COMMANDS = [line.partition(" #")[0] for line in LINES if line.startswith("vnetctl ")]
PROGRAMS = [line.partition(" #")[0] for line in LINES if line.startswith(("./", "packaging/"))]


@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_document_is_read_without_a_warning(path: str) -> None:
    kinds = {verb for line in COMMANDS if path in line for verb in [shlex.split(line)[1]]}
    assert len(kinds) == 1, f"{path} is defined as what it is"
    read = parse_switch if kinds == {"switch"} else parse_network
    assert read(DOCUMENTS[path]).warnings == ()


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_one(line: str) -> None:
    assert callable(parse(shlex.split(line)[1:]).run)


@pytest.mark.parametrize("line", PROGRAMS)
def test_every_program_of_the_checkout_is_there_and_knows_its_options(line: str) -> None:
    program, *arguments = shlex.split(line)
    text = (TOP / program).read_text()
    assert os.access(TOP / program, os.X_OK)
    assert not [one for one in arguments if one.startswith("--") and one not in text]


@pytest.mark.parametrize("block", SHELL)
def test_every_block_is_a_script(block: str) -> None:
    checked = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
    assert not checked.stderr


def test_every_member_called_by_busctl_is_in_the_contract_with_that_signature() -> None:
    calls = re.findall(r"\$bus (call|get-property) org\.vnetd1 \S+ (org\.vnetd1\.\w+) (\w+)(?: '?([a-z{}]+)'? )?", PAGE)
    assert len(calls) >= 4
    for verb, interface, member, signature in calls:
        contract = ElementTree.parse(TOP / "dbus" / f"{interface}.xml")
        (found,) = contract.iterfind(f".//{'method' if verb == 'call' else 'property'}[@name='{member}']")
        given = [one.get("type", "") for one in found.iterfind("arg[@direction='in']")]
        assert "".join(given) == signature, member


def test_the_helpers_options_are_its_own() -> None:
    (told,) = re.findall(r"helper='/usr/bin/vnet-bridge-helper ([^']*)'", PAGE)
    given = helper_parser().parse_args(["--br=default", "--fd=3", "--use-vnet", *shlex.split(told)])
    assert given.mac == "52:54:00:00:00:07"
