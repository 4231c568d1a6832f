"""Matrix products: against exact sums, and the same bits with any number of threads and fewer instructions."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffplast.plasticity.products import product
from tests.other_machines import printed_by

SHAPES = [
    (1, 1, 1), (1, 33, 16), (3, 7, 5), (1, 100, 259), (16, 75, 131), (5, 18, 64), (2, 16, 15), (17, 130, 65),
    (100, 9, 64), (6, 300, 64), (23, 257, 150), (40, 1, 90), (16, 1000, 1001), (64, 600, 70),
]  # fmt: skip


def drawn(shape, dtype, turned, seed=0):
    values = np.random.default_rng([seed, *shape]).standard_normal(shape[::-1] if turned else shape).astype(dtype)
    return values.T if turned else values


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_product_is_the_exact_sum_to_rounding(shape, dtype):
    rows, depth, n = shape
    for turned in range(4):
        a, b = drawn((rows, depth), dtype, turned & 1), drawn((depth, n), dtype, turned & 2, seed=1)
        exact, sizes = (x.astype(np.longdouble) @ y.astype(np.longdouble) for x, y in ((a, b), (abs(a), abs(b))))
        bound = (depth + 2) * np.finfo(dtype).eps * sizes
        out = np.full((rows, n), np.nan, dtype)
        assert product(a, b, out) is out
        assert (abs(out - exact) <= bound).all()
        start = drawn((rows, n), dtype, False, seed=2)
        added = product(a, b, start.copy(), add=True)
        assert (abs(added - (start + exact)) <= bound + (depth + 2) * np.finfo(dtype).eps * abs(start)).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(0, 150), st.integers(1, 150), st.integers(0, 3))
def test_product_of_any_shape(rows, depth, n, turned):
    a, b = drawn((rows, depth), "float64", turned & 1), drawn((depth, n), "float64", turned & 2)
    np.testing.assert_allclose(product(a, b), a @ b, rtol=1e-11, atol=1e-11)


def test_product_passes_on_what_is_not_finite():
    a, b = np.ones((2, 40), np.float32), np.ones((40, 40), np.float32)
    b[39, 39], b[0, 0] = np.inf, np.nan
    for other in (b, np.ascontiguousarray(b.T).T):
        out = product(a, other)
        assert np.isnan(out[:, 0]).all() and np.isinf(out[:, 39]).all() and (out[:, 1:39] == 40).all()


def test_product_refuses_what_does_not_fit():
    a = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="shapes"):
        product(a, a)
    with pytest.raises(ValueError, match="float64"):
        product(a, np.ones((3, 2)))
    with pytest.raises(ValueError, match="float"):
        product(a.astype(int), np.ones((3, 2), int))
    with pytest.raises(ValueError, match="contiguous"):
        product(a, a.T, np.ones((2, 4), np.float32)[:, ::2])
    with pytest.raises(ValueError, match="out is missing"):
        product(a, a.T, add=True)


def digest():
    """Of the products of every shape, in every layout and dtype."""
    found = hashlib.sha256()
    for rows, depth, n in [*SHAPES, (1, 1100, 1100), (12, 1100, 500), (700, 300, 64)]:
        for dtype in ("float32", "float64"):
            for turned in range(4):
                a, b = drawn((rows, depth), dtype, turned & 1), drawn((depth, n), dtype, turned & 2)
                found.update(product(a, b).tobytes())
    return found.hexdigest()


def test_bits_depend_on_neither_threads_nor_processor():
    digests = []
    for threads in (1, 2, 3, 4):
        torch.set_num_threads(threads)
        digests.append(digest())
    assert len(set(digests)) == 1
    assert printed_by("digest()", "from tests.test_products import digest") == digests[0]
