"""Teach a model its classes: a loop that yields where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np

from napari_pathsam.datasets.base import Sample
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.models.class_model import ClassModel
from napari_pathsam.models.model_file import BaseWeights
from napari_pathsam.training.class_config import ClassLossConfig, TrainConfig, train_profile
from napari_pathsam.training.class_images import TrainingImage, load_images
from napari_pathsam.training.class_report import Clock, EpochReport, StepReport, Validation
from napari_pathsam.training.class_trainer import ClassTrainer, count_images
from napari_pathsam.training.processes import ALONE, Processes
from napari_pathsam.training.task_trainer import trainer_of

__all__ = [
    "ClassLossConfig",
    "ClassTrainer",
    "EpochReport",
    "StepReport",
    "TrainConfig",
    "TrainingImage",
    "Validation",
    "count_images",
    "fit",
    "fit_classes",
    "fit_steps",
    "load_images",
    "train_profile",
]


def fit_steps(
    model: ClassModel,
    images: Sequence[TrainingImage],
    validation: Sequence[TrainingImage],
    config: TrainConfig,
    *,
    cache: EmbeddingCache | None = None,
    resume: Path | None = None,
    processes: Processes = ALONE,
    workers: int = 0,
    base: Sequence[BaseWeights] = (),
) -> Iterator[StepReport]:
    """Train ``model`` in place; at the end it holds the weights that validated best.

    With ``workers`` so many processes read images and make patches ahead, where embeddings are not
    kept; the outcome is the same.

    Closing the generator stops after the step under way; the state of the last whole epoch is in
    ``resume`` where given, and a later run with the same arguments goes on from there; with others
    it is refused. ``base`` names the weights the model was made from.
    """
    trainer = trainer_of(model)(
        model, images, validation, config, cache=cache, processes=processes, workers=workers,
        base=base,
    )  # fmt: skip
    with closing(trainer):
        if resume is not None and resume.exists():
            trainer.resume(resume)
        steps = config.epochs * trainer.steps_per_epoch
        clock = Clock(trainer.features, config, trainer.steps_per_epoch, len(validation) > 0)
        while trainer.epoch < config.epochs and not trainer.stopped:
            started, encoded, losses = perf_counter(), trainer.encoded, []
            clock.tick()
            for loss in trainer.train_epoch():
                losses.append(loss)
                clock.step(trainer.step)
                if len(losses) < trainer.steps_per_epoch:
                    yield StepReport(trainer.step, steps, loss, clock.seconds_left(trainer.step))
            found = None
            last = trainer.epoch == config.epochs
            if len(validation) and (trainer.epoch % config.validate_every == 0 or last):
                found = trainer.validate()
                clock.validated()
            if resume is not None:
                if processes.first:
                    trainer.save(resume)
                processes.wait()
            left = 0.0 if trainer.stopped else clock.seconds_left(trainer.step)
            report = EpochReport(
                epoch=trainer.epoch,
                epochs=config.epochs,
                loss=float(np.mean(losses)),
                seconds=perf_counter() - started,
                seconds_left=left,
                encoded=trainer.encoded - encoded,
                validation=found,
                best_score=trainer.best_score,
                stopped=trainer.stopped,
            )
            yield StepReport(trainer.step, steps, losses[-1], left, report)
        trainer.finish()


def fit_classes(
    model: ClassModel,
    images: Sequence[TrainingImage],
    validation: Sequence[TrainingImage],
    config: TrainConfig,
    *,
    cache: EmbeddingCache | None = None,
    resume: Path | None = None,
    processes: Processes = ALONE,
    workers: int = 0,
) -> Iterator[EpochReport]:
    """:func:`fit_steps`, of which only the reports at the ends of epochs."""
    for report in fit_steps(
        model, images, validation, config, cache=cache, resume=resume, processes=processes,
        workers=workers,
    ):  # fmt: skip
        if report.epoch is not None:
            yield report.epoch


def fit(
    config: TrainConfig,
    samples: Iterable[Sample],
    *,
    model: ClassModel,
    validation: Iterable[Sample] = (),
    sparse: bool = False,
    cache: EmbeddingCache | None = None,
    resume: Path | None = None,
    workers: int = 0,
) -> Iterator[EpochReport]:
    """Teach ``model`` its classes from labelled images; a report after every epoch.

    Parameters
    ----------
    config
        How.
    samples, validation
        What to learn from, and what to measure on: whole groups, none on both sides.
    sparse
        Whether pixels labelled 0 are not known, instead of background.
    cache
        Where embeddings are kept; by default in memory, for this run.
    resume
        A file to keep the state in after every epoch, and to go on from where it exists.
    workers
        Processes that read images and make patches ahead; 0: this one.
    """
    read = partial(
        load_images, classes=model.classes, mpp=model.config.mpp, sparse=sparse, workers=workers
    )
    held_out = list(validation)
    yield from fit_classes(
        model,
        read(samples),
        read(held_out) if held_out else (),
        config,
        cache=EmbeddingCache() if cache is None else cache,
        resume=resume,
        workers=workers,
    )
