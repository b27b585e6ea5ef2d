"""What a run over a slide needs: the plan, the label pyramids and the record of what is done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.class_maps import SegmentSettings
from napari_pathsam.inference.slide_block import Block
from napari_pathsam.inference.slide_plan import CHUNK_PX, SlidePlan, plan_slide, run_identity
from napari_pathsam.inference.slide_record import Record
from napari_pathsam.inference.windows import best_batch
from napari_pathsam.inference.working_grid import TileSource
from napari_pathsam.io._files import locked
from napari_pathsam.io.label_store import LabelStore

if TYPE_CHECKING:
    from napari_pathsam.models.class_model import ClassModel

RECORD = "pathsam-run.jsonl"
"""Beside the levels of the label pyramid ``classes``."""
LOCK = ".pathsam-run.lock"


@dataclass(frozen=True)
class SlideJob:
    """A run that may begin; made by :func:`prepare_slide`.

    Attributes
    ----------
    plan
        Windows and blocks.
    names
        The label pyramids: ``classes``, ``uncertainty``, ``probability-NAME``.
    run
        Where results go; None: they are yielded only.
    batch
        Windows at once.
    """

    model: ClassModel
    slide: TileSource
    plan: SlidePlan
    names: tuple[str, ...]
    run: SlideRun | None
    batch: int

    @property
    def done(self) -> frozenset[int]:
        """Numbers of the blocks that are done."""
        return frozenset() if self.run is None else self.run.record.done

    def todo(self, first: Region | None) -> list[int]:
        """Numbers of the blocks that are not, in the order they are worked on."""
        return [number for number in self.plan.order(first) if number not in self.done]

    @property
    def identity(self) -> dict[str, Any]:
        """What label pyramids of this run are of."""
        return run_identity(self.model, self.slide, self.plan, self.names)

    def into(self, path: str | os.PathLike[str], *, resume: bool = False) -> SlideJob:
        """The job with label pyramids there, which are made or, to go on with them, opened."""
        run = SlideRun.open(self, Path(path), resume)
        return replace(self, run=run, batch=int(run.record.about["batch"]))

    @property
    def ids(self) -> NDArray[np.uint8]:
        """The class id of each channel of the model's logits."""
        return np.array([0, *(info.id for info in self.model.classes)], np.uint8)


def prepare_slide(
    model: ClassModel,
    slide: TileSource,
    *,
    mpp: float | None = None,
    store: str | os.PathLike[str] | None = None,
    resume: bool = False,
    region: Region | None = None,
    settings: SegmentSettings | None = None,
    tissue: bool = True,
    uncertainty: bool = False,
    batch: int | None = None,
    chunk_px: int = CHUNK_PX,
) -> SlideJob:
    """Plan a run and make or open its label pyramids; raises what it is told to.

    Parameters and errors are those of :func:`~napari_pathsam.inference.slide.segment_slide`.
    """
    plan = plan_slide(
        model, slide, mpp=mpp, region=region, settings=settings, tissue=tissue, chunk_px=chunk_px
    )
    names = _map_names(model, plan.settings, uncertainty)
    job = SlideJob(model, slide, plan, names, None, batch or best_batch(model, plan.grid))
    return job if store is None else job.into(store, resume=resume)


def _map_names(model: ClassModel, settings: SegmentSettings, uncertainty: bool) -> tuple[str, ...]:
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
    def open(cls, job: SlideJob, path: Path, resume: bool) -> SlideRun:
        """Make label pyramids, or open those of the same run; another's are refused."""
        about, plan, model = job.identity, job.plan, job.model
        stores = {}
        for name in job.names:
            if resume and (path / "labels" / name).exists():
                stores[name] = LabelStore.open(path, name, writable=True, about=about)
                continue
            if (path / "labels" / name).exists():
                raise BadFileError(
                    f"{path} has labels called {name!r} already; they were left as they are. Go on "
                    "with them (--resume), or choose another name."
                )
            stores[name] = LabelStore.create(
                path, job.slide.shape_yx, mpp=plan.mpp, name=name, about=about, objects=False,
                chunk_px=plan.chunk_px,
                classes=model.classes if name == "classes" else None,
            )  # fmt: skip
        return cls(stores, Record(path / "labels" / "classes" / RECORD, {"batch": job.batch}))

    @contextmanager
    def working(self) -> Iterator[None]:
        """What a killed run left half-written is removed, and nobody else works here meanwhile.

        Raises
        ------
        BadFileError
            Somebody else does.
        """
        path = self.stores["classes"].path
        lock = locked(path / LOCK)
        if lock is None:
            raise BadFileError(
                f"Another window or command is segmenting into {path} now. Wait until it is "
                "finished, or stop it there and start here again: what is done stays done."
            )
        with lock:
            for store in self.stores.values():
                store.tidy()
            yield

    def write(self, block: Block, *, base: bool = True) -> None:
        """Write a block at all levels, then record it; ``base``: level 0 is not written yet.

        Raises
        ------
        BadFileError
            The disk does not let us; a run that goes on does this block again.
        """
        try:
            for name, store in self.stores.items():
                if base:
                    store.write(block.region, block.maps[name])
                else:
                    store.update_overviews(block.region)
        except BadFileError as error:
            raise BadFileError(
                f"{error} What is finished is kept: segment the slide once more in the same way to "
                "go on with it (on the command line with --resume, in Python with resume=True)."
            ) from error
        self.record.add(block.number, block.seams, block.damage)
