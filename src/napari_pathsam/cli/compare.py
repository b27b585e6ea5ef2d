"""``pathsam compare``: two models on the same images, or two runs, patient by patient."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from napari_pathsam.cli.console import (
    OUT,
    DeviceOption,
    MppOption,
    refuse_typed,
    refuse_unread,
    use_own_cores,
)
from napari_pathsam.cli.evaluate import NOT_READ, Task, pairs_of
from napari_pathsam.cli.evaluate_data import GroupByOption, ids_are_classes, labelled_images

if TYPE_CHECKING:
    from napari_pathsam.cli.evaluate_data import Labelled
    from napari_pathsam.datasets import LabelKind
    from napari_pathsam.evaluation.compare import Comparison
    from napari_pathsam.evaluation.evaluate import Settings

ModelOrRun = Annotated[
    str,
    typer.Argument(help="A folder of `pathsam evaluate --out`, or a model."),
]

READ_WITH_RUNS = {"a", "b", "seed", "json"}


def compare(
    context: typer.Context,
    a: ModelOrRun,
    b: ModelOrRun,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Of two models: the data.")
    ] = None,
    root: Annotated[Path | None, typer.Option("--root", help="The data set's folder.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="One of its splits.")] = None,
    target: Annotated[str | None, typer.Option("--target", help="What its labels mean.")] = None,
    images: Annotated[Path | None, typer.Option("--images", help="Or a folder of images")] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="and of their labels.")] = None,
    classes: Annotated[
        Path | None, typer.Option("--classes", help="What label ids mean: a CSV id,name,color.")
    ] = None,
    task: Annotated[
        Task, typer.Option("--task", help="Of two models: what is asked of them.")
    ] = Task.classes,
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="A=B", help="A model's class A counts as the labels' B; * is any."
        ),
    ] = None,
    group_by: GroupByOption = None,
    mpp: MppOption = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="The first N images.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap.")] = 0,
    json: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Two models, or two runs, on the same images: differences with intervals over patients."""
    from napari_pathsam.evaluation.compare import compared

    data_given = any(x is not None for x in (dataset, root, images, labels))
    if data_given:
        refuse_typed(context, NOT_READ[task], f"--task {task.value} does not read it")
        scores, settings = _measured(
            (a, b), task, pairs_of(mapping or []), images is not None, mpp, limit, device,
            partial(
                labelled_images, dataset, root, split, target, images, labels, classes,
                group_by=group_by,
            ),
        )  # fmt: skip
    elif Path(a).is_dir() and Path(b).is_dir():
        refuse_unread(context, READ_WITH_RUNS, "two runs are compared as they were measured")
        scores, settings = _read((Path(a), Path(b)))
    else:
        raise typer.BadParameter(
            "give two folders of `pathsam evaluate --out`; or two models, and their data with "
            "--dataset and --root, or --images and --labels.",
            param_hint="A B",
        )
    found = compared(scores[0], scores[1], settings, seed=seed)
    if json is not None:
        from napari_pathsam.evaluation.report import strict_json, versions

        told = {"a": a, "b": b} | found.to_values() | {"versions": versions()}
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(strict_json(told), encoding="utf-8")
    OUT.print(escape(f"A: {a}\nB: {b}"))
    OUT.print(f"{found.n_images} images")
    for drawn in _tables(found):
        OUT.print(drawn)
    OUT.print(f"95% intervals: {found.drawn}; a paired bootstrap draws the same ones for both.")


def _read(folders: tuple[Path, Path]) -> tuple[list[list[Any]], tuple[Settings, Settings]]:
    from napari_pathsam.evaluation.evaluate import settings_of
    from napari_pathsam.evaluation.runs import Run

    one, two = (Run.read(folder) for folder in folders)
    asked = (
        settings_of(one.card.task, one.card.settings),
        settings_of(two.card.task, two.card.settings),
    )
    return [one.scores, two.scores], asked


def _measured(
    names: tuple[str, str],
    task: Task,
    mapping: dict[str, str],
    folders: bool,
    mpp: float | None,
    limit: int | None,
    device: str,
    data_of: Callable[[LabelKind | None], Labelled],
) -> tuple[list[list[Any]], tuple[Settings, Settings]]:
    """Both models' scores, one model at a time in memory."""
    from napari_pathsam.cli.evaluate_run import measure
    from napari_pathsam.datasets.base import overriding
    from napari_pathsam.evaluation.classes import ClassSettings
    from napari_pathsam.evaluation.evaluate import settings_of
    from napari_pathsam.models.catalogue import load_model
    from napari_pathsam.models.class_model import ClassModel

    data, samples, named = data_of(None)
    samples = overriding(samples[:limit], mpp=mpp)
    use_own_cores()
    scores = []
    settings: Settings = (
        ClassSettings(mapping=mapping) if task is Task.classes else settings_of(task.value, {})
    )
    for name in names:
        loaded = load_model(name, device)
        wanted = samples
        if task is Task.classes and folders and isinstance(loaded, ClassModel):
            wanted = ids_are_classes(samples, named or loaded.classes)
        what = f"{name} on {data['dataset']}"
        scores.append(measure(loaded, wanted, settings, classes=named, what=what))
    return scores, (settings, settings)


def _tables(found: Comparison) -> Iterator[Table]:
    """One for each way of averaging; what is the same figure by another name stands once."""
    several = len({name.partition(": ")[0] for name in found.figures if ": " in name}) > 1
    once = {
        (f.averaging, f.title): f
        for name, f in found.figures.items()
        if several or ": " not in name
    }
    figures = list(once.values())
    for way in dict.fromkeys(f.averaging for f in figures):
        drawn = Table(title=way, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        drawn.add_column("", min_width=17)
        for heading in ("A", "B", "B − A", "interval"):
            drawn.add_column(heading, justify="right", no_wrap=True)
        drawn.add_column("better", no_wrap=True)
        for figure in (f for f in figures if f.averaging == way):
            told = {True: "B", False: "A", None: "not told apart"}[figure.b_is_better]
            known = not math.isnan(figure.apart.low)
            drawn.add_row(
                figure.title,
                _number(figure.a),
                _number(figure.b),
                _number(figure.apart.value, sign=True),
                f"{_number(figure.apart.low, sign=True)} to "
                f"{_number(figure.apart.high, sign=True)}" if known else "–",
                told if known else "–",
            )  # fmt: skip
        yield drawn


def _number(value: float, *, sign: bool = False) -> str:
    if math.isnan(value):
        return "–"
    places = 1 if abs(value) >= 10 else 3
    return f"{value:+.{places}f}" if sign else f"{value:.{places}f}"
