"""The training loop: the one loop in which every network of every task is trained."""

import math
import signal
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from diffplast import seeds
from diffplast.checkpoint import Checkpoint
from diffplast.progress import Progress
from diffplast.tasks.base import Task


class Interrupted(Exception):
    """Training was asked to stop and has saved its state."""


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


def train(task: Task, seed: int, checkpoint: Checkpoint, checkpoint_seconds: float, label: str) -> Trained:
    """Train one network, going on from `checkpoint` where it holds a state of this run.

    Raises Interrupted after SIGINT or SIGTERM, with the state saved. A loss or gradient that is not finite ends the
    run and is a result like any other: see `Trained.failure`.
    """
    settings, arm = task.settings, task.arm
    total, batch = settings.for_arm("episodes", arm), settings.for_arm("batch", arm)
    network = new_network(task, seed)
    generator = seeds.generator(seed, "training")
    optimizer = torch.optim.Adam(
        network.parameters(), lr=settings.for_arm("lr", arm), eps=settings.adam_eps, fused=True
    )
    curve, window, episode, seconds_before, failure = [], Window(), 0, 0.0, None

    saved = checkpoint.load()
    if saved is not None:
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        generator.bit_generator.state = saved["generator"]
        curve = [tuple(row) for row in saved["curve"]]
        window.add({}, saved["window_episodes"])
        window.sums.update(saved["window_sums"])
        episode, seconds_before = saved["episode"], saved["seconds"]
    started = time.monotonic()

    def state() -> dict[str, Any]:
        return {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "generator": generator.bit_generator.state,
            "curve": [list(row) for row in curve],
            "window_episodes": window.episodes,
            "window_sums": dict(window.sums),
            "episode": episode,
            "seconds": seconds_before + time.monotonic() - started,
        }

    save_due = started + checkpoint_seconds
    with StopSignals() as stop, Progress(label, total, episode) as progress:
        while episode < total:
            size = min(batch, total - episode)
            _set_rate(optimizer, settings, arm, episode)
            try:
                values = _update(task, network, optimizer, generator, size)
            except Diverged as error:
                failure = f"after episode {episode:,} {error}"
                break
            episode += size
            window.add(values, size)
            progress.update(size, **values)
            if window.episodes >= settings.curve_every or episode >= total:
                means = window.means()
                curve += [(episode, name, value) for name, value in means.items()]
                window = Window()
                if settings.stop_below is not None and means[task.primary_metric()] < settings.stop_below:
                    break
            if stop.requested and episode < total:
                checkpoint.save(state())
                raise Interrupted(
                    f"{label}: stopped at episode {episode:,}; the state is saved, the same command goes on from there"
                )
            if time.monotonic() >= save_due:
                checkpoint.save(state())
                save_due = time.monotonic() + checkpoint_seconds
    return Trained(network, curve, episode, seconds_before + time.monotonic() - started, failure)


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
