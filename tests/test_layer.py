"""The layer in other people's code: what is done to any layer of torch works, or fails with a sentence that helps."""

import os
import subprocess
import sys

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn.utils.rnn import pack_padded_sequence

from diffplast.plasticity import PlasticRNN, PlasticRollout, plastic_rnn

BACKENDS = ["auto", "lowrank", "naive"]
KINDS = ["plastic", "homogeneous", "nonplastic"]
every_backend = pytest.mark.parametrize("backend", BACKENDS)
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def make(backend="auto", kind="plastic", size=5, **settings):
    layer = PlasticRNN(3, size, plasticity=kind, backend=backend, **settings)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(3)  # so that the recurrence matters
    return layer


def gradients(layer, *results):
    loss = sum(result.square().sum() for result in results if result is not None)
    return torch.autograd.grad(loss, list(layer.parameters()))


def loss_of(layer):
    """The loss as a function of parameters and inputs."""

    def loss(parameters, inputs):
        return torch.func.functional_call(layer, parameters, (inputs,))[0].square().sum()

    return loss, {name: parameter.detach() for name, parameter in layer.named_parameters()}


@every_kind
@every_backend
def test_second_derivative_under_autocast(backend, kind):
    layer, inputs = make(backend, kind), torch.randn(6, 2, 5, requires_grad=True)

    def penalty():
        outputs, _ = plastic_rnn(inputs, layer.weight, layer.alpha, layer.eta, backend=backend)
        (gradient,) = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)
        return gradient.square().sum()

    expected = penalty()
    with torch.autocast("cpu", torch.bfloat16):
        found = penalty()
    if backend == "auto":  # elsewhere torch's own backward pass follows autocast
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


@every_kind
@every_backend
def test_autocast_leaves_the_recurrence_its_precision(backend, kind):
    layer, inputs = make(backend, kind), torch.randn(6, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        projected = layer.input(inputs)
        outputs, state = layer(inputs)
        rollout = PlasticRollout(layer.weight, layer.alpha, layer.eta, 2, backend=backend)
        acted = torch.stack([rollout.step(row) for row in projected])
        rolled, _ = rollout.outputs(projected)
    assert projected.dtype == torch.bfloat16
    parameters = layer.weight, layer.alpha, layer.eta
    expected, expected_state = plastic_rnn(projected.float(), *parameters, backend=backend)
    for found in (outputs, acted, rolled):
        torch.testing.assert_close(found, expected)
    for found, wanted in zip(state, expected_state, strict=True):
        assert (found is None and wanted is None) or torch.equal(found, wanted)
    for found, wanted in zip(gradients(layer, outputs), gradients(layer, expected), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("size", [30, 32])  # with padding inside, and without
@every_kind
@every_backend
def test_results_may_be_changed_in_place(backend, kind, size):
    layer, inputs = make(backend, kind, size), torch.randn(6, 2, 3)
    outputs, state = layer(inputs)
    expected = gradients(layer, *(None if result is None else 2 * result for result in (outputs, *state)))
    outputs, state = layer(inputs)
    changed = [None if result is None else result.mul_(2) for result in (outputs, *state)]
    assert all(result is None or result.view(-1).any() for result in changed)  # contiguous, too
    for found, wanted in zip(gradients(layer, *changed), expected, strict=True):
        torch.testing.assert_close(found, wanted)


@every_backend
def test_what_an_agent_changes_in_place_is_not_recorded(backend):
    layer, inputs = make(backend), torch.randn(6, 2, 5)
    rollout = PlasticRollout(layer.weight, layer.alpha, layer.eta, 2, backend=backend)
    for row in inputs:
        rollout.step(row).zero_()
    outputs, _ = rollout.outputs(inputs)
    torch.testing.assert_close(outputs, plastic_rnn(inputs, layer.weight, layer.alpha, layer.eta)[0])
    assert torch.autograd.grad(outputs.sum(), layer.weight)[0].any()


@pytest.mark.parametrize("again", [False, True])
@every_kind
@every_backend
def test_a_mask_that_is_filled_anew_before_the_backward_pass_is_noticed(backend, kind, again):
    layer, inputs, clamped = make(backend, kind), torch.randn(6, 2, 5).tanh(), torch.rand(6, 2, 5) < 0.5
    arguments = (inputs, layer.weight, layer.alpha, layer.eta, clamped)
    outputs, _ = plastic_rnn(*arguments, backend=layer.backend)
    expected = torch.autograd.grad(outputs.sum(), layer.weight)[0]
    outputs, _ = plastic_rnn(*arguments, backend=layer.backend)
    clamped.fill_(True)
    try:  # the gradient of what was computed, or an error
        found = torch.autograd.grad(outputs.sum(), layer.weight, create_graph=again)[0]
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
    else:
        torch.testing.assert_close(found, expected)


@every_kind
@every_backend
def test_functional_gradients(backend, kind):
    layer, inputs = make(backend, kind), torch.randn(4, 6, 2, 3)
    loss, parameters = loss_of(layer)
    expected = [dict(zip(parameters, gradients(layer, layer(each)[0]), strict=True)) for each in inputs]
    found = torch.func.grad(loss)(parameters, inputs[0])
    each = torch.vmap(torch.func.grad(loss), (None, 0))(parameters, inputs)
    for name in parameters:
        torch.testing.assert_close(found[name], expected[0][name])
        torch.testing.assert_close(each[name], torch.stack([gradient[name] for gradient in expected]))


@every_kind
@every_backend
def test_forward_mode(backend, kind):
    layer, inputs = make(backend, kind), torch.randn(6, 2, 3, requires_grad=True)
    direction = torch.randn_like(inputs)
    (gradient,) = torch.autograd.grad(layer(inputs)[0].sum(), inputs)
    _, found = torch.func.jvp(lambda inputs: layer(inputs)[0].sum(), (inputs,), (direction,))
    with forward_ad.dual_level():
        dual = layer(forward_ad.make_dual(inputs, direction))[0].sum()
        also_found = forward_ad.unpack_dual(dual).tangent
    torch.testing.assert_close(found, (gradient * direction).sum())
    torch.testing.assert_close(also_found, found)


@every_kind
@every_backend
def test_many_gradients_at_once(backend, kind):
    layer, inputs = make(backend, kind), torch.randn(4, 2, 5)
    parameters = layer.weight, layer.alpha, layer.eta

    def whole(inputs):
        return plastic_rnn(inputs, *parameters, backend=backend)[0][-1].sum(0)

    def rolled_out(inputs):
        rollout = PlasticRollout(*parameters, 2, backend=backend)
        for row in inputs:
            rollout.step(row)
        return rollout.outputs(inputs)[0][-1].sum(0)

    expected = torch.autograd.functional.jacobian(whole, inputs)
    for function in (whole, rolled_out):
        torch.testing.assert_close(torch.autograd.functional.jacobian(function, inputs, vectorize=True), expected)


def test_no_rollout_where_each_operation_is_looked_at():
    layer = make()
    with pytest.raises(ValueError, match=r"PlasticRollout: .* use plastic_rnn"):
        torch.vmap(lambda inputs: PlasticRollout(layer.weight, layer.alpha, layer.eta, 2).step(inputs))(
            torch.randn(3, 2, 5)
        )


class Outputs(torch.nn.Module):
    """A layer's outputs alone: torch.jit cannot return None, a state's trace where nothing is plastic."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, inputs):
        return self.layer(inputs)[0]


@pytest.mark.filterwarnings("ignore")  # of torch: that what is traced depends on shapes, and that it is deprecated
@pytest.mark.parametrize("kind", ["plastic", "nonplastic"])
def test_traced_and_exported_layers_compute(kind):
    layer, inputs, others = Outputs(make(kind=kind)), *torch.randn(2, 6, 2, 3)
    for taken_down in (torch.jit.trace(layer, inputs), torch.export.export(layer, (inputs,)).module()):
        torch.testing.assert_close(taken_down(others), layer(others))


def test_compiled_models():
    layer, inputs = make(), torch.randn(6, 2, 3)
    outputs, state = torch.compile(layer, backend="eager")(inputs)
    expected, expected_state = layer(inputs)
    torch.testing.assert_close((outputs, *state), (expected, *expected_state))
    for found, wanted in zip(gradients(layer, outputs), gradients(layer, expected), strict=True):
        torch.testing.assert_close(found, wanted)
    torch.compiler.reset()
    with pytest.raises(Exception, match='leave fullgraph=True out, or choose backend="naive"'):
        torch.compile(layer, backend="eager", fullgraph=True)(inputs)


@pytest.mark.parametrize("batch_first", [False, True])
@every_kind
def test_one_sequence_without_a_batch(kind, batch_first):
    layer, inputs = make(kind=kind, batch_first=batch_first), torch.randn(6, 3)
    batch = 0 if batch_first else 1
    expected, expected_state = layer(inputs.unsqueeze(batch))
    _, state = layer(inputs[:4])
    outputs, state = layer(inputs[4:], state)
    torch.testing.assert_close(outputs, expected.squeeze(batch)[4:])
    for found, wanted in zip(state, expected_state, strict=True):
        assert found is None or torch.allclose(found, wanted[0], atol=1e-5)
    with pytest.raises(ValueError, match=r"state\[0\]: expected shape \(1, 5\), got \(1, 1, 5\)"):
        layer(inputs, expected_state)


def test_padded_sequences():
    layer, inputs = make(), torch.randn(6, 2, 3)
    with pytest.raises(ValueError, match=r"a PackedSequence is not taken: .*pad_packed_sequence"):
        layer(pack_padded_sequence(inputs, [6, 4]))
    padded = inputs.clone()
    padded[4:, 1] = 0
    torch.testing.assert_close(layer(padded)[0][:4, 1], layer(inputs[:4, 1])[0])


@every_kind
@every_backend
def test_another_default_device(backend, kind):
    layer, inputs = make(backend, kind), torch.randn(6, 2, 3)
    clamped = torch.rand(6, 2, 5) < 0.5
    clamped[2] = True
    with torch.device("meta"):  # as torch.set_default_device("cuda") in a program that keeps this layer on the CPU
        outputs, _ = plastic_rnn(layer.input(inputs), layer.weight, layer.alpha, layer.eta, clamped, backend=backend)
        found = gradients(layer, outputs)
    assert all(gradient.device.type == "cpu" for gradient in found)


@every_kind
def test_shapes_without_numbers(kind):
    outputs, _ = make(kind=kind).to("meta")(torch.empty(6, 2, 3, device="meta"))
    assert outputs.shape == (6, 2, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": torch.zeros(2, 5)}, r"state: expected \(x, trace\), .* got a tensor \(2, 5\)"),
        ({"state": (None, None)}, r"state: expected \(x, trace\), .* got tuple"),
        ({"eta": 0.1}, "eta: expected a tensor, got float"),
        ({"alpha": 0.1}, "alpha: expected a tensor, got float"),
        ({"weight": [[0.0]]}, "weight: expected a tensor, got list"),
        ({"inputs": [[[0.0]]]}, "inputs: expected a tensor, got list"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_errors_say_what_was_given(change, message):
    arguments = {"inputs": torch.zeros(3, 2, 5), "weight": torch.zeros(5, 5), "alpha": torch.zeros(5, 5)}
    with pytest.raises(ValueError, match=message):
        plastic_rnn(**(arguments | {"eta": torch.tensor(0.1)} | change))


def test_errors_of_the_module_and_of_rollouts():
    layer = PlasticRNN(3, 5)
    with pytest.raises(ValueError, match="inputs: expected a tensor, got list"):
        layer([1.0, 2.0])
    with pytest.raises(ValueError, match=r"state: expected \(x, trace\)"):
        layer(torch.zeros(4, 3), torch.zeros(5))
    for batch in (0, -1, 2.5):
        with pytest.raises(ValueError, match="batch: expected a number of episodes"):
            PlasticRollout(layer.weight, layer.alpha, layer.eta, batch)


def test_training_has_torchs_threads_spin_less_and_the_layer_alone_does_not():
    cases = [
        ("stages.train", {}, "2000"), ("diffplast.parallel.__main__", {}, "2000"), ("benchmarks.episodes", {}, "2000"),
        ("stages.train", {"GOMP_SPINCOUNT": "7"}, "7"), ("diffplast.plasticity", {}, "None"),
    ]  # fmt: skip
    for module, said, wanted in cases:
        code = f"import sys, os; sys.modules['torch'] = None\ntry: import {module}\nexcept ImportError: pass\n"
        code += "print(os.environ.get('GOMP_SPINCOUNT'))"  # as it was when torch was asked for
        environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"} | said
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert run.stdout.strip() == wanted


def test_a_step_that_was_cut_off_is_not_continued(monkeypatch):
    layer = make()
    rollout = PlasticRollout(layer.weight, layer.alpha, layer.eta, 2)
    rollout.step(torch.randn(2, 5))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("diffplast.plasticity.fused.run_team", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        rollout.step(torch.randn(2, 5))
    with pytest.raises(RuntimeError, match="a step was cut off: start a new roll-out"):
        rollout.step(torch.randn(2, 5))
