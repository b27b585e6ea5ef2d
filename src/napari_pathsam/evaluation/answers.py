"""What a model says of one labelled image, on the positions of the labels' classes."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, computed_field

from napari_pathsam.core.errors import BadImageError, UnavailableError
from napari_pathsam.datasets.base import UNKNOWN_ID, Sample
from napari_pathsam.evaluation.class_names import ClassMatch
from napari_pathsam.evaluation.class_scores import PixelSize
from napari_pathsam.evaluation.confidence import segment_surely
from napari_pathsam.inference.class_maps import SegmentSettings
from napari_pathsam.inference.found_objects import knows_objects, segment_objects
from napari_pathsam.inference.objects import classes_of, instances, sharpen_tiles, sharpened
from napari_pathsam.io.slides import ArraySlide

if TYPE_CHECKING:
    from napari_pathsam.models.class_model import ClassModel


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
        Whether predicted objects that touch are told apart (:func:`instances`); by default the
        8-connected areas of a class are its objects. A model that finds objects one by one has
        them apart: see :func:`refuse_undone`.
    seed
        Touching objects are told apart by where the model is at least so sure of them; 0: by their
        shape, where ``split`` asks for it.
    drop
        Instead of ``seed``: by where its log odds are at most so far below each object's surest
        part.
    surest
        Objects of which the model is on average less sure go.
    sharpen
        Whether the prompt decoder outlines each object anew; classes follow the objects then.
    views
        Test-time augmentation, as for :class:`SegmentSettings`.
    boundary_px
        Tolerance of boundary F1, in pixels of the labels.
    as_published
        Whether each image is also scored as the DTU report did.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at_mpp: float | None = Field(None, gt=0)
    mapping: dict[str, str] = {}
    ignore_id: int | None = Field(None, ge=0)
    sparse: bool = False
    threshold: float = Field(0.0, ge=0, le=1)
    smallest_px: int = Field(0, ge=0)
    fill_holes_px: int = Field(0, ge=0)
    split: bool = False
    seed: float = Field(0.0, ge=0, le=1)
    drop: float = Field(0.0, ge=0)
    surest: float = Field(0.0, ge=0, le=1)
    sharpen: bool = False
    views: Literal[1, 2, 4, 8] | None = None
    boundary_px: float = Field(3.0, ge=0)
    as_published: bool = False

    @property
    def by_likelihood(self) -> bool:
        """Whether touching objects are told apart by how sure the model is."""
        return self.seed > 0 or self.drop > 0

    @property
    def of_objects(self) -> bool:
        """Whether something is done to single objects, so that they are looked for."""
        return self.split or self.by_likelihood or self.surest > 0 or self.sharpen

    @computed_field  # type: ignore[prop-decorator]
    @property
    def post_processing(self) -> str:
        """What is done to the model's answer before it is measured, for the report."""
        done = {
            f"pixels less likely than {self.threshold:g} are background": self.threshold > 0,
            f"areas under {self.smallest_px} px removed": self.smallest_px > 1,
            f"holes under {self.fill_holes_px} px filled": self.fill_holes_px > 0,
            f"touching objects told apart by where it is {self.seed:g} sure": self.seed > 0,
            f"touching objects told apart where its log odds drop by {self.drop:g}": self.drop > 0,
            "touching objects told apart by their shape": self.split and not self.by_likelihood,
            f"objects less than {self.surest:g} sure removed": self.surest > 0,
            "outlines redrawn by the prompt decoder": self.sharpen,
        }
        return ", ".join(what for what, on in done.items() if on) or "none"


@dataclass(frozen=True)
class Answer:
    """One image with its labels, and what the model made of it.

    Attributes
    ----------
    image, labels
        As they were read.
    target, found
        Positions among the classes ``(H, W)``; 0 is background, also where nobody looked.
    known
        Where anybody looked.
    objects
        Predicted object ids, where labels have objects or something is done to these.
    target_objects
        Ids of the objects whose classes the labels are, where anybody drew them.
    confidence
        The probability the model gave to what stands in ``found``; None of models that find
        objects one by one.
    seconds
        From the pixels to the classes and objects.
    """

    image: NDArray[np.uint8]
    labels: NDArray
    target: NDArray[np.int16]
    known: NDArray[np.bool_]
    found: NDArray[np.uint8]
    objects: NDArray[np.int32] | None
    confidence: NDArray[np.float32] | None
    mpp: float
    pixel_size: PixelSize
    seconds: float
    target_objects: NDArray | None = None


OF_CLASS_MAPS = {
    "threshold": "--threshold", "fill_holes_px": "--fill-holes", "split": "--split-objects",
    "seed": "--seed-at", "drop": "--seed-drop", "surest": "--surest", "sharpen": "--sharpen",
    "views": "--views",
}  # fmt: skip
"""What models that find objects one by one do not read of :class:`ClassSettings`, as options."""


def refuse_undone(model: ClassModel, settings: ClassSettings) -> None:
    """See that all that is asked for can be done: a report says it was.

    Raises
    ------
    UnavailableError
        Something would change nothing; the message names it.
    """
    if settings.seed > 0 and settings.drop > 0:
        raise UnavailableError(
            f"Touching objects are told apart either by where the model is {settings.seed:g} sure "
            f"(--seed-at) or by where its log odds drop by {settings.drop:g} (--seed-drop), not by "
            "both. Leave one of them out."
        )
    idle = [option for name, option in OF_CLASS_MAPS.items() if getattr(settings, name)]
    if knows_objects(model) and idle:
        raise UnavailableError(
            f"{model.name} finds objects one by one and makes no class map, so "
            f"{', '.join(idle)} would change nothing. Leave that out; --smallest removes small "
            "objects of its, too."
        )


def answer(
    model: ClassModel, sample: Sample, match: ClassMatch, settings: ClassSettings
) -> Answer:  # fmt: skip
    """Segment one sample.

    Raises
    ------
    BadImageError, BadFileError
        A file cannot be read, or labels hold an id that is no class.
    """
    image, labels = sample.load()
    mpp, pixel_size = _mpp_of(sample, model)
    target, known = _target(sample, labels, match, settings)
    started = perf_counter()
    told = _told(model, mpp, settings)
    of_channel = match.of_model[[0, *(info.id for info in model.classes)]]
    predicted = sure = None
    if knows_objects(model):
        predicted, found = _known_objects(model, image, told, match, settings)
    else:
        wanted = SegmentSettings(
            threshold=settings.threshold,
            smallest_px=settings.smallest_px,
            fill_holes_px=settings.fill_holes_px,
            keep_probabilities=True,
            views=settings.views,
        )
        sure = segment_surely(model, image, told, wanted)
        found = match.of_model[sure.class_map]
        if sample.label_kind == "instances" or sample.objects or settings.of_objects:
            asks = settings.by_likelihood or settings.surest > 0
            likely = sure.probability_of(found, of_channel) if asks else None
            predicted, found = _objects(model, image, found, likely, told, settings)
    seconds = perf_counter() - started
    confidence = None if sure is None else sure.probability_of(found, of_channel)
    if predicted is not None:
        predicted[~known] = 0
    drawn = None if sample.objects is None else np.where(known, sample.objects(sample)[1], 0)
    found[~known] = 0
    return Answer(
        image, labels, target, known, found, predicted, confidence, mpp, pixel_size, seconds,
        target_objects=drawn,
    )  # fmt: skip


def _told(model: ClassModel, mpp: float, settings: ClassSettings) -> float:
    """The pixel size to give as the image's, so that it is worked on at ``at_mpp``.

    A model works at its own pixel size; told that pixels are larger, it works at a finer one.
    """
    return mpp if settings.at_mpp is None else mpp * model.config.mpp / settings.at_mpp


def _objects(
    model: ClassModel,
    image: NDArray[np.uint8],
    found: NDArray[np.uint8],
    likely: NDArray[np.float32] | None,
    mpp: float,
    settings: ClassSettings,
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """The objects of positions ``(H, W)`` among the classes, and the positions they leave."""
    objects = instances(
        found,
        split=settings.split or settings.by_likelihood,
        smallest_px=settings.smallest_px,
        likely=likely,
        seed=settings.seed,
        drop=settings.drop,
        surest=settings.surest,
    )
    found = np.where(objects > 0, found, 0).astype(np.uint8)
    if not settings.sharpen:
        return objects, found
    class_of = np.zeros(int(objects.max(initial=0)) + 1, np.uint8)
    for label, position in classes_of(objects, found).items():
        class_of[label] = position
    tiles = sharpen_tiles(model, ArraySlide(image, mpp=mpp), objects, mpp=mpp)
    objects = sharpened(objects, [sharp for tile in tiles for sharp in tile.objects])
    return objects, class_of[objects]


def _known_objects(
    model: ClassModel,
    image: NDArray[np.uint8],
    mpp: float,
    match: ClassMatch,
    settings: ClassSettings,
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Objects ``(H, W)`` of a model that finds them one by one, and their positions."""
    wanted = SegmentSettings(smallest_px=settings.smallest_px)
    objects = segment_objects(model, ArraySlide(image, mpp=mpp), mpp=mpp, settings=wanted)
    found = match.of_model[objects.class_map]
    return np.where(found > 0, objects.labels, 0).astype(np.int32), found


def _mpp_of(sample: Sample, model: ClassModel) -> tuple[float, PixelSize]:
    if sample.mpp is not None:
        return sample.mpp, "given"
    if sample.nominal_mpp is not None:
        return sample.nominal_mpp, "nominal"
    return model.config.mpp, "model"


def holds_classes(sample: Sample) -> bool:
    """Whether the ids of its labels, or its folder, say a class."""
    return sample.label_kind == "classes" or sample.class_id is not None


def _target(
    sample: Sample, labels: NDArray, match: ClassMatch, settings: ClassSettings
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Positions among the classes ``(H, W)``, and where anybody looked."""
    ignore_id = settings.ignore_id
    if ignore_id is None and holds_classes(sample):
        ignore_id = UNKNOWN_ID
    known = np.ones(labels.shape, bool) if ignore_id is None else labels != ignore_id
    if settings.sparse:
        known &= labels != 0
    if not holds_classes(sample):
        return ((labels != 0) & known).astype(np.int16), known
    ids = np.where(known, labels, 0)
    strange = [int(i) for i in np.unique(ids) if not 0 <= i <= 255 or match.of_label[i] < 0]
    if strange:
        raise BadImageError(
            f"The labels of {sample.name} ({sample.labels_path}) hold the ids "
            f"{', '.join(map(str, strange[:8]))}, which are none of the classes "
            f"({', '.join(match.names[1:])}). Give their class table with "
            "--classes, or say with --label-kind that the ids are objects (instances) or mean "
            "nothing (binary)."
        )
    return match.of_label[ids], known
