"""Compiled loops of the fused recurrence, forward. README.md derives what they compute.

    n               neurons, padded with zeros to a multiple of LANES; so are all matrices, rows and columns
    b, t            episode, time step: x = states[t, b] -> states[t + 1, b]
    i, j            row (presynaptic), column (postsynaptic); a block has ROWS rows and LANES columns
    ..._at          where a vector or a matrix begins in an array, in numbers
    w, a, h         blocks of weight, alpha and trace
    update          H <- decay * H + gain * pre^T post, decay = remains - rate * post^2: a vector over columns
    pending         updates of the trace not made yet: the next pass over it makes them
    strip           columns that are one part of the work; members of a team share the strips of an episode

Matrices lie strip after strip, a strip block after block, row of blocks after row of blocks (`block_at`; strips.py
copies to this form and back): what a member works on is memory of its own, and no processor fetches beforehand what
another works on.

Every sum goes over rows from first to last and, within a strip, over columns in an order of its own: how many threads
share the strips changes no bit.
"""

from typing import NamedTuple

import numpy as np

from .jit import kernel, part
from .simd import LANES, choose, fma, fma_rows, load, spread, store, tanh, zeros
from .threads import barrier

ROWS = 4

# Updates that one pass over the trace makes at most.
MAX_PENDING = 4


class Episodes(NamedTuple):
    """A batch of episodes as the compiled loops see it; B episodes, N neurons with padding.

    states (T + 1, B, N): row t + 1 holds the input of step t and receives its activity. clamped (T, B, N) or, for
    none, (0, 0, 0): bytes, 1 for clamped neurons. trace (B, N, N): as `forward` and `forward_step` leave it.
    sums (B, N): scratch. weight, alpha (N, N). eta: the rate of the trace. oja: whether that is the rule. neurons:
    without padding; rows of padding are not worked on. trace, weight and alpha lie in strips.
    """

    states: np.ndarray
    clamped: np.ndarray
    trace: np.ndarray
    sums: np.ndarray
    weight: np.ndarray
    alpha: np.ndarray
    eta: float
    oja: bool
    neurons: int


class Steps(NamedTuple):
    """What happens at the steps, (T, B).

    has_free: whether a neuron is free, so that there is a product. repeats: of how many equal steps the step's update
    stands for; 0 if it is part of an earlier one.
    """

    has_free: np.ndarray
    repeats: np.ndarray


class Update(NamedTuple):
    """One update of the trace; `pre` and `post` are rows of `states`."""

    pre_at: int
    post_at: int
    remains: float
    rate: float
    gain: float


@part
def update_of(episodes, b, t, repeats):
    """The update of step t, which stands for `repeats` equal ones (Hebb only); that of step -1 does nothing."""
    batch, n = episodes.states.shape[1:]
    kind = episodes.states.dtype.type
    remains, rate, gain = 1.0, 0.0, 0.0
    if t >= 0 and episodes.oja:
        rate = gain = episodes.eta
    elif t >= 0:
        for _ in range(repeats):
            gain += episodes.eta * remains
            remains *= 1 - episodes.eta
    return Update((max(t, 0) * batch + b) * n, ((t + 1) * batch + b) * n, kind(remains), kind(rate), kind(gain))


class Updates(NamedTuple):
    """Room for several updates: at (U, 2) and factors (U, 3) hold their fields."""

    at: np.ndarray
    factors: np.ndarray


@part
def new_updates(length, like):
    """Room for `length` updates of an array's dtype."""
    return Updates(np.empty((length, 2), np.int64), np.empty((length, 3), like.dtype))


@part
def set_update(updates, k, update):
    """updates[k] = update"""
    updates.at[k, 0], updates.at[k, 1] = update.pre_at, update.post_at
    updates.factors[k, 0], updates.factors[k, 1], updates.factors[k, 2] = update.remains, update.rate, update.gain


@part
def get_update(updates, k):
    """updates[k]"""
    at, factors = updates
    return Update(at[k, 0], at[k, 1], factors[k, 0], factors[k, 1], factors[k, 2])


@part
def decay_of(update, post):
    """The decay of an update for the columns of `post`."""
    return fma(post * -update.rate, post, update.remains)


@part
def rows_of(episodes):
    """The rows of a matrix that are worked on: the neurons, in whole blocks."""
    return -(-episodes.neurons // ROWS) * ROWS


@part
def strips(n):
    """Into how many strips the columns are divided; it depends on nothing but n."""
    return max(1, min(16, n // (6 * LANES)))


@part
def strip_begin(n, strip):
    """The first column of a strip."""
    return n // LANES * strip // strips(n) * LANES


@part
def block_at(n, begin, end, i, j):
    """Where the block of rows i.. and columns j.. of a matrix begins; columns begin..end are its strip.

    Its rows are LANES numbers apart.
    """
    return begin * n + i * (end - begin) + ROWS * (j - begin)


@part
def _update(episodes, b, i, update, begin, end):
    """Make an update of rows i.. of the trace, in one strip."""
    n = episodes.states.shape[2]
    pre = spread(episodes.states, update.pre_at + i, ROWS)
    for j in range(begin, end, LANES):
        at = b * n * n + block_at(n, begin, end, i, j)
        post = load(episodes.states, update.post_at + j, 0, 1, 1)
        h = fma(pre, post * update.gain, decay_of(update, post) * load(episodes.trace, at, LANES, ROWS, 1))
        store(episodes.trace, at, LANES, h)


@part
def _update_multiply(episodes, b, t, i, update, begin, end):
    """The same, and sums += x (W + alpha * H) of step t over these rows."""
    n = episodes.states.shape[2]
    pre = spread(episodes.states, update.pre_at + i, ROWS)
    x = spread(episodes.states, (t * episodes.states.shape[1] + b) * n + i, ROWS)
    for j in range(begin, end, LANES):
        at = block_at(n, begin, end, i, j)
        post, h_at = load(episodes.states, update.post_at + j, 0, 1, 1), b * n * n + at
        h = fma(pre, post * update.gain, decay_of(update, post) * load(episodes.trace, h_at, LANES, ROWS, 1))
        store(episodes.trace, h_at, LANES, h)
        w, a = load(episodes.weight, at, LANES, ROWS, 1), load(episodes.alpha, at, LANES, ROWS, 1)
        total = load(episodes.sums, b * n + j, 0, 1, 1)
        store(episodes.sums, b * n + j, 0, fma_rows(x, fma(a, h, w), total))


@part
def _clear_sums(episodes, b, begin, end):
    for j in range(begin, end, LANES):
        store(episodes.sums, b * episodes.sums.shape[1] + j, 0, zeros(episodes.sums, 1, 1))


@part
def _activate(episodes, b, t, begin, end):
    """x <- tanh(sums + input), where the neuron is free."""
    batch, n = episodes.states.shape[1:]
    for j in range(begin, end, LANES):
        at = ((t + 1) * batch + b) * n + j
        given = load(episodes.states, at, 0, 1, 1)
        x = tanh(load(episodes.sums, b * n + j, 0, 1, 1) + given)
        if episodes.clamped.shape[0] > 0:
            x = choose(episodes.clamped, (t * batch + b) * n + j, given, x)
        store(episodes.states, at, 0, x)


@kernel
def forward_step(episodes, b, t):
    """Advance episode b by step t; for compiled loops that act between the steps. The bits are those of `forward`.

    states[t + 1, b] must hold the input and receives the activity. The trace lacks step t's update until step t + 1,
    or `FusedRecording.run(T, T, finish=True)`, makes it, so the steps of an episode are made one after another from
    0. Threads may advance different episodes. Nothing is allocated.

    Args:
        episodes: an `Episodes`, as `PlasticRollout.compiled` gives it.
        b: episode.
        t: step.
    """
    n = episodes.states.shape[2]
    update = update_of(episodes, b, t - 1, 1)
    _clear_sums(episodes, b, 0, n)
    for strip in range(strips(n)):
        begin, end = strip_begin(n, strip), strip_begin(n, strip + 1)
        for i in range(0, rows_of(episodes), ROWS):
            _update_multiply(episodes, b, t, i, update, begin, end)
    _activate(episodes, b, t, 0, n)


@part
def _forward_pass(episodes, b, t, updates, pending, begin, end):
    """Make the first `pending` updates, and then the product of step t unless that is -1, of one strip."""
    if t >= 0:
        _clear_sums(episodes, b, begin, end)
    for i in range(0, rows_of(episodes), ROWS):
        for k in range(pending):
            update = get_update(updates, k)
            if t >= 0 and k == pending - 1:
                _update_multiply(episodes, b, t, i, update, begin, end)
            else:
                _update(episodes, b, i, update, begin, end)
    if t >= 0:
        _activate(episodes, b, t, begin, end)


@kernel
def forward(episodes, steps, start, stop, finish, team):
    """Run steps start..stop of the episodes of a team, as one member of it.

    The trace lacks the last step's update unless `finish`.
    """
    n = episodes.states.shape[2]
    own = range(strips(n) * team.rank // team.size, strips(n) * (team.rank + 1) // team.size)
    updates = new_updates(MAX_PENDING, episodes.states)
    arrived = 0
    for b in range(team.first, episodes.states.shape[1], team.stride):
        # A product comes with an update, so at first there is that of step -1, which does nothing.
        set_update(updates, 0, update_of(episodes, b, start - 1, 1))
        pending = 1
        for t in range(start, stop + 1):
            last = t == stop
            multiply = not last and steps.has_free[t, b] > 0
            push = not last and steps.repeats[t, b] > 0
            if multiply or (push and pending == MAX_PENDING) or (last and finish and pending > 0):
                for strip in own:
                    begin, end = strip_begin(n, strip), strip_begin(n, strip + 1)
                    _forward_pass(episodes, b, t if multiply else -1, updates, pending, begin, end)
                pending = 0
                if multiply:
                    arrived = barrier(team, arrived)
            if push:
                set_update(updates, pending, update_of(episodes, b, t, steps.repeats[t, b]))
                pending += 1


@kernel
def merge_equal_steps(states, clamped, merge, steps):
    """Fill `steps` from which neurons are clamped and which inputs are equal.

    merge: steps whose state before and after is the same clamped pattern become one update.
    """
    length, batch, n = clamped.shape
    for b in range(batch):
        head, equal = 0, 0  # `equal`: for how many steps the same pattern has been clamped
        for t in range(length):
            free = 0
            for j in range(n):
                free += 1 - clamped[t, b, j]
            steps.has_free[t, b] = free > 0
            same = merge and free == 0
            if same and equal > 0:
                for j in range(n):
                    if states[t + 1, b, j] != states[t, b, j]:
                        same = False
                        break
                equal = equal + 1 if same else 1
            else:
                equal = 1 if same else 0
            if equal > 2:
                steps.repeats[t, b] = 0
                steps.repeats[head, b] += 1
            else:
                steps.repeats[t, b] = 1
                head = t
