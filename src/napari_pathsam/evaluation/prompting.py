"""How well a model answers clicks and boxes: the simulated annotator over a data set.

Objects are instance ids, or 8-connected components where labels are binary or classes. Those
under 50 pixels are left out and counted. Figures are means over objects, not over images.

The number of clicks (NoC) to an IoU is that of Sofiiuk et al., ICIP 2022, and others: an object
that never gets there counts as the most clicks that were made, and is counted as failed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from napari_pathsam.core.prompts import (
    SMALLEST_OBJECT_PX,
    Prompts,
    ellipse_in_box,
    innermost_point,
    iter_objects,
    scribble_points,
    tight_box,
)
from napari_pathsam.datasets.base import Sample
from napari_pathsam.datasets.objects import objects_of, objects_to_find
from napari_pathsam.evaluation.headlines import Headline, intervals, mean_headline
from napari_pathsam.evaluation.simulated_prompts import noisy_box, scribble_path
from napari_pathsam.inference.class_maps import PixelSizeWarning, segment_classes
from napari_pathsam.inference.segment import encode_at
from napari_pathsam.inference.simulation import clicking, mask_iou, small_enough

if TYPE_CHECKING:
    from napari_pathsam.models.class_model import ClassModel
    from napari_pathsam.models.embedding import ImageEmbedding
    from napari_pathsam.models.promptable import Promptable

GOALS = (0.80, 0.90)
"""IoU to which clicks are counted."""
SHOWN_CLICKS = 3
"""What is shown of an object is its mask after so many clicks."""
OVER_OBJECTS = "mean over objects"


class PromptSettings(BaseModel):
    """How the simulated annotator works.

    ``clicks`` are the numbers of clicks after which the IoU is reported; further clicks, up to
    ``most_clicks`` in all, are made until the last of :data:`GOALS` is reached. ``at_mpp``
    resamples every image to this pixel size before it is encoded; masks are compared at the
    labels' size.
    Answers that cover more than ``largest_share`` of the image are dropped: 0.5 is the
    post-processing of the SAM-Path and Path-SAM2 papers, None keeps all. ``box_noise`` and
    ``seed`` are those of :func:`~napari_pathsam.evaluation.simulated_prompts.noisy_box`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clicks: tuple[int, ...] = Field((1, 2, 3, 4, 5), min_length=1)
    smallest_px: int = Field(SMALLEST_OBJECT_PX, ge=1)
    at_mpp: float | None = Field(None, gt=0)
    largest_share: float | None = Field(None, gt=0, le=1)
    most_clicks: int = Field(20, ge=1)
    box_noise: float = Field(0.2, ge=0, lt=1)
    seed: int = Field(0, ge=0)


@dataclass(frozen=True)
class ObjectScore:
    """How one object went.

    ``iou_at_clicks[n - 1]`` is the IoU after ``n`` clicks, as far as clicks were made;
    ``seconds`` are those of each click's decode, mask at image resolution included.
    ``iou_component`` is that of the area of a class map under the first click; None: no class map.
    """

    area_px: int
    iou_at_clicks: tuple[float, ...]
    iou_box: float
    iou_noisy_box: float
    iou_scribble: float
    iou_ellipse: float
    seconds: tuple[float, ...]
    iou_component: float | None = None

    def iou_after(self, clicks: int) -> float:
        """When nothing was wrong any more, further clicks keep the score."""
        return self.iou_at_clicks[min(clicks, len(self.iou_at_clicks)) - 1]

    def clicks_to(self, iou: float) -> int | None:
        """The number of clicks after which the IoU was this for the first time; None: never."""
        return next((n for n, v in enumerate(self.iou_at_clicks, start=1) if v >= iou), None)


@dataclass(frozen=True)
class ImageScore:
    """One image's objects; ``done`` of ``total`` images are finished."""

    name: str
    group: str
    done: int
    total: int
    n_too_small: int
    objects: tuple[ObjectScore, ...]
    encode_seconds: float

    def to_values(self) -> dict[str, Any]:
        """Plain values for a line of JSON."""
        return asdict(self)

    @classmethod
    def of_values(cls, values: dict[str, Any]) -> ImageScore:
        """Back from :meth:`to_values`; KeyError, TypeError or ValueError for anything else."""
        lists = ("iou_at_clicks", "seconds")
        objects = (ObjectScore(**(o | {k: tuple(o[k]) for k in lists})) for o in values["objects"])
        return cls(**(values | {"objects": tuple(objects)}))


def evaluate_prompts(
    model: Promptable,
    samples: Sequence[Sample],
    settings: PromptSettings | None = None,
    *,
    classes: ClassModel | None = None,
) -> Iterator[ImageScore]:
    """Click at every object of every sample; yields one score an image.

    A model that knows ``classes`` adds a baseline: the area of its class map under the first click,
    in images whose pixel size is known or estimated.
    Closing the generator cancels. :func:`prompt_metrics` turns the scores into figures.

    Raises
    ------
    BadImageError, BadFileError
        A file cannot be read, or has no pixel size while ``at_mpp`` asks for one.
    UnavailableError
        A sample has no objects, being a tile of one class.
    """
    settings = settings or PromptSettings()
    for done, sample in enumerate(samples, start=1):
        image = shown_image(model, sample, settings.at_mpp, classes=classes)
        found = [asked.score for asked in ask_each(model, image, settings)]
        yield image.score(found, done=done, total=len(samples))


@dataclass(frozen=True)
class ShownImage:
    """An image that a model was shown, with the objects ``(H, W)`` it is to be asked for.

    ``known`` is where anybody looked (None: everywhere), ``pieces`` are the areas of a class map,
    see :func:`evaluate_prompts`.
    """

    sample: Sample
    pixels: NDArray[np.uint8]
    embedding: ImageEmbedding
    objects: NDArray[np.int32]
    known: NDArray[np.bool_] | None
    pieces: NDArray[np.int32] | None
    encode_seconds: float

    def score(
        self, found: Sequence[ObjectScore], *, done: int = 1, total: int = 1
    ) -> ImageScore:  # fmt: skip
        """The score of the image, from those of its objects."""
        return ImageScore(
            name=self.sample.name,
            group=self.sample.group,
            done=done,
            total=total,
            n_too_small=int(np.count_nonzero(np.unique(self.objects))) - len(found),
            objects=tuple(found),
            encode_seconds=self.encode_seconds,
        )


@dataclass(frozen=True)
class AskedObject:
    """An object by its id: how it went, and the mask after :data:`SHOWN_CLICKS` clicks."""

    index: int
    score: ObjectScore
    mask: NDArray[np.bool_]


def shown_image(
    model: Promptable,
    sample: Sample,
    at_mpp: float | None = None,
    *,
    classes: ClassModel | None = None,
) -> ShownImage:
    """Read an image and encode it, once for all of its objects."""
    image, labels = sample.load()
    objects, known = objects_to_find(sample, labels)
    started = perf_counter()
    embedding = encode_at(model, image, mpp=sample.mpp, at_mpp=at_mpp, name=sample.name)
    seconds = perf_counter() - started
    pieces = None if classes is None else _pieces(classes, image, sample)
    return ShownImage(sample, image, embedding, objects, known, pieces, seconds)


def ask_each(
    model: Promptable, image: ShownImage, settings: PromptSettings
) -> Iterator[AskedObject]:
    """Ask for one object after the other; closing the generator stops."""
    for index, target in iter_objects(image.objects, smallest_px=settings.smallest_px):
        score, mask = _asked(model, image, index, target, settings)
        yield AskedObject(index, score, mask)


def _pieces(
    model: ClassModel, image: NDArray[np.uint8], sample: Sample
) -> NDArray[np.int32] | None:
    """The areas of a class map as ids; None where no pixel size is known."""
    mpp = sample.mpp or sample.nominal_mpp
    if mpp is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PixelSizeWarning)  # the sizes are in the report
        return objects_of(segment_classes(model, image, mpp), "classes")


def _component_iou(pieces: NDArray[np.int32], target: NDArray[np.bool_]) -> float:
    y, x = (round(at) for at in innermost_point(target))
    return mask_iou(pieces == pieces[y, x], target) if pieces[y, x] else 0.0


def _asked(
    model: Promptable,
    image: ShownImage,
    index: int,
    target: NDArray[np.bool_],
    settings: PromptSettings,
) -> tuple[ObjectScore, NDArray[np.bool_]]:
    """One object, clicked at, boxed tightly and loosely, and scribbled on, each time afresh.

    With the mask that is shown.
    """
    embedding, pieces, share = image.embedding, image.pieces, settings.largest_share

    def iou_of(prompts: Prompts) -> float:
        mask = small_enough(model.decode_prompts(embedding, prompts), share)[1]
        return mask_iou(mask if image.known is None else mask & image.known, target)

    reported, most = max(settings.clicks), max(*settings.clicks, settings.most_clicks)
    ious, seconds = [], []
    for turn in clicking(
        model, embedding, target, clicks=most, largest_share=share, known=image.known
    ):
        ious.append(mask_iou(turn.mask, target))
        seconds.append(turn.seconds)
        if len(ious) <= SHOWN_CLICKS:
            shown = turn.mask
        if len(ious) >= reported and max(ious) >= GOALS[-1]:
            break
    box = tight_box(target)
    seed = settings.seed, image.sample.name, index
    noisy = noisy_box(box, target.shape, settings.box_noise, seed)
    line = scribble_points(scribble_path(target))
    score = ObjectScore(
        area_px=int(np.count_nonzero(target)),
        iou_at_clicks=tuple(ious),
        iou_box=iou_of(Prompts(box=box)),
        iou_noisy_box=iou_of(Prompts(box=noisy)),
        iou_scribble=iou_of(Prompts(points_yx=line, positive=(True,) * len(line))),
        iou_ellipse=mask_iou(ellipse_in_box(box, target.shape), target),
        seconds=tuple(seconds),
        iou_component=None if pieces is None else _component_iou(pieces, target),
    )
    return score, shown


def prompt_metrics(
    scores: Sequence[ImageScore], settings: PromptSettings | None = None, *, seed: int = 0
) -> dict[str, Any]:
    """The figures of a report: means over the objects of all images, medians of times.

    NaN where there was no object to measure. ``noc_80_failed`` is the share of objects that never
    came to an IoU of 0.80.
    """
    settings = settings or PromptSettings()
    headlines = prompt_headlines(scores, settings)
    objects = [o for score in scores for o in score.objects]
    values = {name: h.value for name, h in headlines.items() if not name.startswith("iou_at_")}
    return {
        "averaging": OVER_OBJECTS,
        "iou_at_clicks": {str(n): headlines[f"iou_at_{n}"].value for n in settings.clicks},
        **values,
        "n_objects": len(objects),
        "n_too_small": sum(score.n_too_small for score in scores),
        "ms_per_click": _median_ms([s for o in objects for s in o.seconds]),
        "ms_to_encode": _median_ms([score.encode_seconds for score in scores]),
        "intervals": intervals(headlines, [s.group for s in scores], seed=seed),
    }


def prompt_headlines(
    scores: Sequence[ImageScore], settings: PromptSettings | None = None
) -> dict[str, Headline]:
    """Every figure by name: ``iou_at_1`` …, ``iou_box`` …, ``noc_80``, ``noc_90``."""
    settings = settings or PromptSettings()
    most = max(*settings.clicks, settings.most_clicks)
    images = [score.objects for score in scores]
    found = {
        f"iou_at_{n}": mean_headline(
            f"IoU after {n} click{'s' if n > 1 else ''}",
            OVER_OBJECTS,
            [[o.iou_after(n) for o in objects] for objects in images],
        )
        for n in settings.clicks
    }
    for key, title in (
        ("iou_box", "IoU with a box"),
        ("iou_noisy_box", f"IoU with a box that is up to {settings.box_noise:.0%} off"),
        ("iou_scribble", "IoU with a scribble"),
        ("iou_ellipse", "IoU of the ellipse in the box (baseline)"),
    ):
        values = [[getattr(o, key) for o in objects] for objects in images]
        found[key] = mean_headline(title, OVER_OBJECTS, values)
    known = [[o.iou_component for o in objects] for objects in images]
    if any(value is not None for values in known for value in values):
        title = "IoU of the classes' area under the first click (baseline)"
        there = [[v for v in values if v is not None] for values in known]
        found["iou_component"] = mean_headline(title, OVER_OBJECTS, there)
    for goal in GOALS:
        found[_noc(goal)] = mean_headline(
            f"clicks to an IoU of {goal:.2f} (at most {most})",
            OVER_OBJECTS,
            [[o.clicks_to(goal) or most for o in objects] for objects in images],
            larger_is_better=False,
        )
        found[f"{_noc(goal)}_failed"] = mean_headline(
            f"objects that never came to an IoU of {goal:.2f}",
            OVER_OBJECTS,
            [[float(o.clicks_to(goal) is None) for o in objects] for objects in images],
            larger_is_better=False,
        )
    return found


def _noc(goal: float) -> str:
    return f"noc_{round(100 * goal)}"


def _median_ms(seconds: Sequence[float]) -> float:
    return 1000 * float(np.median(seconds)) if seconds else math.nan
