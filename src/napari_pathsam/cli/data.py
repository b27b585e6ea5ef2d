"""``pathsam datasets``: the data sets that can be read, and whether a download is complete."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from napari_pathsam.cli.console import OUT, progress, show_facts
from napari_pathsam.core.errors import BadFileError

if TYPE_CHECKING:
    from napari_pathsam.datasets import DataSet

SHOWN = 20

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
    counts = ", ".join(f"{n} {part}" for part, n in d.expected.items())
    whose = "the publishers'" if d.official_split else "ours, whole groups"
    show_facts(
        {
            "name": d.name,
            "title": d.title,
            "where": d.url,
            "licence": d.licence,
            "cite": d.citation,
            "folder": d.layout,
            "complete": f"{counts} {'slides' if _of_slides(d) else 'images'}" if counts else "—",
            "labels": f"{d.label_kind}: {', '.join(d.classes)}",
            "µm per pixel": "unknown" if d.mpp is None else f"{d.mpp:g}",
            "splits": f"{', '.join(d.splits)} ({whose}); measured on {d.default_split}, trained on "
            f"{d.train_split}, validated on {d.val_split or 'a part of that'}",
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
    target: Annotated[
        str | None, typer.Option("--target", help="How its labels are read, e.g. kinds.")
    ] = None,
    sums: Annotated[
        bool,
        typer.Option(
            "--sums",
            help="Also compare checksums: of published archives that lie in the folder, and of "
            "what a checksum file in it lists.",
        ),
    ] = False,
) -> None:
    """Read every file of a download and say what is missing or damaged."""
    from napari_pathsam.datasets import dataset, recognise
    from napari_pathsam.datasets.base import leaking

    found = (recognise(root) if name is None else dataset(name)).aiming(target)
    problems = []
    with progress(f"Reading {found.title}", 1) as bar:
        for step in found.checking(root, sums=sums):
            bar.update(bar.task_ids[0], completed=step.done, total=step.total)
            if step.problem:
                problems.append(step.problem)
    if problems:
        more = [f"… and {len(problems) - SHOWN} more."] if problems[SHOWN:] else []
        raise BadFileError(
            f"{root} is not a complete {found.title}: " + " ".join(problems[:SHOWN] + more)
        )
    images = found.images(root)
    parts = dict.fromkeys(dict.fromkeys(s.split for s in images), 0)
    for image in images:
        parts[image.split] += 1
    counted = ", ".join(f"{n} {split}" for split, n in parts.items())
    whole = "is whole" if found.expected else "can be read"
    OUT.print(f"{found.title} in {root} {whole}: {counted}.")
    if groups := leaking(images):
        OUT.print(
            f"Its published split has {len(groups)} groups (patients, slides) in more than one "
            f"part: {', '.join(groups[:10])}{' …' if groups[10:] else ''}."
        )


def _of_slides(data: DataSet) -> bool:
    return data.name in ("catch", "camelyon16")
