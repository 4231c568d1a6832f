"""One replay, in a process of its own: a run trained again from its beginning, with today's code."""

import json
import platform
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from diffplast.core import dataset, registry, runs
from diffplast.core.errors import UserError
from diffplast.core.task import HeldOut, Task
from diffplast.core.training import State, advance, new_network
from diffplast.verify.committed import Committed
from diffplast.verify.compare import ALL, FEWEST, Comparison, compare_curves, compare_fingerprints, compare_metrics

SAME = "the same bytes"
OTHER = "another curve"
NOT_REPLAYED = "not replayed"


@dataclass(frozen=True)
class Job:
    """What is to be replayed.

    windows: of the committed curve, at most. data: the prepared file that its task needs, or None. network: also
    evaluate the trained network that is committed. deadline: time.time() after which it ends at its next window; one
    that has not begun by then does not begin.
    """

    committed: Committed
    windows: int
    data: Path | None = None
    network: bool = False
    deadline: float | None = None


@dataclass
class Outcome:
    """What came of a job.

    verdict: SAME, "equal to N digits", OTHER, or NOT_REPLAYED. why: why it was not replayed. differs: what has another
    number.
    windows, episode: how far the curve was compared. untrained, network: the same verdicts of the evaluations, or None.
    seconds: of training, over `trained` episodes, without the first update, which loads what is compiled.
    """

    committed: Committed
    verdict: str = NOT_REPLAYED
    why: str | None = None
    windows: int = 0
    episode: int = 0
    untrained: str | None = None
    network: str | None = None
    seconds: float = 0.0
    trained: int = 0
    differs: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether nothing that was made again is another number."""
        return not self.differs

    def judge(self, what: str, comparison: Comparison, exact: bool) -> str:
        """Return the verdict of a comparison, and note a difference. exact: whether the same bits are to be had."""
        if comparison.digits == ALL:
            return SAME
        if not exact and comparison.digits >= FEWEST:
            return f"equal to {comparison.digits} digits"
        self.differs.append(f"{what}: {comparison.where}")
        return OTHER if what == "curve" else "other numbers"


def replay(job: Job) -> Outcome:
    """Replay a run and compare it with what is committed of it. Its files are only read."""
    outcome = Outcome(job.committed)
    if job.deadline is not None and time.time() > job.deadline:
        outcome.why = "no time left"
        return outcome
    try:
        task = make_task(job)
    except UserError as error:
        outcome.why = str(error)
        return outcome
    except ValueError as error:  # today's models refuse the committed parameters
        outcome.differs.append(f"parameters: {' '.join(str(error).split())}")
        outcome.verdict = OTHER
        return outcome
    exact = has_fixed_bits(job.committed, task)
    _replay_curve(job, task, outcome, exact)
    record = job.committed.record
    test = HeldOut.model_validate_json(json.dumps(record["test"]))
    from stages.evaluate import evaluate, evaluate_untrained

    found = evaluate_untrained(task, test, job.committed.run.seed)
    outcome.untrained = outcome.judge("evaluation", compare_metrics(record["untrained"], found, exact), exact)
    if job.network and job.committed.keeps_network:
        network = new_network(task, job.committed.run.seed)
        load_network(network, job.committed.network)
        found = evaluate(task, network, test, job.committed.run.seed)
        outcome.network = outcome.judge("network", compare_metrics(job.committed.metrics, found, exact), exact)
    return outcome


def make_task(job: Job) -> Task:
    """Make the task of a committed run, with the parameters committed with it.

    Raises UserError where it cannot be replayed, and ValueError where its parameters are no longer accepted.
    """
    run, record = job.committed.run, job.committed.record
    if "untrained" not in record:
        raise UserError("made before runs kept what a replay needs")
    kind = registry.load(run.task)
    runs.be_deterministic()
    data = None
    if job.data is not None:
        data = dataset.load(job.data, kind.dataset)
        if dataset.fingerprint(data) != record["data_sha256"]:
            raise UserError(f"{job.data} holds other data than it was trained on")
    experiment, settings = (
        model.model_validate_json(json.dumps(record[name]))
        for model, name in ((kind.Experiment, "experiment"), (kind.Settings, "settings"))
    )
    device = torch.device("cpu" if job.committed.on_cpu or not torch.cuda.is_available() else "cuda")
    return kind(experiment, settings, run.arm, device, data)


def has_fixed_bits(committed: Committed, task: Task) -> bool:
    """Whether a replay must give the same bits: made and replayed on a CPU, and this one an x86-64."""
    return committed.on_cpu and task.device.type == "cpu" and platform.machine() in ("x86_64", "AMD64")


def load_network(network: torch.nn.Module, path: Path) -> None:
    """Load the parameters that `stages.evaluate` has kept. Nothing in the file is executed."""
    with np.load(path, allow_pickle=False) as arrays:
        network.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays.files})


def _replay_curve(job: Job, task: Task, outcome: Outcome, exact: bool) -> None:
    committed = job.committed
    failure = committed.metrics["failure"]
    whole = job.windows >= len(committed.ends)
    last = max(committed.ends[: job.windows], default=committed.episodes)
    if whole and failure:
        last = committed.episodes + 1  # it failed within the window after its last one
    state, begun, first = State(task, committed.run.seed), None, 0
    while not state.done and state.episode < last:
        advance(task, state)
        if begun is None:
            begun, first = time.monotonic(), state.episode
        late = job.deadline is not None and time.time() > job.deadline
        if late and state.window.episodes == 0 and state.episode >= min(committed.ends, default=0):
            break
    outcome.seconds, outcome.trained = time.monotonic() - begun, state.episode - first
    comparison = compare_curves(committed, state.curve, state.done)
    bits = compare_fingerprints(committed, state.fingerprints)
    if exact and bits.first is not None and (comparison.first is None or bits.first < comparison.first):
        comparison = replace(bits, windows=comparison.windows)
    if comparison.digits == ALL and state.failure != failure and (state.done or state.episode >= last):
        comparison = Comparison(comparison.windows, 0, f"its end: {failure}, now {state.failure}")
    outcome.windows = comparison.windows
    outcome.episode = max((end for end in committed.ends if end <= state.episode), default=0)
    outcome.verdict = outcome.judge("curve", comparison, exact)
