"""It is the entrance: python -m model_server <command>."""

import sys

from model_server.cli import main

sys.exit(main(sys.argv[1:]))
