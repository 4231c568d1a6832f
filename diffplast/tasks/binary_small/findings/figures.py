"""The learning curves of the small binary task, headed by how long each arm needed."""

import numpy as np
from matplotlib.figure import Figure

from diffplast.report import numbers, published
from diffplast.report.curves import learning_curves
from diffplast.report.results import TaskResults


def episodes_needed(results: TaskResults) -> tuple[Figure, str]:
    """Learning curves of the small task; the heading says how long each arm needed."""
    level = published.SOLVED_ERROR
    parts = []
    for arm in results.arms:
        needed = results.episodes_to(arm, level)
        if not needed:
            text = "failed"
        elif None in needed:
            longest = max(int(result.metrics["train_episodes"]) for result in results.finished(arm))
            reached = sum(value is not None for value in needed)
            within = f"within {longest:,}"
            text = f"not {within}" if not reached else f"{reached} of {numbers.seeds(len(needed))} {within}"
        else:
            text = f"{np.median(needed):,.0f}"
        parts.append(f"{text} ({results.label(arm)})")
    shown = numbers.show(results.metric, level)
    heading = f"Training episodes until {shown} wrong bits: {', '.join(parts)}"
    return learning_curves(results, heading)
