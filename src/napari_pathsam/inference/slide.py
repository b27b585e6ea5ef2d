"""A whole slide to classes: finished blocks, one after the other, into a label pyramid.

Reading runs ahead in threads, the model works, and a thread of its own writes. Memory follows the
block and the batch, not the slide; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from itertools import zip_longest
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.class_maps import SegmentSettings
from napari_pathsam.inference.seams import SeamCounts
from napari_pathsam.inference.slide_block import Block, run_block
from napari_pathsam.inference.slide_job import SlideJob, prepare_slide
from napari_pathsam.inference.slide_plan import CHUNK_PX
from napari_pathsam.inference.slide_time import TimeLeft
from napari_pathsam.inference.windows import Damage, Windows
from napari_pathsam.inference.working_grid import MppWarning, RegionWarning, TileSource

if TYPE_CHECKING:
    from napari_pathsam.models.class_model import ClassModel

WRITTEN_AHEAD = 2
"""Blocks that wait to be written, at most."""


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
        Estimated from the last ones, by their windows.
    damage
        What could not be read in it, and was taken for glass.
    seams
        Of everything so far: changes of class at window ends and elsewhere.
    warning
        Said of the whole slide: its pixel size is not one the model was made for.
    model_share
        Of the time since the run began, in which the model worked; in the rest it waited: for
        pixels, the blending, the disk, or whoever takes the pieces. None where workers share the
        run.
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
    model_share: float | None = None


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
) -> Generator[SlideTile, None, None]:
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
        Level-0 pixels to segment; by default all. What reaches beyond the slide is cut off, with
        a ``RegionWarning``.
    first
        What is looked at: pieces there come first.
    settings
        See :class:`~napari_pathsam.inference.class_maps.SegmentSettings`; by default with windows
        that overlap by half.
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
    job = prepare_slide(
        model, slide, mpp=mpp, store=store, resume=resume, region=region, settings=settings,
        tissue=tissue, uncertainty=uncertainty, batch=batch, chunk_px=chunk_px,
    )  # fmt: skip
    if job.plan.cut is not None:
        warnings.warn(str(job.plan.cut), RegionWarning, stacklevel=2)
    return slide_tiles(job, first=first)


def slide_tiles(job: SlideJob, *, first: Region | None = None) -> Generator[SlideTile, None, None]:
    """Do a job; what is looked at first."""
    plan, run, todo = job.plan, job.run, job.todo(first)
    progress = SlideProgress(job, [todo])
    with (
        nullcontext() if run is None else run.working(),
        closing(
            Windows(job.model, job.slide, plan.grid, batch=job.batch, views=plan.settings.views)
        ) as windows,
        ThreadPoolExecutor(1, "pathsam-write") as writer,
    ):
        written: deque[tuple[Block, Future[None] | None]] = deque()
        started = perf_counter()

        def finished() -> SlideTile:
            share = windows.busy_s / (perf_counter() - started)
            return replace(progress.finished(*written.popleft()), model_share=share)

        for number, following in zip_longest(todo, todo[1:]):
            then = [] if following is None else plan.windows(plan.blocks[following])
            block = run_block(plan, windows, number, ids=job.ids, names=job.names, then=then)
            progress.time.worked_out(number)
            future = None if run is None else writer.submit(run.write, block)
            written.append((block, future))
            while written and (len(written) > WRITTEN_AHEAD or _is_done(written[0][1])):
                yield finished()
        while written:
            yield finished()
    if run is not None:
        run.record.finish()


def _is_done(written: Future[None] | None) -> bool:
    return written is None or written.done()


class SlideProgress:
    """Finished blocks as tiles that know how far the run is.

    Attributes
    ----------
    time
        Is told of each block that is worked out; parameters are those of ``TimeLeft``.
    """

    def __init__(self, job: SlideJob, tasks: Sequence[Sequence[int]], *, workers: int = 0) -> None:
        self._plan, self._done = job.plan, len(job.done)
        self._seams = SeamCounts.total(job.run.record.seams.values()) if job.run else SeamCounts()
        self.time = TimeLeft(job, tasks, workers=workers)

    def finished(self, block: Block, written: Future[None] | None = None) -> SlideTile:
        """Once it is written."""
        if written is not None:
            written.result()
        self._done += 1
        self._seams += block.seams
        others = {name: values for name, values in block.maps.items() if name != "classes"}
        return SlideTile(
            region=block.region,
            class_map=block.maps["classes"],
            maps=others,
            done=self._done,
            total=len(self._plan.blocks),
            seconds_left=self.time.seconds,
            damage=block.damage,
            seams=self._seams,
            warning=self._plan.warning,
        )
