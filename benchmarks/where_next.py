"""Does "Where next?" need fewer strokes than chance? Simulated on images of GlaS train.

    python benchmarks/where_next.py --root ../shared/data/glas --out docs/where_next.json

A person who wants the glands of ``--pool`` images is simulated; the images lie side by side in one
large image, as tissue does on a slide. One stroke of each class is painted at a random place, then
round after round a stroke of each class that is there in ``--regions`` regions (seeded, inside the
true class): the first ones of "Where next?" over the large image, or random ones of the same size,
in ``--orders`` orders, which avoid what is painted too. With ``--apart`` each image is a lesson of
its own, as a field is that somebody annotates. After each round a model is fine-tuned as the dock
does, from fresh class prompts, and its Dice measured on all pixels of the large image that nobody
painted. Reported: strokes until a Dice of ``--goal`` is reached. Runs that are there are not made
again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from time import process_time

import numpy as np
import torch
from few_shot import CLASSES, Images, draws
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region
from napari_pathsam.core.metrics import confusion, dice_per_class
from napari_pathsam.core.strokes import scribbles
from napari_pathsam.datasets import open_dataset
from napari_pathsam.datasets.base import Sample
from napari_pathsam.inference.class_maps import segment_classes
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.inference.uncertainty import where_next
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.training.finetune import Teacher
from napari_pathsam.training.finetune_config import FineTuneSettings, HoldOut
from napari_pathsam.training.finetune_run import FineTuneImage, freeze

WINDOW_PX = 96
"""Side of a random region, as of a suggested one: 24 cells of four pixels."""
PIECE_YX = (430, 560)
"""What of each of several images is used: the middle of it, which all images have."""
FEWEST_PX = 50
"""Nobody makes a stroke for less of a class."""
TRIES = 100
"""So often chance is asked for a region where nobody has painted yet."""
WAYS = ("where next", "chance")


def side_by_side(images: Images, samples: list[Sample]) -> tuple[ArraySlide, NDArray[np.uint8]]:
    """Two rows of images as one (one image as it is), and glands (1) and the rest (2) of it."""
    if len(samples) == 1:
        slide, glands = images(samples[0])
        return slide, np.where(glands, 1, 2).astype(np.uint8)
    height, width = PIECE_YX
    pieces = []
    for sample in samples:
        slide, glands = images(sample)
        y, x = ((n - m) // 2 for n, m in zip(glands.shape, PIECE_YX, strict=True))
        at = Region(y, x, height, width)
        pieces.append((slide.read(at), glands[at.slices]))
    half = len(pieces) // 2
    rows = [pieces[:half], pieces[half : 2 * half]]
    pixels = np.vstack([np.hstack([p for p, _ in row]) for row in rows])
    glands = np.vstack([np.hstack([g for _, g in row]) for row in rows])
    slide = ArraySlide(np.ascontiguousarray(pixels), mpp=samples[0].mpp, name="side by side")
    return slide, np.where(glands, 1, 2).astype(np.uint8)


class Painter:
    """A person who paints strokes, and what was painted so far: first one stroke of each class."""

    def __init__(self, truth: NDArray[np.uint8], seed: int, order: int = 0) -> None:
        self.rng = np.random.default_rng([seed, 31])
        self.truth, self.labels, self.strokes = truth, np.zeros_like(truth), 0
        self.paint(Region.of(truth.shape))
        self.rng = np.random.default_rng([seed, 31, order])

    def paint(self, region: Region) -> None:
        """One stroke of each class that is there."""
        truth, labels = self.truth[region.slices], self.labels[region.slices]
        for class_id in (1, 2):
            own = np.where((truth == class_id) & (labels == 0), class_id, 0)
            if np.count_nonzero(own) < FEWEST_PX:
                continue
            stroke = one_stroke(own, int(self.rng.integers(1 << 31)))
            labels[stroke > 0] = class_id
            self.strokes += 1

    def chance(self) -> Region:
        """A region nobody chose, and where nobody has painted."""
        for _ in range(TRIES):
            y, x = (int(self.rng.integers(n - WINDOW_PX + 1)) for n in self.truth.shape)
            region = Region(y, x, WINDOW_PX, WINDOW_PX)
            if not self.labels[region.slices].any():
                break
        return region


def one_stroke(own: NDArray, seed: int) -> NDArray[np.uint8]:
    """A stroke of about 60 × 7 pixels."""
    return scribbles(own, share=min(0.9, 400 / own.size), seed=seed, length_px=60)


class Pool:
    """Images side by side, and what the first two strokes teach."""

    def __init__(
        self, options: argparse.Namespace, seed: int, images: Images, samples: list[Sample]
    ) -> None:
        self.options, self.seed = options, seed
        self.slide, self.truth = side_by_side(images, samples)
        self.cache = EmbeddingCache(2 * 2**30)
        self.first = self.taught(Painter(self.truth, seed).labels)

    def taught(self, labels: NDArray[np.uint8]) -> tuple[PathSam, float]:
        """The model that the dock gives for what is painted, and its Dice where nothing is."""
        model = taught(self.slide, labels, self.options, self.seed, self.cache)
        free = labels == 0
        said = segment_classes(model, self.slide, cache=self.cache)
        counts = confusion((self.truth == 1)[free], (said == 1)[free], 2)
        return model, float(dice_per_class(counts)[1])

    def simulated(self, how: str, order: int) -> list[tuple[int, float]]:
        """Strokes and Dice after each round."""
        options = self.options
        painter, (model, dice) = Painter(self.truth, self.seed, order), self.first
        curve: list[tuple[int, float]] = []
        while True:
            curve.append((painter.strokes, round(dice, 4)))
            print(f"{how} {order}, seed {self.seed}: {painter.strokes} strokes, Dice {dice:.3f} "
                  f"({process_time():.0f} s)", flush=True)  # fmt: skip
            if dice >= options.goal or painter.strokes >= options.most:
                return curve
            if how == "chance":
                for _ in range(options.regions):
                    painter.paint(painter.chance())
            else:
                painted = [(Region.of(painter.labels.shape), painter.labels)]
                *_, last = where_next(model, self.slide, mpp=self.slide.mpp, painted=painted,
                                      n=options.regions, cache=self.cache)  # fmt: skip
                for suggestion in last.suggestions:
                    painter.paint(suggestion.region)
            model, dice = self.taught(painter.labels)


def taught(
    slide: ArraySlide, labels: NDArray[np.uint8], options: argparse.Namespace, seed: int,
    cache: EmbeddingCache,
) -> PathSam:  # fmt: skip
    """The model that the dock gives for what is painted so far."""
    settings = FineTuneSettings(
        name="simulated", start=options.start, classes=CLASSES, background_id=2, mpp=options.mpp,
        hold_out=HoldOut(by="none"), device="cpu", threads=torch.get_num_threads(),
    ).with_preset("fast", seed=seed)  # fmt: skip
    image = FineTuneImage(slide, labels.copy(), slide.mpp, name=slide.name)
    teacher = Teacher(freeze(settings, [image]), cache=cache)
    for _ in teacher.steps():
        pass
    return teacher.result().model


def lessons(options: argparse.Namespace) -> Iterator[tuple[int, list[Sample]]]:
    """Seeds, and the images that are annotated together."""
    train = open_dataset("glas", options.root, "train")
    for seed in options.seeds:
        drawn = draws(train, options.pool, seed)
        for samples in [[one] for one in drawn] if options.apart else [drawn]:
            yield seed, samples


def report(rows: list[dict], options: argparse.Namespace) -> None:
    """Strokes by draw; a run that never got there counts as the most that were allowed."""
    for seed, image in sorted({(r["seed"], r["image"]) for r in rows}):
        mine = [r for r in rows if (r["seed"], r["image"]) == (seed, image)]
        mine.sort(key=lambda r: r["order"])
        found = {h: [r["strokes"] for r in mine if r["how"] == h] for h in WAYS}
        print(f"seed {seed} {image}: {found}")
    for how in WAYS:
        reached = [r["strokes"] or options.most for r in rows if r["how"] == how]
        if reached:
            print(f"{how}: strokes to a Dice of {options.goal}, {len(reached)} runs: "
                  f"mean {np.mean(reached):.1f}, median {np.median(reached):g}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="the GlaS folder")
    parser.add_argument("--out", type=Path, help="JSON to add to")
    parser.add_argument("--goal", type=float, default=0.85)
    parser.add_argument("--most", type=int, default=24, help="strokes after which it is enough")
    parser.add_argument("--regions", type=int, default=2, help="painted in a round")
    parser.add_argument("--seeds", type=int, nargs="*", default=range(5))
    parser.add_argument("--orders", type=int, default=3, help="of chance, by seed")
    parser.add_argument("--pool", type=int, default=8, help="images")
    parser.add_argument("--apart", action="store_true", help="each image a lesson of its own")
    parser.add_argument("--start", help="a head to start from; fresh class prompts without")
    parser.add_argument("--mpp", type=float, help="to work at")
    parser.add_argument("--ways", nargs="*", default=WAYS, choices=WAYS)
    options = parser.parse_args()
    known = options.out and options.out.exists()
    rows = json.loads(options.out.read_text()) if known else []
    images = Images()
    for seed, samples in lessons(options):
        image = samples[0].name if options.apart else ""
        pool = None
        for how in options.ways:
            for order in range(options.orders if how == "chance" else 1):
                run = {"how": how, "seed": seed, "image": image, "order": order}
                if any(run.items() <= row.items() for row in rows):
                    continue
                pool = pool or Pool(options, seed, images, samples)
                curve = pool.simulated(how, order)
                reached = next((n for n, dice in curve if dice >= options.goal), None)
                rows.append({**run, "strokes": reached, "curve": curve})
                if options.out:
                    options.out.write_text(json.dumps(rows) + "\n")
    report(rows, options)


if __name__ == "__main__":
    main()
