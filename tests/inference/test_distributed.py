"""Blocks as Dask tasks: workers are killed in mid-run, and the labels are those of one process."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from threading import Timer
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from napari_pathsam.core.errors import BadFileError, UnavailableError
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.class_maps import SegmentSettings
from napari_pathsam.inference.distributed import (
    _work,
    dask_client,
    distributed_tiles,
    run_task,
)
from napari_pathsam.inference.slide import segment_slide
from napari_pathsam.inference.slide_job import prepare_slide
from napari_pathsam.inference.slide_tasks import slide_tasks
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.slides import ArraySlide, open_slide
from napari_pathsam.models.pathsam import PathSam

pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of Dask, about the worker that was lost


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    smooth = ndimage.gaussian_filter(rng.normal(size=(420, 600, 3)), (6, 6, 0)) * 500
    image = np.clip(smooth + np.array([190, 110, 170]), 0, 255).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "blobs.png")
    return tmp_path / "blobs.png"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many as a worker computes with: it decides the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@contextmanager
def threads(n_workers: int = 1) -> Iterator[Any]:
    """A client of a cluster in this process."""
    dask: Any = import_module("distributed")
    one = {"processes": False, "threads_per_worker": 1, "dashboard_address": None}
    with (
        dask.LocalCluster(n_workers=n_workers, **one) as cluster,
        dask.Client(cluster, timeout=30) as client,
    ):
        yield client


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.timeout(900)  # three processes import torch, perhaps on a busy machine
def test_all_workers_killed_in_mid_run_change_nothing(
    tiny_pathsam: PathSam, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_pathsam.inference.slide_tasks.LARGEST_SIDE", 2)
    slide = open_slide(path)
    about = {"mpp": 0.5, "tissue": False, "chunk_px": 32, "uncertainty": True,
             "settings": SegmentSettings()}  # fmt: skip
    alone = [*segment_slide(tiny_pathsam, slide, store=tmp_path / "alone.zarr", **about)]
    job = prepare_slide(tiny_pathsam, slide, store=tmp_path / "shared.zarr", **about)
    tasks = slide_tasks(job.plan, job.todo(None), 2)
    assert 4 <= len(tasks) < len(alone)
    with dask_client(workers=2) as client:
        before = client.run(os.getpid)
        tiles = distributed_tiles(job, client)
        found = [next(tiles)]
        for worker in before.values():
            os.kill(worker, getattr(signal, "SIGKILL", signal.SIGTERM))
        found += tiles
        assert not {*before.values()} & {*client.run(os.getpid).values()}
    assert sorted(t.done for t in found) == [*range(1, len(alone) + 1)]
    assert len(alone) >= 4
    assert {t.region for t in found} == {t.region for t in alone}
    one, other = (LabelStore.open(tmp_path / name) for name in ("alone.zarr", "shared.zarr"))
    for level in range(len(one.level_shapes)):
        pyramid = [np.asarray(store.pyramid()[level]) for store in (one, other)]
        assert (pyramid[0] == pyramid[1]).all()
    lines = (tmp_path / "shared.zarr/labels/classes/pathsam-run.jsonl").read_text()
    assert lines.count('"block"') == len(alone)


def test_blocks_are_told_one_by_one_and_not_done_again(
    tiny_pathsam: PathSam, path: Path, tmp_path: Path
) -> None:
    """A task that begins anew does what nobody has recorded."""
    job = prepare_slide(tiny_pathsam, open_slide(path), store=tmp_path / "o.zarr", mpp=0.5,
                        tissue=False, chunk_px=32)  # fmt: skip
    assert job.run is not None
    with threads() as client:
        work, model = _work(job, path), pickle.dumps(tiny_pathsam)
        told: SimpleQueue[Any] = SimpleQueue()
        client.subscribe_topic(work.token, told.put)
        numbers = job.todo(None)[:3]
        (first,) = client.submit(run_task, work, model, numbers[:1], pure=False).result()
        job.run.write(first, base=False)
        rest = client.submit(run_task, work, model, numbers, pure=False).result()
        heard = [pickle.loads(told.get(timeout=30)[1]) for _ in numbers]
    assert [block.number for block in rest] == numbers[1:]
    assert heard == [first, *rest]


def test_a_run_waits_for_workers_that_begin_later(
    tiny_pathsam: PathSam, path: Path, tmp_path: Path
) -> None:
    job = prepare_slide(tiny_pathsam, open_slide(path), store=tmp_path / "o.zarr", mpp=0.5,
                        tissue=False, region=Region(0, 0, 60, 60))  # fmt: skip
    with threads(n_workers=0) as client:
        later = Timer(5, client.cluster.scale, [1])
        later.start()
        assert [tile.done for tile in distributed_tiles(job, client)] == [1]
        later.join()


def test_what_workers_cannot_see_is_refused(tiny_pathsam: PathSam, tmp_path: Path) -> None:
    slide = ArraySlide(np.zeros((200, 200, 3), np.uint8), mpp=0.5)
    job = prepare_slide(tiny_pathsam, slide, store=tmp_path / "o.zarr", tissue=False)
    with pytest.raises(BadFileError, match="must be a file"):
        next(distributed_tiles(job, client=None))


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_pathsam.inference.distributed.CONNECT_S", 0.3)
    address = "tcp://127.0.0.1:9"
    with pytest.raises(UnavailableError, match=address), dask_client(scheduler=address):
        pass
