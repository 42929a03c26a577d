"""Small films and a small encoder, quick to train."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import nn

import deconf
from deconf.encoders import Preprocess
from deconf.encoders.base import Encoder
from deconf.tuning.judge import Target


class Small(nn.Module):
    """Films (n, 1, 16, 16) to 12 numbers: a convolution, a 1 x 1 one, batch norm, linear layers."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body = nn.Sequential(
                nn.Conv2d(1, 8, 3, 2, 1),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Conv2d(8, 16, 1),
                nn.ReLU(),
                nn.AvgPool2d(2),
                nn.Flatten(),
                nn.Linear(256, 32),
                nn.ReLU(),
                nn.Dropout(0.1),
                nn.Linear(32, 12),
            )
        self.num_features = 12

    def forward(self, x):
        return self.body(x)


def encoder(seed=0) -> Encoder:
    preprocess = Preprocess(height=16, width=16, channels=1, mean=0.5, std=0.25)
    return deconf.load_encoder(Small(seed), preprocess=preprocess)


def films(n=300, seed=97, both=True):
    """Return films of n patients, each on one device or on both, and their table.

    Disease brightens the middle of a film, the other device stretches its grey values and puts a
    letter into the corner.
    """
    rng = np.random.default_rng(seed)
    ill = rng.integers(2, size=n)
    portable = (rng.random(n) < 0.25 + 0.5 * ill).astype(int)
    person = rng.normal(size=(n, 4, 4)).repeat(4, axis=1).repeat(4, axis=2)
    scene = 110 + 14 * person
    scene[:, 5:11, 5:11] += 40 * ill[:, None, None]
    who = np.arange(n)
    if both:
        scene, ill, who = (np.concatenate([x, x]) for x in (scene, ill, who))
        portable = np.concatenate([portable, 1 - portable])
    scene = scene + 4 * rng.normal(size=scene.shape)
    scene[portable == 1] = 0.9 * scene[portable == 1]
    scene[portable == 1, 1:5, 1:3] += 70
    table = pd.DataFrame({"patient": who, "portable": portable, "ill": ill})
    return scene.clip(0, 255).round().astype(np.uint8), table


def cohort(n=300, seed=97, both=True):
    images, table = films(n, seed, both)
    return deconf.Cohort.from_arrays(images, table, patient="patient", outcome="ill")


def target(of):
    table = of.table
    return Target("portable", table["portable"].to_numpy(), table["ill"].to_numpy())


def outcome(of):
    return of.table["ill"].to_numpy(dtype=float)
