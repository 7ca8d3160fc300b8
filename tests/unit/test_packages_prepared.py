"""What tests of the Debian packages say on a host that cannot make them."""

from pathlib import Path

import pytest
from support import debian_package
from support.debian_package import RELEASES, Unprepared, prepare, prepared


def test_what_lacks_is_named_at_once_and_remembered_for_the_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian_package, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unprepared, match="there is no mmdebstrap on this host"):
        prepare()
    for release in RELEASES:
        with pytest.raises(Unprepared, match=f"no package of these files for {release}, .*: there is no mmdebstrap"):
            prepared(release)
