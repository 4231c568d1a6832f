"""Compiled loops of the fused recurrence, backward. README.md derives what they compute; forward.py names things.

    u, p            update of the trace, from 0, which does nothing; pass over the trace: its updates, then a product
    g               block of the gradient by the trace after (then before) an update
    d               gradient by the argument of tanh
    by_pre          sums over the columns: gradient by pre of an update, over its gain
    by_post, by_decay   sums over the rows: gradients by post, over the gain, and by the decay
    back            sums over the columns: gradient by x of a product

A pass needs the trace before each update. It is un-updated from the one after, or made again from a checkpoint.
"""

from typing import NamedTuple

import numpy as np

from .forward import (
    MAX_PENDING,
    ROWS,
    block_at,
    decay_of,
    get_update,
    new_updates,
    rows_of,
    set_update,
    strip_begin,
    strips,
    update_of,
)
from .jit import kernel, part
from .plan import list_passes, new_plan, place_checkpoints
from .simd import LANES, choose, fma, fma_rows, load, spread, store, store_totals, zeros
from .threads import barrier


class Gradients(NamedTuple):
    """What `backward` receives and gives.

    outputs (T + 1, B, N): cotangents of the states; becomes the gradients of initial state and inputs.
    trace (B or 1, N, N): if `final_given`, the cotangent of the final trace; becomes the gradient of the initial one.
    deltas (T, B, N), set at products: gradients by the argument of tanh, 0 for clamped neurons; if there are none,
    these may be the rows of `outputs` after the first. eta (B, strips): parts of the gradient of eta, set. `trace`
    lies in strips.
    """

    outputs: np.ndarray
    trace: np.ndarray
    final_given: bool
    deltas: np.ndarray
    eta: np.ndarray


class Scratch(NamedTuple):
    """Memory that a team works in, not set, and how it is used.

    trace (N, N): the trace on the way back. checkpoints (C, N, N): the trace before some updates. by_rows
    (2, strips, MAX_PENDING + 1, N): sums over the columns of each strip, by_pre of each update of a pass and, last,
    back; two passes take turns. by_columns (MAX_PENDING, 2, N): by_post and by_decay. inverse (N): 1 / decay.
    undo: whether updates may be undone. near, far: checkpoints are at most `far` updates apart, and fewer than `near`
    only at the first. trace and checkpoints lie in strips.
    """

    trace: np.ndarray
    checkpoints: np.ndarray
    by_rows: np.ndarray
    by_columns: np.ndarray
    inverse: np.ndarray
    undo: bool
    near: int
    far: int


@part
def _updated(states, i, j, update, h):
    """A block of the trace, rows i.. and columns j.., after an update."""
    post = load(states, update.post_at + j, 0, 1, 1)
    return fma(spread(states, update.pre_at + i, ROWS), post * update.gain, decay_of(update, post) * h)


class Work(NamedTuple):
    """What a member of a team needs for one episode: its strips are those from `first` to before `last`."""

    episodes: tuple
    updates: tuple
    plan: tuple
    gradients: tuple
    scratch: tuple
    b: int
    trace_at: int
    bounds: np.ndarray
    first: int
    last: int


@part
def _begin(work, trace):
    """Store the trace before every update that has a checkpoint, for own columns.

    Where there is no gradient by the final trace, it is 0, and so are sums for rows of padding. trace (B, N, N): the
    initial one, in strips, or (0, 0, 0) for zeros.
    """
    episodes, updates, plan, scratch = work.episodes, work.updates, work.plan, work.scratch
    n = episodes.states.shape[2]
    for strip in range(work.first, work.last):
        begin, end = work.bounds[strip], work.bounds[strip + 1]
        for i in range(0, rows_of(episodes), ROWS):
            for j in range(begin, end, LANES):
                at = block_at(n, begin, end, i, j)
                h = zeros(episodes.states, ROWS, 1)
                if not work.gradients.final_given:
                    store(work.gradients.trace, work.trace_at + at, LANES, h)
                if trace.shape[0] > 0:
                    h = load(trace, work.b * n * n + at, LANES, ROWS, 1)
                u = 0
                checkpoint = plan.source[0]  # the last one placed
                while checkpoint >= 0:
                    while u < plan.checkpoint_at[checkpoint]:
                        h = _updated(episodes.states, i, j, get_update(updates, u), h)
                        u += 1
                    store(scratch.checkpoints, checkpoint * n * n + at, LANES, h)
                    checkpoint -= 1
    for turn in range(2):
        for strip in range(work.first, work.last):
            scratch.by_rows[turn, strip, :, rows_of(episodes) :] = 0


@part
def _prepare(work, begin, end, t):
    """Before a pass, for own columns: deltas of the product of step t, unless that is -1, and empty sums."""
    episodes, gradients, scratch = work.episodes, work.gradients, work.scratch
    batch, n = episodes.states.shape[1:]
    empty = zeros(episodes.states, 1, 1)
    for j in range(work.bounds[work.first], work.bounds[work.last], LANES):
        for k in range(end - begin):
            store(scratch.by_columns, 2 * k * n + j, n, zeros(episodes.states, 2, 1))
        if t >= 0:
            at = (t * batch + work.b) * n + j
            x = load(episodes.states, at + batch * n, 0, 1, 1)
            grad = load(gradients.outputs, at + batch * n, 0, 1, 1)
            delta = grad * (1 - x * x)
            if episodes.clamped.shape[0] > 0:
                grad = choose(episodes.clamped, at, grad, delta)
                delta = choose(episodes.clamped, at, empty, delta)
                store(gradients.outputs, at + batch * n, 0, grad)
            store(gradients.deltas, at, 0, delta)


@part
def _invert(work, update):
    """inverse <- 1 / decay, for own columns."""
    for j in range(work.bounds[work.first], work.bounds[work.last], LANES):
        post = load(work.episodes.states, update.post_at + j, 0, 1, 1)
        store(work.scratch.inverse, j, 0, 1 / decay_of(update, post))


@part
def _back_rows(work, t, strip, i, u, k, turn, undo, multiply):
    """Gradients that rows i.. of a strip pass on: of the product of step t, if `multiply`, and of update u.

    k: place of the update among those of the pass. turn: which half of by_rows receives the sums.
    More than eight parameters: the last two are constants where it is put in place.
    """
    episodes, gradients, scratch = work.episodes, work.gradients, work.scratch
    states = episodes.states
    batch, n = states.shape[1:]
    update = get_update(work.updates, u)
    pre = spread(states, update.pre_at + i, ROWS)
    x_at = (max(t, 0) * batch + work.b) * n
    x = spread(states, x_at + i, ROWS)
    by_pre = back = zeros(states, ROWS, 1)
    begin, end = work.bounds[strip], work.bounds[strip + 1]
    for j in range(begin, end, LANES):
        at = block_at(n, begin, end, i, j)
        post = load(states, update.post_at + j, 0, 1, 1)
        decay = decay_of(update, post)
        if undo:
            after = load(scratch.trace, at, LANES, ROWS, 1)
            before = fma(pre, post * -update.gain, after) * load(scratch.inverse, j, 0, 1, 1)
        else:
            source = work.plan.source[u]
            before = load(scratch.checkpoints, source * n * n + at, LANES, ROWS, 1)
            for earlier in range(work.plan.checkpoint_at[source], u):
                before = _updated(states, i, j, get_update(work.updates, earlier), before)
            after = fma(pre, post * update.gain, decay * before)
        if scratch.undo:
            store(scratch.trace, at, LANES, before)
        g = load(gradients.trace, work.trace_at + at, LANES, ROWS, 1)
        if multiply:
            d = load(gradients.deltas, x_at + j, 0, 1, 1)
            a = load(episodes.alpha, at, LANES, ROWS, 1)
            back = fma(fma(a, after, load(episodes.weight, at, LANES, ROWS, 1)), d, back)
            g = fma(a, x * d, g)
        by_pre = fma(g, post, by_pre)
        by_post_at = 2 * k * n + j
        by_post = load(scratch.by_columns, by_post_at, 0, 1, 1)
        store(scratch.by_columns, by_post_at, 0, fma_rows(pre, g, by_post))
        by_decay = load(scratch.by_columns, by_post_at + n, 0, 1, 1)
        store(scratch.by_columns, by_post_at + n, 0, fma_rows(before, g, by_decay))
        store(gradients.trace, work.trace_at + at, LANES, decay * g)
    sums_at = (turn * strips(n) + strip) * (MAX_PENDING + 1) * n + i
    store_totals(scratch.by_rows, sums_at + k * n, by_pre)
    if multiply:
        store_totals(scratch.by_rows, sums_at + MAX_PENDING * n, back)


@part
def _back(work, t, u, k, turn, undo, multiply):
    """The same for all rows and own columns."""
    for strip in range(work.first, work.last):
        for i in range(0, rows_of(work.episodes), ROWS):
            _back_rows(work, t, strip, i, u, k, turn, undo, multiply)


@part
def _sum_of_strips(scratch, turn, k, j):
    """Sums over all columns: element k of by_rows, all strips, for rows j.. (of the trace: columns of a state)."""
    n = scratch.by_rows.shape[3]
    total = zeros(scratch.by_rows, 1, 1)
    for strip in range(strips(n)):
        total = total + load(scratch.by_rows, ((turn * strips(n) + strip) * (MAX_PENDING + 1) + k) * n + j, 0, 1, 1)
    return total


@part
def _add_to(array, at, value):
    store(array, at, 0, load(array, at, 0, 1, 1) + value)


@part
def _product_back(work, t, turn):
    """Pass the sums of a product on to the state before it, for own columns."""
    batch, n = work.episodes.states.shape[1:]
    for j in range(work.bounds[work.first], work.bounds[work.last], LANES):
        at = (t * batch + work.b) * n + j
        _add_to(work.gradients.outputs, at, _sum_of_strips(work.scratch, turn, MAX_PENDING, j))


@part
def _update_back(work, u, repeats, k, turn, totals):
    """Pass the sums of update u on to its states and to eta, for own columns."""
    episodes, gradients, scratch = work.episodes, work.gradients, work.scratch
    batch, n = episodes.states.shape[1:]
    kind = episodes.states.dtype.type
    eta = episodes.eta
    update = get_update(work.updates, u)
    for strip in range(work.first, work.last):
        by_eta = zeros(episodes.states, 1, 1)
        for j in range(work.bounds[strip], work.bounds[strip + 1], LANES):
            post = load(episodes.states, update.post_at + j, 0, 1, 1)
            by_pre = _sum_of_strips(scratch, turn, k, j)
            by_post = load(scratch.by_columns, 2 * k * n + j, 0, 1, 1)
            by_decay = load(scratch.by_columns, (2 * k + 1) * n + j, 0, 1, 1)
            if episodes.oja:
                _add_to(gradients.outputs, update.pre_at + j, by_pre * update.gain)
                _add_to(gradients.outputs, update.post_at + j, (by_post - 2 * (post * by_decay)) * update.gain)
                by_eta = fma(post, by_post - post * by_decay, by_eta)
            else:
                by_eta = by_eta + (post * by_post - by_decay)
                remains = 1.0
                for later in range(repeats):
                    at = (repeats - 1 - later) * batch * n + j
                    _add_to(gradients.outputs, update.pre_at + at, by_pre * kind(eta * remains))
                    _add_to(gradients.outputs, update.pre_at + batch * n + at, by_post * kind(eta * remains))
                    remains *= 1 - eta
        slope = 1.0
        if not episodes.oja:
            slope = float(repeats)
            for _ in range(repeats - 1):
                slope *= 1 - eta
        store_totals(totals, 0, by_eta)
        gradients.eta[work.b, strip] += slope * totals[0]


@kernel
def backward(episodes, steps, trace, gradients, scratch, team):
    """Find the gradients of the episodes of a team, as one member of it; see `Gradients`.

    trace (B, N, N): the initial one, in strips, or (0, 0, 0) for zeros.
    """
    length, batch, n = steps.has_free.shape[0], episodes.states.shape[1], episodes.states.shape[2]
    plan = new_plan(length)
    updates = new_updates(length + 1, episodes.states)
    totals = np.empty(LANES, episodes.states.dtype)
    bounds = np.array([strip_begin(n, strip) for strip in range(strips(n) + 1)])
    first, last = strips(n) * team.rank // team.size, strips(n) * (team.rank + 1) // team.size
    arrived = turn = 0
    for b in range(team.first, batch, team.stride):
        passes = list_passes(plan, steps, b)
        if plan.pass_step[passes - 1] < 0 and not gradients.final_given:
            passes -= 1  # nothing depends on the last updates
        count = plan.pass_end[passes - 1] if passes > 0 else 0
        for u in range(count):
            t = plan.update_step[u]
            set_update(updates, u, update_of(episodes, b, t, steps.repeats[t, b] if t >= 0 else 1))
        place_checkpoints(plan, episodes, updates, count, scratch, totals)
        trace_at = b * n * n if gradients.trace.shape[0] == batch else 0
        work = Work(episodes, updates, plan, gradients, scratch, b, trace_at, bounds, first, last)
        gradients.eta[b, first:last] = 0
        _begin(work, trace)
        for p in range(passes - 1, -1, -1):
            t, end = plan.pass_step[p], plan.pass_end[p]
            begin = plan.pass_end[p - 1] if p > 0 else 0
            turn = 1 - turn  # a slow member may still read the sums of the pass before, which has the other half
            _prepare(work, begin, end, t)
            for u in range(end - 1, begin - 1, -1):
                undo, multiply = plan.source[u] < 0, t >= 0 and u == end - 1
                if undo:
                    _invert(work, get_update(updates, u))
                if undo and multiply:
                    _back(work, t, u, u - begin, turn, True, True)
                elif undo:
                    _back(work, t, u, u - begin, turn, True, False)
                elif multiply:
                    _back(work, t, u, u - begin, turn, False, True)
                else:
                    _back(work, t, u, u - begin, turn, False, False)
            arrived = barrier(team, arrived)
            if t >= 0:
                _product_back(work, t, turn)
            for u in range(max(begin, 1), end):
                _update_back(work, u, steps.repeats[plan.update_step[u], b], u - begin, turn, totals)


@kernel
def sum_of_rows(matrix, rows):
    """Sum the first rows of a matrix (N, N), in one order."""
    totals = np.empty(LANES, matrix.dtype)
    total = zeros(matrix, 1, 1)
    for i in range(rows):
        of_row = zeros(matrix, 1, 1)
        for j in range(0, matrix.shape[1], LANES):
            of_row = of_row + load(matrix, i * matrix.shape[1] + j, 0, 1, 1)
        total = total + of_row
    store_totals(totals, 0, total)
    return totals[0]


@kernel
def matrix_gradients(episodes, steps, trace, deltas, weight, alpha, team):
    """Set the gradients of weight and alpha (N, N), but for rows of padding, each element by one member of the team.

    weight = sum of pre^T delta over episodes and products, in their order; alpha = sum of (pre^T delta) * H. The
    traces are made once more, in registers: a matrix of sums would leave the cache between the passes of `backward`.
    trace: as there. The two matrices of sums lie row after row.
    """
    batch, n = episodes.states.shape[1:]
    plan = new_plan(steps.has_free.shape[0])
    updates = new_updates(steps.has_free.shape[0] + 1, episodes.states)
    blocks = rows_of(episodes) // ROWS
    low, high = blocks * team.rank // team.size * ROWS, blocks * (team.rank + 1) // team.size * ROWS
    for b in range(batch):
        passes = list_passes(plan, steps, b)
        for u in range(plan.pass_end[passes - 1]):
            t = plan.update_step[u]
            set_update(updates, u, update_of(episodes, b, t, steps.repeats[t, b] if t >= 0 else 1))
        for strip in range(strips(n)):
            begin, end = strip_begin(n, strip), strip_begin(n, strip + 1)
            for i in range(low, high, ROWS):
                for j in range(begin, end, LANES):
                    h = by_weight = by_alpha = zeros(episodes.states, ROWS, 1)
                    if b > 0:
                        by_weight = load(weight, i * n + j, n, ROWS, 1)
                        by_alpha = load(alpha, i * n + j, n, ROWS, 1)
                    if trace.shape[0] > 0:
                        h = load(trace, b * n * n + block_at(n, begin, end, i, j), LANES, ROWS, 1)
                    u = 0
                    for p in range(passes):
                        while u < plan.pass_end[p]:
                            h = _updated(episodes.states, i, j, get_update(updates, u), h)
                            u += 1
                        if plan.pass_step[p] >= 0:
                            at = (plan.pass_step[p] * batch + b) * n
                            product = spread(episodes.states, at + i, ROWS) * load(deltas, at + j, 0, 1, 1)
                            by_weight = by_weight + product
                            by_alpha = fma(product, h, by_alpha)
                    store(weight, i * n + j, n, by_weight)
                    store(alpha, i * n + j, n, by_alpha)
