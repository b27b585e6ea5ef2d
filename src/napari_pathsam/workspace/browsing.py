"""Browsing a data set: which image is looked at, what models scored, which is the worst; no GUI."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from psygnal import Signal

from napari_pathsam.workspace.browse_script import Measured
from napari_pathsam.workspace.browsing_work import (
    Answered,
    BrowsedImage,
    Figure,
    Opened,
    Scored,
    Task,
    answered,
    opened,
    pooled,
    read,
)
from napari_pathsam.workspace.prompting import Line, paragraph
from napari_pathsam.workspace.runner import Runner
from napari_pathsam.workspace.segment_request import Progress


class Browsing:
    """Goes through a data set and scores a model on its images, one image at a time.

    What goes wrong arrives through ``failed`` as one readable paragraph. Scores are kept by model
    until another data set is opened or the pixel size is changed.

    Parameters
    ----------
    load
        ``(name, device) -> model``, called in a worker.
    runner
        Where the model works.
    files
        Where files are read: an image is shown while the model is at another one.
    checkpoint
        Called in the worker between two objects that are clicked at: it may stop the work.
    """

    opened_changed = Signal(object)
    """The :class:`Opened` data set."""
    image_changed = Signal(object)
    """The :class:`BrowsedImage` that was read."""
    answer_changed = Signal(object)
    """What the model said of the image that is shown: :class:`Answered`; None: not known."""
    scores_changed = Signal()
    """Another score is known, or another order is wanted."""
    progress_changed = Signal(object)
    """How far scoring all of them is: :class:`Progress`, or None."""
    busy_changed = Signal(str)
    """What is done with the image that is shown; empty: nothing."""
    failed = Signal(str)

    def __init__(
        self,
        load: Callable[[str, str], Any],
        runner: Runner,
        files: Runner,
        checkpoint: Callable[[], object] = lambda: None,
    ) -> None:
        self._load, self._checkpoint = load, checkpoint
        self._opening, self._reading = Line(files), Line(files)
        self._asking, self._all, self._adding = Line(runner), Line(runner), Line(runner)
        self._scores: dict[tuple[str, Task], dict[int, Scored]] = {}
        self._model: tuple[str, Task] | None = None
        self._device = "auto"
        self._order_by = ""
        self._order: list[int] = []
        self._began = 0.0
        self._first = 0
        self.opened: Opened | None = None
        self.image: BrowsedImage | None = None
        self.mpp: float | None = None
        self.objects = (0, 0)
        """Of the image that is worked on: how many objects of how many were asked for."""
        self.totals: dict[str, Figure] = {}
        """Figures of all images scored so far, from added counts."""

    # --- what is there ---

    @property
    def n(self) -> int:
        """How many images there are."""
        return 0 if self.opened is None else len(self.opened.samples)

    @property
    def order(self) -> list[int]:
        """Positions of the images as they are listed; by a figure, those not scored come last."""
        return self._order

    @property
    def scores(self) -> dict[int, Scored]:
        """What the model scored, by position."""
        return self._scores.get(self._model, {}) if self._model else {}

    @property
    def order_by(self) -> str:
        """Key of the figure whose worst images come first; empty: as they are in the data set."""
        return self._order_by

    @property
    def figures(self) -> dict[str, str]:
        """Titles of the figures that images are scored by, the main one first."""
        known = next(iter(self.scores.values()), None)
        return {} if known is None else {k: f.title for k, f in known.figures.items()}

    @property
    def figure(self) -> str:
        """Key of the figure the list shows."""
        return self._order_by if self._order_by in self.figures else next(iter(self.figures), "")

    @property
    def measured(self) -> Measured | None:
        """What “Score all” measures; None until a data set is open and a model chosen."""
        if self.opened is None or self._model is None:
            return None
        found, (model, task) = self.opened, self._model
        return Measured(
            model, self._device, task, found.data.name, found.root, found.split, found.target,
            self.mpp,
        )  # fmt: skip

    @property
    def scoring_all(self) -> bool:
        """Whether all images are being scored."""
        return self._all.busy_with is not None

    # --- what can be done ---

    def open(
        self, name: str | None, root: Path, split: str | None = None, target: str | None = None
    ) -> None:
        """Open a data set and show its first image; ``name`` None: tell it by its files."""
        self._opening.start(
            "open", opened, name, root, split, target,
            then=self._on_opened, failed=self._on_failed,
        )  # fmt: skip
        self.busy_changed.emit("Looking through the folder")

    def go(self, index: int) -> None:
        """Show an image."""
        if self.opened is None or not 0 <= index < self.n:
            return
        self._asking.stop()
        self._reading.start(
            index, read, self.opened, index, self.mpp, then=self._on_read, failed=self._on_failed
        )
        self.busy_changed.emit(f"Reading {self.opened.samples[index].name}")

    def step(self, by: int) -> None:
        """Show the next image of the list, or the one before."""
        now = self._reading.busy_with
        at = now if isinstance(now, int) else self.image.index if self.image else None
        if at is None:
            self.go(0)
        elif self._order and 0 <= (row := self._order.index(at) + by) < len(self._order):
            self.go(self._order[row])

    def go_to_worst(self) -> None:
        """List the worst images first, and show the first of them."""
        if self.scores:
            self.use_order(self.figure)
            self.go(self._order[0])
        else:
            self.failed.emit("No image is scored yet: choose a model, then press “Score all”.")

    def use_model(
        self, name: str | None, device: str = "auto", task: Task = "classes"
    ) -> None:  # fmt: skip
        """Score this model from now on, by its classes or by clicks; what is shown at once."""
        model = None if name is None else (name, task)
        if model != self._model:
            self.cancel()
        self._model, self._device = model, device
        self.totals = {}
        self._sort()
        self._add_up()
        self._ask()

    def use_mpp(self, mpp: float | None) -> None:
        """Take this pixel size for every image; None: each its own."""
        if mpp != self.mpp:
            self.mpp = mpp
            self._forget()
            if self.image is not None:
                self.go(self.image.index)

    def use_order(self, key: str) -> None:
        """List the images with the worst of this figure first; empty: as they are."""
        self._order_by = key
        self._sort()

    def score_all(self) -> None:
        """Score every image that is not scored yet; the list then begins with the worst."""
        if self.opened is None or self._model is None:
            self.failed.emit("Open a data set and choose a model first.")
            return
        self._began, self._first = time.monotonic(), len(self.scores)
        self._next()

    def cancel(self) -> None:
        """Stop scoring; what is known stays."""
        self._asking.stop()
        if self.scoring_all:
            self._all.stop()
            self.progress_changed.emit(None)
        self.busy_changed.emit("")

    def close(self) -> None:
        """Stop everything."""
        self._opening.stop()
        self._reading.stop()
        self._adding.stop()
        self.cancel()

    # --- what comes back ---

    def _on_opened(self, found: Opened) -> None:
        self.opened, self.image = found, None
        self._forget()
        self.busy_changed.emit("")
        self.opened_changed.emit(found)
        self.go(0)

    def _on_read(self, image: BrowsedImage) -> None:
        self.image = image
        self.busy_changed.emit("")
        self.image_changed.emit(image)
        self._ask()

    def _on_failed(self, error: BaseException) -> None:
        self.busy_changed.emit("")
        self.failed.emit(paragraph(error))

    def _ask(self) -> None:
        """Ask the model for the image that is shown."""
        self.answer_changed.emit(None)
        if self.image is None or self._model is None:
            return
        self._asking.start(
            self.image.index, self._answered, self.image.index, *self._asked,
            then=self._on_answer, failed=self._on_failed,
        )  # fmt: skip
        self.busy_changed.emit(f"{self._model[0]} is looking at it")

    @property
    def _asked(self) -> tuple[Any, ...]:
        """What is asked of whom, of which data set."""
        name, task = self._model or ("", "classes")
        return (name, self._device), task, self.opened, self.mpp

    def _answered(
        self, index: int, model: tuple[str, str], task: Task, found: Opened, mpp: float | None
    ) -> Answered:
        """In the worker."""
        self.objects = (0, 0)
        return answered(self._load(*model), found, index, mpp, task, self._on_object)

    def _on_object(self, done: int, total: int) -> None:
        """In the worker, between two objects."""
        self.objects = (done, total)
        self._checkpoint()

    def _on_answer(self, answer: Answered) -> None:
        self.busy_changed.emit("")
        self._keep(answer)
        if self.image is not None and self.image.index == answer.index:
            self.answer_changed.emit(answer)
        self._add_up()

    def _next(self) -> None:
        """Score the next image that is not scored."""
        missing = next((i for i in range(self.n) if i not in self.scores), None)
        if missing is None or self._model is None:
            self.progress_changed.emit(None)
            self.use_order(self.figure)
            self._add_up()
            return
        done = len(self.scores)
        new, took = done - self._first, time.monotonic() - self._began
        left = took / new * (self.n - done) if new else None
        self.progress_changed.emit(Progress("Scoring", done, self.n, left))
        self._all.start(
            missing, self._answered, missing, *self._asked,
            then=self._on_scored, failed=self._on_scoring_failed,
        )  # fmt: skip

    def _on_scored(self, answer: Answered) -> None:
        self._keep(answer)
        self._next()

    def _on_scoring_failed(self, error: BaseException) -> None:
        self.progress_changed.emit(None)
        self._on_failed(error)

    def _keep(self, answer: Answered) -> None:
        if self._model is not None:
            self._scores.setdefault(self._model, {})[answer.index] = answer.scored
            self._sort()

    def _add_up(self) -> None:
        """The figures of all images scored so far."""
        scores = [s.score for s in self.scores.values()]
        if scores:
            self._adding.start("add", pooled, scores, then=self._on_totals, failed=self._on_failed)

    def _on_totals(self, totals: dict[str, Figure]) -> None:
        self.totals = totals
        self.scores_changed.emit()

    def _forget(self) -> None:
        """No score is known."""
        self.cancel()
        self._scores, self.totals = {}, {}
        self._sort()

    def _sort(self) -> None:
        scores = self.scores
        key = self._order_by if self._order_by in self.figures else ""

        def badness(index: int) -> tuple[int, float, int]:
            if index not in scores:
                return (2, 0.0, index)
            figure = scores[index].figures[key]
            if math.isnan(figure.value):
                return (1, 0.0, index)
            return (0, figure.value if figure.larger_is_better else -figure.value, index)

        self._order = sorted(range(self.n), key=badness) if key else list(range(self.n))
        self.scores_changed.emit()
