"""A whole slide to classes: finished blocks, one after the other, into a label pyramid.

Reading runs ahead in threads, the model works, and a thread of its own writes. Memory follows the
block and the batch, not the slide; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.class_maps import SegmentSettings, TileSource
from napari_pathsam.inference.seams import SeamCounts
from napari_pathsam.inference.slide_block import Block, run_block
from napari_pathsam.inference.slide_plan import CHUNK_PX, SlidePlan, plan_slide, run_identity
from napari_pathsam.inference.slide_record import Record
from napari_pathsam.inference.windows import Damage, Windows, best_batch
from napari_pathsam.inference.working_grid import MppWarning
from napari_pathsam.io.label_store import LabelStore

if TYPE_CHECKING:
    from napari_pathsam.models.class_model import ClassModel

WRITTEN_AHEAD = 2
"""Blocks that wait to be written, at most."""
RECORD = "pathsam-run.jsonl"
TIMED = 8


@dataclass(frozen=True)
class SlideTile:
    """A finished piece of a slide; written, where there is a label pyramid.

    Attributes
    ----------
    region
        Its level-0 pixels; pieces do not overlap.
    class_map
        ``(h, w)`` uint8 class ids at those pixels; 255 is "unsure".
    maps
        ``uncertainty`` and ``probability-NAME``, where asked for: 0 … 255 for 0 … 1.
    done, total
        Pieces that are finished, and all, those of an earlier session included.
    seconds_left
        Estimated from the last ones.
    damage
        What could not be read in it, and was taken for glass.
    seams
        Of everything so far: changes of class at window ends and elsewhere.
    warning
        Said of the whole slide: its pixel size is not one the model was made for.
    """

    region: Region
    class_map: NDArray[np.uint8]
    maps: Mapping[str, NDArray[np.uint8]]
    done: int
    total: int
    seconds_left: float
    damage: tuple[Damage, ...]
    seams: SeamCounts
    warning: MppWarning | None


def segment_slide(
    model: ClassModel,
    slide: TileSource,
    *,
    mpp: float | None = None,
    store: str | os.PathLike[str] | None = None,
    resume: bool = False,
    region: Region | None = None,
    first: Region | None = None,
    settings: SegmentSettings | None = None,
    tissue: bool = True,
    uncertainty: bool = False,
    batch: int | None = None,
    chunk_px: int = CHUNK_PX,
) -> Iterator[SlideTile]:
    """Segment a slide of any size; closing the generator stops, and what is finished is kept.

    Windows of the model's size lie on a grid anchored at the slide's corner, and their logits are
    blended; a piece is a block of whole chunks of the label pyramid. So neither the order of the
    pieces, nor the region, nor an interruption changes a pixel.

    Parameters
    ----------
    model
        Knows classes (``load_model("pathsam-nano:glands")``).
    slide
        From ``open_slide``.
    mpp
        Microns per level-0 pixel; overrides the slide's own.
    store
        A ``.zarr`` folder for the label pyramid ``classes``, and ``uncertainty`` and
        ``probability-NAME`` where wanted; None: pieces are yielded only.
    resume
        Go on with what lies there; begin where nothing does.
    region
        Level-0 pixels to segment; by default all.
    first
        What is looked at: pieces there come first.
    settings
        See :class:`~napari_pathsam.inference.class_maps.SegmentSettings`.
    tissue
        Whether to look for tissue first and leave glass out.
    uncertainty
        Whether one minus the probability of the likeliest class is kept, too.
    batch
        Windows at once; by default one on the CPU and what fits on CUDA.
    chunk_px
        Side of a chunk of the label pyramid; a piece is some of them.

    Raises
    ------
    BadImageError, BadWeightsError
        No pixel size, no tissue, a region outside the slide; a model without classes.
    BadFileError
        The labels are of another slide or run, cannot be written, or the slide is gone.
    """
    settings = settings or SegmentSettings()
    plan = plan_slide(
        model, slide, mpp=mpp, region=region, settings=settings, tissue=tissue, chunk_px=chunk_px
    )
    names = map_names(model, settings, uncertainty)
    run = None if store is None else SlideRun.open(model, slide, plan, names, store, resume, batch)
    return _segmented(model, slide, plan, names, run, first, batch)


def map_names(model: ClassModel, settings: SegmentSettings, uncertainty: bool) -> tuple[str, ...]:
    """The label pyramids of a run."""
    shares = [f"probability-{info.name}" for info in model.classes]
    return (
        "classes",
        *(["uncertainty"] if uncertainty else []),
        *(shares if settings.keep_probabilities else []),
    )


@dataclass(frozen=True)
class SlideRun:
    """The label pyramids of a run and its record; one writer."""

    stores: dict[str, LabelStore]
    record: Record

    @classmethod
    def open(
        cls,
        model: ClassModel,
        slide: TileSource,
        plan: SlidePlan,
        names: Sequence[str],
        path: str | os.PathLike[str],
        resume: bool,
        batch: int | None,
    ) -> SlideRun:
        """Make label pyramids, or open those of the same run; another's are refused."""
        path = Path(path)
        about = run_identity(model, slide, plan, names)
        stores = {}
        for name in names:
            if resume and (path / "labels" / name).exists():
                stores[name] = LabelStore.open(path, name, writable=True, about=about)
                continue
            if (path / "labels" / name).exists():
                raise BadFileError(
                    f"{path} has labels called {name!r} already; they were left as they are. Go on "
                    "with them (--resume), or choose another name."
                )
            stores[name] = LabelStore.create(
                path, slide.shape_yx, mpp=plan.mpp, name=name, about=about, objects=False,
                chunk_px=plan.chunk_px,
                classes=model.classes if name == "classes" else None,
            )  # fmt: skip
        batch = batch or best_batch(model, plan.grid)
        return cls(stores, Record(path / "labels" / "classes" / RECORD, {"batch": batch}))

    def write(self, block: Block, *, base: bool = True) -> None:
        """Write a block at all levels, then record it; ``base``: level 0 is not written yet."""
        for name, store in self.stores.items():
            if base:
                store.write(block.region, block.maps[name])
            else:
                store.update_overviews(block.region)
        self.record.add(block.number, block.seams, block.damage)


def _segmented(
    model: ClassModel,
    slide: TileSource,
    plan: SlidePlan,
    names: Sequence[str],
    run: SlideRun | None,
    first: Region | None,
    batch: int | None,
) -> Iterator[SlideTile]:
    done = frozenset[int]() if run is None else run.record.done
    todo = [number for number in plan.order(first) if number not in done]
    batch = int(run.record.about["batch"]) if run else batch or best_batch(model, plan.grid)
    ids = class_ids(model)
    progress = _Progress(plan, len(done), run)
    with (
        closing(Windows(model, slide, plan.grid, batch=batch)) as windows,
        ThreadPoolExecutor(1, "pathsam-write") as writer,
    ):
        written: deque[tuple[Block, Future[None] | None]] = deque()
        for number, following in zip_longest(todo, todo[1:]):
            then = [] if following is None else plan.windows(plan.blocks[following])
            block = run_block(plan, windows, number, ids=ids, names=names, then=then)
            future = None if run is None else writer.submit(run.write, block)
            written.append((block, future))
            if len(written) > (WRITTEN_AHEAD if run else 0):
                yield progress.finished(*written.popleft())
        while written:
            yield progress.finished(*written.popleft())
    if run is not None:
        run.record.finish()


def class_ids(model: ClassModel) -> NDArray[np.uint8]:
    """The class id of each channel of a model's logits."""
    return np.array([0, *(info.id for info in model.classes)], np.uint8)


class _Progress:
    """Finished blocks as tiles that know how far the run is."""

    def __init__(self, plan: SlidePlan, done: int, run: SlideRun | None) -> None:
        self._plan, self._done = plan, done
        self._seams = SeamCounts.total(run.record.seams.values()) if run else SeamCounts()
        self._ends: deque[float] = deque([perf_counter()], maxlen=TIMED + 1)

    def finished(self, block: Block, written: Future[None] | None) -> SlideTile:
        """Once it is written."""
        if written is not None:
            written.result()
        self._done += 1
        self._seams += block.seams
        self._ends.append(perf_counter())
        each = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        total = len(self._plan.blocks)
        others = {name: values for name, values in block.maps.items() if name != "classes"}
        return SlideTile(
            region=block.region,
            class_map=block.maps["classes"],
            maps=others,
            done=self._done,
            total=total,
            seconds_left=each * (total - self._done),
            damage=block.damage,
            seams=self._seams,
            warning=self._plan.warning,
        )
