"""GlaS metrics: hand-made cases of known value, and a slow second implementation."""

import math
import time

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from napari_pathsam.core import hausdorff as hausdorff_module
from napari_pathsam.core.errors import BadImageError
from napari_pathsam.core.object_metrics import (
    ObjectCounts,
    count_objects,
    in_microns,
    mean_over_images,
    object_dice,
    object_f1,
    object_hausdorff,
    rank_sums,
)


def figures(target, pred):
    counts = count_objects(target, pred)
    return object_f1(counts), object_dice(counts), object_hausdorff(counts)


def squares(*boxes, shape=(40, 60), dtype=np.uint8):
    """Objects 1, 2, … from half-open boxes (y0, x0, y1, x1)."""
    labels = np.zeros(shape, dtype)
    for i, (y0, x0, y1, x1) in enumerate(boxes, start=1):
        labels[y0:y1, x0:x1] = i
    return labels


NOTHING = squares()
TWO = squares((5, 5, 15, 15), (20, 30, 30, 50))


# --- the same, slowly: straight from the definitions ----------------------------------------------


def slow(pairs):
    """(F1, object Dice, object Hausdorff) of all images together, pixel set by pixel set."""
    hits = n_target = n_pred = 0
    sums = {"dice": [0.0, 0.0], "distance": [0.0, 0.0]}
    areas = [0, 0]
    for target, pred in pairs:
        sides = [
            {i: set(zip(*np.nonzero(m == i), strict=True)) for i in np.unique(m) if i != 0}
            for m in (target, pred)
        ]
        n_target, n_pred = n_target + len(sides[0]), n_pred + len(sides[1])
        for one in sides[1].values():
            partner = max(sides[0].values(), key=lambda other, one=one: len(one & other), default=0)
            hits += bool(partner and len(one & partner) / len(partner) > 0.5)
        for k in (0, 1):
            mine, others = sides[k].values(), sides[1 - k].values()
            for one in mine:
                areas[k] += len(one)
                partner = max(others, key=lambda other, one=one: len(one & other), default=None)
                if partner is None:
                    sums["distance"][k] = math.inf
                elif one & partner:
                    sums["dice"][k] += len(one) * 2 * len(one & partner) / (len(one) + len(partner))
                    sums["distance"][k] += len(one) * hausdorff(one, partner)
                else:
                    sums["distance"][k] += len(one) * min(hausdorff(one, o) for o in others)
    means = {name: [s / a for s, a in zip(two, areas, strict=True) if a] or [0.0]
             for name, two in sums.items()}  # fmt: skip
    dice = 1.0 if not any(areas) else sum(means["dice"]) / len(means["dice"])
    distance = sum(means["distance"]) / len(means["distance"])
    f1 = 2 * hits / (n_target + n_pred) if n_target + n_pred else 1.0
    return f1, dice, distance


def hausdorff(a, b):
    apart = cdist(np.array(sorted(a)), np.array(sorted(b)))
    return max(apart.min(axis=0).max(), apart.min(axis=1).max())


def blobs(rng, shape=(28, 34), share=0.35):
    """Objects of many sizes: components of smooth noise, some broken, some joined, ids shuffled."""
    smooth = ndimage.gaussian_filter(rng.random(shape), rng.uniform(0.8, 2.5))
    labels, n = ndimage.label(smooth > np.quantile(smooth, 1 - share))
    return np.concatenate([[0], rng.permutation(n) + 1 if n else []]).astype(int)[labels]


@pytest.mark.parametrize("roomy", [64, 0])  # distance transforms, and trees of outlines
@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_the_slow_one(seed, roomy, monkeypatch):
    monkeypatch.setattr(hausdorff_module, "ROOMY", roomy)
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(3):
        target = blobs(rng)
        moved = np.roll(target, rng.integers(-4, 5, 2), (0, 1))
        pairs.append((target, np.where(rng.random() < 0.5, moved, blobs(rng))))
    for target, pred in pairs:
        assert figures(target, pred) == pytest.approx(slow([(target, pred)]))
    pooled = sum((count_objects(*p) for p in pairs), ObjectCounts())
    got = object_f1(pooled), object_dice(pooled), object_hausdorff(pooled)
    assert got == pytest.approx(slow(pairs))


# --- hand-made -----------------------------------------------------------------------------------


def test_perfect():
    assert figures(TWO, TWO) == (1, 1, 0)
    renamed = np.where(TWO > 0, 7 - TWO, 0)
    assert figures(TWO, renamed) == (1, 1, 0)


def test_nothing_where_nothing_is():
    assert figures(NOTHING, NOTHING) == (1, 1, 0)


@pytest.mark.parametrize("pair", [(TWO, NOTHING), (NOTHING, TWO)])
def test_one_side_empty(pair):
    assert figures(*pair) == (0, 0, math.inf)
    counts = count_objects(*pair)
    assert counts.n_lone == 2
    assert object_hausdorff(counts, lone="diagonal") == pytest.approx(math.hypot(40, 60))


def test_missed_object():
    f1, dice, distance = figures(TWO, squares((5, 5, 15, 15)))
    assert f1 == pytest.approx(2 / 3)
    # Found: 100 px at Dice 1; missed: 200 px at Dice 0. The other side has the found one only.
    assert dice == pytest.approx((100 / 300 + 1) / 2)
    # From the missed one's corner (29, 49) to the found one's (14, 14).
    missed = math.hypot(29 - 14, 49 - 14)
    assert distance == pytest.approx(missed * 200 / 300 / 2)


def test_spurious_object_costs_what_a_missed_one_costs():
    one = squares((5, 5, 15, 15))
    assert figures(one, TWO) == pytest.approx(figures(TWO, one))


def test_an_object_in_two_pieces():
    whole, split = squares((0, 0, 10, 30)), squares((0, 0, 10, 18), (0, 18, 10, 30))
    f1, dice, distance = figures(whole, split)
    assert f1 == pytest.approx(2 / 3)  # 60 % are covered by the one, 40 % by the other
    large, small = 2 * 180 / 480, 2 * 120 / 420
    assert dice == pytest.approx((large + (180 * large + 120 * small) / 300) / 2)
    assert distance == pytest.approx((12 + (180 * 12 + 120 * 18) / 300) / 2)


def test_two_objects_joined():
    apart, joined = squares((0, 0, 10, 18), (0, 18, 10, 30)), squares((0, 0, 10, 30))
    f1, dice, distance = figures(apart, joined)
    assert f1 == pytest.approx(2 / 3)  # the larger is found, the smaller missed
    assert (dice, distance) == pytest.approx(figures(joined, apart)[1:])


@pytest.mark.parametrize(("columns", "right"), [(10, False), (11, True)])
def test_half_of_an_object_is_not_enough(columns, right):
    target, pred = squares((0, 0, 10, 20)), squares((0, 0, 10, columns))
    assert object_f1(count_objects(target, pred)) == float(right)


def test_coverage_of_the_target_counts_not_iou():
    target, pred = squares((10, 10, 20, 20)), squares((0, 0, 40, 60))
    assert object_f1(count_objects(target, pred)) == 1


def test_equal_overlaps_go_to_the_smaller_id():
    # The prediction touches 50 px of both; the first is small enough to be covered by that.
    target, pred = squares((0, 0, 10, 8), (0, 20, 10, 40)), np.zeros((40, 60), int)
    pred[0:10, 3:8] = pred[0:10, 20:25] = 1
    assert object_f1(count_objects(target, pred)) == pytest.approx(2 / 3)
    other = np.where(target > 0, 3 - target, 0)
    assert object_f1(count_objects(other, pred)) == 0


def test_more_than_255_objects():
    ids = np.arange(1, 401).reshape(20, 20)
    labels = np.kron(ids, np.ones((3, 3), int))
    counts = count_objects(labels, labels)
    assert (counts.n_target, counts.n_hit) == (400, 400)
    assert (object_f1(counts), object_dice(counts), object_hausdorff(counts)) == (1, 1, 0)
    large = np.where(labels > 0, labels + 70_000, 0)
    assert count_objects(labels, large) == counts


def test_ids_are_taken_as_they_are():
    pieces = np.zeros((40, 60), int)
    pieces[0:5, 0:5] = pieces[30:35, 50:55] = 9
    assert count_objects(pieces, pieces).n_target == 1
    assert count_objects(pieces, ndimage.label(pieces)[0]).n_pred == 2


def test_distances_are_between_filled_objects():
    ring = squares((0, 0, 21, 21))
    ring[1:20, 1:20] = 0
    # Every pixel of the ring is in the disc; the disc's middle is 10 px from the ring.
    assert figures(squares((0, 0, 21, 21)), ring)[2] == 10


def test_pooling_weighs_objects_and_the_mean_weighs_images():
    small, large = squares((0, 0, 2, 2)), squares((0, 0, 40, 60))
    right, wrong = count_objects(large, large), count_objects(small, squares((30, 30, 32, 32)))
    both = right + wrong
    assert object_dice(both) == pytest.approx(2400 / 2404)
    assert mean_over_images([right, wrong], object_dice) == 0.5
    assert math.isnan(mean_over_images([], object_dice))


def test_one_image_without_an_answer_is_counted_not_hidden():
    counts = count_objects(TWO, TWO) + count_objects(TWO, NOTHING)
    assert object_hausdorff(counts) == math.inf
    diagonal = math.hypot(40, 60)
    assert object_hausdorff(counts, lone="diagonal") == pytest.approx(diagonal / 2 / 2)
    assert object_f1(counts) == pytest.approx(2 * 2 / 6)


def test_sizes_must_agree():
    with pytest.raises(BadImageError, match="one size"):
        count_objects(TWO, TWO[:20])


def test_microns():
    counts = count_objects(TWO, squares((5, 5, 15, 15)))
    um = in_microns(counts, 0.5)
    assert object_hausdorff(um) == pytest.approx(0.5 * object_hausdorff(counts))
    assert (object_f1(um), object_dice(um)) == (object_f1(counts), object_dice(counts))
    # Twice as fine, the same tissue: half as much in pixels, and the same in µm.
    fine = [np.kron(m, np.ones((2, 2), int)) for m in (TWO, squares((5, 5, 15, 15)))]
    both = um + in_microns(count_objects(*fine), 0.25)
    assert object_hausdorff(both) == pytest.approx(object_hausdorff(um), rel=0.02)


def discs(rng, n, side, radius):
    ids = np.zeros((side, side), np.int32)
    rows, cols = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disc = rows**2 + cols**2 <= radius**2
    for i, (y, x) in enumerate(rng.integers(radius, side - radius, (n, 2)), start=1):
        ids[y - radius : y + radius + 1, x - radius : x + radius + 1][disc] = i
    return ids


@pytest.mark.parametrize("case", ["moved", "elsewhere", "one clump"])
@pytest.mark.slow
def test_a_thousand_objects_take_seconds_not_minutes(case, rng):
    target, other = (discs(rng, 1000, 1500, 12) for _ in range(2))
    pred = {"moved": np.roll(target, 3, (0, 1)), "elsewhere": other,
            "one clump": (other > 0).astype(int)}[case]  # fmt: skip
    started = time.process_time()
    assert count_objects(target, pred).n_target > 990
    assert time.process_time() - started < 15  # 1 to 4; a distance map for each takes minutes


# Table of the challenge's ranks, from its published figures (part A and part B).
CHALLENGE = {
    "CUMedVision2": (0.912, 0.716, 0.897, 0.781, 45.418, 160.347),
    "ExB1": (0.891, 0.703, 0.882, 0.786, 57.413, 145.575),
    "ExB3": (0.896, 0.719, 0.886, 0.765, 57.350, 159.873),
    "LIB": (0.777, 0.306, 0.781, 0.617, 112.706, 190.447),
}


def test_rank_sums():
    larger = (True, True, True, True, False, False)
    assert rank_sums(CHALLENGE, larger_is_better=larger) == {
        "CUMedVision2": 1 + 2 + 1 + 2 + 1 + 3,
        "ExB1": 3 + 3 + 3 + 1 + 3 + 1,
        "ExB3": 2 + 1 + 2 + 3 + 2 + 2,
        "LIB": 24,
    }
    tied = {"a": [0.9], "b": [0.9], "c": [0.8]}
    assert rank_sums(tied, larger_is_better=[True]) == {"a": 1, "b": 1, "c": 3}
    with pytest.raises(ValueError, match="no rank"):
        rank_sums({"a": [float("nan")]}, larger_is_better=[True])
