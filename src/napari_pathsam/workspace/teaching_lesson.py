"""Lesson: what teaching one model has come to so far: images, classes, versions, what runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.metrics import too_few

FORMAT_VERSION = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Version(_Frozen):
    """One trained model of a lesson.

    Attributes
    ----------
    number
        Counted from 1; that of the newest is given again when it was deleted.
    name, note
        The person's.
    file, run
        Names in the lesson's folder: the model, and what it was trained on (None: it was loaded).
    scores
        Held-out scores as the library writes them; None: nothing was held out.
    mean_dice, n_px
        What of them is listed.
    preset, epoch, seconds
        How it was trained.
    pace
        So many times as long as a timed step had foreseen its steps took; None: nobody timed one.
    finished
        False when it was cancelled: the best until then.
    ids
        The lesson's id of each class of the model, where they may differ: of a file from elsewhere.
    """

    number: int
    name: str
    note: str = ""
    created: datetime
    file: str
    run: str | None = None
    scores: dict[str, Any] | None = None
    mean_dice: float | None = None
    n_px: int = 0
    preset: str = ""
    epoch: int = 0
    seconds: float = 0.0
    pace: float | None = None
    finished: bool = True
    ids: dict[int, int] = {}

    @property
    def too_few(self) -> bool:
        """Whether it was scored on so little that the scores mean little."""
        if self.scores is None:
            return False
        n_px = (sum(row) for row in self.scores["counts"])
        regions = self.scores["regions"]
        return any(n > 0 and too_few(n, r) for n, r in zip(n_px, regions, strict=True))


class Running(_Frozen):
    """A training that has begun and not ended: enough to go on after a crash."""

    run: str
    state: str
    began: datetime
    number: int


class LessonFile(_Frozen):
    """An image of a folder, its labels, and the pixel size that somebody gave for it.

    ``objects``: as of :class:`~napari_pathsam.workspace.teaching_pairs.FilePair`.
    """

    image: Path
    labels: Path
    mpp: float | None = None
    objects: bool | None = None


class Lesson(_Frozen):
    """What is kept on disk beside strokes and models.

    ``settings`` are the library's ``FineTuneSettings`` as JSON; ``images`` the keys of the images
    that were painted on, with their names; ``left_out`` those that are not trained on.
    """

    format: Literal["napari-pathsam lesson"] = "napari-pathsam lesson"
    version: int = FORMAT_VERSION
    started: datetime
    saved: datetime
    images: dict[str, str] = {}
    files: tuple[LessonFile, ...] = ()
    left_out: tuple[str, ...] = ()
    classes: ClassTable = ClassTable()
    settings: dict[str, Any] = {}
    versions: tuple[Version, ...] = ()
    current: int | None = None
    running: Running | None = None

    def __getitem__(self, number: int) -> Version:
        for version in self.versions:
            if version.number == number:
                return version
        raise KeyError(f"there is no version {number}")

    def __contains__(self, number: object) -> bool:
        return any(v.number == number for v in self.versions)

    @property
    def next_number(self) -> int:
        """The number of the next version."""
        taken = [v.number for v in self.versions]
        if self.running is not None:
            taken.append(self.running.number)
        return max(taken, default=0) + 1

    def with_version(self, version: Version) -> Lesson:
        """With one more version, which is the current one now; or with this one changed."""
        if version.number in self:
            kept = tuple(version if v.number == version.number else v for v in self.versions)
            return self.model_copy(update={"versions": kept})
        added = (*self.versions, version)
        return self.model_copy(update={"versions": added, "current": version.number})

    def without(self, number: int) -> Lesson:
        """Without this version; the newest other one takes its place where it was current."""
        kept = tuple(v for v in self.versions if v.number != number)
        current = self.current
        if current == number:
            current = kept[-1].number if kept else None
        return self.model_copy(update={"versions": kept, "current": current})

    def on_offer(self) -> str:
        """What can be brought back, in a sentence."""
        of = "this image" if self.images else "images of this folder"
        there = ", ".join(self._described())
        return f"There is saved teaching for {of} ({self.saved:%d %B %Y %H:%M}): {there}."

    def _described(self) -> Iterator[str]:
        if self.images:
            yield "strokes"
        if n := len(self.files):
            yield "1 file" if n == 1 else f"{n} files"
        if n := len(self.versions):
            yield "1 version" if n == 1 else f"{n} versions"
        if self.running is not None:
            yield "a training that was interrupted"
