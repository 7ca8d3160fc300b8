"""``python -m vnetctl``."""

import sys

from vnetctl.main import main

sys.exit(main())
