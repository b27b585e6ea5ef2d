"""Seconds from painted labels to the new class map of a field: the Fine-tune dock's round trip.

    OMP_NUM_THREADS=2 python benchmarks/fine_tune.py [--preset fast] [--start pathsam-nano:glands]

A made-up field of 1024 pixels, strokes in two classes, embedding ready: freeze, train, decode all
classes. Wall clock and processor time.
"""

from __future__ import annotations

import argparse
from time import perf_counter, process_time

import numpy as np
import torch
from numpy.typing import NDArray

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.strokes import scribbles
from napari_pathsam.inference.class_maps import segment_classes
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.training.finetune import Teacher
from napari_pathsam.training.finetune_config import FineTuneSettings
from napari_pathsam.training.finetune_run import FineTuneImage, freeze


def field(side: int) -> NDArray[np.uint8]:
    """Something tissue-like of this size, without files: blobs of two colours, with noise."""
    rng = np.random.default_rng(0)
    coarse = rng.random((side // 64, side // 64)).repeat(64, 0).repeat(64, 1) > 0.5
    colors = np.array([[225, 180, 205], [120, 70, 150]])[coarse.astype(int)]
    return np.clip(colors + rng.integers(-25, 26, (side, side, 1)), 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--start", help="a head to start from; fresh class prompts without")
    parser.add_argument("--base", default="pathsam-nano")
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    pixels = field(options.side)
    slide = ArraySlide(pixels, mpp=0.5, name="blobs")
    truth = np.where(pixels.mean(2) < 150, 1, 2).astype(np.uint8)
    image = FineTuneImage(slide, scribbles(truth, share=0.02), 0.5, name="blobs")
    settings = FineTuneSettings(
        name="round trip", start=options.start, base=options.base, device=options.device,
        classes=ClassTable.of("dark", "ground"), background_id=2,
    ).with_preset(options.preset)  # fmt: skip
    cache = EmbeddingCache()
    warm = Teacher(freeze(settings, [image]), cache=cache)
    segment_classes(warm.model, slide, cache=cache)  # the embedding is there, as after a click
    wall, cpu = perf_counter(), process_time()
    parts = []
    frozen = freeze(settings, [image])
    teacher = Teacher(frozen, cache=cache)
    parts.append(("freeze and load", process_time() - cpu))
    for _ in teacher.steps():
        pass
    parts.append(("train and score", process_time() - cpu - parts[0][1]))
    class_map = segment_classes(teacher.result().model, slide, cache=cache)
    total = process_time() - cpu
    parts.append(("all classes", total - sum(s for _, s in parts)))
    right = (np.where(class_map == 0, 2, class_map) == truth).mean()
    for name, seconds in parts:
        print(f"{name}: {seconds:.1f} s of processor time")
    print(
        f"in all {total:.1f} s of processor time, {perf_counter() - wall:.1f} s by the clock with "
        f"{torch.get_num_threads()} threads; {frozen.n_tiles} tiles, {right:.1%} of pixels right"
    )


if __name__ == "__main__":
    main()
