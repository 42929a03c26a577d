"""What a table lets us believe of an interventional contrast: a posterior, by SVI or by NUTS.

    E[effect | do(cause = b)] - E[effect | do(cause = a)]

The effect is modelled given cause and the parents of the cause, which close every back door of a
cause without hidden ties (Pearl, "Causality", 2009, theorem 3.2.2): logistic where it has two
levels, linear where it is a number.  Coefficients of standardised coordinates have normal priors
of scale 2.5 (after Gelman et al., "A weakly informative default prior distribution for logistic
and other regression models", 2008).  A patient counts once: the likelihood of each of their films
is raised to one over their number.  Each draw of the coefficients is averaged over patients drawn
by the Bayesian bootstrap (Rubin 1981), so that the interval speaks of the population and not of
these films.

AutoNormal takes coefficients for independent and is too sure of sums of correlated ones;
"lowrank" is the default of SVI, and NUTS the yardstick for small tables.

Patients whom nobody answers for at one of the two values are left out of fit and average, and
counted in the result; where they are most, there is no contrast (`deconf.scm.support`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from deconf.causal.graph import IMAGE, CausalGraph
from deconf.cohort.cohort import Cohort
from deconf.errors import CohortError, NotIdentified, SettingsError, did_you_mean, listing
from deconf.maths import kinds
from deconf.maths.intervals import Interval, factorised, interval
from deconf.maths.moments import cell_moments
from deconf.maths.shrinkage import inverse_root
from deconf.scm.design import Causes
from deconf.scm.fitting import FEWEST_ROWS
from deconf.scm.reading import incomplete, is_number, whole
from deconf.scm.structure import projected
from deconf.scm.support import supported

PRIOR = 2.5
STEPS, DRAWS, CHAINS = 1000, 1000, 2
FEWEST_DRAWS = 40  # in all: one beyond each end of a 95 % interval
RATE = 0.03
MOST_ROWS = 5000  # for NUTS: every step visits all of them
MIXED = 1.05  # Gelman & Rubin's ratio above which chains have not met

By = Literal["svi", "nuts"]
Guide = Literal["lowrank", "normal"]


@dataclass(frozen=True, eq=False)
class Contrast:
    """A contrast with its credible interval.

    Attributes
    ----------
    interval : Interval
        Posterior mean and 95 % credible interval, in units of the effect or as a difference of
        chances.
    draws : (m,) array
    given : tuple of str
        Parents of the cause, which are held.
    by : str
    n, patients : int
    notes : tuple of str
        What to mind: patients left out for want of support, chains that have not met.
    left_out : float
        Share of the rows with no missing value that nobody answers for; the contrast is that of
        the others.
    """

    cause: str
    effect: str
    values: tuple[Any, Any]
    interval: Interval
    draws: Float[ndarray, " m"]
    given: tuple[str, ...]
    by: str
    n: int
    patients: int
    notes: tuple[str, ...] = ()
    left_out: float = 0.0

    def __str__(self) -> str:
        a, b = (kinds.said(value) for value in self.values)
        held = f" given {', '.join(self.given)}" if self.given else ""
        return "\n".join(
            [
                f"{self.effect} under do({self.cause}={b}) less do({self.cause}={a}): "
                f"{self.interval} (credible, {self.by}{held}; {self.n:,} films of "
                f"{self.patients:,} patients)",
                *(f"  {note}" for note in self.notes),
            ]
        )


def posterior_contrast(
    cohort: Cohort,
    graph: str | CausalGraph,
    cause: str,
    effect: str,
    values: tuple[Any, Any] | None = None,
    *,
    by: By = "svi",
    guide: Guide = "lowrank",
    steps: int = STEPS,
    draws: int = DRAWS,
    chains: int = CHAINS,
    seed: int = 0,
) -> Contrast:
    """Return the posterior of an interventional contrast between two columns of a table.

    Parameters
    ----------
    values : (a, b), optional
        By default the two levels of a cause that has two.
    by : "svi" or "nuts"
    guide : "lowrank" or "normal"
        Of SVI.
    steps : int
        Of SVI; for NUTS warm-up steps are ``draws / 2``.
    draws, chains : int
        Draws from the guide, or of each chain.

    Raises
    ------
    NotIdentified
        The parents of the cause do not close every back door, or do not stand in the table; or
        more than half of the patients have nobody like them at one of the values.
    SettingsError
        An unknown column or way, a cause whose two values were not named, values that are no two
        numbers, or fewer than 40 draws, of which an interval cannot be read.
    CohortError
        Fewer than 40 complete rows, or ten patients at a level; the effect has more than two levels
        that are no number, or takes one value only.

    Examples
    --------
    >>> import pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> sick = rng.integers(2, size=400)
    >>> portable = (rng.random(400) < 0.2 + 0.6 * sick).astype(int)
    >>> ill = (rng.random(400) < 0.2 + 0.4 * sick).astype(int)  # not by the portable
    >>> cohort = Cohort.read(pd.DataFrame({"sick": sick, "portable": portable, "ill": ill}))
    >>> graph = "sick -> portable; sick -> ill; portable -> ill"
    >>> found = posterior_contrast(cohort, graph, "portable", "ill", steps=300)
    >>> found.interval.low < 0 < found.interval.high
    True
    """
    graph = CausalGraph.parse(graph) if isinstance(graph, str) else graph
    if by not in ("svi", "nuts") or guide not in ("lowrank", "normal"):
        raise SettingsError(
            f"by is 'svi' or 'nuts', guide 'lowrank' or 'normal': {by!r}, {guide!r}."
        )
    whole("steps", steps, least=1)
    whole("chains", chains, least=1)
    whole("draws", draws, least=FEWEST_DRAWS if by == "svi" else -(-FEWEST_DRAWS // chains))
    given = _back_doors(graph, cohort, cause, effect)
    table = cohort.table[[cause, effect, *given]]
    rows = np.flatnonzero([not why for why in incomplete(table)])
    table, patients = table.iloc[rows].reset_index(drop=True), cohort.patients[rows]
    notes = []
    if len(rows) < len(cohort):
        notes.append(f"{len(cohort) - len(rows):,} rows left out: a value is missing")
    if len(rows) < FEWEST_ROWS:
        raise CohortError(
            f"{len(rows)} rows are complete in {listing(table.columns)}: a contrast needs at least "
            f"{FEWEST_ROWS}. Would help: more patients, or those columns recorded in more of them."
        )
    a, b = _values(table, cause, values)
    known, told = supported(table, cause, (a, b), given, patients)
    if told:
        notes.append(told)
        table, patients = table[known].reset_index(drop=True), patients[known]
    if by == "nuts" and len(table) > MOST_ROWS:
        raise CohortError(
            f"{len(table):,} rows: NUTS visits every row at every step, use it up to "
            f"{MOST_ROWS:,}; by='svi' serves more."
        )
    y, unit, is_binary = _outcome(table, effect)
    causes = Causes.of(table, [cause, *given], patients)
    design = causes.encode(table)
    # Standardised principal coordinates: in the columns themselves, which go together, a chain
    # would take a hundred steps to cross the posterior once.
    middle, onto = design.mean(axis=0), inverse_root(cell_moments(design).within()[0].zz)

    def at(value: Any) -> Float[ndarray, "n q"]:
        coordinates: ndarray = (causes.encode(table.assign(**{cause: value})) - middle) @ onto
        return coordinates

    who = factorised(patients)
    once = 1.0 / np.bincount(who)[who]
    x = torch.tensor((design - middle) @ onto)
    model = _model(x, torch.tensor(y), torch.tensor(once), is_binary)
    with torch.random.fork_rng():  # the caller's draws go on as if nothing had happened
        torch.manual_seed(seed)
        if by == "svi":
            found = _by_svi(model, guide, steps, draws)
            way = f"SVI, {guide} guide, {steps:,} steps"
        else:
            found, trouble = _by_nuts(model, draws, chains)
            notes += trouble
            way = f"NUTS, {chains} chains of {draws:,}"
    shift, slope = found["intercept"], found["slope"]
    means = [shift[:, None] + slope @ at(value).T for value in (a, b)]
    if is_binary:
        means = [1 / (1 + np.exp(-m)) for m in means]
    # Bayesian bootstrap: weights of patients are Dirichlet(1, ..., 1), shared by their films.
    weight = (
        np.random.default_rng(seed).exponential(size=(len(shift), who.max() + 1))[:, who] * once
    )
    each = ((means[1] - means[0]) * weight).sum(axis=1) / weight.sum(axis=1) * unit
    return Contrast(
        cause,
        effect,
        (a, b),
        interval(each, float(each.mean())),
        each,
        given,
        way,
        len(table),
        int(who.max()) + 1,
        tuple(notes),
        float(1 - known.mean()),
    )


def _back_doors(graph: CausalGraph, cohort: Cohort, cause: str, effect: str) -> tuple[str, ...]:
    """Return the parents of the cause, if they close every back door to the effect."""
    for name in (cause, effect):
        if name == IMAGE:
            raise SettingsError(
                f"{IMAGE!r} is no column: a contrast is between columns of the table. Ask "
                "deconf.flip_test what a cause does to a score, or deconf.scm.fit for the image."
            )
    graph.require([cause, effect])
    measured = [node for node in graph.nodes if node in cohort.table and node != IMAGE]
    for name in (cause, effect):
        if name not in measured:
            raise SettingsError(
                f"the table has no column {name!r}.{did_you_mean(name, cohort.table.columns)} "
                f"Columns: {listing(cohort.table.columns)}."
            )
    # The image is projected out with whatever else is no column: it cannot be held.
    own = projected(graph, {*measured, *graph.selected})
    parents = {a for a, b in own.edges if b == cause}
    given = tuple(name for name in own.nodes if name in parents and name in measured)
    if effect in parents:
        raise NotIdentified(
            f"the graph says that {effect!r} comes before {cause!r} ({effect} -> ... -> {cause}): "
            f"what do({cause}) does to it is nothing. Ask for the contrast the other way round, "
            f"or mend the graph."
        )
    kept = tuple((a, b) for a, b in own.edges if a != cause)
    cut = CausalGraph(own.nodes, kept, own.bidirected, own.selected, own.workflow)
    held = {*given, *own.selected} - {cause, effect}
    if not cut.d_separated(cause, effect, held):
        through = f", the {IMAGE} among it" if (IMAGE, cause) in graph.edges else ""
        raise NotIdentified(
            f"the parents of {cause!r} ({', '.join(given) or 'none measured'}) do not close every "
            f"back door to {effect!r}: something unmeasured{through}, or the selection of the "
            "cohort, joins them. Would help: its column."
        )
    return given


def _values(table: Any, cause: str, values: tuple[Any, Any] | None) -> tuple[Any, Any]:
    known = kinds.levels(table[cause]) if kinds.is_categorical(table[cause]) else None
    if values is None:
        if known is None or len(known) != 2:
            raise SettingsError(
                f"{cause!r} has not two levels: say from which to which, values=(a, b)."
            )
        return known[0], known[1]
    if not isinstance(values, list | tuple) or len(values) != 2 or values[0] == values[1]:
        raise SettingsError(f"values=(a, b) are two different values of {cause!r}, not {values!r}.")
    for value in values:
        if known is not None and value not in known:
            raise SettingsError(f"{cause} is never {value!r}: it is one of {known}.")
        if known is None and not is_number(value):
            raise SettingsError(f"values: {cause!r} is a number, and {value!r} is none.")
    return values[0], values[1]


def _outcome(table: Any, effect: str) -> tuple[Float[ndarray, " n"], float, bool]:
    """Return the effect as 0/1 or standardised, its unit, and whether it has two levels."""
    if kinds.is_categorical(table[effect]):
        codes, levels = kinds.codes(table[effect])
        if len(levels) != 2:
            raise CohortError(
                f"{effect!r} has {len(levels)} levels: a contrast needs two, or a number."
            )
        return codes.astype(float), 1.0, True
    values = kinds.numbers(table[effect])
    unit = float(values.std())
    if unit == 0:
        raise CohortError(f"{effect!r} takes one value only: there is nothing to explain.")
    return (values - values.mean()) / unit, unit, False


def _model(x: Tensor, y: Tensor, once: Tensor, is_binary: bool) -> Callable[[], None]:
    """Return the pyro model of an effect given the standardised design."""
    import pyro
    import pyro.distributions as dist

    zero, one = x.new_zeros(()), x.new_ones(())

    def model() -> None:
        intercept = pyro.sample("intercept", dist.Normal(zero, PRIOR * one))
        slopes = dist.Normal(x.new_zeros(x.shape[1]), PRIOR * one).to_event(1)
        slope = pyro.sample("slope", slopes)
        told = intercept + x @ slope
        if is_binary:
            law: Any = dist.Bernoulli(logits=told)
        else:
            law = dist.Normal(told, pyro.sample("spread", dist.HalfNormal(2 * one)))
        with pyro.plate("films", len(y)), pyro.poutine.scale(scale=once):
            pyro.sample("effect", law, obs=y)

    return model


def _by_svi(
    model: Callable[[], None], guide: Guide, steps: int, draws: int
) -> dict[str, Float[ndarray, "m ..."]]:
    import pyro
    from pyro.infer import SVI, Trace_ELBO
    from pyro.infer.autoguide import AutoLowRankMultivariateNormal, AutoNormal
    from pyro.optim import ClippedAdam

    with pyro.get_param_store().scope():  # a store of its own: pyro's is one for the process
        own = AutoNormal(model) if guide == "normal" else AutoLowRankMultivariateNormal(model)
        rate = {"lr": RATE if steps > 500 else 2 * RATE, "lrd": 0.1 ** (1 / steps)}
        svi = SVI(model, own, ClippedAdam(rate), Trace_ELBO(num_particles=2))
        for _ in range(steps):
            svi.step()
        with torch.no_grad():
            found = [own() for _ in range(draws)]
    return {name: torch.stack([f[name] for f in found]).numpy() for name in ("intercept", "slope")}


def _by_nuts(
    model: Callable[[], None], draws: int, chains: int
) -> tuple[dict[str, Float[ndarray, "m ..."]], list[str]]:
    from pyro.infer import MCMC, NUTS
    from pyro.ops.stats import gelman_rubin

    found = []
    notes: list[str] = []
    for _ in range(chains):
        mcmc = MCMC(NUTS(model), num_samples=draws, warmup_steps=draws // 2, disable_progbar=True)
        mcmc.run()
        found.append(mcmc.get_samples())
        lost = sum(len(v) for v in mcmc.diagnostics()["divergences"].values())
        if lost:
            notes.append(f"{lost:,} divergent steps: trust SVI no more, but bring more rows")
    if chains > 1:
        stacked = torch.stack([_flat(f) for f in found])
        worst = float(gelman_rubin(stacked, chain_dim=0, sample_dim=1).max())
        if worst > MIXED:
            notes.append(f"the chains have not met (R-hat {worst:.2f}): ask for more draws")
    names: Sequence[str] = ("intercept", "slope")
    return {name: torch.cat([f[name] for f in found]).numpy() for name in names}, notes


def _flat(samples: dict[str, Tensor]) -> Tensor:
    return torch.cat([samples["intercept"][:, None], samples["slope"]], dim=1)
