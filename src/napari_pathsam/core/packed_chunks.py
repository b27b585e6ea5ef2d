"""Chunks of a large array: those used last as they are, some packed, the others on a disk."""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from typing import Protocol
from weakref import WeakSet

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_pathsam.core.errors import PathsamError

Index = tuple[int, int]
FASTEST = 1
"""Labels pack to about a hundredth whatever the effort."""
PACKED_SHARE = 4
"""Where there is a disk, packed chunks take a quarter of what the unpacked ones may."""


class Disk(Protocol):
    """Where chunks of one array are kept beyond the memory; a chunk is there whole or not."""

    def load(self, index: Index, shape: tuple[int, int]) -> NDArray:
        """A chunk as it was saved."""

    def save(self, index: Index, chunk: NDArray) -> None:
        """Keep a chunk in the place of an older one; one of zeros takes no room."""


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
    disk
        Follows when :meth:`flush_one` is called, and earlier where memory is short. None: all that
        is not hot is packed, and memory grows with it.
    """

    def __init__(self, dtype: DTypeLike, hot_bytes: int, disk: Disk | None = None) -> None:
        self._dtype, self._hot_bytes, self._disk = np.dtype(dtype), hot_bytes, disk
        self._hot: OrderedDict[Index, NDArray] = OrderedDict()
        self._cold: OrderedDict[Index, bytes] = OrderedDict()  # of hot ones too, while the same
        self._hot_held = self._cold_held = 0
        self._shapes: dict[Index, tuple[int, int]] = {}
        self._unsaved: dict[Index, tuple[int, int]] = {}  # of shape; the disk has others, or none
        self._copies: WeakSet[PackedChunks] = WeakSet()
        self._is_copy = False
        self._lock = threading.RLock()

    @property
    def nbytes(self) -> int:
        """What they take in memory."""
        with self._lock:
            return self._hot_held + self._cold_held

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
                chunk = self._fetched(index)
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
            self._forget_packed(index)  # it is packed anew
            if self._disk is not None:
                self._unsaved[index] = shape
            chunk[inside] = values
            if not anything and not chunk.any():
                del self._shapes[index]
                self._hot_held -= self._hot.pop(index).nbytes

    def copied(self) -> PackedChunks:
        """As they are now; what is written later goes into one of the two only."""
        with self._lock:
            copied = PackedChunks(self._dtype, self._hot_bytes, self._disk)
            copied._hot = OrderedDict((i, chunk.copy()) for i, chunk in self._hot.items())
            copied._cold = OrderedDict(self._cold)
            copied._hot_held, copied._cold_held = self._hot_held, self._cold_held
            copied._shapes, copied._unsaved = dict(self._shapes), dict(self._unsaved)
            copied._copies, copied._is_copy = self._copies, True
            self._copies.add(copied)
            return copied

    def flush_one(self) -> bool:
        """Save one chunk that the disk does not have as it is; False: there is none.

        Raises what the disk does; the chunk is then still to be saved.
        """
        with self._lock:
            if self._is_copy or not self._unsaved:
                return False
            self._save(next(iter(self._unsaved)))
            return True

    # --- between memory and disk ----------------------------------------------------------------

    def _fetched(self, index: Index) -> NDArray:
        shape = self._shapes[index]
        packed = self._cold.get(index)
        if packed is None:
            assert self._disk is not None
            return np.array(self._disk.load(index, shape), self._dtype)
        return np.frombuffer(zlib.decompress(packed), self._dtype).reshape(shape).copy()

    def _save(self, index: Index) -> None:
        """Put a chunk on the disk; copies that still need what lies there keep it themselves."""
        assert self._disk is not None
        for copied in list(self._copies):
            copied._keep(index)
        chunk = self._hot.get(index)
        if chunk is None:
            there = index in self._shapes
            chunk = self._fetched(index) if there else np.zeros(self._unsaved[index], self._dtype)
        self._disk.save(index, chunk)
        del self._unsaved[index]

    def _keep(self, index: Index) -> None:
        """The disk's chunk is about to change: hold what a copy reads there."""
        with self._lock:
            if index not in self._shapes or index in self._unsaved:
                return
            self._unsaved[index] = self._shapes[index]
            if index not in self._hot and index not in self._cold:
                self._pack(index, self._fetched(index))

    def _heat(self, index: Index, chunk: NDArray) -> None:
        self._hot[index] = chunk
        self._hot_held += chunk.nbytes
        while self._hot_held > self._hot_bytes and len(self._hot) > 1:
            oldest, cooled = self._hot.popitem(last=False)
            self._hot_held -= cooled.nbytes
            on_disk = self._disk is not None and oldest not in self._unsaved
            if oldest not in self._cold and not on_disk:
                self._pack(oldest, cooled)

    def _pack(self, index: Index, chunk: NDArray) -> None:
        packed = zlib.compress(np.ascontiguousarray(chunk).data, FASTEST)
        self._cold[index] = packed
        self._cold_held += len(packed)
        if self._disk is None:
            return
        for oldest in list(self._cold):
            if self._cold_held <= self._hot_bytes // PACKED_SHARE:
                return
            if oldest in self._unsaved:
                if self._is_copy:
                    continue  # nobody else has it
                try:
                    self._save(oldest)
                except PathsamError:
                    return  # it stays here; flush_one says why
            self._forget_packed(oldest)

    def _forget_packed(self, index: Index) -> None:
        self._cold_held -= len(self._cold.pop(index, b""))
