from __future__ import annotations

import copy
import hashlib
import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

import deconf
from deconf.errors import (
    CohortError,
    LeakageError,
    OverlapWarning,
    ReadError,
    SettingsError,
)
from deconf.methods import LEACE, Aligned
from deconf.worlds import linear

WORLD = linear(n=500, d=24)
TRAIN, OTHERS = WORLD.train().cohort, WORLD.test("aligned", 300).cohort


def fitted(method="leace", data=TRAIN, encoder="stored", **settings):
    cleaner = deconf.deconfound(encoder, "portable", graph=WORLD.graph, method=method, **settings)
    return cleaner.fit(data)


class Pooled(nn.Module):
    """A small convolutional encoder with batch norm and dropout: eval mode must matter."""

    def __init__(self, width=6, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.stem = nn.Conv2d(1, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.5)
        with torch.no_grad():
            for p in self.stem.parameters():
                p.copy_(torch.randn(p.shape, generator=generator))

    def forward(self, images):
        return self.drop(self.norm(self.stem(images)).relu()).mean(dim=(2, 3))


def films(n=240, seed=0):
    """Return image tensors in which disease is a bright patch and portable a bright frame."""
    rng = np.random.default_rng(seed)
    ill = rng.integers(2, size=n)
    portable = (rng.random(n) < 0.3 + 0.4 * ill).astype(int)
    images = rng.normal(size=(n, 1, 8, 8))
    images[:, 0, 3:5, 3:5] += 2.0 * ill[:, None, None]
    images[:, 0, :2] += 1.5 * portable[:, None, None]
    table = pd.DataFrame(
        {"patient_id": [f"P{seed}-{i}" for i in range(n)], "portable": portable, "ill": ill}
    )
    return deconf.Cohort.from_arrays(images, table, patient="patient_id", outcome="ill")


def gap(z, cohort):
    """Return how far the two devices lie apart among films alike in disease, in sd."""
    table = cohort.table
    outcome = table[cohort.outcomes[0]].to_numpy()
    worst = 0.0
    for y in (0, 1):
        a, b = (z[(outcome == y) & (table["portable"] == c)] for c in (0, 1))
        worst = max(worst, float(np.linalg.norm((a.mean(0) - b.mean(0)) / z.std(0).max())))
    return worst


# ---------------------------------------------------------------- embed and forward


def test_embeddings_are_float32_and_the_same_from_a_cohort_an_array_and_a_tensor():
    clean = fitted()
    z = clean.embed(OTHERS)
    assert z.dtype == np.float32
    assert z.shape == OTHERS.embeddings.shape
    assert_array_equal(z, clean.embed(OTHERS.embeddings))
    assert_array_equal(z, clean.embed(torch.tensor(OTHERS.embeddings)))
    assert_array_equal(z, clean.embed(OTHERS.embeddings.astype(np.float64)))
    assert_array_equal(z, clean(torch.tensor(OTHERS.embeddings)).numpy())
    assert clean.width == 24


@pytest.mark.parametrize("method", ["leace", "aligned", "quadratic"])
def test_an_image_is_cleaned_alone_as_it_is_among_others(method):
    clean = fitted(method)
    together = clean.embed(OTHERS.embeddings)
    alone = np.vstack([clean.embed(row[None]) for row in OTHERS.embeddings[:20]])
    assert_allclose(alone, together[:20], atol=1e-5)


def test_embeddings_of_another_width_are_refused_with_both_numbers():
    with pytest.raises(CohortError, match=r"23 columns; this map was fitted on 24.*another enc"):
        fitted().embed(OTHERS.embeddings[:, :-1])


def test_images_are_cleaned_end_to_end_and_the_encoder_is_left_as_it_was():
    train, fresh = films(), films(seed=1)
    encoder = Pooled()
    encoder.stem.eval()  # a part frozen on purpose
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    modes = [m.training for m in encoder.modules()]
    clean = deconf.deconfound(encoder, "portable", method="leace").fit(train)
    z = clean.embed(fresh)
    assert z.shape == (240, 6)
    raw = deconf.load_encoder(encoder).embed(fresh)
    assert gap(raw, fresh) > 1.0
    assert gap(z, fresh) < 0.5 * gap(raw, fresh)
    assert [m.training for m in encoder.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert_array_equal(z, clean.embed(fresh.embeddings))  # images as an array
    assert_array_equal(z, clean.embed(fresh.embeddings.astype(np.float64)))


def test_raw_embeddings_of_an_image_encoder_are_cleaned_without_encoding_them_again():
    train, fresh = films(), films(seed=1)
    encoder = Pooled()
    clean = deconf.deconfound(encoder, "portable", method="leace").fit(train)
    raw = deconf.load_encoder(encoder).embed(fresh)
    assert_array_equal(clean.embed(raw), clean.embed(fresh))


def test_an_encoder_of_vectors_encodes_the_vectors_it_is_given():
    torch.manual_seed(0)
    encoder = nn.Linear(24, 24)
    clean = fitted(encoder=encoder)
    assert_array_equal(clean.embed(OTHERS), clean.embed(OTHERS.embeddings))
    raw = encoder(torch.tensor(OTHERS.embeddings)).detach()
    assert_allclose(clean.embed(OTHERS), clean.map(raw).numpy(), atol=1e-5)


def test_gradients_reach_the_encoder_and_the_map_stays_fixed():
    encoder = Pooled().eval()
    clean = deconf.deconfound(encoder, "portable", method="leace").fit(films())
    assert list(dict(clean.named_parameters())) == [
        "encoder.module." + name for name, _ in encoder.named_parameters()
    ]
    images = torch.tensor(films(seed=1).embeddings[:8])
    z = clean(images)
    assert_allclose(z.detach().numpy(), clean.embed(images), atol=1e-6)
    z.square().sum().backward()
    slope = encoder.stem.weight.grad
    assert torch.isfinite(slope).all()
    assert slope.abs().max() > 0
    # By the central difference of one weight; at kinks of the relu it is off a little.
    with torch.no_grad():
        step, sums = 1e-3, []
        for sign in (1, -1):
            encoder.stem.weight[0, 0, 0, 0] += sign * step
            sums.append(clean(images).double().square().sum().item())
            encoder.stem.weight[0, 0, 0, 0] -= sign * step
    assert slope[0, 0, 0, 0].item() == pytest.approx((sums[0] - sums[1]) / (2 * step), rel=0.05)


def test_no_gradient_flows_through_an_erased_direction():
    clean = fitted(LEACE(rank="full"))
    z = torch.tensor(OTHERS.embeddings, requires_grad=True)
    clean(z).sum().backward()
    erased = clean.map.left  # (d, r): moving along it changes nothing
    assert erased.shape[1] > 0
    assert_allclose(z.grad.double() @ erased, 0, atol=1e-4)


def test_a_map_that_reads_confounders_says_so_wherever_they_are_missing():
    clean = fitted(Aligned(read="record"), at_inference=True)
    assert clean.needs_confounders
    z = torch.tensor(OTHERS.embeddings)
    with pytest.raises(SettingsError, match="reads the confounder of each image"):
        clean(z)
    c = torch.tensor(clean.encoding.encode(OTHERS.table)[0])
    assert_allclose(clean(z, c).numpy(), clean.embed(OTHERS), atol=1e-6)
    assert not fitted().needs_confounders


# ---------------------------------------------------------------- a site never seen


def sites(name, n=300, seed=0):
    """Return embeddings of one site, shifted and stretched by its number."""
    rng = np.random.default_rng([seed, ord(name[0])])
    number = ord(name[0]) - ord("A")
    z = rng.normal(size=(n, 6)) * (1 + number) + 5 * number
    ids = [f"{name}-{i}" for i in range(n)]
    return deconf.Cohort.from_arrays(
        z, pd.DataFrame({"id": ids, "site": name}), patient="id", site="site"
    )


def harmonised():
    both = [sites("A"), sites("B")]
    train = deconf.Cohort.from_arrays(
        np.vstack([c.embeddings for c in both]),
        pd.concat([c.table for c in both], ignore_index=True),
        patient="id",
    )
    return deconf.deconfound("stored", "site", method="combat", at_inference=True).fit(train), train


def test_a_site_never_seen_is_calibrated_by_its_own_images_without_labels(tmp_path):
    clean, train = harmonised()
    there = clean.calibrated(sites("D", seed=1))
    new = sites("D", seed=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a correction is known now
        after = there.embed(new)
    goal = clean.embed(train)
    assert_allclose(after.mean(0), goal.mean(0), atol=0.5)
    assert_allclose(after.std(0), goal.std(0), rtol=0.2)
    with pytest.warns(OverlapWarning, match="300 of 300 rows have a level of site"):
        assert_allclose(clean.embed(new), new.embeddings, atol=1e-5)  # as it was
    assert_array_equal(there.embed(train), goal)  # known sites are where they were
    assert "calibrated for a site unseen in training by 300" in there.reasons[-1]
    with pytest.raises(SettingsError, match="without its training cohort"):
        _ = there.certificate
    there.save(tmp_path)
    assert_array_equal(deconf.load(tmp_path).embed(new), after)


def test_calibration_refuses_known_sites_other_methods_and_a_missing_record():
    clean, train = harmonised()
    with pytest.raises(CohortError, match="600 of 600 images have a level of site that training"):
        clean.calibrated(train)
    with pytest.raises(SettingsError, match="only maps of method='combat'"):
        fitted().calibrated(OTHERS)
    there = clean.calibrated(sites("D").embeddings)
    table = sites("D").table.assign(site=None)
    with pytest.raises(CohortError, match="300 of 300 rows do not say their site"):
        there.embed(deconf.Cohort.from_arrays(sites("D").embeddings, table, patient="id"))


# ---------------------------------------------------------------- fold


@pytest.mark.parametrize("method", ["leace", "quadratic", LEACE(rank="full"), "reweight"])
def test_folding_gives_one_linear_layer_that_says_the_same(method):
    world = linear(n=500, d=24, trace="rotation+gain")
    clean = fitted(method, data=world.train().cohort)
    layer = clean.fold()
    assert isinstance(layer, nn.Linear)
    assert not any(p.requires_grad for p in layer.parameters())
    z = torch.tensor(OTHERS.embeddings)
    assert_allclose(layer(z).numpy(), clean.embed(OTHERS), atol=1e-5)


def test_folding_keeps_the_encoder_in_front():
    train, fresh = films(), films(seed=1)
    clean = deconf.deconfound(Pooled().eval(), "portable", method="leace").fit(train)
    folded = clean.fold()
    assert isinstance(folded[-1], nn.Linear)
    with torch.no_grad():
        out = folded(torch.tensor(fresh.embeddings)).numpy()
    assert_allclose(out, clean.embed(fresh), atol=1e-5)


def test_maps_over_several_sets_fold_into_one_layer():
    clean = fitted(LEACE(rank="full"))
    first = fitted(LEACE(rank="full"), data=OTHERS)
    from deconf.maths.maps import Chain

    clean.map = Chain(clean.map, first.map)
    z = torch.tensor(OTHERS.embeddings)
    assert_allclose(clean.fold()(z).numpy(), clean.map(z).numpy(), atol=1e-5)


def test_a_map_that_is_not_affine_is_not_folded():
    with pytest.raises(SettingsError, match=r"'aligned' is not affine.*method='leace'"):
        fitted("aligned").fold()


# ---------------------------------------------------------------- save and load


@pytest.mark.parametrize(
    "method",
    ["leace", "aligned", "quadratic", "reweight", Aligned(read="record"), "centre"],
)
def test_a_saved_map_comes_back_to_the_bit(method, tmp_path):
    at_inference = method == "centre" or isinstance(method, Aligned)
    clean = fitted(method, at_inference=at_inference)
    back = deconf.load(clean.save(tmp_path / "map"))
    assert_array_equal(back.embed(OTHERS), clean.embed(OTHERS))
    assert back.method == clean.method
    assert back.reasons == clean.reasons
    assert str(back.plan) == str(clean.plan)
    assert back.plan.is_identified == clean.plan.is_identified
    assert back.plan.invariances == dict(clean.plan.invariances)
    assert back.needs_confounders == clean.needs_confounders
    if clean.weights is None:
        assert back.weights is None
    else:
        assert_array_equal(back.weights, clean.weights)
    again = deconf.load(back.save(tmp_path / "again"))
    assert_array_equal(again.embed(OTHERS), clean.embed(OTHERS))


def test_head_weights_are_saved_with_the_map(tmp_path):
    clean = fitted("reweight")
    assert clean.weights is not None
    assert len(np.unique(clean.weights.round(6))) > 2
    assert_array_equal(deconf.load(clean.save(tmp_path)).weights, clean.weights)


def test_an_identity_and_a_chain_over_two_sets_come_back(tmp_path):
    nothing = deconf.deconfound(
        "stored", "portable", graph="severity -> portable; pneumonia -> image"
    ).fit(TRAIN)
    back = deconf.load(nothing.save(tmp_path / "identity"))
    assert_array_equal(back.embed(OTHERS), OTHERS.embeddings)


def test_a_loaded_map_still_carries_what_was_assumed(tmp_path):
    clean = fitted(given="pneumonia")
    back = deconf.load(clean.save(tmp_path))
    assert any("your assumption" in a for a in back.plan.invariances["portable"].assumptions)
    found = deconf.audit(back, OTHERS, "portable", attackers=["logistic"])
    assert found.invariances["portable"].given == ("pneumonia",)


def test_an_encoder_is_asked_for_and_must_be_the_one_of_the_fit(tmp_path):
    train, fresh = films(), films(seed=1)
    encoder = Pooled()
    clean = deconf.deconfound(encoder, "portable", method="leace").fit(train)
    folder = clean.save(tmp_path)
    assert not any(b"stem" in p.read_bytes() for p in folder.iterdir())  # its weights stay out
    assert_array_equal(deconf.load(folder, encoder).embed(fresh), clean.embed(fresh))
    twin = copy.deepcopy(encoder)
    assert_array_equal(deconf.load(folder, twin).embed(fresh), clean.embed(fresh))
    raw = deconf.load_encoder(encoder).embed(fresh)
    assert_array_equal(deconf.load(folder, encoder).embed(raw), clean.embed(fresh))
    with pytest.raises(SettingsError, match=r"another encoder: pass it, as load\(folder, enc"):
        deconf.load(folder)
    with pytest.raises(SettingsError, match="another encoder: its weights differ"):
        deconf.load(folder, Pooled(seed=1))
    with torch.no_grad():
        twin.stem.bias[0] += 1e-6
    with pytest.raises(SettingsError, match="weights differ"):
        deconf.load(folder, twin)


@pytest.mark.parametrize("name", ["deconf.json", "map.safetensors"])
def test_one_byte_changed_anywhere_is_found(name, tmp_path):
    file = fitted("reweight").save(tmp_path) / name
    sound = file.read_bytes()
    places = {0, 1, 7, 8, 63, 64, 65, 66, len(sound) - 2, len(sound) - 1}
    places |= set(np.random.default_rng(0).integers(len(sound), size=40).tolist())
    for place in sorted(places):
        for change in (1, 128):  # another character; no character at all
            spoilt = bytearray(sound)
            spoilt[place] ^= change
            file.write_bytes(spoilt)
            with pytest.raises(ReadError, match=rf"{re.escape(name)}.*(altered|cut short)"):
                deconf.load(tmp_path)
    file.write_bytes(sound)
    deconf.load(tmp_path)


@pytest.mark.parametrize("name", ["deconf.json", "map.safetensors"])
@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_a_file_cut_short_is_found(name, left, tmp_path):
    file = fitted().save(tmp_path) / name
    file.write_bytes(file.read_bytes()[: int(left * file.stat().st_size)])
    with pytest.raises(ReadError, match=re.escape(name)):
        deconf.load(tmp_path)


@pytest.mark.parametrize("name", ["deconf.json", "map.safetensors"])
def test_a_missing_file_is_named(name, tmp_path):
    (fitted().save(tmp_path) / name).unlink()
    with pytest.raises(ReadError, match=rf"holds no {re.escape(name)}.*written by .save"):
        deconf.load(tmp_path)
    with pytest.raises(ReadError, match=r"holds no deconf\.json"):
        deconf.load(tmp_path / "nowhere")


def test_files_of_two_maps_do_not_mix(tmp_path):
    first, second = fitted().save(tmp_path / "a"), fitted(data=OTHERS).save(tmp_path / "b")
    (first / "map.safetensors").write_bytes((second / "map.safetensors").read_bytes())
    with pytest.raises(ReadError, match=r"map\.safetensors was altered"):
        deconf.load(first)


def test_saving_twice_overwrites_and_reads_back(tmp_path):
    fitted().save(tmp_path)
    clean = fitted("quadratic", data=OTHERS)
    assert_array_equal(deconf.load(clean.save(tmp_path)).embed(TRAIN), clean.embed(TRAIN))


def test_no_saved_byte_names_a_patient(tmp_path):
    names = [f"Ann-{i:04d}-Smith" for i in TRAIN.patients.astype("U").astype(object).argsort()]
    table = TRAIN.table.assign(patient_id=names, image=[f"{n}.dcm" for n in names])
    data = deconf.Cohort.from_arrays(
        TRAIN.embeddings, table, patient="patient_id", image="image", outcome="pneumonia"
    )
    clean = fitted("leace", data=data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OverlapWarning)
        str(clean.certificate)
    written = b"".join(p.read_bytes() for p in clean.save(tmp_path).rglob("*") if p.is_file())
    assert b"Smith" not in written
    assert b"0123-" not in written
    assert str(clean.plan)
    assert "Smith" not in repr(clean) + str(clean.plan) + " ".join(clean.reasons)


# ---------------------------------------------------------------- patients seen


def test_the_map_is_not_judged_on_its_own_patients_also_after_loading(tmp_path):
    clean = fitted()
    back = deconf.load(clean.save(tmp_path))
    for one in (clean, back):
        one.require_unseen(OTHERS)
        with pytest.raises(LeakageError, match=r"1 of these patients were in the .*hold these"):
            one.require_unseen(TRAIN.subset([0]))
        with pytest.raises(LeakageError, match="fitted on"):
            deconf.audit(one, TRAIN, "portable")


def test_a_seen_patient_is_known_again_by_another_film_and_by_an_id_read_as_text():
    z = TRAIN.embeddings
    table = TRAIN.table.assign(patient_id=np.arange(len(TRAIN)))
    clean = fitted(data=deconf.Cohort.from_arrays(z, table, patient="patient_id",
                                                  outcome="pneumonia"))  # fmt: skip
    other_film = deconf.Cohort.from_arrays(
        z[:3] + 1.0, table[:3].assign(patient_id=["7", "b", "c"]), patient="patient_id"
    )
    with pytest.raises(LeakageError, match="1 of these patients"):
        clean.require_unseen(other_film)


def test_without_patients_the_same_embedding_is_known_again():
    data = deconf.Cohort.from_arrays(
        TRAIN.embeddings, TRAIN.table.drop(columns="patient_id"), outcome="pneumonia"
    )
    clean = fitted(data=data)
    with pytest.raises(LeakageError, match="5 of these patients"):
        clean.require_unseen(data.subset(np.arange(5)))


def test_two_fits_hide_the_same_patient_behind_different_digests(tmp_path):
    told = []
    for name in "ab":
        record = (fitted().save(tmp_path / name) / "deconf.json").read_text().split("\n", 1)[1]
        told.append(set(json.loads(record)["patients"]))
    assert len(told[0]) == len(np.unique(TRAIN.patients))
    assert not told[0] & told[1]


# ---------------------------------------------------------------- certificate


class Watched(deconf.Deconfounder):
    """Remembers which patients each fit was given."""

    def fit(self, cohort, **more):
        self.__dict__.setdefault("seen", []).append(set(cohort.patients))
        return super().fit(cohort, **more)


def watched(**settings):
    plain = deconf.deconfound("stored", "portable", graph=WORLD.graph, method="leace")
    fields = {k: getattr(plain, k) for k in plain.__dataclass_fields__}
    return Watched(**(fields | settings))


def test_the_certificate_is_made_on_first_use_on_patients_the_fit_has_not_seen():
    cleaner = watched(seed=1)
    clean = cleaner.fit(TRAIN)
    assert len(cleaner.seen) == 1  # nothing audited yet
    found = clean.certificate
    assert len(cleaner.seen) > 1
    everyone = set(TRAIN.patients)
    for half in cleaner.seen[1:]:
        assert half < everyone
    assert 0 < found.verdict["portable"].n <= len(everyone - cleaner.seen[1])
    assert str(found.verdict["portable"]) in ("clean", "leaks", "undecided")
    assert clean.certificate is found  # once


def test_a_certificate_on_other_patients_judges_this_very_map():
    cleaner = watched()
    clean = cleaner.fit(TRAIN, audit_on=OTHERS)
    found = clean.certificate
    assert len(cleaner.seen) == 1  # no refit
    alike = deconf.audit(clean, OTHERS, "portable")
    assert found.to_frame().equals(alike.to_frame())


def test_a_certificate_on_the_patients_of_the_fit_is_refused():
    clean = fitted()
    mixed = deconf.deconfound("stored", "portable", graph=WORLD.graph, method="leace").fit(
        TRAIN, audit_on=TRAIN.subset(np.arange(200))
    )
    with pytest.raises(LeakageError):
        _ = mixed.certificate
    del clean


def test_a_saved_certificate_comes_back_whole_and_a_missing_one_is_explained(tmp_path):
    without = deconf.load(fitted().save(tmp_path / "without"))
    with pytest.raises(SettingsError, match=r"without its training cohort.*deconf\.audit"):
        _ = without.certificate
    clean = fitted()
    made = clean.certificate
    assert deconf.load(clean.save(tmp_path / "with")).certificate == made


def test_a_map_saved_when_certificates_were_texts_still_loads(tmp_path):
    folder = fitted().save(tmp_path)
    record = json.loads((folder / "deconf.json").read_text().split("\n", 1)[1])
    record |= {"format": 1, "certificate": "portable: clean"}
    del record["certificate.json"]
    body = json.dumps(record, indent=1, sort_keys=True)
    seal = hashlib.sha256(body.encode()).hexdigest()
    (folder / "deconf.json").write_text(f"{seal}\n{body}\n")
    old = deconf.load(folder)
    assert old.embed(OTHERS).shape == OTHERS.embeddings.shape
    with pytest.raises(SettingsError, match="certificate"):
        _ = old.certificate


# ---------------------------------------------------------------- as a torch module


def test_the_map_survives_a_state_dict_and_a_deep_copy():
    clean, other = fitted(), fitted()
    state = clean.state_dict()
    assert any(k.startswith("map.") for k in state)
    other.load_state_dict(state)
    assert_array_equal(other.embed(OTHERS), clean.embed(OTHERS))
    assert_array_equal(copy.deepcopy(clean).embed(OTHERS), clean.embed(OTHERS))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_embeddings_of_any_precision_stay_in_it(dtype):
    clean = fitted()
    z = torch.tensor(OTHERS.embeddings, dtype=dtype)
    assert clean(z).dtype == dtype
    assert_allclose(clean(z).float().numpy(), clean.embed(OTHERS), atol=0.1)


def test_two_fits_do_not_share_anything():
    first, second = fitted(), fitted()
    with torch.no_grad():
        first.map.centre += 1e6
    assert_allclose(second.embed(OTHERS), fitted().embed(OTHERS))
