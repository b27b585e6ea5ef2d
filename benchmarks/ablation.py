"""KAN against MLP, with and without a second encoder, how much is trained; beside other models.

    python benchmarks/ablation.py --dataset glas|ebhi-seg|tnbc --root DIR --json FILE
        [--encoder small-vit.json] [--trunk mobilenetv2_100.safetensors] [--only KIND …]

`pathsam-nano` taught on a set's training images and scored on its test images, with one setting
(:data:`STUDIES`) for all rows of a set. Head, alignment and decoder are trained, as in the packaged
heads, on fewer variants for fewer epochs; what is scored is the moving average of the weights after
the last. Several seeds: of the weights' start and of the order of images; images and variants stay.
With the first seed only: ``head`` (class prompts and KAN alone are trained), ``everything`` (the
encoder too, so that nothing is kept), ``forest`` (a random forest on what the frozen encoder sees)
and, with ``--trunk``, ``unet`` (as the set's packaged recipe ``unet-timm-…`` has it, on the same
images). Seconds are processor time: of training, with what was encoded in it, and of predicting
one image. ``benchmarks/small_vit.py`` trains the second encoder. Runs that are in the file are not
made again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median, stdev
from time import process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_pathsam.core.bootstrap import Resampling
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.metrics import (
    Counts,
    confusion,
    dice_per_class,
    iou_per_class,
    precision_per_class,
    recall_per_class,
)
from napari_pathsam.datasets import open_dataset
from napari_pathsam.datasets.base import Sample
from napari_pathsam.evaluation.forest import Forest
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.models.class_model import ClassModel
from napari_pathsam.models.encoder_files import read_spec
from napari_pathsam.models.pathsam import PathSam, logits_at
from napari_pathsam.models.pathsam_config import PathSamConfig
from napari_pathsam.training.class_config import TrainConfig
from napari_pathsam.training.class_fit import TrainingImage, count_images, fit_classes, load_images
from napari_pathsam.training.class_recipe import read_class_recipe
from napari_pathsam.training.class_split import split_by_group
from napari_pathsam.training.class_start import start_model
from napari_pathsam.training.task_start import start_task

FOREST_CELLS = 200
"""Cells of each image that the forest learns from."""
FIGURES = {
    "dice": dice_per_class,
    "iou": iou_per_class,
    "precision": precision_per_class,
    "recall": recall_per_class,
}
Sets = dict[str, list[TrainingImage]]
Row = dict[str, Any]
Count = Callable[[TrainingImage], Counts]


@dataclass(frozen=True)
class Study:
    """How the images of one data set are seen and learned from.

    ``most``: training images at most, whole cases in an order drawn from seed 0. ``val``: share of
    them that is held out by patient, for choices.
    """

    test: str
    class_name: str
    seeds: int
    network: dict[str, Any]
    train: dict[str, Any]
    assumed_mpp: float | None = None
    most: int | None = None
    val: float = 0.0

    @property
    def config(self) -> PathSamConfig:
        fields = {"name": "ablation", "base": "pathsam-nano", "align_high_res": True}
        return PathSamConfig(**(fields | {"hidden": (32,)} | self.network))

    @property
    def training(self) -> TrainConfig:
        every = {"scale": (0.7, 1.4), "ema": 0.98, "warmup": 20, "data_seed": 0}
        return TrainConfig(mixed_precision=True, **(every | self.train))

    def sets(self, root: Path, dataset: str, *, gap_um: float | None = None) -> Sets:
        """Images to learn from, those held out, and those of the test split."""
        load = partial(
            load_images, classes=ClassTable.of(self.class_name), mpp=self.config.mpp,
            assumed_mpp=self.assumed_mpp,
        )  # fmt: skip
        chosen = some_of(open_dataset(dataset, root, "train"), self.most)
        # EBHI-Seg has images that are foreground from edge to edge: they teach no outline.
        found = [i for i in load(chosen, gap_um=gap_um) if i.foreground <= 0.995]
        train, val = split_by_group(found, self.val, 0)
        return {"train": train, "val": val, "test": load(open_dataset(dataset, root, self.test))}


STUDIES = {
    "glas": Study("testA", "gland", 5, {"mpp": 1.0}, {"epochs": 20, "variants": 4}, val=0.2),
    "ebhi-seg": Study(
        "val", "gland", 5, {"mpp": 1.4}, {"epochs": 6, "variants": 3}, assumed_mpp=1.4, most=250
    ),
    "tnbc": Study(
        "val", "nucleus", 5, {"mpp": 0.25, "enlarge": 1.5},
        {"epochs": 40, "variants": 8, "patch_px": 160},
    ),
}  # fmt: skip


def some_of(samples: Sequence[Sample], most: int | None) -> list[Sample]:
    """Whole groups in an order drawn from seed 0: each that leaves no more than ``most`` images."""
    if most is None:
        return list(samples)
    groups, found = sorted({s.group for s in samples}), list[Sample]()
    for i in np.random.default_rng(0).permutation(len(groups)):
        mine = [s for s in samples if s.group == groups[i]]
        found += mine if len(found) + len(mine) <= most else []
    return found


def taught(model: ClassModel, sets: Sets, config: TrainConfig, folder: Path) -> tuple[Count, Row]:
    cache = EmbeddingCache(disk=folder, disk_bytes=20 * 10**9)
    started, encoded = process_time(), 0
    for report in fit_classes(model, sets["train"], (), config, cache=cache):
        encoded += report.encoded
    seconds = process_time() - started
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    about = {"seconds": seconds, "encoded": encoded, "parameters": trained}
    return lambda one: count_images(model, [one]), about


def forest(model: PathSam, sets: Sets, seed: int) -> tuple[Count, Row]:
    rng, started, tiles = np.random.default_rng(seed), process_time(), []
    for one in sets["train"]:
        embedding = model.encode(one.image, octaves=1)
        height, width = (4 * n for n in embedding.image_embed.shape[-2:])
        target = middles(one.target, (height, width))
        left_out = rng.permutation(target.size)[FOREST_CELLS:]
        target.reshape(-1)[left_out] = -1
        tiles.append((embedding, target))
    trees = Forest(2, seed=seed).fit(tiles)
    seconds = process_time() - started

    def counts(one: TrainingImage) -> Counts:
        found = torch.from_numpy(trees.probabilities(model.encode(one.image, octaves=1)))
        return confusion(one.target, logits_at(found, one.shape_yx).argmax(0).numpy(), 2)

    return counts, {"seconds": seconds, "encoded": len(tiles), "parameters": 0}


def middles(target: NDArray[np.int16], grid_yx: tuple[int, int]) -> NDArray[np.int16]:
    """The target at the middle of each cell."""
    ys, xs = (
        ((np.arange(n) + 0.5) * size / n).astype(int)
        for n, size in zip(grid_yx, target.shape, strict=True)
    )
    return target[np.ix_(ys, xs)].copy()


def measured(count: Count, sets: Sets) -> Row:
    """Pooled Dice of the images held out, counts of each test image, seconds of predicting one."""
    held_out = [count(one) for one in sets["val"]]
    started = process_time()
    counts = [count(one) for one in sets["test"]]
    seconds = (process_time() - started) / len(counts)
    found = {"predict": seconds, "counts": [c.ravel().tolist() for c in counts]}
    return found | ({"val": float(dice_per_class(sum(held_out))[1])} if held_out else {})


def of_seeds(figure: str, row: NDArray[np.float64]) -> float:
    """A figure of added counts ``(4 · seeds,)``: the mean over seeds."""
    return float(np.mean([FIGURES[figure](counts)[1] for counts in row.reshape(-1, 2, 2)]))


def stacked(rows: Sequence[Row]) -> NDArray[np.float64]:
    """``(n_images, 4 · seeds)``: what was counted on each test image, seed beside seed."""
    return np.concatenate([np.array(row["counts"], float).reshape(-1, 4) for row in rows], axis=1)


def summary(rows: Sequence[Row], groups: Sequence[str]) -> Iterator[Row]:
    """Figures of each kind, ± over seeds, 95 % over patients; ``against`` KAN: the paired Dice."""
    resampling = Resampling.over(groups)
    rows = sorted((row for row in rows if "counts" in row), key=lambda row: row["seed"])
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of = [row for row in rows if row["kind"] == kind]
        beside = [r for r in rows if r["kind"] == "kan" and r["seed"] in {o["seed"] for o in of}]
        counts = stacked(of)
        told: Row = {"kind": kind, "seeds": len(of), "parameters": of[0]["parameters"]}
        told |= {name: median(row[name] for row in of) for name in ("seconds", "predict")}
        if "val" in of[0]:
            told["val"] = [row["val"] for row in of]
        told["by seed"] = [of_seeds("dice", stacked([row]).sum(0)) for row in of]
        told["sd"] = stdev(told["by seed"]) if len(of) > 1 else None
        for figure in FIGURES:
            found = resampling.interval(counts, groups, partial(of_seeds, figure))
            told[figure] = [found.value, found.low, found.high]
        if len(beside) == len(of) and kind != "kan":
            apart = resampling.difference(
                stacked(beside), counts, groups, partial(of_seeds, "dice")
            )
            told["against"] = [apart.value, apart.low, apart.high]
        yield told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=STUDIES, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, help="description of the second encoder")
    parser.add_argument("--trunk", type=Path, help="ImageNet weights of the U-Net's trunk")
    parser.add_argument("--cache", type=Path, default=Path("ablation-cache"))
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--only", nargs="+", help="of the kinds; by default all")
    args = parser.parse_args()
    study, dataset = STUDIES[args.dataset], args.dataset
    sets = study.sets(args.root, dataset)
    print({s: (len(i), len({one.group for one in i})) for s, i in sets.items()}, flush=True)
    kinds: dict[str, Row] = {"kan": {}, "mlp": {"head": "mlp"}}
    if args.encoder:
        second = read_spec(args.encoder)
        kinds |= {f"{k} + {second.name}": v | {"encoder": second} for k, v in kinds.items()}
    parts = {"head": ("head",), "everything": (*study.training.parts, "encoder")}
    rows = json.loads(args.json.read_text()) if args.json.exists() else []
    runs = [(kind, seed) for seed in range(args.seeds or study.seeds) for kind in kinds]
    runs += [(k, 0) for k in ("head", "everything", "forest", *(["unet"] if args.trunk else []))]
    for kind, seed in runs:
        done = any(row["kind"] == kind and row["seed"] == seed for row in rows)
        if done or (args.only and kind not in args.only):
            continue
        if kind == "unet":
            recipe = read_class_recipe(f"unet-timm-{dataset}")
            assert recipe is not None
            fields = recipe.network_config()
            network = start_task(fields, recipe.classes, seed, "cpu", trunk=args.trunk)
            gaps = study.sets(args.root, dataset, gap_um=network.config.gap_um)
            count, about = taught(network, gaps, recipe.train_config(), args.cache)
            network.config = recipe.used_config(network.config)
        else:
            config = study.config.model_copy(update=kinds.get(kind, {}))
            model = start_model(config, ClassTable.of(study.class_name), seed, "cpu")
            some = {"seed": seed, "parts": parts.get(kind, study.training.parts)}
            if kind == "forest":
                count, about = forest(model, sets, seed)
            else:
                count, about = taught(
                    model, sets, study.training.model_copy(update=some), args.cache
                )
        rows.append({"kind": kind, "seed": seed} | about | measured(count, sets))
        args.json.write_text(json.dumps(rows))
        print(kind, seed, {k: v for k, v in rows[-1].items() if k != "counts"}, flush=True)
    groups = [one.group for one in sets["test"]]
    for told in summary(rows, groups):
        print(json.dumps(told))


if __name__ == "__main__":
    main()
