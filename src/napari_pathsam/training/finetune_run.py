"""A fine-tuning run, frozen: everything its weights depend on, ready to be run again anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy import ndimage

from napari_pathsam.core.class_map import UNSURE
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.strokes import Areas, held_out, separate_regions
from napari_pathsam.inference.class_maps import OVERLAP, tile_pixels
from napari_pathsam.inference.working_grid import TileSource, WorkingGrid, checked_mpp
from napari_pathsam.models.class_model import ClassModel
from napari_pathsam.models.model_file import BaseWeights
from napari_pathsam.models.pathsam_config import PathSamConfig
from napari_pathsam.models.task_config import TaskConfig
from napari_pathsam.training.finetune_check import check_images, check_painted, warnings_of
from napari_pathsam.training.finetune_config import FineTuneSettings
from napari_pathsam.training.finetune_networks import made_from
from napari_pathsam.training.finetune_start import Load, start_model

VERSIONS = ("torch", "timm", "sam2", "numpy", "napari-pathsam")


@dataclass(frozen=True)
class FineTuneImage:
    """An image and what a person painted on it.

    Attributes
    ----------
    source
        Its pixels.
    labels
        ``(h, w)`` class ids, 0 where nobody painted, 255 where it is not known, of the level-0
        region ``labels_at`` (None: of the whole image).
    mpp
        Microns per level-0 pixel.
    key, path
        What names its content, and the file it came from, where known: for the record.
    region
        What "Segment all classes" is asked for on this image: its tiles are used, and so its
        embeddings found.
    held_out
        ``(h, w)``, as ``labels``: what is only scored on (``HoldOut(by="layer")``).
    group
        The slide that it is a part of: ``HoldOut(by="image")`` has its parts on one side.
    """

    source: TileSource
    labels: NDArray
    mpp: float | None
    name: str = ""
    key: str = ""
    path: Path | None = None
    labels_at: Region | None = None
    region: Region | None = None
    held_out: NDArray | None = None
    group: str = ""

    @property
    def at(self) -> Region:
        """The level-0 region of the labels."""
        return self.labels_at or Region.of((self.labels.shape[0], self.labels.shape[1]))


class Box(BaseModel):
    """A :class:`Region` in JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    y: int
    x: int
    height: int
    width: int

    @classmethod
    def of(cls, region: Region) -> Box:
        return cls(y=region.y, x=region.x, height=region.height, width=region.width)

    @property
    def region(self) -> Region:
        return Region(self.y, self.x, self.height, self.width)


class RunImage(BaseModel):
    """What the record says of an image; its labels and the pixels of ``tiles`` lie beside it.

    The grid is :class:`WorkingGrid`'s; ``tiles`` are regions of its cells.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    key: str = ""
    path: str | None = None
    mpp: float
    shape_yx: tuple[int, int]
    working_yx: tuple[int, int]
    cell_px: float
    tile_cells: int
    square: bool
    labels_at: Box
    region: Box | None = None
    tiles: tuple[Box, ...]

    @property
    def grid(self) -> WorkingGrid:
        return WorkingGrid(
            self.shape_yx, self.working_yx, self.cell_px, self.tile_cells, self.square
        )


class FineTuneRun(BaseModel):
    """A run as it is written down: with the labels and pixels beside it, its weights follow.

    ``start_knows_all``: the start has class prompts for every class. ``versions`` and ``device``
    say where it was run first; the last bit of the weights may depend on them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    settings: FineTuneSettings
    network: PathSamConfig | TaskConfig
    base: tuple[BaseWeights, ...]
    start: BaseWeights | None = None
    start_knows_all: bool = False
    images: tuple[RunImage, ...]
    device: str
    threads: int
    versions: dict[str, str] = {}


@dataclass(frozen=True)
class RunLabels:
    """``(h, w)`` ids of one image as painted, and which of the painted pixels are held out.

    ``held`` labels of a layer of its own are merged in: they are painted, and held out. ``seen``
    are the ids that what the run starts from was trained with, 0 where it was not; None: it is no
    version of this lesson.
    """

    labels: NDArray[np.uint8]
    held: NDArray[np.bool_]
    seen: NDArray[np.uint8] | None = None

    @property
    def taught(self) -> NDArray[np.uint8]:
        """The ids that what comes out was trained with, now or before."""
        before = np.zeros_like(self.labels) if self.seen is None else self.seen
        return np.where((self.labels > 0) & ~self.held, self.labels, before)

    @property
    def new(self) -> NDArray[np.bool_]:
        """What is trained on, and the start was not: all of it, or what was painted since."""
        found: NDArray[np.bool_] = self.labels > 0
        return found if self.seen is None else found & ~self.held & (self.seen != self.labels)


@dataclass(frozen=True)
class Frozen:
    """A run with its labels and, for each image, the pixels of its tiles ``(h, w, 3)``."""

    run: FineTuneRun
    labels: tuple[RunLabels, ...]
    pixels: tuple[tuple[NDArray[np.uint8], ...], ...]

    @property
    def n_tiles(self) -> int:
        return sum(len(tiles) for tiles in self.pixels)

    @property
    def held_px(self) -> int:
        """Pixels the score will be taken on."""
        return sum(int(one.held.sum()) for one in self.labels)

    @property
    def painted(self) -> tuple[tuple[RunImage, RunLabels], ...]:
        """What a run that goes on from this one has to know of it."""
        return tuple(zip(self.run.images, self.labels, strict=True))

    @property
    def corrects(self) -> bool:
        """Whether it starts from a version of this lesson, and more was painted since."""
        return any(one.seen is not None and one.new.any() for one in self.labels)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know before training."""
        areas = [separate_regions(one.labels) for one in self.labels]
        return warnings_of(self.run.settings, areas, [one.held for one in self.labels])

    @cached_property
    def digest(self) -> str:
        """Names the run: the same one gives the same weights, versions and device being equal."""
        about = self.run.model_copy(update={"versions": {}}).model_dump_json()
        digest = hashlib.blake2b(about.encode(), digest_size=16)
        for one, tiles in zip(self.labels, self.pixels, strict=True):
            known = () if one.seen is None else (one.seen,)
            for array in (one.labels, one.held, *known, *tiles):
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def freeze(
    settings: FineTuneSettings,
    images: Sequence[FineTuneImage],
    *,
    load: Load | None = None,
    before: Sequence[tuple[RunImage, RunLabels]] = (),
) -> Frozen:
    """Check what was painted, hold out, plan the tiles it touches, and read their pixels.

    Parameters
    ----------
    load
        See :func:`start_model`.
    before
        :attr:`Frozen.painted` of the run that ``settings.start`` came out of: nothing that it was
        trained on is held out, and how right it is, is asked of what was painted since.

    Raises
    ------
    BadLabelsError
        One sentence: nothing painted, one class only, labels off the image, too few pixels …
    BadImageError
        A pixel size is not known.
    BadWeightsError, UnavailableError
        See :func:`start_model`.
    """
    check_images(settings, images)
    images = [_on_image(one) for one in images]
    areas = [separate_regions(_painted(settings, one), _ids(settings)) for one in images]
    check_painted(settings, areas, [one.name for one in images])
    model, knows_all = start_model(settings, [one.mpp for one in images], load)
    labels = _held(settings, images, areas, before)
    records, pixels = [], []
    for one, known in zip(images, labels, strict=True):
        record = _record(model, one, known)
        records.append(record)
        pixels.append(
            tuple(tile_pixels(one.source, record.grid, box.region) for box in record.tiles)
        )
    start = None
    if settings.start is not None:
        from napari_pathsam.models.catalogue import weights_sha256

        start = BaseWeights(name=settings.start, sha256=weights_sha256(settings.start))
    device = model.device.type
    run = FineTuneRun(
        settings=settings.model_copy(update={"device": device}),
        network=model.config,
        base=made_from(model, settings.start),
        start=start,
        start_knows_all=knows_all,
        images=tuple(records),
        device=device,
        threads=settings.threads or torch.get_num_threads(),
        versions={name: version(name) for name in VERSIONS},
    )
    return Frozen(run, tuple(labels), tuple(pixels))


def _on_image(one: FineTuneImage) -> FineTuneImage:
    """The part of the labels that lies on the image; nothing is painted beside it."""
    inside = one.at.intersection(Region.of(one.source.shape_yx))
    assert inside is not None  # it was checked
    kept = Region(inside.y - one.at.y, inside.x - one.at.x, *inside.shape_yx).slices
    held = None if one.held_out is None else one.held_out[kept]
    return replace(one, labels=one.labels[kept], labels_at=inside, held_out=held)


def _ids(settings: FineTuneSettings) -> list[int]:
    """The ids of the classes, background's included where it has one."""
    ids = {c.id for c in settings.classes}
    return sorted(ids | ({settings.background_id} if settings.background_id else set()))


BACKGROUND = 255
"""The id of background in a snapshot where unpainted pixels mean background."""


def _painted(settings: FineTuneSettings, one: FineTuneImage) -> NDArray[np.uint8]:
    labels = np.asarray(one.labels)
    return np.where(np.isin(labels, _ids(settings)), labels, 0).astype(np.uint8)


def _held(
    settings: FineTuneSettings, images: Sequence[FineTuneImage], areas: Sequence[Areas],
    before: Sequence[tuple[RunImage, RunLabels]],
) -> list[RunLabels]:  # fmt: skip
    """Labels of each image, what of them is held out, and what the start was trained on."""
    earlier = [_before(one, before) for one in images]
    seen = [ids for ids, _ in earlier]
    hold = settings.hold_out
    painted = [_painted(settings, one) for one in images]
    if hold.by in ("region", "image"):
        groups = [one.group or i for i, one in enumerate(images)]
        held = held_out(
            areas, by=hold.by, share=hold.share, seed=settings.config.seed, groups=groups,
            seen=[ids > 0 for ids in seen], before=[mask for _, mask in earlier],
        )  # fmt: skip
    else:
        held = [np.zeros(labels.shape, bool) for labels in painted]
    for i, one in enumerate(images):
        if hold.by == "layer" and one.held_out is not None:
            own = np.isin(one.held_out, _ids(settings)) & (one.held_out != 0)
            painted[i] = np.where(own, one.held_out, painted[i]).astype(np.uint8)
            held[i] = own
    if settings.zero == "background":
        for one, labels, mask in zip(images, painted, held, strict=True):
            labels[(labels == 0) & (one.labels != UNSURE)] = BACKGROUND
            mask |= _ground_round(mask, labels, whole=hold.by == "image")
    return [
        RunLabels(labels, mask, ids if before else None)
        for labels, mask, ids in zip(painted, held, seen, strict=True)
    ]


def _before(
    one: FineTuneImage, before: Sequence[tuple[RunImage, RunLabels]]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Of an image's pixels the ids that an earlier run was trained with, and what it held out."""
    seen, held = np.zeros(one.at.shape_yx, np.uint8), np.zeros(one.at.shape_yx, bool)
    for record, known in before:
        at = record.labels_at.region
        same = record.key == one.key if one.key else record.name == one.name
        if same and (both := at.intersection(one.at)) is not None:
            to, fro = (Region(both.y - r.y, both.x - r.x, *both.shape_yx) for r in (one.at, at))
            seen[to.slices] = known.taught[fro.slices]
            held[to.slices] = known.held[fro.slices]
    return seen, held


def _ground_round(
    held: NDArray[np.bool_], labels: NDArray[np.uint8], *, whole: bool
) -> NDArray[np.bool_]:
    """The background that is held out with regions, as wide as they are; or all of it."""
    if whole or not held.any():
        found: NDArray[np.bool_] = (labels == BACKGROUND) & held.any()
        return found
    n = ndimage.label(held)[1]
    reach = max(1, round((held.sum() / n) ** 0.5 / 2))
    near = ndimage.distance_transform_edt(~held) <= reach
    return near & (labels == BACKGROUND)


def _record(model: ClassModel, one: FineTuneImage, known: RunLabels) -> RunImage:
    mpp, _ = checked_mpp(model, one.mpp, name=one.name or one.source.name)
    grid = WorkingGrid.of(model, one.source.shape_yx, mpp)
    ys, xs = np.nonzero(known.labels)
    cells = touched_tiles(grid, ys + one.at.y, xs + one.at.x, one.region)
    return RunImage(
        name=one.name or one.source.name,
        key=one.key,
        path=None if one.path is None else str(one.path),
        mpp=mpp,
        shape_yx=grid.shape_yx,
        working_yx=grid.working_yx,
        cell_px=grid.cell_px,
        tile_cells=grid.tile_cells,
        square=grid.square,
        labels_at=Box.of(one.at),
        region=None if one.region is None else Box.of(one.region),
        tiles=tuple(Box.of(region) for region in cells),
    )


def touched_tiles(
    grid: WorkingGrid, ys: NDArray[np.integer], xs: NDArray[np.integer], region: Region | None
) -> list[Region]:
    """The tiles, in cells, that hold these level-0 pixels; as few as will do.

    Tiles of ``region`` as it is segmented come first; what lies beyond them is covered by those of
    the whole image.
    """
    (sy, sx), (rows, columns) = grid.cell_level0_yx, grid.cells_yx
    cells = np.unique(
        np.minimum((ys / sy).astype(np.int64), rows - 1) * columns
        + np.minimum((xs / sx).astype(np.int64), columns - 1)
    )
    at = np.stack(np.divmod(cells, columns), axis=1)
    whole = Region.of(grid.shape_yx)
    chosen: list[Region] = []
    for extent in (region, None):
        inside = (extent or whole).intersection(whole)
        if not len(at) or inside is None:
            continue
        tiles = [t.region for t in grid.tiles(OVERLAP, grid.cells_of(inside), None)]
        while len(at) and tiles:
            holds = [_inside(at, tile) for tile in tiles]
            best = int(np.argmax([mask.sum() for mask in holds]))
            if not holds[best].any():
                break
            chosen.append(tiles.pop(best))
            at = at[~holds[best]]
    return chosen


def _inside(at: NDArray[np.int64], tile: Region) -> NDArray[np.bool_]:
    y, x = at.T
    found: NDArray[np.bool_] = (
        (y >= tile.y) & (y < tile.y + tile.height) & (x >= tile.x) & (x < tile.x + tile.width)
    )
    return found
