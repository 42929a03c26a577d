from __future__ import annotations

import json

import pytest

from deconf.methods import CDANN, IRM, Aligned, Auto, Paired
from deconf.methods.base import methods, resolve
from deconf.methods.described import described, rebuilt
from deconf.methods.game import Rounds

NESTED = [
    CDANN(start=Aligned(read="image"), rounds=Rounds(count=2, steps=7), widths=(8, 16)),
    Auto(trained=CDANN(rounds=Rounds(count=2))),
    IRM(penalty=(1.0, 100.0), selection="training"),
    Paired(shrinkage=0.25),
]


@pytest.mark.parametrize("method", [*(resolve(name) for name in methods), *NESTED], ids=repr)
def test_a_method_comes_back_from_its_description_settings_within_settings_too(method):
    written = json.loads(json.dumps(described(method)))
    again = rebuilt(written)
    assert again == method
    assert described(again) == written
