"""``pathsam datasets``: the data sets that can be read, and whether a download is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from napari_pathsam.cli.console import OUT, show_facts
from napari_pathsam.core.errors import BadFileError

datasets_app = typer.Typer(help="The data sets that can be read.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="A name of `pathsam datasets list`.")]


@datasets_app.command("list")
def list_datasets() -> None:
    """All data sets, with their licences."""
    from napari_pathsam.datasets import DATASETS

    table = Table("name", "title", "labels", "µm/px", "licence")
    for d in DATASETS.values():
        mpp = "unknown" if d.mpp is None else f"{d.mpp:g}"
        table.add_row(d.name, d.title, d.label_kind, mpp, d.licence)
    OUT.print(table)


@datasets_app.command()
def info(name: NameArgument) -> None:
    """Where a data set is from, how its folder must look, its splits."""
    from napari_pathsam.datasets import dataset

    d = dataset(name)
    show_facts(
        {
            "name": d.name,
            "title": d.title,
            "where": d.url,
            "licence": d.licence,
            "cite": d.citation,
            "folder": d.layout,
            "labels": f"{d.label_kind}: {', '.join(d.classes)}",
            "µm per pixel": "unknown" if d.mpp is None else f"{d.mpp:g}",
            "splits": f"{', '.join(d.splits)} (default {d.default_split})",
            "targets": ", ".join(d.targets) or "one",
            "note": d.notes,
        }
    )


@datasets_app.command()
def verify(
    root: Annotated[Path, typer.Argument(help="The folder of a downloaded data set.")],
    name: Annotated[
        str | None, typer.Option("--dataset", help="Which one it is. [told by its layout]")
    ] = None,
) -> None:
    """Read every file of a download and say what is missing or damaged."""
    from napari_pathsam.datasets import dataset, recognise

    found = recognise(root) if name is None else dataset(name)
    problems = found.verify(root)
    if problems:
        shown = problems[:20] + ([f"… and {len(problems) - 20} more."] if problems[20:] else [])
        raise BadFileError(f"{root} is not a complete {found.title}: " + " ".join(shown))
    samples = found.samples(root, "all")
    parts = dict.fromkeys(dict.fromkeys(s.split for s in samples), 0)
    for sample in samples:
        parts[sample.split] += 1
    counted = ", ".join(f"{n} {split}" for split, n in parts.items())
    OUT.print(f"{found.title} in {root} is whole: {counted}.")
