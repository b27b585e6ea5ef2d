"""``pathsam evaluate``: a model on labelled images → figures that can be traced."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from napari_pathsam.cli.console import (
    OUT,
    DeviceOption,
    MppOption,
    ViewsOption,
    load,
    refuse_typed,
    refuse_unread,
)
from napari_pathsam.cli.evaluate_data import GroupByOption, ids_are_classes, labelled_images
from napari_pathsam.cli.train_options import StainNormName

if TYPE_CHECKING:
    from napari_pathsam.datasets import LabelKind
    from napari_pathsam.datasets.base import StainNorm
    from napari_pathsam.evaluation.evaluate import Settings


class Task(StrEnum):
    """What is asked of the model."""

    classes = "classes"
    prompts = "prompts"
    everything = "everything"


OF_CLASSES = {
    "mapping", "ignore", "sparse", "threshold", "smallest", "holes", "split_objects", "seed_at",
    "seed_drop", "surest", "sharpen", "views", "as_published",
}  # fmt: skip
NOT_READ = {
    Task.classes: {"largest_share", "most_clicks"},
    Task.prompts: OF_CLASSES,
    Task.everything: OF_CLASSES | {"most_clicks"},
}
"""Options that a task does not read, by their names in the commands."""
READ_WITH_RUN = {"run", "model", "json", "device"}


class Kind(StrEnum):
    """What the ids of label images are."""

    instances = "instances"
    classes = "classes"
    binary = "binary"


def evaluate(
    context: typer.Context,
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
    group_by: GroupByOption = None,
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
        bool,
        typer.Option(
            "--split-objects/--join-objects",
            help="Tell touching objects apart by their shape; else areas that hang together are "
            "objects.",
        ),
    ] = False,
    seed_at: Annotated[
        float,
        typer.Option(
            "--seed-at",
            min=0,
            max=1,
            help="Objects grow from where their class is so likely. [split by shape]",
        ),
    ] = 0.0,
    seed_drop: Annotated[
        float,
        typer.Option(
            "--seed-drop",
            min=0,
            help="Or from where its log odds are at most so far below the object's surest part.",
        ),
    ] = 0.0,
    surest: Annotated[
        float,
        typer.Option("--surest", min=0, max=1, help="Objects less sure on average go."),
    ] = 0.0,
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
    stain_norm: Annotated[
        StainNormName | None,
        typer.Option("--stain-norm", help="Bring all stains to a common look."),
    ] = None,
    views: ViewsOption = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only the first N images.")
    ] = None,
    as_published: Annotated[
        bool,
        typer.Option("--as-published", help="Score objects as the DTU report did, too."),
    ] = False,
    most_clicks: Annotated[
        int,
        typer.Option("--most-clicks", min=1, help="Prompts: clicks are counted up to this many."),
    ] = 20,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of noisy boxes and of the bootstrap.")
    ] = 0,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write what was measured to this file.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Write every image's figures to this file.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="A folder for the run: each image as it is finished, report.html, plots, "
            "pictures of the worst images. `pathsam compare` takes two of them.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out that was stopped.")
    ] = False,
    gallery: Annotated[
        int, typer.Option("--gallery", min=0, help="Pictures in the report, the worst first.")
    ] = 12,
    device: DeviceOption = "auto",
) -> None:
    """Measure a model on a data set or a folder of labelled images."""
    if run is not None:
        from napari_pathsam.cli.train_run import evaluate_run

        refuse_unread(context, READ_WITH_RUN, "the run says everything")
        evaluate_run(run, model, device=device, json=json)
        return
    model = model or "pathsam-nano"
    pairs = pairs_of(mapping or [])
    kind: LabelKind | None = None if label_kind is None else label_kind.value
    data, samples, named = labelled_images(
        dataset, root, split, target, images, labels, classes, kind, group_by
    )
    if out is None:
        refuse_typed(context, {"resume", "gallery"}, "only a run's folder, --out, has that")
    from napari_pathsam.cli.evaluate_run import card_of, given_command, measure, write_folder
    from napari_pathsam.cli.evaluate_tables import TABLES
    from napari_pathsam.datasets.base import overriding
    from napari_pathsam.evaluation.answers import ClassSettings, refuse_undone
    from napari_pathsam.evaluation.evaluate import headlines_of, report_of
    from napari_pathsam.evaluation.everything import EverythingScoring
    from napari_pathsam.evaluation.html_report import images_csv, write_text
    from napari_pathsam.evaluation.prompting import PromptSettings
    from napari_pathsam.evaluation.runs import Run
    from napari_pathsam.models.class_model import ClassModel

    look = cast("StainNorm | None", stain_norm and stain_norm.value)
    samples = overriding(samples[:limit], mpp=mpp, label_kind=kind, stain_norm=look)
    loaded = load(model, device)
    task = task or (Task.classes if isinstance(loaded, ClassModel) else Task.prompts)
    refuse_typed(context, NOT_READ[task], f"--task {task.value} does not read it")
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
            seed=seed_at,
            drop=seed_drop,
            surest=surest,
            sharpen=sharpen,
            views=views and int(views),
            as_published=as_published,
        )
        if isinstance(loaded, ClassModel):
            refuse_undone(loaded, settings)
        if kind is None and images is not None and isinstance(loaded, ClassModel):
            samples = ids_are_classes(samples, named or loaded.classes)
    elif task is Task.prompts:
        settings = PromptSettings(
            at_mpp=at_mpp, largest_share=largest_share, most_clicks=most_clicks, seed=seed
        )
    else:
        settings = EverythingScoring(at_mpp=at_mpp, largest_share=largest_share)
    given = {"target": target, "stain_norm": look, "group_by": group_by}
    told: dict[str, Any] = {"mpp": mpp} | {k: v for k, v in given.items() if v}
    card = card_of(loaded, model, samples, settings, data, told)
    run_folder = None if out is None else Run.begin(out, card, resume=resume)
    scores = measure(loaded, samples, settings, classes=named,
                     what=f"{model} on {data['dataset']}", run=run_folder)  # fmt: skip
    told |= {"weights_sha256": card.weights_sha256, "command": given_command(context)}
    report = report_of(loaded, samples, settings, scores, name=model, data=data, seed=seed, **told)
    if json is not None:
        report.write(json)
    if csv is not None:
        write_text(csv, images_csv(scores, headlines_of(settings, scores)))
    OUT.print(TABLES[report.task](report))
    if out is not None:
        write_folder(out, report, loaded, samples, scores, settings, classes=named, shown=gallery)
        OUT.print(f"Report: {out / 'report.html'}")


def pairs_of(mapping: list[str]) -> dict[str, str]:
    """``A=B`` as ``{A: B}``; BadParameter for anything else."""
    pairs = {}
    for text in mapping:
        ours, sign, theirs = (part.strip() for part in text.partition("="))
        if not (ours and sign and theirs):
            raise typer.BadParameter(f"{text!r} is not of the form A=B.", param_hint="--map")
        pairs[ours] = theirs
    return pairs
