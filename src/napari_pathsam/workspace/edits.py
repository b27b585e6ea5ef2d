"""LabelEdit: what one action changed in the label maps, small enough to keep for ever."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region

INSTANCE = np.dtype("<i4")
CLASS = np.dtype("u1")


@dataclass(frozen=True)
class LabelEdit:
    """The changed pixels of a region of the label arrays, and their values before and after.

    ``region`` is in array pixels. ``changed`` is its packed, compressed mask; the four value
    blocks are in the mask's order, one item long where all values are equal.
    """

    region: Region
    changed: bytes
    instances: tuple[bytes, bytes]
    classes: tuple[bytes, bytes]

    @classmethod
    def between(
        cls,
        region: Region,
        before: tuple[NDArray[np.int32], NDArray[np.uint8]],
        after: tuple[NDArray[np.int32], NDArray[np.uint8]],
    ) -> LabelEdit | None:
        """The edit from (instances, classes) to (instances, classes); None: nothing changed."""
        changed = (before[0] != after[0]) | (before[1] != after[1])
        rows, cols = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        if not rows.size:
            return None
        tight = Region(
            region.y + int(rows[0]), region.x + int(cols[0]),
            int(rows[-1] - rows[0]) + 1, int(cols[-1] - cols[0]) + 1,
        )  # fmt: skip
        cut = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
        where = changed[cut]
        return cls(
            tight,
            zlib.compress(np.packbits(where).tobytes(), 1),
            (_packed(before[0][cut][where], INSTANCE), _packed(after[0][cut][where], INSTANCE)),
            (_packed(before[1][cut][where], CLASS), _packed(after[1][cut][where], CLASS)),
        )

    def moved(self, y: int, x: int) -> LabelEdit:
        """The same so many pixels further down and right."""
        r = self.region
        return replace(self, region=Region(r.y + y, r.x + x, *r.shape_yx))

    @property
    def nbytes(self) -> int:
        """Memory of the compressed blocks."""
        return len(self.changed) + sum(len(b) for b in (*self.instances, *self.classes))

    def where(self) -> NDArray[np.bool_]:
        """``region.shape_yx`` bool: the changed pixels."""
        bits = np.frombuffer(zlib.decompress(self.changed), np.uint8)
        size = self.region.height * self.region.width
        return np.unpackbits(bits, count=size).astype(bool).reshape(self.region.shape_yx)

    def values(self, n: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Instances before and after, classes before and after, of the ``n`` changed pixels."""
        return (
            _unpacked(self.instances[0], INSTANCE, n),
            _unpacked(self.instances[1], INSTANCE, n),
            _unpacked(self.classes[0], CLASS, n),
            _unpacked(self.classes[1], CLASS, n),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for a journal."""
        r = self.region
        blocks = (self.changed, *self.instances, *self.classes)
        return {
            "region": [r.y, r.x, r.height, r.width],
            "blocks": [b64encode(block).decode("ascii") for block in blocks],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LabelEdit:
        """The inverse of :meth:`to_json`; BadFileError when the values cannot be that."""
        try:
            changed, i0, i1, c0, c1 = (b64decode(b, validate=True) for b in data["blocks"])
            y, x, height, width = (int(v) for v in data["region"])
            return cls(Region(y, x, height, width), changed, (i0, i1), (c0, c1))
        except (KeyError, TypeError, ValueError) as error:
            raise BadFileError(f"An action in the saved work is damaged ({error}).") from error


def _packed(values: NDArray, dtype: np.dtype) -> bytes:
    values = values.astype(dtype, copy=False)
    if (values == values[0]).all():
        return values[:1].tobytes()
    return zlib.compress(values.tobytes(), 1)


def _unpacked(block: bytes, dtype: np.dtype, n: int) -> NDArray:
    if len(block) == dtype.itemsize:
        return np.broadcast_to(np.frombuffer(block, dtype), (n,))
    values: NDArray = np.frombuffer(zlib.decompress(block), dtype)
    if len(values) != n:
        raise ValueError(f"{len(values)} values for {n} pixels")
    return values
