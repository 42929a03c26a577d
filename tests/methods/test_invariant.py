from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

from deconf.errors import CohortError, SettingsError
from deconf.maths.intervals import auroc
from deconf.maths.threads import one_thread
from deconf.methods import DFR, IBIRM, IRM, Fishr, GroupDRO, TestEnvironment, VREx, methods
from deconf.methods.base import resolve
from deconf.methods.described import configured
from deconf.methods.environments import Batch, Environments, calmed
from deconf.methods.group_dro import worst_group
from deconf.methods.ib_irm import feature_variance
from deconf.methods.irm import irm_penalty
from tests.reference import invariance

EVERY = (IRM, VREx, Fishr, IBIRM, GroupDRO, DFR)
QUICK = {"selection": "training", "hidden": 8, "epochs": 12, "batch": 256}
BY_ORACLE = QUICK | {"selection": "oracle"}


def sites(
    agree: tuple[float, ...] = (0.95, 0.75), n: int = 2000, d: int = 2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return z, y, site: column 0 causes y at every site, column 1 follows y more or less.

    The example of Arjovsky et al. (section 5.2) in small: y agrees with the sign of column 0 three
    times in four everywhere, with column 1 as often as ``agree`` says.
    """
    rng = np.random.default_rng(seed)
    site = np.repeat(np.arange(len(agree)), n)
    cause = rng.choice([-1.0, 1.0], size=len(site))
    y = np.where(rng.random(len(site)) < 0.75, cause > 0, cause < 0).astype(float)
    follows = rng.random(len(site)) < np.asarray(agree)[site]
    spurious = np.where(follows, 2 * y - 1, 1 - 2 * y)
    z = rng.normal(scale=0.3, size=(len(site), d))
    z[:, 0] += cause
    z[:, 1] += spurious
    return z, y, site


def fitted(method, z, y, site, **more):
    return method.fit(z, np.eye(site.max() + 1)[site], outcome=y, **more)


def last(method, z, y, site):
    """Return the map of the last epoch: what the loss asks for, before anybody selects."""
    data = Environments.of(z, np.eye(site.max() + 1)[site], y, None, None, "it")
    with one_thread(z.size):
        return method.learn(data, lambda *_: None, seed=0).frozen(data)


def leans(mapped) -> float:
    """Return by how much the log-odds rise with the spurious column, relative to the cause."""
    corners = torch.tensor([[a, b] for a in (-1.0, 1.0) for b in (-1.0, 1.0)])
    f = mapped.score(corners)[:, 0].reshape(2, 2)
    return float((f[:, 1] - f[:, 0]).mean() / (f[1] - f[0]).mean().abs())


def batch(seed: int = 0, rows: int = 60, environments: int = 3) -> tuple[Batch, nn.Linear]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, 5, generator=generator)
    head = nn.Linear(5, 1)
    y = torch.randint(2, (rows,), generator=generator).float()
    codes = torch.arange(rows) % 7 % environments
    logits = head(features)[:, 0]
    return Batch(features, logits, y, torch.ones(rows), codes, environments), head


def test_irm_equals_the_written_reference_to_the_last_step():
    z, y, site = sites(n=150, d=4)
    method = IRM(
        penalty=50.0, warmup=2 / 3, hidden=6, epochs=3, batch=100, weight_decay=0.1,
        selection="oracle", oracle=TestEnvironment(z, y),
    )  # fmt: skip
    mapped = fitted(method, z, y, site, seed=5)
    scale = np.maximum(z.std(0), np.sqrt((z.std(0) ** 2).mean()))  # loud columns brought down
    x = torch.tensor((z - z.mean(0)) / scale, dtype=torch.float32)
    reference = invariance.train_irm(
        x, torch.tensor(y, dtype=torch.float32), torch.tensor(site),
        hidden=6, epochs=3, batch=100, rate=2e-3, decay=0.1, penalty=50.0, warm_epochs=2, seed=5,
    )  # fmt: skip
    expected = reference(x).numpy()
    assert np.abs(expected).max() > 0.02  # three epochs of steps from zero
    assert_allclose(mapped.score(torch.tensor(z))[:, 0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_penalties_equal_loops_over_environments_with_autograd(seed):
    b, head = batch(seed)
    args = b.logits, b.y, b.codes
    assert_allclose(irm_penalty(b).item(), invariance.irm_penalty(*args).item(), rtol=1e-4)
    vrex = resolve("vrex").penalty_of(b, 2.0).item()
    assert_allclose(vrex, 2 * invariance.vrex_penalty(*args).item(), rtol=1e-4)
    expected = invariance.fishr_penalty(b.features, head, b.y, b.codes).item()
    assert_allclose(resolve("fishr").penalty_of(b, 3.0).item(), 3 * expected, rtol=1e-4)
    inside = [b.features[b.codes == e].var(0, correction=0).mean() for e in range(3)]
    assert_allclose(feature_variance(b).item(), np.mean([v.item() for v in inside]), rtol=1e-5)


def test_an_environment_absent_from_a_batch_changes_no_penalty():
    b, _ = batch()
    for method in map(resolve, ("irm", "vrex", "fishr", "ib_irm")):
        absent = method.penalty_of(replace(b, count=5), 1.0).item()
        assert_allclose(absent, method.penalty_of(b, 1.0).item(), rtol=1e-5)
    assert_allclose(replace(b, count=5).average().item(), b.average().item(), rtol=1e-6)


def test_a_weight_of_two_is_a_row_counted_twice_in_every_mean():
    b, _ = batch()
    times = 1 + torch.arange(60) % 2
    at = torch.repeat_interleave(torch.arange(60), times)
    twice = Batch(b.features[at], b.logits[at], b.y[at], torch.ones(len(at)), b.codes[at], 3)
    heavy = replace(b, weight=times.float())
    for method in map(resolve, ("vrex", "fishr")):
        counted = method.penalty_of(twice, 1.0).item()
        assert_allclose(method.penalty_of(heavy, 1.0).item(), counted, rtol=1e-4)
    for mean in (feature_variance, Batch.average):
        assert_allclose(mean(heavy).item(), mean(twice).item(), rtol=1e-4)


def test_the_penalty_estimated_from_halves_is_unbiased_where_the_square_is_not():
    generator = torch.Generator().manual_seed(0)
    products, squares = [], []
    for _ in range(2000):
        y = torch.randint(2, (32,), generator=generator).float()
        f = torch.randn(32, generator=generator)  # knows nothing: E[(σ(f) - y) f] = E[σ(f) f]
        b = Batch(f[:, None], f, y, torch.ones(32), torch.zeros(32, dtype=torch.int64), 1)
        products.append(irm_penalty(b).item())
        squares.append((b.residuals() * f).mean().item() ** 2)
    f = torch.randn(10**6, generator=generator)
    truth = (torch.sigmoid(f) * f).mean().item() ** 2
    error = np.std(products) / np.sqrt(2000)
    assert abs(np.mean(products) - truth) < 4 * error
    assert np.mean(squares) - truth > 4 * error


def test_a_strong_penalty_does_not_make_a_long_step():
    assert calmed(torch.tensor(1000.7), 1e4).item() == pytest.approx(0.10007)
    assert calmed(torch.tensor(0.75), 0.5).item() == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("method", "penalty"), [(IRM, 1000.0), (VREx, 300.0), (Fishr, 3000.0), (IBIRM, 1000.0)]
)
def test_the_spurious_feature_gets_less_weight_than_by_the_mean_risk(method, penalty):
    z, y, site = sites()
    settings = QUICK | {"batch": 1000, "epochs": 50, "warmup": 0.3, "learning_rate": 0.02}
    plain = leans(last(method(penalty=0.0, **settings), z, y, site))
    invariant = leans(last(method(penalty=penalty, **settings), z, y, site))
    assert plain > 1.2  # the shortcut is the better guide in these sites
    assert invariant < 0.6 * plain


def test_group_dro_serves_the_worst_cell_better_than_the_mean_risk_does():
    z, y, site = sites()
    exposed = (z[:, 1] > 0).astype(int)  # the shortcut itself, recorded
    settings = QUICK | {"batch": 1000, "epochs": 60, "learning_rate": 0.01}
    worst = []
    for method in (VREx(penalty=0.0, **settings), GroupDRO(**settings)):
        mapped = fitted(method, z, y, site if isinstance(method, VREx) else exposed)
        right = (mapped.score(torch.tensor(z))[:, 0].numpy() > 0) == y
        worst.append(min(right[(exposed == a) & (y == b)].mean() for a in (0, 1) for b in (0, 1)))
    assert worst[0] < 0.3 < 0.6 < worst[1]


def test_group_weights_follow_the_exponentiated_gradient():
    b, _ = batch(environments=2)
    data = Environments(
        b.features, b.y, b.weight, b.codes, np.arange(60), torch.zeros(5), torch.ones(5)
    )
    loss = worst_group(data, 0.5, cells=False)
    risks = b.means(b.losses())[0].detach()
    q = torch.softmax(0.5 * risks, dim=0)
    assert_allclose(loss(b).item(), (q * risks).sum().item(), rtol=1e-5)
    q = torch.softmax(1.0 * risks, dim=0)
    assert_allclose(loss(b).item(), (q * risks).sum().item(), rtol=1e-5)


def test_a_head_fitted_on_balanced_cells_leaves_the_shortcut_alone():
    z, y, site = sites()
    exposed = (z[:, 1] > 0).astype(int)
    balanced = leans(fitted(DFR(selection="training", hidden=8, epochs=30), z, y, exposed))
    plain = leans(fitted(VREx(selection="training", penalty=0.0, hidden=8, epochs=30), z, y, site))
    assert plain > 1.0
    assert abs(balanced) < 0.4 * plain


def test_a_cell_without_rows_cannot_be_balanced():
    z, y, _ = sites(n=200)
    named = r"dfr balances the 4 cells.*has none of outcome 0: leave that level out"
    with pytest.raises(CohortError, match=named):
        fitted(DFR(**QUICK), z, y, y.astype(int))


def test_seventy_environments_are_trained_on():
    z, y, _ = sites(n=700)
    site = np.arange(len(z)) % 70
    assert "selection 'training'" in fitted(VREx(**QUICK), z, y, site).remarks[0]


def test_a_shortcut_that_is_balanced_is_not_blamed_for_what_environments_must_not_do():
    z, y, _ = sites()
    follows = np.where(np.random.default_rng(0).random(len(y)) < 0.8, y, 1 - y).astype(int)
    for method, is_blamed in (
        (VREx(**QUICK), True),
        (GroupDRO(groups="environments", **QUICK), True),
        (GroupDRO(**QUICK), False),
        (DFR(**QUICK), False),
    ):
        said = " ".join(fitted(method, z, y, follows).remarks)
        assert ("the predictor is not invariant" in said) == is_blamed, method


def test_the_rule_has_to_be_said_and_the_map_tells_it():
    z, y, site = sites(n=300)
    for method in EVERY:
        own = site if method is not DFR else (z[:, 1] > 0).astype(int)
        mapped = fitted(method(**QUICK), z, y, own)
        assert "selection 'training': " in mapped.remarks[0]
        assert resolve(method.registered_name) == method(selection="training")
        with pytest.raises(TypeError, match="'selection'"):
            method()
        with pytest.raises(SettingsError, match=r"needs selection: .*'held_out_site'.*no default"):
            configured(method.registered_name, {"hidden": 8})
        assert method.registered_name in mapped.remarks[0]
        assert "held-out patients of the training environments" in mapped.remarks[0]


def test_the_oracle_needs_its_rows_and_marks_its_figures():
    with pytest.raises(SettingsError, match=r"oracle=TestEnvironment\(z, outcome\)"):
        IRM(selection="oracle")
    z, y, site = sites(n=300)
    test = TestEnvironment(z, y)
    with pytest.raises(SettingsError, match="with no other rule"):
        IRM(selection="training", oracle=test)
    mapped = fitted(VREx(**BY_ORACLE, oracle=test), z, y, site)
    assert "mark every one 'oracle'" in mapped.remarks[0]
    assert "600 rows of the test environment" in mapped.remarks[0]
    narrow = TestEnvironment(z[:, :1], y)
    with pytest.raises(SettingsError, match=r"embeddings \(600, 1\).*have 2 columns"):
        fitted(VREx(**BY_ORACLE, oracle=narrow), z, y, site)
    one = TestEnvironment(z, np.ones(600))
    with pytest.raises(SettingsError, match="must hold 0 and 1"):
        fitted(VREx(**BY_ORACLE, oracle=one), z, y, site)


def test_the_oracle_chooses_what_is_best_on_the_test_environment():
    z, y, site = sites()
    reversed_ = sites(agree=(0.1,), n=1000, seed=1)[:2]
    settings = {"hidden": 8, "batch": 1000, "epochs": 40, "learning_rate": 0.02}
    method = VREx(penalty=(0.0, 300.0), selection="oracle", oracle=TestEnvironment(*reversed_))
    mapped = fitted(replace(method, **settings), z, y, site)
    assert "penalty 300" in mapped.remarks[0]
    blind = fitted(VREx(penalty=(0.0, 300.0), selection="training", **settings), z, y, site)
    assert "penalty 0" in blind.remarks[0]  # sees training environments alone
    areas = [
        auroc(m.score(torch.tensor(reversed_[0]))[:, 0].numpy(), reversed_[1])
        for m in (mapped, blind)
    ]
    assert areas[0] > areas[1] + 0.1


def test_a_site_left_out_chooses_the_penalty_that_carries_over():
    z, y, site = sites(agree=(0.95, 0.75, 0.2), n=1000)
    settings = {"hidden": 8, "batch": 1000, "epochs": 25, "learning_rate": 0.03}
    mapped = fitted(VREx(penalty=(0.0, 300.0), selection="held_out_site", **settings), z, y, site)
    assert "'held_out_site': penalty 300" in mapped.remarks[0]
    two = site < 2
    with pytest.raises(CohortError, match="there are 2: bring a third"):
        fitted(VREx(selection="held_out_site", **settings), z[two], y[two], site[two])


def test_fewer_environments_than_directions_are_remarked_on():
    rng = np.random.default_rng(0)
    z, y, site = sites(d=8)
    for direction in (2, 3, 4):
        z[site == 1, direction] *= 3
    said = " ".join(fitted(IRM(**QUICK), z, y, site).remarks)
    assert "2 environments differ in at least 4 directions" in said
    assert "Rosenfeld" in said
    many = np.repeat(np.arange(8), 500)
    y = rng.integers(2, size=4000).astype(float)
    z = rng.normal(size=(4000, 8)) + 2 * y[:, None]
    z[:, 0] += many  # one direction, eight environments
    assert "Rosenfeld" not in " ".join(fitted(IRM(**QUICK), z, y, many).remarks)


def test_environments_with_another_rate_of_the_outcome_are_remarked_on():
    z, y, _ = sites(n=500)
    rng = np.random.default_rng(0)
    follows = np.where(rng.random(1000) < 0.7, y, 1 - y).astype(int)
    said = " ".join(fitted(VREx(**QUICK), z, y, follows).remarks)
    assert "the outcome's rate runs from 0.3" in said
    assert "the predictor is not invariant" in said
    even = rng.permutation(follows)
    assert "rate runs" not in " ".join(fitted(VREx(**QUICK), z, y, even).remarks)


def test_what_the_map_leaves_of_the_environment_is_told():
    z, y, site = sites(n=500)
    z[:, 1] += 2 * site
    said = fitted(IRM(**QUICK), z, y, site).remarks[-1]
    assert "on 100 held-out patients" in said or "held-out patients reads" in said
    assert "no less than" in said


def test_training_starts_at_the_identity_and_one_environment_leaves_it_there():
    z, y, _ = sites(n=100)
    mapped = fitted(IRM(**QUICK), z, y, np.zeros(200, dtype=int))
    assert mapped.is_identity
    assert "one environment" in mapped.remarks[0]


def test_rows_without_an_outcome_leave_and_are_counted():
    z, y, site = sites(n=300)
    y[::3] = np.nan
    known = ~np.isnan(y)
    mapped = fitted(VREx(**QUICK), z, y, site)
    assert "200 rows without an outcome were left out" in mapped.remarks[-1]
    assert np.isfinite(mapped.score(torch.tensor(z)).numpy()).all()
    assert known.sum() == 400


def test_of_several_outcomes_the_first_gets_the_head_and_the_remarks_say_so():
    z, y, site = sites(n=200)
    alone, among = (fitted(VREx(**QUICK), z, x, site) for x in (y, np.stack([y, 1 - y], axis=1)))
    assert alone.digest == among.digest
    assert not any("first of" in remark for remark in alone.remarks)
    assert any("the first of 2 outcomes" in remark for remark in among.remarks)


@pytest.mark.parametrize("method", EVERY)
def test_an_outcome_is_needed_and_of_two_levels(method):
    z, y, site = sites(n=50)
    c, name = np.eye(2)[site], method.registered_name
    with pytest.raises(SettingsError, match=f"{name}.*outcome='disease'"):
        resolve(name).fit(z, c)
    with pytest.raises(SettingsError, match=f"{name}.*holds 2.0: recode"):
        resolve(name).fit(z, c, outcome=2 * y)
    with pytest.raises(SettingsError, match=f"{name}.*this one holds one"):
        resolve(name).fit(z, c, outcome=np.ones(100))
    z[3, 1] = np.nan
    with pytest.raises(SettingsError, match="nan in row 3, column 1"):
        resolve(name).fit(z, c, outcome=y)


@pytest.mark.parametrize(
    ("method", "wrong", "says"),
    [
        (IRM, {"selection": "test"}, "not 'test'"),
        (IRM, {"penalty": -1.0}, "penalty is a number from zero or a tuple.*-1.0"),
        (IRM, {"penalty": (1.0, "x")}, "'x'"),
        (IRM, {"warmup": 1.0}, "warmup"),
        (VREx, {"hidden": 0}, "hidden is a number of units"),
        (VREx, {"selection": "oracle", "oracle": "TestEnvironment(9 rows)"}, "never saved"),
        (IBIRM, {"bottleneck": -1}, "bottleneck"),
        (GroupDRO, {"groups": "sites"}, "'sites'"),
        (GroupDRO, {"step": -0.1}, "step is a number from zero"),
        (DFR, {"share": 1.0}, "share"),
        (DFR, {"draws": 0}, "draws"),
        (DFR, {"strength": 0.0}, "ridge above zero"),
    ],
)
def test_settings_out_of_range_are_refused(method, wrong, says):
    with pytest.raises(SettingsError, match=says):
        method(**{"selection": "training"} | wrong)


def test_the_same_seed_gives_the_same_bits_and_leaves_the_generator_alone():
    z, y, site = sites(n=200)
    before = torch.random.get_rng_state()
    first, again = (fitted(IRM(**QUICK), z, y, site, seed=3) for _ in range(2))
    other = fitted(IRM(**QUICK), z, y, site, seed=4)
    assert first.digest == again.digest != other.digest
    assert torch.equal(before, torch.random.get_rng_state())


def test_they_are_registered_and_say_what_they_need():
    for method in EVERY:
        card = methods.card(method.registered_name)
        assert set(card.needs) == {"outcome", "levels"}
        assert card.dear
