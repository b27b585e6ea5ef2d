"""Which images an epoch shows: all once, or rare classes more often."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np
import pytest

from napari_pathsam.training.class_order import epoch_items, shares_of

CHANNELS = [frozenset({0, 1})] * 90 + [frozenset({0, 2})] * 9 + [frozenset({1, 3})]


def shown(balance: float, epoch: int = 0) -> Counter[int]:
    """How often each image is shown."""
    items = epoch_items(shares_of(CHANNELS, balance), epoch, 8, 0)
    return Counter(image for image, _ in items)


def test_without_balance_an_epoch_shows_every_image_once_in_its_next_variant():
    ones = shares_of(CHANNELS, 0.0)
    epochs = [dict(epoch_items(ones, epoch, 4, 0)) for epoch in range(4)]
    assert all(set(epoch) == set(range(100)) for epoch in epochs)
    assert all({epoch[image] for epoch in epochs} == {0, 1, 2, 3} for image in range(100))


@pytest.mark.parametrize(("balance", "wanted"), [(1.0, (33.3, 33.3, 33.3)), (0.5, (70, 22, 7.4))])
def test_balance_shows_rare_classes_more_often(balance, wanted):
    counts = [shown(balance, epoch) for epoch in range(20)]
    mean = [sum(c[i] for c in counts) / 20 for i in range(100)]
    assert all(sum(c.values()) == 100 for c in counts)
    groups = (slice(0, 90), slice(90, 99), slice(99, 100))
    assert [sum(mean[g]) for g in groups] == pytest.approx(wanted, abs=1.5)
    # By systematic drawing no image is forgotten that has a whole share.
    assert all(c[99] >= int(wanted[2]) for c in counts)


def test_an_image_shown_often_comes_in_different_variants():
    shares = shares_of(CHANNELS, 0.5)
    seen = [variant for image, variant in epoch_items(shares, 0, 8, 0) if image == 99]
    assert len(seen) == len(set(seen)) >= 7
    unlimited = list(chain(*(epoch_items(shares, epoch, None, 0) for epoch in range(3))))
    assert len(unlimited) == len(set(unlimited))  # each showing is a new one


def test_an_image_counts_for_its_rarest_class_and_background_for_none():
    shares = shares_of([*CHANNELS, frozenset({0})], 1.0)
    assert shares[99] == pytest.approx(shares[100])
    assert shares.mean() == pytest.approx(1.0)
    np.testing.assert_array_equal(shares_of(CHANNELS, 0.0), 1.0)
