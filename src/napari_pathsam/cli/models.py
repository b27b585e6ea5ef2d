"""``pathsam models``: what there is, where it comes from, on which terms, and getting it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from napari_pathsam.cli.console import ERR, OUT, show_facts

if TYPE_CHECKING:
    from napari_pathsam.models.encoder_spec import EncoderSpec
    from napari_pathsam.models.entries import ModelEntry

models_app = typer.Typer(help="The models, their licences, and getting them.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="A name of `pathsam models list`.")]
NameOrFileArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A name of `pathsam models list`, or a model file.")
]


@models_app.command("list")
def list_models() -> None:
    """All models: size, licence, and whether they are here."""
    from napari_pathsam.models.catalogue import (
        HEADS,
        MODELS,
        RECIPES,
        STARTS,
        TASK_RECIPES,
        TRAINABLE,
    )
    from napari_pathsam.models.checkpoints import imported_models
    from napari_pathsam.models.encoder_files import imported_encoders
    from napari_pathsam.models.encoders import ENCODERS
    from napari_pathsam.models.entries import encoder_entry

    own = [name for name in imported_models() if name not in MODELS and name not in STARTS]
    encoders = ENCODERS | imported_encoders()
    _show("Answer clicks and boxes", list(MODELS.values()), own)
    _show("Know classes", list(HEADS.values()))
    _show("Start training from", list(STARTS.values()))
    _show("Pathology encoders", [encoder_entry(spec) for spec in encoders.values()])
    table = _table("Answers clicks and boxes, to be trained; NAME+MODEL stands on another model")
    for one in TRAINABLE.values():
        table.add_row(one.name, "", "yours", "yours", "train it")
    OUT.print(table)
    table = _table("To be trained; NAME+ENCODER takes another encoder")
    for recipe in RECIPES.values():
        table.add_row(recipe.name, "", "yours", "yours", "train it")
    OUT.print(table)
    table = _table("Networks for one task, to be trained; unet-timm+TRUNK, guided-eunet3plus+MODEL")
    for task in TASK_RECIPES.values():
        table.add_row(task.name, "", "yours", "yours", "train it")
    OUT.print(table)


def _table(heading: str) -> Table:
    name = Column("name", no_wrap=True, min_width=20)
    return Table(name, "size", "µm/px", "licence", "here", title=heading, title_justify="left")


def _show(heading: str, entries: list[ModelEntry], imported: Iterable[str] = ()) -> None:
    from napari_pathsam.models.catalogue import is_here

    table = _table(heading)
    for entry in entries:
        absent = "not in this installation" if entry.weights.kind == "packaged" else "no"
        table.add_row(
            entry.name,
            entry.size_text,
            _range(_mpp_range(entry)),
            entry.licence + (" (on request)" if entry.gated else ""),
            "yes" if is_here(entry.name) else absent,
        )
    for name in imported:
        table.add_row(name, "", "", "imported by you", "yes")
    OUT.print(table)


@models_app.command()
def info(name: NameOrFileArgument) -> None:
    """Everything known about one model, or a model file."""
    from napari_pathsam.models.catalogue import HEADS, MODELS, TRAINABLE, find_entry, is_here
    from napari_pathsam.models.checkpoints import cached_path, imported_models, read_card
    from napari_pathsam.models.encoder_files import encoder_path, imported_encoders
    from napari_pathsam.models.encoders import ENCODERS
    from napari_pathsam.models.entries import encoder_entry
    from napari_pathsam.models.recipes import RECIPES, find_recipe
    from napari_pathsam.models.sources import HubFile, Packaged, Url
    from napari_pathsam.models.task_recipes import find_task_recipe, is_task

    if (plain := name.partition("+")[0]) in TRAINABLE:
        one = TRAINABLE[plain]
        facts = {"name": name, "title": one.title, "what it is": one.summary}
        show_facts(facts | {"paper": one.source, "to train it": one.command})
        return
    if is_task(name):
        task = find_task_recipe(name)
        facts = {"name": task.name, "title": task.title, "what it is": task.summary}
        show_facts(facts | {"source": task.source, "to train it": task.command})
        return
    encoders = imported_encoders() | ENCODERS
    if name.partition("+")[0] in RECIPES:
        recipe = find_recipe(name)
        facts = {"name": recipe.name, "title": recipe.title, "what it is": recipe.summary}
        facts |= {"stands on": recipe.base, "encoder": recipe.encoder or "none"}
        facts |= {"paper": recipe.source, "to train it": recipe.command}
        show_facts(facts)
        return
    imported = name not in MODELS | HEADS | encoders and name in imported_models()
    if imported or Path(name).is_file():
        path = cached_path(name) if imported else Path(name)
        card = read_card(path)
        facts = {"name": card.config.name, "licence": card.licence, "file": str(path)}
        if card.classes is not None:
            facts["classes"] = ", ".join(card.classes.names)
        facts["stands on"] = ", ".join(base.name for base in card.base) or "nothing"
        show_facts(facts)
        return
    entry = encoder_entry(encoders[name]) if name in encoders else find_entry(name)
    facts = {
        "name": entry.name,
        "title": entry.title,
        "what it is": entry.summary,
        "licence": f"{entry.licence} ({entry.licence_url})",
        "size": entry.size_text or "unknown",
        "µm per pixel": _range(_mpp_range(entry)),
    }
    facts |= _classes(entry)
    if isinstance(entry.weights, Packaged):
        facts["here"] = "yes" if is_here(name) else "not in this installation"
    else:
        facts["here"] = "yes" if is_here(name) else f"no: pathsam models fetch {name}"
    if entry.gated:
        facts["access"] = _access(entry)
    if isinstance(entry.weights, Url | HubFile):
        facts |= {"from": entry.weights.url, "checked by": entry.revision}
    if name in encoders:
        facts |= _pixels(encoders[name])
    if is_here(name):
        where = encoder_path(encoders[name]) if name in encoders else _file(entry)
        facts["file"] = str(where)
    show_facts(facts)


def _file(entry: ModelEntry) -> Path:
    """Where a model's file lies, or would lie, in the package or in the cache."""
    from napari_pathsam.models.checkpoints import cached_path
    from napari_pathsam.models.sources import Packaged

    return entry.weights.path if isinstance(entry.weights, Packaged) else cached_path(entry.name)


def _pixels(spec: EncoderSpec) -> dict[str, str]:
    return {
        "network": f"{spec.timm} (timm), {spec.prefix_tokens} prefix tokens",
        "mean, std": f"{spec.mean}, {spec.std}",
    }


def _access(entry: ModelEntry) -> str:
    from napari_pathsam.models.sources import HubFile

    assert isinstance(entry.weights, HubFile)
    page = f"https://huggingface.co/{entry.weights.repo}"
    return f"on request: {page}, then `hf auth login` with your own account"


@models_app.command()
def fetch(name: NameArgument) -> None:
    """Download a model's or an encoder's weights once, and verify them."""
    from napari_pathsam.models.catalogue import find_entry
    from napari_pathsam.models.checkpoints import fetch as fetch_weights
    from napari_pathsam.models.encoder_files import fetch_encoder
    from napari_pathsam.models.encoders import ENCODERS

    entry = find_entry(name)
    ERR.print(f"{entry.title}: {entry.size_text}, licence {entry.licence} ({entry.licence_url})")
    if entry.sha256 is None and entry.revision:
        ERR.print(f"Note: {entry.revision}.")
    if entry.gated:
        ERR.print(f"Access {_access(entry)}")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=ERR, transient=True) as bar:
        task = bar.add_task(f"Fetching {name}", total=entry.size)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if name in ENCODERS:
            path = fetch_encoder(ENCODERS[name], progress=show)
        else:
            path = fetch_weights(entry, progress=show)
    OUT.print(f"{name} is here: {path}")


@models_app.command("import")
def import_file(
    file: Annotated[
        Path, typer.Argument(help="Meta's .pt, a .safetensors of ours, or an encoder's checkpoint.")
    ],
    encoder: Annotated[
        str | None, typer.Option("--as", metavar="ENCODER", help="The encoder this file is.")
    ] = None,
    spec: Annotated[
        Path | None,
        typer.Option(
            "--spec",
            metavar="SPEC.json",
            help="Describes an encoder of your own; docs/training.md has an example.",
        ),
    ] = None,
) -> None:
    """Take a copy of a local checkpoint; nothing in it is executed."""
    from napari_pathsam.models.checkpoints import import_checkpoint
    from napari_pathsam.models.encoder_files import import_encoder, read_spec
    from napari_pathsam.models.encoders import find_encoder

    if encoder is not None and spec is not None:
        raise typer.BadParameter("--as and --spec say the same thing: give one of them.")
    if encoder is None and spec is None:
        name = import_checkpoint(file)
        OUT.print(f"Imported {file}; use it as --model {name}")
        return
    described = find_encoder(encoder) if encoder is not None else read_spec(spec or Path())
    name = import_encoder(file, described)
    OUT.print(f"Imported {file}; use it as --encoder {name}, or --model path-sam2-tiny+{name}")


@models_app.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="One model. [all that are here]")] = None,
) -> None:
    """Read weights whole and compare them with what was recorded."""
    from napari_pathsam.models.catalogue import HEADS, MODELS, is_here, load_model
    from napari_pathsam.models.checkpoints import imported_models
    from napari_pathsam.models.encoder_files import imported_encoders
    from napari_pathsam.models.encoders import ENCODERS, load_encoder

    encoders = dict.fromkeys((*ENCODERS, *imported_encoders()))
    known = dict.fromkeys((*MODELS, *HEADS, *imported_models(), *encoders))
    for one in [name] if name else [n for n in known if is_here(n)]:
        if one in encoders:
            load_encoder(one, "cpu")
        else:
            load_model(one, "cpu")
        OUT.print(f"{one} is whole.")


def _mpp_range(entry: ModelEntry) -> tuple[float, float] | None:
    """Between which pixel sizes a model is at home; a head's own file says it."""
    from napari_pathsam.models.checkpoints import read_card

    path = _file(entry)
    if entry.kind != "head" or not path.is_file():
        return entry.mpp_range
    card = read_card(path)
    return card.config.mpp_range or (None if card.mpp is None else (card.mpp, card.mpp))


def _classes(entry: ModelEntry) -> dict[str, str]:
    from napari_pathsam.models.checkpoints import read_card
    from napari_pathsam.models.pathsam_config import PathSamConfig

    path = _file(entry)
    if entry.kind != "head" or not path.is_file():
        return {}
    card = read_card(path)
    assert isinstance(card.config, PathSamConfig)
    assert card.classes is not None
    facts = {
        "made for": f"{card.config.tissue}, {card.config.stain}",
        "stands on": card.config.base,
        "classes": ", ".join(one.name for one in card.classes.classes),
    }
    if entry.advised is not None:
        options = entry.advised.options(card.config.mpp)
        facts["advised"] = f"{options} (at {card.config.mpp:g} µm/px). {entry.advised.why}"
    return facts


def _range(mpp_range: tuple[float, float] | None) -> str:
    if mpp_range is None:
        return "not measured"
    low, high = mpp_range
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
