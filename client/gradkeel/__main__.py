"""``python -m gradkeel``: the command line."""

import sys

from gradkeel.cli import main

if __name__ == "__main__":
    sys.exit(main())
