"""``vnetctl convert`` and ``vnetctl schema``, which need no daemon."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from vnetctl.errors import Exit
from vnetctl.main import main

TOP = Path(__file__).resolve().parents[2]
# No bus: these commands must not look for one.
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{TOP}:{TOP / 'clients'}", "VNETD_BUS": "unix:path=/nonexistent"}
DOCUMENTS = sorted([*TOP.glob("tests/golden/**/documents/*.xml"), *TOP.glob("bench/documents/*.xml")])

NETWORK = """<network>
  <name>lab</name>
  <uuid>81ff0d90-c91e-6742-64da-4a736edb9a9b</uuid>
  <forward mode='nat'/>
  <bridge name='virbr7' stp='on' delay='0'/>
  <ip address='192.168.77.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='192.168.77.10' end='192.168.77.99'/>
    </dhcp>
  </ip>
</network>
"""


def vnetctl(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vnetctl", *words]
    return subprocess.run(
        command, input=stdin, capture_output=True, encoding="utf-8", env=ENVIRONMENT, timeout=60, check=False
    )


def converted(document: str, form: str) -> str:
    done = vnetctl("convert", "-", "--to", form, stdin=document)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_documents_keep_their_meaning_through_either_form(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def form(of: Path, to: str) -> Path:
        assert main(["convert", str(of), "--to", to]) == Exit.DONE
        into = tmp_path / f"{of.stem}-{to}.{to}"
        into.write_text(capsys.readouterr().out)
        return into

    canonical, native = form(file, "xml"), form(file, "json")
    assert form(canonical, "json").read_text() == native.read_text()
    assert form(native, "xml").read_text() == canonical.read_text()
    assert form(native, "json").read_text() == native.read_text()


def test_a_network_keeps_what_it_says() -> None:
    native = json.loads(converted(NETWORK, "json"))
    assert (native["name"], native["bridge"]["name"]) == ("lab", "virbr7")
    back = ET.fromstring(converted(json.dumps(native), "xml"))
    assert back.findtext("uuid") == "81ff0d90-c91e-6742-64da-4a736edb9a9b"
    dhcp = back.find("ip/dhcp/range")
    assert dhcp is not None and dhcp.attrib == {"start": "192.168.77.10", "end": "192.168.77.99"}


@pytest.mark.parametrize(
    ("document", "part"),
    [
        ("", "empty"),
        ("<network><name>a</name><nmae/></network>", "<nmae>"),
        ("<network><name>a</name>", "line 1"),
        ("<domain/>", "<domain>"),
        ('{"name": "a", "nmae": 1}', "nmae"),
        ('<!DOCTYPE network [<!ENTITY a "b">]><network><name>&a;</name></network>', "DOCTYPE"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(document: str, part: str) -> None:
    done = vnetctl("convert", "-", "--to", "json", stdin=document)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert part.lower() in done.stderr.lower()


def test_lenient_says_what_it_dropped() -> None:
    document = NETWORK.replace("<name>", "<nmae/><name>")
    done = vnetctl("convert", "-", "--to", "xml", "--lenient", stdin=document)
    assert done.returncode == 0
    assert done.stdout == converted(NETWORK, "xml")
    assert done.stderr.startswith("warning: ") and "<nmae>" in done.stderr


def test_a_document_leaves_in_utf8_whatever_the_locale() -> None:
    document = NETWORK.replace("<name>lab", "<name>büro")
    command = [sys.executable, "-m", "vnetctl", "convert", "-", "--to", "xml"]
    environment = {**ENVIRONMENT, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        command, input=document.encode(), capture_output=True, env=environment, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "büro".encode() in done.stdout


@pytest.mark.parametrize("kind", ["network", "filter", "binding"])
def test_the_schema_describes_native_documents(kind: str) -> None:
    done = vnetctl("schema", kind)
    assert done.returncode == 0
    schema = json.loads(done.stdout)
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert schema["properties"]
