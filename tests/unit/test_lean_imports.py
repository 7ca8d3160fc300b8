"""What the daemon leaves out of memory, and that nothing is worse for it."""

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(TOP)}
    )
    return done.stdout


def test_the_daemon_is_imported_without_openssl() -> None:
    maps = python("import vnetd.__main__; print(open('/proc/self/maps').read())")
    assert "libpython" in maps or "python3" in maps
    assert "libcrypto" not in maps and "libssl" not in maps


def test_who_needs_openssl_later_gets_it() -> None:
    digest = python("import vnetd.__main__, ssl, hashlib; print(ssl.OPENSSL_VERSION, hashlib.sha256(b'').hexdigest())")
    assert digest.startswith("OpenSSL") and "e3b0c44298fc1c149afbf4c8996fb924" in digest


def test_hashes_are_the_same_without_it() -> None:
    code = "import hashlib, hmac; print(hashlib.sha256(b'x').hexdigest(), hmac.new(b'k', b'x', 'sha256').hexdigest())"
    assert python(f"import vnetd.__main__; {code}") == python(code)
