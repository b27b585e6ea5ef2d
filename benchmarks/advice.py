"""What looking several times and leaving out doubtful objects gives a head of one class.

Both thresholds are chosen on all groups but one and measured on that one, so that no image is
judged by what was chosen on it; beside that, what is best on all of them.

    python benchmarks/advice.py --dataset tnbc --root DIR --model pathsam-nano:nuclei
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from napari_pathsam.datasets import dataset
from napari_pathsam.inference.class_maps import SegmentSettings, unfinished
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.models.catalogue import load_model

THRESHOLDS = (0.5, 0.62, 0.73, 0.82)
SUREST = (0.0, 0.7, 0.75, 0.8, 0.85, 0.88, 0.9, 0.92, 0.94, 0.96)

Counts = NDArray[np.float64]
"""True positives, drawn and labelled pixels."""


@dataclass(frozen=True)
class Seen:
    """One image: its group, and counts by threshold and how sure an object has to be."""

    group: str
    counts: dict[tuple[float, float], Counts]


def counted(
    likely: NDArray[np.float32], labels: NDArray[np.bool_], smallest_px: int
) -> dict[tuple[float, float], Counts]:
    """Counts of one image for all choices, from the probability of the class ``(H, W)``."""
    found = {}
    for threshold in THRESHOLDS:
        areas = label(likely >= threshold, connectivity=2)
        flat = areas.ravel()
        px = np.bincount(flat)
        right = np.bincount(flat, labels.ravel(), len(px))
        sure = np.bincount(flat, likely.ravel(), len(px)) / np.maximum(px, 1)
        for surest in SUREST:
            kept = (px >= smallest_px) & (sure >= surest)
            kept[0] = False
            found[threshold, surest] = np.array([right[kept].sum(), px[kept].sum(), labels.sum()])
    return found


def dice(images: list[Seen], choice: tuple[float, float]) -> float:
    """Of pooled counts."""
    both, drawn, labelled = sum((one.counts[choice] for one in images), np.zeros(3))
    return float(2 * both / (drawn + labelled))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--model", required=True)
    parser.add_argument("--smallest", type=int, default=40, help="pixels")
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2, 4, 8])
    asked = parser.parse_args()
    model = load_model(asked.model, "cpu")
    samples = dataset(asked.dataset).samples(asked.root, asked.split)
    for views in asked.views:
        images = []
        settings = SegmentSettings(views=views, surest=0.01)  # how likely it is, is wanted
        for sample in samples:
            image, labels = sample.load()
            slide = ArraySlide(image, mpp=sample.mpp or sample.nominal_mpp or model.config.mpp)
            drawn, likely = unfinished(model, slide, settings=settings)
            assert likely is not None
            of_class = np.where(drawn > 0, likely, 1 - likely).astype(np.float32)
            counts = counted(of_class, labels > 0, asked.smallest)
            images.append(Seen(str(sample.group), counts))
        choices = list(product(THRESHOLDS, SUREST))
        told = []
        fitted = np.zeros(3)
        for group in sorted({one.group for one in images}):
            own = [one for one in images if one.group == group]
            others = [one for one in images if one.group != group]
            best = max(choices, key=lambda choice: dice(others, choice))
            fitted += sum((one.counts[best] for one in own), np.zeros(3))
            told.append(f"{group} {dice(own, best):.4f} by {best} of the others")
        best = max(choices, key=lambda choice: dice(images, choice))
        print(
            f"{views} views: plain {dice(images, (0.5, 0.0)):.4f}; {'; '.join(told)}; all so "
            f"{2 * fitted[0] / (fitted[1] + fitted[2]):.4f}; best {dice(images, best):.4f} {best}",
            flush=True,
        )


if __name__ == "__main__":
    main()
