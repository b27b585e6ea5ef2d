"""The run behind ``pathsam train``: what it will cost, how far it is, what came out."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from napari_pathsam.cli.console import ERR, OUT
from napari_pathsam.core.duration import duration
from napari_pathsam.core.errors import Cancelled

if TYPE_CHECKING:
    from napari_pathsam.inference.embedding_cache import EmbeddingCache
    from napari_pathsam.training.class_config import TrainConfig
    from napari_pathsam.training.class_plan import TrainPlan
    from napari_pathsam.training.class_recipe import ClassRecipe
    from napari_pathsam.training.class_start import Prepared
    from napari_pathsam.training.processes import Processes


def train_classes(
    recipe: ClassRecipe,
    roots: Mapping[str, Path],
    out: Path,
    *,
    resume: bool,
    device: str,
    cache: Path | None,
    cache_bytes: int,
    distributed: bool,
    workers: int,
    memory_bytes: int,
) -> None:
    """Run a recipe and write the model file; the state of an unfinished run lies beside it."""
    from napari_pathsam.models.catalogue import pick_device
    from napari_pathsam.training.class_images import ImageStore
    from napari_pathsam.training.class_start import prepare
    from napari_pathsam.training.processes import Processes, from_torchrun

    processes: AbstractContextManager[Processes] = nullcontext(Processes())
    if distributed:
        processes = from_torchrun(pick_device(device).type)
    with processes as together:
        if together.first:
            out.parent.mkdir(parents=True, exist_ok=True)
            ERR.print("Reading the images …")
        store = ImageStore(limit_bytes=memory_bytes)
        prepared = prepare(recipe, roots, device, store=store, workers=workers)
        _run(
            prepared,
            out,
            resume,
            embedding_cache(cache, cache_bytes),
            cache_bytes,
            together,
            workers,
        )


def embedding_cache(folder: Path | None, limit: int) -> EmbeddingCache | None:
    """Embeddings in a folder (None: the user's cache), at most so many bytes; 0: none is kept.

    Not the docks' folder: each makes room there by its own limit, and would take what others need.
    """
    from napari_pathsam.inference.embedding_cache import EmbeddingCache
    from napari_pathsam.io.places import cache_folder

    where = folder or cache_folder() / "training-embeddings"
    return EmbeddingCache(disk=where, disk_bytes=limit) if limit else None


def _run(
    prepared: Prepared,
    out: Path,
    resume: bool,
    cache: EmbeddingCache | None,
    limit: int,
    processes: Processes,
    workers: int,
) -> None:
    from napari_pathsam.training.class_fit import fit_steps
    from napari_pathsam.training.class_model_file import state_file, write_model
    from napari_pathsam.training.class_plan import plan, within

    model, images, held_out = prepared.model, prepared.images, prepared.validation
    found = plan(model, images, prepared.config, validation=held_out)
    config = within(found, limit)
    state = state_file(out)
    if processes.first:
        _tell_plan(found, config, len(held_out), limit)
        if not resume:
            state.unlink(missing_ok=True)
    processes.wait()
    epoch = 0
    try:
        with _bar(silent=not processes.first) as bar:
            task = bar.add_task("Starting", total=config.epochs, left="")
            for report in fit_steps(
                model, images, held_out, config, cache=cache, resume=state, processes=processes,
                workers=workers, base=prepared.base,
            ):  # fmt: skip
                left = f"about {duration(report.seconds_left)} left"
                done = report.step / report.steps * config.epochs
                bar.update(task, completed=done, left=left)
                if report.epoch is not None:
                    epoch = report.epoch.epoch
                    told = f"epoch {epoch}/{config.epochs}, loss {report.epoch.loss:.3f}"
                    if report.epoch.validation is not None:
                        told += f", Dice {report.epoch.validation.score:.3f}"
                    bar.update(task, description=told)
    except KeyboardInterrupt as stop:
        raise Cancelled(_stopped(epoch, state)) from stop
    if processes.first:
        card = write_model(prepared, out, config, epochs=epoch or config.epochs)
        state.unlink(missing_ok=True)
        _tell_result(card.provenance, out)


def _stopped(epoch: int, state: Path) -> str:
    if not state.exists():
        return "Stopped before the first epoch was done; nothing was written."
    return (
        f"Stopped after {epoch or 'some'} whole epochs, whose state is in {state}: the same "
        "command with --resume goes on from there."
    )


def _bar(*, silent: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
    return Progress(*columns, console=ERR, transient=True, disable=silent)


def _tell_plan(found: TrainPlan, config: TrainConfig, n_held_out: int, limit: int) -> None:
    """What it will cost, before it starts."""
    from dataclasses import replace

    wanted, found = found, replace(found, config=config)
    ERR.print(
        f"{found.n_images} images to train on, {n_held_out} to validate on; training "
        f"{', '.join(config.parts)}, {config.epochs} epochs at most."
    )
    if not found.keeps:
        if wanted.keeps and limit:
            ERR.print(f"Not even one variant of each image fits into {size(limit)}.")
        ERR.print(
            "Nothing is kept: every patch is encoded anew. An epoch takes about "
            f"{duration(found.epoch_s)}."
        )
    else:
        if wanted.config.variants != config.variants:
            ERR.print(
                f"Only {config.variants} of {wanted.config.variants} variants fit into "
                f"{size(limit)}; --cache-gb raises the limit."
            )
        ERR.print(
            f"Embeddings of {config.variants} variants of each image need {size(found.disk_bytes)} "
            f"on disk. The first epoch takes about {duration(found.first_epoch_s)}, as do others "
            f"that meet new variants; then about {duration(found.epoch_s)} each."
        )
    ERR.print(f"In all about {duration(found.seconds)}, less where embeddings are kept already.")


def _tell_result(provenance: Mapping[str, Any], out: Path) -> None:
    metrics = provenance["metrics"]
    if metrics:
        table = Table(title=f"{metrics['n_images']} validation images", title_justify="left")
        table.add_column("class")
        table.add_column("Dice", justify="right")
        table.add_column("IoU", justify="right")
        rows = {**metrics["per_class"], "all foreground": metrics}
        for name, found in rows.items():
            table.add_row(name, f"{found['dice']:.3f}", f"{found['iou']:.3f}")
        OUT.print(table)
    OUT.print(f"The model is in {out}; use it as --model {out}")


def size(n_bytes: int) -> str:
    """``12 MB`` or ``1.3 GB``."""
    return f"{n_bytes / 1e6:.0f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:.1f} GB"
