"""Label pyramids: what is written comes back at every level, also when a writer is killed."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.label_map import halved
from napari_pathsam.io._ngff_metadata import COARSEST_PX
from napari_pathsam.io.label_store import LabelStore

SHAPE = (1501, 2111)


def _blobs(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    small = rng.integers(0, 3, (shape[0] // 100 + 1, shape[1] // 100 + 1)).astype(np.uint8)
    return np.kron(small, np.ones((100, 100), np.uint8))[: shape[0], : shape[1]]


def _levels(labels: np.ndarray, n: int) -> list[np.ndarray]:
    """By counting the votes for each id; of equally many the greatest id wins."""
    levels, ids = [labels], np.unique(labels)
    for _ in range(n - 1):
        fine = levels[-1]
        height, width = (side // 2 for side in fine.shape)
        four = fine[: 2 * height, : 2 * width].reshape(height, 2, width, 2)
        votes = np.stack([(four == i).sum(axis=(1, 3)) for i in ids])
        levels.append(ids[len(ids) - 1 - votes[::-1].argmax(axis=0)])
    return levels


def test_half_is_the_mode(rng: np.random.Generator) -> None:
    labels = rng.integers(0, 4, (60, 80)).astype(np.int32) * 70_000
    assert (halved(labels) == _levels(labels, 2)[1]).all()


def test_round_trip(tmp_path: Path, rng: np.random.Generator, class_table: ClassTable) -> None:
    labels = _blobs(rng, SHAPE)
    about = {"slide": "abc", "settings": {"threshold": 0.5}}
    store = LabelStore.create(
        tmp_path / "a.zarr", SHAPE, mpp=0.25, classes=class_table, about=about, chunk_px=256
    )
    store.write(Region.of(SHAPE), labels)
    again = LabelStore.open(tmp_path / "a.zarr", about=about)
    assert (again.shape_yx, again.mpp, again.chunk_px) == (SHAPE, 0.25, 256)
    assert (again.classes, again.about, again.dtype) == (class_table, about, np.uint8)
    assert again.level_shapes == ((1501, 2111), (750, 1055), (375, 527), (187, 263))
    for level, wanted in enumerate(_levels(labels, 4)):
        assert (again.pyramid()[level].compute() == wanted).all()
    region = Region(-3, 2000, 700, 400)
    wanted = np.zeros(region.shape_yx, np.uint8)
    wanted[3:, :111] = labels[:697, 2000:]
    assert (again.read(region) == wanted).all()
    assert again.read(region, level=2).shape == (175, 100)
    assert not again.read(Region(5000, 5000, 8, 8)).any()
    # Any other program finds names, colours and levels where NGFF has them.
    root = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert root["labels"].attrs["ome"]["labels"] == ["classes"]
    group = root["labels/classes"]
    assert (group["0"][:] == labels).all()
    ome = group.attrs["ome"]
    assert [p["name"] for p in ome["image-label"]["properties"]] == ["gland", "stroma"]
    assert [len(ome["multiscales"][0][k]) for k in ("axes", "datasets")] == [2, 4]


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (511, 513), (1025, 2049)])
def test_odd_sizes(tmp_path: Path, rng: np.random.Generator, shape: tuple[int, int]) -> None:
    store = LabelStore.create(tmp_path / "a.zarr", shape, dtype=np.int32, name="objects")
    labels = rng.integers(0, 3, shape).astype(np.int32) * 100_000
    store.write_base(Region.of(shape), labels)
    store.update_overviews()
    assert store.chunk_px == min(1024, max(shape))
    assert max(store.level_shapes[-1]) <= COARSEST_PX or min(store.level_shapes[-1]) == 1
    for level, wanted in enumerate(_levels(labels, len(store.level_shapes))):
        assert (store.pyramid()[level].compute() == wanted).all()


def test_a_small_change_reaches_every_level(tmp_path: Path, rng: np.random.Generator) -> None:
    labels = _blobs(rng, SHAPE)
    store = LabelStore.create(tmp_path / "a.zarr", SHAPE, chunk_px=128)
    store.write(Region.of(SHAPE), labels)
    for y, x, h, w in ((0, 0, 1, 1), (700, 333, 77, 401), (1500, 2110, 1, 1), (901, 0, 300, 2111)):
        piece = rng.integers(3, 6, (h, w)).astype(np.uint8)
        store.write(Region(y, x, h, w), piece)
        labels[y : y + h, x : x + w] = piece
    for level, wanted in enumerate(_levels(labels, 4)):
        assert (store.pyramid()[level].compute() == wanted).all()
    # What is erased leaves no file behind.
    store.write(Region.of(SHAPE), np.zeros(SHAPE, np.uint8))
    assert not list((tmp_path / "a.zarr").rglob("c/*/*"))


def test_overviews_of_a_region(tmp_path: Path) -> None:
    store = LabelStore.create(tmp_path / "a.zarr", (4096, 4096), chunk_px=512)
    ones = np.ones((512, 512), np.uint8)
    for y, x in ((0, 0), (3584, 3584)):
        store.write_base(Region(y, x, 512, 512), ones)
    assert not store.read(Region.of(store.shape_yx), 3).any()
    store.update_overviews(Region(0, 0, 512, 512))
    assert store.read(Region.of(store.shape_yx), 3).sum() == 64**2
    store.update_overviews()
    assert store.read(Region.of(store.shape_yx), 3).sum() == 2 * 64**2
    store.write_base(Region(0, 0, 512, 512), 0 * ones)
    store.update_overviews()
    assert store.read(Region.of(store.shape_yx), 3).sum() == 64**2


def test_only_whole_chunks_inside_and_ids_that_fit(tmp_path: Path) -> None:
    store = LabelStore.create(tmp_path / "a.zarr", (1000, 1000), chunk_px=256)
    for region in (Region(0, 0, 255, 256), Region(1, 0, 256, 256)):
        with pytest.raises(ValueError, match="whole chunks"):
            store.write_base(region, np.zeros(region.shape_yx, np.uint8))
    with pytest.raises(ValueError, match="not inside"):
        store.write(Region(-1, 0, 4, 4), np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="300"):
        store.write(Region(0, 0, 4, 4), np.full((4, 4), 300))
    store.write_base(Region(768, 768, 232, 232), np.full((232, 232), 7))
    assert store.read(Region(999, 999, 1, 1)) == 7


def test_several_processes_write_their_own_chunks(tmp_path: Path) -> None:
    store = LabelStore.create(tmp_path / "a.zarr", (1024, 1024), chunk_px=128)
    grid = np.add.outer(np.arange(8), np.arange(8)) + 1
    rows = [np.kron(line, np.ones((128, 128), np.uint8)) for line in grid]
    places = [Region(128 * y, 0, 128, 1024) for y in range(8)]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(store.write_base, places, rows))
    store.update_overviews()
    assert (store.read(Region.of((1024, 1024))) == np.kron(grid, np.ones((128, 128)))).all()
    assert (store.read(Region.of((1024, 1024)), 1) == np.kron(grid, np.ones((64, 64)))).all()


KILLED = """
import sys
import numpy as np
from napari_pathsam.core.geometry import Region
from napari_pathsam.io.label_store import LabelStore
store = LabelStore.open(sys.argv[1], writable=True)
rng = np.random.default_rng(0)
noise = rng.integers(0, 200, (1024, 1024), np.uint8)
print("ready", flush=True)
for n in range(10**9):
    chunk = noise.copy()
    chunk[0, 0], chunk[-1, -1] = n % 200, n % 200
    store.write_base(Region(0, 0, 1024, 1024), chunk)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_killed_in_mid_write(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "a.zarr"
    store = LabelStore.create(path, (1024, 2048))
    store.write(Region(0, 1024, 1024, 1024), np.full((1024, 1024), 9))
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(float(rng.uniform(0.02, 0.3)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        chunk = store.read(Region(0, 0, 1024, 1024))
        assert chunk[0, 0] == chunk[-1, -1]
    left = path / "labels" / "classes" / "0" / "c" / "0" / "0.0123abcd.partial"
    left.write_bytes(b"half")
    again = LabelStore.open(path, writable=True)
    pickle.loads(pickle.dumps(store))
    assert left.exists()  # another process may be writing it
    again.tidy()
    assert not left.exists()
    assert (again.read(Region(0, 1024, 1024, 1024)) == 9).all()


def test_labels_of_another_slide_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    LabelStore.create(path, (64, 64), about={"slide": "abc", "model": "nano"})
    with pytest.raises(BadFileError, match='“slide” is "abc" there and "xyz" here'):
        LabelStore.open(path, writable=True, about={"slide": "xyz"})
    assert LabelStore.open(path, about={"slide": "abc"}).about["model"] == "nano"
    with pytest.raises(BadFileError, match="already"):
        LabelStore.create(path, (64, 64))
    with pytest.raises(BadFileError, match="64 × 64"):
        LabelStore.create(path, (32, 64), name="objects")
    LabelStore.create(path, (64, 64), name="objects", dtype=np.int32)
    with pytest.raises(BadFileError, match="it has classes, objects"):
        LabelStore.open(path, "nuclei")
    with pytest.raises(BadFileError, match="nor any others"):
        LabelStore.open(tmp_path / "none.zarr")
    with pytest.raises(BadFileError, match="could not be written"):
        LabelStore.create(tmp_path / "no" / "such.zarr", (64, 64))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr"]


def test_labels_of_another_program(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "b.zarr" / "labels" / "cells", mode="w", zarr_format=3)
    for level, side in enumerate((101, 51)):  # rounded up
        group.create_array(str(level), data=np.full((side, side), 2, np.uint16), chunks=(64, 64))
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    scale = [{"type": "scale", "scale": [0.5, 0.5]}]
    sets = [{"path": str(n), "coordinateTransformations": scale} for n in range(2)]
    label = {"colors": [{"label-value": 2, "rgba": [255, 0, 0, 128]}]}
    scales = [{"axes": axes, "datasets": sets}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": scales, "image-label": label}
    store = LabelStore.open(tmp_path / "b.zarr", "cells")
    assert (store.read(Region(99, 99, 4, 4)) == [[2, 2, 0, 0]] * 2 + [[0] * 4] * 2).all()
    assert (store.mpp, store.dtype) == (0.5, np.uint16)
    assert store.classes is not None
    assert (store.classes[2].name, store.classes[2].color) == ("class 2", "#ff0000")
    with pytest.raises(BadFileError, match="read only"):
        LabelStore.open(tmp_path / "b.zarr", "cells", writable=True)


@pytest.mark.parametrize(
    ("how", "known"),
    [
        ({}, True),
        ({"shards": (64, 64)}, False),
        ({"fill_value": 3}, False),
        ({"chunk_key_encoding": {"name": "v2", "separator": "/"}}, False),
        ({"chunk_key_encoding": {"name": "default", "separator": "."}}, False),
    ],
)
def test_what_is_empty_is_known_of_common_stores_only(
    tmp_path: Path, how: dict[str, Any], known: bool
) -> None:
    path = tmp_path / "c.zarr"
    store = LabelStore.create(path, (128, 128), chunk_px=32)
    group = zarr.open_group(path / "labels" / "classes", mode="r+")
    like: dict[str, Any] = {"shape": (128, 128), "chunks": (32, 32), "dtype": "u1"}
    group.create_array("0", overwrite=True, **like, **how)[:32, :32] = 1
    store = LabelStore.open(path)
    assert store.holds(Region(0, 0, 40, 40))
    assert store.holds(Region(64, 64, 64, 64)) == (not known)


def test_damage_is_told(tmp_path: Path, class_table: ClassTable) -> None:
    path = tmp_path / "a.zarr"
    store = LabelStore.create(path, (600, 600), classes=class_table)
    store.write(Region(0, 0, 600, 600), np.ones((600, 600), np.uint8))
    store.describe(ClassTable.of("tumour"))
    assert LabelStore.open(path).classes == ClassTable.of("tumour")
    chunk = path / "labels" / "classes" / "0" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:10])
    with pytest.raises(BadFileError, match="damaged"):
        store.read(Region(0, 0, 10, 10))
    (path / "labels" / "classes" / "zarr.json").write_text("{")
    with pytest.raises(BadFileError, match="damaged"):
        LabelStore.open(path)


def test_what_is_made_out_of_sight_outlives_another_writer(tmp_path: Path) -> None:
    """Two windows on one slide; and what a killed one left behind goes."""
    path, shape = tmp_path / "run.zarr", (300, 500)
    LabelStore.create(path, shape)
    left = path / ".run.zarr.0123abcd.part"
    left.mkdir()
    ids = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    with LabelStore.remaking(path, shape, name="objects") as objects:
        objects.write(Region.of(shape), ids)
        LabelStore.open(path, writable=True).tidy()
        assert not left.exists()
    found = LabelStore.open(path, "objects").read(Region.of(shape))
    np.testing.assert_array_equal(found, ids)
    assert sorted(p.name for p in path.glob(".*")) == []
    with (
        pytest.raises(BadFileError, match="Do it once more"),
        LabelStore.remaking(path, shape, name="other") as other,
    ):
        shutil.rmtree(other.path)
