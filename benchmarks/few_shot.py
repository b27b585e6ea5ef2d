"""Few-shot on GlaS: Dice on test A after painting a little on a few training images.

    python benchmarks/few_shot.py --root GLAS --out docs/few_shot.json --plot
    python benchmarks/few_shot.py --root DIR --develop 20 --images 5    # on held-out train images

Scribbles come from the seeded simulator of ``core/strokes.py``; training is the Fine-tune dock's
own (freeze, ``Teacher``), scribbles held out by region, nothing chosen on test A. Beside it: the
packaged gland head as it is, and a random forest on the same features. Each line of the result is
one method, number of images, share of painted pixels and seed; lines that are there are not made
again, so a stopped run goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from time import process_time

import numpy as np
import torch
from numpy.typing import NDArray

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.metrics import confusion, dice_per_class, iou_per_class
from napari_pathsam.core.strokes import scribbles
from napari_pathsam.datasets import open_dataset
from napari_pathsam.datasets.base import Sample
from napari_pathsam.evaluation.forest import Forest
from napari_pathsam.inference.class_maps import plan_segmenting, segment_classes, tile_embedding
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.models.catalogue import load_model
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.training.finetune import Teacher
from napari_pathsam.training.finetune_config import FineTuneSettings
from napari_pathsam.training.finetune_data import tile_pixels_of
from napari_pathsam.training.finetune_run import FineTuneImage, Frozen, freeze

GLANDS = "pathsam-nano:glands"
CLASSES = ClassTable.of("gland", "background")
COUNTS = (1, 2, 5, 10, 20, 85)
SHARES = (0.002, 0.005, 0.01, 0.02, 0.05)
Segment = Callable[[ArraySlide], NDArray[np.uint8]]
"""An image → its gland pixels are 1."""


class Images:
    """GlaS images in memory, read once."""

    def __init__(self) -> None:
        self._read: dict[str, tuple[ArraySlide, NDArray[np.bool_]]] = {}

    def __call__(self, sample: Sample) -> tuple[ArraySlide, NDArray[np.bool_]]:
        """The image, and where glands are."""
        if sample.name not in self._read:
            pixels, labels = sample.load()
            slide = ArraySlide(pixels, mpp=sample.mpp, name=sample.name)
            self._read[sample.name] = (slide, labels > 0)
        return self._read[sample.name]


def painted(images: Images, sample: Sample, share: float, seed: int) -> FineTuneImage:
    """An image with simulated scribbles in glands (1) and outside (2)."""
    slide, glands = images(sample)
    number = int(sample.name.rpartition("_")[2])
    labels = scribbles(np.where(glands, 1, 2), share=share, seed=1000 * seed + number)
    return FineTuneImage(slide, labels, sample.mpp, name=sample.name)


def frozen_run(images: list[FineTuneImage], start: str | None, options: argparse.Namespace,
               seed: int) -> Frozen:  # fmt: skip
    settings = FineTuneSettings(
        name="few-shot", start=start, classes=CLASSES, background_id=2,
        mpp=options.mpp if start is None else None, device=options.device,
        threads=torch.get_num_threads(),
    ).with_preset(options.preset, seed=seed, **dict(options.set))  # fmt: skip
    return freeze(settings, images)


def fine_tuned(start: str | None) -> Callable[..., Segment]:
    """By the dock's preset."""

    def fit(images: list[FineTuneImage], options: argparse.Namespace, seed: int,
            cache: EmbeddingCache) -> Segment:  # fmt: skip
        teacher = Teacher(frozen_run(images, start, options, seed), cache=cache)
        for _ in teacher.steps():
            pass
        taught = teacher.result()
        model = teacher.model_with(teacher.average) if options.last else taught.model
        if options.verbose:
            print(f"    epoch {taught.epoch}, held-out {taught.scores and taught.scores.mean_dice}")
        return lambda slide: segment_classes(model, slide, cache=cache)

    return fit


def forest(start: str | None) -> Callable[..., Segment]:
    """On the features the fine-tuned model reads, all scribbles used."""

    def fit(images: list[FineTuneImage], options: argparse.Namespace, seed: int,
            cache: EmbeddingCache) -> Segment:  # fmt: skip
        teacher = Teacher(frozen_run(images, start, options, seed), cache=cache)
        model = teacher.model
        tiles = []
        for image, pixels in zip(images, tile_pixels_of(teacher.frozen), strict=True):
            (embedding, cells), (tile,) = only_tile(model, image.source, cache), pixels
            used = tile.only(np.ones(len(tile.y), bool))
            used.held[:] = False
            grid = tuple(4 * n for n in embedding.image_embed.shape[-2:])
            tiles.append((embedding, used.target(grid, cells, 2)))
        trees = Forest(2, octaves=model.config.octaves, seed=seed).fit(tiles)

        def segment(slide: ArraySlide) -> NDArray[np.uint8]:
            embedding, cells = only_tile(model, slide, cache)
            logits = torch.from_numpy(trees.probabilities(embedding))[None]
            grid = plan_segmenting(model, slide, mpp=slide.mpp).grid
            (sy, sx), (height, width) = grid.cell_level0_yx, slide.shape_yx
            covered = (round(cells[0] * sy), round(cells[1] * sx))
            whole = torch.nn.functional.interpolate(logits, covered, mode="bilinear")[0]
            return (whole[1] > whole[0])[:height, :width].numpy().astype(np.uint8)

        return segment

    return fit


def only_tile(model: PathSam, slide: ArraySlide, cache: EmbeddingCache):
    """The embedding of an image that is one tile, and its rows and columns of cells."""
    plan = plan_segmenting(model, slide, mpp=slide.mpp)
    (tile,) = plan.tiles
    embedding, _ = tile_embedding(model, slide, plan.grid, tile.region, cache=cache)
    return embedding, plan.grid.encoded_cells(tile.region)


def packaged(images: object, options: argparse.Namespace, seed: int,
             cache: EmbeddingCache) -> Segment:  # fmt: skip
    model = load_model(GLANDS, options.device)
    assert isinstance(model, PathSam)
    return lambda slide: segment_classes(model, slide, cache=cache)


METHODS: dict[str, Callable[..., Segment]] = {
    "packaged gland head": packaged,
    "fine-tuned, from the gland head": fine_tuned(GLANDS),
    "fine-tuned, fresh prompts": fine_tuned(None),
    "forest, gland head's features": forest(GLANDS),
    "forest, fresh prompts' features": forest(None),
}


def measured(segment: Segment, samples: list[Sample], images: Images) -> tuple[float, float]:
    """Dice and IoU of glands, of counts pooled over the images."""
    counts = np.zeros((2, 2), np.int64)
    for sample in samples:
        slide, glands = images(sample)
        counts += confusion(glands, segment(slide) == 1, 2)
    return float(dice_per_class(counts)[1]), float(iou_per_class(counts)[1])


def draws(train: list[Sample], n: int, seed: int) -> list[Sample]:
    """``n`` images; more of one seed hold the fewer."""
    order = np.random.default_rng([seed, 23]).permutation(len(train))
    return [train[i] for i in order[:n]]


def split_for_development(train: list[Sample], n: int) -> tuple[list[Sample], list[Sample]]:
    """Train and test images out of GlaS train: by image, as the challenge did it for test A."""
    held = set(np.random.default_rng(0).permutation(len(train))[:n].tolist())
    return [s for i, s in enumerate(train) if i not in held], [train[i] for i in sorted(held)]


def points(options: argparse.Namespace) -> list[tuple[str, int, float, int]]:
    """Method, images, share and seed of every measurement."""
    found: list[tuple[str, int, float, int]] = []
    for method in options.methods:
        if method == "packaged gland head":
            found.append((method, 0, 0.0, 0))
            continue
        for seed in options.seeds:
            curve = [(n, options.share) for n in options.images]
            curve += [(5, share) for share in options.shares if share != options.share]
            found += [(method, n, share, seed) for n, share in curve]
    return found


def run(options: argparse.Namespace) -> list[dict]:
    train = open_dataset("glas", options.root, "train")
    test = open_dataset("glas", options.root, "testA")
    if options.develop:
        train, test = split_for_development(train, options.develop)
    rows = json.loads(options.out.read_text()) if options.out and options.out.exists() else []
    known = {(r["method"], r["n_images"], r["share"], r["seed"]) for r in rows}
    images, cache = Images(), EmbeddingCache(2 * 2**30, disk=options.cache)
    for method, n, share, seed in points(options):
        if (method, n, share, seed) in known:
            continue
        started = process_time()
        chosen = [painted(images, s, share, seed) for s in draws(train, n, seed)]
        segment = METHODS[method](chosen, options, seed, cache)
        fitted = process_time()
        dice, iou = measured(segment, test, images)
        rows.append(
            {"method": method, "n_images": n, "share": share, "seed": seed,
             "dice": round(dice, 4), "iou": round(iou, 4),
             "fit_cpu_s": round(fitted - started, 1)}
        )  # fmt: skip
        print(
            f"{method:39} {n:3} images, {share:.1%} painted, seed {seed}: Dice {dice:.3f} "
            f"({fitted - started:.0f} s to fit, {process_time() - fitted:.0f} s to test)",
            flush=True,
        )
        if options.out:
            options.out.write_text(json.dumps(rows, indent=1) + "\n")
    return rows


def spread(values: list[float]) -> float:
    """The standard deviation of a sample; 0 of one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def table(rows: list[dict]) -> str:
    """Means and standard deviations over the seeds."""
    lines = ["| method | images | painted | Dice | seeds |", "| --- | --- | --- | --- | --- |"]
    keys = sorted({(r["method"], r["n_images"], r["share"]) for r in rows})
    for key in keys:
        dice = [r["dice"] for r in rows if (r["method"], r["n_images"], r["share"]) == key]
        lines.append(
            f"| {key[0]} | {key[1]} | {key[2]:.1%} | {np.mean(dice):.3f} ± {spread(dice):.3f} "
            f"| {len(dice)} |"
        )
    return "\n".join(lines)


def plot(rows: list[dict], path: Path, share: float) -> None:
    """Dice against the number of images, and against the share that is painted."""
    from matplotlib.figure import Figure

    panels = [
        ("n_images", {"share": share}, f"images, {share:.0%} of each painted"),
        ("share", {"n_images": 5}, "part of the pixels painted, 5 images"),
    ]
    if len({r["share"] for r in rows} - {0.0}) < 2:
        del panels[1]
    figure = Figure(figsize=(5 * len(panels), 3.6), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (key, fixed, title) in zip(axes, panels, strict=True):
        for number, method in enumerate(METHODS):
            mine = [r for r in rows if r["method"] == method]
            if method == "packaged gland head" and mine:
                axis.axhline(mine[0]["dice"], color="black", ls=":", label=method)
                continue
            mine = [r for r in mine if all(r[k] == v for k, v in fixed.items())]
            at = sorted({r[key] for r in mine})
            found = [[r["dice"] for r in mine if r[key] == x] for x in at]
            if at:
                mean, sd = [np.mean(d) for d in found], [spread(d) for d in found]
                style = "--" if method.startswith("forest") else "-"
                beside = [x * 1.03 ** (number - 3) for x in at]
                axis.errorbar(beside, mean, sd, fmt=f"o{style}", ms=3, capsize=2, label=method)
        axis.set_xscale("log")
        ticks = sorted({r[key] for r in rows} - {0})
        axis.set_xticks(ticks, [f"{x:g}" for x in ticks])
        axis.minorticks_off()
        axis.set_xlabel(title)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("Dice of glands, GlaS test A")
    axes[0].legend(fontsize=7)
    figure.savefig(path)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="the GlaS folder")
    parser.add_argument("--out", type=Path, help="JSON to add to")
    parser.add_argument("--plot", type=Path, help="an .svg or .png of the curves")
    parser.add_argument("--cache", type=Path, help="a folder for embeddings")
    parser.add_argument("--develop", type=int, default=0, metavar="N",
                        help="measure on N images of GlaS train, not on test A")  # fmt: skip
    parser.add_argument("--images", type=int, nargs="*", default=COUNTS)
    parser.add_argument("--shares", type=float, nargs="*", default=SHARES)
    parser.add_argument("--share", type=float, default=0.02)
    parser.add_argument("--seeds", type=int, nargs="*", default=range(5))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--mpp", type=float, default=0.62, help="of fresh prompts")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", nargs="*", default=[], type=_field, metavar="FIELD=VALUE",
                        help="fields of FineTuneConfig")  # fmt: skip
    parser.add_argument("--last", action="store_true", help="the last weights, not the best")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args()


def _field(text: str) -> tuple[str, object]:
    name, _, value = text.partition("=")
    return name, json.loads(value)


if __name__ == "__main__":
    chosen = options()
    found = run(chosen)
    print(table(found))
    if chosen.plot:
        plot(found, chosen.plot, chosen.share)
