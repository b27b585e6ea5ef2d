"""Which axes of a stored array are rows, columns and colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadImageError


@dataclass(frozen=True)
class Layout:
    """Positions of the axes; every other axis has length one."""

    n_axes: int
    y: int
    x: int
    channel: int | None

    def index(self, rows: slice, columns: slice) -> tuple[slice | int, ...]:
        """The index of a rectangle in the stored array."""
        index: list[slice | int] = [0] * self.n_axes
        index[self.y], index[self.x] = rows, columns
        if self.channel is not None:
            index[self.channel] = slice(None)
        return tuple(index)

    def channels_last(self, piece: NDArray) -> NDArray:
        """A piece taken with :meth:`index` as ``(h, w)`` or ``(h, w, channels)``."""
        kept = sorted(a for a in (self.y, self.x, self.channel) if a is not None)
        order = [a for a in (self.y, self.x, self.channel) if a is not None]
        return np.transpose(piece, [kept.index(axis) for axis in order])


def layout_of(axes: Sequence[str], shape: Sequence[int], *, where: str) -> Layout:
    """Find rows, columns and colours among named axes; ``s`` (samples) and ``c`` are colours.

    Raises
    ------
    BadImageError
        When there are several planes, or channels that are not grey, RGB or RGBA.
    """
    names = [name.lower() for name in axes]
    if names.count("y") != 1 or names.count("x") != 1 or len(names) != len(shape):
        raise BadImageError(
            f"{where} has the axes {''.join(axes)}; rows (y) and columns (x) are wanted."
        )
    channel: int | None = None
    for axis, (name, length) in enumerate(zip(names, shape, strict=True)):
        if name in "yx" or length == 1:
            continue
        allowed = (2, 3, 4) if name == "s" else (3,) if name == "c" else ()
        if channel is not None or length not in allowed:
            raise BadImageError(
                f"{where} has the axes {''.join(axes)} of the lengths {tuple(shape)}; one grey or "
                "RGB plane is wanted. Open it in napari with the reader made for such files, "
                "choose a plane or channels there, and work on that layer."
            )
        channel = axis
    return Layout(len(names), names.index("y"), names.index("x"), channel)
