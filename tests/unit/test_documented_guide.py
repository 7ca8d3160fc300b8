"""docs/GUIDE.md: its documents are read without a warning, and its commands are commands."""

import re
import shlex
from pathlib import Path

import pytest
from vnetctl.arguments import parse
from vnetctl.bridge_helper import parser as helper_parser

from vnetd.xmlcodec.documents import parse_network, parse_switch

PAGE = (Path(__file__).parents[2] / "docs" / "GUIDE.md").read_text()
DOCUMENTS = dict(re.findall(r"^cat > (/tmp/\S+) <<'END'\n(.*?)^END$", PAGE, re.DOTALL | re.MULTILINE))
SHELL = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [line for block in SHELL for line in block.splitlines() if line.startswith("vnetctl ")]


@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_document_is_read_without_a_warning(path: str) -> None:
    kinds = {verb for line in COMMANDS if path in line for verb in [shlex.split(line)[1]]}
    assert len(kinds) == 1, f"{path} is defined as what it is"
    read = parse_switch if kinds == {"switch"} else parse_network
    assert read(DOCUMENTS[path]).warnings == ()


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_one(line: str) -> None:
    assert callable(parse(shlex.split(line)[1:]).run)


def test_the_helpers_options_are_its_own() -> None:
    (told,) = re.findall(r"helper='/usr/bin/vnet-bridge-helper ([^']*)'", PAGE)
    given = helper_parser().parse_args(["--br=default", "--fd=3", "--use-vnet", *shlex.split(told)])
    assert given.mac == "52:54:00:00:00:07"
