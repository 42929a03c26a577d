"""A saved model is the same model, and a damaged one is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from deconf import scm
from deconf.errors import ReadError
from deconf.scm import flows
from tests.scm.test_model import GRAPH, films


@pytest.fixture(scope="module", params=["affine", "flow"])
def model(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flows, "STEPS", 20)
        return scm.fit(films(400, 0)[0], GRAPH, embedding=request.param, numbers=request.param)


def test_a_loaded_model_answers_the_same(model, tmp_path):
    again = scm.load(model.save(tmp_path / "model"))
    cohort, _ = films(200, 1)
    one, two = (m.counterfactual(cohort, {"age": cohort.table["age"] + 1}) for m in (model, again))
    np.testing.assert_array_equal(one.cohort.embeddings, two.cohort.embeddings)
    assert one.cohort.table.equals(two.cohort.table)
    assert one.refused.equals(two.refused)
    assert str(again) == str(model)
    np.testing.assert_array_equal(again.log_prob(cohort), model.log_prob(cohort))


def test_no_patient_is_named_in_it(model, tmp_path):
    cohort, _ = films(400, 0)
    named = cohort.table.assign(patient=[f"MRN{i:05d}" for i in cohort.table["patient"]])
    own = scm.fit(cohort.read(named, patient="patient"), "age -> dose", numbers="affine")
    own.save(tmp_path)
    assert all(b"MRN" not in path.read_bytes() for path in tmp_path.iterdir())


def test_what_was_altered_is_refused_by_name(model, tmp_path):
    model.save(tmp_path)
    record, tensors = tmp_path / "scm.json", tmp_path / "scm.safetensors"
    text, body = record.read_text(), tensors.read_bytes()
    record.write_text(text.replace("device", "devise", 1))
    with pytest.raises(ReadError, match=r"scm.json was altered"):
        scm.load(tmp_path)
    record.write_text(text)
    tensors.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    with pytest.raises(ReadError, match=r"scm.safetensors is damaged"):
        scm.load(tmp_path)
    tensors.unlink()
    with pytest.raises(ReadError, match=r"holds no scm.safetensors"):
        scm.load(tmp_path)
    assert json.loads(text.partition("\n")[2])["format"] == 1
