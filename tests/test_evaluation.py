"""Thinned curves: what is kept beside the results."""

import pandas as pd

from stages.evaluate import thin


def curve(points: int) -> pd.DataFrame:
    """A curve of two metrics with `points` points each."""
    rows = [
        ("maze", "plastic", 0, 10 * (i + 1), name, float(i)) for i in range(points) for name in ("reward", "loss")
    ]
    return pd.DataFrame(rows, columns=["task", "arm", "seed", "episode", "metric", "value"])


def test_short_curves_stay_as_they_are():
    thinned = thin(curve(7))
    assert thinned.groupby("metric").size().to_dict() == {"reward": 7, "loss": 7}
    assert thinned["value"].tolist() == [*range(7), *range(7)]


def test_long_curves_keep_their_first_windows_then_means_and_the_last_episode():
    thinned = thin(curve(1000), points=100)
    reward = thinned[thinned["metric"] == "reward"]
    assert len(reward) == 100
    assert reward["value"].tolist()[:5] == [0, 1, 2, 3, 4] and reward["episode"].tolist()[:5] == [10, 20, 30, 40, 50]
    assert reward["episode"].iloc[-1] == 10000
    windows = reward["episode"].diff().fillna(10) / 10  # of each row
    assert (reward["value"] * windows).sum() / 1000 == 499.5


def test_a_run_that_failed_at_once_has_an_empty_curve():
    assert thin(curve(0)).empty
