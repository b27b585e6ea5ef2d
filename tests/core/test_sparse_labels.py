"""Sparse labels read and write as a plain array does, and their coarser levels follow."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from weakref import WeakSet

import numpy as np
import pytest

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.label_map import halved
from napari_pathsam.core.packed_chunks import PackedChunks
from napari_pathsam.core.sparse_labels import (
    HOT_BYTES,
    HOT_COARSER_BYTES,
    SparseLabels,
)


class Kept(dict):
    """A disk in memory, of one level; ``full``: it takes nothing more."""

    full = False

    def load(self, index: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
        assert self[index].shape == shape
        return self[index]

    def save(self, index: tuple[int, int], chunk: np.ndarray) -> None:
        if self.full:
            raise BadFileError("The disk is full.")
        self[index] = chunk.copy()
        if not chunk.any():
            del self[index]


@pytest.mark.parametrize(("hot_bytes", "on_disk"), [(10**9, False), (1, False), (1, True)])
def test_as_a_plain_array(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, hot_bytes: int, on_disk: bool
) -> None:
    """Whether all is kept as it is, or all but the chunk used last is packed or on a disk."""
    init = PackedChunks.__init__
    monkeypatch.setattr(
        PackedChunks, "__init__", lambda s, dtype, _, disk=None: init(s, dtype, hot_bytes, disk)
    )
    plain = np.zeros((1601, 2111), np.int32)
    disks: dict[int, Kept] = {}
    sparse = SparseLabels(
        plain.shape, np.int32, (lambda level: disks.setdefault(level, Kept())) if on_disk else None
    )
    for turn in range(60):
        for _ in zip(range(turn % 3), sparse.flush(), strict=False):  # not always all of it
            pass
        y, x = rng.integers(0, plain.shape)
        h, w = rng.integers(1, 900, 2)
        values = rng.integers(0, 3, plain[y : y + h, x : x + w].shape) * 70_000
        values *= rng.random() < 0.7  # now and then all is erased
        plain[y : y + h, x : x + w] = values
        sparse[y : y + h, x : x + w] = values
    sparse[1590:, 10:20] = 5
    plain[1590:, 10:20] = 5
    assert (np.asarray(sparse) == plain).all()
    assert (sparse[100:1500, 5:2100:7] == plain[100:1500, 5:2100:7]).all()
    assert (sparse[7] == plain[7]).all()
    rows, columns = (rng.integers(0, n, (40, 3)) for n in plain.shape)
    assert (sparse[rows, columns] == plain[rows, columns]).all()
    assert sparse[1600, 2110] == plain[1600, 2110]
    with pytest.raises(IndexError):
        sparse[1601, 0]
    level = plain
    for coarser in sparse.levels[1:]:
        level = halved(level[: level.shape[0] // 2 * 2, : level.shape[1] // 2 * 2])
        assert (np.asarray(coarser) == level).all()
    assert isinstance(sparse.levels[-1], np.ndarray)
    copied = sparse.copy()
    sparse[0:900, 0:900] = 1
    assert (np.asarray(copied) == plain).all()
    assert copied.nbytes < plain.nbytes / 2 or hot_bytes > 1
    for _ in sparse.flush():
        pass
    for level, disk in disks.items():
        whole = np.zeros_like(sparse.levels[level])
        for (y, x), chunk in disk.items():
            whole[y * 512 : y * 512 + chunk.shape[0], x * 512 : x * 512 + chunk.shape[1]] = chunk
        assert (whole == np.asarray(sparse.levels[level])).all()
    assert (np.asarray(copied) == plain).all()  # what the copy read there is with it now
    sparse = copied
    outside = np.ones(plain.shape, bool)
    for piece in sparse.pieces():
        outside[piece.slices] = False
    assert not plain[outside].any()


def test_memory_follows_what_is_labelled() -> None:
    labels = SparseLabels((80_000, 100_000), np.uint8)
    assert labels.nbytes == 0
    for y in range(0, 80_000, 20_000):
        labels[y : y + 100, y : y + 100] = 3
    assert labels.nbytes <= 4 * 4 * 512**2
    assert labels.levels[-1].shape == (312, 390)
    assert labels.levels[3][2500:2512, 2500:2512].all()
    for piece in list(labels.pieces()):
        labels[piece.slices] = 0
    assert labels.nbytes == 0
    assert not labels.levels[3][2500:2512, 2500:2512].any()


def test_memory_is_bounded_where_much_is_labelled() -> None:
    """Objects all over 12,000 × 8,000 pixels, 512 MB if they were kept as they are."""
    labels = SparseLabels((8_000, 12_000), np.int32)
    field = np.zeros((2000, 2000), np.int32)
    for n, y in enumerate(range(40, 1960, 90)):
        for x in range(40, 1960, 80):
            field[y : y + 50, x : x + 60] = 1000 * n + x
    for y in range(0, 8_000, 2000):
        for x in range(0, 12_000, 2000):
            labels[y : y + 2000, x : x + 2000] = field
    together = sum(level.nbytes for level in labels.levels)
    assert together < HOT_BYTES + 4 * HOT_COARSER_BYTES + 10e6
    assert (labels[4000:6000, 2000:4000] == field).all()


def test_memory_is_bounded_by_a_disk_and_nothing_is_lost_where_it_is_full() -> None:
    disk = Kept()
    chunks = PackedChunks(np.int32, 4 * 256**2, disk)
    rng = np.random.default_rng(0)
    made = rng.integers(0, 2**31, (40, 128, 128), np.int32)  # such do not pack
    whole = (slice(None), slice(None))
    for n, chunk in enumerate(made):
        disk.full = n > 30
        chunks.write((n, 0), whole, chunk, chunk.shape)
        assert n > 30 or chunks.nbytes <= 1.25 * 4 * 256**2
    copied = chunks.copied()
    with pytest.raises(BadFileError, match="full"):
        chunks.flush_one()
    disk.full = False
    while chunks.flush_one():
        pass
    assert all((disk[n, 0] == chunk).all() for n, chunk in enumerate(made))
    chunks.write((0, 0), whole, np.zeros((128, 128), np.int32), (128, 128))
    assert chunks.flush_one()
    assert (0, 0) not in disk
    for one, first in ((chunks, 1), (copied, 0)):
        assert [index[0] for index, _ in one.shapes()] == [*range(first, 40)]
        assert all((one.get((n, 0)) == made[n]).all() for n in range(first, 40))


def test_no_chunk_is_packed_while_it_is_written() -> None:
    """Another thread that makes chunks cold waits, or what was written would be lost."""
    chunks = PackedChunks(np.uint8, hot_bytes=1)
    whole = (slice(None), slice(None))
    for x in range(2):
        chunks.write((0, x), whole, np.ones((4, 4), np.uint8), (4, 4))
    reader = threading.Thread(target=chunks.get, args=((0, 0),))

    class Slow:
        waits = False

        def any(self) -> bool:
            return True

        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            reader.start()
            reader.join(0.1)
            self.waits = reader.is_alive()
            return np.full((4, 4), 7, np.uint8)

    slow = Slow()
    chunks.write((0, 1), whole, slow, (4, 4))
    reader.join()
    assert slow.waits
    assert (chunks.get((0, 1)) == 7).all()


def test_a_slow_disk_keeps_nobody_waiting() -> None:
    """Who reads or writes goes on while a chunk is saved, and the disk has the newest at last."""
    at_it, may_end = threading.Event(), threading.Event()

    class Slow(Kept):
        def save(self, index: tuple[int, int], chunk: np.ndarray) -> None:
            at_it.set()
            assert may_end.wait(20)
            super().save(index, chunk)

    disk = Slow()
    chunks = PackedChunks(np.uint8, 2**20, disk)
    whole, shape = (slice(None), slice(None)), (4, 4)
    for x in range(2):
        chunks.write((0, x), whole, np.full(shape, 1, np.uint8), shape)
    saving = threading.Thread(target=chunks.flush_one)
    saving.start()
    assert at_it.wait(20)
    done = threading.Event()

    def draws() -> None:
        copies.append(chunks.copied())
        chunks.write((0, 0), whole, np.full(shape, 2, np.uint8), shape)
        assert (chunks.get((0, 1)) == 1).all()
        done.set()

    copies: list[PackedChunks] = []
    drawing = threading.Thread(target=draws)
    drawing.start()
    waited = not done.wait(5)
    may_end.set()
    for thread in (saving, drawing):
        thread.join()
    assert not waited
    assert (disk[0, 0] == 1).all()
    while chunks.flush_one():
        pass
    assert (disk[0, 0] == 2).all()
    assert (copies[0].get((0, 0)) == 1).all()


def test_threads_that_draw_save_and_copy_see_one_order(rng: np.random.Generator) -> None:
    """Each copy, and each copy of one, is what was there when it was made, wherever it lies."""
    chunks = PackedChunks(np.uint8, 2 * 64**2, Kept())
    whole, shape, n = (slice(None), slice(None)), (64, 64), 12
    for x in range(n):
        chunks.write((0, x), whole, np.full(shape, 1, np.uint8), shape)
    errors: list[BaseException] = []
    over = threading.Event()

    def again(work: Callable[[], object]) -> threading.Thread:
        def run() -> None:
            try:
                while not over.is_set():
                    work()
            except BaseException as error:  # noqa: BLE001 - told by the test
                errors.append(error)

        return threading.Thread(target=run)

    first = chunks.copied()
    wanted = np.ones(n)

    def reads() -> None:
        for copy in (first, first.copied()):
            assert [int(copy.get((0, x))[0, 0]) for x in range(n)] == wanted.tolist()

    threads = [again(chunks.flush_one), again(reads), again(reads)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        now = wanted.copy()
        for turn in range(400):
            x = int(rng.integers(n))
            now[x] = turn % 250
            chunks.write((0, x), whole, np.full(shape, now[x], np.uint8), shape)
            if turn % 40 == 0:
                copy = chunks.copied()
                found = [copy.get((0, x)) for x in range(n)]
                assert [0 if c is None else c[0, 0] for c in found] == now.tolist()
    finally:
        over.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert not errors


def test_copies_are_made_of_copies_while_chunks_are_saved() -> None:
    """A copy of a copy waits until it is clear who needs what lies on the disk."""
    chunks = PackedChunks(np.uint8, 2**20, Kept())

    class Slow(WeakSet):
        def __iter__(self) -> Iterator[PackedChunks]:
            for one in super().__iter__():
                if not copying.ident:
                    copying.start()
                    copying.join(0.1)
                yield one

    made: list[PackedChunks] = []
    chunks._copies = Slow()
    copies = [chunks.copied() for _ in range(2)]
    copying = threading.Thread(target=lambda: made.append(copies[0].copied()))
    chunks.write((0, 0), (slice(None), slice(None)), np.ones((4, 4), np.uint8), (4, 4))
    assert chunks.flush_one()
    copying.join()
    assert made
