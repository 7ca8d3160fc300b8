"""``python -m vnetd``, and the program ``vnetd``."""

import sys

import vnetd.lean  # noqa: F401
from vnetd.daemon import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
