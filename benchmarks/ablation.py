"""KAN against MLP, with and without a second encoder: the gland head on part of EBHI-Seg.

    python benchmarks/ablation.py --ebhi-seg DIR [--glas DIR] [--encoder small-vit.json] --json FILE

Every fourth training image, two variants, three epochs, so that five seeds of four kinds are done
in an hour or two on two cores; otherwise as the packaged head's recipe. Seeds change the weights'
start and the order of the images, not the images. Scored: pooled Dice on every third image of
EBHI-Seg val after the last epoch (nothing is chosen on it), and on every third of GlaS train. A
run that was stopped goes on where it was. ``benchmarks/small_vit.py`` trains the second encoder.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from time import perf_counter

from napari_pathsam.core.metrics import dice_per_class
from napari_pathsam.datasets import open_dataset
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.models.encoder_files import read_spec
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.models.pathsam_config import PathSamConfig
from napari_pathsam.training.class_config import TrainConfig
from napari_pathsam.training.class_fit import TrainingImage, count_images, fit_classes, load_images
from napari_pathsam.training.class_recipe import ClassRecipe, read_class_recipe
from napari_pathsam.training.class_start import start_model

SEEDS = range(5)


def images(recipe: ClassRecipe, name: str, root: Path, split: str, step: int, mpp: float):
    samples = list(open_dataset(name, root, split))[::step]
    found = load_images(samples, recipe.classes, mpp=mpp, assumed_mpp=mpp)
    return [one for one in found if (one.target > 0).mean() <= 0.995 or split != "train"]


def dice(model: PathSam, found: list[TrainingImage]) -> float:
    return float(dice_per_class(count_images(model, found))[1])


def run(
    network: PathSamConfig, recipe: ClassRecipe, config: TrainConfig, sets: dict, cache: Path
) -> dict[str, float]:
    kept = EmbeddingCache(disk=cache, disk_bytes=20 * 10**9)
    model = start_model(network, recipe.classes, config.seed, "cpu")
    started = perf_counter()
    for report in fit_classes(model, sets["train"], (), config, cache=kept):
        print(report.epoch, round(report.loss, 4), f"{report.seconds:.0f} s", flush=True)
    seconds = perf_counter() - started
    scores = {name: dice(model, found) for name, found in sets.items() if name != "train"}
    return scores | {"seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ebhi-seg", type=Path, required=True)
    parser.add_argument("--glas", type=Path)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("ablation-cache"))
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    recipe = read_class_recipe("pathsam-nano-glands")
    assert recipe is not None
    network = recipe.network_config()
    config = recipe.train_config().model_copy(
        update={"epochs": 3, "variants": 2, "ema": 0.99, "data_seed": 0, "validate_every": 1}
    )
    sets = {
        "train": images(recipe, "ebhi-seg", args.ebhi_seg, "train", 4, network.mpp),
        "ebhi_val": images(recipe, "ebhi-seg", args.ebhi_seg, "val", 3, network.mpp),
    }
    if args.glas:
        sets["glas_train"] = images(recipe, "glas", args.glas, "train", 3, network.mpp)
    encoders = [None, *([read_spec(args.encoder)] if args.encoder else [])]
    rows = json.loads(args.json.read_text()) if args.json.exists() else []
    for seed, encoder, head in product(SEEDS, encoders, ("kan", "mlp")):
        kind = head + (f" + {encoder.name}" if encoder else "")
        if any(row["kind"] == kind and row["seed"] == seed for row in rows):
            continue
        one = network.model_copy(update={"head": head, "encoder": encoder})
        found = run(one, recipe, config.model_copy(update={"seed": seed}), sets, args.cache)
        rows.append({"kind": kind, "seed": seed} | found)
        args.json.write_text(json.dumps(rows, indent=1))
        print(kind, seed, {k: round(v, 4) for k, v in found.items()}, flush=True)
    for kind in dict.fromkeys(row["kind"] for row in rows):
        for name in (n for n in sets if n != "train"):
            found = [row[name] for row in rows if row["kind"] == kind]
            spread = stdev(found) if len(found) > 1 else float("nan")
            print(f"{kind:16} {name:10} Dice {mean(found):.4f} ± {spread:.4f} (n={len(found)})")


if __name__ == "__main__":
    main()
