"""What goes wrong in mid-run: one readable error, nothing half-written, and the run goes on."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from napari_pathsam.core.errors import BadFileError, BadImageError, UnavailableError
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.distributed import distributed_tiles
from napari_pathsam.inference.slide import segment_slide
from napari_pathsam.inference.slide_job import prepare_slide
from napari_pathsam.inference.slide_objects import write_objects
from napari_pathsam.inference.working_grid import RegionWarning
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.object_classes import OBJECTS
from napari_pathsam.io.slides import ArraySlide, open_slide
from napari_pathsam.models.pathsam import PathSam

SHAPE = (300, 420)
ABOUT: dict[str, Any] = {"mpp": 0.5, "tissue": False, "chunk_px": 64, "uncertainty": True}


@pytest.fixture
def pixels(rng: np.random.Generator) -> np.ndarray:
    smooth = ndimage.gaussian_filter(rng.normal(size=(*SHAPE, 3)), (6, 6, 0)) * 500
    return np.clip(smooth + np.array([190, 110, 170]), 0, 255).astype(np.uint8)


@pytest.fixture
def file(pixels: np.ndarray, tmp_path: Path) -> Path:
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, pixels, tile=(64, 64), photometric="rgb", metadata=None)
    return path


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks, so that there is a middle of the run."""
    monkeypatch.setattr("napari_pathsam.inference.slide_plan.OVERLAP", 0.25)
    monkeypatch.setattr("napari_pathsam.inference.slide_plan.STRIDES", 1)


def labels(path: Path) -> list[np.ndarray]:
    stores = [LabelStore.open(path, name) for name in ("classes", "uncertainty")]
    return [np.asarray(level) for store in stores for level in store.pyramid()]


def rubbish(path: Path) -> list[Path]:
    return [p for p in path.parent.rglob("*") if p.name.endswith((".partial", ".part"))]


class Disk:
    """A disk that is full after so many files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = 10**9
        put = Path.replace

        def replace(path: Path, target: Path) -> Path:
            if self.room <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            self.room -= 1
            return put(path, target)

        monkeypatch.setattr(Path, "replace", replace)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.mark.slow
def test_a_full_disk(tiny_pathsam: PathSam, pixels: np.ndarray, disk: Disk, tmp_path: Path) -> None:
    slide, path, whole = ArraySlide(pixels, name="blobs"), tmp_path / "o.zarr", tmp_path / "w.zarr"
    total = len([*segment_slide(tiny_pathsam, slide, store=whole, **ABOUT)])
    disk.room = 3
    with pytest.raises(BadFileError, match=r"(?s)o\.zarr could not be written.*No space left"):
        segment_slide(tiny_pathsam, slide, store=path, **ABOUT)
    assert not path.exists()  # not even an empty one
    assert not rubbish(path)
    for room in (30, 15, 20):
        disk.room = room
        with pytest.raises(
            BadFileError, match=r"No space left.*free some space.*once more in the same"
        ):
            [*segment_slide(tiny_pathsam, slide, store=path, resume=True, **ABOUT)]
    disk.room = 10**9
    rest = [*segment_slide(tiny_pathsam, slide, store=path, resume=True, **ABOUT)]
    assert not rubbish(path)  # what other chunks were writing when one failed is taken away
    assert 0 < len(rest) < total
    assert all((a == b).all() for a, b in zip(labels(path), labels(whole), strict=True))
    # Objects are all there, or none.
    store = LabelStore.open(path)
    disk.room = 12
    with pytest.raises(BadFileError, match="No space left"):
        [*write_objects(store)]
    assert not (path / "labels" / OBJECTS).exists()
    assert not rubbish(path)
    disk.room = 10**9
    assert [*write_objects(store)][-1].done
    assert LabelStore.open(path, OBJECTS).read(Region.of(SHAPE)).any()


@pytest.mark.parametrize("how", ["cut off", "gone"])
@pytest.mark.slow
def test_a_slide_that_disappears(
    tiny_pathsam: PathSam, file: Path, slide_files: ModuleType, tmp_path: Path, how: str
) -> None:
    """A TIFF that is cut off; a folder of tiles that is moved away (an open file could be read)."""
    slide = file if how == "cut off" else slide_files.ngff(tmp_path, "0.5")
    whole, path, kept = tmp_path / "w.zarr", tmp_path / "o.zarr", tmp_path / "kept"
    total = len([*segment_slide(tiny_pathsam, open_slide(slide), store=whole, **ABOUT)])
    run = segment_slide(tiny_pathsam, open_slide(slide), store=path, **ABOUT)
    next(run)
    if how == "gone":
        slide.rename(kept)
    else:
        shutil.copy(slide, kept)
        os.truncate(slide, 2000)
    with pytest.raises(BadFileError, match=f"{slide.name} is gone"):
        list(run)
    assert not rubbish(path)
    kept.rename(slide)
    rest = [*segment_slide(tiny_pathsam, open_slide(slide), store=path, resume=True, **ABOUT)]
    assert 0 < len(rest) < total
    assert all((a == b).all() for a, b in zip(labels(path), labels(whole), strict=True))


@pytest.mark.filterwarnings("ignore")  # of Dask, about what is lost
def test_a_cluster_that_goes_away(
    tiny_pathsam: PathSam, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dask = pytest.importorskip("distributed")
    config = pytest.importorskip("dask.config")
    monkeypatch.setattr("napari_pathsam.inference.slide_tasks.LARGEST_SIDE", 1)  # many tasks
    path = tmp_path / "o.zarr"
    job = prepare_slide(tiny_pathsam, open_slide(file), store=path, **ABOUT)
    with (
        config.set({"distributed.comm.timeouts.connect": "1s"}),
        dask.LocalCluster(1, processes=False, threads_per_worker=1, dashboard_address=None) as here,
        dask.Client(here, timeout=2) as client,
    ):
        run = distributed_tiles(job, client)
        next(run)
        here.sync(here.scheduler.close)
        with pytest.raises(UnavailableError, match=r"cluster is gone.*--resume"):
            list(run)
    rest = [*segment_slide(tiny_pathsam, open_slide(file), store=path, resume=True, **ABOUT)]
    assert 0 < len(rest) < len(job.plan.blocks)


def test_regions_and_sizes_that_cannot_be(
    tiny_pathsam: PathSam, pixels: np.ndarray, tmp_path: Path
) -> None:
    slide, path = ArraySlide(pixels, mpp=0.5, name="blobs"), tmp_path / "o.zarr"
    for region in (Region(-500, -500, 20, 20), Region(10**9, 0, 5, 5), Region(0, -90, 50, 90)):
        with pytest.raises(BadImageError, match=r"outside blobs, which has 300 × 420 pixels"):
            segment_slide(tiny_pathsam, slide, store=path, region=region)
    for mpp in (-1.0, float("nan"), float("inf"), 1e9):
        with pytest.raises(BadImageError, match="pixel"):
            segment_slide(tiny_pathsam, slide, store=path, mpp=mpp)
    assert not path.exists()
    # Of a region that is larger than the slide, what is there is done, and that is said.
    huge = Region(-(10**7), -(10**7), 10**9, 10**9)
    with pytest.warns(RegionWarning, match="only rows 0 to 300, columns 0 to 420"):
        tiles = [*segment_slide(tiny_pathsam, slide, tissue=False, region=huge, chunk_px=128)]
    assert sum(t.region.height * t.region.width for t in tiles) == pixels[..., 0].size


def test_two_at_once_are_refused_and_the_first_is_undisturbed(
    tiny_pathsam: PathSam, pixels: np.ndarray, tmp_path: Path
) -> None:
    slide, path = ArraySlide(pixels, mpp=0.5, name="a"), tmp_path / "a.zarr"
    first = segment_slide(tiny_pathsam, slide, store=path, **ABOUT)
    done = next(first).done
    second = segment_slide(tiny_pathsam, slide, store=path, resume=True, **ABOUT)
    with pytest.raises(BadFileError, match="is segmenting into"):
        next(second)
    first.close()
    again = segment_slide(tiny_pathsam, slide, store=path, resume=True, **ABOUT)
    assert next(again).done > done
    again.close()
