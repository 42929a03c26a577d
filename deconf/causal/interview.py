"""Six plain questions that make a causal graph, for whoever would rather not draw arrows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from deconf.causal.graph import IMAGE, CausalGraph, as_names
from deconf.causal.narrative import in_words
from deconf.causal.sentences import sentences
from deconf.errors import GraphError, did_you_mean, listing

INCLUDED = "included"
SEVERITY = "severity"
LABELS = {
    "cause": "the disease itself, proven without this image: what the image shows comes from it",
    "read": "read from this image, as in a report",
}
REASONS = {
    "sicker": "sicker patients get it; 'sicker: icu' names the column that says how sick",
    "referral": "the disease decides it: patients thought to have it are sent there",
    "prevalence": "where it is used, the disease is more or less common (sites differ)",
    "habit": "habits or causes that nobody recorded link the two",
    "chance": "nothing links them: it is dealt by chance",
}


@dataclass(frozen=True)
class Question:
    """One of the six.

    Attributes
    ----------
    key : str
        As ``answers`` names it.
    text : str
        As it is asked.
    """

    key: str
    text: str


QUESTIONS = (
    Question("outcome", "Which column is to be kept in the image: the disease or finding?"),
    Question("label", "What is that column? " + "; ".join(f"{k}: {v}" for k, v in LABELS.items())),
    Question("workflow", "Which columns leave a trace in the pixels that is not the patient "
             "(site, scanner, portable)? Separate several by commas."),
    Question("why", "Why do they go together with the disease? "
             + "; ".join(f"{k}: {v}" for k, v in REASONS.items())
             + ". One word for all, or 'portable = sicker; site = prevalence'."),
    Question("patient", "Which other columns describe the patient, show in the image and bear on "
             "the disease (age, sex)? Commas; empty for none."),
    Question("selected", "Did any of these columns decide who is in the cohort? Commas; empty for "
             "none."),
)  # fmt: skip
KEYS = tuple(question.key for question in QUESTIONS)


def ask(
    columns: Collection[str] | None = None,
    *,
    answers: Mapping[str, Any] | None = None,
    read: Callable[[str], str] = input,
    show: Callable[[str], object] = print,
) -> CausalGraph:
    """Put the six questions and return the graph they draw, told back in sentences.

    Parameters
    ----------
    columns : collection of str, optional
        Of the table, so that a mistyped name is met at once.
    answers : mapping, optional
        ``outcome``, ``label``, ``workflow``, ``why``, ``patient``, ``selected``: what is answered
        here is not asked.  With all that matter given, nothing is asked at all: leave out
        ``patient`` and ``selected`` only by ``""``.
    read, show : callable
        How a question is put and how the graph is told.

    Raises
    ------
    GraphError
        An answer in ``answers`` cannot be meant; one that was typed is asked for again.

    Examples
    --------
    >>> graph = ask(answers={"outcome": "ill", "label": "cause", "workflow": "portable, site",
    ...                      "why": "portable = sicker: icu; site = prevalence", "patient": "age",
    ...                      "selected": ""}, show=lambda text: None)
    >>> print(graph.invariance(["portable", "site"], "ill"))
    z ⊥ portable, site | ill, age, icu
    """
    given = dict(answers or {})
    for key in given:
        if key not in KEYS:
            raise GraphError(
                f"no question is called {key!r}.{did_you_mean(str(key), KEYS)} "
                f"They are {listing(KEYS)}."
            )
    found: dict[str, Any] = {}
    for question in QUESTIONS:
        if question.key == "label" and not found["outcome"]:
            found["label"] = "cause"
        elif question.key == "why" and not found["outcome"]:
            found["why"] = {}
        elif question.key in given:
            found[question.key] = _understood(question.key, given[question.key], found, columns)
        else:
            found[question.key] = _asked(question, found, columns, read, show)
    graph = _drawn(found)
    show("\n".join(["", *sentences(graph, found["workflow"]), "", str(graph)]))
    return graph


def _asked(
    question: Question,
    found: Mapping[str, Any],
    columns: Collection[str] | None,
    read: Callable[[str], str],
    show: Callable[[str], object],
) -> Any:
    """Put a question until its answer can be understood."""
    while True:
        answer = read(f"{KEYS.index(question.key) + 1} of {len(KEYS)}. {question.text}\n> ")
        try:
            return _understood(question.key, answer, found, columns)
        except GraphError as error:
            show(str(error))


def _understood(
    key: str, answer: Any, found: Mapping[str, Any], columns: Collection[str] | None
) -> Any:
    """Return an answer as the graph needs it.

    Raises
    ------
    GraphError
        It names no column or no choice that is there.
    """
    if key == "label":
        return _choice("label", str(answer).strip(), LABELS)
    if key == "why":
        return _reasons(answer, found["workflow"], found["label"], columns)
    names = _names(answer)
    taken = {name for other in found if other != "why" for name in as_names(found[other])}
    for name in names:
        _present(name, columns, key)
        if key in ("workflow", "patient") and name in taken:
            raise GraphError(f"{name!r} has a part already: name each column once.")
    if key == "outcome":
        if len(names) > 1:
            raise GraphError(
                f"{in_words(names)}: the questions are about one outcome. Ask for the first, and "
                "add the arrows of the others to the text of the graph."
            )
        return names[0] if names else ""
    if key == "workflow" and not names:
        raise GraphError("no workflow column: without one there is nothing to remove. Name one.")
    if key == "selected":
        known = {*found["workflow"], *found["patient"], found["outcome"]}
        for name in names:
            if name not in known:
                raise GraphError(
                    f"{name!r} has no part in the graph yet.{did_you_mean(name, known)} "
                    f"Choose from {listing(sorted(known - {''}))}."
                )
    return names


def _reasons(
    answer: Any, workflow: tuple[str, ...], label: str, columns: Collection[str] | None
) -> dict[str, tuple[str, str]]:
    """Return the reason for each workflow column, and the column of severity."""
    if isinstance(answer, Mapping):
        parts = {str(k): str(v) for k, v in answer.items()}
    else:
        pieces = [piece.strip() for piece in str(answer).split(";") if piece.strip()]
        if any("=" in piece for piece in pieces):
            pairs = [piece.partition("=") for piece in pieces]
            parts = {name.strip(): reason.strip() for name, _, reason in pairs}
        else:
            parts = dict.fromkeys(workflow, str(answer).strip())
    for name in parts:
        if name not in workflow:
            raise GraphError(
                f"{name!r} is none of the workflow columns.{did_you_mean(name, workflow)} "
                f"They are {listing(workflow)}."
            )
    for name in workflow:
        if name not in parts:
            raise GraphError(f"nothing was said of why {name!r} goes with the disease.")
    reasons = {}
    for name, said in parts.items():
        word, _, column = (piece.strip() for piece in said.partition(":"))
        reason = _choice("why", word, REASONS)
        if column:
            if reason != "sicker":
                raise GraphError(f"{said!r}: only 'sicker' takes a column, as 'sicker: icu'.")
            _present(column, columns, "why")
        if reason == "referral" and label == "read":
            raise GraphError(
                f"{name!r}: a label read from the image comes after it and cannot have decided how "
                "it was taken. Answer 'sicker: column' for what was known before, or 'habit'."
            )
        reasons[name] = (reason, column or SEVERITY)
    return reasons


def _choice(key: str, word: str, known: Mapping[str, str]) -> str:
    if word not in known:
        raise GraphError(
            f"{word!r} is no answer to {key!r}.{did_you_mean(word, known)} Choose from "
            f"{listing(known)}."
        )
    return word


def _names(answer: Any) -> tuple[str, ...]:
    if answer is None:
        return ()
    if isinstance(answer, str):
        answer = answer.split(",")
    return as_names([str(name).strip() for name in answer if str(name).strip()])


def _present(name: str, columns: Collection[str] | None, key: str) -> None:
    if name == IMAGE:
        raise GraphError(f"{IMAGE!r} stands for the pixels: it is no answer to {key!r}.")
    if columns is not None and name not in columns:
        raise GraphError(
            f"the table has no column {name!r} (answer to {key!r})."
            f"{did_you_mean(name, map(str, columns))} Columns: {listing(columns)}."
        )


def _drawn(found: Mapping[str, Any]) -> CausalGraph:
    """Return the graph that the answers describe."""
    y, workflow, patient = found["outcome"], found["workflow"], found["patient"]
    edges = [(c, IMAGE) for c in workflow] + [(x, IMAGE) for x in patient]
    pairs: list[tuple[str, str]] = []
    # Who the patient is decides how they are imaged, and how likely they are to be ill.
    edges += [(x, c) for x in patient for c in workflow]
    edges += [(x, y) for x in patient if y]
    if y:
        edges.append((y, IMAGE) if found["label"] == "cause" else (IMAGE, y))
    for c, (reason, severity) in found["why"].items():
        if reason == "sicker":
            edges += [(severity, c), (severity, IMAGE)]
            edges += [(severity, y)] if found["label"] == "cause" else []
        elif reason == "referral":
            edges.append((y, c))
        elif reason == "prevalence":
            edges.append((c, y))
        elif reason == "habit":
            pairs.append((c, y))
    edges += [(name, INCLUDED) for name in found["selected"]]
    return CausalGraph(
        nodes=(IMAGE,),
        edges=tuple(edges),
        bidirected=tuple(pairs),
        selected=(INCLUDED,) if found["selected"] else (),
    )
