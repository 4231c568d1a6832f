"""The plastic layer from features to classes, and the loss, with fixed bits on the CPU.

    H       trace (F, ways), 0 before a presentation
    m       w + alpha * H: what the features are multiplied with
    y       softmax(x m + strength * label), of a drawing that is shown; then H <- H + eta y (x - y H)  (Oja)
    logits  x m, of a drawing that is tested; it leaves no trace

Going back, with g the gradient of what it stands before and the trace before the update:

    gH      (1 - eta y^2) gH', and alpha * gm            gm      x^T g(x m), summed over the drawings that m meets
    gy      eta sum_f gH' (x - 2 y H)                    gx      eta sum_j gH' y + sum_j g(x m) m
    g(x m)  y (gy - sum_j gy y)                          geta    sum gH' y (x - y H)

In the compiled loops a vector goes over classes, which are padded with zeros to `width`, a multiple of LANES. Sums are
chains over features, drawings or presentations in order; those of a gradient over presentations go over CHUNK of
them at a time, whatever the number of threads, and then over the chunks.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from diffplast.plasticity.jit import kernel, part
from diffplast.plasticity.simd import LANES, exp32, fma, load, log32, spread, store, zeros
from diffplast.plasticity.threads import run_team

CHUNK = 16


def naive_logits(shown: Tensor, label: Tensor, tested: Tensor, weight: Tensor, alpha: Tensor, eta: Tensor, strength):
    """What `logits` computes, in torch: shown (P, S, F), label (P, S), tested (P, Q, F) -> (P, Q, ways)."""
    trace = weight.new_zeros(len(shown), *weight.shape)
    inputs = strength * F.one_hot(label, weight.shape[1]).to(weight.dtype)
    for x, given in zip(shown.unbind(1), inputs.unbind(1), strict=True):
        total = (x[:, None] @ (weight + alpha * trace)).squeeze(1)
        y = torch.softmax(total + given, dim=-1)[:, None]
        trace = trace + eta * y * (x[:, :, None] - y * trace)
    return tested @ (weight + alpha * trace)


def logits(
    shown: Tensor, presented: Tensor, label: Tensor, tested: Tensor, asked: Tensor,
    weight: Tensor, alpha: Tensor, eta: Tensor, strength: float,
) -> Tensor:  # fmt: skip
    """Logits (P, Q, ways) of tested drawings after their presentations.

    shown (D, F), tested (B, F): features of every drawing, once. presented (P, S), asked (P, Q): which drawings.
    label (P, S). weight (F, ways), alpha as weight or 0-d, eta 0-d. strength: of a label's input to its output.
    (Nine arguments: an episode's five, the layer's four.)
    """
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        # Not shown[presented]: the gradient of an index is added up in any order.
        shown, tested = F.embedding(presented, shown), F.embedding(asked, tested)
        return naive_logits(shown, label, tested, weight, alpha, eta, strength)
    return _Logits.apply(shown, presented, label, tested, asked, weight, alpha, eta, strength)


class _Logits(torch.autograd.Function):
    @staticmethod
    def forward(ctx, shown, presented, label, tested, asked, weight, alpha, eta, strength):
        features, ways = weight.shape
        width = -(-ways // LANES) * LANES
        w, a = np.zeros((2, features, width), np.float32)
        w[:, :ways], a[:, :ways] = weight.numpy(), alpha.numpy()
        episodes = tuple(np.ascontiguousarray(part.numpy()) for part in (shown, presented, label, tested, asked))
        layer = w, a, np.float32(eta.item()), np.float32(strength), ways
        found = np.empty((*asked.shape, width), np.float32)
        _shared(len(label), lambda rank, size: forward(rank, size, *episodes, *layer, found))
        ctx.kept = episodes, layer, alpha.shape
        return torch.from_numpy(found[..., :ways].copy())

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):
        episodes, layer, alpha_shape = ctx.kept
        shown, presented, label, tested, asked = episodes
        weight, _, _, _, ways = layer
        features, width = weight.shape
        given = np.zeros((*asked.shape, width), np.float32)
        given[..., :ways] = cotangent.numpy()
        chunks = -(-len(label) // CHUNK)
        by_shown = np.empty((*label.shape, features), np.float32)
        by_tested = np.empty((*asked.shape, features), np.float32)
        by_weight, by_alpha = np.zeros((2, chunks, features, width), np.float32)
        by_eta = np.zeros(chunks, np.float32)
        _shared(
            len(label),
            lambda rank, size: backward(
                rank, size, *episodes, *layer, given, by_shown, by_tested, by_weight, by_alpha, by_eta
            ),
        )
        found_shown, found_tested = np.zeros_like(shown), np.zeros_like(tested)
        collect(presented, by_shown, found_shown)
        collect(asked, by_tested, found_tested)
        found_weight, found_alpha = _in_order(by_weight)[:, :ways], _in_order(by_alpha)[:, :ways]
        if not alpha_shape:
            found_alpha = _in_order(found_alpha.reshape(-1, 1))[0]
        return (
            torch.from_numpy(found_shown), None, None, torch.from_numpy(found_tested), None,
            torch.from_numpy(found_weight), torch.as_tensor(found_alpha),
            torch.as_tensor(_in_order(by_eta[:, None])[0]), None,
        )  # fmt: skip


def _shared(presentations, function):
    size = min(torch.get_num_threads(), -(-presentations // CHUNK))
    run_team(size, lambda rank: function(rank, size))


def _in_order(parts):
    total = np.zeros_like(parts[0])
    for one in parts:
        total = total + one
    return total


@kernel
def forward(rank, size, shown, presented, label, tested, asked, weight, alpha, eta, strength, ways, found):
    """Fill in found (P, Q, width), the logits, for every `size`-th chunk of presentations from number `rank` on."""
    features, width = weight.shape
    trace = np.empty((features, width), np.float32)
    product, y = np.empty((features, width), np.float32), np.empty(width, np.float32)
    for begin in range(rank * CHUNK, label.shape[0], size * CHUNK):
        for p in range(begin, min(begin + CHUNK, label.shape[0])):
            trace[:] = 0
            for s in range(label.shape[1]):
                x = presented[p, s] * features
                _multiply(shown, x, weight, alpha, trace, 0, product, y, 0)
                y[label[p, s]] += strength
                _softmax(y, ways)
                _update(shown, x, y, 0, eta, trace, 0, 0)
            for q in range(asked.shape[1]):
                place = (p * asked.shape[1] + q) * width
                _multiply(tested, asked[p, q] * features, weight, alpha, trace, 0, product, found, place)


@part
def _multiply(drawings, x, weight, alpha, trace, before, product, found, place):
    """found (at `place`) <- x m, product <- m, for the features at `x` and the trace at `before`."""
    features, width = weight.shape
    for j in range(0, width, LANES):
        total = zeros(weight, 1, 1)
        for at in range(j, features * width, width):
            m = fma(load(alpha, at, 0, 1, 1), load(trace, before + at, 0, 1, 1), load(weight, at, 0, 1, 1))
            store(product, at, 0, m)
            total = fma(spread(drawings, x + at // width, 1), m, total)
        store(found, place + j, 0, total)


@part
def _softmax(y, ways):
    """y <- softmax of its first numbers, and zeros."""
    most = y[0]
    for j in range(1, ways):
        most = max(most, y[j])
    total = np.float32(0)
    for j in range(ways):
        y[j] = exp32(y[j] - most)
        total += y[j]
    for j in range(ways):
        y[j] /= total
    y[ways:] = 0


@part
def _update(drawings, x, outputs, y, eta, trace, before, after):
    """The trace at `after` <- that at `before`, updated by the features at `x` and the outputs at `y`."""
    features, width = trace.shape[-2:]
    for j in range(0, width, LANES):
        post = load(outputs, y + j, 0, 1, 1)
        for f in range(features):
            old = load(trace, before + f * width + j, 0, 1, 1)
            change = eta * post * (spread(drawings, x + f, 1) - post * old)
            store(trace, after + f * width + j, 0, old + change)


@kernel
def backward(
    rank, size, shown, presented, label, tested, asked, weight, alpha, eta, strength, ways,
    given, by_shown, by_tested, by_weight, by_alpha, by_eta,
):  # fmt: skip
    """Fill in the gradients, from those by the logits, `given`, for every `size`-th chunk of presentations.

    by_shown (P, S, F), by_tested (P, Q, F): of each drawing in each presentation. by_weight, by_alpha (chunks, F,
    width), by_eta (chunks,): sums over a chunk; zeros before.
    """
    shots, questions = label.shape[1], asked.shape[1]
    features, width = weight.shape
    numbers = features * width
    traces, y = np.empty((shots + 1, features, width), np.float32), np.empty(shots * width, np.float32)
    product, by_trace = np.empty((2, features, width), np.float32)
    by_product, by_total = np.empty((features, width), np.float32), np.empty(width, np.float32)
    rates = np.full(width, eta)
    for chunk in range(rank, by_eta.shape[0], size):
        for p in range(chunk * CHUNK, min((chunk + 1) * CHUNK, label.shape[0])):
            traces[0] = 0
            for s in range(shots):
                x = presented[p, s] * features
                _multiply(shown, x, weight, alpha, traces, s * numbers, product, y, s * width)
                y[s * width + label[p, s]] += strength
                _softmax(y[s * width : (s + 1) * width], ways)
                _update(shown, x, y, s * width, eta, traces, s * numbers, (s + 1) * numbers)
            by_trace[:] = 0
            by_product[:] = 0
            _multiply(shown, 0, weight, alpha, traces, shots * numbers, product, by_total, 0)
            for q in range(questions):
                _add_outer(tested, asked[p, q] * features, given[p, q], by_product)
                by_tested[p, q] = 0
                _add_inner(product, given[p, q], ways, by_tested[p, q])
            _through_product(by_product, traces[shots], alpha, chunk * numbers, by_weight, by_alpha, by_trace)
            for s in range(shots - 1, -1, -1):
                x = presented[p, s] * features
                by_eta[chunk] += _update_back(
                    shown, x, y, s * width, eta, ways, traces, s * numbers, by_trace, by_product, by_total
                )
                by_shown[p, s] = 0
                _add_inner(by_product, rates, ways, by_shown[p, s])
                _multiply(shown, x, weight, alpha, traces, s * numbers, product, by_product, 0)
                _add_inner(product, by_total, ways, by_shown[p, s])
                by_product[:] = 0
                _add_outer(shown, x, by_total, by_product)
                _through_product(by_product, traces[s], alpha, chunk * numbers, by_weight, by_alpha, by_trace)


@part
def _add_outer(drawings, x, by_total, by_product):
    """by_product += x^T by_total, for the features at `x`."""
    features, width = by_product.shape
    for j in range(0, width, LANES):
        gradient = load(by_total, j, 0, 1, 1)
        for f in range(features):
            at = f * width + j
            store(by_product, at, 0, fma(spread(drawings, x + f, 1), gradient, load(by_product, at, 0, 1, 1)))


@part
def _add_inner(product, by_total, ways, by_x):
    """by_x += by_total product^T."""
    for f in range(product.shape[0]):
        total = by_x[f]
        for j in range(ways):
            total = fma(by_total[j], product[f, j], total)
        by_x[f] = total


@part
def _through_product(by_product, trace, alpha, chunk, by_weight, by_alpha, by_trace):
    """Add what comes through m to the gradients of weight and alpha, at `chunk`, and of the trace."""
    for at in range(0, trace.size, LANES):
        gradient = load(by_product, at, 0, 1, 1)
        store(by_weight, chunk + at, 0, load(by_weight, chunk + at, 0, 1, 1) + gradient)
        sum_alpha = fma(gradient, load(trace, at, 0, 1, 1), load(by_alpha, chunk + at, 0, 1, 1))
        store(by_alpha, chunk + at, 0, sum_alpha)
        store(by_trace, at, 0, fma(gradient, load(alpha, at, 0, 1, 1), load(by_trace, at, 0, 1, 1)))


@part
def _update_back(drawings, x, outputs, y, eta, ways, trace, before, by_trace, along, by_total):
    """Go back through an update and its softmax; returns the gradient of eta.

    by_trace: of the trace after the update, then of the one before. along (F, width) <- by_trace y, whose sums over
    classes, times eta, are added to the gradient of the features. by_total <- by the argument of the softmax.
    """
    features, width = by_trace.shape
    by_eta = np.float32(0)
    for j in range(0, width, LANES):
        post = load(outputs, y + j, 0, 1, 1)
        slope = 1 - eta * post * post
        sum_eta, sum_post = zeros(by_trace, 1, 1), zeros(by_trace, 1, 1)
        for f in range(features):
            at = f * width + j
            pre, gradient = spread(drawings, x + f, 1), load(by_trace, at, 0, 1, 1)
            decayed = post * load(trace, before + at, 0, 1, 1)
            sum_eta = fma(gradient * post, pre - decayed, sum_eta)
            sum_post = fma(gradient, pre - decayed - decayed, sum_post)
            store(along, at, 0, gradient * post)
            store(by_trace, at, 0, gradient * slope)
        store(by_total, j, 0, sum_eta)
        for lane in range(j, min(j + LANES, ways)):
            by_eta += by_total[lane]
        store(by_total, j, 0, eta * sum_post)
    total = np.float32(0)
    for j in range(ways):
        total = fma(by_total[j], outputs[y + j], total)
    for j in range(width):
        by_total[j] = outputs[y + j] * (by_total[j] - total)
    return by_eta


@kernel
def collect(numbers, parts, found):
    """found[numbers[p, i]] += parts[p, i], in order."""
    for p in range(numbers.shape[0]):
        for i in range(numbers.shape[1]):
            for f in range(found.shape[1]):
                found[numbers[p, i], f] += parts[p, i, f]


def naive_loss(logits: Tensor, answer: Tensor) -> Tensor:
    """What `loss` computes, in torch."""
    right = F.one_hot(answer, logits.shape[-1]).bool()
    self = torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)
    others = logits[..., None, :].masked_fill(self, -torch.inf).logsumexp(-1)
    return (logits.logsumexp(-1, keepdim=True) - torch.where(right, logits, others)).mean()


def loss(logits: Tensor, answer: Tensor) -> Tensor:
    """The binary cross-entropy of softmax(logits), averaged over classes and answers, 0-d.

    logits (P, Q, ways), answer (P, Q). From the logits and not from the probabilities p: 1 - p rounds to 0 where the
    network is sure of a wrong answer, and the gradient through it is then up to 20,000 times too large.
    """
    if logits.device.type != "cpu" or logits.dtype != torch.float32:
        return naive_loss(logits, answer)
    return _Loss.apply(logits, answer)


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, answer):
        gradient = np.empty(logits.shape, np.float32)
        ways = logits.shape[-1]
        total = cross_entropy(logits.reshape(-1, ways).numpy(), answer.ravel().numpy(), gradient.reshape(-1, ways))
        ctx.gradient = torch.from_numpy(gradient)
        return torch.tensor(total / gradient.size, dtype=torch.float32)

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):
        return ctx.gradient * (cotangent / ctx.gradient.numel()), None


@kernel
def cross_entropy(logits, answer, gradient):
    """The sum of the binary cross-entropies of logits (n, ways); gradient <- its gradient.

    log(1 - p_j) is log of the sum of exp over the others, less log of that over all: each sum from its own largest.
    """
    ways = logits.shape[1]
    total = 0.0
    every, others = np.empty((2, ways), np.float32)
    for n in range(logits.shape[0]):
        z, target = logits[n], answer[n]
        top = 0
        for j in range(1, ways):
            top = j if z[j] > z[top] else top
        second = 1 if top == 0 else 0
        for j in range(ways):
            second = j if j != top and z[j] > z[second] else second
        sum_every, sum_others = np.float32(0), np.float32(0)
        for j in range(ways):
            every[j] = exp32(z[j] - z[top])
            others[j] = np.float32(0) if j == top else exp32(z[j] - z[second])
            sum_every += every[j]
            sum_others += others[j]
        log_every = z[top] + log32(sum_every)
        for j in range(ways):
            gradient[n, j] = every[j] / sum_every
        gradient[n, target] -= np.float32(1)
        total += log_every - z[target]
        for j in range(ways):
            if j == target:
                continue
            p = every[j] / sum_every
            if j == top:
                rest, log_rest = sum_others, z[second] + log32(sum_others)
            else:
                rest = np.float32(0)
                for i in range(ways):
                    rest += np.float32(0) if i == j else every[i]
                log_rest = z[top] + log32(rest)
            total += log_every - log_rest
            for i in range(ways):
                share = others[i] if j == top else every[i]
                gradient[n, i] += p if i == j else -p * (share / rest)
    return total


@kernel
def softmax(logits, found):
    """found (n, ways) <- softmax of logits (n, ways)."""
    for n in range(logits.shape[0]):
        found[n] = logits[n]
        _softmax(found[n], logits.shape[1])


def probabilities(logits: Tensor) -> Tensor:
    """softmax(logits), without a gradient."""
    if logits.device.type != "cpu":
        return torch.softmax(logits.detach(), dim=-1)
    ways, found = logits.shape[-1], np.empty(logits.shape, np.float32)
    softmax(logits.detach().reshape(-1, ways).numpy(), found.reshape(-1, ways))
    return torch.from_numpy(found)
