from __future__ import annotations

from hypothesis import settings

# The same examples on every run and no clock: a busy machine must not fail a law.
settings.register_profile("deconf", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("deconf")
