"""Pictures of what a model answered, the worst image first: labels white, answers in colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor
from scipy import ndimage

from napari_pathsam.core.prompts import iter_objects
from napari_pathsam.datasets.base import Sample
from napari_pathsam.evaluation.answers import ClassSettings, answer
from napari_pathsam.evaluation.class_names import match_classes
from napari_pathsam.evaluation.class_scores import ClassScore
from napari_pathsam.evaluation.classes import label_classes
from napari_pathsam.evaluation.everything import EverythingScoring
from napari_pathsam.evaluation.headlines import Headline
from napari_pathsam.evaluation.overlays import COLORS
from napari_pathsam.evaluation.prompting import SHOWN_CLICKS, PromptSettings, shown_image
from napari_pathsam.inference.everything import object_map, segment_everything
from napari_pathsam.inference.simulation import clicking

if TYPE_CHECKING:
    from napari_pathsam.core.classes import ClassTable
    from napari_pathsam.models.class_model import ClassModel
    from napari_pathsam.models.promptable import Promptable
    from napari_pathsam.models.sam2 import Sam2

SHOWN = 12
SIDE_PX = 700
"""Of the longer side of one picture, about."""
FILL, REFERENCE, SHADOW = 0.33, (255, 255, 255), (20, 20, 24)
GAP_PX = 8
LARGEST_ZOOM = 3.0


@dataclass(frozen=True)
class GalleryPicture:
    """One image: as it is with its labels, and beside it with the answer; and what it scored.

    ``legend`` has the colours ``#rrggbb`` of classes by name, where there are several.
    """

    name: str
    group: str
    title: str
    score: float
    picture: Image.Image
    legend: Mapping[str, str] = field(default_factory=dict)


def worst_first(
    headlines: Mapping[str, Headline], scores: Sequence[Any]
) -> tuple[str, list[tuple[int, float]]]:
    """The figure images are ordered by, and ``(position, value)`` with the worst first.

    Images that have no such figure come last.
    """
    key = next(k for k in MAIN if k in headlines)
    if any(getattr(s, "tile", None) for s in scores):
        key = "pixel_accuracy"
    values = headlines[key].per_image()
    order = sorted(range(len(values)), key=lambda i: (math.isnan(values[i]), values[i]))
    return headlines[key].title, [(i, values[i]) for i in order]


MAIN = ("object_dice", "mean_dice", "dice", "iou_at_3", "iou_at_1", "iou_box", "best_iou")
"""The first that there is tells which image is the worst."""


def class_gallery(
    model: ClassModel,
    samples: Sequence[Sample],
    scores: Sequence[ClassScore],
    headlines: Mapping[str, Headline],
    settings: ClassSettings,
    *,
    classes: ClassTable | None = None,
    shown: int = SHOWN,
) -> Iterator[GalleryPicture]:
    """Segment the worst images once more and draw them."""
    match = match_classes(
        model.classes, classes or label_classes(model.classes, samples), settings.mapping
    )
    colors = {i: COLORS[(i - 1) % len(COLORS)] for i in range(1, len(match.names))}

    def draw(sample: Sample) -> Image.Image:
        found = answer(model, sample, match, settings)
        if sample.label_kind == "instances" and found.objects is not None:
            return compared(found.image, np.where(found.known, found.labels, 0), found.objects)
        return compared(found.image, found.target, found.found, colors=colors)

    by_class = not any(sample.label_kind == "instances" for sample in samples)
    legend = {match.names[i]: color for i, color in colors.items()} if by_class else {}
    yield from _drawn(samples, scores, headlines, shown, draw, legend if len(legend) > 1 else {})


def prompt_gallery(
    model: Promptable,
    samples: Sequence[Sample],
    scores: Sequence[Any],
    headlines: Mapping[str, Headline],
    settings: PromptSettings,
    *,
    shown: int = SHOWN,
) -> Iterator[GalleryPicture]:
    """Click at the objects of the worst images once more and draw the answers."""
    clicks = min(SHOWN_CLICKS, max(settings.clicks))

    def draw(sample: Sample) -> Image.Image:
        image = shown_image(model, sample, settings.at_mpp)
        found = np.zeros(image.objects.shape, np.int32)
        for index, target in iter_objects(image.objects, smallest_px=settings.smallest_px):
            for turn in clicking(
                model, image.embedding, target, clicks=clicks,
                largest_share=settings.largest_share, known=image.known,
            ):  # fmt: skip
                mask = turn.mask
            found[mask] = index
        return compared(image.pixels, image.objects, found)

    yield from _drawn(samples, scores, headlines, shown, draw)


def everything_gallery(
    model: Sam2,
    samples: Sequence[Sample],
    scores: Sequence[Any],
    headlines: Mapping[str, Headline],
    settings: EverythingScoring,
    *,
    shown: int = SHOWN,
) -> Iterator[GalleryPicture]:
    """Segment everything in the worst images once more and draw all masks."""

    def draw(sample: Sample) -> Image.Image:
        image = shown_image(model, sample, settings.at_mpp)
        *_, last = segment_everything(model, image.embedding, settings)
        return compared(image.pixels, image.objects, object_map(last.objects, image.objects.shape))

    yield from _drawn(samples, scores, headlines, shown, draw)


def _drawn(
    samples: Sequence[Sample],
    scores: Sequence[Any],
    headlines: Mapping[str, Headline],
    shown: int,
    draw: Callable[[Sample], Image.Image],
    legend: Mapping[str, str] | None = None,
) -> Iterator[GalleryPicture]:
    by_name = {s.name: s for s in samples}
    title, order = worst_first(headlines, scores)
    for i, value in order[:shown]:
        sample = by_name[scores[i].name]
        yield GalleryPicture(sample.name, sample.group, title, value, draw(sample), legend or {})


def compared(
    image: NDArray[np.uint8],
    target: NDArray[np.integer],
    pred: NDArray[np.integer],
    *,
    colors: Mapping[int, str] | None = None,
) -> Image.Image:
    """The image with the labels' outlines, and beside it with the answer filled.

    Parameters
    ----------
    image, target, pred
        ``(H, W, 3)`` and two label maps ``(H, W)``.
    colors
        ``#rrggbb`` by id of both maps; None: by turns, as for objects. Where there are several,
        the labels' outlines beside the answer have them, too.
    """
    zoom = min(LARGEST_ZOOM, SIDE_PX / max(target.shape))
    size = (round(target.shape[1] * zoom), round(target.shape[0] * zoom))
    pixels = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS), np.float32)
    maps = [_at_size(m, size) for m in (target, pred)]
    palette = _palette(max(int(m.max(initial=0)) for m in maps), colors)
    several = colors is not None and len(colors) > 1
    plain = _outlined(pixels.copy(), maps[0], palette if several else None)
    filled = pixels.copy()
    where = maps[1] > 0
    filled[where] += FILL * (palette[maps[1][where]] - filled[where])
    edge = _grown(_edges(maps[1]) & where)
    filled[edge & where] = palette[maps[1][edge & where]]
    filled = _outlined(filled, maps[0])
    gap = np.full((size[1], GAP_PX, 3), 255, np.float32)
    both = np.concatenate([plain, gap, filled], axis=1)
    return Image.fromarray(np.clip(both, 0, 255).astype(np.uint8))


def _at_size(labels: NDArray[np.integer], size: tuple[int, int]) -> NDArray[np.int64]:
    rows = (np.arange(size[1]) + 0.5) * labels.shape[0] / size[1]
    columns = (np.arange(size[0]) + 0.5) * labels.shape[1] / size[0]
    return labels[np.ix_(rows.astype(int), columns.astype(int))].astype(np.int64)


def _palette(largest: int, colors: Mapping[int, str] | None) -> NDArray[np.float32]:
    names = colors or {i: COLORS[(i - 1) % len(COLORS)] for i in range(1, largest + 1)}
    table = np.zeros((largest + 1, 3), np.float32)
    for i in range(1, largest + 1):
        table[i] = ImageColor.getrgb(names.get(i, COLORS[0]))
    return table


def _edges(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    edge = np.zeros(labels.shape, bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    return edge


def _grown(edge: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """One pixel more each way."""
    return np.asarray(ndimage.binary_dilation(edge))


def _outlined(
    canvas: NDArray[np.float32],
    labels: NDArray[np.integer],
    palette: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """A white line with a dark one round it: seen on pale and on dark tissue.

    With a palette a wider line, in the colour of what it is round.
    """
    edge = _edges(labels) if palette is None else _grown(_edges(labels))
    shadow = _grown(edge)
    canvas[shadow] += 0.55 * (np.array(SHADOW, np.float32) - canvas[shadow])
    of = None if palette is None else ndimage.maximum_filter(labels, 5)[edge]
    canvas[edge] = REFERENCE if palette is None else palette[of]
    return canvas
