"""`python -m snakepit_port` is `snakepit-port`."""

import sys

from snakepit_port.cli import main

sys.exit(main())
