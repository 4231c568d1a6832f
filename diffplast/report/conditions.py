"""The conditions that a claim of the paper is about, and in which of them ours differ."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diffplast.report import numbers
from diffplast.report.results import TaskResults, data_title

FLAT = 0.05
"""A curve is flat where its last two quarters differ by at most this share of the way from its start to its end."""
LEAST_WINDOWS = 8
"""With fewer windows of training there is no telling whether a curve is flat."""
PLAIN = {"decay": None, "anneal": None, "clip": None, "average": None, "adam_eps": 1e-8, "adam_beta2": 0.999}
"""Settings of training that are plain Adam's, as in the paper but where a claim says otherwise."""
WORDS = {
    "lr": "rate {}", "decay": "decay of the rate: {}", "anneal": "rate falling to 0 over the last {} of training",
    "average": "average of the parameters {}", "adam_eps": "Adam's epsilon {}", "adam_beta2": "Adam's beta2 {}",
    "groupings": "each drawing in {} presentations", "layer_inputs": "initial weights for {} inputs",
    "times.patterns": "{} patterns", "times.rounds": "{} rounds", "times.shown": "each pattern shown for {} steps",
    "times.gap": "{} empty steps between", "times.test": "test of {} steps", "lstm_hidden": "LSTM of {} units",
    "train_classes": "{} characters for training",
}
"""What differs in words; where a name is not here, it is the parameter's with the value behind it."""
NONE = {"groupings": "1", "layer_inputs": "its own"}
"""What null stands for, where it is not "none"."""


@dataclass(frozen=True)
class Conditions:
    """The paper's conditions.

    experiment: environment, architecture and inputs, by dotted key of the task's block `experiment`. settings: how it
    was trained, by name. A value is the paper's for all arms, or a dict with one for each arm, or a set where text and
    program have one each. episodes: length of its training; ours may be shorter where its curve is flat. Where the
    claim counts episodes (flat_counts False) ours may not be shorter, and may be longer. data: name of its data set.
    counts: of what that holds, by key of `counts` in data.json.
    helps: what differs whatever the parameters say, and could only help ours: no excuse where the claim does not hold.
    program: keys of `experiment` and `settings` whose values are the released program's, and not named in the paper.
    """

    experiment: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    episodes: int | Mapping[str, int] | None = None
    flat_counts: bool = True
    data: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    helps: tuple[str, ...] = ()
    program: tuple[str, ...] = ()


def differences(found: TaskResults, arms: tuple[str, ...], paper: Conditions) -> list[str]:
    """Return in words what differs from the paper's conditions in any of `arms`; each says what the paper has."""
    by_arm = {arm: _of_arm(found, arm, paper) for arm in arms}
    every = list(dict.fromkeys(text for texts in by_arm.values() for text in texts))
    words = list(paper.helps)
    for text in every:
        having = [arm for arm in arms if text in by_arm[arm]]
        words.append(text if len(having) == len(arms) else f"{' and '.join(map(found.label, having))}: {text}")
    if paper.data is not None and found.data is not None and found.data["name"] != paper.data:
        words.append(f"data {found.data_label} (paper: {data_title(paper.data)})")
    counts = (found.data or {}).get("counts", {})
    for key, wanted in paper.counts.items():
        if counts.get(key, wanted) != wanted:
            words.append(_say(key, counts[key], wanted, paper))
    return words


def _of_arm(found: TaskResults, arm: str, paper: Conditions) -> list[str]:
    words = []
    for key, wanted in paper.experiment.items():
        wanted, ours = _own(wanted, arm), found.experiment(key)
        if not _same(ours, wanted):
            words.append(_say(key, ours, wanted, paper))
    for name, wanted in paper.settings.items():
        wanted, ours = _own(wanted, arm), found.setting(name, arm)
        if name == "decay" and wanted is None and ours is not None and ours.every >= found.setting("episodes", arm):
            ours = None  # training ends before the first one
        if not _same(ours, wanted):
            words.append(_say(name, ours, wanted, paper))
    if paper.episodes is not None and (runs := found.finished(arm)):
        wanted, ours = _own(paper.episodes, arm), min(run.episodes for run in runs)
        if ours < wanted and not (paper.flat_counts and is_flat(found, arm)):
            words.append(f"{ours:,} of {wanted:,} training episodes{_moving(found, arm) if paper.flat_counts else ''}")
        elif ours > wanted and paper.flat_counts:
            words.append(f"{ours:,} training episodes (paper: {wanted:,})")
    return words


def _say(key: str, ours: Any, wanted: Any, paper: Conditions) -> str:
    whose, plain = "program" if key in paper.program else "paper", key.replace(".", " ").replace("_", " ")
    words = WORDS.get(key.removeprefix("long_"), plain + " {}")
    ours, wanted = (NONE.get(key, "none") if value is None else _write(value) for value in (ours, wanted))
    return f"{words.format(ours)} ({whose}: {wanted})"


def _same(ours: Any, wanted: Any) -> bool:
    ours = ours.model_dump() if hasattr(ours, "model_dump") else ours
    return ours in wanted if isinstance(wanted, set | frozenset) else ours == wanted


def _own(value: Any, arm: str) -> Any:
    return value[arm] if isinstance(value, Mapping) and arm in value else value


def _write(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, set | frozenset):
        return " or ".join(sorted(map(_write, value)))
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return numbers.setting(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    return " ".join(f"{key} {_write(part)}" for key, part in value.items()) if isinstance(value, dict) else str(value)


def _moving(found: TaskResults, arm: str) -> str:
    enough = len(found.curves(arm)) >= LEAST_WINDOWS
    return " while its curve still moved" if enough else ", in too few windows to tell whether its curve still moved"


def is_flat(found: TaskResults, arm: str) -> bool:
    """Return whether the median curve of an arm no longer moves: see FLAT. Under LEAST_WINDOWS windows cannot tell."""
    curves = found.curves(arm)
    if len(curves) < LEAST_WINDOWS:
        return False
    middle = np.median(curves.to_numpy(), axis=1)
    place = curves.index.to_numpy() / curves.index.max()
    third, last = middle[(place > 0.5) & (place <= 0.75)].mean(), middle[place > 0.75].mean()
    return bool(abs(last - third) <= FLAT * abs(middle[0] - last))
