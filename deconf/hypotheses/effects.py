"""``total_effect`` and ``direct_effect``: one call, from a table to a verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import networkx as nx

from deconf.causal.adjustment import (
    Adjustment,
    adjustment,
    own_adjustment,
    patients_would_do,
)
from deconf.causal.graph import IMAGE, CausalGraph, as_names
from deconf.cohort.cohort import Cohort
from deconf.errors import CohortError, GraphError, NotIdentified, SettingsError, did_you_mean
from deconf.hypotheses.controls import Controls, Named
from deconf.hypotheses.reading import (
    Cause,
    Outcome,
    complete_rows,
    read_cause,
    read_outcome,
    with_node,
)
from deconf.hypotheses.result import Effect
from deconf.hypotheses.study import Study
from deconf.maths.threads import one_thread

TRIM = 0.01


def total_effect(
    cause: str,
    effect: Any,
    cohort: Cohort,
    *,
    graph: str | CausalGraph | None = None,
    given: str | Sequence[str] | None = None,
    reference: Any = None,
    within: str | None = None,
    negative_outcomes: Named = (),
    negative_exposures: Named = (),
    margin: float | None = None,
    trim: float = TRIM,
    simulations: int = 3,
    seed: int = 0,
    progress: Callable[[str], object] = str,
) -> Effect:
    """Estimate the effect of a cause on a finding, a score or a direction, through every path.

    Identified by the graph (dowhy and our own separators must agree), estimated by cross-fitted
    AIPW, refuted by dowhy's refuters and by negative controls.

    Parameters
    ----------
    cause : str
        A column: categories (each level against the reference) or a number (a slope).
    effect : str or (d,) array
        A column (0 and 1, two levels, or a number such as a model's score), ``"head score"``
        (log-odds of the cohort's outcome by a cross-fitted linear head) or a direction of the
        embedding.
    graph : CausalGraph or str, optional
        A score that is not drawn is read from ``image``.
    given : str or sequence of str, optional
        Your own adjustment set, printed as your assumption.
    reference : optional
        Level to compare with: by default the lowest number, the commonest text.
    within : str, optional
        The column of patients: also contrast films of the same patient.  Where adjustment is not
        identified that contrast becomes the estimate.
    negative_outcomes, negative_exposures : mapping of name to {"confounding", "detection"}
        What each can catch; a list catches confounding.
    margin : float, optional
        An effect smaller than this counts as none: a ratio for a yes-or-no outcome (default 1.25),
        else standard deviations (0.1), of a number for one standard deviation of the cause.
    trim : float
        Rows in which a level has less than this probability are left out and counted.
    simulations : int
        Of each refuter.

    Returns
    -------
    Effect

    Raises
    ------
    NotIdentified
        Open paths, or no overlap; what would settle it is named.
    GraphError, CohortError, SettingsError
        The graph, the columns, a control or a setting are not what they were said to be.

    Examples
    --------
    >>> import deconf
    >>> cohort = deconf.worlds.linear(n=2000, d=24).train().cohort
    >>> found = total_effect("portable", "pneumonia", cohort, simulations=1,
    ...                      graph="severity -> portable; severity -> pneumonia")
    >>> found.verdict, found.adjustment.given, abs(found.estimate.estimate) < 0.1
    ('absent, if the graph is right', ('severity',), True)
    """
    return _answer(
        cause, effect, cohort, (), graph=graph, given=given, reference=reference, within=within,
        controls=Controls.of(negative_outcomes, negative_exposures), margin=margin, trim=trim,
        simulations=simulations, seed=seed, progress=progress,
    )  # fmt: skip


def direct_effect(
    cause: str,
    effect: Any,
    cohort: Cohort,
    *,
    not_through: str | Sequence[str],
    graph: str | CausalGraph | None = None,
    given: str | Sequence[str] | None = None,
    reference: Any = None,
    negative_outcomes: Named = (),
    negative_exposures: Named = (),
    margin: float | None = None,
    trim: float = TRIM,
    simulations: int = 3,
    seed: int = 0,
    progress: Callable[[str], object] = str,
) -> Effect:
    """Estimate the effect that does not pass through some mediators, which are held.

    A controlled direct effect, averaged over the mediators as they are (VanderWeele 2011).  The
    other parameters, results and errors are those of `total_effect`.

    Parameters
    ----------
    not_through : str or sequence of str
        Mediators, each a recorded column.
    """
    return _answer(
        cause, effect, cohort, as_names(not_through), graph=graph, given=given,
        reference=reference, within=None,
        controls=Controls.of(negative_outcomes, negative_exposures), margin=margin, trim=trim,
        simulations=simulations, seed=seed, progress=progress,
    )  # fmt: skip


def _answer(
    cause: str,
    effect: Any,
    cohort: Cohort,
    not_through: tuple[str, ...],
    *,
    graph: str | CausalGraph | None,
    given: str | Sequence[str] | None,
    reference: Any,
    within: str | None,
    controls: Controls,
    margin: float | None,
    trim: float,
    simulations: int,
    seed: int,
    progress: Callable[[str], object],
) -> Effect:
    drawn = CausalGraph.parse(graph) if isinstance(graph, str) else graph
    if drawn is not None:
        drawn.require(cause)
    c = read_cause(cohort.table, cause, reference)
    y = read_outcome(cohort, effect, seed=seed)
    _check(margin, trim, simulations, is_ratio=y.is_binary and bool(c.levels))
    if within is not None:
        cohort = _by_patient(cohort, within, c)
    said = ""
    if drawn is not None:
        drawn, said = with_node(drawn, y)
        controls.check(drawn, cause, y.name)
    found, refusal = _identified(drawn, cohort, cause, y, not_through, given, within)
    rows = complete_rows(cohort, c, y, found.given)
    progress(f"{len(rows.table):,} complete rows")
    # Many small fits: threads that wait for one another take ten times as long.
    with one_thread(0):
        study = Study(
            cohort=cohort,
            rows=rows,
            outcome=y,
            found=found,
            graph=drawn,
            refusal=refusal,
            controls=controls,
            reference=reference,
            with_patient=within is not None,
            margin=margin,
            trim=trim,
            simulations=simulations,
            seed=seed,
            progress=progress,
        )
        return study.effect(said)


def _check(margin: float | None, trim: float, simulations: int, *, is_ratio: bool) -> None:
    least = 1.0 if is_ratio else 0.0
    if margin is not None and not margin > least:
        what = "a ratio above 1, as 1.25" if is_ratio else "standard deviations above 0, as 0.1"
        raise SettingsError(f"margin is {margin!r}: expected {what}.")
    if not 0 <= trim < 0.5:
        raise SettingsError(f"trim is {trim!r}: expected a probability from 0 to below 0.5.")
    if simulations < 1:
        raise SettingsError(f"simulations is {simulations!r}: refuters need one at least.")


def _identified(
    graph: CausalGraph | None,
    cohort: Cohort,
    cause: str,
    y: Outcome,
    not_through: tuple[str, ...],
    given: str | Sequence[str] | None,
    within: str | None,
) -> tuple[Adjustment, str]:
    """Return what to hold; where nothing does and patients can be compared, the refusal too."""
    if given is not None:
        return own_adjustment(graph, cause, y.name, as_names(given), not_through), ""
    if graph is None:
        raise GraphError(
            f"what is to be held while {cause!r} varies? Draw graph='severity -> {cause}; ...' or "
            "give your own set, given=['age', 'sex'] (given=() holds nothing)."
        )
    measured = [n for n in cohort.table.columns if n != IMAGE and cohort.table[n].notna().any()]
    try:
        return (
            adjustment(graph, cause, y.name, measured=measured, not_through=not_through),
            "",
        )
    except NotIdentified as error:
        if within is None or not patients_would_do(graph, cause, y.name, measured):
            raise  # films of one patient help against hidden causes, and against nothing else
        best = _best_at_hand(graph, cause, y.name, measured)
        return Adjustment(cause, y.name, "yours", best, (best,)), str(error)


def _best_at_hand(
    graph: CausalGraph, cause: str, effect: str, measured: Sequence[str]
) -> tuple[str, ...]:
    """Return the recorded common causes: held for the comparison that is not identified."""
    digraph = graph.to_networkx()
    above = nx.ancestors(digraph, cause) & nx.ancestors(digraph, effect)
    return tuple(sorted(set(measured) & above))


def _by_patient(cohort: Cohort, within: str, cause: Cause) -> Cohort:
    if cause.numbers is not None:
        raise CohortError(
            f"within={within!r} compares two levels, and {cause.name!r} is a number: cut it in two "
            "first."
        )
    column = cohort.roles["patient"]
    name = column if within == "patient" and column is not None else within
    table, outcome = cohort.table, cohort.roles["outcome"]
    if name not in table.columns:
        raise CohortError(
            f"the table has no column {within!r} (within=).{did_you_mean(within, table.columns)} "
            "Name the column of patients."
        )
    if cohort.embeddings is None:
        return Cohort.read(table, patient=name, outcome=outcome)
    return Cohort.from_arrays(cohort.embeddings, table, patient=name, outcome=outcome)
