"""``python -m vem.evaluate RUN_DIR [overrides]``: measure a finished run again; see :mod:`vem.cli.evaluate`."""

import sys

from vem.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
