"""What would be held under the other usual stories of how image, label and confounder arose."""

from __future__ import annotations

from collections.abc import Sequence

from deconf.causal.graph import IMAGE, CausalGraph
from deconf.causal.invariance import Invariance, derive
from deconf.causal.narrative import in_words
from deconf.causal.question import Set

SELECTION = "inclusion in the cohort"


def other_stories(confounders: Set, outcome: Set, chosen: Sequence[Invariance]) -> tuple[str, ...]:
    """Return a sentence per story, each answer derived from the story's own graph.

    Parameters
    ----------
    chosen : sequence of Invariance
        What the plan does: a story that agrees says so, and other valid sets are listed.

    Examples
    --------
    >>> for sentence in other_stories(("site",), ("ill",), ())[:2]:
    ...     print(sentence)
    If ill is a cause of the image and shares causes with site (anticausal): z ⊥ site | ill.
    If ill is read from the image and habit links it to site: z ⊥ site.
    """
    told = [
        f"The graph also allows z ⊥ {', '.join(i.confounders)} | {', '.join(other)}: "
        "agreement between the answers is a free check of the graph."
        for i in chosen
        for other in i.valid_sets[1:]
    ]
    names = in_words(confounders)
    if not outcome:
        return (
            *told,
            f"If an outcome column y is a cause of the image and shares causes with {names}: "
            f"z ⊥ {', '.join(confounders)} | y. Name it with outcome= to keep it.",
        )
    y = in_words(outcome)
    verb, shares, it = ("are", "share", "them") if len(outcome) > 1 else ("is", "shares", "it")
    causes = [(name, IMAGE) for name in outcome]
    labels = [(IMAGE, name) for name in outcome]
    habit = [(c, name) for c in confounders for name in outcome]
    inclusion = [(name, SELECTION) for name in (*confounders, *outcome)]
    stories = {
        f"If {y} {verb} a cause of the image and {shares} causes with {names} (anticausal)": (
            CausalGraph((IMAGE,), tuple(causes), tuple(habit))
        ),
        f"If {y} {verb} read from the image and habit links {it} to {names}": (
            CausalGraph((IMAGE,), tuple(labels), tuple(habit))
        ),
        f"If the cohort was selected on {in_words((*confounders, *outcome))}": (
            CausalGraph((IMAGE,), (*causes, *inclusion), selected=(SELECTION,))
        ),
        f"If {y} {verb} read from the image, by habit, and the cohort selected on {y}": (
            CausalGraph(
                (IMAGE,),
                (*labels, *((name, SELECTION) for name in outcome)),
                tuple(habit),
                selected=(SELECTION,),
            )
        ),
    }
    for story, graph in stories.items():
        traced = CausalGraph(
            graph.nodes,
            (*graph.edges, *((c, IMAGE) for c in confounders)),
            graph.bidirected,
            graph.selected,
        )
        told.append(f"{story}: {_answer(derive(traced, confounders, outcome), chosen)}.")
    told.append(
        f"With no outcome to keep: z ⊥ {', '.join(confounders)}; disease correlated with {names} "
        "goes too."
    )
    return tuple(told)


def _answer(invariance: Invariance, chosen: Sequence[Invariance]) -> str:
    if not invariance.is_identified:
        return "not identified"
    here = {(i.confounders, i.given) for i in chosen if i.is_needed and i.is_identified}
    same = here == {(invariance.confounders, invariance.given)}
    return str(invariance) + (", as here" if same else "")
