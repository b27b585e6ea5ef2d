"""``pathsam evaluate``: a model on labelled images → figures that can be traced."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_pathsam.cli.console import (
    OUT,
    DeviceOption,
    MppOption,
    progress,
    use_own_cores,
)

if TYPE_CHECKING:
    from napari_pathsam.core.classes import ClassTable
    from napari_pathsam.datasets import LabelKind, Sample
    from napari_pathsam.evaluation.evaluate import Settings
    from napari_pathsam.models.pathsam import PathSam
    from napari_pathsam.models.sam2 import Sam2


class Task(StrEnum):
    """What is asked of the model."""

    classes = "classes"
    prompts = "prompts"
    everything = "everything"


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
        str | None,
        typer.Option("--split", help="One of its splits, some with commas, or all. [its test]"),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", help="What its labels mean, as `datasets info` has it."),
    ] = None,
    images: Annotated[Path | None, typer.Option("--images", help="A folder of images.")] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Their labels, paired by file name.")
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option("--classes", help="What label ids mean: a CSV id,name,color. [the model's]"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="A name of `pathsam models list`, or a .safetensors file. [pathsam-nano]",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            help="A run of the Fine-tune dock (.run.npz): its held-out pixels, scored anew.",
        ),
    ] = None,
    task: Annotated[
        Task | None,
        typer.Option(
            "--task",
            help="classes: label every pixel; prompts: simulated clicks and boxes; everything: a "
            "grid of points looks for objects. "
            "[classes, where the model knows any]",
        ),
    ] = None,
    mpp: MppOption = None,
    at_mpp: Annotated[
        float | None,
        typer.Option(
            "--at-mpp",
            min=0.001,
            help="Microns per pixel to work at. [the model's; of prompts, the image's]",
        ),
    ] = None,
    label_kind: Annotated[
        Kind | None,
        typer.Option("--label-kind", help="What label ids are. [instances where there are many]"),
    ] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="A=B", help="The model's class A counts as the labels' B; * is any."
        ),
    ] = None,
    ignore: Annotated[
        int | None,
        typer.Option("--ignore", min=0, help="Label id that is not counted. [255 of classes]"),
    ] = None,
    sparse: Annotated[
        bool, typer.Option("--sparse", help="Label id 0 is unlabelled, not background.")
    ] = False,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0, max=1, help="Less likely pixels are unsure.")
    ] = 0.0,
    smallest: Annotated[
        int, typer.Option("--smallest", min=0, help="Areas of fewer pixels go.")
    ] = 0,
    holes: Annotated[
        int, typer.Option("--fill-holes", min=0, help="Holes of fewer pixels are filled.")
    ] = 0,
    split_objects: Annotated[
        bool, typer.Option("--split-objects/--join-objects", help="Tell touching objects apart.")
    ] = True,
    sharpen: Annotated[
        bool, typer.Option("--sharpen", help="Outline each object anew with the prompt decoder.")
    ] = False,
    largest_share: Annotated[
        float | None,
        typer.Option(
            "--largest-share",
            min=0.001,
            max=1,
            help="Prompts, everything: masks over this share of the image are dropped; 0.5 is the "
            "papers' post-processing.",
        ),
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
    if run is not None:
        from napari_pathsam.cli.train_run import evaluate_run

        evaluate_run(run, model, device=device, json=json)
        return
    model = model or "pathsam-nano"
    pairs = _pairs(mapping or [])
    kind: LabelKind | None = None if label_kind is None else label_kind.value
    named: ClassTable | None = None
    if dataset is not None and root is not None and images is None and labels is None:
        if classes is not None:
            raise typer.BadParameter("a data set knows its classes.", param_hint="--classes")
        data, samples, named = _published(dataset, root, split, target)
    elif images is not None and labels is not None and dataset is None and root is None:
        for given, option in ((split not in (None, "all"), "--split"), (target, "--target")):
            if given:
                raise typer.BadParameter("a folder of images has none.", param_hint=option)
        named = None if classes is None else _class_table(classes)
        data, samples = _folders(images, labels, kind)
    else:
        raise typer.BadParameter(
            "give either --dataset and --root, or --images and --labels.",
            param_hint="--dataset / --images",
        )
    from napari_pathsam.cli.evaluate_tables import TABLES
    from napari_pathsam.datasets.base import overriding
    from napari_pathsam.evaluation.classes import ClassSettings
    from napari_pathsam.evaluation.evaluate import report_of, scoring
    from napari_pathsam.evaluation.everything import EverythingScoring
    from napari_pathsam.evaluation.prompting import PromptSettings
    from napari_pathsam.models.catalogue import load_model
    from napari_pathsam.models.pathsam import PathSam

    samples = overriding(samples[:limit], mpp=mpp, label_kind=kind)
    use_own_cores()
    loaded: Sam2 | PathSam = load_model(model, device)
    task = task or (Task.classes if isinstance(loaded, PathSam) else Task.prompts)
    settings: Settings
    if task is Task.classes:
        settings = ClassSettings(
            at_mpp=at_mpp,
            mapping=pairs,
            ignore_id=ignore,
            sparse=sparse,
            threshold=threshold,
            smallest_px=smallest,
            fill_holes_px=holes,
            split=split_objects,
            sharpen=sharpen,
        )
        if kind is None and images is not None and isinstance(loaded, PathSam):
            samples = _ids_are_classes(samples, named or loaded.classes)
    elif task is Task.prompts:
        settings = PromptSettings(at_mpp=at_mpp, largest_share=largest_share)
    else:
        settings = EverythingScoring(at_mpp=at_mpp, largest_share=largest_share)
    scores = []
    with progress(f"{model} on {data['dataset']}", len(samples)) as bar:
        for score in scoring(loaded, samples, settings, classes=named):
            scores.append(score)
            bar.update(bar.task_ids[0], completed=score.done)
    told = {"mpp": mpp} | ({"target": target} if target else {})
    report = report_of(loaded, samples, settings, scores, name=model, data=data, **told)
    if json is not None:
        report.write(json)
    OUT.print(TABLES[report.task](report))


def _pairs(mapping: list[str]) -> dict[str, str]:
    pairs = {}
    for text in mapping:
        ours, sign, theirs = (part.strip() for part in text.partition("="))
        if not (ours and sign and theirs):
            raise typer.BadParameter(f"{text!r} is not of the form A=B.", param_hint="--map")
        pairs[ours] = theirs
    return pairs


def _published(
    name: str, root: Path, split: str | None, target: str | None
) -> tuple[dict[str, str], list[Sample], ClassTable]:
    """What a report says of a data set, its samples, and what their labels mean."""
    from napari_pathsam.core.classes import ClassTable
    from napari_pathsam.datasets import dataset

    found = dataset(name, target)
    samples = found.samples(root, split)
    said = {"dataset": found.name, "split": split or found.default_split}
    return said, samples, ClassTable.of(*found.classes)


def _folders(
    images: Path, labels: Path, kind: LabelKind | None
) -> tuple[dict[str, str], list[Sample]]:
    from napari_pathsam.datasets import folder_samples

    return {"dataset": images.name, "split": "all"}, folder_samples(images, labels, label_kind=kind)


def _class_table(path: Path) -> ClassTable:
    from napari_pathsam.core.classes import ClassTable
    from napari_pathsam.core.errors import BadFileError

    try:
        table = ClassTable.from_csv(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, BadFileError) as error:
        raise BadFileError(f"{path}: {error}") from error
    if not table.classes:
        raise BadFileError(f"{path} lists no class; a CSV with the columns id,name is wanted.")
    return table


def _ids_are_classes(samples: list[Sample], classes: ClassTable) -> list[Sample]:
    """Where there are several classes, the ids of a folder's labels are taken for classes."""
    if len(classes) < 2:
        return samples
    return [replace(sample, label_kind="classes") for sample in samples]
