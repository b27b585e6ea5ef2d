"""Painted labels: strokes told apart, held out whole, and simulated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_pathsam.core.strokes import class_strokes, held_out, scribbles, separate_regions


@pytest.fixture
def class_map() -> np.ndarray:
    """A class (1) of three discs on ground (2), and a margin (0)."""
    yy, xx = np.mgrid[:240, :320]
    found = np.full((240, 320), 2, np.uint8)
    for y, x in ((70, 80), (160, 100), (120, 240)):
        found[(yy - y) ** 2 + (xx - x) ** 2 < 40**2] = 1
    found[:10] = 0
    return found


def test_regions_of_each_class_are_counted() -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[5:10, 5:30] = 1
    labels[40:45, 5:30] = 1
    labels[20:25, 50:70] = 3
    other = np.zeros((60, 80), np.uint8)
    other[0:2, 0:2] = 3
    rows = class_strokes([labels, other], [1, 2, 3])
    assert [(r.n_px, r.n_regions, r.n_images, r.too_few) for r in rows] == [
        (250, 2, 1, False),
        (0, 0, 0, True),
        (104, 2, 2, False),
    ]


def test_a_stroke_that_another_one_crosses_stays_one_region() -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[28:33, 5:75] = 1
    labels[5:55, 32:52] = 2  # painted over it
    areas = separate_regions(labels)
    assert areas.class_id == (1, 2)
    apart = labels.copy()
    apart[:, 32:52] = 0  # the same gap with nothing painted in it
    assert separate_regions(apart).class_id == (1, 1)


def test_a_stroke_that_is_rubbed_through_stays_one_region() -> None:
    labels = np.zeros((80, 200), np.uint8)
    labels[10:17, 10:180] = 1
    labels[10:17, 90:97] = 0  # an eraser as wide as the brush
    labels[60:67, 10:180] = 1
    assert separate_regions(labels).class_id == (1, 1)
    labels[10:17, 85:105] = 0
    assert separate_regions(labels).class_id == (1, 1, 1)
    nuclei = np.zeros((40, 40), np.uint8)
    nuclei[5:35, 5:35] = np.kron(np.ones((3, 3)), np.pad(np.ones((6, 6)), 2)) > 0
    assert len(separate_regions(nuclei).class_id) == 9  # or nothing of them could be held out
    apart = np.pad(nuclei, ((0, 0), (0, 80)))
    apart[:, 80:120] = nuclei
    assert len(separate_regions(apart).class_id) == 2


def test_what_was_learned_from_is_not_held_out(class_map: np.ndarray) -> None:
    first = scribbles(class_map, share=0.03, seed=0)
    (held,) = held_out([separate_regions(first)])
    more = scribbles(class_map, share=0.01, seed=9)
    both = np.where(first == 0, more, first)
    found = separate_regions(both)
    seen = (first > 0) & ~held
    for seed in range(6):
        (blind,) = held_out([found], seed=seed)
        (mask,) = held_out([found], seed=seed, seen=[seen], before=[held])
        assert not (mask & seen).any()
        touched = np.unique(found.areas[held])
        old = np.isin(found.areas, [n for n in touched if not seen[found.areas == n].any()])
        assert (mask & old).any()
        assert blind.any()
    assert any((held_out([found], seed=s)[0] & seen).any() for s in range(6))
    areas = [separate_regions(scribbles(class_map, seed=s)) for s in range(4)]
    none = np.zeros(class_map.shape, bool)
    for seed in range(6):
        masks = held_out(areas, by="image", share=0.25, seed=seed, seen=[~none, none, none, none],
                         before=[none, none, ~none, none])  # fmt: skip
        assert [bool(mask.any()) for mask in masks] == [False, False, True, False]


def test_no_stroke_is_on_both_sides(class_map: np.ndarray) -> None:
    painted = [scribbles(class_map, seed=seed) for seed in range(4)]
    areas = [separate_regions(labels) for labels in painted]
    held = held_out(areas, share=0.3, seed=1)
    shares = []
    for found, mask, labels in zip(areas, held, painted, strict=True):
        for number in range(1, len(found.class_id) + 1):
            assert len(np.unique(mask[found.areas == number])) == 1
        assert not mask[labels == 0].any()
    for class_id in (1, 2):
        n_held = sum(int((m & (p == class_id)).sum()) for m, p in zip(held, painted, strict=True))
        shares.append(n_held / sum(int((p == class_id).sum()) for p in painted))
    assert all(0.15 < share < 0.45 for share in shares)
    again = held_out(areas, share=0.3, seed=1)
    assert all((a == b).all() for a, b in zip(held, again, strict=True))
    other = held_out(areas, share=0.3, seed=2)
    assert any((a != b).any() for a, b in zip(held, other, strict=True))


def test_a_class_with_one_region_keeps_it() -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[5:10, 5:30] = 1
    labels[40:45, 5:30] = 1
    labels[20:25, 50:70] = 2
    (held,) = held_out([separate_regions(labels)])
    assert not held[labels == 2].any()
    assert 0 < held[labels == 1].sum() < (labels == 1).sum()


def test_held_images_leave_every_class_in_training(class_map: np.ndarray) -> None:
    painted = [scribbles(class_map, seed=seed) for seed in range(4)]
    painted[0][painted[0] == 0] = 0
    painted[0][100:104, 100:130] = 3  # only here
    areas = [separate_regions(labels) for labels in painted]
    for seed in range(8):
        held = held_out(areas, by="image", share=0.25, seed=seed)
        whole = [bool(mask.any()) for mask in held]
        assert sum(whole) == 1
        assert not whole[0]
    slides = ["a", "b", "a", "b"]  # parts of two, each with both classes
    painted[0][painted[0] == 3] = 0
    areas = [separate_regions(labels) for labels in painted]
    for seed in range(8):
        held = held_out(areas, by="image", share=0.25, seed=seed, groups=slides)
        whole = [bool(mask.any()) for mask in held]
        assert whole in ([True, False] * 2, [False, True] * 2)


def test_scribbles_stay_in_their_class_and_cover_what_was_asked(class_map: np.ndarray) -> None:
    painted = scribbles(class_map, share=0.02, seed=3)
    assert (painted == scribbles(class_map, share=0.02, seed=3)).all()
    assert (painted != scribbles(class_map, share=0.02, seed=4)).any()
    inside = painted > 0
    assert (painted[inside] == class_map[inside]).all()
    assert 0.02 <= inside.mean() < 0.03
    each = [(painted == c).mean() for c in (1, 2)]
    assert all(0.009 < share < 0.015 for share in each)
    # Strokes, not dots: longer than they are wide.
    sizes = [np.hypot(*(s.stop - s.start for s in box))
             for box in ndimage.find_objects(separate_regions(painted).areas)]  # fmt: skip
    assert max(sizes) > 40
    assert not scribbles(np.zeros((50, 50), np.uint8)).any()
