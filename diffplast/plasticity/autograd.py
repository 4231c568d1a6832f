"""The autograd functions of recorded episodes: recordings run forward once and know their backward pass.

That pass is differentiable once. Where autograd wants the graph of the backward pass (`create_graph=True`) or many
gradients at once (`is_grads_batched=True`), the episode runs again in the naive form, and they are found from there.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .naive import naive


def looked_into() -> bool:
    """Whether each operation is looked at: by torch.func, forward-mode derivatives, torch.jit.trace or torch.export."""
    return (
        torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or torch.jit.is_tracing()
        or (torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling())
    )


def autocast_is_on(tensor: Tensor) -> bool:
    """Whether products on the tensor's device are computed in half precision."""
    kind = tensor.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def _naive_gradients(tensors, wanted, clamped, rule, grads):
    """Gradients by (inputs, weight, alpha, eta, x, trace), None where not wanted; differentiable where that is enabled.

    grads: cotangents of outputs, x and trace, None for those not used.
    """
    again = torch.is_grad_enabled()
    whole = torch.autocast(tensors[1].device.type, enabled=False) if autocast_is_on(tensors[1]) else nullcontext()
    # Aliases: where one tensor was computed from another, the gradient by the latter must not include that way.
    with torch.enable_grad(), whole:
        inputs, weight, alpha, eta, x, trace = aliases = [
            None if tensor is None else tensor.view_as(tensor) for tensor in tensors
        ]
        if trace is None and alpha is not None:
            trace = weight.new_zeros(len(x), *weight.shape)
        outputs, state = naive(inputs, weight, alpha, eta, clamped, rule, (x, trace))
        used = [(result, grad) for result, grad in zip((outputs, *state), grads, strict=True) if grad is not None]
        by = [alias for alias, want in zip(aliases, wanted, strict=True) if want]
        results, cotangents = zip(*used, strict=True)
        found = iter(torch.autograd.grad(results, by, cotangents, create_graph=again, materialize_grads=True))
    return tuple(next(found) if want else None for want in wanted)


def _is_batch(grad):
    """Whether autograd is to find the gradients of many cotangents at once, by either of torch's two forms of vmap."""
    forms = torch._C._functorch
    return grad is not None and (forms.is_batchedtensor(grad) or forms.is_legacy_batchedtensor(grad))


class Recurrence(torch.autograd.Function):
    """Attaches a finished recording to the tensors that it was computed from."""

    @staticmethod
    def forward(ctx, recording, clamped, rule, *tensors):
        ctx.recording, ctx.rule = recording, rule
        ctx.save_for_backward(recording.states, clamped, *tensors)  # so that autograd notices changes in place
        ctx.set_materialize_grads(False)
        outputs = recording.states[1:].clone(memory_format=torch.contiguous_format)
        return outputs, outputs[-1].clone(), recording.hand_over_trace()

    @staticmethod
    def backward(ctx, *grads):
        _, clamped, *tensors = ctx.saved_tensors
        wanted = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled() or any(map(_is_batch, grads)):
            found = _naive_gradients(tensors, wanted, clamped, ctx.rule, grads)
        else:
            found = ctx.recording.gradients(*grads, trace_wanted=wanted[5])
        return None, None, None, *(grad if want else None for grad, want in zip(found, wanted, strict=True))


def resized(tensor: Tensor, length: int) -> Tensor:
    """Return the tensor with another length along its first axis: shortened, or zeros added."""
    if length <= len(tensor):
        return tensor[:length]
    longer = tensor.new_zeros(length, *tensor.shape[1:])
    longer[: len(tensor)] = tensor
    return longer


def attach(recording: Any, clamped: Tensor | None, rule: str, tensors: tuple) -> tuple[Tensor, tuple]:
    """Make the results of a recording differentiable: (outputs, (x, trace)).

    tensors: inputs, weight, alpha, eta, x and trace, None for those that there are not.
    """
    outputs, x, trace = Recurrence.apply(recording, clamped, rule, *tensors)
    return outputs, (x, trace)


class Replay(torch.autograd.Function):
    """Attaches a graph recorded from leaves of its own to the tensors whose values the leaves have."""

    @staticmethod
    def forward(ctx, record, rule, *tensors):
        ctx.record, ctx.rule = record, rule
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        _, _, results = record
        return tuple(None if result is None else result.detach().clone() for result in results)

    @staticmethod
    def backward(ctx, *grads):
        if torch.is_grad_enabled():
            wanted = ctx.needs_input_grad[2:]
            return None, None, *_naive_gradients(ctx.saved_tensors, wanted, None, ctx.rule, grads)
        steps, leaves, results = ctx.record
        given = [(result, grad) for result, grad in zip(results, grads, strict=True) if grad is not None]
        wanted = [*steps, *(leaf for leaf in leaves if leaf is not None)]
        roots, cotangents = zip(*given, strict=True)
        found = torch.autograd.grad(roots, wanted, cotangents, retain_graph=True, materialize_grads=True)
        others = iter(found[len(steps) :])
        return (
            None,
            None,
            torch.stack(found[: len(steps)]),
            *(None if leaf is None else next(others) for leaf in leaves),
        )


def replay(record: tuple, rule: str, tensors: tuple) -> tuple[Tensor, tuple]:
    """Make the results of a recorded graph differentiable by `tensors`: (outputs, (x, trace)).

    record: T leaves, the inputs; the leaves of the other tensors, in their order, None for None; and the results, T
    outputs, x and trace. tensors: inputs, weight, alpha, eta, x and trace.
    """
    steps, leaves, (outputs, x, trace) = record
    with torch.enable_grad():
        results = torch.stack(outputs), x, trace
    outputs, x, trace = Replay.apply((steps, leaves, results), rule, *tensors)
    return outputs, (x, trace)
