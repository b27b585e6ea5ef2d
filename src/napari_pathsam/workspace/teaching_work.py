"""What teaching does in a worker: prepare, train for a moment, preview, finish; keeps no state."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import PathsamError, out_of_memory
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.fields import ImageSource
from napari_pathsam.workspace.segment_work import SourceTiles
from napari_pathsam.workspace.teaching_choices import PRESETS, Advanced, Choices
from napari_pathsam.workspace.teaching_lesson import Running, Version
from napari_pathsam.workspace.teaching_pairs import Pair, finetune_images
from napari_pathsam.workspace.teaching_store import LessonFolder

if TYPE_CHECKING:
    from napari_pathsam.inference.embedding_cache import EmbeddingCache
    from napari_pathsam.training.finetune import Taught, Teacher
    from napari_pathsam.training.finetune_plan import Estimate
    from napari_pathsam.training.finetune_report import Scores, TeachReport
    from napari_pathsam.training.finetune_run import Frozen
    from napari_pathsam.training.finetune_score import WorstRegion

Load = Callable[[str, str], Any]
"""``(name or file, device)`` → a model."""

MOMENT_S = 0.1
"""So long is trained before the GUI thread hears of it, and a cancel is answered."""
PREVIEW_EVERY_S = 1.5
TEXTS = {"encoding": "Encoding what you painted", "scoring": "Scoring"}
NO_PREVIEW = (
    "There was not enough memory to show the field while training: it is shown in the end. Zoom "
    "in for a smaller one."
)


@dataclass(frozen=True)
class FieldOfView:
    """The part of an image that previews show."""

    source: ImageSource
    region: Region
    mpp: float | None


@dataclass(frozen=True)
class Preview:
    """Classes of a field, ``(h, w)`` ids, as version ``number`` has them (None: the one made)."""

    field: FieldOfView
    class_map: NDArray[np.uint8]
    number: int | None = None
    epoch: int = 0


@dataclass
class Training:
    """A training under way; made and used in the worker."""

    teacher: Teacher
    frozen: Frozen
    running: Running
    began: float = field(default_factory=time.perf_counter)
    steps: Iterator[TeachReport] | None = None
    weights: Any = None  # improved, and not previewed yet
    previewed_at: float = 0.0
    previews: bool = True  # False: there is no memory for them
    epoch: int = 0


@dataclass(frozen=True)
class Moment:
    """What happened in a moment of training; ``over``: it was the last one."""

    reports: tuple[TeachReport, ...]
    preview: Preview | None
    over: bool


@dataclass(frozen=True)
class Finished:
    """A version that was made, and is on disk; ``taught`` is the model itself."""

    version: Version
    scores: Scores | None
    notes: tuple[str, ...]
    taught: Taught


@dataclass(frozen=True)
class Looked:
    """What a new version makes of the field, and which strokes it disagrees with, worst first.

    ``keys`` are of the images it was trained on.
    """

    preview: Preview | None
    worst: tuple[WorstRegion, ...]
    keys: tuple[str, ...]


def prepared(
    pairs: tuple[Pair, ...],
    choices: Choices,
    folder: LessonFolder,
    number: int,
    cache: EmbeddingCache,
    load: Load,
) -> Training:
    """Read what was painted, write down what will be trained on, load the model."""
    from napari_pathsam.training.finetune_file import RUN_SUFFIX, write_run
    from napari_pathsam.training.finetune_run import freeze

    images = finetune_images(pairs, choices.classes)
    frozen = freeze(choices.settings(), images, load=load, before=painted_before(choices, folder))
    running = Running(
        run=f"version-{number}{RUN_SUFFIX}", state=f"version-{number}.state", began=datetime.now(),
        number=number,
    )  # fmt: skip
    write_run(folder.file(running.run), frozen)
    folder.remove(running.state)
    return _begun(frozen, running, folder, cache, load)


def painted_before(choices: Choices, folder: LessonFolder) -> Any:
    """What the version that training starts from was trained on, where it is one of the lesson."""
    from napari_pathsam.training.finetune_file import read_painted

    for version in folder.lesson.versions:
        if version.run is not None and str(folder.file(version.file)) == choices.start:
            with suppress(PathsamError):  # it was deleted: nobody can say any more
                return read_painted(folder.file(version.run))
    return ()


def resumed(folder: LessonFolder, running: Running, cache: EmbeddingCache, load: Load) -> Training:
    """Take up a training that was interrupted."""
    from napari_pathsam.training.finetune_file import read_run

    frozen, _ = read_run(folder.file(running.run))
    return _begun(frozen, running, folder, cache, load)


def _begun(
    frozen: Frozen, running: Running, folder: LessonFolder, cache: EmbeddingCache, load: Load
) -> Training:
    from napari_pathsam.training.finetune import Teacher

    teacher = Teacher(frozen, cache=cache, state=folder.file(running.state), load=load)
    return Training(teacher, frozen, running)


def train_on(
    training: Training, field_now: FieldOfView | None, cache: EmbeddingCache, seconds: float
) -> Moment:
    """Train for a moment, or until something is worth telling."""
    if training.steps is None:
        training.steps = training.teacher.steps()
    reports = []
    until, over = time.perf_counter() + seconds, False
    while time.perf_counter() < until:
        report = next(training.steps, None)
        if report is None:
            over = True
            break
        reports.append(report)
        training.epoch = report.epoch
        if report.improved and report.weights is not None:
            training.weights = report.weights if training.previews else None
            break
        if report.scores is not None:
            break
    preview = None
    rested = time.perf_counter() - training.previewed_at >= PREVIEW_EVERY_S
    if training.weights is not None and field_now is not None and rested and not over:
        preview = _previewed_between(training, field_now, cache)
        training.previewed_at = time.perf_counter()
    return Moment(tuple(reports), preview, over)


def _previewed_between(
    training: Training, field_now: FieldOfView, cache: EmbeddingCache
) -> Preview | None:
    """The field as it is now; where there is no room for that, training goes on without."""
    weights, training.weights = training.weights, None
    try:
        class_map = class_map_of(training.teacher.model_with(weights), field_now, cache)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        training.teacher.notes.append(NO_PREVIEW)
        training.previews = False
        return None
    return Preview(field_now, class_map, training.running.number, training.epoch)


def finished(
    training: Training,
    name: str,
    preset: str,
    folder: LessonFolder,
    complete: bool,
) -> Finished:
    """End a training: the best version, on disk."""
    from napari_pathsam.training.finetune_file import add_outcome

    if training.steps is not None and hasattr(training.steps, "close"):
        training.steps.close()
    taught = training.teacher.result()
    number = training.running.number
    file = f"version-{number}.safetensors"
    version = Version(
        number=number,
        name=name,
        created=datetime.now(),
        file=file,
        run=training.running.run,
        scores=None if taught.scores is None else taught.scores.to_json(),
        mean_dice=_finite(None if taught.scores is None else taught.scores.mean_dice),
        n_px=0 if taught.scores is None else int(taught.scores.n_px),
        preset=preset,
        epoch=taught.epoch,
        seconds=time.perf_counter() - training.began,
        finished=complete,
    )
    save_version(folder.file(file), taught, version)
    add_outcome(folder.file(training.running.run), taught)
    return Finished(version, taught.scores, tuple(taught.notes), taught)


def looked(found: Finished, field_now: FieldOfView | None, cache: EmbeddingCache) -> Looked:
    """Look at what was made: nobody waits for that to train again."""
    taught, preview = found.taught, None
    if field_now is not None:
        class_map = class_map_of(taught.model, field_now, cache)
        preview = Preview(field_now, class_map, found.version.number, taught.epoch)
    keys = tuple(image.key for image in taught.frozen.run.images)
    return Looked(preview, worst_of(taught, cache), keys)


def estimated(
    pairs: tuple[Pair, ...], choices: Choices, cache: EmbeddingCache, load: Load
) -> dict[str, Estimate]:
    """What each preset would take here, from a timed step; ends as :func:`prepared` would."""
    from napari_pathsam.training.finetune_plan import estimates
    from napari_pathsam.training.finetune_run import freeze

    frozen = freeze(choices.settings(), finetune_images(pairs, choices.classes), load=load)
    configs: dict[str, Any] = {preset: choices.config_of(preset) for preset in PRESETS}
    return estimates(frozen, configs, cache=cache, load=load)


def preset_numbers(choices: Choices) -> dict[str, float]:
    """The numbers behind a preset, for the fields of the advanced box."""
    from napari_pathsam.models.kan import KanConfig
    from napari_pathsam.training.finetune_start import FRESH_HIDDEN

    plain = choices.model_copy(update={"advanced": Advanced()})
    config, kan = plain.config_of(choices.preset), KanConfig()
    names = ("lr", "alpha", "beta", "epochs", "variants", "seed")
    found = {name: getattr(config, name) for name in names}
    return found | {"grid": kan.grid, "order": kan.order, "width": FRESH_HIDDEN[0]}


def save_version(path: Path, taught: Taught, version: Version) -> None:
    """Write a version's model file."""
    from napari_pathsam.training.finetune_file import save_taught

    save_taught(path, taught, note=version.note)


def worst_of(taught: Taught, cache: EmbeddingCache) -> tuple[WorstRegion, ...]:
    """The training regions the model disagrees with most."""
    from napari_pathsam.training.finetune_score import worst_regions

    return tuple(worst_regions(taught.model, taught.frozen, cache=cache))


def class_map_of(
    model: Any, field_now: FieldOfView, cache: EmbeddingCache | None
) -> NDArray[np.uint8]:
    """Classes of a field, ``region.shape_yx`` ids."""
    from napari_pathsam.inference.class_maps import paint, segment_tiles

    region = field_now.region
    class_map = np.zeros(region.shape_yx, np.uint8)
    mpp = field_now.mpp or model.config.mpp
    tiles = SourceTiles(field_now.source)
    for tile in segment_tiles(model, tiles, mpp=mpp, region=region, cache=cache):
        paint(class_map, region, tile)
    return class_map


def previewed(
    load: Callable[[], Any], field_now: FieldOfView, cache: EmbeddingCache, version: Version
) -> Preview:
    """A version's classes over a field, by the lesson's ids."""
    class_map = class_map_of(load(), field_now, cache)
    if version.ids:
        table = np.arange(256, dtype=np.uint8)
        table[list(version.ids)] = list(version.ids.values())
        class_map = table[class_map]
    return Preview(field_now, class_map, version.number)


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
