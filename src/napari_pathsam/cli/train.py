"""``pathsam train``: a recipe and its data sets → one model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_pathsam.cli.console import OUT, progress, use_own_cores


def train(
    config: Annotated[
        str, typer.Option("--config", help="A recipe file (.toml), or pathsam-nano.")
    ],
    out: Annotated[Path, typer.Option("--out", help="MODEL.safetensors.")],
    root: Annotated[
        list[str] | None,
        typer.Option("--root", metavar="NAME=DIR", help="Where a data set lies. Once for each."),
    ] = None,
    trunk: Annotated[
        Path | None, typer.Option("--trunk", help="ImageNet weights to start from (.safetensors).")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where a stopped run of this --out was.")
    ] = False,
) -> None:
    """Train a model to answer clicks and boxes."""
    if out.suffix != ".safetensors":
        raise typer.BadParameter("it must end in .safetensors.", param_hint="--out")
    roots = dict(_root(text) for text in root or ())
    from napari_pathsam.training.prompt_recipe import read_recipe, train_promptable

    recipe = read_recipe(config)
    use_own_cores()
    out.parent.mkdir(parents=True, exist_ok=True)
    with progress("Reading the images", recipe.train.steps) as bar:
        for report in train_promptable(recipe, roots, out, trunk=trunk, resume=resume):
            told = (
                f"loss {report.loss:.3f}, IoU {report.iou_first:.3f} at the first prompt, "
                f"{report.iou_last:.3f} at the last"
            )
            bar.update(bar.task_ids[0], completed=report.step, description=told)
    OUT.print(f"The model is in {out}; use it as --model {out}")


def _root(text: str) -> tuple[str, Path]:
    name, is_there, folder = text.partition("=")
    if not (name and is_there and folder):
        raise typer.BadParameter(
            f"{text!r} is not NAME=DIR, for example ebhi-seg=data/EBHI-SEG.", param_hint="--root"
        )
    return name, Path(folder)
