"""Property tests of the wire: no deadline, for how long an example takes depends on what else the
machine does."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("wire", deadline=None)
settings.load_profile("wire")
