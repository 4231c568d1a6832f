"""The network: convolutions down to one pixel, and the plastic layer from its features to the classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from diffplast.core.exact import draws
from diffplast.core.exact.convolution import convolutions
from diffplast.tasks.omniglot.experiment.head import logits

if TYPE_CHECKING:
    from diffplast.tasks.omniglot.experiment.task import Episodes, Experiment


class Network(nn.Module):
    """3 × 3 convolutions of stride 2 with tanh, and a plastic layer whose outputs are the classes' logits.

    weights: (3, 3, 1, F), then (3, 3, F, F); biases (F,): of the convolutions. weight (F, ways); alpha as weight, 0-d
    or None; eta 0-d or None: of the plastic layer.
    """

    def __init__(self, plasticity: str, experiment: Experiment, generator: np.random.Generator):
        """Draws the initial values from `generator`.

        plasticity: "plastic", "homogeneous" (one coefficient for all connections) or "nonplastic".
        A shared coefficient starts at init_alpha itself, as in the program.
        """
        super().__init__()
        self.strength = experiment.label_strength
        features, shape = experiment.features, (experiment.features, experiment.ways)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        normal, uniform = draws.normal(generator), draws.uniform(generator)
        for layer in range(int(math.log2(experiment.side + 1)) - 1):
            channels = features if layer else 1
            bound = 1 / math.sqrt(9 * channels)  # torch's default, as the program's
            self.weights.append(nn.Parameter(bound * (2 * uniform(3, 3, channels, features) - 1)))
            self.biases.append(nn.Parameter(bound * (2 * uniform(features) - 1)))
        self.weight = nn.Parameter(experiment.init_weight * normal(*shape))
        self.alpha = self.eta = None
        if plasticity != "nonplastic":
            coefficients = uniform(*shape) if plasticity == "plastic" else torch.ones(())
            self.alpha = nn.Parameter(experiment.init_alpha * coefficients)
            self.eta = nn.Parameter(torch.tensor(experiment.eta))

    def forward(self, episodes: Episodes) -> Tensor:
        """Logits (P, Q, ways) of task.Episodes. All drawings pass the convolutions in one batch, each once."""
        features = self.features(torch.cat([episodes.shown, episodes.tested]))
        shown, tested = features.split([len(episodes.shown), len(episodes.tested)])
        none = self.weight.new_zeros(())
        alpha, eta = (none, none) if self.alpha is None else (self.alpha, self.eta)
        return logits(
            shown, episodes.presented, episodes.label, tested, episodes.asked, self.weight, alpha, eta, self.strength
        )

    def features(self, drawings: Tensor) -> Tensor:
        """drawings (D, side, side) -> (D, F)."""
        return convolutions(drawings, list(self.weights), list(self.biases))
