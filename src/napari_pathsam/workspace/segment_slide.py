"""Segmenting what no labels layer holds: a slide's classes go into a label pyramid on the disk.

The pyramid lies in the user's data folder, one for each image, model and way of segmenting. A run
that was stopped goes on where it was, and one that was finished is only measured anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_data_dir

from napari_pathsam.core.areas import AreaTable
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.annotations import LARGEST_WHOLE_PX
from napari_pathsam.workspace.scripting import ImageOrigin, quoted
from napari_pathsam.workspace.segment_request import SegmentRequest, result_window
from napari_pathsam.workspace.segment_result import damage_text
from napari_pathsam.workspace.segment_work import (
    Answer,
    Piece,
    SourceTiles,
    encoding_of,
    settings_of,
    title_of,
)

if TYPE_CHECKING:
    from napari_pathsam.inference.slide_job import SlideJob, SlideRun
    from napari_pathsam.inference.slide_plan import SlidePlan
    from napari_pathsam.io.label_store import LabelStore


def is_slide(request: SegmentRequest) -> bool:
    """Whether what is asked for is more than a labels layer holds."""
    return max(result_window(request).shape_yx) > LARGEST_WHOLE_PX


@dataclass(eq=False)  # each is itself
class SlideResult:
    """One model's class map of a slide, in a label pyramid; nobody paints in it.

    Attributes
    ----------
    request, title, classes, at_mpp, maps, table
        As of a :class:`~napari_pathsam.workspace.segment_result.SegmentResult`.
    run
        The label pyramids, and the record of what is done.
    plan
        What the run does, and where there is tissue.
    """

    request: SegmentRequest
    title: str
    classes: ClassTable
    at_mpp: float
    run: SlideRun
    maps: list[Any] = field(default_factory=list)
    table: AreaTable | None = None
    objects: None = None
    edited: bool = False
    plan: SlidePlan | None = None

    @property
    def image_key(self) -> str:
        return self.request.source.key

    @property
    def mpp(self) -> float | None:
        """Microns per level-0 pixel; None: nobody said."""
        return self.request.mpp

    @property
    def window(self) -> Region:
        """All of the image."""
        return Region.of(self.request.source.shape_yx)

    @property
    def stores(self) -> dict[str, LabelStore]:
        """The label pyramids ``classes``, ``uncertainty`` and ``probability-NAME``."""
        return self.run.stores

    @property
    def has_objects(self) -> bool:
        """Whether objects were asked for, told apart and measured."""
        return self.table is not None and any(row.objects is not None for row in self.table.rows)

    def class_of(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids ``(n,)`` and class ids of all objects, read from the disk; empty: there are none."""
        from napari_pathsam.io.object_classes import ids_and_classes

        found = ids_and_classes(self.path) if self.has_objects else None
        return found or (np.zeros(0, np.int64), np.zeros(0, np.int64))

    @property
    def path(self) -> Path:
        """The container of the pyramids."""
        return self.stores["classes"].path

    def summary(self) -> str:
        """Where it is, how well seams are hidden, what could not be read."""
        from napari_pathsam.inference.seams import seam_text
        from napari_pathsam.inference.slide_record import places

        record = self.run.record
        said = (f"Kept in {self.path}.", seam_text(record.seams.values()),
                damage_text(len(places(record.damage))))  # fmt: skip
        return " ".join(filter(None, said))


@dataclass(frozen=True)
class PreparedSlide:
    """A loaded model and the job it will do; what :class:`Segmenting` asks of a ``Prepared``."""

    job: SlideJob
    mpp: float
    title: str
    views: int = 1
    """See :attr:`Prepared.views`."""

    @property
    def classes(self) -> ClassTable:
        return self.job.model.classes

    @property
    def total(self) -> int:
        """Blocks of the slide."""
        return len(self.job.plan.blocks)

    @property
    def done(self) -> int:
        """Blocks that an earlier run finished."""
        return len(self.job.done)

    @property
    def warning(self) -> str:
        """See :attr:`Prepared.warning`."""
        cut = self.job.plan.cut
        return "" if cut is None else str(cut)

    @property
    def embedding_name(self) -> str:
        return str(self.job.model.embedding_name)

    @property
    def encoding(self) -> tuple[Any, ...]:
        """See :func:`encoding_of`; of slides no embedding is kept."""
        config = self.job.model.config
        return (*encoding_of(self.embedding_name, config.mpp, config.enlarge, self.mpp), "slide")

    def result(self, request: SegmentRequest) -> SlideResult:
        """Where the job's labels are."""
        assert self.job.run is not None
        return SlideResult(
            request, self.title, self.classes, self.mpp, self.job.run, plan=self.job.plan
        )


def prepared_slide(load: Callable[[str, str], Any], request: SegmentRequest) -> PreparedSlide:
    """Load the model, plan the slide and make or open its label pyramid.

    Raises
    ------
    BadImageError, BadWeightsError, BadFileError
        In words for a person.
    """
    from napari_pathsam.inference.slide_job import prepare_slide
    from napari_pathsam.inference.views import encoded_views

    model = load(request.model, request.device)
    mpp = request.mpp or getattr(getattr(model, "config", None), "mpp", None)
    wanted = None
    if len(request.parts) == 1:
        wanted = request.parts[0].drawn or result_window(request)
    slide = request.source.slide or SourceTiles(request.source)
    job = prepare_slide(
        model, slide, mpp=mpp, region=wanted,
        settings=settings_of(request), uncertainty=request.options.uncertainty,
    )  # fmt: skip
    path = _path_of(request, job)
    path.parent.mkdir(parents=True, exist_ok=True)
    views = encoded_views(model, request.options.views)
    return PreparedSlide(job.into(path, resume=True), job.plan.mpp, title_of(model.name), views)


def _path_of(request: SegmentRequest, job: SlideJob) -> Path:
    """Another place for whatever would be other labels, so that none are ever in the way."""
    about = json.dumps(job.identity, sort_keys=True)
    digest = sha256(about.encode()).hexdigest()[:12]
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in title_of(request.model))
    stem = Path(request.source.name).stem[:40].strip() or "slide"
    return Path(user_data_dir("napari-pathsam")) / "segmented" / f"{stem}-{name}-{digest}.zarr"


def slide_pieces(ready: PreparedSlide, request: SegmentRequest) -> Iterator[Piece]:
    """What it will take; block after block, those in view first; in the end the areas.

    Closing it cancels.
    """
    from napari_pathsam.inference.slide import slide_tiles
    from napari_pathsam.inference.slide_estimate import estimate_slide
    from napari_pathsam.inference.slide_objects import write_objects

    yield Piece(next_text="Measuring a few tiles")
    found = estimate_slide(ready.job, objects=request.options.instances)
    said = found.text(part="“Where”", more="a GPU")
    yield Piece(said=said, seconds_left=found.seconds + found.objects_s or None)
    for tile in slide_tiles(ready.job, first=request.first):
        cells = ready.job.plan.cells(tile.region)
        yield Piece(
            tile.region, tiles=1, cells=cells.height * cells.width, encoded=True,
            seconds_left=tile.seconds_left,
        )  # fmt: skip
    result = ready.result(request)
    if request.options.instances:
        yield Piece(next_text="Objects")
        smallest_px = request.options.smallest_px
        for block in write_objects(
            result.stores["classes"], smallest_px=smallest_px, job=ready.job
        ):
            yield Piece(next_text=f"Objects, {block.done / block.total:.0%}")
    yield Piece(next_text="Measuring")
    yield from slide_areas(result, objects_of(result) if request.options.instances else None)


def objects_of(result: SlideResult) -> LabelStore:
    """The label pyramid of a result's objects, which must be there."""
    from napari_pathsam.io.label_store import LabelStore
    from napari_pathsam.io.object_classes import OBJECTS

    return LabelStore.open(result.path, OBJECTS)


def slide_areas(result: SlideResult, objects: LabelStore | None = None) -> Iterator[Piece]:
    """Measure what is in a label pyramid."""
    from napari_pathsam.io.store_tables import Counted, count_store, store_areas

    tissue = None if result.plan is None else result.plan.tissue_mm2(result.run.record.done)
    for found in count_store(result.stores["classes"], objects):
        if isinstance(found, Counted):
            table = store_areas(
                found, result.classes, region=result_window(result.request), mpp=result.mpp,
                objects=objects is not None, name=result.request.source.name, tissue_mm2=tissue,
            )  # fmt: skip
            yield Piece(answer=Answer(table))
        else:
            yield Piece(next_text=f"Measuring, {found:.0%}")


def slide_python(result: SlideResult, origin: ImageOrigin) -> str:
    """Python that makes the label pyramid of a result."""
    request, options = result.request, result.request.options
    named = {
        "threshold": options.threshold,
        "surest": options.surest,
        "smallest_px": options.smallest_px,
        "fill_holes_px": options.fill_holes_px,
        "keep_probabilities": options.probabilities,
        "views": options.views,
    }
    settings = ", ".join(f"{name}={value!r}" for name, value in named.items() if value)
    w = result_window(request)
    asked = f"mpp={result.at_mpp!r}, store={_out(origin)!r}, resume=True"
    if w != Region.of(request.source.shape_yx):
        asked += f", region=Region({w.y}, {w.x}, {w.height}, {w.width})"
    if settings:
        asked += f", settings=SegmentSettings({settings})"
    if options.uncertainty:
        asked += ", uncertainty=True"
    lines = ["import napari_pathsam as ps"]
    if "Region(" in asked:
        lines.append("from napari_pathsam.core.geometry import Region")
    if settings:
        lines.append("from napari_pathsam.inference.class_maps import SegmentSettings")
    lines += ["", f"model = ps.load_model({request.model!r}, device={request.device!r})"]
    lines += [*origin.lines(), f"for tile in ps.segment_slide(model, slide, {asked}):"]
    lines.append('    print(f"{tile.done} of {tile.total} blocks, {tile.seconds_left:.0f} s left")')
    if options.instances:
        lines[1:1] = [
            "from napari_pathsam.inference.slide_job import prepare_slide",
            "from napari_pathsam.inference.slide_objects import write_objects",
            "from napari_pathsam.io.label_store import LabelStore",
        ]
        smallest = f"smallest_px={options.smallest_px!r}, " if options.smallest_px else ""
        lines += [f"job = prepare_slide(model, slide, {asked})"]
        lines += [f"classes = LabelStore.open({_out(origin)!r})"]
        lines += [f"for block in write_objects(classes, {smallest}job=job):"]
        lines += ['    print(f"Objects: {block.done} of {block.total} steps")']
    return "\n".join(lines) + "\n"


def slide_command(result: SlideResult, origin: ImageOrigin) -> str:
    """A command that makes the label pyramid of a result, from a slide in a file."""
    request, options = result.request, result.request.options
    words = ["pathsam", "segment", origin.argument(), "--model", request.model]
    words += ["--out", _out(origin), "--mpp", f"{result.at_mpp!r}", "--resume"]
    w = result_window(request)
    if w != Region.of(request.source.shape_yx):
        words += ["--region", f"{w.y},{w.x},{w.y + w.height},{w.x + w.width}"]
    if request.device != "auto":
        words += ["--device", request.device]
    for option, value in (
        ("--threshold", options.threshold),
        ("--surest", options.surest),
        ("--smallest", options.smallest_px),
        ("--fill-holes", options.fill_holes_px),
        ("--views", options.views),
    ):
        if value:
            words += [option, f"{value!r}"]
    words += ["--instances"] if options.instances else []
    words += ["--uncertainty"] if options.uncertainty else []
    words += ["--probabilities"] if options.probabilities else []
    return quoted(words) + "\n"


def _out(origin: ImageOrigin) -> str:
    stem = origin.path.stem if origin.path is not None else origin.layer
    return f"{stem}-classes.zarr"
