"""`python -m batchyard` is the command `batchyard`."""

import sys

from batchyard.cli import main

if __name__ == "__main__":
    sys.exit(main())
