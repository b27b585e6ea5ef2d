"""``pathsam evaluate``: a model on labelled images → figures that can be traced."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from napari_pathsam.cli.console import OUT, DeviceOption, ModelOption, MppOption, load, progress

if TYPE_CHECKING:
    from napari_pathsam.datasets import LabelKind, Sample
    from napari_pathsam.evaluation.prompting import PromptSettings
    from napari_pathsam.evaluation.report import Report
    from napari_pathsam.models.sam2 import Sam2


class Task(StrEnum):
    """What is asked of the model."""

    prompts = "prompts"


class Kind(StrEnum):
    """What the ids of label images are."""

    instances = "instances"
    classes = "classes"
    binary = "binary"


def evaluate(
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="A name of `pathsam datasets list`.")
    ] = None,
    root: Annotated[Path | None, typer.Option("--root", help="The data set's folder.")] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="One of its splits, or all. [its test split]")
    ] = None,
    images: Annotated[Path | None, typer.Option("--images", help="A folder of images.")] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Their labels, paired by file name.")
    ] = None,
    model: ModelOption = "pathsam-nano",
    task: Annotated[
        Task, typer.Option("--task", help="prompts: simulated clicks and boxes.")
    ] = Task.prompts,
    mpp: MppOption = None,
    at_mpp: Annotated[
        float | None,
        typer.Option("--at-mpp", min=0.001, help="Microns per pixel to work at. [the image's]"),
    ] = None,
    label_kind: Annotated[
        Kind | None,
        typer.Option("--label-kind", help="What label ids are. [instances where there are many]"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first N images.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write what was measured to this file.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Measure a model on a data set or a folder of labelled images."""
    kind: LabelKind | None = None if label_kind is None else label_kind.value
    if dataset is not None and root is not None and images is None and labels is None:
        data, samples = _published(dataset, root, split)
    elif images is not None and labels is not None and dataset is None and root is None:
        if split not in (None, "all"):
            raise typer.BadParameter("a folder of images has no splits.", param_hint="--split")
        data, samples = _folders(images, labels, kind)
    else:
        raise typer.BadParameter(
            "give either --dataset and --root, or --images and --labels.",
            param_hint="--dataset / --images",
        )
    from napari_pathsam.datasets.base import overriding
    from napari_pathsam.evaluation.prompting import PromptSettings
    from napari_pathsam.evaluation.report import Report

    samples = overriding(samples[:limit], mpp=mpp, label_kind=kind)
    loaded = load(model, device)
    settings = PromptSettings(at_mpp=at_mpp)
    metrics = _measure(loaded, samples, settings, f"{model} on {data['dataset']}")
    report = Report(
        model=model,
        **data,
        task=task.value,
        n_images=len(samples),
        metrics=metrics,
        settings=settings.model_dump()
        | {"mpp": mpp, "label_kind": samples[0].label_kind, "device": str(loaded.device)},
    )
    if json is not None:
        report.write(json)
    OUT.print(_table(report))


def _published(name: str, root: Path, split: str | None) -> tuple[dict[str, str], list[Sample]]:
    """What a report says of a data set, and its samples."""
    from napari_pathsam.datasets import dataset

    found = dataset(name)
    samples = found.samples(root, split)
    return {"dataset": found.name, "split": split or found.default_split}, samples


def _folders(
    images: Path, labels: Path, kind: LabelKind | None
) -> tuple[dict[str, str], list[Sample]]:
    from napari_pathsam.datasets import folder_samples

    return {"dataset": images.name, "split": "all"}, folder_samples(images, labels, label_kind=kind)


def _measure(
    model: Sam2, samples: list[Sample], settings: PromptSettings, what: str
) -> dict[str, Any]:
    from napari_pathsam.evaluation.prompting import evaluate_prompts, prompt_metrics

    scores = []
    with progress(what, len(samples)) as bar:
        for score in evaluate_prompts(model, samples, settings):
            scores.append(score)
            bar.update(bar.task_ids[0], completed=score.done)
    return prompt_metrics(scores, settings)


def _table(report: Report) -> Table:
    metrics = report.metrics
    table = Table(title=f"{report.model} on {report.dataset}, {report.split}", title_justify="left")
    table.add_column("mean over objects")
    table.add_column("IoU", justify="right")
    for n, value in metrics["iou_at_clicks"].items():
        table.add_row(f"{n} click{'s' if n != '1' else ''}", f"{value:.3f}")
    table.add_row("box", f"{metrics['iou_box']:.3f}")
    table.add_row("ellipse in the box (baseline)", f"{metrics['iou_ellipse']:.3f}")
    table.caption = (
        f"{metrics['n_objects']} objects in {report.n_images} images, {metrics['n_too_small']} "
        f"under {report.settings['smallest_px']} px left out; "
        f"{metrics['ms_per_click']:.0f} ms a click, {metrics['ms_to_encode']:.0f} ms to encode"
    )
    table.caption_justify = "left"
    return table
