"""What the commands share: progress, readable failure, and a model on sensible threads."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

from napari_pathsam.core.errors import PathsamError

if TYPE_CHECKING:
    from napari_pathsam.models.catalogue import Model
    from napari_pathsam.models.sam2 import Sam2
    from napari_pathsam.models.wsi_sam import WsiSam

OUT = Console(soft_wrap=True, highlight=False)
"""Results."""
ERR = Console(stderr=True, highlight=False)
"""Progress and errors."""

MOST_THREADS = 8
INTERRUPTED = 130  # what typer makes of Ctrl-C; ours is 1: the work failed

ModelOption = Annotated[
    str,
    typer.Option("--model", help="A name of `pathsam models list`, or a .safetensors file."),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
IccOption = Annotated[
    bool, typer.Option("--icc", help="Colours as the slide's own colour profile intends.")
]
MppOption = Annotated[
    float | None,
    typer.Option(
        "--mpp", min=0.001, max=1000, help="Microns per pixel of the image; overrides the file's."
    ),
]


class Views(StrEnum):
    """How often a model looks at each tile, turned and mirrored."""

    one, two, four, eight = "1", "2", "4", "8"


ViewsOption = Annotated[
    Views | None,
    typer.Option(
        "--views",
        help="Average over so many turned and mirrored views, each as slow as one. [the model's]",
    ),
]


@contextmanager
def failing_readably() -> Iterator[None]:
    """Turn what went wrong into one paragraph on stderr and exit status 1."""
    try:
        yield
    except PathsamError as error:
        _fail(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}.")
    except SystemExit as left:
        if left.code != INTERRUPTED:
            raise
        _fail("Stopped. Nothing was left half-written.")


def _fail(text: str) -> None:
    paragraph = " ".join(text.split())
    print("\n".join(textwrap.wrap(paragraph, 100, break_on_hyphens=False)), file=sys.stderr)
    raise SystemExit(1)


@contextmanager
def progress(what: str, total: int | None, *, left: str | None = None) -> Iterator[Progress]:
    """A bar with time left, on stderr; its only task has the id 0.

    ``left``: whoever works says how long it takes still, by updating this field of the task; steps
    may take a second or a minute. Else it is told by the steps.
    """
    columns: tuple[ProgressColumn, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn() if left is None else TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=ERR, transient=True) as bar:
        bar.add_task(what, total=total, left=left)
        yield bar


def show_facts(facts: Mapping[str, str]) -> None:
    """Names and values in two columns."""
    whole = Column(overflow="fold")  # checksums and addresses are there to be copied
    table = Table(Column(), whole, show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in facts.items():
        table.add_row(name, value)
    OUT.print(table)


def load(name: str, device: str = "auto") -> Model:
    """A model of the catalogue or a file, ready to use."""
    from napari_pathsam.models.catalogue import load_model

    use_own_cores()
    return load_model(name, device)


def load_promptable(name: str, device: str = "auto") -> Sam2 | WsiSam:
    """A model that answers clicks and boxes; of a head, what it stands on."""
    from napari_pathsam.core.errors import UnavailableError
    from napari_pathsam.models.pathsam import PathSam
    from napari_pathsam.models.task_model import TaskModel

    model = load(name, device)
    if isinstance(model, TaskModel):
        raise UnavailableError(
            f"{name} is trained for its classes and answers no clicks. Choose a promptable model, "
            "such as pathsam-nano; `pathsam segment` finds the classes."
        )
    return model.base if isinstance(model, PathSam) else model


def use_own_cores() -> None:
    """Torch counts the machine's cores; a container or a batch job may have fewer."""
    if "OMP_NUM_THREADS" in os.environ:
        return
    import torch

    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, min(own, torch.get_num_threads(), MOST_THREADS)))


def refuse_unread(context: typer.Context, read: Collection[str], why: str) -> None:
    """A wrong command line where something was typed that would change nothing."""
    names = {str(parameter.name) for parameter in context.command.params}
    refuse_typed(context, names - set(read), why)


def refuse_typed(context: typer.Context, names: Collection[str], why: str) -> None:
    """A wrong command line where one of these options was typed."""
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        typed = source is not None and source.name == "COMMANDLINE"
        if typed and parameter.name in names:
            raise typer.BadParameter(f"{why}; leave this out.", param_hint=parameter.opts[0])
