"""What browsing a data set does in a worker: opening, reading an image, scoring a model on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, UnavailableError

if TYPE_CHECKING:
    from napari_pathsam.datasets import DataSet, LabelKind, Sample
    from napari_pathsam.evaluation.class_scores import ClassScore

FIGURES = (
    "object_dice", "mean_dice", "dice", "iou", "precision", "recall", "object_f1",
    "object_hausdorff", "pq", "mpq", "boundary_f1",
)  # fmt: skip
"""Figures that are shown; the first that there is orders the images."""
OF_TILES = ("pixel_accuracy",)
"""The same, of images that are of one class."""


@dataclass(frozen=True)
class Opened:
    """A data set in a folder: the samples of one split, and what their labels mean."""

    data: DataSet
    root: Path
    split: str
    samples: tuple[Sample, ...]
    classes: ClassTable


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

    score: ClassScore
    figures: Mapping[str, Figure]
    per_class: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Answered:
    """A score with the labels the model gave, in ids of the data set's classes or of objects."""

    index: int
    scored: Scored
    prediction: NDArray


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
    return Opened(found, root, said, samples, ClassTable.of(*found.classes))


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


def answered(model: Any, opened: Opened, index: int, mpp: float | None) -> Answered:
    """Ask a model for one image and count.

    Raises
    ------
    UnavailableError
        The model knows no classes.
    BadFileError, BadImageError
        A file cannot be read, or no class of the model is one of the labels.
    """
    from napari_pathsam.datasets.base import overriding
    from napari_pathsam.evaluation.answers import ClassSettings, answer
    from napari_pathsam.evaluation.class_names import match_classes
    from napari_pathsam.evaluation.classes import score
    from napari_pathsam.models.class_model import ClassModel

    if not isinstance(model, ClassModel):
        raise UnavailableError(
            "This model answers clicks and knows no classes, so it cannot label a whole image. "
            "Choose one with classes, such as pathsam-nano:glands."
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
    sample = overriding([opened.samples[index]], mpp=mpp)[0]
    settings = ClassSettings()
    found = answer(model, sample, match, settings)
    counted = score(found, sample, match, settings, done=index + 1, total=len(opened.samples))
    if sample.label_kind == "instances" and found.objects is not None:
        return Answered(index, scored(counted), found.objects)
    ids = np.zeros(len(match.names), np.uint8)
    for info in opened.classes:
        ids[max(int(match.of_label[info.id]), 0)] = info.id
    ids[0] = 0
    return Answered(index, scored(counted), ids[found.found])


def scored(score: ClassScore) -> Scored:
    """What the counts of one image come to."""
    from napari_pathsam.evaluation.class_figures import class_headlines

    headlines = class_headlines([score])
    per_class = {name: headlines[f"{name}: dice"].value for name in score.names[1:]}
    return Scored(score, _figures(headlines, [score]), per_class)


def pooled(scores: Sequence[ClassScore]) -> dict[str, Figure]:
    """What the counts of many images come to, added before they are divided."""
    from napari_pathsam.evaluation.class_figures import class_headlines

    return _figures(class_headlines(scores), scores) if scores else {}


def _figures(headlines: Mapping[str, Any], scores: Sequence[ClassScore]) -> dict[str, Figure]:
    keys = OF_TILES if all(s.tile for s in scores) else FIGURES
    several = len(scores[0].names) > 2
    return {
        key: Figure(h.title, h.value, h.larger_is_better)
        for key in keys
        if (h := headlines.get(key)) is not None and (several or key != "mean_dice")
    }
