"""How well a model labels every pixel: confusion counts, objects and outlines over a data set.

Counts of all images are added before anything is divided. Masks are compared at the size of the
labels, whatever resolution the model works at.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from napari_pathsam.core import metrics
from napari_pathsam.core.boundary_metrics import count_boundary
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadImageError
from napari_pathsam.core.object_metrics import count_objects
from napari_pathsam.datasets.base import Sample
from napari_pathsam.evaluation.class_names import ClassMatch, match_classes
from napari_pathsam.evaluation.class_scores import ClassScore, PixelSize, TileAnswer
from napari_pathsam.inference.class_maps import PixelSizeWarning, segment_classes
from napari_pathsam.inference.objects import classes_of, instances, sharpen_tiles, sharpened
from napari_pathsam.io.slides import ArraySlide

if TYPE_CHECKING:
    from napari_pathsam.models.pathsam import PathSam

UNKNOWN_ID = 255
"""The id of class labels that means "nobody looked here"."""


class ClassSettings(BaseModel):
    """How class maps are made and compared.

    Attributes
    ----------
    at_mpp
        Pixel size to work at instead of the model's own.
    mapping
        Class of the labels by class of the model, see :func:`match_classes`.
    ignore_id
        Label pixels of this id are not counted. By default 255, where labels are classes.
    sparse
        Whether label pixels of id 0 are unlabelled, rather than background.
    threshold, smallest_px, fill_holes_px
        As for :func:`segment_classes`; what is unsure counts as background.
    split
        Whether predicted objects that touch are told apart (:func:`instances`).
    sharpen
        Whether the prompt decoder outlines each object anew; classes follow the objects then.
    boundary_px
        Tolerance of boundary F1, in pixels of the labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at_mpp: float | None = Field(None, gt=0)
    mapping: dict[str, str] = {}
    ignore_id: int | None = Field(None, ge=0)
    sparse: bool = False
    threshold: float = Field(0.0, ge=0, le=1)
    smallest_px: int = Field(0, ge=0)
    fill_holes_px: int = Field(0, ge=0)
    split: bool = True
    sharpen: bool = False
    boundary_px: float = Field(3.0, ge=0)


def evaluate_classes(
    model: PathSam,
    samples: Sequence[Sample],
    settings: ClassSettings | None = None,
    *,
    classes: ClassTable | None = None,
) -> Iterator[ClassScore]:
    """Segment every sample and count; yields one score an image. Closing the generator cancels.

    :func:`~napari_pathsam.evaluation.class_scores.class_metrics` turns the scores into figures.

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
    """
    settings = settings or ClassSettings()
    if classes is None:
        classes = label_classes(model.classes, samples)
    match = match_classes(model.classes, classes, settings.mapping)
    for done, sample in enumerate(samples, start=1):
        image, labels = sample.load()
        mpp, pixel_size = _mpp_of(sample, model)
        target, known = _target(sample, labels, match, settings)
        started = perf_counter()
        found = match.of_model[_class_map(model, image, _told(model, mpp, settings), settings)]
        predicted = None
        if sample.label_kind == "instances" or settings.sharpen:
            predicted, found = _objects(model, image, found, _told(model, mpp, settings), settings)
            predicted[~known] = 0
        seconds = perf_counter() - started
        found[~known] = 0
        objects = boundary = tile = None
        if sample.homogeneous:
            tile = TileAnswer(int(target[0, 0]), majority(found))
        elif sample.label_kind == "instances":
            assert predicted is not None
            pair = np.where(known, labels, 0), predicted
            objects = count_objects(*pair)
            boundary = count_boundary(*pair, tolerance_px=settings.boundary_px, known=known)
        else:
            boundary = count_boundary(target, found, tolerance_px=settings.boundary_px, known=known)
        yield ClassScore(
            name=sample.name,
            group=sample.group,
            done=done,
            total=len(samples),
            names=match.names,
            counts=metrics.confusion(target[known], found[known], len(match.names)),
            objects=objects,
            boundary=boundary,
            tile=tile,
            mpp=mpp,
            pixel_size=pixel_size,
            seconds=seconds,
        )


def label_classes(model: ClassTable, samples: Sequence[Sample]) -> ClassTable:
    """What labels mean that come without a class table.

    The model's own classes by id where they are classes; otherwise one class, called as the
    model's only one.
    """
    if any(_holds_classes(s) for s in samples):
        return model
    return ClassTable.of(model.names[0] if len(model) == 1 else "object")


def majority(found: NDArray[np.integer]) -> int:
    """The class that most of what is not background belongs to; 0 where all of it is."""
    counts = np.bincount(found.ravel(), minlength=2)
    return 1 + int(counts[1:].argmax()) if counts[1:].any() else 0


def _told(model: PathSam, mpp: float, settings: ClassSettings) -> float:
    """The pixel size to give as the image's, so that it is worked on at ``at_mpp``.

    A model works at its own pixel size; told that pixels are larger, it works at a finer one.
    """
    return mpp if settings.at_mpp is None else mpp * model.config.mpp / settings.at_mpp


def _class_map(
    model: PathSam, image: NDArray[np.uint8], mpp: float, settings: ClassSettings
) -> NDArray[np.uint8]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PixelSizeWarning)  # the report says which it was
        return segment_classes(
            model,
            image,
            mpp,
            threshold=settings.threshold,
            smallest_px=settings.smallest_px,
            fill_holes_px=settings.fill_holes_px,
        )


def _objects(
    model: PathSam,
    image: NDArray[np.uint8],
    found: NDArray[np.uint8],
    mpp: float,
    settings: ClassSettings,
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """The objects of positions ``(H, W)`` among the classes, and the positions they leave."""
    objects = instances(found, split=settings.split)
    if not settings.sharpen:
        return objects, found
    class_of = np.zeros(int(objects.max(initial=0)) + 1, np.uint8)
    for label, position in classes_of(objects, found).items():
        class_of[label] = position
    tiles = sharpen_tiles(model, ArraySlide(image, mpp=mpp), objects, mpp=mpp)
    objects = sharpened(objects, [sharp for tile in tiles for sharp in tile.objects])
    return objects, class_of[objects]


def _mpp_of(sample: Sample, model: PathSam) -> tuple[float, PixelSize]:
    if sample.mpp is not None:
        return sample.mpp, "given"
    if sample.nominal_mpp is not None:
        return sample.nominal_mpp, "nominal"
    return model.config.mpp, "model"


def _holds_classes(sample: Sample) -> bool:
    return sample.label_kind == "classes" or sample.class_id is not None


def _target(
    sample: Sample, labels: NDArray, match: ClassMatch, settings: ClassSettings
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Positions among the classes ``(H, W)``, and where anybody looked."""
    ignore_id = settings.ignore_id
    if ignore_id is None and _holds_classes(sample):
        ignore_id = UNKNOWN_ID
    known = np.ones(labels.shape, bool) if ignore_id is None else labels != ignore_id
    if settings.sparse:
        known &= labels != 0
    if not _holds_classes(sample):
        return ((labels != 0) & known).astype(np.int16), known
    ids = np.where(known, labels, 0)
    strange = [int(i) for i in np.unique(ids) if not 0 <= i <= 255 or match.of_label[i] < 0]
    if strange:
        raise BadImageError(
            f"The labels of {sample.name} hold the ids {', '.join(map(str, strange[:8]))}, which "
            f"are none of the classes ({', '.join(match.names[1:])}). Give their class table with "
            "--classes, or say with --label-kind that the ids are objects (instances) or mean "
            "nothing (binary)."
        )
    return match.of_label[ids], known
