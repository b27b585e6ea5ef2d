"""``pathsam train`` for WSI-SAM: a recipe, or labelled images and a model to stand on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from napari_pathsam.cli.console import OUT, progress, use_own_cores
from napari_pathsam.cli.train_classes import embedding_cache

if TYPE_CHECKING:
    from napari_pathsam.training.wsi_recipe import WsiRecipe

NAME = "wsi-sam"


def is_wsi_sam(model: str) -> bool:
    """Whether ``--model`` asks for it: ``wsi-sam``, or ``wsi-sam+MODEL`` to stand on another."""
    return model.partition("+")[0] == NAME


def recipe_of_options(
    name: str,
    model: str,
    *,
    images: Path | None,
    labels: Path | None,
    dataset: str | None,
    split: str | None,
    label_kind: str | None,
    profile: str,
    licence: str,
) -> WsiRecipe:
    """The recipe that options describe; a wrong command line where they do not."""
    from pydantic import ValidationError

    from napari_pathsam.core.errors import BadFileError, what_is_wrong
    from napari_pathsam.models.sam2_config import SAM2_CONFIGS
    from napari_pathsam.training.wsi_recipe import WsiRecipe

    base = model.partition("+")[2] or "pathsam-nano"
    source: dict[str, Any]
    if dataset is not None and images is None and labels is None:
        source = {"dataset": dataset, "split": split or "train"}
    elif images is not None and labels is not None and dataset is None:
        source = {"images": images, "labels": labels}
    else:
        raise typer.BadParameter(
            "give --images and --labels, or --dataset and --root, or --config.",
            param_hint="--images / --dataset / --config",
        )
    known = SAM2_CONFIGS.get(base)
    network = {} if known is None else {"mpp_range": known.mpp_range}
    try:
        recipe = WsiRecipe(
            name=name, base=base, profile=profile, licence=licence, network=network,
            sources=(source | {"label_kind": label_kind},),
        )  # fmt: skip
        recipe.network_config()
    except ValidationError as error:
        raise BadFileError(f"These options do not go together: {what_is_wrong(error)}.") from error
    return recipe


def train_wsi(
    recipe: WsiRecipe,
    roots: Mapping[str, Path],
    out: Path,
    *,
    seed: int | None,
    resume: bool,
    device: str,
    cache: Path | None,
    cache_bytes: int,
) -> None:
    """Run a recipe and write the model file; the state of an unfinished run lies beside it."""
    from napari_pathsam.training.wsi_recipe import train_wsi_sam

    if seed is not None:
        recipe = recipe.model_copy(update={"train": recipe.train | {"seed": seed}})
    use_own_cores()
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = embedding_cache(cache, cache_bytes)
    with progress("Reading the images", recipe.train_config().steps) as bar:
        for report in train_wsi_sam(recipe, roots, out, device=device, resume=resume, cache=kept):
            around = (
                "" if math.isnan(report.iou_low) else f", of the surroundings {report.iou_low:.3f}"
            )
            told = f"loss {report.loss:.3f}, IoU of the field {report.iou:.3f}{around}"
            bar.update(bar.task_ids[0], completed=report.step, description=told)
    OUT.print(f"The model is in {out}; use it as --model {out}")
