"""Adversarial training of an adapter beside fairlearn, skada and a plain PyTorch loop.

    python -m benchmarks.dann            two minutes on a core of its own
    python -m benchmarks.dann --quick    a smoke test
    python -m benchmarks.dann --out dann.json

50,000 embeddings of 768 columns, batches of 256, one residual adapter (768 -> 128 -> 768), one
outcome head, one adversary of 256 hidden units, every player updated in every step.  Two packages
do not do the same thing in a step, so what is compared is the time for each *film that a training
step has seen*, counted inside the adapter: data loading, batching, forward, backward, optimiser.

- ours: `deconf.methods.game.play`, with its stratified batches, weights and clipping; the turns,
  the views and the ensemble of `dann` are left out, for no peer has them;
- plain: the loop that anybody would write, rows drawn by one permutation of an epoch;
- fairlearn: `AdversarialFairnessClassifier` (Zhang et al. 2018); its adversary reads the score of
  the head, one column instead of 768, so it has *less* to compute.  It divides by the norm of
  every gradient, and so cannot start at the identity, where some are zero;
- skada: `skada.deep.DANN`; one level is its source, the other its target.

One thread, and the time of the processor, not of the wall: other work on the machine does not
count.  Runs take turns, and medians are compared.  fairlearn and skada are no dependencies: where
they cannot be imported the row reads "not installed".
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn
from torch.nn import functional as F

from deconf.maths.maps import Residual
from deconf.maths.moments import Given
from deconf.methods.films import Films, films_of, stratified
from deconf.methods.game import Game, Penalty, Rounds, play
from deconf.probes.critics import Adversary, reversal

HIDDEN, READER = 128, 256
RATE = 1e-3
CLAIMED = {"fairlearn": 2.5, "skada": 2.5, "plain": 1 / 1.2}  # ratios wanted at least


class Counted(Residual):
    """A residual adapter that counts the rows it is trained on."""

    rows = 0

    def forward(self, x: Tensor) -> Tensor:
        """Map embeddings."""
        if self.training:
            type(self).rows += len(x)
        return super().forward(x)


class Reader(Penalty):
    """One adversary of one hidden layer, and no turns of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reader = Adversary(width, READER, 2, is_smooth=False)

    def forward(self, t: Tensor, films: Films) -> Tensor:
        """Return its loss."""
        said = self.reader(reversal(t, 1.0))
        return films.balanced @ F.cross_entropy(said, films.level, reduction="none")


def embeddings(n: int, d: int) -> tuple[ndarray, ndarray, ndarray]:
    """Return z (n, d) float32, level and outcome."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((n, d), dtype=np.float32)
    level, outcome = rng.integers(2, size=(2, n))
    z[:, 0] += level
    z[:, 1] += outcome
    return z, level, outcome


def ours(z: ndarray, level: ndarray, outcome: ndarray, epochs: int, batch: int) -> None:
    films = films_of(z, np.eye(2)[level], Given.nothing(len(z)), outcome, None, torch.device("cpu"))
    head = nn.Linear(z.shape[1], 1).requires_grad_(False)
    game = Game(Counted(z.shape[1], HIDDEN), head, Reader(z.shape[1]), 1.0)
    steps = epochs * (len(z) // batch)
    order, size = stratified(level, batch, steps)
    rounds = Rounds(steps=steps, batch=batch, hidden=HIDDEN, learning_rate=RATE)
    play(game, films, order, size, rounds, seed=0)


def plain(z: ndarray, level: ndarray, outcome: ndarray, epochs: int, batch: int) -> None:
    x, c, y = torch.from_numpy(z), torch.from_numpy(level), torch.from_numpy(outcome).float()
    adapter, head = Counted(z.shape[1], HIDDEN), nn.Linear(z.shape[1], 1)
    reader = nn.Sequential(nn.Linear(z.shape[1], READER), nn.ReLU(), nn.Linear(READER, 2))
    players = [*adapter.parameters(), *head.parameters(), *reader.parameters()]
    adam = torch.optim.AdamW(players, lr=RATE)
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for first in range(0, len(x) - batch + 1, batch):
            rows = order[first : first + batch]
            t = adapter(x[rows])
            loss = (t - x[rows]).square().mean()
            loss = loss + F.binary_cross_entropy_with_logits(head(t)[:, 0], y[rows])
            loss = loss + F.cross_entropy(reader(reversal(t, 1.0)), c[rows])
            adam.zero_grad()
            loss.backward()
            adam.step()


def fairlearn(z: ndarray, level: ndarray, outcome: ndarray, epochs: int, batch: int) -> None:
    from fairlearn.adversarial import AdversarialFairnessClassifier

    adapter = Counted(z.shape[1], HIDDEN)
    nn.init.normal_(adapter.up.weight, std=0.01)
    nn.init.normal_(adapter.up.bias, std=0.01)
    predictor = nn.Sequential(adapter, nn.Linear(z.shape[1], 1), nn.Sigmoid())
    reader = nn.Sequential(nn.Linear(1, READER), nn.ReLU(), nn.Linear(READER, 1), nn.Sigmoid())
    model = AdversarialFairnessClassifier(
        backend="torch", predictor_model=predictor, adversary_model=reader, epochs=epochs,
        batch_size=batch, learning_rate=RATE, shuffle=True, random_state=0,
    )  # fmt: skip
    model.fit(z, outcome, sensitive_features=level)


class Classifier(nn.Module):
    """Adapter and head with a named layer, as skada wants them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.adapter, self.head = Counted(width, HIDDEN), nn.Linear(width, 2)

    def forward(self, x: Tensor, sample_weight: Any = None) -> Tensor:
        """Return the logits."""
        del sample_weight
        out: Tensor = self.head(self.adapter(x))
        return out


class Domains(nn.Module):
    """The adversary in the shape of skada's own: a reversal, and a probability."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, READER), nn.ReLU(), nn.Linear(READER, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor, sample_domain: Any = None) -> Tensor:
        """Return the probability of the target."""
        del sample_domain
        out: Tensor = self.layers(reversal(x, 1.0)).flatten()
        return out


def skada(z: ndarray, level: ndarray, outcome: ndarray, epochs: int, batch: int) -> None:
    from skada.deep import DANN

    net = DANN(
        Classifier(z.shape[1]), layer_name="adapter", domain_classifier=Domains(z.shape[1]),
        max_epochs=epochs, batch_size=batch, lr=RATE, optimizer=torch.optim.AdamW,
        train_split=None, verbose=0,
    )  # fmt: skip
    domain = np.where(level == 1, 1, -2)  # one level the source, the other the target
    masked = np.where(level == 1, outcome, -1)  # as its protocol has it
    net.fit(z, masked.astype(np.int64), sample_domain=domain)


LOOPS: dict[str, Callable[..., None]] = {
    "ours": ours, "plain": plain, "fairlearn": fairlearn, "skada": skada,
}  # fmt: skip


def version(name: str) -> str | None:
    """Return the version of a peer, or None where it is not installed."""
    if name in ("ours", "plain"):
        return torch.__version__
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def microseconds(n: int, d: int, epochs: int, batch: int, times: int) -> dict[str, float | None]:
    """Return the median time of each loop for a film that a step has seen."""
    z, level, outcome = embeddings(n, d)
    here = {name: loop for name, loop in LOOPS.items() if version(name)}
    took: dict[str, list[float]] = {name: [] for name in here}
    for turn in range(times + 1):
        some = slice(0, n if turn else 4 * batch)  # the first turn loads libraries
        for name, loop in here.items():
            Counted.rows = 0
            start = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the peers
                loop(z[some], level[some], outcome[some], epochs, batch)
            if turn:
                took[name].append(1e6 * (time.process_time() - start) / Counted.rows)
    return {name: median(took[name]) if name in took else None for name in LOOPS}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small shapes: a smoke test")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    n, d, epochs, batch, times = (4000, 96, 1, 256, 1) if asked.quick else (50_000, 768, 1, 256, 3)
    found = microseconds(n, d, epochs, batch, times)
    mine = found["ours"] or float("nan")
    print(f"{n:,} x {d}, {epochs} epoch, batches of {batch}, {torch.get_num_threads()} threads, "
          f"median of {times}\n\n{'':10}{'us a film':>10}{'ratio':>8}   wanted")  # fmt: skip
    for name, each in found.items():
        if each is None:
            print(f"{name:10}{'not installed':>18}")
            continue
        wanted = f"  >= {CLAIMED[name]:.2f}" if name in CLAIMED else ""
        print(f"{name:10}{each:>10.1f}{each / mine:>7.2f}x {wanted}")
    if asked.out:
        figures = {
            "shape": {"n": n, "d": d, "epochs": epochs, "batch": batch, "times": times},
            "machine": {
                "python": platform.python_version(),
                "threads": torch.get_num_threads(),
                **{name: version(name) or "not installed" for name in LOOPS},
            },
            "microseconds_a_film": found,
            "ratio": {k: v / mine if v else None for k, v in found.items()},
        }
        asked.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
