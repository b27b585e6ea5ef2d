"""A million objects from a label store to GeoJSON and back: peak memory, size, processor time.

``python benchmarks/store_geojson.py --objects 1000000``; each step runs in a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.store_geojson import read_store_geojson, write_store_geojson

PITCH = 16
CHUNK = 1024


def make(path: Path, n: int) -> None:
    """Discs with a hole in every tenth, two classes by turns, 16 pixels apart."""
    side = int(np.ceil(np.sqrt(n)))
    size = -(-side * PITCH // CHUNK) * CHUNK
    yy, xx = np.indices((PITCH, PITCH)) - PITCH / 2 + 0.5
    radius = np.hypot(yy, xx)
    disc = radius < 6.5
    stores = [
        LabelStore.create(path, (size, size), mpp=0.25, classes=ClassTable.of("a", "b"),
                          dtype=dtype, name=name, chunk_px=CHUNK)
        for name, dtype in (("objects", np.int32), ("classes", np.uint8))
    ]  # fmt: skip
    per = CHUNK // PITCH
    for y in range(0, size, CHUNK):
        for x in range(0, size, CHUNK):
            rows = np.arange(per)[:, None] + y // PITCH
            columns = np.arange(per)[None] + x // PITCH
            ids = rows * side + columns + 1
            ids = np.where((rows < side) & (columns < side) & (ids <= n), ids, 0)
            ids = ids.repeat(PITCH, 0).repeat(PITCH, 1)
            holes = np.tile(radius < 2.5, (per, per)) & (ids % 10 == 0)
            labels = np.where(np.tile(disc, (per, per)) & ~holes, ids, 0).astype(np.int32)
            at = Region(y, x, CHUNK, CHUNK)
            stores[0].write_base(at, labels)
            stores[1].write_base(at, np.where(labels > 0, 1 + labels % 2, 0).astype(np.uint8))


def step(name: str, folder: Path, n: int) -> None:
    """One step, measured."""
    began = time.process_time()
    store, text = folder / "run.zarr", folder / "objects.geojson"
    if name == "make":
        make(store, n)
    elif name == "write":
        *_, found = write_store_geojson(
            text, LabelStore.open(store, "objects"), LabelStore.open(store, "classes")
        )
        assert found == n, found
    else:
        for _ in read_store_geojson(text, folder / "back.zarr"):
            pass
        for kind in ("objects", "classes"):
            a, b = LabelStore.open(store, kind), LabelStore.open(folder / "back.zarr", kind)
            for y in range(0, a.shape_yx[0], CHUNK):
                band = Region(y, 0, CHUNK, a.shape_yx[1])
                assert (a.read(band) == b.read(band)).all()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = text.stat().st_size / 1e6 if text.exists() else 0
    print(f"{name}: {time.process_time() - began:.0f} s of processor time, peak {peak:.0f} MB, "
          f"file {size:.0f} MB", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--step")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.step:
        step(given.step, given.folder, given.objects)
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in ("make", "write", "read"):
            subprocess.run(
                [sys.executable, __file__, "--step", name, "--folder", folder,
                 "--objects", str(given.objects)], check=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
