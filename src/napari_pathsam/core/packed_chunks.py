"""Chunks of a large array: those used last as they are, some packed, the others on a disk."""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Protocol
from weakref import WeakSet

import numpy as np
from numpy.typing import DTypeLike, NDArray

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

    One lock serves an array and its copies. It is free while the disk works, so that a slow one
    keeps nobody waiting but those who want the same chunk from it.

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
        # Of what the disk has not as it is: its shape, and the number of the write.
        self._unsaved: dict[Index, tuple[tuple[int, int], int]] = {}
        self._writes = count()
        self._holding = 0
        self._is_copy = False
        # Shared with the copies:
        self._lock = threading.Condition(threading.Lock())
        self._at_disk: set[Index] = set()
        self._copies: WeakSet[PackedChunks] = WeakSet()

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
            chunk = self._got(index)
            self._make_room()
            return chunk

    def write(
        self, index: Index, inside: tuple[slice, slice], values: NDArray, shape: tuple[int, int]
    ) -> None:
        """Set a part of one of them; it is made (of ``shape``) or dropped where need be."""
        anything = bool(values.any())
        with self._lock:
            chunk = self._got(index)
            if chunk is None:
                if not anything:
                    return
                chunk = np.zeros(shape, self._dtype)
                self._shapes[index] = shape
                self._heat(index, chunk)
            self._forget_packed(index)  # it is packed anew
            if self._disk is not None:
                self._unsaved.pop(index, None)  # it comes last
                self._unsaved[index] = (shape, next(self._writes))
            chunk[inside] = values
            if not anything and not chunk.any():
                del self._shapes[index]
                self._hot_held -= self._hot.pop(index).nbytes
            self._make_room()

    def copied(self) -> PackedChunks:
        """As they are now; what is written later goes into one of the two only."""
        with self._lock:
            copied = PackedChunks(self._dtype, self._hot_bytes, self._disk)
            copied._hot = OrderedDict((i, chunk.copy()) for i, chunk in self._hot.items())
            copied._cold = OrderedDict(self._cold)
            copied._hot_held, copied._cold_held = self._hot_held, self._cold_held
            copied._shapes, copied._unsaved = dict(self._shapes), dict(self._unsaved)
            copied._lock, copied._at_disk = self._lock, self._at_disk
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

    @contextmanager
    def holding(self, indexes: Iterable[Index]) -> Iterator[None]:
        """These are in memory, and nothing leaves it until the block is left.

        Raises what the disk does, before the block is entered.
        """
        with self._lock:
            self._holding += 1
        try:
            for index in indexes:
                self.get(index)
            yield
        finally:
            with self._lock:
                self._holding -= 1
                self._spill()

    # --- between memory and disk; all that follow are called with the lock ----------------------

    def _got(self, index: Index) -> NDArray | None:
        """One of them, made hot."""
        while index in self._shapes:
            chunk = self._hot.get(index)
            if chunk is None and index in self._cold:
                chunk = self._unpacked(index)
                self._heat(index, chunk)
            if chunk is not None:
                self._hot.move_to_end(index)
                return chunk
            if index in self._at_disk:
                self._lock.wait()
            else:
                self._heat(index, self._loaded(index))
        return None

    def _loaded(self, index: Index) -> NDArray:
        """One of them from the disk, on which nobody else is at it meanwhile."""
        assert self._disk is not None
        shape = self._shapes[index]
        with self._alone_at_disk(index):
            return np.array(self._disk.load(index, shape), self._dtype)

    def _save(self, index: Index) -> None:
        """Put an unsaved chunk on the disk, or wait for another thread that is at it."""
        assert self._disk is not None
        if index in self._at_disk:
            self._lock.wait()
            return
        while (copied := next((c for c in self._copies if c._reads(index)), None)) is not None:
            copied._keep(index)
        shape, _ = unsaved = self._unsaved[index]
        chunk = self._hot.get(index)
        if chunk is not None:
            chunk = chunk.copy()
        else:
            chunk = self._unpacked(index) if index in self._cold else np.zeros(shape, self._dtype)
        with self._alone_at_disk(index):
            self._disk.save(index, chunk)
        if self._unsaved[index] == unsaved:  # else it was written meanwhile
            del self._unsaved[index]

    @contextmanager
    def _alone_at_disk(self, index: Index) -> Iterator[None]:
        """Without the lock, but nobody else loads or saves this chunk; nobody must be at it."""
        self._at_disk.add(index)
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()
            self._at_disk.remove(index)
            self._lock.notify_all()

    def _reads(self, index: Index) -> bool:
        """Whether what the disk has there is ours."""
        return index in self._shapes and index not in self._unsaved

    def _keep(self, index: Index) -> None:
        """The disk's chunk is about to change: hold what a copy reads there."""
        if index not in self._hot and index not in self._cold:
            self._pack(index, self._loaded(index))
        self._unsaved[index] = (self._shapes[index], next(self._writes))
        self._spill()

    def _make_room(self) -> None:
        """Pack what was used long ago, or forget it, if the disk has it."""
        while self._hot_held > self._hot_bytes and len(self._hot) > 1:
            oldest, cooled = self._hot.popitem(last=False)
            self._hot_held -= cooled.nbytes
            leaves = self._disk is not None and oldest not in self._unsaved and not self._holding
            if not leaves and oldest not in self._cold:
                self._pack(oldest, cooled)
                self._spill()

    def _spill(self) -> None:
        """Where there is a disk, keep only so much packed."""
        while self._disk is not None and self._cold_held > self._hot_bytes // PACKED_SHARE:
            saved = next((i for i in self._cold if i not in self._unsaved), None)
            if self._holding or (saved is None and self._is_copy):
                return  # nobody else has it
            if saved is not None:
                self._forget_packed(saved)
                continue
            free = next((i for i in self._cold if i not in self._at_disk), None)
            if free is None:
                return
            try:
                self._save(free)
            except Exception:  # noqa: BLE001 - it stays here; flush_one says why
                return

    def _heat(self, index: Index, chunk: NDArray) -> None:
        self._hot[index] = chunk
        self._hot_held += chunk.nbytes

    def _pack(self, index: Index, chunk: NDArray) -> None:
        packed = zlib.compress(np.ascontiguousarray(chunk).data, FASTEST)
        self._cold[index] = packed
        self._cold_held += len(packed)

    def _unpacked(self, index: Index) -> NDArray:
        shape = self._shapes[index]
        return np.frombuffer(zlib.decompress(self._cold[index]), self._dtype).reshape(shape).copy()

    def _forget_packed(self, index: Index) -> None:
        self._cold_held -= len(self._cold.pop(index, b""))
