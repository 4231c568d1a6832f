"""The natural images task: the error of the blank half, and the number for the structure of a matrix."""

import numpy as np
import pytest

from diffplast.core import seeds
from diffplast.core.errors import UserError
from diffplast.tasks.images.experiment.task import structure


def test_blank_error_is_that_of_the_half_not_shown(make_task):
    task = make_task("images", "plastic")
    network = task.network(seeds.generator(0, "init"))
    episodes = task.episodes("test", np.random.default_rng(0), 6)
    step = task.step(network, episodes)
    target, cue = episodes.target.numpy(), episodes.cue.numpy()
    upper = [(cue[b, :8] == 0).all() for b in range(6)]
    expected = [(target[b, :8] if upper[b] else target[b, 8:]).astype(float) ** 2 for b in range(6)]
    np.testing.assert_allclose(step.metrics["blank_error"], [half.sum() for half in expected], rtol=1e-6)
    assert 0 < sum(upper) < 6


@pytest.mark.parametrize(
    "change, said",
    [
        ({"side": 6}, "side is 6, but the prepared images have 4 pixels a side"),
        ({"times": {"patterns": 50, "rounds": 1, "shown": 1, "gap": 0, "test": 1}}, "there are only 3"),
    ],
    ids=["side", "patterns"],
)
def test_an_experiment_that_the_data_do_not_allow_is_refused_before_training(make_task, change, said):
    task = make_task("images", "plastic")
    experiment = type(task.experiment).model_validate(task.experiment.model_dump() | {"side": 4} | change)
    images = {"train": np.zeros((5, 16), np.float32), "test": np.zeros((3, 16), np.float32)}
    with pytest.raises(UserError, match=said):
        type(task)(experiment, task.settings, "plastic", task.device, images)


def by_pairs(matrix, side):
    """Moran's I as `structure` describes it, pair by pair."""
    pixels = side * side
    matrix = matrix.astype(np.float64)
    entries = [matrix[i, j] for i in range(pixels) for j in range(pixels) if i != j]
    mean, spread = np.mean(entries), np.var(entries)
    products = []
    for j in range(pixels):
        for k in range(pixels):
            if abs(j // side - k // side) + abs(j % side - k % side) != 1:
                continue
            for i in set(range(pixels)) - {j, k}:
                products.append((matrix[i, j] - mean) * (matrix[i, k] - mean))
                products.append((matrix[j, i] - mean) * (matrix[k, i] - mean))
    return np.mean(products) / spread


@pytest.mark.parametrize("side", [3, 6])
def test_structure_is_the_mean_over_pairs(side):
    matrix = np.random.default_rng(side).standard_normal((side**2, side**2)).astype(np.float32) + 3
    value, mean, deviation = structure(matrix, side, np.random.default_rng(0), shuffles=200)
    assert abs(value - by_pairs(matrix, side)) < 1e-9
    shuffled = np.random.default_rng(0)
    values = []
    for _ in range(200):
        order = shuffled.permutation(side**2)
        values.append(by_pairs(matrix[order][:, order], side) if side == 3 else np.nan)
    if side == 3:
        np.testing.assert_allclose([mean, deviation], [np.mean(values), np.std(values, ddof=1)], rtol=1e-9)


def test_structure_is_found_where_it_is_and_not_elsewhere():
    side, rng = 8, np.random.default_rng(1)
    rows, columns = np.divmod(np.arange(side * side), side)
    distance = np.hypot(rows[:, None] - rows, columns[:, None] - columns)
    noise = rng.standard_normal((side**2, side**2))
    levels = 3 * rng.standard_normal(side**2)  # what a pixel sends as a whole, without regard to its place
    for matrix, found in (
        (np.exp(-distance) + 0.1 * noise, True),
        (noise, False),
        (noise + levels[:, None], False),
    ):
        value, mean, deviation = structure(matrix.astype(np.float32), side, np.random.default_rng(0))
        assert (value > mean + 5 * deviation) == found


def test_examples_hold_the_structure_of_both_matrices(make_task):
    for arm, names in (("plastic", {"weight", "alpha"}), ("homogeneous", {"weight"}), ("nonplastic", {"weight"})):
        task = make_task("images", arm)
        network = task.network(seeds.generator(0, "init"))
        shown = task.examples(network, network, seeds.generator(0, "examples"))
        assert {name.removesuffix("_structure") for name in shown if name.endswith("_structure")} == names
        assert all(shown[f"{name}_structure"].shape == (3,) for name in names)
