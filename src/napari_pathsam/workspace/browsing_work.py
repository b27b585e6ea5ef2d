"""What browsing a data set does in a worker: opening, reading an image, scoring a model on it.

A model is scored by what it can do, as ``pathsam evaluate`` would: the classes it gives to pixels,
or its answers to simulated clicks and boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, UnavailableError

if TYPE_CHECKING:
    from napari_pathsam.datasets import DataSet, LabelKind, Sample
    from napari_pathsam.evaluation.class_scores import ClassScore
    from napari_pathsam.evaluation.prompting import ImageScore

Task = Literal["classes", "prompts"]
"""What is asked of a model: a class for every pixel, or objects, by simulated clicks and boxes."""
MOST_CLICKS = 5
"""Clicks at an object; `pathsam evaluate` goes on to 20 where 0.90 is not reached."""
FIGURES = (
    "object_dice", "mean_dice", "dice", "iou", "precision", "recall", "object_f1",
    "object_hausdorff", "pq", "mpq", "boundary_f1",
)  # fmt: skip
"""Figures that are shown; the first that there is orders the images."""
OF_TILES = ("pixel_accuracy",)
"""The same, of images that are of one class."""
OF_PROMPTS = (
    "iou_at_3", "iou_at_1", "iou_at_5", "iou_box", "iou_noisy_box", "iou_scribble",
)  # fmt: skip
"""The same, of simulated clicks and boxes."""


@dataclass(frozen=True)
class Opened:
    """A data set in a folder: the samples of one split, and what their labels mean.

    ``target`` is how labels are read where that is not the default.
    """

    data: DataSet
    root: Path
    split: str
    samples: tuple[Sample, ...]
    classes: ClassTable
    target: str | None = None


@dataclass(frozen=True)
class BrowsedImage:
    """One image with its labels, as read; ``estimated`` says that nobody published ``mpp``."""

    index: int
    sample: Sample
    image: NDArray[np.uint8]
    labels: NDArray
    kind: LabelKind
    classes: ClassTable
    mpp: float | None
    estimated: bool


@dataclass(frozen=True)
class Figure:
    """A figure by its title, with its value."""

    title: str
    value: float
    larger_is_better: bool = True


@dataclass(frozen=True)
class Scored:
    """What a model scored on one image: its counts, and what they come to.

    Attributes
    ----------
    figures
        Those that there are, by key.
    per_class
        Dice by class; NaN where a class is in neither map.
    """

    score: ClassScore | ImageScore
    figures: Mapping[str, Figure]
    per_class: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Answered:
    """A score with the labels the model gave, in ids of the data set's classes or of objects."""

    index: int
    scored: Scored
    prediction: NDArray
    kind: LabelKind


def opened(name: str | None, root: Path, split: str | None, target: str | None) -> Opened:
    """Look what lies in a folder; ``name`` None: tell the data set by its files.

    Raises
    ------
    BadFileError, UnavailableError
        It is no such folder, or the split is empty.
    """
    from napari_pathsam.datasets import dataset, recognise

    found = dataset(name, target, root) if name else recognise(root).at(root)
    samples = tuple(found.samples(root, split))
    said = split or found.default_split
    return Opened(found, root, said, samples, ClassTable.of(*found.classes), target)


def read(opened: Opened, index: int, mpp: float | None) -> BrowsedImage:
    """Read one image; ``mpp`` overrides its pixel size."""
    sample = opened.samples[index]
    image, labels = sample.load()
    kind = "classes" if sample.class_id is not None else sample.label_kind
    size = mpp or sample.mpp or sample.nominal_mpp
    return BrowsedImage(
        index, sample, image, labels, kind, opened.classes, size,
        estimated=size is not None and not (mpp or sample.mpp),
    )  # fmt: skip


def answered(
    model: Any,
    opened: Opened,
    index: int,
    mpp: float | None,
    task: Task = "classes",
    asked: Callable[[int, int], object] = lambda done, total: None,
) -> Answered:
    """Ask a model for one image and count; ``asked`` hears how many objects of how many it was.

    Raises
    ------
    UnavailableError
        The model cannot do what is asked, or there is no object to click at.
    BadFileError, BadImageError
        A file cannot be read, or no class of the model is one of the labels.
    """
    from napari_pathsam.datasets.base import overriding

    sample = overriding([opened.samples[index]], mpp=mpp)[0]
    if task == "prompts":
        return _prompted(model, sample, index, asked)
    return _labelled(model, opened, sample, index)


def _prompted(
    model: Any, sample: Sample, index: int, asked: Callable[[int, int], object]
) -> Answered:
    """Each object clicked at and boxed; shown is its mask after some clicks."""
    from napari_pathsam.evaluation.evaluate import promptable
    from napari_pathsam.evaluation.prompting import PromptSettings, ask_each, shown_image

    settings = PromptSettings(most_clicks=MOST_CLICKS)
    clicked = promptable(model)
    image = shown_image(clicked, sample)
    found = np.zeros(image.objects.shape, np.int32)
    areas = np.unique(image.objects[image.objects > 0], return_counts=True)[1]
    total = int(np.count_nonzero(areas >= settings.smallest_px))
    scores = []
    for one in ask_each(clicked, image, settings):
        scores.append(one.score)
        found[one.mask] = one.index
        asked(len(scores), total)
    return Answered(index, scored(image.score(scores)), found, "instances")


def _labelled(model: Any, opened: Opened, sample: Sample, index: int) -> Answered:
    """Every pixel's class, and objects where labels have objects."""
    from napari_pathsam.evaluation.answers import ClassSettings, answer
    from napari_pathsam.evaluation.class_names import match_classes
    from napari_pathsam.evaluation.classes import score
    from napari_pathsam.models.class_model import ClassModel

    if not isinstance(model, ClassModel):
        raise UnavailableError(
            "This model answers clicks and knows no classes, so it cannot label a whole image. "
            "Have it scored by simulated clicks, or choose one with classes, such as "
            "pathsam-nano:glands."
        )
    try:
        match = match_classes(model.classes, opened.classes)
    except BadFileError as error:
        raise BadFileError(
            f"{model.name} finds {', '.join(model.classes.names)}; the labels of "
            f"{opened.data.title} are {', '.join(opened.classes.names)}, and none of them is among "
            "these. Choose another model; `pathsam evaluate --map` can say which class counts "
            "as which."
        ) from error
    settings = ClassSettings()
    found = answer(model, sample, match, settings)
    counted = score(found, sample, match, settings, done=index + 1, total=len(opened.samples))
    if sample.label_kind == "instances" and found.objects is not None:
        return Answered(index, scored(counted), found.objects, "instances")
    ids = np.zeros(len(match.names), np.uint8)
    for info in opened.classes:
        ids[max(int(match.of_label[info.id]), 0)] = info.id
    ids[0] = 0
    return Answered(index, scored(counted), ids[found.found], "classes")


def scored(score: ClassScore | ImageScore) -> Scored:
    """What the counts of one image come to."""
    headlines = _headlines([score])
    names = getattr(score, "names", ())[1:]
    per_class = {name: headlines[f"{name}: dice"].value for name in names}
    return Scored(score, _figures(headlines, [score]), per_class)


def pooled(scores: Sequence[ClassScore | ImageScore]) -> dict[str, Figure]:
    """What the counts of many images come to, added before they are divided."""
    return _figures(_headlines(scores), scores) if scores else {}


def _headlines(scores: Sequence[Any]) -> Mapping[str, Any]:
    from napari_pathsam.evaluation.class_figures import class_headlines
    from napari_pathsam.evaluation.class_scores import ClassScore
    from napari_pathsam.evaluation.prompting import PromptSettings, prompt_headlines

    if isinstance(scores[0], ClassScore):
        return class_headlines(scores)
    return prompt_headlines(scores, PromptSettings(most_clicks=MOST_CLICKS))


def _figures(headlines: Mapping[str, Any], scores: Sequence[Any]) -> dict[str, Figure]:
    keys: tuple[str, ...] = OF_PROMPTS
    several = False
    if "iou_box" not in headlines:
        keys = OF_TILES if all(s.tile for s in scores) else FIGURES
        several = len(scores[0].names) > 2
    return {
        key: Figure(h.title, h.value, h.larger_is_better)
        for key in keys
        if (h := headlines.get(key)) is not None and (several or key != "mean_dice")
    }
