"""One object, one piece: what a prompt did not ask for is taken out of an answer.

A small network also finds other objects that look like the one that was meant. What lies outside
the box goes, unless somebody clicked there. The pieces of a mask that hold a positive click stay
(or, without clicks, the largest), the others go; and holes that are small beside the object are
filled, unless somebody clicked into them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pathsam.core.prompts import Box, Prompts
from napari_pathsam.models.embedding import PromptedMask

SMALL_HOLE = 0.05
"""Holes below this share of the object are filled."""


def in_one_piece(answer: PromptedMask, prompts: Prompts) -> PromptedMask:
    """The answer with each of its masks tidied; prompts are in pixels of the encoded image."""
    height, width = answer.low_res_logits.shape[1:]
    scale = (height / answer.shape_yx[0], width / answer.shape_yx[1])

    def cells(positive: bool) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        points = [
            p for p, s in zip(prompts.points_yx, prompts.positive, strict=True) if s == positive
        ]
        at = (np.array(points, float).reshape(-1, 2) + 0.5) * scale
        rows, cols = at.astype(np.intp).T
        return rows.clip(0, height - 1), cols.clip(0, width - 1)

    inside, outside = cells(True), cells(False)
    tidied = answer.low_res_logits.copy()
    for logits in tidied:
        if prompts.box is not None and not _clicked_outside(prompts):
            _clip(logits, prompts.box, scale)
        _drop_pieces(logits, inside, keep_all=prompts.mask is not None)
        _fill_holes(logits, outside)
    return replace(answer, low_res_logits=tidied)


def _clicked_outside(prompts: Prompts) -> bool:
    """Whether a positive click says that the object is larger than the box."""
    assert prompts.box is not None
    y0, x0, y1, x1 = prompts.box
    return any(
        sign and not (y0 <= y <= y1 and x0 <= x <= x1)
        for (y, x), sign in zip(prompts.points_yx, prompts.positive, strict=True)
    )


def _clip(logits: NDArray[np.float32], box: Box, scale: tuple[float, float]) -> None:
    """Mirror what is positive outside: the outline, interpolated, then runs along the box."""
    outside = np.ones(logits.shape, bool)
    edges = [np.ceil(edge * scale[i % 2] - 0.5).astype(int).clip(0) for i, edge in enumerate(box)]
    outside[edges[0] : edges[2], edges[1] : edges[3]] = False
    logits[outside] = -np.abs(logits[outside])


def _drop_pieces(
    logits: NDArray[np.float32],
    inside: tuple[NDArray[np.intp], NDArray[np.intp]],
    *,
    keep_all: bool,
) -> None:
    """Make the pieces nobody asked for background; a refined object may be in several."""
    pieces, n = ndimage.label(logits > 0, structure=np.ones((3, 3)))
    if n < 2 or keep_all:
        return
    keep = np.zeros(n + 1, bool)
    keep[pieces[inside]] = True
    keep[0] = False
    if not keep.any():
        keep[int(np.bincount(pieces.ravel())[1:].argmax()) + 1] = True
    keep[0] = True  # background stays what it is
    logits[~keep[pieces]] = -1.0


def _fill_holes(
    logits: NDArray[np.float32], outside: tuple[NDArray[np.intp], NDArray[np.intp]]
) -> None:
    """Make small enclosed background object."""
    mask = logits > 0
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return
    # No hole lies outside the object's frame, and what is on its edge is none.
    frame = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    framed, mask = logits[frame], mask[frame]
    # Background that does not reach the border is a hole: one labelling, where filling takes many.
    background, n = ndimage.label(~mask)
    small = np.bincount(background.ravel(), minlength=n + 1) < SMALL_HOLE * np.count_nonzero(mask)
    small[0] = False
    for edge in (background[0], background[-1], background[:, 0], background[:, -1]):
        small[edge] = False
    clicked_y, clicked_x = outside[0] - rows[0], outside[1] - cols[0]
    inside = (clicked_y >= 0) & (clicked_y < mask.shape[0])
    inside &= (clicked_x >= 0) & (clicked_x < mask.shape[1])
    small[background[clicked_y[inside], clicked_x[inside]]] = False
    framed[small[background]] = 1.0
