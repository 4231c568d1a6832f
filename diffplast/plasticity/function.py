"""The autograd function of recorded episodes: recordings run forward once and know their backward pass."""

import torch
from torch.autograd.function import once_differentiable


class Recurrence(torch.autograd.Function):
    """Attaches a finished recording to the tensors that it was computed from."""

    @staticmethod
    def forward(ctx, inputs, weight, alpha, eta, x, trace, recording):
        ctx.recording = recording
        ctx.save_for_backward(recording.states, weight, alpha)  # so that autograd notices changes in place
        ctx.set_materialize_grads(False)
        return recording.states[1:].contiguous(), recording.states[-1].clone(), recording.trace

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_outputs, grad_x, grad_trace):
        ctx.saved_tensors  # noqa: B018
        wanted = ctx.needs_input_grad
        grads = ctx.recording.gradients(grad_outputs, grad_x, grad_trace, trace_wanted=wanted[5])
        return *(grad if want else None for grad, want in zip(grads, wanted, strict=False)), None


def resized(tensor, length):
    """The tensor with another length along its first axis, its values kept as far as they fit."""
    if length <= len(tensor):
        return tensor[:length]
    longer = tensor.new_empty(length, *tensor.shape[1:])
    longer[: len(tensor)] = tensor
    return longer


def attach(recording, inputs, weight, alpha, eta, state):
    """The results of a recording, differentiable: (outputs, (x, trace))."""
    outputs, x, trace = Recurrence.apply(inputs, weight, alpha, eta, *state, recording)
    return outputs, (x, trace)
