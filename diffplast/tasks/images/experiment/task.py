"""Natural images: three images are shown, one with its upper or lower half blanked is to be restored."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from diffplast.core.task import Metric, Positive, PositiveFloat, Step, Strict, Task
from diffplast.tasks.completion import Presentation, RecurrentNetwork, completion_inputs, random_orders


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
    metrics = {"squared_error": Metric("summed squared error of an image", higher_is_better=False)}
    dataset = "images"
    Experiment = Experiment

    def network(self) -> nn.Module:
        """One neuron a pixel and one for the bias."""
        e = self.experiment
        return RecurrentNetwork(e.side**2 + 1, self.arm, e.init, e.eta).to(self.device)

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
        restored = self.restore(network, episodes)
        error = (restored - episodes.target).square().sum(dim=1)
        return Step(error.mean(), {"squared_error": error.detach()})

    def restore(self, network: nn.Module, episodes: Episodes) -> Tensor:
        """Outputs of the pixels in the last step, (B, pixels)."""
        return network(episodes.inputs, episodes.clamped)[-1, :, :-1]

    def examples(self, network, untrained, generator):
        """Six held-out episodes with what the network makes of them, and its matrices.

        presented (6, P, side, side), cue, restored, target (6, side, side); weight and alpha as `thumbnail`.
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
        shown["weight"] = thumbnail(network.weight)
        if network.alpha is not None and network.alpha.dim():
            shown["alpha"] = thumbnail(network.alpha)
        return shown


def thumbnail(matrix: Tensor, block: int = 4) -> np.ndarray:
    """A square matrix as float16, each entry the one of largest magnitude in a block × block square.

    Single lines stay visible, and the picture stays small enough to be kept beside the results.
    """
    values = matrix.detach().cpu().numpy()
    n = len(values) // block
    blocks = values[: n * block, : n * block].reshape(n, block, n, block).swapaxes(1, 2).reshape(n, n, -1)
    largest = np.abs(blocks).argmax(axis=-1)
    return np.take_along_axis(blocks, largest[..., None], axis=-1)[..., 0].astype(np.float16)


TASK = Images
