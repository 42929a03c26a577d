from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image
from safetensors.torch import load_file

import deconf
import deconf.tuning.encoder as own
from deconf.encoders import Preprocess, Tune
from deconf.errors import CohortError, ReadError, SettingsError
from deconf.maths.moments import Given
from deconf.methods import CDANN, DANN, LEACE, Auto, Critic, Paired, configured
from deconf.methods.base import methods
from deconf.methods.game import Rounds
from deconf.probes.leakage import leakage
from deconf.tuning import judge
from deconf.tuning.encoder import mapped, pairs_of, tune_encoder
from deconf.tuning.images import Images
from deconf.tuning.judge import Judge, Target
from tests.tuning.films import cohort, encoder, films, outcome, target

FAST = Tune("full", epochs=5, batch=20, learning_rate=1e-3)


def erased(of):
    """Return the closed form that follows, as the front would fit it: by pairs where there are."""
    asked = target(of)
    has_pairs = len(np.unique(of.patients)) < len(of)

    def clean(z, rows):
        c = asked.codes[rows].astype(float)
        if has_pairs:
            return Paired().fit(z, c, patients=of.patients[rows])
        return LEACE().fit(z, c, given=Given(asked.strata[rows]), patients=of.patients[rows])

    return clean


def tuned(of, how=FAST, start=None, **more):
    settings = {"clean": erased(of), "outcome": outcome(of), **more}
    return tune_encoder(start or encoder(), of, [target(of)], how, **settings)


@pytest.fixture
def lenient(monkeypatch):
    """Train whatever is read before, and let any epoch be taken: for tests of what happens then."""
    monkeypatch.setattr(Judge, "idle", "")
    monkeypatch.setattr(judge, "MARGIN", -1.0)
    monkeypatch.setattr(judge, "ERRORS", 0.0)


def left(one, of, new):
    """Return what fresh attackers read of new patients behind the closed form."""
    fitted = erased(of)(one.embed(of), np.arange(len(of)))
    asked = target(new)
    z = mapped(fitted, one.embed(new))
    return leakage(
        z, asked.codes, asked.strata, attackers=("logistic", "boosted"), permutations=40
    ).estimate


# ---------------------------------------------------------------- what it is for


def test_pairs_make_new_patients_less_readable_and_the_task_stays():
    train, new = cohort(350, seed=98), cohort(800, seed=198, both=False)
    start = encoder()
    before = start.digest
    done = tuned(train, start=start, objective="pairs")
    assert not done.is_untouched
    assert "full, pairs" in done.reasons[0]
    assert start.digest == before == done.encoder.tuned_from
    raw, clean = (left(one, train, new) for one in (start, done.encoder))
    assert clean.high < raw.low
    z = done.encoder.embed(new)
    assert Judge([target(new)], outcome(new), new.patients, 0.02).score(z).task > 0.95
    assert [p.requires_grad for p in done.encoder.parameters()] == [
        p.requires_grad for p in start.parameters()
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "rate", "strength", "seed"), [("lora", 3e-3, 1.0, 98), ("full", 1e-3, 4.0, 99)]
)
def test_an_adversary_makes_new_patients_less_readable(mode, rate, strength, seed):
    train, new = cohort(1500, seed, both=False), cohort(1000, 100 + seed, both=False)
    how = Tune(mode, epochs=12, batch=30, learning_rate=rate, strength=strength)
    done = tuned(train, how)
    assert not done.is_untouched
    assert left(done.encoder, train, new).estimate < left(encoder(), train, new).estimate - 0.04


def test_where_no_epoch_is_better_the_very_encoder_comes_back_and_that_is_said():
    start = encoder()
    how = Tune("lora", epochs=1, batch=20, learning_rate=1e-9)
    done = tuned(cohort(200), how, start, objective="pairs")
    assert done.encoder is start
    assert done.is_untouched
    assert "left untouched: in 1 epochs of lora none" in done.reasons[0]


def test_where_nothing_can_be_read_nothing_is_trained():
    of = cohort(120)
    blind = deconf.load_encoder(
        torch.nn.Sequential(torch.nn.AvgPool2d(16), torch.nn.Flatten(), torch.nn.Linear(1, 2)),
        preprocess=Preprocess(height=16, width=16, channels=1),
    )
    with torch.no_grad():
        blind.module[2].weight.zero_()
    done = tuned(of, start=blind, objective="pairs")
    assert done.encoder is blind
    assert "untouched: nothing to remove, fresh attackers" in done.reasons[0]
    assert "read 'portable' at AUROC 0.50 [0.50, 0.50]" in done.reasons[0]


def test_where_too_few_are_held_out_to_tell_nothing_is_trained_and_that_is_said(monkeypatch):
    """The trace is there: of 350 patients it is read.  Of 80 no attacker is surer than luck."""
    monkeypatch.setattr(own.Run, "loss", lambda *_: pytest.fail("trained"))
    start = encoder()
    done = tuned(cohort(80), start=start, objective="pairs")
    assert done.encoder is start
    assert "too few patients are held out to tell whether anything is left" in done.reasons[0]
    assert re.search(r"AUROC 0\.\d\d \[0\.\d\d, \d\.\d\d\].*12 held-out pat", done.reasons[0])


@pytest.mark.usefixtures("lenient")
def test_only_corrections_are_trained_and_batch_norm_keeps_its_statistics():
    start = encoder()
    done = tuned(cohort(200), Tune("lora", rank=2, epochs=3, batch=20, budget=1.0), start,
                 objective="pairs")  # fmt: skip
    assert not done.is_untouched
    pairs = zip(start.module.state_dict().items(), done.encoder.module.state_dict().values(),
                strict=True)  # fmt: skip
    for (name, before), after in pairs:
        is_corrected = name in ("body.3.weight", "body.7.weight", "body.10.weight")
        assert torch.equal(before, after) != is_corrected, name
        if is_corrected:
            change = (after - before).flatten(1)
            assert int(torch.linalg.matrix_rank(change, rtol=1e-4)) <= 2


# ---------------------------------------------------------------- resumed to the same bits

SOON = Tune("full", epochs=2, batch=8, learning_rate=1e-3, budget=1.0)  # five steps an epoch
KILLED = """
import os, signal, sys
from tests.tuning.films import Small
from tests.tuning.test_encoder import resumable
left = 8
whole = Small.forward
def forward(self, x):
    global left
    left -= self.training
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, x)
Small.forward = forward
resumable(sys.argv[1])
"""


def resumable(folder):
    torch.set_num_threads(1)
    own.EVERY, Judge.idle = 2, ""  # so few are trained on although nobody could tell what for
    return tuned(cohort(60), SOON, objective="pairs", checkpoint=folder)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(own, "EVERY", 2)
    monkeypatch.setattr(Judge, "idle", "")
    threads = torch.get_num_threads()
    whole = resumable(tmp_path / "whole")
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "cut")],
        capture_output=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = load_file(tmp_path / "cut" / "last.safetensors")
    assert (len(left["history"]), int(left["step"])) == (1, 2)  # inside the second epoch
    steps = []
    loss = own.Run.loss
    monkeypatch.setattr(own.Run, "loss", lambda *a: steps.append(1) or loss(*a))
    resumed = resumable(tmp_path / "cut")
    torch.set_num_threads(threads)
    assert len(steps) == 3
    assert resumed.encoder.digest == whole.encoder.digest
    assert resumed.reasons == whole.reasons
    ends = [(tmp_path / run / "last.safetensors").read_bytes() for run in ("whole", "cut")]
    assert ends[0] == ends[1]  # weights, moments of the optimiser, heads


@pytest.mark.usefixtures("lenient")
def test_a_finished_run_is_read_back_and_another_run_is_refused(tmp_path, monkeypatch):
    of = cohort(80)
    how = Tune("full", epochs=1, batch=20, learning_rate=1e-3, budget=1.0)
    first = tuned(of, how, objective="pairs", checkpoint=tmp_path)
    monkeypatch.setattr(own.Run, "loss", lambda *_: pytest.fail("trained again"))
    again = tuned(of, how, objective="pairs", checkpoint=tmp_path)
    assert again.reasons == first.reasons
    assert again.encoder.digest == first.encoder.digest
    assert not first.is_untouched
    with pytest.raises(SettingsError, match="a run with another settings: name another folder"):
        tuned(of, FAST, objective="pairs", checkpoint=tmp_path)
    with pytest.raises(SettingsError, match="a run with another cohort"):
        tuned(cohort(80, seed=99), how, objective="pairs", checkpoint=tmp_path)
    for y in (1 - outcome(of), None):
        with pytest.raises(SettingsError, match="a run with another outcome"):
            tuned(of, how, objective="pairs", checkpoint=tmp_path, outcome=y)
    with pytest.raises(SettingsError, match="a run with another closed form"):
        tuned(of, how, objective="pairs", checkpoint=tmp_path, closed_form={"method": "other"})


@pytest.mark.usefixtures("lenient")
def test_the_door_takes_no_encoder_that_was_trained_for_another_outcome_or_closed_form(tmp_path):
    images, table = films(80)
    table["other"] = table["patient"] % 2
    how = Tune("full", epochs=1, batch=20, learning_rate=1e-3, budget=1.0)

    def fit(outcome="ill", **settings):
        of = deconf.Cohort.from_arrays(images, table, patient="patient", outcome=outcome)
        method = Paired(tune=how, **settings)
        cleaner = deconf.deconfound(encoder(), "portable", given=(), method=method)
        return cleaner.fit(of, checkpoint=tmp_path)

    first = fit()
    assert fit().encoder.digest == first.encoder.digest
    with pytest.raises(SettingsError, match="a run with another outcome"):
        fit("other")
    with pytest.raises(SettingsError, match="a run with another closed form"):
        fit(rank="full")


# ---------------------------------------------------------------- images, pairs, what is refused


def test_images_are_read_as_the_encoder_reads_them(tmp_path):
    pictures, table = films(12)
    names = [f"{i:02d}.png" for i in range(len(pictures))]
    for name, picture in zip(names, pictures, strict=True):
        Image.fromarray(picture).save(tmp_path / name)
    table.assign(image=names).to_csv(tmp_path / "films.csv", index=False)
    files = deconf.Cohort.read(tmp_path / "films.csv", image="image", patient="patient")
    arrays = deconf.Cohort.from_arrays(pictures, table, patient="patient")
    one = encoder()
    rows = np.array([3, 0, 3, 20])
    with Images(one, files) as read, Images(one, arrays) as held:
        read.soon(np.arange(6))
        assert torch.equal(read[rows], held[rows])
    (tmp_path / names[5]).write_bytes(b"no film")
    with Images(one, files) as read, pytest.raises(ReadError, match=r"05\.png"):
        read[np.array([5])]


def test_pairs_are_of_one_patient_and_stratum_at_two_levels():
    codes = np.array([0, 1, 2, 0, 1, 1, -1, 0])
    patients = np.array([1, 1, 1, 2, 2, 2, 1, 3])
    one = Target("x", codes, np.zeros(8, int))
    found = pairs_of(one, patients, np.arange(8)).tolist()
    assert found == [[0, 1], [0, 2], [1, 2], [3, 4]]
    apart = Target("x", codes, np.array([0, 0, 1, 0, 1, 1, 0, 0]))
    assert pairs_of(apart, patients, np.arange(8)).tolist() == [[0, 1]]
    assert pairs_of(one, patients, np.array([0, 3, 4])).tolist() == [[3, 4]]


@pytest.mark.usefixtures("lenient")
def test_too_few_pairs_for_a_batch_and_stored_embeddings_are_refused():
    with pytest.raises(CohortError, match=r"pairs of films of one patient.*batch takes 64"):
        tuned(cohort(60), Tune("full"), objective="pairs")
    of = cohort(80).with_embeddings(np.zeros((160, 3)))  # nor where nothing is to be removed
    for method in (Paired(tune="lora"), CDANN(tune="lora")):
        cleaner = deconf.deconfound("stored", "portable", method=method)
        with pytest.raises(SettingsError, match=r"'stored' has no encoder.*tune='none'"):
            cleaner.fit(of)
    with pytest.raises(SettingsError, match=r"'stored' has no encoder"):
        tuned(of, start=deconf.load_encoder("stored"))


def test_a_tune_within_a_method_and_a_checkpoint_without_one_are_refused(tmp_path):
    for tune in ("full", Tune("lora", rank=2)):
        says = r"start is Paired\(tune=.*pass method=Paired\(tune=...\).*tune='none' in start"
        with pytest.raises(SettingsError, match=says):
            CDANN(start=Paired(tune=tune))
        with pytest.raises(SettingsError, match=r"trained is DANN\(tune=.*pass method=DANN\("):
            Auto(trained=DANN(tune=tune))
    with pytest.raises(SettingsError, match="start is Paired"):
        configured("mmd", {"start": {"name": "paired", "settings": {"tune": "lora"}}})
    assert CDANN(start=Paired(), tune="lora").start == Paired()
    assert Auto(trained=CDANN(start=Paired())).trained == CDANN(start=Paired())
    for method in ("leace", "paired", "auto"):
        cleaner = deconf.deconfound(encoder(), "portable", method=method)
        says = rf"run' keeps .* '{method}' .*method=CDANN\(tune='lora'"
        with pytest.raises(SettingsError, match=says):
            cleaner.fit(cohort(60), checkpoint=tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"mode": "half"}, "'none', 'lora' or 'full', not 'half'"),
        ({"rank": 0}, "rank is 0"),
        ({"budget": -1.0}, r"budget is -1\.0"),
        ({"learning_rate": 0.0}, r"learning_rate is 0\.0"),
        ({"learning_rate": "x"}, "learning_rate is 'x': expected a number above zero"),
        ({"strength": "x"}, "strength is 'x': expected a number"),
        ({"keep": True}, "keep is True: expected a number"),
        ({"budget": float("nan")}, "budget is nan"),
        ({"rank": 2.5}, r"rank is 2\.5: expected a whole number"),
        ({"batch": 10, "accumulate": 4}, "batch of 10 .* 4 equal parts"),
    ],
)
def test_settings_that_cannot_be_are_named(wrong, words):
    with pytest.raises(SettingsError, match=words):
        Tune(**wrong)
    for method in (Paired, DANN, CDANN, Critic):
        with pytest.raises(SettingsError, match=words):
            method(tune=wrong)


def test_numbers_of_numpy_are_the_numbers_they_stand_for():
    written = Tune(np.str_("full"), rank=np.int64(4), strength=np.float32(2))
    assert written == Tune("full", rank=4, strength=2.0)
    assert (type(written.mode), type(written.strength)) == (str, float)


# ---------------------------------------------------------------- through the front door


@pytest.mark.usefixtures("lenient")
def test_the_door_tunes_cleans_saves_loads_folds_and_certifies_its_settings(tmp_path):
    of, new = cohort(150), cohort(40, seed=99, both=False)
    cleaner = deconf.deconfound(encoder(), "portable", method=Paired(tune=FAST))
    assert "150 patients have films at two levels" in str(cleaner.plan(of))
    clean = cleaner.fit(of)
    assert clean.reasons[0].startswith("encoder tuned (full, pairs)")
    assert clean.encoder.tuned_from == encoder().digest
    z = clean.embed(new)
    folder = clean.save(tmp_path / "clean")
    for start in (encoder(), encoder(seed=5)):  # any of its build: the weights are in the folder
        again = deconf.load(folder, start)
        assert_array_equal(again.embed(new), z)
        assert again.encoder.digest == clean.encoder.digest
    with pytest.raises(SettingsError, match="is built otherwise"):
        deconf.load(folder, deconf.load_encoder(torch.nn.Linear(3, 2)))
    with pytest.raises(SettingsError, match="fitted on another encoder: pass it"):
        deconf.load(folder)
    x = torch.stack([clean.encoder.preprocess(p) for p in films(40, 99, False)[0]])
    with torch.inference_mode():
        np.testing.assert_allclose(clean.fold()(x).numpy(), z, atol=1e-4)
    (folder / "encoder.safetensors").write_bytes(b"other")
    with pytest.raises(ReadError, match=r"encoder\.safetensors is missing or was altered"):
        deconf.load(folder, encoder())
    plain = deconf.deconfound(encoder(), "portable", method="paired").fit(of).save(folder)
    assert not (plain / "encoder.safetensors").is_file()  # that of the map before is gone
    told = cleaner.settings["method"]
    assert methods[told["name"]](**told["settings"]).tune == FAST
    assert Tune.of(told["settings"]["tune"]) == FAST


@pytest.mark.usefixtures("lenient")
def test_adversarial_methods_tune_against_adversaries_of_the_encoder():
    of = cohort(120, both=False)
    brief = Rounds(count=1, steps=4, batch=32, hidden=8)
    cleaner = deconf.deconfound(encoder(), "portable", method=CDANN(tune=FAST, rounds=brief))
    clean = cleaner.fit(of)
    told = ("encoder tuned (full, adversary)", "encoder left untouched: in 5 epochs of full")
    assert clean.reasons[0].startswith(told)  # trained, and then judged
    assert "cdann" in " ".join(clean.reasons[1:])


@pytest.mark.slow
def test_a_comparison_trains_in_every_fold_and_the_certificate_can_be_made_again():
    of = cohort(300)
    how = Tune("full", epochs=3, batch=20, learning_rate=1e-3, budget=1.0)
    start = encoder()
    cleaner = deconf.deconfound(start, "portable", method=Paired(tune=how))
    report = deconf.compare({"raw": start, "tuned": cleaner}, of, folds=2)
    frame = report.to_frame()
    own = frame[frame["representation"] == "tuned"]
    assert {"AUROC"} <= set(own[own["status"] == "ok"]["metric"])
    assert not own["reason"].str.contains("stored").any()
    assert start.digest == encoder().digest
    clean = cleaner.fit(of)
    assert deconf.verify(clean, of).passed


@pytest.mark.gpu
@pytest.mark.slow
def test_a_vision_transformer_is_tuned_in_bfloat16_on_a_gpu():
    from benchmarks.tune import measured

    found = measured("vit_base_patch16_224", "lora", batch=64, steps=8, device="cuda")
    assert found["precision"] == "bfloat16"
    assert found["samples_per_s"] > 0


def test_the_benchmark_runs_on_a_small_net_on_the_cpu():
    from benchmarks.tune import measured

    found = measured("vit_tiny_patch16_224", "lora", batch=2, steps=1, device="cpu", size=32)
    assert found["precision"] == "float32"
    assert 0 < found["trained"] < 1_000_000 < 5_000_000
    assert found["samples_per_s"] > 0
