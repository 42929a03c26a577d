"""The written form of a causal graph: ``severity -> portable; exposure! -> image; [included]``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from deconf.errors import GraphError

TOKEN = re.compile(
    r"""(?P<space>[^\S\n]+)
      | (?P<comment>\#[^\n]*)
      | (?P<end>[;\n])
      | (?P<arrow><->|->|<-|↔|→|←)
      | (?P<open>\[) | (?P<close>\]) | (?P<mark>!)
      | "(?P<quoted>[^"\n]+)"
      | (?P<name>(?:(?!<->|->|<-)[^\s\[\];\#!",<>↔→←])+)
      | (?P<other>.)""",
    re.VERBOSE,
)
ARROWS = {"↔": "<->", "→": "->", "←": "<-"}
GRAMMAR = (
    "Write a -> b, a <- b, a <-> b (unmeasured common cause), [x] (selected on) or x! (workflow), "
    'separated by ";" or new lines; a name with a space or a comma goes in double quotes.'
)


@dataclass
class Statements:
    """What a text says: the arguments of a graph, in the order written."""

    nodes: list[str] = field(default_factory=list)
    edges: list[tuple[str, str]] = field(default_factory=list)
    bidirected: list[tuple[str, str]] = field(default_factory=list)
    selected: list[str] = field(default_factory=list)
    workflow: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Token:
    """A piece of the text: its kind, what it says, and where it begins (line, character)."""

    kind: str
    value: str
    written: str
    begin: int
    line: int
    character: int


def read(text: str) -> Statements:
    """Read the written form of a graph.

    Raises
    ------
    GraphError
        If a statement cannot be read: it is quoted, with its place and what was expected.
    """
    said = Statements()
    for number, tokens in enumerate(_split(text), start=1):
        quoted = text[tokens[0].begin : tokens[-1].begin + len(tokens[-1].written)]
        _statement(tokens, f"statement {number} cannot be read: {quoted!r}", said)
    return said


def write(name: str) -> str:
    """Return a node's name as it must be written: in quotes where the grammar needs them.

    Examples
    --------
    >>> write("portable"), write("View Position")
    ('portable', '"View Position"')
    """
    token = TOKEN.fullmatch(name)
    return name if token and token.lastgroup == "name" else f'"{name}"'


def _split(text: str) -> list[list[Token]]:
    statements: list[list[Token]] = [[]]
    line, start = 1, 0
    for match in TOKEN.finditer(text):
        kind = str(match.lastgroup)
        if kind == "end":
            statements.append([])
            if match.group() == "\n":
                line, start = line + 1, match.end()
        elif kind not in ("space", "comment"):
            value = match.group(kind)
            if kind == "arrow":
                value = ARROWS.get(value, value)
            place = (match.start(), line, match.start() - start + 1)
            # A name in quotes is a name, whatever it looks like.
            kind = "name" if kind == "quoted" else kind
            statements[-1].append(Token(kind, value, match.group(), *place))
    return [statement for statement in statements if statement]


def _statement(tokens: list[Token], complaint: str, said: Statements) -> None:
    """Read ``term (arrow term)*``, where a term is ``x``, ``x!`` or ``[x]``."""
    at = 0

    def peek() -> str:
        return tokens[at].kind if at < len(tokens) else "nothing"

    def take(kind: str, expected: str) -> Token:
        nonlocal at
        if peek() == kind:
            at += 1
            return tokens[at - 1]
        if at < len(tokens):
            found, line = f"found {tokens[at].written!r}", tokens[at].line
            place = f"line {line}, character {tokens[at].character}"
        else:
            found, place = "found the end of the statement", f"line {tokens[-1].line}, at its end"
        raise GraphError(f"{complaint} ({place}): expected {expected}, {found}. {GRAMMAR}")

    def term() -> str:
        nonlocal at
        after = f" after {tokens[at - 1].written!r}" if at else ""
        selected = peek() == "open"
        at += selected
        name = take("name", f"a node name{after}").value
        if peek() == "mark":
            at += 1
            said.workflow.append(name)
        if selected:
            take("close", f"']' after {name!r}")
            said.selected.append(name)
        said.nodes.append(name)
        return name

    left = term()
    while at < len(tokens):
        arrow = take("arrow", f"an arrow after {left!r}").value
        right = term()
        if arrow == "<->":
            said.bidirected.append((left, right))
        else:
            said.edges.append((left, right) if arrow == "->" else (right, left))
        left = right
