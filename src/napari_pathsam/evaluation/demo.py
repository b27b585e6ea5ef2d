"""The demo: the packaged samples, clicked and boxed by the simulated annotator or as fixed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.prompts import Prompts, iter_objects, tight_box
from napari_pathsam.datasets.objects import objects_of
from napari_pathsam.evaluation.overlays import DrawnObject, overlay, poster
from napari_pathsam.evaluation.report import Report
from napari_pathsam.inference.simulation import clicking, mask_iou
from napari_pathsam.samples import SampleImage, SampleInfo, load_sample

if TYPE_CHECKING:
    from PIL.Image import Image

    from napari_pathsam.models.embedding import ImageEmbedding
    from napari_pathsam.models.promptable import Promptable

CLICKS = 3
SKIN_NUCLEI = (
    (408, 234), (410, 254), (380, 254), (468, 240), (259, 240),
    (300, 210), (301, 320), (294, 354), (265, 336), (166, 253),
)  # fmt: skip
"""Nuclei of the sample without labels: each gets a box, about as large as a person would draw it.
A click there may also mean the epithelium, and the small model then takes it."""
NUCLEUS_PX = 10
SKIN_BOX = (372, 288, 562, 444)
"""Its keratin pearl."""
SKIN_SHOWN = Region(150, 140, 450, 390)
"""The part that is drawn."""
PANEL_PX = 1024


@dataclass(frozen=True)
class DemoResult:
    """One sample: the picture, the objects as labels, and the figures."""

    name: str
    summary: str
    poster: Image
    instances: NDArray[np.int32]
    class_of: dict[int, int]
    classes: ClassTable
    mpp: float
    metrics: dict[str, Any]
    seconds: float

    @property
    def files(self) -> dict[str, str]:
        """File names of what is written."""
        return {
            "overlay": f"{self.name}.png",
            "labels": f"{self.name}_labels.png",
            "geojson": f"{self.name}.geojson",
        }


def run_demo(model: Promptable, infos: Iterable[SampleInfo]) -> Iterator[DemoResult]:
    """Work through the samples; yields each as it is finished."""
    for info in infos:
        sample = load_sample(info.name)
        started = perf_counter()
        embedding = model.encode(sample.image, mpp=sample.mpp)
        work = _fixed if sample.labels is None else _simulated
        yield work(model, sample, embedding, started)


def demo_report(model: str, results: Sequence[DemoResult]) -> Report:
    """All samples' figures, and which files belong to which."""
    return Report(
        model=model,
        dataset="packaged samples",
        split="all",
        task="prompts",
        n_images=len(results),
        metrics={r.name: r.metrics | {"files": r.files, "seconds": r.seconds} for r in results},
        settings={"clicks": [1, CLICKS]},
    )


def _simulated(
    model: Promptable, sample: SampleImage, embedding: ImageEmbedding, started: float
) -> DemoResult:
    """Every labelled object: one click, three clicks, a box."""
    assert sample.labels is not None
    ways: dict[str, list[DrawnObject]] = {"1 click": [], f"{CLICKS} clicks": [], "a box": []}
    for _, target in iter_objects(objects_of(sample.labels, "binary")):
        turns = list(clicking(model, embedding, target, clicks=CLICKS))
        box = Prompts(box=tight_box(target))
        boxed = model.decode_prompts(embedding, box).mask
        answers = ((turns[0].mask, turns[0].prompts), (turns[-1].mask, turns[-1].prompts))
        for drawn, (mask, prompts) in zip(ways.values(), (*answers, (boxed, box)), strict=True):
            drawn.append(DrawnObject(mask, prompts, target))
    means = {way: _mean_iou(drawn) for way, drawn in ways.items()}
    panels = [(f"{way}: IoU {means[way]:.2f}", drawn) for way, drawn in ways.items()]
    n = len(ways["a box"])
    scores = ", ".join(f"{way} {value:.2f}" for way, value in means.items())
    metrics = {
        "n_objects": n,
        "iou_at_clicks": {"1": means["1 click"], str(CLICKS): means[f"{CLICKS} clicks"]},
        "iou_box": means["a box"],
    }
    summary = f"{n} objects, mean IoU: {scores}"
    drawn = ways[f"{CLICKS} clicks"]
    return _result(model, sample, panels, drawn, metrics, summary, started)


def _fixed(
    model: Promptable, sample: SampleImage, embedding: ImageEmbedding, started: float
) -> DemoResult:
    """Fixed prompts where no labels say what is right."""
    r = NUCLEUS_PX
    boxes = [(y - r, x - r, y + r + 1, x + r + 1) for y, x in SKIN_NUCLEI]
    asked = [Prompts(box=box) for box in (SKIN_BOX, *boxes)]
    answers = model.decode_many(embedding, asked)
    drawn = [DrawnObject(a.mask, p) for a, p in zip(answers, asked, strict=True)]
    panels = [
        ("the prompts", [DrawnObject(np.zeros_like(d.mask), d.prompts) for d in drawn]),
        ("the answers", [DrawnObject(d.mask) for d in drawn]),
    ]
    scores = [a.score for a in answers]
    metrics = {"n_objects": len(drawn), "predicted_iou": scores}
    summary = f"{len(drawn)} objects, predicted IoU {np.mean(scores):.2f}"
    return _result(model, sample, panels, drawn, metrics, summary, started)


def _result(
    model: Promptable,
    sample: SampleImage,
    panels: Sequence[tuple[str, Sequence[DrawnObject]]],
    drawn: Sequence[DrawnObject],
    metrics: dict[str, Any],
    summary: str,
    started: float,
) -> DemoResult:
    shape_yx = (sample.image.shape[0], sample.image.shape[1])
    shown = Region.of(shape_yx) if sample.labels is not None else SKIN_SHOWN
    zoom = max(1.0, min(3.0, PANEL_PX / max(shown.shape_yx)))
    pixels = sample.image[shown.slices]
    seconds = perf_counter() - started
    sheet = poster(
        sample.info.title,
        f"{model.name} · {summary} · {sample.mpp:g} microns per pixel · {sample.info.attribution}",
        [
            (text, overlay(pixels, [d.inside(shown) for d in objects], zoom=zoom))
            for text, objects in panels
        ],
        with_reference=sample.labels is not None,
    )
    instances = np.zeros(shape_yx, np.int32)
    for number, one in enumerate(drawn, start=1):
        instances[one.mask & (instances == 0)] = number
    classes = sample.class_table if sample.info.classes else ClassTable.of("object")
    ids = [int(i) for i in np.unique(instances[instances > 0])]
    class_of = dict.fromkeys(ids, 1)
    return DemoResult(
        name=sample.info.name,
        summary=summary,
        poster=sheet,
        instances=instances,
        class_of=class_of,
        classes=classes,
        mpp=sample.mpp,
        metrics=metrics,
        seconds=seconds,
    )


def _mean_iou(drawn: Sequence[DrawnObject]) -> float:
    return float(np.mean([mask_iou(d.mask, d.reference) for d in drawn if d.reference is not None]))
