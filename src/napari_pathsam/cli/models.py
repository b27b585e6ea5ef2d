"""``pathsam models``: what there is, where it comes from, and getting it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from napari_pathsam.cli.console import ERR, OUT, show_facts

models_app = typer.Typer(help="The models, their licences, and getting them.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="A name of `pathsam models list`.")]


@models_app.command("list")
def list_models() -> None:
    """All models: size, licence, and whether they are here."""
    from napari_pathsam.models.catalogue import MODELS
    from napari_pathsam.models.checkpoints import imported_models

    table = Table("name", "title", "size", "µm/px", "licence", "here")
    for entry in MODELS.values():
        table.add_row(
            entry.name,
            entry.title,
            entry.size_text,
            _range(entry.mpp_range),
            entry.licence + (" (gated)" if entry.gated else ""),
            "yes" if is_here(entry.name) else "no",
        )
    for name in imported_models():
        if name not in MODELS:
            table.add_row(name, "imported", "", "", "", "yes")
    OUT.print(table)


@models_app.command()
def info(name: NameArgument) -> None:
    """Everything known about one model."""
    from napari_pathsam.models.catalogue import MODELS, Url, find_entry
    from napari_pathsam.models.checkpoints import cached_path, imported_models, read_card

    if name not in MODELS and name in imported_models():
        card = read_card(cached_path(name))
        show_facts({"name": name, "licence": card.licence, "file": str(cached_path(name))})
        return
    entry = find_entry(name)
    remote = isinstance(entry.weights, Url)
    facts = {
        "name": entry.name,
        "title": entry.title,
        "what it is": entry.summary,
        "licence": f"{entry.licence} ({entry.licence_url})",
        "size": entry.size_text,
        "µm per pixel": _range(entry.mpp_range),
        "here": "yes" if is_here(name) else f"no: pathsam models fetch {name}",
    }
    if isinstance(entry.weights, Url):
        facts |= {"from": entry.weights.url, "sha256": entry.weights.sha256 or "not published"}
    if is_here(name):
        facts["file"] = str(cached_path(name) if remote else entry.weights.path)  # type: ignore[union-attr]
    show_facts(facts)


@models_app.command()
def fetch(name: NameArgument) -> None:
    """Download a model's weights once, and verify them."""
    from napari_pathsam.models.catalogue import find_entry
    from napari_pathsam.models.checkpoints import fetch as fetch_weights

    entry = find_entry(name)
    ERR.print(f"{entry.title}: {entry.size_text}, licence {entry.licence} ({entry.licence_url})")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=ERR, transient=True) as bar:
        task = bar.add_task(f"Fetching {name}", total=entry.size)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        path = fetch_weights(entry, progress=show)
    OUT.print(f"{name} is here: {path}")


@models_app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="Meta's SAM 2.1 .pt, or a .safetensors of ours.")],
) -> None:
    """Take a copy of a local checkpoint; nothing in it is executed."""
    from napari_pathsam.models.checkpoints import import_checkpoint

    name = import_checkpoint(file)
    OUT.print(f"Imported {file}; use it as --model {name}")


@models_app.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="One model. [all that are here]")] = None,
) -> None:
    """Read weights whole and compare them with what was recorded."""
    from napari_pathsam.models.catalogue import MODELS, Packaged
    from napari_pathsam.models.checkpoints import imported_models, load_model_file
    from napari_pathsam.models.checkpoints import verify as verify_weights

    here = [n for n in dict.fromkeys((*MODELS, *imported_models())) if is_here(n)]
    for one in [name] if name else here:
        weights = MODELS[one].weights if one in MODELS else None
        if isinstance(weights, Packaged):
            load_model_file(weights.path)
        else:
            verify_weights(one)
        OUT.print(f"{one} is whole.")


def is_here(name: str) -> bool:
    """Whether a model can be loaded without fetching it."""
    from napari_pathsam.models.catalogue import MODELS, Packaged
    from napari_pathsam.models.checkpoints import cached_path

    weights = MODELS[name].weights if name in MODELS else None
    return (weights.path if isinstance(weights, Packaged) else cached_path(name)).is_file()


def _range(mpp_range: tuple[float, float] | None) -> str:
    return "not measured" if mpp_range is None else f"{mpp_range[0]:g} to {mpp_range[1]:g}"
