"""``python -m bitlaw``."""

import sys

from bitlaw.cli.main import main

sys.exit(main())
