"""The ``pathsam`` command: everything the docks do, without a screen."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from napari_pathsam.cli.compare import compare
from napari_pathsam.cli.console import failing_readably
from napari_pathsam.cli.data import datasets_app
from napari_pathsam.cli.demo import demo
from napari_pathsam.cli.evaluate import evaluate
from napari_pathsam.cli.export import export
from napari_pathsam.cli.models import models_app
from napari_pathsam.cli.prompt import prompt
from napari_pathsam.cli.segment import segment
from napari_pathsam.cli.tables import tables
from napari_pathsam.cli.train import train

app = typer.Typer(
    name="pathsam",
    help="Label digital pathology images with models that run on a laptop.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command()(prompt)
app.command()(segment)
app.command()(evaluate)
app.command()(compare)
app.command()(tables)
app.command()(export)
app.command()(train)
app.add_typer(models_app, name="models")
app.add_typer(datasets_app, name="datasets")


@app.callback()
def pathsam(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)
    ] = False,
) -> None:
    """Label digital pathology images with models that run on a laptop."""
    if version:
        from napari_pathsam import __version__

        typer.echo(f"pathsam {__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; leaves with status 0, 1 (the work failed) or 2 (wrongly called)."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    with failing_readably():
        app(args=_one_option_each(given), prog_name="pathsam", obj=given)


def _one_option_each(arguments: Sequence[str]) -> list[str]:
    """``--point 1,2 3,4`` as ``--point 1,2 --point 3,4``."""
    expanded: list[str] = []
    option: str | None = None
    for argument in arguments:
        is_point = re.fullmatch(r"-?[\d.]+,-?[\d.]+", argument) is not None
        if is_point and option and expanded[-1] != option:
            expanded.append(option)
        elif not is_point:
            option = argument if argument in ("--point", "--negative") else None
        expanded.append(argument)
    return expanded
