from __future__ import annotations

import copy
import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deconf
from deconf.errors import ReadError, SettingsError
from deconf.records.certificate import Certificate, Figure, Finding, Sample
from deconf.records.sealed import frozen, sealed

KEY = "0123456789abcdef"


def cohort(ids, width=3):
    table = pd.DataFrame({"who": ids, "site": np.resize(["A", "B"], len(ids))})
    return deconf.Cohort.from_arrays(
        np.arange(len(ids) * width).reshape(-1, width), table, patient="who"
    )


ANN_BO = cohort(["ann", "ann", "bo", "4711"])


def certificate(data=ANN_BO, salt="ab", auroc=0.1 + 0.2, p=0.5):
    sample = Sample(
        films=len(data),
        patients=3,
        roles=frozen(dict(data.roles)),
        table=data.digest,
        pixels="",
        salt=salt,
        people=tuple(sorted(data.patient_digests(salt))),
    )
    common = {"auroc": auroc, "low": 0.4, "high": 0.6, "floor": 0.5, "p": p, "n": 2}
    beside = {"measure": "AUROC", "p_below": 0.3, "bits": None, "bits_low": None, "bits_high": None}
    return Certificate(
        certifies="procedure",
        encoder="stored",
        map="m" * 64,
        method="leace",
        trained_on=data.digest,
        sample=sample,
        settings=frozen({"confounders": ["site"], "seed": 0, "method": {"name": "leace"}}),
        graph="site -> image",
        effort="quick",
        findings=(Finding("site", "z ⊥ site", "undecided", "undecided: so", "knn", **common),),
        figures=(Figure("site", "conditional", "", "knn", **beside, **common),),
        assumptions=("a label is the disease",),
        warnings=(),
        notes=("3 rows left out",),
        versions=frozen({"python": "3.12", "deconf": "0.2.0"}),
    )


# ---------------------------------------------------------------- as JSON


@given(st.floats(0, 1) | st.just(math.nan), st.floats(0, 1) | st.just(math.nan))
def test_a_certificate_comes_back_from_json_bit_for_bit(auroc, p):
    made = certificate(auroc=auroc, p=p)
    back = Certificate.from_json(made.to_json())
    assert back == made
    assert back.to_json() == made.to_json()
    assert repr(back.figures) == repr(made.figures)
    assert back.sample == made.sample
    assert back.settings == made.settings


def test_a_certificate_comes_back_from_a_file_a_copy_and_a_pickle(tmp_path):
    made = certificate(auroc=math.nan)
    again = certificate(auroc=math.nan)
    for back in (
        Certificate.read(made.save(tmp_path / "c.json")),
        copy.deepcopy(made),
        pickle.loads(pickle.dumps(made)),
        again,
    ):
        assert back == made
        assert hash(back) == hash(made)
        assert str(back) == str(made)
    assert certificate(auroc=0.5) != made
    assert made != "certificate"


def test_an_altered_figure_and_a_later_version_are_refused_by_name(tmp_path):
    made = certificate(auroc=0.75)
    path = made.save(tmp_path / "certificate.json")
    path.write_text(made.to_json().replace("0.75", "0.55"))
    with pytest.raises(ReadError, match=r"certificate\.json was altered"):
        Certificate.read(path)
    body = {k: v for k, v in json.loads(made.to_json()).items() if k not in ("version", "seal")}
    body.pop("record")
    with pytest.raises(ReadError, match=r"certificate of version 2.*knows 1.*upgrade deconf"):
        Certificate.from_json(sealed("deconf certificate", 2, body))
    with pytest.raises(ReadError, match=r"sealed, and no certificate.*'why'"):
        Certificate.from_json(sealed("deconf certificate", 1, {**body, "why": 1}))


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path):
    with pytest.raises(ReadError, match=r"no certificate at .*gone\.json"):
        Certificate.read(tmp_path / "gone.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ReadError, match=r"bytes\.json is no text"):
        Certificate.read(tmp_path / "bytes.json")


def test_nothing_in_a_certificate_can_be_changed():
    made = certificate()
    with pytest.raises(TypeError):
        made.settings["method"]["name"] = "quadratic"
    with pytest.raises(TypeError):
        made.sample.roles["patient"] = "site"
    with pytest.raises(AttributeError):
        made.graph = ""


# ---------------------------------------------------------------- patients


def test_patients_shared_with_another_cohort_are_counted_and_none_is_named():
    made = certificate()
    assert made.shared_with(ANN_BO) == 3
    assert made.shared_with(cohort(["bo", "carl", "4711", "4711"])) == 2
    assert made.shared_with(cohort(["carl", "dora"])) == 0
    for name in ("ann", "4711"):
        assert name not in json.dumps(json.loads(made.to_json())["sample"])


def test_another_salt_hides_the_same_patients_behind_other_digests():
    one, other = certificate(salt="ab"), certificate(salt="cd")
    assert not set(one.sample.people) & set(other.sample.people)
    assert one.shared_with(ANN_BO) == other.shared_with(ANN_BO) == 3


def test_a_guess_finds_a_patient_behind_a_salt_and_not_behind_a_key():
    guesses = cohort([str(i) for i in range(4700, 4720)])
    made = certificate()
    assert made.shared_with(guesses) == 1  # what the docstring warns of
    hidden = made.keyed(ANN_BO, KEY)
    in_the_file = guesses.patient_digests(hidden.sample.salt)
    assert not in_the_file & set(hidden.sample.people)
    assert hidden.shared_with(guesses, key=KEY) == 1
    assert hidden.shared_with(ANN_BO, key=KEY.encode()) == 3
    assert hidden.shared_with(ANN_BO, key=KEY[::-1]) == 0
    assert Certificate.from_json(hidden.to_json()) == hidden
    assert replace(hidden, sample=made.sample) == made  # nothing else has changed


def test_a_key_is_asked_for_only_where_there_is_one_and_must_be_long():
    made = certificate()
    with pytest.raises(SettingsError, match="leave key= out"):
        made.shared_with(ANN_BO, key=KEY)
    with pytest.raises(SettingsError, match="behind a key: pass key="):
        made.keyed(ANN_BO, KEY).shared_with(ANN_BO)
    with pytest.raises(SettingsError, match=r"a key of 5 characters.*token_hex"):
        made.keyed(ANN_BO, "short")
    with pytest.raises(SettingsError, match="pass the cohort of the certificate"):
        made.keyed(cohort(["ann", "bo"]), KEY)


# ---------------------------------------------------------------- in words


def test_the_text_says_what_was_audited_on_whom_and_what_came_out():
    text = str(certificate())
    for said in (
        "CERTIFICATE of the procedure",
        "4 films of 3 patients",
        "site  (z ⊥ site)\n  undecided: so.",
        "Assumptions\n  - a label is the disease",
        "Notes\n  - 3 rows left out",
        "deconf 0.2.0",
    ):
        assert said in text
    assert "Warnings" not in text
    assert "this map" in str(replace(certificate(), certifies="this map"))


def test_verdicts_are_found_by_the_name_of_the_confounder_and_figures_as_a_frame():
    made = certificate(auroc=0.75)
    assert str(made.verdict["site"]) == "undecided"
    frame = made.to_frame()
    assert list(frame["auroc"]) == [0.75]
    assert list(frame["verdict"]) == ["undecided"]
