from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from deconf.evidence.neighbourhoods import neighbourhoods

DRAWS = 100


def films(n: int = 500, seed: int = 0):
    """Return raw and clean embeddings, table and patients: raw lies by site, clean by disease."""
    rng = np.random.default_rng(seed)
    site, ill = rng.integers(3, size=n), rng.integers(2, size=n)
    noise = rng.standard_normal((n, 8))
    clean = noise + np.outer(ill, np.r_[3.0, np.zeros(7)])
    raw = clean + np.eye(8)[site + 1] * 6
    table = pd.DataFrame(
        {"site": np.array(["A", "B", "C"])[site], "ill": ill, "age": rng.normal(60, 9, n)}
    )
    return {"clean": clean, "raw": raw}, table, np.arange(n) // 2


def found(embeddings, table, patients, confounders=("site",)):
    return neighbourhoods(
        embeddings, table, patients, confounders, ["ill"], reference="raw", draws=DRAWS, seed=0
    )


def test_cleaning_brings_the_disease_near_and_the_sites_among_one_another():
    frame, reasons = found(*films())
    assert reasons == ()
    assert list(dict.fromkeys(frame["representation"])) == ["clean", "raw"]  # as they were passed
    wide = frame.pivot(index="measure", columns="representation", values="estimate")
    for measure in ("robustness index", "margin", "site mixing (iLISI)", "silhouette of sites"):
        assert wide.loc[measure, "clean"] > wide.loc[measure, "raw"] + 0.1, measure
        row = frame[(frame["measure"] == measure) & (frame["representation"] == "clean")].iloc[0]
        assert row["difference_low"] > 0, measure
        gap = wide.loc[measure, "clean"] - wide.loc[measure, "raw"]
        assert row["difference"] == pytest.approx(gap)
    assert ((frame["low"] <= frame["estimate"]) & (frame["estimate"] <= frame["high"])).all()
    clean = frame[frame["representation"] == "clean"].set_index("measure")
    mixed = clean.loc["site mixing (iLISI)"]
    assert mixed["low"] < mixed["shuffled"] < mixed["high"]  # as after dealing the sites anew


def test_the_raw_embedding_is_compared_with_nothing():
    frame, _ = found(*films())
    assert frame[frame["representation"] == "raw"]["difference"].isna().all()


def test_a_number_a_lone_class_and_too_few_films_are_left_out_by_name():
    embeddings, table, patients = films()
    frame, reasons = found(embeddings, table, patients, ("age",))
    assert len(frame) == 0
    assert reasons == ("neighbourhoods: age is a number and has no levels to mix",)
    frame, reasons = found(embeddings, table.assign(ill=1), patients)
    assert len(frame) == 0
    assert "one level only" in reasons[0]
    few = slice(0, 40)
    _, reasons = found({k: z[few] for k, z in embeddings.items()}, table[few], patients[few])
    assert "40 held-out films have both; 60 are needed" in reasons[0]


def test_films_without_a_site_or_a_diagnosis_are_not_judged():
    embeddings, table, patients = films()
    table["site"] = table["site"].where(np.arange(500) % 5 > 0)
    assert set(found(embeddings, table, patients)[0]["n"]) == {400}
