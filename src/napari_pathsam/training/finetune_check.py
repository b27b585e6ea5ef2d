"""Whether there is something to learn from; what is wrong, in one readable sentence each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from napari_pathsam.core.class_map import UNSURE
from napari_pathsam.core.classes import PALETTE, ClassInfo, ClassTable
from napari_pathsam.core.errors import BadLabelsError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.strokes import Areas, strokes_of
from napari_pathsam.training.finetune_config import FineTuneSettings

if TYPE_CHECKING:
    from napari_pathsam.training.finetune_run import FineTuneImage

FEWEST_PX = 16
"""Pixels of a class below which there is nothing to learn."""


def table_of(rows: Sequence[tuple[int, str, str | None]]) -> ClassTable:
    """A class table from ids, names and colours as a person gave them.

    Raises
    ------
    BadLabelsError
        Two classes have one name (case does not count), or a name, id or colour is none.
    """
    seen: dict[str, str] = {}
    for _, name, _ in rows:
        key = name.strip().casefold()
        if key in seen:
            raise BadLabelsError(
                f"Two classes are called “{name.strip()}”: rename one of them, or give both "
                "regions the same label."
            )
        seen[key] = name
    try:
        found = [
            ClassInfo(id=i, name=name, color=color or PALETTE[(i - 1) % len(PALETTE)])
            for i, name, color in rows
        ]
        return ClassTable(classes=tuple(sorted(found, key=lambda c: c.id)))
    except ValidationError as error:
        raise BadLabelsError(
            f"The class table cannot be used: {error.errors()[0]['msg']}. Give every class a name "
            "and a label between 1 and 254."
        ) from error


def check_images(settings: FineTuneSettings, images: Sequence[FineTuneImage]) -> None:
    """Labels lie on their images and hold known ids, or “unsure”; BadLabelsError otherwise."""
    if not images:
        raise BadLabelsError(
            "There is no image with labels: open one, and paint on a labels layer."
        )
    table_of([(c.id, c.name, c.color) for c in settings.classes])
    known = {0, UNSURE, *(c.id for c in settings.classes), settings.background_id or 0}
    for one in images:
        name = one.name or one.source.name
        whole = Region.of(one.source.shape_yx)
        if one.labels.ndim != 2 or one.labels.shape != one.at.shape_yx:
            raise BadLabelsError(
                f"The labels of {name} have the shape {one.labels.shape}; two axes of "
                f"{one.at.height} × {one.at.width} pixels are wanted."
            )
        inside = one.at.intersection(whole)
        painted = one.labels != 0
        if inside != one.at:
            if inside is None:
                outside = bool(painted.any())
            else:
                kept = Region(inside.y - one.at.y, inside.x - one.at.x, *inside.shape_yx)
                outside = bool(np.count_nonzero(painted) > np.count_nonzero(painted[kept.slices]))
            if outside or inside is None:
                raise BadLabelsError(
                    f"Some labels of {name} lie off the image, which has {whole.height} × "
                    f"{whole.width} pixels: paint on the image, or choose the labels layer that "
                    "belongs to it."
                )
        ids = {int(i) for i in np.unique(one.labels)}
        if ids - {0} == {UNSURE}:
            raise BadLabelsError(
                f"The labels of {name} are {UNSURE} wherever they are not 0, and {UNSURE} means "
                "“unsure”: give what you marked a label from 1 to 254."
            )
        if strange := sorted(ids - known):
            raise BadLabelsError(
                f"The labels of {name} hold the ids {', '.join(map(str, strange[:8]))}, which no "
                "class has: add them to the class table, or erase them."
            )
        if one.held_out is not None and one.held_out.shape != one.labels.shape:
            raise BadLabelsError(
                f"The held-out labels of {name} have the shape {one.held_out.shape}, its labels "
                f"{one.labels.shape}: they must be of one size."
            )


def check_painted(settings: FineTuneSettings, areas: Sequence[Areas], names: Sequence[str]) -> None:
    """At least two classes with enough pixels; BadLabelsError otherwise."""
    found = {c: (n, r) for c, n, r in _counted(settings, areas)}
    painted = [c for c, (n, _) in found.items() if n]
    if not painted:
        where = names[0] if len(names) == 1 and names[0] else "any image"
        raise BadLabelsError(
            f"Nothing is painted on {where} yet: paint a few regions of each class, then train."
        )
    by_id = {c.id: c.name for c in settings.classes}
    title = {c: by_id.get(c, "background") for c in found}
    if len(painted) < 2 and settings.zero != "background":
        raise BadLabelsError(
            f"Only one class is painted, “{title[painted[0]]}”, and a model needs something to "
            "tell it from: paint a second class, or some background as a class of its own."
        )
    few = [c for c in painted if found[c][0] < FEWEST_PX]
    if few:
        n = found[few[0]][0]
        raise BadLabelsError(
            f"“{title[few[0]]}” has {n} painted pixel{'s' * (n != 1)}, too few to learn from: "
            f"paint at least {FEWEST_PX} (better some hundreds, in two places), or erase it."
        )


def _counted(settings: FineTuneSettings, areas: Sequence[Areas]) -> list[tuple[int, int, int]]:
    ids = sorted({c.id for c in settings.classes} | ({settings.background_id or 0} - {0}))
    return [(s.class_id, s.n_px, s.n_regions) for s in strokes_of(areas, ids)]


def warnings_of(
    settings: FineTuneSettings, areas: Sequence[Areas], held: Sequence[NDArray[np.bool_]]
) -> tuple[str, ...]:
    """What does not hinder training, but should be known."""
    said = []
    titles = {c.id: c.name for c in settings.classes}
    counted = _counted(settings, areas)
    for class_id, n_px, n_regions in counted:
        title = titles.get(class_id, "background")
        if not n_px:
            said.append(f"“{title}” is not painted anywhere: the model will not know it.")
        elif n_regions < 2 and settings.hold_out.by == "region":
            said.append(
                f"“{title}” has one region only, so nothing of it can be held out and its score "
                "is not known: paint a second one, somewhere else."
            )
    free = {a.class_id[n - 1] for a, m in zip(areas, held, strict=True)
            for n in np.unique(a.areas[m]) if n}  # fmt: skip
    if settings.hold_out.by == "region" and free:
        said += [
            f"Of “{titles.get(c, 'background')}” nothing can be held out: what training starts "
            "from was trained on all of it but the largest region. Paint a new region of it."
            for c, _, n_regions in counted
            if n_regions > 1 and c not in free
        ]
    if settings.hold_out.by == "none":
        said.append("Nothing is held out, so there will be no score to trust.")
    elif not any(mask.any() for mask in held):
        said.append(
            "Nothing could be held out, so there will be no score to trust: paint at least two "
            "separate regions of each class."
        )
    return tuple(said)
