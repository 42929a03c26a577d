from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

import deconf
from deconf.evidence.certificate import audited, figures_of, findings_of
from deconf.methods import LEACE, Method
from deconf.records.certificate import Certificate
from deconf.worlds import linear

WORLD = linear(trace="shift", n=300, d=24)
TRAIN, OTHERS = WORLD.train().cohort, WORLD.test("aligned", 200).cohort


@pytest.fixture(scope="module")
def found():
    return deconf.audit("stored", OTHERS, "portable", graph=WORLD.graph, attackers=["logistic"])


def test_every_figure_of_the_audit_is_in_the_certificate_as_plain_numbers(found):
    frame = pd.DataFrame([vars(f) for f in figures_of(found)])
    pd.testing.assert_frame_equal(frame, found.to_frame().drop(columns="verdict"))
    (finding,) = findings_of(found)
    verdict = found.verdict["portable"]
    assert finding.sentence == verdict.sentence
    assert (finding.auroc, finding.p, finding.n) == (
        verdict.estimate.estimate, verdict.p, verdict.n,
    )  # fmt: skip
    assert finding.invariance == "z ⊥ portable | pneumonia"
    for record in (finding, *figures_of(found)):
        assert {type(v) for v in vars(record).values()} <= {str, int, float, type(None)}


def test_a_verdict_without_figures_is_no_number_and_survives_the_file():
    blocked = "severity -> portable; severity -> image; pneumonia -> image; portable -> image"
    found = deconf.audit(
        "stored", OTHERS.subset(np.arange(60)), "portable", attackers=["logistic"],
        graph=blocked.replace("severity", "hidden"),
    )  # fmt: skip
    (finding,) = findings_of(found)
    assert finding.word == "undecided"
    assert math.isnan(finding.auroc)
    assert {f.kind for f in figures_of(found)} == {"marginal"}


def test_where_nothing_reaches_the_image_the_certificate_says_that_nothing_was_audited():
    graph = "pneumonia -> image; pneumonia -> portable"
    clean = deconf.deconfound("stored", "portable", graph=graph, method="leace").fit(TRAIN)
    certificate = clean.certificate
    assert certificate.findings == ()
    assert "nothing was audited" in str(certificate)
    assert Certificate.from_json(certificate.to_json()) == certificate
    assert deconf.verify(clean, TRAIN, tolerance=0).passed
    assert audited("stored", OTHERS, [], effort="quick", seed=0).verdict == {}


def test_settings_are_all_that_the_cleaner_was_told():
    cleaner = deconf.deconfound(
        "stored", ["portable"], outcome="pneumonia", graph=WORLD.graph, given=["severity"],
        method=LEACE(rank="full"), at_inference=True, unlabelled=False, seed=5,
    )  # fmt: skip
    settings = cleaner.settings
    assert settings.pop("method") == {
        "name": "leace", "settings": {"shrinkage": "oas", "rank": "full", "strata": "auto"},
    }  # fmt: skip
    assert settings.pop("graph") == str(cleaner.graph)
    assert settings == {
        "confounders": ["portable"], "outcome": ["pneumonia"], "given": ["severity"],
        "at_inference": True, "unlabelled": False, "seed": 5,
    }  # fmt: skip


def test_settings_that_json_does_not_have_are_printed():
    class Odd(Method):
        registered_name = "odd"

        def fit(self, z, c, **more):
            raise NotImplementedError

    def settings(method):
        return deconf.deconfound("stored", "portable", method=method).settings["method"]

    assert settings(Odd()) == {"name": "odd", "settings": {}}
    assert settings(LEACE(shrinkage=0.25))["settings"]["shrinkage"] == 0.25
