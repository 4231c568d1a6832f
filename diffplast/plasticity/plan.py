"""The order of an episode's updates and products, and where the backward pass finds the trace.

forward.py has the legend of names.
"""

from typing import NamedTuple

import numpy as np

from .forward import MAX_PENDING, get_update
from .jit import part
from .simd import LANES, load, maximum, store, zeros

# By how much rounding errors of the trace may grow while it is un-updated. With c the least decay of an update's
# columns, each update adds at most 1.5 roundings and multiplies what there was by 1 / c. After k updates whose factors
# 1 / c multiply to at most GROWTH, the error is at most 1.5 k GROWTH roundings of the largest number of the trace.
GROWTH = 4.0


class Plan(NamedTuple):
    """What happens in an episode, in its order.

    Pass p makes the updates up to pass_end[p] and then the product of step pass_step[p] (-1: none); the passes are
    those of `forward`. Update u is that of step update_step[u]. The trace before it is made from checkpoint
    source[u] (-1: un-updated), which holds the trace before update checkpoint_at[source[u]].
    """

    pass_step: np.ndarray
    pass_end: np.ndarray
    update_step: np.ndarray
    source: np.ndarray
    checkpoint_at: np.ndarray


@part
def new_plan(steps):
    """Room for an episode of `steps` steps."""
    return Plan(
        np.empty(2 * steps + 2, np.int64),
        np.empty(2 * steps + 2, np.int64),
        np.empty(steps + 1, np.int64),
        np.empty(steps + 1, np.int64),
        np.empty(steps + 1, np.int64),
    )


@part
def list_passes(plan, steps, b):
    """Fill `plan` but for the checkpoints; returns how many passes there are."""
    plan.update_step[0] = -1
    updates = pending = 1
    passes = 0
    length = steps.has_free.shape[0]
    for t in range(length + 1):
        last = t == length
        multiply = not last and steps.has_free[t, b] > 0
        push = not last and steps.repeats[t, b] > 0
        if multiply or (push and pending == MAX_PENDING) or (last and pending > 0):
            plan.pass_step[passes] = t if multiply else -1
            plan.pass_end[passes] = updates
            passes += 1
            pending = 0
        if push:
            plan.update_step[updates] = t
            updates += 1
            pending += 1
    return passes


@part
def _growth(episodes, update, totals):
    """By how much the errors of the trace grow at most when an update is undone; infinite where it cannot be."""
    n = episodes.states.shape[2]
    least = update.remains
    if update.rate > 0:
        most = zeros(episodes.states, 1, 1)
        for j in range(0, n, LANES):
            post = load(episodes.states, update.post_at + j, 0, 1, 1)
            most = maximum(post * post, most)
        store(totals, 0, 0, most)
        square = totals[0]
        for lane in range(1, LANES):
            square = max(square, totals[lane])
        least = update.remains - update.rate * square
    return max(1.0, 1.0 / least) if least > 0 else np.inf


@part
def place_checkpoints(plan, episodes, updates, count, scratch, totals):
    """Choose how the trace before each of the first `count` updates is found.

    From the last update to the first; `growth` is that of the errors since the trace was not un-updated.
    """
    checkpoints, growth = 0, np.inf
    plan.source[0] = -1  # where there are no updates to go back through
    for u in range(count - 1, -1, -1):
        distance = scratch.far if checkpoints == 0 else plan.checkpoint_at[checkpoints - 1] - u
        if scratch.undo:
            growth *= _growth(episodes, get_update(updates, u), totals)
        if growth <= GROWTH and distance < scratch.far and u > 0:
            plan.source[u] = -1
            continue
        growth = 1.0 if scratch.undo else np.inf
        plan.source[u] = checkpoints
        if distance >= scratch.near or u == 0:
            plan.checkpoint_at[checkpoints] = u
            checkpoints += 1
