"""Which images an epoch shows, in which of their variants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Item = tuple[int, int]
"""An image and one of its variants."""


def epoch_items(
    shares: NDArray[np.float64], epoch: int, variants: int | None, seed: int
) -> list[Item]:
    """``(image, variant)`` in the order of an epoch, as many as there are images.

    Each image is shown as often as its share of the epoch says (:func:`shares_of`), rounded up or
    down by lot, and walks through its variants in an order of its own; without a number of variants
    each showing is a new one. The same arguments give the same items.
    """
    rng = np.random.default_rng([seed, 3, epoch])
    order = rng.permutation(len(shares))
    most = 1
    if (shares != 1).any():
        most = int(np.ceil(shares.max()))
        ticks = np.arange(len(shares)) + rng.random()
        drawn = order[np.searchsorted(np.cumsum(shares[order]), ticks).clip(max=len(order) - 1)]
        order = rng.permutation(drawn)
    first = np.random.default_rng([seed, 5]).integers(1 << 16, size=len(shares))
    items: list[Item] = []
    shown: Counter[int] = Counter()
    for image in order.tolist():
        showing = epoch * most + shown[image]
        shown[image] += 1
        items.append(
            (image, showing if variants is None else int(first[image] + showing) % variants)
        )
    return items


def shares_of(channels: Sequence[frozenset[int]], balance: float) -> NDArray[np.float64]:
    """How often an epoch shows each image, from the channels in it; one on average.

    In proportion to ``n ** -balance``, where n images have the rarest of an image's classes. With
    ``balance`` 0 every image is shown once, with 1 (and one class an image) every class as often.
    """
    classes = [found - {0} or frozenset({0}) for found in channels]
    images_with = Counter(c for found in classes for c in found)
    rarest = np.array([min(images_with[c] for c in found) for found in classes], np.float64)
    weight = rarest**-balance
    shares: NDArray[np.float64] = weight / weight.mean()
    return shares
