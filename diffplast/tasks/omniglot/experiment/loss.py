"""The loss of Omniglot: a binary cross-entropy from logits, with fixed bits on the CPU."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from diffplast.plasticity.jit import kernel
from diffplast.plasticity.simd import exp32, log32


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
