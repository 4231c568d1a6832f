"""Updates on a GPU as one recorded graph: a small network's update is hundreds of launches, which take longer than the
arithmetic. Recorded once and replayed, they are launched together."""

import copy
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from diffplast.core.task import Step


class CapturedUpdate:
    """Replays one recorded update: forward pass, backward pass, norm of the gradient, step of the optimizer.

    The optimizer leaves out a step whose loss or gradient is not finite, so that the network stays the last good one.
    """

    def __init__(
        self,
        step: Callable[[nn.Module, Any], Step],
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        episodes: Any,
    ):
        """Record the update on `episodes`, a dataclass of tensors, whose shapes stay; network and optimizer stay as
        they are.

        optimizer: made with `capturable=True`.
        """
        self._step, self._network, self._optimizer = step, network, optimizer
        self._episodes = copy.copy(episodes)
        for entry in fields(episodes):
            setattr(self._episodes, entry.name, getattr(episodes, entry.name).clone())
        before = copy.deepcopy((network.state_dict(), optimizer.state_dict()))
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):  # so that libraries have chosen their kernels and the optimizer has its state
                self._update()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(self._graph):
            self._names, self._results = self._update()
        self._put_back(*before)

    def replay(self, episodes: Any) -> None:
        """Launch the update on other episodes; the GPU works on while the program continues."""
        for entry in fields(episodes):
            getattr(self._episodes, entry.name).copy_(getattr(episodes, entry.name), non_blocking=True)
        self._graph.replay()

    def results(self) -> dict[str, float]:
        """Wait for the update that was launched last. Returns the metrics' means, "loss" and "norm"."""
        return dict(zip(self._names, self._results.tolist(), strict=True))

    def _update(self) -> tuple[list[str], Tensor]:
        step = self._step(self._network, self._episodes)
        self._optimizer.zero_grad(set_to_none=True)
        step.loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in self._network.parameters() if p.grad is not None])
        self._optimizer.found_inf = (~torch.isfinite(step.loss + norm)).float()
        self._optimizer.step()
        values = {name: value.mean() for name, value in step.metrics.items()} | {"loss": step.loss, "norm": norm}
        return list(values), torch.stack([value.detach().double() for value in values.values()])

    @torch.no_grad()
    def _put_back(self, network: dict[str, Tensor], optimizer: dict[str, Any]) -> None:
        """Give parameters and the optimizer's state the values they had, in the same tensors: the graph knows these."""
        for name, value in self._network.state_dict().items():
            value.copy_(network[name])
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        for number, parameter in enumerate(parameters):
            for name, value in self._optimizer.state[parameter].items():
                saved = optimizer["state"].get(number, {}).get(name)
                value.zero_() if saved is None else value.copy_(saved)
