"""Exact arithmetic of runs: what it computes, and the same bits with any number of threads and fewer instructions."""

import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from diffplast.core.exact import Adam, adam, fixed_mean, fixed_sum, gradient_norm, normal, uniform
from tests.other_machines import printed_by

SIZES = (), (7,), (300, 1001)


def parameters(dtype=torch.float32):
    """Of SIZES, with gradients."""
    rng = np.random.default_rng(0)
    made = [nn.Parameter(torch.from_numpy(np.asarray(rng.standard_normal(size))).to(dtype)) for size in SIZES]
    for parameter, size in zip(made, SIZES, strict=True):
        parameter.grad = torch.from_numpy(np.asarray(rng.standard_normal(size))).to(dtype)
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_adam_is_torchs(dtype):
    ours, theirs = parameters(dtype), parameters(dtype)
    options = {"lr": 3e-3, "betas": (0.8, 0.99), "eps": 1e-4}
    optimizer, reference = Adam(ours, **options), torch.optim.Adam(theirs, foreach=False, **options)
    for update in range(20):
        for group in (*optimizer.param_groups, *reference.param_groups):
            group["lr"] = 3e-3 / (1 + update)
        for a, b in zip(ours, theirs, strict=True):
            a.grad = b.detach() * update - 1
            b.grad = a.grad.clone()
        optimizer.step()
        reference.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5 if dtype == torch.float32 else 1e-13, atol=1e-6 * options["lr"])


def test_adam_goes_on_from_its_state():
    whole, parts = parameters(), parameters()
    optimizer = Adam(whole, lr=1e-2)
    for _ in range(4):
        optimizer.step()
    first = Adam(parts, lr=1e-2)
    for _ in range(2):
        first.step()
    second = Adam(parts, lr=1.0)
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        second.step()
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_adam_leaves_alone_what_has_no_gradient_and_refuses_bad_numbers():
    one, other = (nn.Parameter(torch.ones(3)) for _ in range(2))
    one.grad = torch.ones(3)
    adam([one, other], lr=0.1).step()
    assert (one != 1).all() and (other == 1).all()
    with pytest.raises(ValueError, match="lr"):
        Adam([one], lr=-1.0)
    with pytest.raises(ValueError, match="betas"):
        Adam([one], betas=(0.9, 1.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gradient_norm_is_the_norm(dtype):
    made = parameters(dtype)
    made.append(nn.Parameter(torch.ones(3)))  # without a gradient
    exact = sum((p.grad.double() ** 2).sum() for p in made[:-1]).sqrt()
    torch.testing.assert_close(gradient_norm(made).double(), exact, rtol=1e-6, atol=0)
    made[0].grad.fill_(torch.nan)
    assert gradient_norm(made).isnan()
    assert gradient_norm([made[-1]]) == 0


@pytest.mark.parametrize("length", [0, 1, 2, 7, 1001])
def test_fixed_sums(length):
    values = torch.from_numpy(np.random.default_rng(1).standard_normal((3, length, 2))).requires_grad_()
    torch.testing.assert_close(fixed_sum(values, 1), values.sum(1))
    torch.testing.assert_close(fixed_mean(values, 1), values.mean(1), equal_nan=True)
    weights = torch.tensor([[1.0, 2.0]], dtype=torch.double)
    (gradient,) = torch.autograd.grad((fixed_sum(values, 1) * weights).sum(), values)
    assert torch.equal(gradient, weights.expand_as(values))


def test_draws_come_from_the_generator_alone():
    for draw in (normal, uniform):
        before = torch.get_rng_state()
        first, second = (draw(np.random.default_rng(5)) for _ in range(2))
        a, b = first(200, 100), second(200, 100)
        assert a.dtype == torch.float32 and torch.equal(a, b) and not torch.equal(a, first(200, 100))
        assert first().shape == ()
        assert torch.equal(before, torch.get_rng_state())
    assert abs(a.mean() - 0.5) < 0.01 and a.min() >= 0 and a.max() < 1
    a = normal(np.random.default_rng(5))(200, 100)
    assert abs(a.mean()) < 0.03 and abs(a.std() - 1) < 0.03


def digest():
    """Of all of them."""
    made = parameters()
    found = hashlib.sha256(gradient_norm(made).numpy().tobytes())
    optimizer = Adam(made, lr=1e-2)
    for _ in range(3):
        optimizer.step()
    values = [*made, fixed_sum(made[2], 0), fixed_mean(made[2], 1)]
    values += [draw(np.random.default_rng(1))(1000) for draw in (normal, uniform)]
    for value in values:
        found.update(value.detach().numpy().tobytes())
    return found.hexdigest()


def test_bits_depend_on_neither_threads_nor_processor():
    before, digests = torch.get_num_threads(), []
    for threads in (1, 2, 3, 4):
        torch.set_num_threads(threads)
        digests.append(digest())
    torch.set_num_threads(before)
    assert len(set(digests)) == 1
    assert printed_by("digest()", "from tests.test_exact import digest") == digests[0]
