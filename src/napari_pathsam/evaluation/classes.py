"""How well a model labels every pixel: confusion counts, objects and outlines over a data set.

Counts of all images are added before anything is divided. Masks are compared at the size of the
labels, whatever resolution the model works at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core import metrics
from napari_pathsam.core.boundary_metrics import count_boundary
from napari_pathsam.core.calibration import count_confidence
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.instance_metrics import (
    InstanceCounts,
    count_instances_by_class,
    counts_of,
)
from napari_pathsam.core.object_metrics import count_objects
from napari_pathsam.core.overlaps import Overlaps
from napari_pathsam.core.published_metrics import dtu_figures
from napari_pathsam.datasets.base import Sample
from napari_pathsam.datasets.objects import objects_of
from napari_pathsam.evaluation.answers import (
    Answer,
    ClassSettings,
    answer,
    holds_classes,
    refuse_undone,
)
from napari_pathsam.evaluation.class_names import ClassMatch, match_classes
from napari_pathsam.evaluation.class_scores import ClassScore, TileAnswer
from napari_pathsam.inference.objects import classes_of

if TYPE_CHECKING:
    from napari_pathsam.models.class_model import ClassModel

__all__ = ["ClassSettings", "evaluate_classes", "label_classes", "majority", "score"]


def evaluate_classes(
    model: ClassModel,
    samples: Sequence[Sample],
    settings: ClassSettings | None = None,
    *,
    classes: ClassTable | None = None,
) -> Iterator[ClassScore]:
    """Segment every sample and count; yields one score an image. Closing the generator cancels.

    :func:`~napari_pathsam.evaluation.class_figures.class_metrics` turns the scores into figures.

    Parameters
    ----------
    classes
        What the ids of class labels mean; one class for labels that know no classes (instances,
        binary). None: see :func:`label_classes`.

    Raises
    ------
    BadImageError, BadFileError
        A file cannot be read, labels hold an id that is no class, no class of the model is one of
        the labels.
    UnavailableError
        Something is asked for that this model does not do (:func:`refuse_undone`).
    """
    settings = settings or ClassSettings()
    refuse_undone(model, settings)
    if classes is None:
        classes = label_classes(model.classes, samples)
    match = match_classes(model.classes, classes, settings.mapping)
    for done, sample in enumerate(samples, start=1):
        yield score(answer(model, sample, match, settings), sample, match, settings,
                    done=done, total=len(samples))  # fmt: skip


def score(
    found: Answer,
    sample: Sample,
    match: ClassMatch,
    settings: ClassSettings,
    *,
    done: int = 1,
    total: int = 1,
) -> ClassScore:
    """The counts of one image."""
    objects = boundary = tile = instances = dtu = None
    sizes: tuple[tuple[int, float], ...] = ()
    known, tolerance = found.known, settings.boundary_px
    pair: tuple[NDArray, NDArray] = found.target, found.found
    if sample.homogeneous:
        tile = TileAnswer(int(found.target[0, 0]), majority(found.found))
    elif sample.label_kind == "instances":
        assert found.objects is not None
        pair = np.where(known, found.labels, 0), found.objects
        overlaps = Overlaps.of(*pair)
        objects, instances, sizes = count_objects(*pair), counts_of(overlaps), sizes_of(overlaps)
        boundary = count_boundary(*pair, tolerance_px=tolerance, known=known)
    else:
        boundary = count_boundary(*pair, tolerance_px=tolerance, known=known)
        sizes = _sizes_of_areas(*pair)
    if settings.as_published and not sample.homogeneous:
        dtu = dtu_figures(*pair)
    confidence = None
    if found.confidence is not None:
        confidence = count_confidence(
            found.confidence[known], (found.found == found.target)[known]
        )  # fmt: skip
    return ClassScore(
        name=sample.name,
        group=sample.group,
        done=done,
        total=total,
        names=match.names,
        counts=metrics.confusion(found.target[known], found.found[known], len(match.names)),
        objects=objects,
        boundary=boundary,
        tile=tile,
        mpp=found.mpp,
        pixel_size=found.pixel_size,
        seconds=found.seconds,
        instances=instances,
        sizes=sizes,
        confidence=confidence,
        dtu=dtu,
        by_class=_by_class(found, len(match.names)),
    )


def _by_class(found: Answer, n: int) -> tuple[InstanceCounts, ...]:
    """Of each class the counts of its objects, where the labels have objects of several classes."""
    if found.target_objects is None or found.objects is None:
        return ()
    counts = count_instances_by_class(
        found.target_objects, classes_of(found.target_objects, found.target.astype(np.uint8)),
        found.objects, classes_of(found.objects, found.found), range(1, n),
    )  # fmt: skip
    return tuple(counts.values())


def sizes_of(overlaps: Overlaps) -> tuple[tuple[int, float], ...]:
    """Area of each labelled object, and its Dice with the prediction it shares most with."""
    best = overlaps.partners(of_pred=False)
    dice = np.r_[overlaps.dice(), 0.0][best]
    areas = overlaps.target.areas
    return tuple((int(a), float(d)) for a, d in zip(areas, dice, strict=True))


def _sizes_of_areas(
    target: NDArray[np.integer], found: NDArray[np.integer]
) -> tuple[tuple[int, float], ...]:
    """The same of the areas of each class that hang together, among predictions of that class."""
    ids = [objects_of(positions, "classes") for positions in (target, found)]
    overlaps = Overlaps.of(*ids)
    kinds = []
    for positions, areas in zip((target, found), ids, strict=True):
        kind = np.zeros(int(areas.max(initial=0)) + 1, np.int64)
        kind[areas] = positions
        kinds.append(kind[1:])
    alike = kinds[0][overlaps.pairs[:, 0]] == kinds[1][overlaps.pairs[:, 1]]
    return sizes_of(replace(overlaps, pairs=overlaps.pairs[alike], shared=overlaps.shared[alike]))


def label_classes(model: ClassTable, samples: Sequence[Sample]) -> ClassTable:
    """What labels mean that come without a class table.

    The model's own classes by id where they are classes; otherwise one class, called as the
    model's only one.
    """
    if any(holds_classes(s) for s in samples):
        return model
    return ClassTable.of(model.names[0] if len(model) == 1 else "object")


def majority(found: NDArray[np.integer]) -> int:
    """The class that most of what is not background belongs to; 0 where all of it is."""
    counts = np.bincount(found.ravel(), minlength=2)
    return 1 + int(counts[1:].argmax()) if counts[1:].any() else 0
