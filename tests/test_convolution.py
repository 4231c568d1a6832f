"""Convolutions: against torch's, and the same bits with any number of threads and fewer instructions."""

import hashlib

import numpy as np
import pytest
import torch

from diffplast.core.exact.convolution import convolutions, naive
from tests.other_machines import printed_by


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(number, side, features):
    """Drawings, weights and biases."""
    rng = np.random.default_rng([number, side, features])
    layers = int(np.log2(side + 1)) - 1
    shapes = [(3, 3, features if layer else 1, features) for layer in range(layers)]
    weights = [0.2 * rng.standard_normal(shape) / (shape[2] / 4) ** 0.5 for shape in shapes]
    biases = [0.1 * rng.standard_normal(features) for _ in shapes]
    tensors = [torch.from_numpy(values.astype(np.float32)).requires_grad_() for values in weights + biases]
    return torch.from_numpy(rng.random((number, side, side), np.float32)), tensors[:layers], tensors[layers:]


@pytest.mark.parametrize("number, side, features", [(12, 31, 64), (7, 15, 8), (5, 7, 70), (1, 3, 1), (13, 7, 128)])
def test_convolutions_equal_those_of_torch(number, side, features):
    drawings, weights, biases = made(number, side, features)
    cotangent = torch.randn(number, features)
    ours = convolutions(drawings, weights, biases)
    wide = [[value.detach().double().requires_grad_() for value in values] for values in (weights, biases)]
    theirs = naive(drawings.double(), *wide)
    torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=5e-6)
    found = torch.autograd.grad(ours, weights + biases, cotangent)
    for mine, other in zip(found, torch.autograd.grad(theirs, wide[0] + wide[1], cotangent.double()), strict=True):
        torch.testing.assert_close(mine.double(), other, rtol=0, atol=1e-5 * float(other.abs().max()))


def test_a_drawing_has_the_same_features_whatever_is_beside_it():
    drawings, weights, biases = made(11, 31, 64)
    together = convolutions(drawings, weights, biases)
    assert torch.equal(together[7:9], convolutions(drawings[7:9], weights, biases))


def digest(threads=1):
    """Of features and gradients."""
    torch.set_num_threads(threads)
    drawings, weights, biases = made(25, 31, 64)
    features = convolutions(drawings, weights, biases)
    found = torch.autograd.grad(features.square().sum(), weights + biases)
    return hashlib.sha256(b"".join(part.detach().numpy().tobytes() for part in (features, *found))).hexdigest()


def test_bits_depend_on_neither_threads_nor_processor():
    digests = [digest(threads) for threads in (1, 2, 3, 4)]
    assert len(set(digests)) == 1
    assert printed_by("digest()", "from tests.test_convolution import digest") == digests[0]


def test_layers_that_leave_no_single_pixel_are_refused():
    drawings, weights, biases = made(2, 15, 8)
    with pytest.raises(ValueError, match="2 layers do not make one pixel"):
        convolutions(drawings, weights[:2], biases[:2])
