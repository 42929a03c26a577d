"""The door to the trade-off: method names and settings become cleaners, and are traced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from deconf.causal.graph import CausalGraph
from deconf.cohort.cohort import Cohort
from deconf.errors import SettingsError
from deconf.evidence.strengths import RAW, STRENGTHS
from deconf.evidence.tradeoff import Tradeoff, trace
from deconf.front import Deconfounder, deconfound
from deconf.methods.base import Method
from deconf.probes.leakage import Effort


def tradeoff(
    methods: Any,
    cohort: Cohort,
    confounders: str | Sequence[str] = (),
    *,
    outcome: str | Sequence[str] | None = None,
    graph: str | CausalGraph | None = None,
    given: str | Sequence[str] | None = None,
    at_inference: bool = False,
    tasks: str | Sequence[str] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = 5,
    effort: Effort = "quick",
    seed: int = 0,
) -> Tradeoff:
    """Draw leakage against task along the strength of each method.

    Every method is carried from nothing to all of it,  T_a(z) = z + a (T(z) - z),  and judged at
    each strength on patients that neither map nor head has seen: by the worst fresh attacker, and
    by the AUROC of the task in the worst environment and within levels of the confounder.  Where a
    setting is the strength, give a list of settings: each is then a point of one family.

    Parameters
    ----------
    methods : name, settings object or cleaner; a sequence of them; or a mapping
        ``["leace", "aligned"]``;  ``{"dann": [DANN(strength=s) for s in (0.5, 2)]}``.  A cleaner
        (`deconfound`) says its own confounders, graph and encoder.
    cohort : Cohort
        With embeddings, unless cleaners bring an encoder.
    confounders, outcome, graph, given, at_inference
        As `deconfound`; not with cleaners.
    tasks : column or columns of two classes, optional
        Default: the outcomes of the cohort.
    strengths : numbers in (0, 1]
        Of the methods that stand alone; raw is always drawn.
    folds : int
        Patient-grouped, for the task.  The leak is read by maps fitted on half of the patients,
        from the other half.
    effort : "quick" or "full"
        Of the attackers and the bootstrap.
    seed : int

    Returns
    -------
    Tradeoff
        ``print`` it; ``.to_frame()``, ``.front()``, ``.figure()``, ``.save("tradeoff.png")``.

    Raises
    ------
    SettingsError
        No method, no confounder, two families of one name, or cleaners with different statements.
    NotIdentified
        The graph yields no adjustment set.

    Examples
    --------
    >>> import deconf
    >>> films = deconf.worlds.linear(n=600, d=24).train().cohort
    >>> found = deconf.tradeoff("leace", films, "portable", strengths=[1.0], folds=2)
    >>> found.to_frame()[["family", "strength"]].to_numpy().tolist()
    [['raw', 0.0], ['leace', 1.0]]
    """
    asked: dict[str, Any] = {"outcome": outcome, "graph": graph, "given": given}
    asked["at_inference"] = at_inference or None
    named = {name: value for name, value in asked.items() if value is not None}
    families = {}
    for name, several in _named(methods).items():
        if name == RAW:
            raise SettingsError(f"{RAW!r} is the embedding as it is: call your family otherwise.")
        if not several:
            raise SettingsError(f"the family {name!r} holds no method.")
        families[name] = [_cleaner(one, confounders, named, seed) for one in several]
    if not families:
        raise SettingsError('no method was named: tradeoff(["leace", "aligned"], cohort, ["site"])')
    return trace(
        families, cohort, tasks=tasks, strengths=strengths, folds=folds, effort=effort, seed=seed
    )


def _named(methods: Any) -> dict[str, list[Any]]:
    """Return every family with its members."""
    if isinstance(methods, Mapping):
        return {str(name): _several(one) for name, one in methods.items()}
    found: dict[str, list[Any]] = {}
    for one in _several(methods):
        method = one.method if isinstance(one, Deconfounder) else one
        name = method if isinstance(method, str) else str(method.registered_name)
        if name in found:
            raise SettingsError(
                f"two methods are called {name!r}: pass a mapping, {{'{name} a': ..., "
                f"'{name} b': ...}}, or one family, {{'{name}': [..., ...]}}."
            )
        found[name] = [one]
    return found


def _several(one: Any) -> list[Any]:
    return [one] if isinstance(one, str | Method | Deconfounder) else list(one)


def _cleaner(
    one: Any, confounders: str | Sequence[str], named: Mapping[str, Any], seed: int
) -> Deconfounder:
    if isinstance(one, Deconfounder):
        if confounders or named:
            raise SettingsError(
                "a cleaner says its own confounders, outcome, graph, given and at_inference: leave "
                "them out here, or pass the name of its method."
            )
        return replace(one, seed=seed)
    return deconfound("stored", confounders, method=one, seed=seed, **named)
