"""The training loop: the one loop in which every network of every task is trained."""

import hashlib
import math
import signal
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffplast.core import seeds
from diffplast.core.capture import CapturedUpdate
from diffplast.core.checkpoint import Checkpoint, Saver
from diffplast.core.exact import adam, gradient_norm
from diffplast.core.progress import LiveCurve, Progress
from diffplast.core.task import Settings, Task

FINGERPRINTS = 5
"""First windows of a run after which a fingerprint of its parameters is kept: a curve may round a difference away."""


class Interrupted(Exception):
    """Training was asked to stop; the message says from where the same command resumes."""


class Diverged(Exception):
    """The loss or the gradient is no longer a finite number."""


@dataclass
class Trained:
    """A trained network with its curve: rows of (episode, metric, mean over the window that ends there).

    fingerprints: (episode, SHA-256 of the network's parameters) after each of the first windows.
    failure: None, or why training ended early; the network is then the last one that was still good.
    """

    network: nn.Module
    curve: list[tuple[int, str, float]]
    fingerprints: list[tuple[int, str]]
    episodes: int
    seconds: float
    failure: str | None


def train(
    task: Task, seed: int, *, checkpoint: Checkpoint, save_every: float, label: str, live: Path | None = None
) -> Trained:
    """Train one network. Resumes where `checkpoint` holds a state of this run.

    The state is saved every `save_every` seconds, and at the end: until the checkpoint is removed, the same call
    returns the same result at once. live: file of the curve so far, see `LiveCurve`; None: there is none.
    A loss or gradient that is not finite ends the run and is a result like any other: see `Trained.failure`.
    Raises Interrupted after SIGINT or SIGTERM, with the state saved where it can be.
    """
    state = State(task, seed)
    saver = Saver(checkpoint, state, save_every)
    with StopSignals() as stop, Progress(label, state.total, state.episode) as progress:
        curve = LiveCurve(live, ["loss", *reversed(task.metrics)], progress.say)  # the first metric is drawn
        curve.show(state.curve)
        while not state.done:
            size, values = advance(task, state)
            if state.failure is not None:
                break
            progress.update(size, **values)
            if state.window.episodes == 0:
                curve.show(state.curve)
            if stop.requested and not state.done:
                raise Interrupted(f"{label}: stopped at episode {state.episode:,}; {saver.save_to_resume()}")
            saver.save_when_due(progress.say)
        saver.save_at_end(progress.say)
    network = state.trained_network()
    return Trained(network, state.curve, state.fingerprints, state.episode, state.seconds, state.failure)


def advance(task: Task, state: "State") -> tuple[int, dict[str, float]]:
    """Make the next update of a run, and close the window of its curve where that is full: what a replay repeats.

    Returns how many episodes it took, and the means of the metrics and of the loss. A loss or gradient that is not
    finite fails the state.
    """
    settings = task.settings
    size = min(settings.batch, settings.episodes - state.episode)
    set_rate(state.optimizer, settings, state.episode)
    try:
        values = update(task, state, size)
    except Diverged as error:
        state.fail(str(error))
        return 0, {}
    state.count(size, values)
    if state.window.episodes >= settings.curve_every or state.done:
        state.close_window()
    return size, values


def update(task: Task, state: "State", size: int) -> dict[str, float]:
    """Make one update on `size` training episodes. Returns the means of the metrics and of the loss.

    Raises Diverged, with the network as it was, where the loss or the gradient is not finite.
    """
    if state.captures:
        values = state.captured_update(task, size)
        norm = values.pop("norm")
        _check_finite(values["loss"], norm)
        state.follow()
        return values
    step = task.step(state.network, state.draw(task, size))
    state.optimizer.zero_grad(set_to_none=True)
    step.loss.backward()
    norm, loss = float(gradient_norm(state.network.parameters())), step.loss.item()
    _check_finite(loss, norm)
    clip = task.settings.clip
    if clip is not None and norm > clip:
        for parameter in state.network.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(clip / norm)
    state.optimizer.step()
    state.follow()
    return {name: mean(value) for name, value in step.metrics.items()} | {"loss": loss}


def _check_finite(loss: float, norm: float) -> None:
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise Diverged(f"the loss ({loss:.4g}) or the gradient's norm ({norm:.4g}) is not finite")


def mean(values: Tensor) -> float:
    """Average without rounding between the terms, so that it depends on no order: (B,) -> number."""
    return math.fsum(values.tolist()) / len(values)


def set_rate(optimizer: torch.optim.Optimizer, settings: Settings, episode: int) -> None:
    """Set the learning rate of the update that begins after `episode` episodes."""
    rate = settings.lr
    if settings.decay is not None:
        rate *= settings.decay.factor ** (episode // settings.decay.every)
    if settings.anneal is not None:
        rate *= min(1.0, (settings.episodes - episode) / (settings.anneal * settings.episodes))
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)  # a recorded update knows this tensor
        else:
            group["lr"] = rate


def new_network(task: Task, seed: int) -> nn.Module:
    """Make the network of a run at episode 0."""
    return task.network(seeds.generator(seed, "init"))


@dataclass
class Window:
    """Means of the metrics over the last episodes, weighted by episodes."""

    episodes: int = 0
    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, episodes: int, values: dict[str, float]) -> None:
        """Add the means `values` over `episodes` episodes."""
        self.episodes += episodes
        for name, value in values.items():
            self.sums[name] += value * episodes

    def means(self) -> dict[str, float]:
        """Return the mean of every metric."""
        return {name: total / self.episodes for name, total in self.sums.items()}


class State:
    """All that changes while a network is trained; `state_dict` and `load_state_dict` carry it over an interruption."""

    def __init__(self, task: Task, seed: int):
        settings = task.settings
        self.total = settings.episodes
        self.network = new_network(task, seed)
        self.generator = seeds.generator(seed, "training")
        self._ahead: tuple[dict, Any] | None = None
        even = settings.episodes % settings.batch == 0  # a recorded update always has as many episodes
        self.captures = task.device.type == "cuda" and task.arm in task.captured and settings.clip is None and even
        self._captured: CapturedUpdate | None = None
        self.optimizer = self._make_optimizer(task)
        self.average_decay = settings.average
        self.average = None if settings.average is None else _values(self.network)
        self.curve: list[tuple[int, str, float]] = []
        self.fingerprints: list[tuple[int, str]] = []
        self.window = Window()
        self.episode = 0
        self.seconds = 0.0
        self.done = False
        self.failure: str | None = None

    def _make_optimizer(self, task: Task) -> torch.optim.Optimizer:
        settings, parameters = task.settings, self.network.parameters()
        betas = 0.9, settings.adam_beta2
        if not self.captures:
            return adam(parameters, settings.lr, betas, settings.adam_eps)
        rate = torch.tensor(settings.lr, device=task.device)
        return torch.optim.Adam(parameters, rate, betas, settings.adam_eps, fused=True, capturable=True)

    def draw(self, task: Task, size: int) -> Any:
        """Draw the next training episodes, or return those drawn ahead."""
        if self._ahead is not None:
            (_, episodes), self._ahead = self._ahead, None
            return episodes
        return task.episodes("train", self.generator, size)

    def captured_update(self, task: Task, size: int) -> dict[str, float]:
        """Make one update on a GPU as a recorded graph, and draw the next episodes meanwhile."""
        episodes = self.draw(task, size)
        if self._captured is None:
            self._captured = CapturedUpdate(task.step, self.network, self.optimizer, episodes)
        self._captured.replay(episodes)
        before = self.generator.bit_generator.state
        self._ahead = before, task.episodes("train", self.generator, size)
        return self._captured.results()

    def count(self, episodes: int, values: dict[str, float]) -> None:
        """Count the episodes of an update, with the means of their metrics."""
        self.episode += episodes
        self.window.add(episodes, values)
        self.done = self.episode >= self.total

    def close_window(self) -> None:
        """Add the window's means to the curve, and at first the network's fingerprint, and begin the next window."""
        self.curve += [(self.episode, name, value) for name, value in self.window.means().items()]
        if len(self.fingerprints) < FINGERPRINTS:
            self.fingerprints.append((self.episode, _fingerprint(self.network)))
        self.window = Window()

    def follow(self) -> None:
        """Move the averaged parameters towards those of the last update."""
        if self.average is not None:
            for kept, value in zip(self.average, self.network.parameters(), strict=True):
                kept.add_((value.detach() - kept).mul_(1 - self.average_decay))

    def fail(self, why: str) -> None:
        """End the run for a reason that becomes part of its result."""
        self.failure, self.done = f"after episode {self.episode:,} {why}", True

    def trained_network(self) -> nn.Module:
        """Return the network, with the averaged parameters where there are any. Ends the training of this state."""
        if self.average is not None:
            with torch.no_grad():
                for value, kept in zip(self.network.parameters(), self.average, strict=True):
                    value.copy_(kept)
        return self.network

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values, for a checkpoint."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "generator": self.generator.bit_generator.state if self._ahead is None else self._ahead[0],
            "curve": [list(row) for row in self.curve],
            "fingerprints": [list(row) for row in self.fingerprints],
            "window": {"episodes": self.window.episodes, "sums": dict(self.window.sums)},
            "episode": self.episode,
            "seconds": self.seconds,
            "done": self.done,
            "failure": self.failure,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Resume from what `state_dict` returned."""
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.average is not None:
            for kept, value in zip(self.average, saved["average"], strict=True):
                kept.copy_(value)
        self.generator.bit_generator.state = saved["generator"]
        self._ahead = None
        self.curve = [tuple(row) for row in saved["curve"]]
        self.fingerprints = [tuple(row) for row in saved["fingerprints"]]
        self.window = Window(saved["window"]["episodes"], defaultdict(float, saved["window"]["sums"]))
        self.episode, self.seconds = saved["episode"], saved["seconds"]
        self.done, self.failure = saved["done"], saved["failure"]


def _values(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def _fingerprint(network: nn.Module) -> str:
    total = hashlib.sha256()
    for parameter in network.parameters():
        total.update(parameter.detach().cpu().numpy().tobytes())
    return total.hexdigest()


class StopSignals:
    """Turns SIGINT and SIGTERM into a request that the loop answers after its current update."""

    def __init__(self):
        self.requested = False

    def __enter__(self) -> "StopSignals":
        self._previous = {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _request(self, number, frame) -> None:
        self.requested = True

    def __exit__(self, *exception) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
