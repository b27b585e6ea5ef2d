"""WSI-SAM with and without context, on objects that the field's border cuts.

    python benchmarks/wsi_context.py --dataset tnbc --root DIR --work DIR --json FILE [--seeds 0 1]
                                     [--ablations]

Trains the packaged recipe of that data set twice a seed: with the surroundings, and the ablation
without (``context = false``, everything else the same: fields, prompts, steps, order). Measured on
what the recipe holds out: every object in every field, a click on and a box round what the field
shows of it, IoU with that part. Differences are paired by object, means over objects; seeds are
averaged first; intervals by drawing images with replacement. ``hidden`` is the model with context
shown none: how much of the difference is not what it saw round the field. ``--ablations`` trains
the recipe with one thing changed, too: how the tokens are joined, what the mask of the surroundings
is, how much it weighs. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import process_time

import numpy as np
import torch

from napari_pathsam.core.bootstrap import Resampling
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.training.wsi_fit import fit_wsi_sam
from napari_pathsam.training.wsi_recipe import prepare_wsi_sam, read_wsi_recipe
from napari_pathsam.training.wsi_score import score_fields

FIGURES = ("iou_click", "iou_box")
ABLATIONS: dict[str, tuple[dict, dict]] = {
    "aggregate max": ({"aggregate": "max"}, {}),
    "aggregate concat": ({"aggregate": "concat"}, {}),
    "aggregate sum at weights": ({"aggregate": "sum", "aggregate_at": "weights"}, {}),
    "no carry": ({"carry": False}, {}),
    "target visible": ({}, {"target": "visible"}),
    "target field": ({}, {"target": "field"}),
    "balance 0.25": ({}, {"balance": 0.25}),
    "balance 0.75": ({}, {"balance": 0.75}),
    "balance 1": ({}, {"balance": 1.0}),
}
"""What is changed of the network, and of its training; the rest is the recipe's: tokens averaged,
the whole object, both resolutions alike."""


def trained(args: argparse.Namespace, seed: int, kind: str, network: dict, **train: object) -> Path:
    """Scores of one run, from its file where it was done before."""
    name = "-".join([args.dataset, *kind.split(), str(seed)])
    done = args.work / f"{name}.json"
    if done.exists():
        return done
    recipe = read_wsi_recipe(f"wsi-sam-nano-{args.dataset}")
    assert recipe is not None
    recipe = recipe.model_copy(
        update={
            "train": recipe.train | {"seed": seed} | train,
            "network": recipe.network | network,
        }
    )
    started = process_time()
    cache = EmbeddingCache(memory_bytes=2**30)
    roots = {args.dataset: args.root}
    trainer, held_out = prepare_wsi_sam(recipe, roots, "cpu", cache=cache)
    for report in fit_wsi_sam(trainer, state=args.work / f"{name}.state.pt"):
        told = f"loss {report.loss:.3f} IoU {report.iou:.3f} around {report.iou_low:.3f}"
        print(name, report.step, told, f"{process_time() - started:.0f} s CPU", flush=True)
    config, model = trainer.config, trainer.model
    about = {"side": config.field_px, "factor": model.config.factor}
    about["smallest_px"] = config.smallest_px
    found = {"cpu_s": process_time() - started}
    found[kind] = [asdict(s) for s in score_fields(model, held_out, **about)]
    if model.config.context:
        hidden = score_fields(model, held_out, surroundings=False, **about)
        found["hidden"] = [asdict(s) for s in hidden]
    done.write_text(json.dumps(found))
    torch.save(model.state_dict(), args.work / f"{name}.pt")
    return done


def means(rows: Sequence[Sequence[dict]], figure: str) -> np.ndarray:
    """Of each object, over the seeds."""
    return np.array([[row[figure] for row in run] for run in rows]).mean(axis=0)


def compared(a: Sequence[Sequence[dict]], b: Sequence[Sequence[dict]], cut: bool) -> dict:
    """B − A of the same objects, and each of the two."""
    first = a[0]
    chosen = [i for i, row in enumerate(first) if row["cut"] is cut]
    names = [first[i]["image"] for i in chosen]
    images = sorted(set(names))
    drawn = Resampling.over(images, n=10_000, seed=0)
    told: dict = {"objects": len(chosen), "images": len(images)}
    for figure in FIGURES:
        values = [means(rows, figure)[chosen] for rows in (a, b)]
        counts = []
        for one in values:
            by_image = {image: np.zeros(2) for image in images}
            for name, value in zip(names, one, strict=True):
                by_image[name] += (value, 1)
            counts.append(np.array([by_image[image] for image in images]))
        found = drawn.difference(*counts, images, lambda c: float(c[0] / c[1]))
        told[figure] = {
            "a": float(values[0].mean()), "b": float(values[1].mean()),
            "difference": found.value, "interval": [found.low, found.high],
            "by_seed": [
                float(np.mean([y[i][figure] - x[i][figure] for i in chosen]))
                for x, y in zip(a, b, strict=True)
            ],
        }  # fmt: skip
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=("tnbc", "glas"), required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ablations", action="store_true")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    kinds = {"with": ({"context": True}, {}), "without": ({"context": False}, {})}
    pairs = [("without", "with"), ("without", "hidden"), ("hidden", "with")]
    if args.ablations:
        kinds |= ABLATIONS
        pairs += [("with", kind) for kind in ABLATIONS]
    runs: dict[str, list] = {kind: [] for kind in (*kinds, "hidden")}
    seconds = []
    for seed in args.seeds:
        for kind, (network, train) in kinds.items():
            found = json.loads(trained(args, seed, kind, network, **train).read_text())
            seconds.append(found["cpu_s"])
            runs[kind].append(found[kind])
            if kind == "with":
                runs["hidden"].append(found["hidden"])
    report = {"dataset": args.dataset, "seeds": args.seeds, "cpu_s": seconds}
    for name, cut in (("cut", True), ("whole", False)):
        report[name] = {f"{b} against {a}": compared(runs[a], runs[b], cut) for a, b in pairs}
        for pair, told in report[name].items():
            for figure in FIGURES:
                f = told[figure]
                low, high = f["interval"]
                print(
                    f"{name:5} {pair:22} {figure}: {f['a']:.4f} → {f['b']:.4f}, "
                    f"{f['difference']:+.4f} [{low:+.4f}, {high:+.4f}] of {told['objects']} objects"
                )
    args.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
