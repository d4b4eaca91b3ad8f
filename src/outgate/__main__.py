"""``python -m outgate``: the command line."""

import sys

from outgate.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
