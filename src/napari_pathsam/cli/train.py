"""``pathsam train``: labelled images, or a recipe and its data sets → one model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_pathsam.cli.console import OUT, DeviceOption, progress, refuse_unread, use_own_cores
from napari_pathsam.cli.train_options import (
    READ_WITH_CLASS_RECIPE,
    READ_WITH_PROMPT_RECIPE,
    READ_WITH_RUN,
    READ_WITH_WSI_BASE,
    READ_WITH_WSI_RECIPE,
    Kind,
    PresetName,
    ProfileName,
    StainNormName,
    Trained,
)
from napari_pathsam.cli.train_sources import mpp_of, recipe_of, sources_of, with_options
from napari_pathsam.cli.train_wsi import is_wsi_sam, recipe_of_options, train_wsi

IMAGES = "Images and labels"
LEARNING = "What is learned"
RUNNING = "How it runs"


def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", help="MODEL.safetensors.")],
    config: Annotated[
        str | None,
        typer.Option(
            "--config", help="A recipe (.toml), or pathsam-nano, pathsam-nano-glands, "
            "wsi-sam-nano-tnbc …: then "
            "images, base and settings are the recipe's.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", help="A run of the Fine-tune dock (.run.npz): all else is the run's.",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="A folder of images.", rich_help_panel=IMAGES),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", help="Their labels, paired by file name.", rich_help_panel=IMAGES
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option("--classes", help="CSV: id,name[,color].", rich_help_panel=IMAGES),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset", help="A name of `pathsam datasets list` instead.", rich_help_panel=IMAGES
        ),
    ] = None,
    root: Annotated[
        list[str] | None,
        typer.Option(
            "--root", metavar="DIR", rich_help_panel=IMAGES,
            help="Where the data set lies; NAME=DIR, once for each, with --config.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", help="How its labels are read, e.g. lesions.", rich_help_panel=IMAGES
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="Its split to train on. [train]", rich_help_panel=IMAGES),
    ] = None,
    label_kind: Annotated[
        Kind | None,
        typer.Option(
            "--label-kind", rich_help_panel=IMAGES,
            help="What label ids are. [classes; with one class: anything not 0]",
        ),
    ] = None,
    sparse: Annotated[
        bool,
        typer.Option(
            "--sparse", help="0 means not labelled, instead of background.", rich_help_panel=IMAGES
        ),
    ] = False,
    mpp: Annotated[
        float | None,
        typer.Option(
            "--mpp", min=0.001, rich_help_panel=IMAGES,
            help="Microns per pixel of the images; overrides the data set's.",
        ),
    ] = None,
    stain_norm: Annotated[
        StainNormName | None,
        typer.Option(
            "--stain-norm", rich_help_panel=IMAGES,
            help="Bring all stains to one look; the model then wants images like that.",
        ),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            "--group-by", rich_help_panel=IMAGES,
            help="Pattern that finds patient or slide in a file name, e.g. '^[^_]+'.",
        ),
    ] = None,
    val_images: Annotated[
        Path | None,
        typer.Option("--val-images", help="Images to validate on.", rich_help_panel=IMAGES),
    ] = None,
    val_labels: Annotated[
        Path | None, typer.Option("--val-labels", help="Their labels.", rich_help_panel=IMAGES)
    ] = None,
    val_share: Annotated[
        float | None,
        typer.Option(
            "--val-share", min=0.0, max=0.9, rich_help_panel=IMAGES,
            help="Or this share of the groups is held out, also where a data set has images for "
            "that. [0.2]",
        ),
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(
            "--fold", metavar="K/N", rich_help_panel=IMAGES,
            help="Or the groups of fold K of N, as for cross-validation by patient.",
        ),
    ] = None,
    base: Annotated[
        str,
        typer.Option(
            "--base", "--model", rich_help_panel=LEARNING,
            help="The promptable model it stands on, or a recipe such as path-sam2-tiny+uni; "
            "unet, unet-timm+TRUNK, unet3plus, eunet3plus, guided-eunet3plus, mask-rcnn; "
            "wsi-sam+MODEL answers clicks, with what is round a field.",
        ),
    ] = "pathsam-nano",
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", help="A pathology encoder beside it.", rich_help_panel=LEARNING),
    ] = None,
    profile: Annotated[
        ProfileName, typer.Option("--profile", rich_help_panel=LEARNING)
    ] = ProfileName.recommended,
    trained: Annotated[
        Trained | None,
        typer.Option(
            "--train", help="How far training reaches. [the preset's]", rich_help_panel=LEARNING
        ),
    ] = None,
    preset: Annotated[
        PresetName, typer.Option("--preset", rich_help_panel=LEARNING)
    ] = PresetName.balanced,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="[the preset's]", rich_help_panel=LEARNING),
    ] = None,
    at_mpp: Annotated[
        float | None,
        typer.Option(
            "--at-mpp", min=0.001, help="Microns per pixel to work at. [the images']",
            rich_help_panel=LEARNING,
        ),
    ] = None,
    tissue: Annotated[
        str,
        typer.Option(
            "--tissue", rich_help_panel=LEARNING,
            help="What the model is made for, as the dock will say it, e.g. 'colon'.",
        ),
    ] = "",
    stain: Annotated[
        str,
        typer.Option("--stain", help="And which stain, e.g. 'H&E'.", rich_help_panel=LEARNING),
    ] = "",
    licence: Annotated[
        str, typer.Option("--licence", help="Of the new model.", rich_help_panel=LEARNING)
    ] = "not stated; the training images' terms apply",
    trunk: Annotated[
        Path | None,
        typer.Option(
            "--trunk", rich_help_panel=LEARNING,
            help="ImageNet weights the trunk starts from (timm's .safetensors): of unet-timm, and "
            "with --config pathsam-nano. unet-timm may start from pathsam-nano's, too.",
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--start", rich_help_panel=LEARNING,
            help="The model to go on from (.safetensors): a network like this one, and with "
            "--config pathsam-nano-stains.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="[0]", rich_help_panel=RUNNING)
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on where a stopped run of this --out was.",
            rich_help_panel=RUNNING,
        ),
    ] = False,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache", help="Folder of embeddings. [the user's cache]", rich_help_panel=RUNNING
        ),
    ] = None,
    cache_gb: Annotated[
        float,
        typer.Option(
            "--cache-gb", min=0.0, envvar="NAPARI_PATHSAM_EMBEDDINGS_GB",
            help="Its limit; 0: none is kept.", rich_help_panel=RUNNING,
        ),
    ] = 10.0,
    workers: Annotated[
        int,
        typer.Option(
            "--workers", min=0, help="Processes that read images and make patches.",
            rich_help_panel=RUNNING,
        ),
    ] = 0,
    memory_gb: Annotated[
        float,
        typer.Option(
            "--memory-gb", min=0.0, help="Images beyond this are read again when needed.",
            rich_help_panel=RUNNING,
        ),
    ] = 4.0,
    device: DeviceOption = "auto",
    distributed: Annotated[
        bool,
        typer.Option(
            "--distributed", rich_help_panel=RUNNING,
            help="One of several processes that torchrun started (GPUs, machines).",
        ),
    ] = False,
) -> None:  # fmt: skip
    """Teach a model classes, or, with --config pathsam-nano, to answer clicks and boxes."""
    if out.suffix != ".safetensors":
        raise typer.BadParameter("it must end in .safetensors.", param_hint="--out")
    if run is not None:
        from napari_pathsam.cli.train_run import train_run

        refuse_unread(context, READ_WITH_RUN, "the run says everything")
        train_run(run, out, device=device, resume=resume)
        return
    roots = root or []
    how: dict[str, Any] = {
        "seed": seed, "resume": resume, "device": device, "cache": cache,
        "cache_bytes": int(cache_gb * 1e9),
    }  # fmt: skip
    if config is not None:
        named = dict(_root(text) for text in roots)
        from napari_pathsam.training.class_recipe import read_class_recipe
        from napari_pathsam.training.wsi_recipe import read_wsi_recipe

        says = "the recipe says that"
        if (wsi := read_wsi_recipe(config)) is not None:
            refuse_unread(context, READ_WITH_WSI_RECIPE, says)
            train_wsi(wsi, named, out, **how)
            return
        recipe = read_class_recipe(config)
        if recipe is None:
            refuse_unread(context, READ_WITH_PROMPT_RECIPE, says)
            _train_promptable(config, named, out, trunk, start, resume)
            return
        refuse_unread(context, READ_WITH_CLASS_RECIPE, says)
        recipe = with_options(recipe, trunk=trunk, start=start, fold=fold, epochs=epochs, seed=seed)
    elif is_wsi_sam(base):
        refuse_unread(context, READ_WITH_WSI_BASE, "WSI-SAM does not read it")
        wsi = recipe_of_options(
            out.stem, base, images=images, labels=labels, dataset=dataset, split=split,
            label_kind=label_kind and label_kind.value, profile=profile.value, licence=licence,
        )  # fmt: skip
        train_wsi(wsi, {} if dataset is None else {dataset: Path(*roots[:1])}, out, **how)
        return
    else:
        named, source, held_out, table = sources_of(
            images, labels, classes, dataset, roots, target, split, val_images, val_labels,
            own_validation=fold is None and val_share is None,
        )  # fmt: skip
        about = {"mpp": mpp, "group_by": group_by, "label_kind": label_kind and label_kind.value}
        about["stain_norm"] = stain_norm and stain_norm.value
        if sparse and label_kind is None:
            about["label_kind"] = "classes"
        fields: dict[str, Any] = {
            "parts": trained and trained.parts, "epochs": epochs, "seed": seed
        }  # fmt: skip
        recipe = recipe_of(
            out.stem,
            base,
            encoder,
            table,
            mpp=at_mpp or mpp or mpp_of(source, named),
            tissue=tissue,
            stain=stain,
            sources=(source | about,),
            validation=() if held_out is None else (held_out | about,),
            val_share=0.2 if val_share is None else val_share,
            fold=fold,
            sparse=sparse,
            profile=profile.value,
            preset=preset.value,
            train={name: value for name, value in fields.items() if value is not None},
            trunk=trunk,
            start=start,
            licence=licence,
        )
    from napari_pathsam.cli.train_classes import train_classes

    use_own_cores()
    train_classes(
        recipe, named, out, resume=resume, device=device, cache=cache,
        cache_bytes=int(cache_gb * 1e9), distributed=distributed, workers=workers,
        memory_bytes=int(memory_gb * 1e9),
    )  # fmt: skip


def _train_promptable(
    config: str,
    roots: dict[str, Path],
    out: Path,
    trunk: Path | None,
    start: Path | None,
    resume: bool,
) -> None:
    from napari_pathsam.training.prompt_recipe import read_recipe, train_promptable

    recipe = read_recipe(config)
    use_own_cores()
    out.parent.mkdir(parents=True, exist_ok=True)
    with progress("Reading the images", recipe.train.steps) as bar:
        for report in train_promptable(recipe, roots, out, trunk=trunk, start=start, resume=resume):
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
