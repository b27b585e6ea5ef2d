"""The same blocks as tasks of Dask: on the processors of one machine, or on a cluster.

A worker opens the slide by its path, runs blocks that lie side by side, writes their chunks and
tells of each; the coarser levels and the record have one writer, the process that asked. A block
depends on no other, so a worker that is lost costs the block it was at, and changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from napari_pathsam.core.errors import BadFileError, UnavailableError
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.slide import SlideProgress, SlideTile
from napari_pathsam.inference.slide_block import Block, run_block
from napari_pathsam.inference.slide_job import RECORD, SlideJob
from napari_pathsam.inference.slide_record import recorded
from napari_pathsam.inference.slide_tasks import slide_tasks
from napari_pathsam.inference.windows import Windows
from napari_pathsam.io.label_store import LabelStore

if TYPE_CHECKING:
    from napari_pathsam.inference.slide_plan import SlidePlan

RETRIES = 3
"""How often a task is tried again after an error; a lost worker is no error."""
CONNECT_S = 10


@dataclass(frozen=True)
class BlockWork:
    """What a worker is told of a slide; the model comes beside it."""

    token: str
    slide: str
    identity: str
    plan: SlidePlan
    names: tuple[str, ...]
    ids: Any
    store: str
    batch: int


@contextmanager
def dask_client(*, workers: int = 0, scheduler: str | None = None) -> Iterator[Any]:
    """A client of a running scheduler, or of so many processes on this machine.

    Raises
    ------
    UnavailableError
        ``distributed`` is not installed, or the scheduler cannot be reached.
    """
    try:
        dask: Any = import_module("distributed")
    except ImportError as error:
        raise UnavailableError(
            "Dask's `distributed` is not installed, and --workers and --scheduler need it: "
            'pip install "napari-pathsam[distributed]".'
        ) from error
    if scheduler is None:
        one_each = {"threads_per_worker": 1, "dashboard_address": None}
        # A busy machine takes its time to start a worker again; 15 s later it would be given up.
        patient = {"distributed.deploy.lost-worker-timeout": "1h"}
        with (
            import_module("dask.config").set(patient),
            dask.LocalCluster(n_workers=workers, **one_each) as cluster,
            dask.Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = dask.Client(scheduler, timeout=CONNECT_S)
    except (OSError, ValueError, TimeoutError) as error:
        raise UnavailableError(
            f"No Dask scheduler answers at {scheduler} ({' '.join(str(error).split())[:120]}). "
            "Start one with `dask scheduler` and workers with `dask worker ADDRESS`, and give the "
            "address it says, such as tcp://10.0.0.5:8786."
        ) from error
    with client:
        yield client


def distributed_tiles(
    job: SlideJob, client: Any, *, first: Region | None = None
) -> Generator[SlideTile, None, None]:
    """Do a job on a cluster; the tiles come as they are finished, and are those of one process.

    Slide and label pyramid must lie where the workers find them by the same path.

    Raises
    ------
    BadFileError
        The slide is not a file, or is another one where a worker looks; the job writes nothing.
    UnavailableError
        The cluster goes away in mid-run.
    """
    path = getattr(job.slide, "path", None)
    if job.run is None or path is None:
        raise BadFileError(
            f"{job.slide.name} cannot be shared between processes: the slide must be a file, and "
            "the result a .zarr, that all of them see."
        )
    with job.run.working():
        yield from _tiles_of_tasks(job, _work(job, Path(path)), client, first)


def _tiles_of_tasks(
    job: SlideJob, work: BlockWork, client: Any, first: Region | None
) -> Generator[SlideTile, None, None]:
    assert job.run is not None
    dask: Any = import_module("distributed")
    tasks = slide_tasks(job.plan, job.todo(first), workers_of(client))
    progress = SlideProgress(job, tasks, workers=workers_of(client))
    left = {number for numbers in tasks for number in numbers}
    told: SimpleQueue[Any] = SimpleQueue()
    client.subscribe_topic(work.token, told.put)
    futures = []
    try:
        with _cluster_errors(dask):
            model = _sent(_portable(job.model), client, dask)
            name = f"segment {job.slide.name}".replace("-", "_")
            for place, numbers in enumerate(tasks):
                at = job.plan.blocks[numbers[0]]
                key = (f"{name}-{work.token}", at.y, at.x)  # the dashboard groups them by the name
                futures.append(client.submit(
                    run_task, work, model, numbers, key=key, priority=-place, retries=RETRIES,
                    pure=False,
                ))  # fmt: skip
        for block in _blocks_of(futures, told, dask):
            if block.number not in left:
                continue
            left.remove(block.number)
            job.run.write(block, base=False)
            maps: Any = {name: s.read(block.region) for name, s in job.run.stores.items()}
            progress.time.worked_out(block.number)
            yield progress.finished(replace(block, maps=maps))
        job.run.record.finish()
    finally:
        if client.status == "running":
            client.unsubscribe_topic(work.token)
            client.cancel(futures)


def _sent(model: Any, client: Any, dask: Any) -> Any:
    """The model as a result of the cluster's, on every worker that is there.

    Unlike what is scattered it is made again where all who held it are lost: jobs of a cluster end
    by the clock, and others begin.
    """
    large = {"distributed.admin.large-graph-warning-threshold": "16GB"}  # it is sent but once
    with import_module("dask.config").set(large):
        sent = client.submit(bytes, pickle.dumps(model), pure=False)
    dask.wait(sent)
    client.replicate([sent])
    return sent


def _blocks_of(futures: Sequence[Any], told: SimpleQueue[Any], dask: Any) -> Iterator[Block]:
    """Blocks as workers tell of them; a task that is finished tells of its own once more."""
    for future in futures:
        future.add_done_callback(told.put)
    waiting = len(futures)
    while waiting:
        try:
            one = told.get(timeout=0.5)  # Windows hears Ctrl-C only between
        except Empty:
            continue
        if isinstance(one, tuple):  # when, and what was told
            yield pickle.loads(one[1])
            continue
        waiting -= 1
        with _cluster_errors(dask):
            blocks: list[Block] = one.result()
        one.release()
        yield from blocks


def workers_of(client: Any) -> int:
    """Processes that a client's cluster has now."""
    return max(1, len(client.ncores()))


def wait_for_workers(client: Any, wanted: int) -> None:
    """Until so many are there; jobs of a cluster begin when it has room for them.

    Raises
    ------
    UnavailableError
        The scheduler goes away meanwhile.
    """
    with _cluster_errors(import_module("distributed")):
        client.wait_for_workers(wanted)


@contextmanager
def _cluster_errors(dask: Any) -> Iterator[None]:
    """What a cluster throws when it goes away, in words."""
    lost = (dask.client.FutureCancelledError, dask.comm.CommClosedError, CancelledError)
    try:
        yield
    except dask.KilledWorker as error:
        raise UnavailableError(
            "A part of the slide ended several workers of the cluster one after the other, most "
            "likely because their memory is too small: give each 4 GB. What is finished is kept: "
            "go on with --resume."
        ) from error
    except lost as error:
        raise UnavailableError(
            "The Dask cluster is gone: its scheduler does not answer any more. What is finished "
            "is kept: start the cluster again, and go on with --resume."
        ) from error


def _work(job: SlideJob, path: Path) -> BlockWork:
    assert job.run is not None
    store = job.run.stores["classes"]
    told = json.dumps([str(path), str(store.path), store.about], sort_keys=True)
    return BlockWork(
        token=hashlib.blake2b(told.encode(), digest_size=6).hexdigest(),
        slide=str(path.resolve()),
        identity=str(getattr(job.slide, "identity", "")),
        plan=job.plan,
        names=job.names,
        ids=job.ids,
        store=str(store.path.resolve()),
        batch=job.batch,
    )


def _portable(model: Any) -> Any:
    """A copy of the model on the CPU, to be sent."""
    from copy import deepcopy

    return deepcopy(model).cpu()


# --- on a worker ---------------------------------------------------------------------------------

_open: dict[str, tuple[Windows, dict[str, LabelStore]]] = {}
_lock = threading.Lock()


def run_task(work: BlockWork, model: bytes, numbers: Sequence[int]) -> list[Block]:
    """Run some blocks, write them and tell of each; the blocks without their pixels.

    Windows that two of them share are run once, as far as their logits can be kept. What another
    worker has told of, lost since or left over from a run that was killed, is not done again.
    """
    tell = import_module("distributed").get_worker().log_event
    done = []
    with _lock:  # one block at a time: the model has all of the worker's cores
        windows, stores = _opened(work, model)
        record = Path(work.store) / "labels" / "classes" / RECORD
        for number in numbers:
            if number in recorded(record):
                continue
            block = run_block(work.plan, windows, number, ids=work.ids, names=work.names)
            for name, store in stores.items():
                store.write_base(block.region, block.maps[name])
            done.append(replace(block, maps={}))
            tell(work.token, pickle.dumps(done[-1]))
    return done


def _opened(work: BlockWork, packed: bytes) -> tuple[Windows, dict[str, LabelStore]]:
    """The slide's windows and label pyramids; kept while blocks of the same run come."""
    if work.token not in _open:
        import torch

        from napari_pathsam.io.slides import open_slide

        for windows, _ in _open.values():
            windows.close()
        _open.clear()
        slide = open_slide(work.slide, icc=work.identity.endswith("-srgb"))
        if slide.identity != work.identity:
            raise BadFileError(
                f"{work.slide} is another slide on this worker than where the run was started. "
                "The workers must see the same files by the same paths."
            )
        model = pickle.loads(packed)  # what the process that asked has just sent
        if torch.cuda.is_available():
            model.to("cuda")
        stores = {name: LabelStore.open(work.store, name, writable=True) for name in work.names}
        views = work.plan.settings.views
        windows = Windows(model, slide, work.plan.grid, batch=work.batch, views=views)
        _open[work.token] = windows, stores
    return _open[work.token]
