from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import pytest

from deconf.encoders.tune import Tune
from deconf.errors import SettingsError
from deconf.maths.maps import AffineMap, EmbeddingMap
from deconf.methods import (
    CDANN,
    DANN,
    INLP,
    IRM,
    LEACE,
    MMD,
    Aligned,
    Auto,
    Kernel,
    Method,
    Paired,
    Sinkhorn,
    TestEnvironment,
    VREx,
    configured,
)
from deconf.methods.base import methods, resolve
from deconf.methods.game import Rounds

OTHER = [
    (Kernel, {"rounds": 2.5}, r"rounds is a whole number, not 2\.5"),
    (INLP, {"rounds": 2.5}, r"rounds is a whole number, not 2\.5"),
    (INLP, {"rounds": True}, "rounds is a whole number, not True"),
    (Kernel, {"rounds": "a"}, "rounds is a whole number, not 'a'"),
    (DANN, {"widths": 32}, "widths is a tuple of one whole number or more, not 32"),
    (DANN, {"widths": (32, 0.5)}, r"widths is a tuple of .*, not \(32, 0\.5\)"),
    (DANN, {"strength": "x"}, "strength is a number, not 'x'"),
    (DANN, {"strength": float("nan")}, "strength is a number, not nan"),
    (Sinkhorn, {"blur": "x"}, "blur is a number, not 'x'"),
    (MMD, {"rounds": 3}, r"rounds is Rounds\(\.\.\.\), not 3"),
    (MMD, {"rounds": {"cuont": 3}}, r"Rounds has no setting 'cuont'. Did you mean 'count'\?"),
    (LEACE, {"rank": "ful"}, r"rank is 'significant' or 'full', not 'ful'. Did you mean 'full'\?"),
    (LEACE, {"shrinkage": np.zeros(3)}, r"shrinkage is .*, not an array \(3,\)"),
    (
        IRM,
        {"selection": "training", "penalty": ()},
        r"penalty is a number or a tuple of one number or more, not \(\)",
    ),
    (
        IRM,
        {"selection": "training", "epochs": 1, "warmup": 0.9},
        "warmup is 0.9 of 1 epochs, .*raise epochs or lower",
    ),
    (Auto, {"reads_record": "yes"}, "reads_record is true or false, not 'yes'"),
    (Paired, {"tune": {"rnk": 4}}, r"Tune has no setting 'rnk'. Did you mean 'rank'\?"),
]


@pytest.mark.parametrize(("kind", "settings", "message"), OTHER)
def test_a_setting_of_another_kind_is_named_with_its_value_and_what_is_expected(
    kind, settings, message
):
    with pytest.raises(SettingsError, match=message):
        kind(**settings)


@pytest.mark.parametrize("name", [n for n in methods if fields(methods[n])])
def test_no_setting_of_any_method_takes_an_object_of_an_unknown_kind(name):
    for setting in fields(methods[name]):
        with pytest.raises(SettingsError, match=setting.name):
            replace(resolve(name), **{setting.name: object()})


def test_what_numpy_and_files_write_is_taken_for_what_it_means():
    usual = DANN(widths=(8, 16), strength=2.0, rounds=Rounds(count=2))
    written = DANN(widths=[8, np.int64(16)], strength=np.float32(2), rounds={"count": 2})
    assert written == usual
    assert hash(written) == hash(usual)
    assert type(written.widths[1]) is int
    assert Paired(tune={"mode": "lora", "rank": 4}).tune == Tune("lora", rank=4)


def test_the_rows_of_an_oracle_are_not_printed():
    with pytest.raises(SettingsError, match=r"not \(an array \(9, 3\), an array \(9,\)\)"):
        IRM(selection="oracle", oracle=(np.zeros((9, 3)), np.zeros(9)))


@pytest.mark.parametrize(
    ("z", "message"),
    [
        (np.where(np.arange(24).reshape(8, 3) == 7, np.nan, 0.0), "nan in row 2, column 1"),
        ([["a", "b", "c"]] * 8, "z of the test environment must be an array of numbers"),
    ],
)
def test_an_oracle_of_no_numbers_chooses_nothing(z, message):
    rng = np.random.default_rng(0)
    y, site = np.arange(60) % 2, np.eye(3)[np.arange(60) % 3]
    oracle = TestEnvironment(z, np.arange(8) % 2)
    method = VREx(selection="oracle", oracle=oracle, epochs=2)
    with pytest.raises(SettingsError, match=message):
        method.fit(rng.normal(size=(60, 3)), site, outcome=y)


def test_words_are_no_embeddings():
    with pytest.raises(SettingsError, match="z_a must be an array of numbers"):
        Paired().fit_pairs([["a", "b"]] * 9, np.zeros((9, 2)))
    with pytest.raises(SettingsError, match="z must be an array of numbers"):
        LEACE().fit([["a", "b"]] * 9, np.arange(9.0))


def test_a_method_from_a_file_is_the_method_of_the_same_settings():
    assert configured("leace", {}) == LEACE()
    start = {"name": "aligned", "settings": {"read": "image"}}
    assert configured("cdann", {"start": start, "widths": [4]}) == CDANN(Aligned(), widths=(4,))
    assert configured("auto", {"trained": {"name": "cdann"}}) == Auto(trained=CDANN())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("laece", {}, r"no method is called 'laece'. Did you mean 'leace'\?"),
        ("leace", {"rnk": "full"}, r"'leace' has no setting 'rnk'. Did you mean 'rank'\?"),
        ("leace", {"rank": "al"}, "rank is 'significant' or 'full', not 'al'"),
        ("cdann", {"start": {"name": "aligned", "settings": {"rea": 1}}}, "'rea'.*'read'"),
    ],
)
def test_what_a_file_gets_wrong_is_answered(name, settings, message):
    with pytest.raises(SettingsError, match=message):
        configured(name, settings)


def test_a_method_of_ones_own_is_checked_too():
    @dataclass(frozen=True)
    class Scaled(Method):
        factor: float = 1.0

        def fit(self, z, c, **keep) -> EmbeddingMap:
            return AffineMap(np.zeros((2, 0)), np.zeros((0, 2)), np.zeros(2))

    assert Scaled(np.float64(2)).factor == 2.0
    with pytest.raises(SettingsError, match="factor is a number, not 'two'"):
        Scaled("two")
