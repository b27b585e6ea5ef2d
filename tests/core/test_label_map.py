"""Label maps: every function on ordinary, tiny, empty and crowded maps."""

import numpy as np
import pytest
from skimage.draw import disk
from skimage.measure import label as sk_label

from napari_pathsam.core import label_map as lm
from napari_pathsam.core.geometry import Region


def _disks(shape, *discs):
    out = np.zeros(shape, bool)
    for y, x, r in discs:
        out[disk((y, x), r, shape=shape)] = True
    return out


def _crowd(n_side=20, cell=6):
    """400 objects of 4 × 4 pixels, ids 1000, 1003, …"""
    labels = np.zeros((n_side * cell, n_side * cell), np.int32)
    for k in range(n_side * n_side):
        y, x = divmod(k, n_side)
        labels[y * cell + 1 : y * cell + 5, x * cell + 1 : x * cell + 5] = 1000 + 3 * k
    return labels


EDGE_CASES = [
    np.zeros((0, 0), np.int32),
    np.zeros((0, 5), np.uint8),
    np.zeros((1, 1), np.int32),
    np.ones((1, 1), np.uint8),
    np.full((1, 7), 300, np.int32),
    np.full((3, 3), 2**31 - 1, np.int64),
]


@pytest.mark.parametrize("labels", EDGE_CASES, ids=lambda a: f"{a.shape}-{a.max(initial=0)}")
def test_odd_maps_pass_through_unharmed(labels):
    before = labels.copy()
    assert np.array_equal(lm.fill_holes(labels), labels)
    assert np.array_equal(lm.remove_small(labels, 1), labels)
    assert not lm.remove_small(labels, 10_000).any()
    assert np.array_equal(lm.relabel(labels), (labels != 0).astype(int))
    assert np.array_equal(lm.split_touching(labels != 0, 3), (labels != 0).astype(int))
    assert lm.outline(labels).shape == labels.shape
    assert sum(lm.areas(labels).values()) == np.count_nonzero(labels)
    assert len(lm.regions(labels)) == int(labels.any())
    assert np.array_equal(labels, before)


def test_regions_and_areas_of_more_than_255_sparse_ids():
    labels = _crowd()
    regions, areas = lm.regions(labels), lm.areas(labels)
    assert len(regions) == len(areas) == 400
    assert set(areas.values()) == {16}
    assert regions[1000] == Region(1, 1, 4, 4)
    for i in (1000, 1600, 2197):
        assert (labels[regions[i].slices] == i).all()


def test_relabel_keeps_objects_and_their_order():
    labels = _crowd()
    compact = lm.relabel(labels)
    assert compact.dtype == np.int32
    assert np.array_equal(np.unique(compact), np.arange(401))
    assert np.array_equal(compact[labels > 0], (labels[labels > 0] - 1000) // 3 + 1)


def test_negative_ids_are_refused():
    with pytest.raises(ValueError, match="negative"):
        lm.relabel(np.array([[-1, 0, 2]]))


def test_fill_holes_fills_background_only():
    labels = np.zeros((20, 20), np.int32)
    labels[2:18, 2:18] = 7
    labels[5:15, 5:15] = 0
    labels[8:10, 8:10] = 9
    labels[0, 0] = 3
    filled = lm.fill_holes(labels)
    assert (filled == 9).sum() == 4
    assert (filled == 7).sum() == 16 * 16 - 4
    assert (filled == 3).sum() == 1


def test_fill_holes_leaves_bays_open():
    labels = np.zeros((10, 10), np.uint8)
    labels[1:9, 1:9] = 1
    labels[3:6, 3:] = 0
    assert np.array_equal(lm.fill_holes(labels), labels)


def test_remove_small_counts_all_pieces_of_an_id():
    labels = np.zeros((10, 10), np.int32)
    labels[0, :3] = 5
    labels[9, :3] = 5
    labels[5, :5] = 400
    kept = lm.remove_small(labels, 6)
    assert set(np.unique(kept)) == {0, 5}
    assert kept.dtype == labels.dtype


def test_split_touching_separates_two_discs_near_their_neck():
    binary = _disks((60, 90), (30, 30, 18), (30, 60, 18))
    split = lm.split_touching(binary, 10)
    assert set(np.unique(split)) == {0, 1, 2}
    assert np.array_equal(split > 0, binary)
    assert split[30, 20] != split[30, 70]
    left = split == split[30, 20]
    assert abs(np.flatnonzero(left.any(axis=0)).max() - 45) <= 2


def test_split_touching_keeps_one_ragged_disc_whole():
    rng = np.random.default_rng(0)
    binary = _disks((80, 80), (40, 40, 30)) & (rng.random((80, 80)) > 0.002)
    split = lm.split_touching(_disks((80, 80), (40, 40, 30)), 10)
    assert split.max() == 1
    assert np.array_equal(lm.split_touching(binary, 10) > 0, binary)


def test_split_touching_loses_nothing_however_small_or_many():
    rng = np.random.default_rng(1)
    binary = rng.random((150, 150)) < 0.15
    split = lm.split_touching(binary, 5)
    assert np.array_equal(split > 0, binary)
    n_components = sk_label(binary, connectivity=2).max()
    assert n_components > 255
    assert split.max() >= n_components
    # Each piece lies within one component.
    components = sk_label(binary, connectivity=2)
    pairs = np.unique(np.stack([split[binary], components[binary]]), axis=1)
    assert len(np.unique(pairs[0])) == pairs.shape[1]
    assert np.array_equal(split, lm.split_touching(binary, 5))


def test_split_touching_of_an_image_full_of_object():
    assert (lm.split_touching(np.ones((8, 8), bool), 2) > 0).all()


def test_outline_of_touching_objects_and_at_the_border():
    labels = np.zeros((6, 8), np.int32)
    labels[:, :4] = 1
    labels[1:5, 4:7] = 2
    edge = lm.outline(labels)
    slow = np.zeros_like(edge)
    for y in range(6):
        for x in range(8):
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                inside = 0 <= y + dy < 6 and 0 <= x + dx < 8
                other = labels[y + dy, x + dx] if inside else 0
                slow[y, x] |= labels[y, x] != 0 and other != labels[y, x]
    assert np.array_equal(edge, slow)
    assert edge[2, 3]
    assert edge[2, 4]


def test_a_wide_outline_stays_inside():
    labels = _disks((50, 50), (25, 25, 20)).astype(np.int32)
    wide = lm.outline(labels, width_px=4)
    assert wide.sum() > lm.outline(labels).sum()
    assert not (wide & (labels == 0)).any()
    assert not wide[25, 25]
