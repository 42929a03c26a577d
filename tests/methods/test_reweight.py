from __future__ import annotations

import numpy as np

from deconf.methods import Reweight, methods
from tests.strategies import apply, world


def test_the_embedding_is_returned_as_it_was_and_the_card_says_where_the_answer_lies():
    w = world(0, n=200)
    fitted = Reweight().fit(w.z, w.c, given=w.given)
    assert fitted.is_identity
    assert np.array_equal(apply(fitted, w.z), w.z)
    assert methods.card("reweight").head_weights
    assert "c stays readable" in methods.card("reweight").guarantee
