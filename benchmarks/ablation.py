"""KAN against MLP, with and without a second encoder, and how much is trained: glands of GlaS.

    python benchmarks/ablation.py --glas DIR [--encoder small-vit.json] --json FILE [--only KIND …]

`pathsam-nano` taught on GlaS train but for some patients, scored on those (what a choice is made
on) and on test A. Head, alignment and decoder are trained, as in the packaged heads, but at 1.0 µm
a network pixel, four variants of an image and 20 epochs; what is scored is the moving average of
the weights after the last. Five seeds: of the weights' start and of the order of images; the split
and the variants stay. With the first seed only: ``head`` (class prompts and KAN alone are trained),
``everything`` (the encoder too, so that nothing is kept) and ``forest`` (a random forest on what
the frozen encoder sees). Seconds are processor time of training, with what was encoded in it.
``benchmarks/small_vit.py`` trains the second encoder. Runs that are in the file are not made again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean, median, stdev
from time import process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_pathsam.core.bootstrap import Resampling
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.metrics import Counts, confusion, dice_per_class
from napari_pathsam.datasets import open_dataset
from napari_pathsam.evaluation.forest import Forest
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.models.encoder_files import read_spec
from napari_pathsam.models.pathsam import PathSam, logits_at
from napari_pathsam.models.pathsam_config import PathSamConfig
from napari_pathsam.training.class_config import TrainConfig
from napari_pathsam.training.class_fit import TrainingImage, count_images, fit_classes, load_images
from napari_pathsam.training.class_split import split_by_group
from napari_pathsam.training.class_start import start_model

SEEDS = 5
CLASSES = ClassTable.of("gland")
NETWORK = PathSamConfig(
    name="ablation", base="pathsam-nano", mpp=1.0, align_high_res=True, hidden=(32,)
)
TRAIN = TrainConfig(
    epochs=20, variants=4, scale=(0.7, 1.4), ema=0.98, warmup=20, data_seed=0, mixed_precision=True
)
FOREST_CELLS = 200
"""Cells of each image that the forest learns from."""
Scored = dict[str, list[Counts]]
"""Counts of each image, by set of images."""


def taught(
    model: PathSam, sets: dict[str, list[TrainingImage]], config: TrainConfig, folder: Path
) -> tuple[Scored, dict[str, Any]]:
    cache = EmbeddingCache(disk=folder, disk_bytes=20 * 10**9)
    started, encoded = process_time(), 0
    for report in fit_classes(model, sets["train"], (), config, cache=cache):
        encoded += report.encoded
    seconds = process_time() - started
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    scored = {s: [count_images(model, [i]) for i in sets[s]] for s in ("val", "testA")}
    return scored, {"seconds": seconds, "encoded": encoded, "parameters": trained}


def forest(
    model: PathSam, sets: dict[str, list[TrainingImage]], seed: int
) -> tuple[Scored, dict[str, Any]]:
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

    scored = {s: [counts(one) for one in sets[s]] for s in ("val", "testA")}
    return scored, {"seconds": seconds, "encoded": len(tiles), "parameters": 0}


def middles(target: NDArray[np.int16], grid_yx: tuple[int, int]) -> NDArray[np.int16]:
    """The target at the middle of each cell."""
    ys, xs = (
        ((np.arange(n) + 0.5) * size / n).astype(int)
        for n, size in zip(grid_yx, target.shape, strict=True)
    )
    return target[np.ix_(ys, xs)].copy()


def dice_of(row: NDArray[np.float64]) -> float:
    return float(dice_per_class(row.reshape(2, 2))[1])


def figures(scored: Scored, sets: dict[str, list[TrainingImage]]) -> dict[str, Any]:
    """Pooled Dice of each set, and where 95 % of the resamples of patients put that of test A."""
    rows = {s: np.array([c.ravel() for c in counts], float) for s, counts in scored.items()}
    groups = [one.group for one in sets["testA"]]
    found = Resampling.over(groups).interval(rows["testA"], groups, dice_of)
    return {s: dice_of(r.sum(0)) for s, r in rows.items()} | {"low": found.low, "high": found.high}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--glas", type=Path, required=True)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("ablation-cache"))
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--only", nargs="+", help="of the kinds; by default all")
    args = parser.parse_args()
    read = {s: list(open_dataset("glas", args.glas, s)) for s in ("train", "testA")}
    found = {s: load_images(samples, CLASSES, mpp=NETWORK.mpp) for s, samples in read.items()}
    train, val = split_by_group(found["train"], 0.2, 0)
    sets = {"train": train, "val": val, "testA": found["testA"]}
    print({s: (len(i), len({one.group for one in i})) for s, i in sets.items()}, flush=True)
    kinds: dict[str, dict[str, Any]] = {"kan": {}, "mlp": {"head": "mlp"}}
    if args.encoder:
        second = read_spec(args.encoder)
        kinds |= {f"{k} + {second.name}": v | {"encoder": second} for k, v in kinds.items()}
    parts = {"head": ("head",), "everything": (*TRAIN.parts, "encoder")}
    rows = json.loads(args.json.read_text()) if args.json.exists() else []
    runs = [(kind, seed) for seed in range(args.seeds) for kind in kinds]
    runs += [(kind, 0) for kind in ("head", "everything", "forest")]
    for kind, seed in runs:
        done = any(row["kind"] == kind and row["seed"] == seed for row in rows)
        if done or (args.only and kind not in args.only):
            continue
        network = NETWORK.model_copy(update=kinds.get(kind, {}))
        model = start_model(network, CLASSES, seed, "cpu")
        if kind == "forest":
            scored, about = forest(model, sets, seed)
        else:
            some = {"seed": seed, "parts": parts.get(kind, TRAIN.parts)}
            scored, about = taught(model, sets, TRAIN.model_copy(update=some), args.cache)
        rows.append({"kind": kind, "seed": seed} | about | figures(scored, sets))
        args.json.write_text(json.dumps(rows, indent=1))
        print(
            {k: round(v, 4) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True
        )
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of = [row for row in rows if row["kind"] == kind]
        spread = {
            s: stdev(r[s] for r in of) if len(of) > 1 else float("nan") for s in ("val", "testA")
        }
        told = ", ".join(f"{s} {mean(r[s] for r in of):.4f} ± {spread[s]:.4f}" for s in spread)
        seconds = median(row["seconds"] for row in of)
        print(f"{kind:16} {told} (n={len(of)}), {of[0]['parameters']} weights, {seconds:.0f} s")


if __name__ == "__main__":
    main()
