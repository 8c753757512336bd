"""A module that ends whoever imports it, with words that have no encoding."""

from __future__ import annotations

import sys

sys.exit("out of \udcff")
