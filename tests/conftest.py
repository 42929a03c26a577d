from __future__ import annotations

import pytest
import torch
from hypothesis import settings

# The same examples on every run and no clock: a busy machine must not fail a law.
settings.register_profile("deconf", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("deconf")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs an accelerator where there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
