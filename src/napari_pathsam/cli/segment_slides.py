"""Slides of any size: an estimate, the run into a label pyramid, and what there is to say of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pathsam.cli.console import ERR, OUT, progress
from napari_pathsam.core.duration import duration

if TYPE_CHECKING:
    from napari_pathsam.cli.segment_images import Wish
    from napari_pathsam.core.areas import AreaTable
    from napari_pathsam.core.geometry import Region
    from napari_pathsam.inference.class_maps import SegmentSettings
    from napari_pathsam.inference.slide_job import SlideJob
    from napari_pathsam.io.label_store import LabelStore
    from napari_pathsam.io.slides import Slide


@dataclass(frozen=True)
class SlideWish:
    """What is wanted of slides only."""

    tissue: bool = True
    uncertainty: bool = False
    resume: bool = False
    workers: int = 0
    scheduler: str | None = None

    def needs_zarr(self, settings: SegmentSettings) -> bool:
        """Whether only a label pyramid will do."""
        return bool(
            self.uncertainty or self.resume or self.workers or self.scheduler
            or settings.keep_probabilities
        )  # fmt: skip


def fits_memory(slide: Slide, region: Region | None) -> bool:
    """Whether an image, or the wanted part of it, can be segmented in memory."""
    from napari_pathsam.core.geometry import Region
    from napari_pathsam.inference.class_maps import LARGEST_PX

    whole = Region.of(slide.shape_yx)
    wanted = (region or whole).intersection(whole)
    return wanted is None or wanted.height * wanted.width <= LARGEST_PX


def segment_to_store(
    model: Any,
    slide: Slide,
    paths: Sequence[Path],
    wish: Wish,
    slides: SlideWish,
    *,
    again: bool = False,
) -> AreaTable:
    """Segment a slide into a label pyramid; its areas. ``again``: go on with a failed attempt."""
    from napari_pathsam.cli.segment_images import warn
    from napari_pathsam.core.errors import BadImageError
    from napari_pathsam.inference.distributed import distributed_tiles, workers_of
    from napari_pathsam.inference.slide import slide_tiles
    from napari_pathsam.inference.slide_job import prepare_slide

    (path,) = paths if len(paths) == 1 else (Path(),)
    if path.suffix.lower() != ".zarr" or wish.sharpen:
        height, width = slide.shape_yx
        raise BadImageError(
            f"{slide.name} has {height} × {width} pixels, too many to hold in memory. Write .zarr, "
            "without --sharpen, and turn that into other files afterwards (`pathsam export`); or "
            "segment a part of it (--region)."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        client = _cluster(slides, stack)  # before anything is written
        job = prepare_slide(
            model, slide, mpp=wish.mpp, store=path, resume=slides.resume or again,
            region=wish.region, settings=wish.settings,
            tissue=slides.tissue, uncertainty=slides.uncertainty,
        )  # fmt: skip
        warn(slide.name, job.plan.warning, job.plan.cut)
        workers = 0 if client is None else workers_of(client)
        _say_estimate(job, workers, objects=wish.instances)
        todo = len(job.todo(None))
        tiles = stack.enter_context(
            closing(slide_tiles(job) if client is None else distributed_tiles(job, client))
        )
        bar = stack.enter_context(progress(slide.name, todo, left="-"))
        for tile in tiles:
            bar.update(bar.task_ids[0], advance=1, left=duration(tile.seconds_left))
    if wish.instances:
        _write_objects(job, path, wish.settings.smallest_px)
    return _told(job, path, wish, todo)


def _cluster(slides: SlideWish, stack: ExitStack) -> Any:
    """A client of the wanted processes, once they are there; None: this process does the work."""
    from napari_pathsam.inference.distributed import dask_client, wait_for_workers

    if not slides.workers and not slides.scheduler:
        return None
    client = stack.enter_context(dask_client(workers=slides.workers, scheduler=slides.scheduler))
    wanted = max(1, slides.workers)
    if (there := len(client.ncores())) < wanted:
        where = slides.scheduler or "Dask"
        ERR.print(f"{where} has {there} of {wanted} workers; waiting for the others.")
        wait_for_workers(client, wanted)
    return client


def _write_objects(job: SlideJob, path: Path, smallest_px: int) -> None:
    """The objects, as a label pyramid beside the classes; kept where nothing changed."""
    from napari_pathsam.inference.slide_objects import write_objects
    from napari_pathsam.io.label_store import LabelStore

    with progress(f"{job.slide.name}: objects", 1) as bar:
        for block in write_objects(LabelStore.open(path), smallest_px=smallest_px, job=job):
            bar.update(bar.task_ids[0], completed=block.done, total=block.total)


def _say_estimate(job: SlideJob, workers: int, *, objects: bool) -> None:
    """Time and disk before a run, and what is faster where it is long."""
    from napari_pathsam.inference.slide_estimate import estimate_slide

    more = "more processes (--workers, --scheduler), a GPU (--device cuda)"
    found = estimate_slide(job, objects=objects, workers=workers)
    if said := found.text(part="--region", more=more, workers=workers):
        ERR.print(f"{job.slide.name}: {said}")


def _told(job: SlideJob, path: Path, wish: Wish, todo: int) -> AreaTable:
    """Say what was found, what could not be read, and how well the seams are hidden."""
    from napari_pathsam.inference.seams import seam_text
    from napari_pathsam.inference.slide_record import places
    from napari_pathsam.io.label_store import LabelStore

    assert job.run is not None
    record, name = job.run.record, job.slide.name
    table = _areas(LabelStore.open(path), job, wish)
    found = ", ".join(f"{row.name} {100 * row.share:.1f} %" for row in table.rows[1:])
    OUT.print(f"{path}: {found}" if todo else f"{path}: all was done already; {found}")
    if seams := seam_text(record.seams.values()):
        OUT.print(seams)
    damage = places(record.damage)
    for one in damage[:10]:
        r = one.region
        ERR.print(
            f"{name}: rows {r.y} to {r.y + r.height}, columns {r.x} to {r.x + r.width} could "
            f"not be read ({one.reason}) and were taken for glass.",
            style="yellow",
        )
    if len(damage) > 10:
        ERR.print(f"{name}: … and {len(damage) - 10} more places.", style="yellow")
    return table


def _areas(store: LabelStore, job: SlideJob, wish: Wish) -> AreaTable:
    """Counted piece by piece."""
    from napari_pathsam.inference.tissue import tissue_of
    from napari_pathsam.io.label_store import LabelStore
    from napari_pathsam.io.object_classes import OBJECTS
    from napari_pathsam.io.store_tables import Counted, count_store, store_areas

    objects = LabelStore.open(store.path, OBJECTS) if wish.instances else None
    *_, counted = count_store(store, objects)
    assert isinstance(counted, Counted)
    mpp, region = job.plan.mpp, job.plan.region
    tissue = job.plan.tissue or tissue_of(job.slide, mpp)
    return store_areas(
        counted, job.model.classes, region=region, mpp=mpp, objects=wish.instances,
        name=job.slide.name, tissue_mm2=None if tissue is None else tissue.mm2(mpp, region),
    )  # fmt: skip
