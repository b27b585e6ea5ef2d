"""Does "Where next?" need fewer strokes than chance? Simulated on images of GlaS train.

    python benchmarks/where_next.py --root ../shared/data/glas --out docs/where_next.json

A person who wants glands labelled in a few images is simulated: one stroke of each class in
``--begin`` images, then round after round a few regions are chosen and a stroke of
each class painted in them (seeded, inside the true class). They are the best suggestions over all
images ("Where next?"), or random ones of the same size. After each round the model is fine-tuned as
the dock does, from fresh class prompts, and its Dice measured on these images. Reported: strokes
until a Dice of ``--goal`` is reached, five seeds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from few_shot import CLASSES, Images, draws, measured
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region
from napari_pathsam.core.strokes import scribbles
from napari_pathsam.datasets import open_dataset
from napari_pathsam.datasets.base import Sample
from napari_pathsam.inference.class_maps import segment_classes
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.inference.uncertainty import where_next
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.training.finetune import Teacher
from napari_pathsam.training.finetune_config import FineTuneSettings, HoldOut
from napari_pathsam.training.finetune_run import FineTuneImage, freeze

WINDOW_PX = 108
"""Side of a random region, as of a suggested one at the working resolution."""


class Painter:
    """A person who paints strokes on a few images, and what was painted so far."""

    def __init__(self, images: Images, samples: list[Sample], seed: int) -> None:
        self.rng = np.random.default_rng([seed, 31])
        self.slides, self.truth = [], []
        for sample in samples:
            slide, glands = images(sample)
            self.slides.append(slide)
            self.truth.append(np.where(glands, 1, 2).astype(np.uint8))
        self.labels = [np.zeros(t.shape, np.uint8) for t in self.truth]
        self.strokes = 0

    def paint(self, image: int, region: Region) -> None:
        """One stroke of each class that is there."""
        truth, labels = self.truth[image][region.slices], self.labels[image][region.slices]
        for class_id in (1, 2):
            own = np.where((truth == class_id) & (labels == 0), class_id, 0)
            if np.count_nonzero(own) < 50:
                continue
            stroke = one_stroke(own, int(self.rng.integers(1 << 31)))
            labels[stroke > 0] = class_id
            self.strokes += 1

    def chance(self) -> tuple[int, Region]:
        """A region nobody chose."""
        image = int(self.rng.integers(len(self.truth)))
        height, width = self.truth[image].shape
        y = int(self.rng.integers(max(1, height - WINDOW_PX + 1)))
        x = int(self.rng.integers(max(1, width - WINDOW_PX + 1)))
        inside = Region(y, x, WINDOW_PX, WINDOW_PX).intersection(Region.of((height, width)))
        assert inside is not None
        return image, inside

    def suggested(self, model: PathSam, cache: EmbeddingCache) -> tuple[int, Region]:
        """The best suggestion of all images."""
        found = []
        for image, (slide, labels) in enumerate(zip(self.slides, self.labels, strict=True)):
            *_, last = where_next(model, slide, mpp=slide.mpp, labels=labels, n=1, cache=cache)
            found += [(s.score, image, s.region) for s in last.suggestions]
        if not found:
            return self.chance()
        _, image, region = max(found, key=lambda f: f[0])
        return image, region


def one_stroke(own: NDArray, seed: int) -> NDArray[np.uint8]:
    """A stroke of about 60 × 7 pixels."""
    return scribbles(own, share=min(0.9, 400 / own.size), seed=seed, length_px=60)


def simulated(
    how: str, options: argparse.Namespace, seed: int, images: Images, cache: EmbeddingCache
) -> list[tuple[int, float]]:
    """Strokes and Dice after each round."""
    pool = draws(open_dataset("glas", options.root, "train"), options.pool, seed)
    painter = Painter(images, pool, seed)
    for image in range(options.begin):
        painter.paint(image, Region.of(painter.truth[image].shape))
    curve: list[tuple[int, float]] = []
    for round_ in range(options.rounds + 1):
        model = taught(painter, options, seed, cache)
        dice, _ = measured(
            lambda slide, model=model: segment_classes(model, slide, cache=cache), pool, images
        )
        curve.append((painter.strokes, round(dice, 4)))
        print(f"{how}, seed {seed}, round {round_}: {painter.strokes} strokes, Dice {dice:.3f}",
              flush=True)  # fmt: skip
        if dice >= options.goal:
            break
        for _ in range(options.regions):
            where = painter.suggested(model, cache) if how == "where next" else painter.chance()
            painter.paint(*where)
    return curve


def taught(
    painter: Painter, options: argparse.Namespace, seed: int, cache: EmbeddingCache
) -> PathSam:
    """The model that the dock gives for what is painted so far."""
    images = [
        FineTuneImage(slide, labels, slide.mpp, name=slide.name)
        for slide, labels in zip(painter.slides, painter.labels, strict=True)
        if labels.any()
    ]
    settings = FineTuneSettings(
        name="simulated", start=options.start, classes=CLASSES, background_id=2, mpp=options.mpp,
        hold_out=HoldOut(by="none"), device="cpu", threads=torch.get_num_threads(),
    ).with_preset("fast", seed=seed)  # fmt: skip
    teacher = Teacher(freeze(settings, images), cache=cache)
    for _ in teacher.steps():
        pass
    return teacher.result().model


def strokes_to(curve: list[tuple[int, float]], goal: float) -> int | None:
    """Strokes with which the goal was reached first; None: it was not."""
    return next((strokes for strokes, dice in curve if dice >= goal), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="the GlaS folder")
    parser.add_argument("--out", type=Path, help="JSON")
    parser.add_argument("--cache", type=Path, help="a folder for embeddings")
    parser.add_argument("--goal", type=float, default=0.85)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--begin", type=int, default=1, help="images painted at first")
    parser.add_argument("--regions", type=int, default=2, help="painted in a round")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--pool", type=int, default=8, help="images")
    parser.add_argument("--start", help="a head to start from; fresh class prompts without")
    parser.add_argument("--mpp", type=float, help="to work at")
    options = parser.parse_args()
    images, cache = Images(), EmbeddingCache(2 * 2**30, disk=options.cache)
    rows = []
    for seed in range(options.seeds):
        for how in ("where next", "chance"):
            curve = simulated(how, options, seed, images, cache)
            needed = strokes_to(curve, options.goal)
            rows.append({"how": how, "seed": seed, "strokes": needed, "curve": curve})
            if options.out:
                options.out.write_text(json.dumps(rows, indent=1) + "\n")
    for how in ("where next", "chance"):
        needed = [r["strokes"] for r in rows if r["how"] == how]
        print(f"{how}: strokes to a Dice of {options.goal}: {needed}")


if __name__ == "__main__":
    main()
