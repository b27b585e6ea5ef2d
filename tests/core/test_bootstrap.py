"""Bootstrap over patients: against scipy, and where the answer is known."""

import numpy as np
import pytest
from scipy import stats

from napari_pathsam.core.bootstrap import Resampling


def mean(counts):
    return counts[0] / counts[1] if counts[1] else float("nan")


def rows_of(values):
    return np.stack([values, np.ones(len(values))], axis=1)


def test_agrees_with_scipy_for_the_mean(rng):
    values = rng.normal(3, 1, 60)
    names = [str(i) for i in range(60)]
    got = Resampling.over(names, n=4000).interval(rows_of(values), names, mean)
    want = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1)
    assert got.value == pytest.approx(values.mean())
    assert got.low == pytest.approx(want.confidence_interval.low, abs=0.02)
    assert got.high == pytest.approx(want.confidence_interval.high, abs=0.02)


def test_a_patients_images_are_drawn_together(rng):
    """Ten copies of each patient's image say no more than one."""
    values = rng.normal(0, 1, 30)
    names = [f"p{i}" for i in range(30)]
    once = Resampling.over(names).interval(rows_of(values), names, mean)
    many = Resampling.over(names * 10).interval(rows_of(np.tile(values, 10)), names * 10, mean)
    assert (many.low, many.high) == pytest.approx((once.low, once.high))
    images = [f"image {i}" for i in range(300)]
    alone = Resampling.over(images).interval(rows_of(np.tile(values, 10)), images, mean)
    assert alone.high - alone.low < 0.5 * (many.high - many.low)


def test_the_same_twice_and_whatever_the_order(rng):
    values, names = rng.random(20), [f"p{i}" for i in range(20)]
    order = rng.permutation(20)
    one = Resampling.over(names, seed=7).interval(rows_of(values), names, mean)
    shuffled = [names[i] for i in order]
    two = Resampling.over(shuffled, seed=7).interval(rows_of(values[order]), shuffled, mean)
    assert (one.low, one.high) == pytest.approx((two.low, two.high))
    other = Resampling.over(names, seed=8).interval(rows_of(values), names, mean)
    assert (one.low, one.high) != (other.low, other.high)


def test_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    names = [str(i) for i in range(40)]
    resampling = Resampling.over(names, n=400, level=0.9)
    hits = 0
    for _ in range(200):
        found = resampling.interval(rows_of(rng.normal(0, 1, 40)), names, mean)
        hits += found.low <= 0 <= found.high
    assert 0.82 < hits / 200 < 0.95


def test_paired_is_narrower_than_apart(rng):
    """A model that is a little better on each patient is better, however much patients differ."""
    hard = rng.normal(0, 5, 40)
    names = [str(i) for i in range(40)]
    a, b = rows_of(hard), rows_of(hard + rng.normal(0.3, 0.2, 40))
    resampling = Resampling.over(names)
    apart = resampling.difference(a, b, names, mean)
    assert apart.low > 0
    assert apart.share_above == 1
    assert apart.value == pytest.approx(mean(b.sum(0)) - mean(a.sum(0)))
    alone = resampling.interval(a, names, mean)
    assert alone.high - alone.low > 5 * (apart.high - apart.low)
    same = resampling.difference(a, a, names, mean)
    assert (same.value, same.low, same.high, same.share_above) == (0, 0, 0, 0)


def test_one_patient_has_no_interval():
    rows = rows_of(np.array([1.0, 2.0]))
    found = Resampling.over(["p", "p"]).interval(rows, ["p", "p"], mean)
    assert found.value == 1.5
    assert np.isnan([found.low, found.high]).all()
    apart = Resampling.over(["p", "p"]).difference(rows, rows, ["p", "p"], mean)
    assert np.isnan([apart.low, apart.high, apart.share_above]).all()


def test_undefined_and_unbounded_figures():
    names = ["a", "b", "c"]
    rows = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    found = Resampling.over(names, n=500).interval(rows, names, mean)
    assert found.n_undefined > 50  # without the one patient that has the class
    assert (found.low, found.high) == (1, 1)
    infinite = Resampling.over(names, n=500).interval(
        rows, names, lambda c: float("inf") if c[0] else 1.0
    )
    assert (infinite.low, infinite.high) == (1, float("inf"))


def test_refuses_nothing_at_all():
    with pytest.raises(ValueError, match="0 groups"):
        Resampling.over([])
