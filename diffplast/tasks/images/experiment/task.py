"""Natural images: three images are shown, one with its upper or lower half blanked is to be restored."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from diffplast.core.errors import UserError
from diffplast.core.exact import fixed_mean, fixed_sum
from diffplast.core.task import Metric, Positive, PositiveFloat, Step, Strict, Task
from diffplast.plasticity.products import product
from diffplast.tasks.completion import Presentation, RecurrentNetwork, completion_inputs, random_orders

SHUFFLES = 1000
"""Times that pixels change places, to see how alike connections are by chance: no p below one in as many."""


class Experiment(Strict):
    """The paper's experiment on natural images. side: of an image, in pixels."""

    side: Positive
    times: Presentation
    init: PositiveFloat
    eta: PositiveFloat


@dataclass
class Episodes:
    """inputs (T, B, pixels + 1) and clamped as `completion_inputs`; images (B, P, pixels) in [-1, 1].

    target (B, pixels): the image to restore. cue: what is shown of it, 0 where it is blanked.
    """

    inputs: Tensor
    clamped: Tensor
    images: Tensor
    target: Tensor
    cue: Tensor


class Images(Task[Experiment]):
    """Natural images."""

    title = "Natural images"
    arms = {"plastic": "plastic", "homogeneous": "homogeneous α", "nonplastic": "non-plastic"}
    metrics = {
        "squared_error": Metric("summed squared error of an image", higher_is_better=False),
        "blank_error": Metric("summed squared error where the half is left blank", higher_is_better=False),
    }
    dataset = "images"
    Experiment = Experiment

    def __init__(self, experiment, settings, arm, device, data=None):
        """Raises UserError where the images are of another size, or fewer than an episode shows."""
        super().__init__(experiment, settings, arm, device, data)
        if data is None:
            return
        side, count = experiment.side, min(len(data["train"]), len(data["test"]))
        if data["train"].shape[1] != side**2:
            pixels = math.isqrt(data["train"].shape[1])
            raise UserError(f"images.experiment.side is {side}, but the prepared images have {pixels} pixels a side")
        if count < experiment.times.patterns:
            raise UserError(
                f"images.experiment.times.patterns is {experiment.times.patterns}, but of the images for training or "
                f"tests there are only {count}"
            )

    def network(self, generator: np.random.Generator) -> nn.Module:
        """One neuron a pixel and one for the bias."""
        e = self.experiment
        return RecurrentNetwork(e.side**2 + 1, self.arm, e.init, e.eta, generator).to(self.device)

    def episodes(self, split: str, generator: np.random.Generator, batch: int) -> Episodes:
        """Images of the split, the orders of presentation, the image to restore and which half of it is blanked."""
        times, pixels = self.experiment.times, self.experiment.side**2
        pool = self.data[split]
        chosen = np.stack([generator.choice(len(pool), times.patterns, replace=False) for _ in range(batch)])
        images = torch.from_numpy(pool[chosen])
        order = random_orders(times, generator, batch)
        target = images[torch.arange(batch), torch.from_numpy(generator.integers(times.patterns, size=batch))]
        upper_kept = torch.from_numpy(generator.integers(2, size=(batch, 1)).astype(bool))
        upper = torch.arange(pixels) < pixels // 2
        cue = torch.where(upper == upper_kept, target, 0.0)
        inputs, clamped = completion_inputs(times, images, order, cue)
        return Episodes(*(tensor.to(self.device) for tensor in (inputs, clamped, images, target, cue)))

    def step(self, network: nn.Module, episodes: Episodes) -> Step:
        """Restore the image in the last step. The loss is the summed squared error, averaged over episodes."""
        error = fixed_sum((self.restore(network, episodes) - episodes.target).square(), 1)
        blank = fixed_sum((episodes.cue - episodes.target).square(), 1)
        return Step(fixed_mean(error, 0), {"squared_error": error.detach(), "blank_error": blank})

    def restore(self, network: nn.Module, episodes: Episodes) -> Tensor:
        """Outputs of the pixels in the last step, (B, pixels)."""
        return network(episodes.inputs, episodes.clamped)[-1, :, :-1]

    def examples(self, network, untrained, generator):
        """Six held-out episodes with what the network makes of them, and its matrices.

        presented (6, P, side, side), cue, restored, target (6, side, side); weight and alpha as `thumbnail`, and
        weight_structure, alpha_structure as `structure`; alpha's are there for the plastic network alone.
        """
        side = self.experiment.side
        with torch.no_grad():
            episodes = self.episodes("test", generator, 6)
            restored = self.restore(network, episodes)
        shown = {
            name: value.cpu().numpy().astype(np.float16).reshape(*value.shape[:-1], side, side)
            for name, value in (
                ("presented", episodes.images),
                ("cue", episodes.cue),
                ("restored", restored),
                ("target", episodes.target),
            )
        }
        matrices = {"weight": network.weight}
        if network.alpha is not None and network.alpha.dim():
            matrices["alpha"] = network.alpha
        for name, matrix in matrices.items():
            values = matrix.detach().cpu().numpy()
            shown[name] = thumbnail(values)
            shown[f"{name}_structure"] = structure(values[:-1, :-1], side, generator)
        return shown


def thumbnail(matrix: np.ndarray) -> np.ndarray:
    """A square matrix as float16, each entry the one of largest magnitude in a square of 4 × 4.

    Single lines stay visible, and the picture stays small enough to be kept beside the results.
    """
    block = 4
    n = len(matrix) // block
    blocks = matrix[: n * block, : n * block].reshape(n, block, n, block).swapaxes(1, 2).reshape(n, n, -1)
    largest = np.abs(blocks).argmax(axis=-1)
    return np.take_along_axis(blocks, largest[..., None], axis=-1)[..., 0].astype(np.float16)


def structure(matrix: np.ndarray, side: int, generator: np.random.Generator, shuffles: int = SHUFFLES) -> np.ndarray:
    """How alike the connections of neighbouring pixels are: [value, mean and standard deviation when shuffled].

    matrix: (pixels, pixels), from row to column, of images of side × side pixels, row by row.

    The value is Moran's I of the connections: with z the entries minus their mean, the mean of z_ij z_ik over all
    pixels i and all pairs j, k of pixels side by side or one above the other, and of z_ji z_ki likewise, over the mean
    of z². Connections of a pixel to itself are left out. 0: neighbours are not alike; 1: they are the same. Shuffled:
    the pixels change places at random, rows and columns together, as in Mantel's test, so that what a pixel is like as
    a whole stays and where it lies is lost. All sums are of fixed order.
    """
    pixels = side * side
    z, apart = matrix.astype(np.float64), 1 - np.eye(pixels)
    count = pixels * (pixels - 1)
    z = (z - _total(z * apart) / count) * apart
    alike = product(z.T, z) + product(z, z.T)  # alike[j, k]: the sum over i of z_ij z_ik + z_ji z_ki
    places = np.arange(pixels).reshape(side, side)
    first = np.concatenate([places[:, :-1].ravel(), places[:-1].ravel()])
    second = np.concatenate([places[:, 1:].ravel(), places[1:].ravel()])
    scale = 2 * len(first) * (pixels - 2) * _total(z * z) / count
    orders = [np.arange(pixels), *(generator.permutation(pixels) for _ in range(shuffles))]
    values = np.array([math.fsum(alike[order[first], order[second]]) for order in orders]) / scale
    mean = math.fsum(values[1:]) / shuffles
    deviation = math.sqrt(math.fsum((values[1:] - mean) ** 2) / (shuffles - 1))
    return np.array([values[0], mean, deviation])


def _total(values: np.ndarray) -> float:
    return fixed_sum(torch.from_numpy(values).flatten(), 0).item()


TASK = Images
