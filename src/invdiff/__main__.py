"""``python -m invdiff``."""

import sys

from invdiff.app.cli import main

if __name__ == "__main__":
    sys.exit(main())
