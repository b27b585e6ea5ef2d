"""Hold out whole patients, slides or cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_pathsam.core.errors import BadImageError
from napari_pathsam.training.class_images import TrainingImage

DRAWS = 64
"""How many ways to hold groups out are looked at for one that leaves every class on both sides."""


def split_by_group(
    images: Sequence[TrainingImage], share: float, seed: int
) -> tuple[list[TrainingImage], list[TrainingImage]]:
    """Training and validation images: about ``share`` of the images, no group on both sides.

    Of some random draws the first is taken that leaves most classes on both sides. With ``share``
    0, or one group only, nothing is held out.
    """
    groups = sorted({one.group for one in images})
    if share == 0 or len(groups) < 2:
        return list(images), []
    classes = {group: set[int]() for group in groups}
    sizes = dict.fromkeys(groups, 0)
    for one in images:
        classes[one.group] |= one.channels
        sizes[one.group] += 1
    rng = np.random.default_rng([seed, 11])
    best: tuple[int, set[str]] | None = None
    everywhere = len(set().union(*classes.values()))
    for _ in range(DRAWS):
        held = _draw([groups[i] for i in rng.permutation(len(groups))], sizes, share * len(images))
        both = set().union(*(classes[g] for g in held))
        both &= set().union(*(classes[g] for g in groups if g not in held))
        if best is None or len(both) > best[0]:
            best = (len(both), held)
        if best[0] == everywhere:
            break
    assert best is not None
    held = best[1]
    return [i for i in images if i.group not in held], [i for i in images if i.group in held]


def fold_by_group(
    images: Sequence[TrainingImage], fold: int, folds: int
) -> tuple[list[TrainingImage], list[TrainingImage]]:
    """Training images, and those of fold ``fold`` of 1 … ``folds``; no group on both sides.

    The largest group goes to the fold with the fewest images, then the next one: the folds hold
    about as many, and together all of them.

    Raises
    ------
    BadImageError
        There are fewer groups than folds.
    """
    sizes: dict[str, int] = {}
    for one in images:
        sizes[one.group] = sizes.get(one.group, 0) + 1
    if len(sizes) < folds:
        raise BadImageError(
            f"{len(sizes)} groups (patients, slides) cannot be dealt out to {folds} folds. Take "
            "fewer folds, or say which groups there are (--group-by)."
        )
    held = [set[str]() for _ in range(folds)]
    full = [0] * folds
    for group in sorted(sizes, key=lambda name: (-sizes[name], name)):
        emptiest = full.index(min(full))
        held[emptiest].add(group)
        full[emptiest] += sizes[group]
    mine = held[fold - 1]
    return [i for i in images if i.group not in mine], [i for i in images if i.group in mine]


def _draw(order: Sequence[str], sizes: dict[str, int], wanted: float) -> set[str]:
    """Groups in their order until there are enough images, never all of them."""
    held: set[str] = set()
    n = 0
    for group in order[:-1]:
        if held and n + sizes[group] / 2 > wanted:
            break
        held.add(group)
        n += sizes[group]
    return held
