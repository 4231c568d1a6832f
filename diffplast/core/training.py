"""The training loop: the one loop in which every network of every task is trained."""

import math
import signal
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from diffplast.core import seeds
from diffplast.core.checkpoint import Checkpoint
from diffplast.core.progress import LiveCurve, Progress
from diffplast.core.task import Task


class Interrupted(Exception):
    """Training was asked to stop; the message says from where the same command goes on."""


class Diverged(Exception):
    """The loss or the gradient is no longer a finite number."""


@dataclass
class Trained:
    """A trained network with its curve: rows of (episode, metric, mean over the window that ends there).

    failure: None, or why training ended before its time; the network is then the last one that was still good.
    """

    network: nn.Module
    curve: list[tuple[int, str, float]]
    episodes: int
    seconds: float
    failure: str | None


@dataclass
class Window:
    """Means of the metrics over the last episodes, weighted by episodes."""

    episodes: int = 0
    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, values: dict[str, float], episodes: int) -> None:
        """Add the means `values` over `episodes` episodes."""
        self.episodes += episodes
        for name, value in values.items():
            self.sums[name] += value * episodes

    def means(self) -> dict[str, float]:
        """Mean of every metric."""
        return {name: total / self.episodes for name, total in self.sums.items()}


def new_network(task: Task, seed: int) -> nn.Module:
    """The network of a run at episode 0."""
    seeds.seed_torch(seed, "init")
    return task.network()


class State:
    """All that changes while a network is trained; `saved` and `restore` carry it over an interruption."""

    def __init__(self, task: Task, seed: int):
        self.network = new_network(task, seed)
        self.generator = seeds.generator(seed, "training")
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=task.settings.for_arm("lr", task.arm), eps=task.settings.adam_eps, fused=True
        )
        self.curve: list[tuple[int, str, float]] = []
        self.window = Window()
        self.episode = 0
        self.seconds = 0.0
        self.done = False
        self.failure: str | None = None

    def saved(self) -> dict[str, Any]:
        """Tensors and plain values, for a checkpoint."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.bit_generator.state,
            "curve": [list(row) for row in self.curve],
            "window": {"episodes": self.window.episodes, "sums": dict(self.window.sums)},
            "episode": self.episode,
            "seconds": self.seconds,
            "done": self.done,
            "failure": self.failure,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from what `saved` returned."""
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.generator.bit_generator.state = saved["generator"]
        self.curve = [tuple(row) for row in saved["curve"]]
        self.window = Window(saved["window"]["episodes"], defaultdict(float, saved["window"]["sums"]))
        self.episode, self.seconds = saved["episode"], saved["seconds"]
        self.done, self.failure = saved["done"], saved["failure"]


def train(
    task: Task, seed: int, checkpoint: Checkpoint, checkpoint_seconds: float, label: str, live: Path | None = None
) -> Trained:
    """Train one network, going on from `checkpoint` where it holds a state of this run.

    The state is saved every `checkpoint_seconds`, and at the end: until the checkpoint is removed, the same call
    returns the same result at once. A state that cannot be saved is said on standard error, and training goes on.
    live: file of the curve so far, see `LiveCurve`; None: there is none.
    A loss or gradient that is not finite ends the run and is a result like any other: see `Trained.failure`.
    Raises Interrupted after SIGINT or SIGTERM, with the state saved where it can be.
    """
    settings = task.settings
    total, batch = settings.for_arm("episodes", task.arm), settings.for_arm("batch", task.arm)
    state = State(task, seed)
    saved = checkpoint.load()
    if saved is not None:
        state.restore(saved)
    safe_episode, earlier = state.episode, state.seconds
    started = time.monotonic()

    def save() -> OSError | None:
        nonlocal safe_episode
        state.seconds = earlier + time.monotonic() - started
        try:
            checkpoint.save(state.saved())
        except OSError as error:
            return error
        safe_episode = state.episode
        return None

    save_due = started + checkpoint_seconds
    with StopSignals() as stop, Progress(label, total, state.episode) as progress:
        live_curve = LiveCurve(live, ["loss", *reversed(task.metrics)], progress.say)  # the first metric is drawn
        live_curve.show(state.curve)
        while not state.done:
            size = min(batch, total - state.episode)
            _set_rate(state.optimizer, settings, task.arm, state.episode)
            try:
                values = _update(task, state.network, state.optimizer, state.generator, size)
            except Diverged as error:
                state.failure, state.done = f"after episode {state.episode:,} {error}", True
                break
            state.episode += size
            state.window.add(values, size)
            progress.update(size, **values)
            state.done = state.episode >= total
            if state.window.episodes >= settings.curve_every or state.done:
                means = state.window.means()
                state.curve += [(state.episode, name, value) for name, value in means.items()]
                state.window = Window()
                live_curve.show(state.curve)
                if settings.stop_below is not None and means[task.primary_metric()] < settings.stop_below:
                    state.done = True
            if stop.requested and not state.done:
                raise Interrupted(f"{label}: stopped at episode {state.episode:,}; {_way_on(save(), safe_episode)}")
            if time.monotonic() >= save_due:
                problem = save()
                if problem is not None:
                    progress.say(f"{_not_saved(problem)}; training goes on, next try in {checkpoint_seconds:g} s")
                save_due = time.monotonic() + checkpoint_seconds
        if saved is None or not saved["done"]:
            problem = save()
            if problem is not None:
                progress.say(f"{_not_saved(problem)}; training is done, its results come next")
    return Trained(state.network, state.curve, state.episode, state.seconds, state.failure)


def _not_saved(problem: OSError) -> str:
    return f"the state could not be saved ({problem.filename}: {problem.strerror})"


def _way_on(problem: OSError | None, safe_episode: int) -> str:
    """How an interrupted run goes on. safe_episode: of the last state that was saved, 0 where there is none."""
    if problem is None:
        return "the state is saved, the same command goes on from there"
    where = f"goes on from episode {safe_episode:,}" if safe_episode else "begins anew"
    return f"{_not_saved(problem)}, so the same command {where}"


def _update(task: Task, network: nn.Module, optimizer, generator: np.random.Generator, size: int) -> dict[str, float]:
    """One update on `size` training episodes. Returns the means of the metrics and of the loss.

    Raises Diverged, with the network as it was, where the loss or the gradient is not finite.
    """
    step = task.step(network, task.episodes("train", generator, size))
    optimizer.zero_grad(set_to_none=True)
    step.loss.backward()
    parameters = [p for p in network.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters])
    loss = step.loss.item()
    if not (math.isfinite(loss) and math.isfinite(norm.item())):
        raise Diverged(f"the loss ({loss:.4g}) or the gradient's norm ({norm.item():.4g}) is not finite")
    if task.settings.clip is not None:
        nn.utils.clip_grads_with_norm_(parameters, task.settings.clip, norm)
    optimizer.step()
    return {name: value.mean().item() for name, value in step.metrics.items()} | {"loss": loss}


def _set_rate(optimizer, settings, arm: str, episode: int) -> None:
    rate = settings.for_arm("lr", arm)
    if settings.decay is not None:
        rate *= settings.decay.factor ** (episode // settings.decay.every)
    for group in optimizer.param_groups:
        group["lr"] = rate


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
