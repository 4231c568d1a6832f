"""The plastic layer from features to classes, with fixed bits on the CPU.

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

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from diffplast.plasticity.jit import kernel, part
from diffplast.plasticity.simd import LANES, exp32, fma, load, spread, store, zeros
from diffplast.plasticity.threads import run_team

CHUNK = 16


class Drawings(NamedTuple):
    """What the compiled loops see of episodes: see `logits`."""

    shown: np.ndarray
    presented: np.ndarray
    label: np.ndarray
    tested: np.ndarray
    asked: np.ndarray


class Layer(NamedTuple):
    """What they see of the layer: weight and alpha (F, width), eta, strength, and the real number of classes."""

    weight: np.ndarray
    alpha: np.ndarray
    eta: np.float32
    strength: np.float32
    ways: int


class Gradients(NamedTuple):
    """Gradients by the features of each drawing in each presentation, shown (P, S, F) and tested (P, Q, F).

    weight, alpha (chunks, F, width) and eta (chunks,): sums over a chunk; zeros before.
    """

    shown: np.ndarray
    tested: np.ndarray
    weight: np.ndarray
    alpha: np.ndarray
    eta: np.ndarray


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
    More than eight parameters: an episode's five, the layer's four.
    """
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        # Not shown[presented]: the gradient of an index is added up in any order.
        shown, tested = F.embedding(presented, shown), F.embedding(asked, tested)
        return naive_logits(shown, label, tested, weight, alpha, eta, strength)
    return _Logits.apply(shown, presented, label, tested, asked, weight, alpha, eta, strength)


class _Logits(torch.autograd.Function):
    @staticmethod
    def forward(ctx, shown, presented, label, tested, asked, weight, alpha, eta, strength):
        """More than eight parameters: autograd sees only those that are tensors themselves."""
        features, ways = weight.shape
        width = -(-ways // LANES) * LANES
        w, a = np.zeros((2, features, width), np.float32)
        w[:, :ways], a[:, :ways] = weight.numpy(), alpha.numpy()
        drawings = Drawings(*(np.ascontiguousarray(x.numpy()) for x in (shown, presented, label, tested, asked)))
        layer = Layer(w, a, np.float32(eta.item()), np.float32(strength), ways)
        found = np.empty((*asked.shape, width), np.float32)
        _shared(len(label), lambda rank, size: forward(rank, size, drawings, layer, found))
        ctx.kept = drawings, layer, alpha.shape
        return torch.from_numpy(found[..., :ways].copy())

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):
        drawings, layer, alpha_shape = ctx.kept
        label, asked, ways = drawings.label, drawings.asked, layer.ways
        features, width = layer.weight.shape
        given = np.zeros((*asked.shape, width), np.float32)
        given[..., :ways] = cotangent.numpy()
        chunks = -(-len(label) // CHUNK)
        found = Gradients(
            np.empty((*label.shape, features), np.float32),
            np.empty((*asked.shape, features), np.float32),
            *np.zeros((2, chunks, features, width), np.float32),
            np.zeros(chunks, np.float32),
        )
        _shared(len(label), lambda rank, size: backward(rank, size, drawings, layer, given, found))
        found_shown, found_tested = np.zeros_like(drawings.shown), np.zeros_like(drawings.tested)
        collect(drawings.presented, found.shown, found_shown)
        collect(asked, found.tested, found_tested)
        found_weight, found_alpha = _in_order(found.weight)[:, :ways], _in_order(found.alpha)[:, :ways]
        if not alpha_shape:
            found_alpha = _in_order(found_alpha.reshape(-1, 1))[0]
        return (
            torch.from_numpy(found_shown), None, None, torch.from_numpy(found_tested), None,
            torch.from_numpy(found_weight), torch.as_tensor(found_alpha),
            torch.as_tensor(_in_order(found.eta[:, None])[0]), None,
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
def forward(rank, size, drawings, layer, found):
    """Fill in found (P, Q, width), the logits, for every `size`-th chunk of presentations from number `rank` on."""
    features, width = layer.weight.shape
    presented, label, asked = drawings.presented, drawings.label, drawings.asked
    trace = np.empty((features, width), np.float32)
    product, y = np.empty((features, width), np.float32), np.empty(width, np.float32)
    for begin in range(rank * CHUNK, label.shape[0], size * CHUNK):
        for p in range(begin, min(begin + CHUNK, label.shape[0])):
            trace[:] = 0
            for s in range(label.shape[1]):
                x = presented[p, s] * features
                _multiply(drawings.shown, x, layer, trace, product, y)
                y[label[p, s]] += layer.strength
                _softmax(y, layer.ways)
                _update(drawings.shown, x, y, layer.eta, trace, trace)
            for q in range(asked.shape[1]):
                _multiply(drawings.tested, asked[p, q] * features, layer, trace, product, found[p, q])


@part
def _multiply(drawings, x, layer, trace, product, found):
    """found (width,) <- x m, product <- m, for the features at `x` and a trace (F, width)."""
    features, width = layer.weight.shape
    for j in range(0, width, LANES):
        total = zeros(layer.weight, 1, 1)
        for at in range(j, features * width, width):
            m = fma(load(layer.alpha, at, 0, 1, 1), load(trace, at, 0, 1, 1), load(layer.weight, at, 0, 1, 1))
            store(product, at, 0, m)
            total = fma(spread(drawings, x + at // width, 1), m, total)
        store(found, j, 0, total)


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
def _update(drawings, x, y, eta, before, after):
    """The trace `after` <- that `before`, updated by the features at `x` and the outputs y (width,)."""
    features, width = before.shape
    for j in range(0, width, LANES):
        post = load(y, j, 0, 1, 1)
        for f in range(features):
            old = load(before, f * width + j, 0, 1, 1)
            change = eta * post * (spread(drawings, x + f, 1) - post * old)
            store(after, f * width + j, 0, old + change)


@kernel
def backward(rank, size, drawings, layer, given, found):
    """Fill in the gradients, from those by the logits, `given`, for every `size`-th chunk of presentations."""
    shown, presented, label = drawings.shown, drawings.presented, drawings.label
    tested, asked = drawings.tested, drawings.asked
    shots, ways = label.shape[1], layer.ways
    features, width = layer.weight.shape
    traces, y = np.empty((shots + 1, features, width), np.float32), np.empty((shots, width), np.float32)
    product, by_trace = np.empty((2, features, width), np.float32)
    by_product, by_total = np.empty((features, width), np.float32), np.empty(width, np.float32)
    rates = np.full(width, layer.eta)
    for chunk in range(rank, found.eta.shape[0], size):
        for p in range(chunk * CHUNK, min((chunk + 1) * CHUNK, label.shape[0])):
            traces[0] = 0
            for s in range(shots):
                x = presented[p, s] * features
                _multiply(shown, x, layer, traces[s], product, y[s])
                y[s, label[p, s]] += layer.strength
                _softmax(y[s], ways)
                _update(shown, x, y[s], layer.eta, traces[s], traces[s + 1])
            by_trace[:] = 0
            by_product[:] = 0
            _multiply(shown, 0, layer, traces[shots], product, by_total)
            for q in range(asked.shape[1]):
                _add_outer(tested, asked[p, q] * features, given[p, q], by_product)
                found.tested[p, q] = 0
                _add_inner(product, given[p, q], ways, found.tested[p, q])
            _through_product(by_product, traces[shots], layer.alpha, found.weight[chunk], found.alpha[chunk], by_trace)
            for s in range(shots - 1, -1, -1):
                x = presented[p, s] * features
                found.eta[chunk] += _update_back(shown, x, y[s], layer, traces[s], by_trace, by_product, by_total)
                found.shown[p, s] = 0
                _add_inner(by_product, rates, ways, found.shown[p, s])
                _multiply(shown, x, layer, traces[s], product, by_product[0])
                _add_inner(product, by_total, ways, found.shown[p, s])
                by_product[:] = 0
                _add_outer(shown, x, by_total, by_product)
                _through_product(by_product, traces[s], layer.alpha, found.weight[chunk], found.alpha[chunk], by_trace)


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
def _through_product(by_product, trace, alpha, by_weight, by_alpha, by_trace):
    """Add what comes through m to the gradients of weight, alpha and the trace, all (F, width)."""
    for at in range(0, trace.size, LANES):
        gradient = load(by_product, at, 0, 1, 1)
        store(by_weight, at, 0, load(by_weight, at, 0, 1, 1) + gradient)
        store(by_alpha, at, 0, fma(gradient, load(trace, at, 0, 1, 1), load(by_alpha, at, 0, 1, 1)))
        store(by_trace, at, 0, fma(gradient, load(alpha, at, 0, 1, 1), load(by_trace, at, 0, 1, 1)))


@part
def _update_back(drawings, x, y, layer, trace, by_trace, along, by_total):
    """Go back through an update and its softmax, whose outputs were y (width,); returns the gradient of eta.

    trace: before the update. by_trace: of the trace after the update, then of the one before. along (F, width)
    <- by_trace y, whose sums over classes, times eta, are added to the gradient of the features. by_total <- by the
    argument of the softmax.
    """
    features, width = by_trace.shape
    eta, ways = layer.eta, layer.ways
    by_eta = np.float32(0)
    for j in range(0, width, LANES):
        post = load(y, j, 0, 1, 1)
        slope = 1 - eta * post * post
        sum_eta, sum_post = zeros(by_trace, 1, 1), zeros(by_trace, 1, 1)
        for f in range(features):
            at = f * width + j
            pre, gradient = spread(drawings, x + f, 1), load(by_trace, at, 0, 1, 1)
            decayed = post * load(trace, at, 0, 1, 1)
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
        total = fma(by_total[j], y[j], total)
    for j in range(width):
        by_total[j] = y[j] * (by_total[j] - total)
    return by_eta


@kernel
def collect(numbers, parts, found):
    """found[numbers[p, i]] += parts[p, i], in order."""
    for p in range(numbers.shape[0]):
        for i in range(numbers.shape[1]):
            for f in range(found.shape[1]):
                found[numbers[p, i], f] += parts[p, i, f]


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
