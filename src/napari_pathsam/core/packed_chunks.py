"""Chunks of a large array: those used last as they are, the others packed; memory stays small."""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict

import numpy as np
from numpy.typing import DTypeLike, NDArray

Index = tuple[int, int]
FASTEST = 1
"""Labels pack to about a hundredth whatever the effort."""


class PackedChunks:
    """Arrays by index; safe to use from several threads.

    An array that was got is read only, and as it was then: what is written goes through
    :meth:`write`, so that none is packed while it changes.

    Parameters
    ----------
    dtype
        Of all arrays.
    hot_bytes
        So much is kept unpacked; the one used last always is.
    """

    def __init__(self, dtype: DTypeLike, hot_bytes: int) -> None:
        self._dtype, self._hot_bytes = np.dtype(dtype), hot_bytes
        self._hot: OrderedDict[Index, NDArray] = OrderedDict()
        self._held = 0
        self._cold: dict[Index, bytes] = {}  # of hot ones too, while they are the same
        self._shapes: dict[Index, tuple[int, int]] = {}
        self._lock = threading.RLock()

    @property
    def nbytes(self) -> int:
        """What they take in memory."""
        with self._lock:
            return self._held + sum(map(len, self._cold.values()))

    def __contains__(self, index: Index) -> bool:
        return index in self._shapes

    def shapes(self) -> list[tuple[Index, tuple[int, int]]]:
        """All of them, row by row."""
        with self._lock:
            return sorted(self._shapes.items())

    def get(self, index: Index) -> NDArray | None:
        """One of them, to be read; None where there is none."""
        with self._lock:
            if index not in self._shapes:
                return None
            chunk = self._hot.get(index)
            if chunk is None:
                packed = np.frombuffer(zlib.decompress(self._cold[index]), self._dtype)
                chunk = packed.reshape(self._shapes[index]).copy()
                self._heat(index, chunk)
            self._hot.move_to_end(index)
            return chunk

    def write(
        self, index: Index, inside: tuple[slice, slice], values: NDArray, shape: tuple[int, int]
    ) -> None:
        """Set a part of one of them; it is made (of ``shape``) or dropped where need be."""
        anything = bool(values.any())
        with self._lock:
            chunk = self.get(index)
            if chunk is None:
                if not anything:
                    return
                chunk = np.zeros(shape, self._dtype)
                self._shapes[index] = shape
                self._heat(index, chunk)
            self._cold.pop(index, None)  # it is packed anew
            chunk[inside] = values
            if not anything and not chunk.any():
                del self._shapes[index]
                self._held -= self._hot.pop(index).nbytes

    def copied(self) -> PackedChunks:
        """As they are now."""
        with self._lock:
            copied = PackedChunks(self._dtype, self._hot_bytes)
            copied._hot = OrderedDict((i, chunk.copy()) for i, chunk in self._hot.items())
            copied._held, copied._cold = self._held, dict(self._cold)
            copied._shapes = dict(self._shapes)
            return copied

    def _heat(self, index: Index, chunk: NDArray) -> None:
        self._hot[index] = chunk
        self._held += chunk.nbytes
        while self._held > self._hot_bytes and len(self._hot) > 1:
            oldest, cooled = self._hot.popitem(last=False)
            self._held -= cooled.nbytes
            if oldest not in self._cold:
                self._cold[oldest] = zlib.compress(np.ascontiguousarray(cooled).data, FASTEST)
