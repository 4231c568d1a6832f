"""The recurrence without a trace: matrix products only, in plain torch with autograd. Any device.

README.md derives it. H is a sum of outer products pre_s post_s^T, plus the initial trace with its columns decayed, so

    x (W + alpha * H) = x W + sum_s post_s * ((x * pre_s) alpha) + decay * (x (alpha * H_0))
"""

import torch


class LowRank:
    """The state of a batch of episodes; see `diffplast.plasticity.plastic_rnn` for the names."""

    def __init__(self, weight, alpha, eta, rule, x, trace):
        self.weight, self.alpha, self.eta, self.rule = weight, alpha, eta, rule
        self.x = x
        self.pre = self.post = x.new_zeros(0, *x.shape)
        self.initial = trace
        self.plastic_initial = None if trace is None else alpha * trace
        self.decay = torch.ones_like(x)

    def step(self, inputs, clamped=None):
        """One time step; returns x."""
        x = self.x
        total = x @ self.weight
        if len(self.pre):
            products = ((x * self.pre).flatten(0, 1) @ self.alpha).view_as(self.post)
            total = total + (self.post * products).sum(0)
        if self.initial is not None:
            total = total + self.decay * torch.bmm(x[:, None], self.plastic_initial)[:, 0]
        new_x = torch.tanh(total + inputs)
        if clamped is not None:
            new_x = torch.where(clamped, inputs, new_x)
        return self.update(new_x)

    def update(self, new_x, repeats=1):
        """The trace's update by x and new_x, `repeats` times (more than one: Hebb only); returns x = new_x."""
        if self.rule == "hebb":
            decay = (1 - self.eta) ** repeats
            gain = self.eta if repeats == 1 else 1 - decay
        else:
            decay, gain = 1 - self.eta * new_x * new_x, self.eta
        self.post = torch.cat([self.post * decay, (gain * new_x)[None]])
        self.pre = torch.cat([self.pre, self.x[None]])
        self.decay = self.decay * decay
        self.x = new_x
        return new_x

    @property
    def trace(self):
        """(B, N, N), computed when asked for."""
        trace = torch.einsum("sbi,sbj->bij", self.pre, self.post)
        return trace if self.initial is None else trace + self.decay[:, None] * self.initial


def lowrank(inputs, weight, alpha, eta, clamped, rule, state):
    """Arguments and results as `diffplast.plasticity.plastic_rnn`."""
    episode = LowRank(weight, alpha, eta, rule, *state)
    outputs = []
    for first, repeats, free in runs(inputs, clamped, rule):
        if free:
            outputs.append(episode.step(inputs[first], None if clamped is None else clamped[first]))
        else:
            episode.update(inputs[first], repeats)
            outputs.extend(inputs[first : first + repeats])
    return torch.stack(outputs), (episode.x, episode.trace)


def runs(inputs, clamped, rule):
    """Split the steps into runs (first step, how many, whether a neuron is free).

    A run of several steps shows the same pattern as the step before it, all neurons clamped. Only constants are
    merged: each step of an input with a gradient has its own.
    """
    steps = len(inputs)
    if clamped is None:
        return [(t, 1, True) for t in range(steps)]
    full = clamped.flatten(1).all(1).tolist()
    equal = [False] * steps
    if rule == "hebb" and not inputs.requires_grad:
        equal[1:] = (inputs[1:] == inputs[:-1]).flatten(1).all(1).tolist()
    found = []
    for t in range(steps):
        shown_before = t > 1 and full[t] and full[t - 1] and full[t - 2] and equal[t] and equal[t - 1]
        if shown_before:
            first, repeats, _ = found[-1]
            found[-1] = first, repeats + 1, False
        else:
            found.append((t, 1, not full[t]))
    return found
