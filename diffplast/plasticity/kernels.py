"""Compiled loops of the fused recurrence. README.md derives what they compute and names the symbols.

An update u of the trace is H <- c_u * H + g_u * pre_u post_u^T, with c_u a vector over columns. All sizes N here are
padded with zeros to a multiple of LANES, and the rows of a matrix are worked on ROWS at a time.
"""

import math
import sys

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

from .vectors import LANES, load, spread, store, times, times_plus, total, zeros

ROWS = 4

# Updates that one pass over the trace applies at most.
MAX_PENDING = 4

_part = njit(nogil=True, error_model="numpy")
_kernel = njit(nogil=True, cache=True, error_model="numpy")
# Loops over one row. Sums may be reordered; NaN and infinity keep their meaning.
_row = njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})

_yield_processor = types.ExternalFunction("SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32())


@intrinsic
def _atomic_add(typingctx, counter, value):
    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.atomic_rmw("add", array.data, args[1], "seq_cst")

    return types.int64(types.Array(types.int64, 1, "C"), types.int64), codegen


@intrinsic
def _power_of_two(typingctx, shifted):
    """2^k as float32, for a float32 that holds k + 1.5 * 2^23: k sits in its lowest bits."""

    def codegen(context, builder, signature, args):
        integer = ir.IntType(32)
        exponent = builder.shl(builder.bitcast(args[0], integer), ir.Constant(integer, 23))
        return builder.bitcast(builder.add(exponent, ir.Constant(integer, 127 << 23)), ir.FloatType())

    return types.float32(types.float32), codegen


@_part
def _barrier(counter, size, arrived):
    """Wait until all `size` members of a team have called this; returns the next value of `arrived`."""
    arrived += size
    if size > 1:
        _atomic_add(counter, 1)
        spins = 0
        while _atomic_add(counter, 0) < arrived:
            spins += 1
            if spins > 200:
                _yield_processor()
    return arrived


def _tanh(value):
    raise NotImplementedError  # compiled code only


@overload(_tanh, jit_options={"fastmath": {"contract"}})
def _tanh_of_type(value):
    if value != types.float32:
        return lambda value: math.tanh(value)

    def tanh(value):
        # 1 - 2 / (exp(2a) + 1), or a polynomial near 0: both without a branch, so that a row is vectorised.
        # Within 2 ulp, and 1 exactly where the rounded tanh is.
        size = abs(value)
        size = np.float32(20) if size > np.float32(20) else size
        shifted = size * np.float32(2.885390081777927) + np.float32(12582912)  # rounds to an integer: 1.5 * 2^23
        whole = shifted - np.float32(12582912)
        rest = size * np.float32(2) - whole * np.float32(0.693359375) - whole * np.float32(-2.12194440e-4)
        series = np.float32(1.9875691500e-4)
        series = series * rest + np.float32(1.3981999507e-3)
        series = series * rest + np.float32(8.3334519073e-3)
        series = series * rest + np.float32(4.1665795894e-2)
        series = series * rest + np.float32(1.6666665459e-1)
        series = series * rest + np.float32(5.0000001201e-1)
        series = series * rest * rest + rest + np.float32(1)
        power = _power_of_two(shifted)
        large = np.float32(1) - np.float32(2) / (series * power + np.float32(1))
        large = -large if value < np.float32(0) else large
        square = value * value
        small = np.float32(-5.70498872745e-3)
        small = small * square + np.float32(2.06390887954e-2)
        small = small * square + np.float32(-5.37397155531e-2)
        small = small * square + np.float32(1.33314422036e-1)
        small = small * square + np.float32(-3.33332819422e-1)
        small = small * square * value + value
        return small if size < np.float32(0.625) else large

    return tanh


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def _tanh_row(x, total):
    """x <- tanh(total + x)."""
    for j in range(x.shape[0]):
        x[j] = _tanh(total[j] + x[j])


@_row
def _fill(row, value):
    for j in range(row.shape[0]):
        row[j] = value


@_row
def _add(target, scale, row):
    for j in range(target.shape[0]):
        target[j] += scale * row[j]


@_row
def _set(target, scale, row):
    for j in range(target.shape[0]):
        target[j] = scale * row[j]


@_row
def _set_update(decay, post, eta, repeats, oja):
    """Fill the decay of an update; returns its gain."""
    if oja:
        rate = decay.dtype.type(eta)
        for j in range(decay.shape[0]):
            decay[j] = 1 - rate * post[j] * post[j]
        return rate
    remains, gain = 1.0, 0.0
    for _ in range(repeats):
        gain += eta * remains
        remains *= 1 - eta
    _fill(decay, decay.dtype.type(remains))
    return decay.dtype.type(gain)


@_part
def _members_rows(n, rank, size):
    """The rows of a member of a team, in whole blocks."""
    blocks = n // ROWS
    return blocks * rank // size * ROWS, blocks * (rank + 1) // size * ROWS


@_part
def _updated(old, decay, scale, post):
    return times_plus(scale, post, times(decay, old))


@_part
def _update_rows(n, i, trace, at, k, decay, scale, states, post_at):
    """Rows i.. of the trace, which begins at `at`, after update k."""
    row0, row1, row2, row3 = at + i * n, at + (i + 1) * n, at + (i + 2) * n, at + (i + 3) * n
    scale0, scale1 = spread(scale, k * n + i), spread(scale, k * n + i + 1)
    scale2, scale3 = spread(scale, k * n + i + 2), spread(scale, k * n + i + 3)
    for j in range(0, n, LANES):
        c, post = load(decay, k * n + j), load(states, post_at + j)
        store(trace, row0 + j, _updated(load(trace, row0 + j), c, scale0, post))
        store(trace, row1 + j, _updated(load(trace, row1 + j), c, scale1, post))
        store(trace, row2 + j, _updated(load(trace, row2 + j), c, scale2, post))
        store(trace, row3 + j, _updated(load(trace, row3 + j), c, scale3, post))


@_part
def _update_multiply_rows(n, i, trace, at, k, decay, scale, states, post_at, x_at, weight, alpha, sums, sums_at):
    """The same, and sums += x (W + alpha * H) over these rows."""
    row0, row1, row2, row3 = i * n, (i + 1) * n, (i + 2) * n, (i + 3) * n
    scale0, scale1 = spread(scale, k * n + i), spread(scale, k * n + i + 1)
    scale2, scale3 = spread(scale, k * n + i + 2), spread(scale, k * n + i + 3)
    x0, x1 = spread(states, x_at + i), spread(states, x_at + i + 1)
    x2, x3 = spread(states, x_at + i + 2), spread(states, x_at + i + 3)
    for j in range(0, n, LANES):
        c, post, y = load(decay, k * n + j), load(states, post_at + j), load(sums, sums_at + j)
        h = _updated(load(trace, at + row0 + j), c, scale0, post)
        store(trace, at + row0 + j, h)
        y = times_plus(x0, times_plus(load(alpha, row0 + j), h, load(weight, row0 + j)), y)
        h = _updated(load(trace, at + row1 + j), c, scale1, post)
        store(trace, at + row1 + j, h)
        y = times_plus(x1, times_plus(load(alpha, row1 + j), h, load(weight, row1 + j)), y)
        h = _updated(load(trace, at + row2 + j), c, scale2, post)
        store(trace, at + row2 + j, h)
        y = times_plus(x2, times_plus(load(alpha, row2 + j), h, load(weight, row2 + j)), y)
        h = _updated(load(trace, at + row3 + j), c, scale3, post)
        store(trace, at + row3 + j, h)
        y = times_plus(x3, times_plus(load(alpha, row3 + j), h, load(weight, row3 + j)), y)
        store(sums, sums_at + j, y)


@_part
def _checkpoint_rows(n, i, trace, at, decay, scale, states, post_at, segments, segment_begin, checkpoints):
    """Rows i.. of the trace at the beginning of every segment, from the initial ones."""
    for j in range(0, n, LANES):
        h0 = h1 = h2 = h3 = zeros(states)
        if at >= 0:
            h0, h1 = load(trace, at + i * n + j), load(trace, at + (i + 1) * n + j)
            h2, h3 = load(trace, at + (i + 2) * n + j), load(trace, at + (i + 3) * n + j)
        u = 0
        for segment in range(segments):
            while u < segment_begin[segment]:
                c, post = load(decay, u * n + j), load(states, post_at[u] + j)
                h0 = _updated(h0, c, spread(scale, u * n + i), post)
                h1 = _updated(h1, c, spread(scale, u * n + i + 1), post)
                h2 = _updated(h2, c, spread(scale, u * n + i + 2), post)
                h3 = _updated(h3, c, spread(scale, u * n + i + 3), post)
                u += 1
            to = (segment * n + i) * n + j
            store(checkpoints, to, h0)
            store(checkpoints, to + n, h1)
            store(checkpoints, to + 2 * n, h2)
            store(checkpoints, to + 3 * n, h3)


@_part
def _back_rows(
    n, i, checkpoints, at, base, u, decay, scale, states, pre_at, post_at,
    grad_trace, grad_at, column_sums, columns_at, row_sums, k,
    multiply, x_at, weight, alpha, deltas,
):  # fmt: skip
    """Gradients that rows i.. pass on: of the product after update u, if `multiply`, and of update u.

    The trace before the update is replayed from the checkpoint before update `base`.
    """
    row0, row1, row2, row3 = i * n, (i + 1) * n, (i + 2) * n, (i + 3) * n
    pre0, pre1 = spread(states, pre_at[u] + i), spread(states, pre_at[u] + i + 1)
    pre2, pre3 = spread(states, pre_at[u] + i + 2), spread(states, pre_at[u] + i + 3)
    x0, x1, x2, x3 = (
        spread(states, x_at + i), spread(states, x_at + i + 1),
        spread(states, x_at + i + 2), spread(states, x_at + i + 3),
    )  # fmt: skip
    back0 = back1 = back2 = back3 = by_pre0 = by_pre1 = by_pre2 = by_pre3 = zeros(states)
    for j in range(0, n, LANES):
        h0, h1 = load(checkpoints, at + row0 + j), load(checkpoints, at + row1 + j)
        h2, h3 = load(checkpoints, at + row2 + j), load(checkpoints, at + row3 + j)
        for v in range(base, u):
            c, post = load(decay, v * n + j), load(states, post_at[v] + j)
            h0 = _updated(h0, c, spread(scale, v * n + i), post)
            h1 = _updated(h1, c, spread(scale, v * n + i + 1), post)
            h2 = _updated(h2, c, spread(scale, v * n + i + 2), post)
            h3 = _updated(h3, c, spread(scale, v * n + i + 3), post)
        c, post = load(decay, u * n + j), load(states, post_at[u] + j)
        g0, g1 = load(grad_trace, grad_at + row0 + j), load(grad_trace, grad_at + row1 + j)
        g2, g3 = load(grad_trace, grad_at + row2 + j), load(grad_trace, grad_at + row3 + j)
        if multiply:
            d = load(deltas, x_at + j)
            h = _updated(h0, c, spread(scale, u * n + i), post)
            back0, g0 = _product_back(back0, g0, h, x0, d, row0 + j, weight, alpha)
            h = _updated(h1, c, spread(scale, u * n + i + 1), post)
            back1, g1 = _product_back(back1, g1, h, x1, d, row1 + j, weight, alpha)
            h = _updated(h2, c, spread(scale, u * n + i + 2), post)
            back2, g2 = _product_back(back2, g2, h, x2, d, row2 + j, weight, alpha)
            h = _updated(h3, c, spread(scale, u * n + i + 3), post)
            back3, g3 = _product_back(back3, g3, h, x3, d, row3 + j, weight, alpha)
        by_pre0, by_pre1 = times_plus(g0, post, by_pre0), times_plus(g1, post, by_pre1)
        by_pre2, by_pre3 = times_plus(g2, post, by_pre2), times_plus(g3, post, by_pre3)
        sums = load(column_sums, columns_at + j)
        sums = times_plus(pre3, g3, times_plus(pre2, g2, times_plus(pre1, g1, times_plus(pre0, g0, sums))))
        store(column_sums, columns_at + j, sums)
        sums = load(column_sums, columns_at + n + j)
        sums = times_plus(h3, g3, times_plus(h2, g2, times_plus(h1, g1, times_plus(h0, g0, sums))))
        store(column_sums, columns_at + n + j, sums)
        store(grad_trace, grad_at + row0 + j, times(c, g0))
        store(grad_trace, grad_at + row1 + j, times(c, g1))
        store(grad_trace, grad_at + row2 + j, times(c, g2))
        store(grad_trace, grad_at + row3 + j, times(c, g3))
    row_sums[k, i], row_sums[k, i + 1] = total(by_pre0), total(by_pre1)
    row_sums[k, i + 2], row_sums[k, i + 3] = total(by_pre2), total(by_pre3)
    if multiply:
        row_sums[MAX_PENDING, i], row_sums[MAX_PENDING, i + 1] = total(back0), total(back1)
        row_sums[MAX_PENDING, i + 2], row_sums[MAX_PENDING, i + 3] = total(back2), total(back3)


@_part
def _product_back(back, g, h, x, delta, at, weight, alpha):
    """One row of LANES columns: the sum over columns that x receives, and the gradient of H."""
    a = load(alpha, at)
    return times_plus(delta, times_plus(a, h, load(weight, at)), back), times_plus(times(x, delta), a, g)


@_part
def _plan(product, count, b, most, update_step, pass_step, pass_end, segment_pass, segment_begin):
    """List the updates of an episode, the passes over the trace and the segments of about `most` updates.

    The passes are those of `forward`, whose update that does nothing is step -1 here. Pass p makes updates up to
    pass_end[p] and then the product of step pass_step[p] (-1: none). Segments begin with pass segment_pass and update
    segment_begin. Returns how many passes and segments there are.
    """
    update_step[0] = -1
    updates = pending = 1
    passes, segments = 0, 1
    segment_pass[0] = segment_begin[0] = 0
    for t in range(product.shape[0] + 1):
        last = t == product.shape[0]
        multiply = not last and product[t, b] > 0
        push = not last and count[t, b] > 0
        if multiply or (push and pending == MAX_PENDING) or (last and pending > 0):
            if updates - segment_begin[segments - 1] > most:
                segment_pass[segments] = passes
                segment_begin[segments] = updates - pending
                segments += 1
            pass_step[passes] = t if multiply else -1
            pass_end[passes] = updates
            passes += 1
            pending = 0
        if push:
            update_step[updates] = t
            updates += 1
            pending += 1
    return passes, segments


@_part
def _plan_arrays(steps):
    most = 2 * steps + 2
    return (
        np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64),
        np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64),
    )  # fmt: skip


@_part
def _set_updates(states, count, b, eta, oja, update_step, updates, decay, scale, pre_at, post_at):
    """Decays and scales of all updates of an episode, and where in `states` their vectors begin."""
    batch, n = states.shape[1:]
    pre_at[0] = post_at[0] = b * n
    _fill(decay[0], states.dtype.type(1))
    _fill(scale[0], states.dtype.type(0))
    for u in range(1, updates):
        t = update_step[u]
        pre_at[u], post_at[u] = (t * batch + b) * n, ((t + 1) * batch + b) * n
        _set(scale[u], _set_update(decay[u], states[t + 1, b], eta, count[t, b], oja), states[t, b])


@_kernel
def backward(
    first, stride, size, rank, counter,
    states, clamped, product, count, weight, alpha, eta, oja,
    trace, final_given, most, grad_states, grad_trace, deltas, grad_eta,
    checkpoints, row_sums, column_sums,
):  # fmt: skip
    """Gradients of episodes first, first + stride, ... as member `rank` of a team of `size`.

    grad_states (T+1, B, N): cotangents of the outputs, receives the gradients of initial state and inputs.
    trace (B or 0, N, N): the initial trace, or none. grad_trace (B or 1, N, N): if `final_given`, the final trace's
    cotangent; receives the initial trace's. deltas (T, B, N), set at products: gradients by the argument of tanh, 0 for
    clamped neurons; may be the rows of grad_states after the first if there are none. grad_eta (B,) is set. The rest
    is scratch of the team: checkpoints (segments of `most` updates, N, N), row_sums (MAX_PENDING + 1, N),
    column_sums (size, MAX_PENDING, 2, N).
    """
    steps, batch, n = states.shape[0] - 1, states.shape[1], states.shape[2]
    low, high = _members_rows(n, rank, size)
    update_step, pass_step, pass_end, segment_pass, segment_begin, post_at, pre_at = _plan_arrays(steps)
    decay = np.empty((steps + 1, n), states.dtype)
    scale = np.empty((steps + 1, n), states.dtype)
    zero, one = states.dtype.type(0), states.dtype.type(1)
    arrived = 0
    for b in range(first, batch, stride):
        passes, segments = _plan(product, count, b, most, update_step, pass_step, pass_end, segment_pass, segment_begin)
        _set_updates(states, count, b, eta, oja, update_step, pass_end[passes - 1], decay, scale, pre_at, post_at)
        grad_number = b if grad_trace.shape[0] == batch else 0
        for i in range(low, high, ROWS):
            if not final_given:
                for row in range(ROWS):
                    _fill(grad_trace[grad_number, i + row], zero)
            _checkpoint_rows(
                n, i, trace, b * n * n if trace.shape[0] > 0 else -1, decay, scale, states, post_at,
                segments, segment_begin, checkpoints,
            )  # fmt: skip
        grad_rate = 0.0
        segment = segments - 1
        for p in range(passes - 1, -1, -1):
            step, end = pass_step[p], pass_end[p]
            begin = pass_end[p - 1] if p > 0 else 0
            if p < segment_pass[segment]:
                segment -= 1
            if step < 0 and p == passes - 1 and not final_given:
                continue
            if rank == 0 and step >= 0:
                _activate_back(deltas[step, b], grad_states[step + 1, b], states[step + 1, b], clamped, step, b)
            arrived = _barrier(counter, size, arrived)
            for k in range(end - begin):
                _fill(column_sums[rank, k, 0], zero)
                _fill(column_sums[rank, k, 1], zero)
            for i in range(low, high, ROWS):
                for u in range(end - 1, begin - 1, -1):
                    k = u - begin
                    _back_rows(
                        n, i, checkpoints, segment * n * n, segment_begin[segment], u, decay, scale, states,
                        pre_at, post_at, grad_trace, grad_number * n * n,
                        column_sums, (rank * MAX_PENDING + k) * 2 * n, row_sums, k,
                        step >= 0 and u == end - 1, (max(step, 0) * batch + b) * n, weight, alpha, deltas,
                    )  # fmt: skip
            arrived = _barrier(counter, size, arrived)
            if rank > 0:
                continue
            if step >= 0:
                _add(grad_states[step, b], one, row_sums[MAX_PENDING])
            for u in range(max(begin, 1), end):
                sums = column_sums[0, u - begin]
                for other in range(1, size):
                    _add(sums[0], one, column_sums[other, u - begin, 0])
                    _add(sums[1], one, column_sums[other, u - begin, 1])
                t = update_step[u]
                grad_rate += _update_back(
                    grad_states, states[t + 1, b], t, b, eta, count[t, b], oja,
                    row_sums[u - begin], sums[0], sums[1],
                )  # fmt: skip
        if rank == 0:
            grad_eta[b] = grad_rate


@_part
def _activate_back(delta, grad, x, clamped, t, b):
    """delta <- gradient by the argument of tanh (0 for clamped neurons); grad <- gradient by the input."""
    for j in range(x.shape[0]):
        delta[j] = grad[j] * (x.dtype.type(1) - x[j] * x[j])
    if clamped.shape[0] > 0:
        for j in range(clamped.shape[2]):
            if clamped[t, b, j]:
                delta[j] = 0
            else:
                grad[j] = delta[j]
    else:
        grad[:] = delta


@_part
def _update_back(grad_states, post, t, b, eta, repeats, oja, by_pre, by_post, by_decay):
    """Spread the sums of an update's gradient over its states; returns the gradient of eta."""
    kind = post.dtype.type
    product, decay, weighted = 0.0, 0.0, 0.0
    for j in range(post.shape[0]):
        product += by_post[j] * post[j]
        decay += by_decay[j]
        weighted += by_decay[j] * post[j] * post[j]
    if oja:
        rate = kind(eta)
        _add(grad_states[t, b], rate, by_pre)
        _add(grad_states[t + 1, b], rate, by_post)
        for j in range(post.shape[0]):
            grad_states[t + 1, b, j] -= 2 * rate * post[j] * by_decay[j]
        return product - weighted
    remains = 1.0
    for m in range(repeats - 1, -1, -1):
        _add(grad_states[t + m, b], kind(eta * remains), by_pre)
        _add(grad_states[t + m + 1, b], kind(eta * remains), by_post)
        remains *= 1 - eta
    slope = repeats * (1 - eta) ** (repeats - 1)
    return slope * (product - decay)


@_kernel
def alpha_gradient(rank, size, states, product, count, eta, oja, trace, deltas, grad_alpha):
    """grad_alpha (N, N) <- sum over episodes and products of (pre^T delta) * H, for the rows of one member of a team.

    The traces are made once more, in registers: a matrix of sums would leave the cache between the passes of
    `backward`. The other arguments are those of `backward`.
    """
    steps, batch, n = deltas.shape
    low, high = _members_rows(n, rank, size)
    update_step, pass_step, pass_end, segment_pass, segment_begin, post_at, pre_at = _plan_arrays(steps)
    decay = np.empty((steps + 1, n), states.dtype)
    scale = np.empty((steps + 1, n), states.dtype)
    for b in range(batch):
        passes, _ = _plan(product, count, b, steps + 1, update_step, pass_step, pass_end, segment_pass, segment_begin)
        _set_updates(states, count, b, eta, oja, update_step, pass_end[passes - 1], decay, scale, pre_at, post_at)
        for j in range(0, n, LANES):
            for i in range(low, high, ROWS):
                _alpha_rows(
                    n, i, j, b, trace, decay, scale, states, post_at, passes, pass_end, pass_step, deltas, grad_alpha
                )


@_part
def _alpha_rows(n, i, j, b, trace, decay, scale, states, post_at, passes, pass_end, pass_step, deltas, grad_alpha):
    """`alpha_gradient` for columns j.. of rows i.., episode b."""
    batch = states.shape[1]
    h0 = h1 = h2 = h3 = sum0 = sum1 = sum2 = sum3 = zeros(states)
    at = i * n + j
    if b > 0:
        sum0, sum1 = load(grad_alpha, at), load(grad_alpha, at + n)
        sum2, sum3 = load(grad_alpha, at + 2 * n), load(grad_alpha, at + 3 * n)
    if trace.shape[0] > 0:
        h0, h1 = load(trace, b * n * n + at), load(trace, b * n * n + at + n)
        h2, h3 = load(trace, b * n * n + at + 2 * n), load(trace, b * n * n + at + 3 * n)
    u = 0
    for p in range(passes):
        while u < pass_end[p]:
            c, post = load(decay, u * n + j), load(states, post_at[u] + j)
            h0 = _updated(h0, c, spread(scale, u * n + i), post)
            h1 = _updated(h1, c, spread(scale, u * n + i + 1), post)
            h2 = _updated(h2, c, spread(scale, u * n + i + 2), post)
            h3 = _updated(h3, c, spread(scale, u * n + i + 3), post)
            u += 1
        if pass_step[p] >= 0:
            x_at = (pass_step[p] * batch + b) * n
            d = load(deltas, x_at + j)
            sum0 = times_plus(times(spread(states, x_at + i), d), h0, sum0)
            sum1 = times_plus(times(spread(states, x_at + i + 1), d), h1, sum1)
            sum2 = times_plus(times(spread(states, x_at + i + 2), d), h2, sum2)
            sum3 = times_plus(times(spread(states, x_at + i + 3), d), h3, sum3)
    store(grad_alpha, at, sum0)
    store(grad_alpha, at + n, sum1)
    store(grad_alpha, at + 2 * n, sum2)
    store(grad_alpha, at + 3 * n, sum3)
