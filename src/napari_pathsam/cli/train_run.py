"""Fine-tuning runs of the dock without a screen: ``pathsam train --run``, ``evaluate --run``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from napari_pathsam.cli.console import ERR, OUT, progress
from napari_pathsam.core.errors import Cancelled, UnavailableError

if TYPE_CHECKING:
    from napari_pathsam.training.finetune_report import Scores
    from napari_pathsam.training.finetune_run import Frozen


def train_run(file: Path, out: Path, *, device: str, resume: bool) -> None:
    """Train a frozen run, and write the model it gives; its state lies beside it until then."""
    from napari_pathsam.training.class_model_file import state_file
    from napari_pathsam.training.finetune import Teacher
    from napari_pathsam.training.finetune_file import read_run, save_taught

    frozen, _ = read_run(file)
    frozen = _on(frozen, device)
    out.parent.mkdir(parents=True, exist_ok=True)
    state = state_file(out)
    if not resume:
        state.unlink(missing_ok=True)
    for text in frozen.warnings:
        ERR.print(text)
    with _threads_of(frozen):
        teacher = Teacher(frozen, state=state)
        config, told = teacher.config, 0
        try:
            with progress("Encoding", config.epochs * config.steps) as bar:
                for report in teacher.steps():
                    words = f"epoch {report.epoch}/{report.epochs}"
                    if report.loss is not None:
                        words += f", loss {report.loss:.3f}"
                    bar.update(bar.task_ids[0], completed=report.done, description=words)
                    for note in report.notes[told:]:
                        ERR.print(note)
                    told = len(report.notes)
        except KeyboardInterrupt as stop:
            raise Cancelled(
                "Stopped; nothing was written. The same command with --resume goes on from "
                f"{state}."
            ) from stop
        taught = teacher.result()
    for note in taught.notes[told:]:
        ERR.print(note)
    save_taught(out, taught)
    state.unlink(missing_ok=True)
    if taught.scores is not None:
        show_scores(taught.scores)
    OUT.print(f"The model of epoch {taught.epoch} is in {out}; use it as --model {out}")


def evaluate_run(file: Path, model: str | None, *, device: str, json: Path | None) -> None:
    """The score of a run's held-out pixels: of the weights in its file, or of a model given."""
    from napari_pathsam.models.catalogue import load_model
    from napari_pathsam.models.class_model import ClassModel
    from napari_pathsam.training.finetune import Teacher
    from napari_pathsam.training.finetune_file import read_run
    from napari_pathsam.training.finetune_score import rescore

    frozen, outcome = read_run(file)
    frozen = _on(frozen, device)
    with _threads_of(frozen):
        if model is not None:
            found = load_model(model, frozen.run.settings.device)
        elif outcome is not None:
            found = Teacher(frozen).model_with(outcome.weights)
        else:
            raise UnavailableError(
                f"{file} was not trained yet, so there is nothing to score: train it (`pathsam "
                f"train --run {file} --out MODEL.safetensors`), then give --model."
            )
        if not isinstance(found, ClassModel):
            raise UnavailableError(f"{model} knows no classes; give a model trained by a run.")
        scores = rescore(found, frozen)
    if scores is None:
        raise UnavailableError(f"{file} holds nothing out, so there is no score.")
    if json is not None:
        from json import dumps

        json.write_text(dumps(scores.to_json(), indent=1) + "\n", encoding="utf-8")
    show_scores(scores)


def _on(frozen: Frozen, device: str) -> Frozen:
    """The run on another device, where one is asked for; the last bits then differ."""
    if device == "auto":
        return frozen
    settings = frozen.run.settings.model_copy(update={"device": device})
    return replace(frozen, run=frozen.run.model_copy(update={"settings": settings}))


@contextmanager
def _threads_of(frozen: Frozen) -> Iterator[None]:
    """As many threads as the run was made with."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(frozen.run.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def show_scores(scores: Scores) -> None:
    """The table of the dock, and its plain sentences."""
    table = Table(title=f"{scores.n_px} held-out pixels", title_justify="left")
    table.add_column("class")
    for name in ("Dice", "IoU", "precision", "recall", "pixels", "regions"):
        table.add_column(name, justify="right")
    for row in scores.rows:
        figures = (row.dice, row.iou, row.precision, row.recall)
        counts = (str(row.n_px), str(row.n_regions))
        table.add_row(row.name, *(f"{value:.4f}" for value in figures), *counts)
    OUT.print(table)
    OUT.print(f"mean Dice {scores.mean_dice:.4f}, calibration error {scores.reliability.error:.4f}")
    for text in scores.sentences:
        OUT.print(text)
