"""``pathsam train``: run a training recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _roots(given: list[str]) -> dict[str, Path]:
    pairs = [one.partition("=") for one in given]
    if wrong := [one for one, pair in zip(given, pairs, strict=True) if not (pair[0] and pair[2])]:
        raise typer.BadParameter(f"{wrong[0]!r} is not of the form DATASET=FOLDER")
    return {name: Path(folder) for name, _, folder in pairs}


def train(
    config: Annotated[
        str, typer.Option(help="A recipe: a .toml file, or one that came with the package.")
    ],
    root: Annotated[list[str], typer.Option(help="Where a data set lies: DATASET=FOLDER.")],
    out: Annotated[Path, typer.Option(help="The model file to write, .safetensors.")],
    trunk: Annotated[
        Path | None, typer.Option(help="ImageNet weights of the trunk, timm's names.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with a run that was stopped.")] = False,
) -> None:
    """Train a promptable model by a recipe, for example the packaged pathsam-nano."""
    from rich.console import Console

    from napari_pathsam.training.prompt_recipe import read_recipe, train_promptable

    if out.suffix != ".safetensors":
        raise typer.BadParameter("--out must end in .safetensors")
    roots = _roots(root)
    console = Console(stderr=True)
    for report in train_promptable(read_recipe(config), roots, out, trunk=trunk, resume=resume):
        console.print(
            f"step {report.step}/{report.steps}  loss {report.loss:.3f}  IoU first prompt "
            f"{report.iou_first:.3f}, last {report.iou_last:.3f}  {report.seconds_left:.0f} s left"
        )
    typer.echo(out)
