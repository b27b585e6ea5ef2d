"""TeachRun: one training after the other, from pressing Train to a version on disk; no GUI."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_pathsam.workspace.prompting import Line, paragraph
from napari_pathsam.workspace.runner import Runner
from napari_pathsam.workspace.teaching import Teaching
from napari_pathsam.workspace.teaching_work import (
    MOMENT_S,
    TEXTS,
    FieldOfView,
    Finished,
    Looked,
    Moment,
    Training,
    estimated,
    finished,
    looked,
    prepared,
    preset_numbers,
    resumed,
    train_on,
)

if TYPE_CHECKING:
    from napari_pathsam.inference.embedding_cache import EmbeddingCache
    from napari_pathsam.training.finetune_plan import Estimate
    from napari_pathsam.training.finetune_report import TeachReport

TIMED_RUNS = 3
"""Estimates follow how long the last so many trainings took."""
TELLING_S = 3.0
"""Shorter trainings say nothing of longer ones: loading and writing are most of them."""


@dataclass(frozen=True)
class TeachProgress:
    """How far a training is; ``total`` 0: nobody knows yet."""

    text: str
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    epoch: int = 0
    epochs: int = 0


@dataclass
class _Run:
    name: str
    preset: str
    training: Training | None = None
    stopping: bool = False
    n_notes: int = 0
    complete: bool = False
    foreseen: Estimate | None = None
    first: TeachReport | None = None  # of what was taken up, or begun
    last: TeachReport | None = None
    worked_s: float = 0.0  # from report to report, but for encoding

    def hear(self, reports: tuple[TeachReport, ...]) -> None:
        """Count the time that passed."""
        for report in reports:
            self.first = self.first or report
            before = self.last.seconds if self.last else 0.0
            if report.phase != "encoding":
                self.worked_s += report.seconds - before
            self.last = report

    @property
    def pace(self) -> float | None:
        """So many times as long as a timed step had foreseen its steps took."""
        first, last, foreseen = self.first, self.last, self.foreseen
        if first is None or last is None or foreseen is None or self.worked_s < TELLING_S:
            return None
        done = (last.done - first.done) / last.total
        expected = done * (foreseen.train_s + foreseen.score_s)
        return self.worked_s / expected if expected > 0 else None


class TeachRun:
    """Trains a :class:`Teaching`, one run at a time; its worker hears of a cancel in a moment.

    Parameters
    ----------
    runner
        Where training runs, a moment at a time.
    cache
        Called in the worker for the embeddings all docks share.
    field_now
        Called for the field that previews show, or None.
    load
        ``(name or file, device) -> model``, called in the worker.
    """

    progress_changed = Signal(object)
    """A :class:`TeachProgress`, or None: nothing is under way."""
    began = Signal()
    dropped = Signal()
    """It ended, and no version came of it."""
    told = Signal(object)
    """A tuple of ``TeachReport``."""
    previewed = Signal(object)
    finished = Signal(object)
    """A :class:`Finished`: the version is in the lesson already."""
    looked = Signal(object)
    """A :class:`Looked`, a little later: a training may be under way again."""
    estimated = Signal(object)
    """``Estimate`` by preset; empty where nothing could be measured."""
    numbers_known = Signal(object)
    """The numbers behind the chosen preset."""
    status = Signal(str)
    failed = Signal(str)

    def __init__(
        self,
        teaching: Teaching,
        runner: Runner,
        cache: Callable[[], EmbeddingCache],
        load: Callable[[str, str], Any],
        field_now: Callable[[], FieldOfView | None] = lambda: None,
    ) -> None:
        self._teaching, self._runner, self._cache = teaching, runner, cache
        self._field_now, self._load = field_now, load
        self._line, self._estimating = Line(runner), Line(runner)
        self._numbers, self._looking = Line(runner), Line(runner)
        self._run: _Run | None = None
        self._foreseen: dict[str, Estimate] = {}  # as timed steps foresee them
        self._foreseen_of: Any = None

    @property
    def running(self) -> bool:
        """Whether a training is under way, its ending included."""
        return self._run is not None

    @property
    def number(self) -> int | None:
        """The version that is being made."""
        run = self._run
        return run.training.running.number if run and run.training else None

    # --- what can be done ---

    def train(self) -> None:
        """Train on what is painted now; a training under way goes on instead."""
        if self._run is not None:
            return
        self._estimating.stop()
        teaching, choices = self._teaching, self._teaching.choices
        number = teaching.lesson.next_number
        run = _Run(choices.name, choices.preset)
        if self._foreseen_of == self.estimated_for:
            run.foreseen = self._foreseen.get(choices.preset)
        self._start(
            run, "Reading what you painted",
            _prepare, teaching.used, choices, teaching.folder, number, self._cache, self._load,
        )  # fmt: skip

    def estimate(self) -> None:
        """Measure what each preset would take, unless a training is under way."""
        if self._run is not None:
            return
        teaching = self._teaching
        self._estimating.start(
            "estimate", _estimate, teaching.used, teaching.choices, self._cache, self._load,
            then=partial(self._estimated, self.estimated_for),
            failed=lambda _: self._estimated(None, {}),
        )  # fmt: skip

    @property
    def estimated_for(self) -> Any:
        """What an estimate depends on: where it is another, another estimate is wanted."""
        c = self._teaching.choices
        used = tuple(sorted(p.key for p in self._teaching.used))
        return (used, c.start, c.base, c.trained, c.device, c.advanced, len(c.classes))

    @property
    def pace(self) -> float:
        """So many times as long as timed steps foresee them the last trainings took here."""
        known = [v.pace for v in self._teaching.lesson.versions if v.pace is not None]
        return median(known[-TIMED_RUNS:]) if known else 1.0

    def _estimated(self, of: Any, found: dict[str, Estimate]) -> None:
        self._foreseen_of, self._foreseen = of, found
        self._tell_estimates()

    def _tell_estimates(self) -> None:
        pace = self.pace
        self.estimated.emit({preset: e.at_pace(pace) for preset, e in self._foreseen.items()})

    def ask_numbers(self) -> None:
        """Find out the numbers behind the chosen preset."""
        self._numbers.start(
            "numbers", _preset_numbers, self._teaching.choices, self._cache,
            then=self.numbers_known.emit, failed=lambda _: None,
        )  # fmt: skip

    def resume(self) -> None:
        """Go on with a training that was interrupted."""
        running = self._teaching.lesson.running
        if self._run is not None or running is None:
            return
        choices = self._teaching.choices
        self._start(
            _Run(choices.name, choices.preset), "Taking up the training",
            _resume, self._teaching.folder, running, self._cache, self._load,
        )  # fmt: skip

    def forget_interrupted(self) -> None:
        """The interrupted training is not wanted."""
        running = self._teaching.lesson.running
        if running is not None and self._run is None:
            self._teaching.change_lesson(running=None)
            self._teaching.folder.remove(running.run, running.state)

    def cancel(self) -> None:
        """Stop; the best so far becomes a version. Once more, or before training: nothing does."""
        run = self._run
        if run is None:
            return
        self._line.stop()
        if run.training is None or run.stopping or run.training.epoch == 0:
            self._drop("Stopped; nothing was trained yet.")
            return
        self.status.emit("Stopped. The best so far is kept.")
        self._finish(run)

    def close(self) -> None:
        """Stop at once; a training that was under way can be resumed from its last epoch."""
        for line in (self._line, self._estimating, self._numbers, self._looking):
            line.stop()
        self._run = None

    # --- the run ---

    def _start(self, run: _Run, text: str, work: Callable[..., Any], *args: Any) -> None:
        self._run = run
        self.began.emit()
        self.progress_changed.emit(TeachProgress(text))
        self._line.start(
            "prepare", work, *args,
            then=partial(self._prepared, run), failed=partial(self._went_wrong, run),
        )  # fmt: skip

    def _prepared(self, run: _Run, training: Training) -> None:
        run.training = training
        self._teaching.change_lesson(running=training.running)
        self._next(run)

    def _next(self, run: _Run) -> None:
        self._line.start(
            "moment", _moment, run.training, self._field_now(), self._cache,
            then=partial(self._moment, run), failed=partial(self._went_wrong, run),
        )  # fmt: skip

    def _moment(self, run: _Run, moment: Moment) -> None:
        if moment.reports:
            run.hear(moment.reports)
            self.told.emit(moment.reports)
            notes = moment.reports[-1].notes
            if len(notes) > run.n_notes:
                run.n_notes = len(notes)
                self.status.emit(notes[-1])
            self.progress_changed.emit(_progress(moment.reports[-1]))
        if moment.preview is not None:
            self.previewed.emit(moment.preview)
        if self._run is not run:
            return
        if moment.over:
            run.complete = True
            self._finish(run)
        else:
            self._next(run)

    def _finish(self, run: _Run) -> None:
        assert run.training is not None
        run.stopping = True
        self.progress_changed.emit(TeachProgress("Keeping the best version"))
        self._line.start(
            "finish", _finish, run, self._teaching.folder,
            then=partial(self._finished, run), failed=partial(self._went_wrong, run),
        )  # fmt: skip

    def _finished(self, run: _Run, found: Finished) -> None:
        assert run.training is not None
        self._run = None
        found = replace(found, version=found.version.model_copy(update={"pace": run.pace}))
        self._teaching.add_version(found.version)
        self._teaching.folder.remove(run.training.running.state)
        self.progress_changed.emit(None)
        if found.notes:
            self.status.emit(" ".join(found.notes))
        self.finished.emit(found)
        if self._foreseen:
            self._tell_estimates()
        self._looking.start(
            "look", _look, found, self._field_now(), self._cache,
            then=self._looked, failed=lambda error: self.failed.emit(paragraph(error)),
        )  # fmt: skip

    def _looked(self, found: Looked) -> None:
        if found.preview is not None:
            self.previewed.emit(found.preview)
        self.looked.emit(found)

    def _went_wrong(self, run: _Run, error: BaseException) -> None:
        self.failed.emit(paragraph(error))
        training = run.training
        if run.stopping:  # it could not be written: what was trained can be taken up again
            self._run = None
            self._teaching.change_lesson()
            self.progress_changed.emit(None)
            self.dropped.emit()
        elif training is not None and training.epoch > 0:
            self._finish(run)
        else:
            self._drop("")

    def _drop(self, why: str) -> None:
        run, self._run = self._run, None
        if run is not None and run.training is not None:
            running = run.training.running
            self._teaching.change_lesson(running=None)
            self._teaching.folder.remove(running.run, running.state)
        self.progress_changed.emit(None)
        self.dropped.emit()
        if why:
            self.status.emit(why)


def _progress(report: TeachReport) -> TeachProgress:
    left = report.seconds_left
    known = left is not None and math.isfinite(left)
    return TeachProgress(
        TEXTS.get(report.phase, "Training"), report.done, report.total,
        float(left) if known and left is not None else None, report.epoch, report.epochs,
    )  # fmt: skip


def _prepare(pairs: Any, choices: Any, folder: Any, number: int, cache: Any, load: Any) -> Training:
    return prepared(pairs, choices, folder, number, cache(), load)


def _estimate(pairs: Any, choices: Any, cache: Any, load: Any) -> Any:
    return estimated(pairs, choices, cache(), load)


def _preset_numbers(choices: Any, cache: Any) -> dict[str, float]:
    cache()  # torch, as it has to be imported in a viewer
    return preset_numbers(choices)


def _resume(folder: Any, running: Any, cache: Any, load: Any) -> Training:
    return resumed(folder, running, cache(), load)


def _moment(training: Training, field_now: FieldOfView | None, cache: Any) -> Moment:
    return train_on(training, field_now, cache(), MOMENT_S)


def _finish(run: _Run, folder: Any) -> Finished:
    assert run.training is not None
    return finished(run.training, run.name, run.preset, folder, run.complete)


def _look(found: Finished, field_now: FieldOfView | None, cache: Any) -> Looked:
    return looked(found, field_now, cache())
