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
    """The tensor with another length along its first axis: shortened, or zeros added."""
    if length <= len(tensor):
        return tensor[:length]
    longer = tensor.new_zeros(length, *tensor.shape[1:])
    longer[: len(tensor)] = tensor
    return longer


def attach(recording, inputs, weight, alpha, eta, x, trace):
    """The results of a recording, differentiable: (outputs, (x, trace))."""
    outputs, x, trace = Recurrence.apply(inputs, weight, alpha, eta, x, trace, recording)
    return outputs, (x, trace)


class Replay(torch.autograd.Function):
    """Attaches a graph recorded from leaves of its own to the tensors whose values the leaves have."""

    @staticmethod
    def forward(ctx, record, inputs, *tensors):
        ctx.record = record
        ctx.set_materialize_grads(False)
        _, _, results = record
        return tuple(None if result is None else result.detach().clone() for result in results)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        steps, leaves, results = ctx.record
        given = [(result, grad) for result, grad in zip(results, grads, strict=True) if grad is not None]
        wanted = [*steps, *(leaf for leaf in leaves if leaf is not None)]
        roots, cotangents = zip(*given, strict=True)
        found = torch.autograd.grad(roots, wanted, cotangents, retain_graph=True, materialize_grads=True)
        others = iter(found[len(steps) :])
        return None, torch.stack(found[: len(steps)]), *(None if leaf is None else next(others) for leaf in leaves)


def replay(steps, leaves, outputs, x, trace, inputs, tensors):
    """The results of a recorded graph, differentiable by `inputs` and `tensors`: (outputs, (x, trace)).

    steps: T leaves, the inputs. leaves: those of `tensors`, in their order, None for None. outputs: T tensors.
    """
    with torch.enable_grad():
        results = torch.stack(outputs), x, trace
    outputs, x, trace = Replay.apply((steps, leaves, results), inputs, *tensors)
    return outputs, (x, trace)
