"""``python -m vnetd``."""

import sys

from vnetd.daemon import main

sys.exit(main())
