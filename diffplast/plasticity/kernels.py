"""Compiled loops of the fused recurrence. README.md derives what they compute and names the symbols.

An update u of the trace is H <- c_u * H + g_u * pre_u post_u^T, with c_u a vector over columns. Loops over a row
are functions of 1-D arrays: LLVM vectorises those, and gives up on a nest that names many arrays at once.
"""

import math
import sys

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

# Updates that one pass over the trace applies at most.
MAX_PENDING = 4

# What may be reordered in sums; NaN and infinity keep their meaning.
FAST = {"contract", "reassoc", "nsz", "arcp"}

_row = njit(nogil=True, fastmath=FAST, error_model="numpy")
_kernel = njit(nogil=True, cache=True, error_model="numpy")

_yield_processor = types.ExternalFunction(
    "SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32()
)


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


@njit(nogil=True)
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


@njit(nogil=True, fastmath={"contract"}, error_model="numpy")
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
def _scale(row, factor):
    for j in range(row.shape[0]):
        row[j] *= factor[j]


@_row
def _sum_products(row, other):
    total = row.dtype.type(0)
    for j in range(row.shape[0]):
        total += row[j] * other[j]
    return total


@_row
def _update_row(row, decay, scale, post):
    for j in range(row.shape[0]):
        row[j] = decay[j] * row[j] + scale * post[j]


@_row
def _next_row(new, old, decay, scale, post):  # not for new = old: rows that overlap run the scalar loop
    for j in range(new.shape[0]):
        new[j] = decay[j] * old[j] + scale * post[j]


@_row
def _multiply_row(total, x, weight, alpha, trace):
    for j in range(total.shape[0]):
        total[j] += x * (weight[j] + alpha[j] * trace[j])


@_row
def _multiply_back_row(delta, weight, alpha, trace):
    total = delta.dtype.type(0)
    for j in range(delta.shape[0]):
        total += delta[j] * (weight[j] + alpha[j] * trace[j])
    return total


@_row
def _gradient_rows(grad_alpha, grad_trace, x, delta, alpha, trace):
    for j in range(delta.shape[0]):
        scaled = x * delta[j]
        grad_alpha[j] += scaled * trace[j]
        grad_trace[j] += scaled * alpha[j]


@_row
def _gradient_columns(by_post, by_decay, grad_trace, pre, trace):
    for j in range(grad_trace.shape[0]):
        by_post[j] += pre * grad_trace[j]
        by_decay[j] += grad_trace[j] * trace[j]


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


@_kernel
def forward(
    first, stride, size, rank, counter, start, stop, finish,
    states, clamped, product, count, weight, alpha, eta, oja, trace, partial,
):  # fmt: skip
    """Run steps start..stop of episodes first, first + stride, ... as member `rank` of a team of `size`.

    states (T+1, B, N): row t+1 holds the input of step t and receives its output. product, count (T, B): whether the
    step has a free neuron, and of how many equal steps its update stands for (0: part of an earlier one).
    trace (B, N, N) is updated in place; it lacks the last step's update unless `finish`. partial (size, N): scratch.
    """
    batch, n = states.shape[1:]
    low, high = n * rank // size, n * (rank + 1) // size
    decay = np.empty((MAX_PENDING, n), states.dtype)
    gain = np.empty(MAX_PENDING, states.dtype)
    step = np.empty(MAX_PENDING, np.int64)
    arrived = 0
    for b in range(first, batch, stride):
        pending = 0
        if start > 0:
            step[0] = start - 1
            gain[0] = _set_update(decay[0], states[start, b], eta, 1, oja)
            pending = 1
        for t in range(start, stop + 1):
            last = t == stop
            multiply = not last and product[t - start, b]
            if multiply or pending == MAX_PENDING or (last and finish):
                total = partial[rank]
                _fill(total, total.dtype.type(0))
                for i in range(low, high):
                    row = trace[b, i]
                    for k in range(pending):
                        _update_row(row, decay[k], gain[k] * states[step[k], b, i], states[step[k] + 1, b])
                    if multiply:
                        _multiply_row(total, states[t, b, i], weight[i], alpha[i], row)
                pending = 0
            if last:
                break
            if multiply:
                arrived = _barrier(counter, size, arrived)
                if rank == 0:
                    x = states[t + 1, b]
                    for other in range(1, size):
                        _add(total, total.dtype.type(1), partial[other])
                    _activate(x, total, clamped, t - start, b)
                arrived = _barrier(counter, size, arrived)
            if count[t - start, b] > 0:
                step[pending] = t
                gain[pending] = _set_update(decay[pending], states[t + 1, b], eta, count[t - start, b], oja)
                pending += 1


@njit(nogil=True, error_model="numpy")
def _activate(x, total, clamped, t, b):
    if clamped.shape[0] == 0:
        _tanh_row(x, total)
        return
    for j in range(x.shape[0]):
        if not clamped[t, b, j]:
            x[j] = _tanh(total[j] + x[j])


@njit(nogil=True, error_model="numpy")
def _plan(product, count, b, most, update_step, pass_step, pass_end, segment_end):
    """List the updates of an episode, the passes over the trace and the segments of at most `most` updates.

    Pass p makes updates up to pass_end[p] and then the product of step pass_step[p] (-1: none). Returns how many
    passes and segments there are; segment_end holds pass numbers.
    """
    updates = passes = segments = begun = pending = 0
    for t in range(product.shape[0] + 1):
        last = t == product.shape[0]
        multiply = not last and product[t, b]
        if multiply or pending == MAX_PENDING or (last and pending > 0):
            if updates - begun > most:
                segment_end[segments] = passes
                segments += 1
                begun = updates - pending
            pass_step[passes] = t if multiply else -1
            pass_end[passes] = updates
            passes += 1
            pending = 0
        if not last and count[t, b] > 0:
            update_step[updates] = t
            updates += 1
            pending += 1
    segment_end[segments] = passes
    return passes, segments + 1


@_kernel
def backward(
    first, stride, size, rank, counter,
    states, clamped, product, count, weight, alpha, eta, oja,
    trace, final_given, grad_states, grad_trace, grad_alpha, grad_eta, checkpoints,
    most, rows, delta, row_sums, column_sums,
):  # fmt: skip
    """Gradients of episodes first, first + stride, ... as member `rank` of a team of `size`.

    grad_states (T+1, B, N): cotangents of the outputs, receives the gradients of initial state and inputs.
    trace (B or 0, N, N): the initial trace, or none. grad_trace (B or 1, N, N): if `final_given`, the final trace's
    cotangent; receives the initial trace's. grad_alpha (N, N) and grad_eta (B,) are added to. The rest is scratch
    of the team: checkpoints (segments of `most` updates, N, N), rows (size, MAX_PENDING + 1, N), delta (N,),
    row_sums (MAX_PENDING + 1, N), column_sums (size, MAX_PENDING, 2, N).
    """
    steps, batch, n = states.shape[0] - 1, states.shape[1], states.shape[2]
    traces = rows[rank]
    row = traces[0]
    low, high = n * rank // size, n * (rank + 1) // size
    update_step = np.empty(steps + 1, np.int64)
    pass_step = np.empty(2 * steps + 2, np.int64)
    pass_end = np.empty(2 * steps + 2, np.int64)
    segment_end = np.empty(2 * steps + 2, np.int64)
    decay = np.empty((steps, n), states.dtype)
    gain = np.empty(steps, states.dtype)
    zero, one = states.dtype.type(0), states.dtype.type(1)
    arrived = 0
    for b in range(first, batch, stride):
        passes, segments = _plan(product, count, b, most, update_step, pass_step, pass_end, segment_end)
        for u in range(pass_end[passes - 1]):
            t = update_step[u]
            gain[u] = _set_update(decay[u], states[t + 1, b], eta, count[t, b], oja)
        grads = grad_trace[b if grad_trace.shape[0] == batch else 0]
        for i in range(low, high):
            if not final_given:
                _fill(grads[i], zero)
            if trace.shape[0] > 0:
                row[:] = trace[b, i]
            else:
                _fill(row, zero)
            done = 0
            for segment in range(segments):
                checkpoints[segment, i, :] = row
                end = pass_end[segment_end[segment] - 1]
                if segment < segments - 1:
                    for u in range(done, end):
                        t = update_step[u]
                        _update_row(row, decay[u], gain[u] * states[t, b, i], states[t + 1, b])
                done = end
        grad_rate = 0.0
        for segment in range(segments - 1, -1, -1):
            begin_pass = segment_end[segment - 1] if segment > 0 else 0
            base = pass_end[begin_pass - 1] if begin_pass > 0 else 0
            for p in range(segment_end[segment] - 1, begin_pass - 1, -1):
                step, end = pass_step[p], pass_end[p]
                begin = pass_end[p - 1] if p > 0 else 0
                if step < 0 and p == passes - 1 and not final_given:
                    continue
                if rank == 0 and step >= 0:
                    _activate_back(delta, grad_states[step + 1, b], states[step + 1, b], clamped, step, b)
                arrived = _barrier(counter, size, arrived)
                for k in range(end - begin):
                    _fill(column_sums[rank, k, 0], zero)
                    _fill(column_sums[rank, k, 1], zero)
                for i in range(low, high):
                    grad_row = grads[i]
                    row[:] = checkpoints[segment, i]
                    for u in range(base, begin):
                        t = update_step[u]
                        _update_row(row, decay[u], gain[u] * states[t, b, i], states[t + 1, b])
                    for u in range(begin, end):
                        t, scale = update_step[u], gain[u] * states[update_step[u], b, i]
                        _next_row(traces[u - begin + 1], traces[u - begin], decay[u], scale, states[t + 1, b])
                    if step >= 0:
                        x, product_trace = states[step, b, i], traces[end - begin]
                        row_sums[MAX_PENDING, i] = _multiply_back_row(delta, weight[i], alpha[i], product_trace)
                        _gradient_rows(grad_alpha[i], grad_row, x, delta, alpha[i], product_trace)
                    for u in range(end - 1, begin - 1, -1):
                        t, k = update_step[u], u - begin
                        row_sums[k, i] = _sum_products(grad_row, states[t + 1, b])
                        sums = column_sums[rank, k]
                        _gradient_columns(sums[0], sums[1], grad_row, states[t, b, i], traces[k])
                        _scale(grad_row, decay[u])
                arrived = _barrier(counter, size, arrived)
                if rank > 0:
                    continue
                if step >= 0:
                    _add(grad_states[step, b], one, row_sums[MAX_PENDING])
                for u in range(begin, end):
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


@njit(nogil=True, error_model="numpy")
def _activate_back(delta, grad, x, clamped, t, b):
    """delta <- gradient by the argument of tanh (0 for clamped neurons); grad <- gradient by the input."""
    for j in range(x.shape[0]):
        delta[j] = grad[j] * (x.dtype.type(1) - x[j] * x[j])
    if clamped.shape[0] > 0:
        for j in range(x.shape[0]):
            if clamped[t, b, j]:
                delta[j] = 0
            else:
                grad[j] = delta[j]
    else:
        grad[:] = delta


@njit(nogil=True, error_model="numpy")
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
def find_events(states, clamped, merge, product, count):
    """Fill product and count (T, B), see `forward`, from which neurons are clamped and which inputs are equal.

    `merge`: steps whose state before and after is the same clamped pattern become one update.
    """
    steps, batch, n = clamped.shape
    for b in range(batch):
        head, equal = 0, 0  # `equal`: for how many steps the same pattern has been clamped
        for t in range(steps):
            free = 0
            for j in range(n):
                free += 1 - clamped[t, b, j]
            product[t, b] = free > 0
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
                count[t, b] = 0
                count[head, b] += 1
            else:
                count[t, b] = 1
                head = t
