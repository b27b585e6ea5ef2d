"""Teaching: images with what was painted on them, choices, versions; no GUI, no torch."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_pathsam.core.classes import ClassInfo, ClassTable
from napari_pathsam.core.errors import PathsamError
from napari_pathsam.workspace.prompting import Line, paragraph
from napari_pathsam.workspace.runner import Runner
from napari_pathsam.workspace.teaching_choices import Choices
from napari_pathsam.workspace.teaching_images import Counted, LessonImages, apart, counted
from napari_pathsam.workspace.teaching_lesson import Lesson, Version
from napari_pathsam.workspace.teaching_models import exported, joined, taken_in
from napari_pathsam.workspace.teaching_pairs import FilePair, Pair, with_ids
from napari_pathsam.workspace.teaching_store import LessonFolder, LessonStore, Strokes

if TYPE_CHECKING:
    pass

OPEN_TOO = "What is painted on the open layer counts, and not the labels in the folder, of: {}."
GONE = (
    "Images of this lesson, or their labels, are no longer where they were: {}. What is trained "
    "without them is another model. Put them back, and restore the lesson again."
)
STILL_PAINTED = (
    "{} is painted, so it is in the table again. What is in a file, on a slide or in a layer of "
    "another dock is not erased here: leave that image out, or erase it there."
)


class Teaching:
    """What one model is taught: everything but the training itself, which is :class:`TeachRun`'s.

    What goes wrong arrives through ``failed`` as one readable paragraph. Whatever is worth keeping
    is written to a folder of the lesson's own as it comes.

    Parameters
    ----------
    files
        Runs what is quick: reading and writing, counting.
    store
        Where lessons are kept.
    """

    choices_changed = Signal(object)
    pairs_changed = Signal()
    counts_changed = Signal(object)
    """A tuple of ``ClassStrokes``, one a class of the table."""
    lesson_changed = Signal(object)
    offered = Signal(object)
    """The :class:`Lesson` that can be brought back, or None."""
    restored = Signal(object)
    """A :class:`LessonFolder` that was taken up again."""
    status = Signal(str)
    failed = Signal(str)

    def __init__(self, files: Runner, store: LessonStore | None = None) -> None:
        self._files, self._store = files, store or LessonStore()
        self._counting, self._finding = Line(files), Line(files)
        self._choices = Choices()
        self._folder = self._store.new()
        self._offer: LessonFolder | None = None
        self._images = LessonImages()
        self._warned = False
        self.removed: dict[int, ClassInfo] = {}  # an undo of painting may bring them back
        self._on_disk: dict[str, int] = {}  # checksums of the strokes; of the worker

    # --- choices and classes ---

    @property
    def choices(self) -> Choices:
        """What is chosen."""
        return self._choices

    def choose(self, **changes: Any) -> None:
        """Other choices; fields of :class:`Choices`."""
        chosen = self._choices.model_copy(update=changes)
        if chosen == self._choices:
            return
        recount = chosen.classes != self._choices.classes
        self._choices = chosen
        self.choices_changed.emit(chosen)
        if self.lesson.images or self.lesson.versions:
            self._keep()
        if recount:
            self.recount()

    def set_classes(self, classes: ClassTable) -> None:
        """Other classes; the background stays as long as its class is there."""
        classes = classes.remembering(self._choices.classes)
        known, ids = {c.id for c in self._choices.classes}, {c.id for c in classes}
        self.removed |= {c.id: c for c in self._choices.classes if c.id not in ids}
        background = self._choices.background_id
        if background not in ids:
            new = (c for c in classes if c.id not in known or background is not None)
            background = next((c.id for c in new if c.name.lower() == "background"), None)
        self.choose(classes=classes, background_id=background)

    def add_classes(self, names: Iterable[str]) -> None:
        """Those the table lacks, under ids that nothing painted has, undone or not."""
        classes = self._choices.classes
        for name in names:
            if classes.find(name) is None:
                classes = classes.with_class(name, avoid=self.removed)
        self.set_classes(classes)

    def rename_classes(self, names: Mapping[str, str]) -> None:
        """Others call classes by new names, by their old ones: so does this lesson."""
        self.set_classes(self._choices.classes.renaming(names))

    def replace_classes(self, classes: ClassTable) -> None:
        """A table that has nothing to do with the one before: background is what is called so."""
        named = (c.id for c in classes if c.name.lower() == "background")
        self.choose(classes=classes, background_id=next(named, None))

    # --- images ---

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """All images with labels, those left out too; none twice, once open and once as a file."""
        return self._images.pairs

    @property
    def used(self) -> tuple[Pair, ...]:
        """The images that are trained on."""
        return tuple(p for p in self.pairs if self.is_used(p.key))

    def is_used(self, key: str) -> bool:
        return self._images.is_used(key)

    def set_layers(self, pairs: Iterable[Pair]) -> None:
        """The open layers that are used, as they are now."""
        self._images.open = {p.key: p for p in pairs}
        self.pairs_changed.emit()
        self.recount()

    def add_files(self, pairs: Iterable[FilePair]) -> None:
        """Images of a folder; what is painted on one that is open counts instead of its file."""
        files = tuple(pairs)
        self._added(self._images.add(files))
        self.look_for_saved(*(file.key for file in files))

    def _added(self, twice: list[str]) -> None:
        if twice:
            self.status.emit(OPEN_TOO.format(", ".join(twice)))
        self._images_changed()

    def remove_file(self, key: str) -> None:
        """An image of a folder is not wanted any more."""
        self._images.remove(key)
        self._images_changed()

    def use(self, key: str, wanted: bool) -> None:
        """Train on an image, or leave it out."""
        self._images.use(key, wanted)
        self._images_changed()

    def _images_changed(self) -> None:
        self.pairs_changed.emit()
        if self.lesson.images or self.lesson.versions:
            self._keep()
        self.recount()

    def recount(self) -> None:
        """Count what is painted, class by class; and keep it."""
        own = set(self._images.open)
        self._counting.start(
            "count", counted, self.used, self._choices.classes, own,
            then=self._on_counted, failed=self._say,
        )  # fmt: skip

    def _on_counted(self, found: Counted) -> None:
        counts, strokes, strange = found
        if strange:  # painted with a label of one's own: that is one more class
            back = [self.removed.pop(i) for i in strange if i in self.removed]
            called, colors = {c.id: c.name for c in back}, {c.id: c.color for c in back}
            self.set_classes(with_ids(self._choices.classes, strange, called, colors))
            if back:
                self.status.emit(STILL_PAINTED.format(" and ".join(f"“{c.name}”" for c in back)))
            return
        self.counts_changed.emit(counts)
        names = {p.key: p.name for p in self._images.open.values()}
        new = {key: s for key, s in strokes.items() if s.labels.any() or key in self.lesson.images}
        if new:
            images = {**self.lesson.images, **{key: names.get(key, "") for key in new}}
            self._submit(_keep_strokes, self._folder, new, self._on_disk)
            if images != self.lesson.images:
                self.change_lesson(images=images)

    # --- the lesson ---

    @property
    def folder(self) -> LessonFolder:
        return self._folder

    @property
    def lesson(self) -> Lesson:
        """What there is."""
        return self._folder.lesson

    def change_lesson(self, lesson: Lesson | None = None, **changes: Any) -> None:
        """Remember this of the lesson, on disk too."""
        self._folder.lesson = (lesson or self.lesson).model_copy(update=changes)
        self._keep()
        self.lesson_changed.emit(self.lesson)

    def _keep(self) -> None:
        chosen = self._choices
        settings = chosen.model_dump(mode="json", exclude={"classes"})
        self._folder.lesson = self.lesson.model_copy(
            update={
                "classes": chosen.classes,
                "settings": settings,
                "files": self._images.files,
                "left_out": self._images.left_out,
            }
        )
        self._submit(self._folder.save, self._folder.lesson)

    def look_for_saved(self, *image_keys: str) -> None:
        """Offer what was kept of an earlier lesson with one of these, unless one has begun."""
        if self._offer is not None or self.lesson.images or self.lesson.versions:
            return
        self._finding.start(
            "find", self._store.find, *image_keys, then=self._on_found, failed=self._say
        )

    def _on_found(self, folder: LessonFolder | None) -> None:
        if folder is None:
            return
        if self.lesson.images or self.lesson.versions:
            folder.close()
            return
        self._offer = folder
        self.offered.emit(folder.lesson)

    def restore(self) -> None:
        """Take up the lesson on offer."""
        offer, self._offer = self._offer, None
        if offer is None:
            return
        self._counting.stop()
        self._folder.close()
        self._folder, self._on_disk, self._images.open = offer, {}, {}
        lesson = offer.lesson
        self._images.bring_back((), lesson.files, lesson.left_out)  # kept, should we be killed now
        self._choices = Choices.model_validate({**lesson.settings, "classes": lesson.classes})
        self.offered.emit(None)
        self.choices_changed.emit(self._choices)
        self.lesson_changed.emit(lesson)
        self.restored.emit(offer)
        if lesson.files:
            then = partial(self._on_apart, offer)
            self._files.submit(apart, lesson.files, then=then, failed=self._say)

    def _on_apart(self, folder: LessonFolder, found: tuple[list[Any], list[Any]]) -> None:
        if folder is not self._folder:
            return
        there, gone = found
        self._added(self._images.bring_back(there, gone))
        if gone:
            self.status.emit(GONE.format(", ".join(str(f.image) for f in gone[:3])))

    def discard_saved(self) -> None:
        """The lesson on offer is not wanted; it is set aside, not deleted."""
        offer, self._offer = self._offer, None
        if offer is not None:
            self._submit(offer.discard)
        self.offered.emit(None)

    def start_afresh(self) -> None:
        """Begin another lesson; this one is kept."""
        self._folder.close()
        self._folder, self._on_disk = self._store.new(), {}
        self.lesson_changed.emit(self.lesson)

    # --- versions ---

    def add_version(self, version: Version) -> None:
        """A version was made: it is the current one."""
        self.change_lesson(self.lesson.with_version(version), running=None)

    def revert(self, number: int) -> None:
        """Go back, or on, to a version."""
        if number in self.lesson:
            self.change_lesson(current=number)

    def describe(self, number: int, *, name: str | None = None, note: str | None = None) -> None:
        """Give a version another name or note."""
        changes = {"name": name, "note": note}
        kept = {k: v for k, v in changes.items() if v is not None}
        if number in self.lesson:
            self.change_lesson(
                self.lesson.with_version(self.lesson[number].model_copy(update=kept))
            )

    def delete(self, number: int) -> None:
        """Remove a version and its files."""
        version = self.lesson[number]
        if self._choices.start == str(self.model_path(number)):
            self.choose(start=None)
        self.change_lesson(self.lesson.without(number))
        self._submit(self._folder.remove, version.file, version.run)

    def model_path(self, number: int) -> Path:
        """The model file of a version."""
        return self._folder.path / self.lesson[number].file

    def run_path(self, number: int) -> Path | None:
        """The file that says what a version was trained on, and how."""
        run = self.lesson[number].run
        return None if run is None else self._folder.path / run

    def save_as(self, number: int, path: Path, then: Callable[[Path], None]) -> None:
        """Write a version as a model file of the person's own, with its note."""
        self._files.submit(
            exported, self.model_path(number), path, self.lesson[number],
            then=then, failed=self._say,
        )  # fmt: skip

    def load(self, path: Path) -> None:
        """Take a model file in as a version."""
        number = self.lesson.next_number
        file = f"version-{number}.safetensors"
        self._files.submit(
            taken_in, path, self._folder, file,
            then=partial(self._on_loaded, number, path.stem, file), failed=self._say,
        )  # fmt: skip

    def _on_loaded(self, number: int, name: str, file: str, found: tuple[ClassTable, str]) -> None:
        classes, note = found
        ids: dict[int, int] = {}
        if self.lesson.images:
            table, ids = joined(self._choices.classes, classes)
            self.set_classes(table)
        else:
            self.replace_classes(classes)
        version = Version(
            number=number,
            name=name,
            note=note or "loaded",
            created=datetime.now(),
            file=file,
            ids=ids,
        )
        self.add_version(version)
        self.status.emit(f"“{name}” is version {number}: {', '.join(classes.names)}.")

    # --- the end ---

    def keep_now(self, pairs: Iterable[Pair]) -> None:
        """Write down the newest strokes, without waiting for calm."""
        classes = self._choices.classes
        self._submit(_keep_now, self._folder, tuple(pairs), classes, self._on_disk)

    def set_aside(self, pairs: Iterable[Pair]) -> None:
        """Others will be painted on: the newest strokes of these are kept beside theirs."""
        classes = self._choices.classes
        self._submit(_set_aside, self._folder, tuple(pairs), classes, self._on_disk)

    def close(self) -> None:
        """Let go of the lesson; everything is on disk."""
        self._counting.stop()
        self._finding.stop()
        if self._offer is not None:
            self._offer.close()
        self._folder.close()

    def _submit(self, work: Callable[..., Any], *args: Any) -> None:
        """Write something; what goes wrong is said once."""
        self._files.submit(work, *args, then=lambda _: None, failed=self._not_kept)

    def _not_kept(self, error: BaseException) -> None:
        if not self._warned:
            self._warned = True
            self._say(error)

    def _say(self, error: BaseException) -> None:
        self.failed.emit(paragraph(error))


def _keep_strokes(
    folder: LessonFolder, strokes: dict[str, Strokes], on_disk: dict[str, int]
) -> None:
    """Write down what is not on disk as it is."""
    for key, each in strokes.items():
        checksum = zlib.crc32(np.ascontiguousarray(each.labels).data)
        if on_disk.get(key) != checksum:
            if not each.labels.any():
                folder.set_aside(key)
            folder.save_strokes(key, each)
            on_disk[key] = checksum


def _keep_now(
    folder: LessonFolder, pairs: tuple[Pair, ...], classes: ClassTable, on_disk: dict[str, int]
) -> None:
    """Write down the newest strokes of images that are in the lesson."""
    known = [p for p in pairs if p.key in folder.lesson.images]
    _keep_strokes(folder, {p.key: p.painted(classes) for p in known}, on_disk)


def _set_aside(
    folder: LessonFolder, pairs: tuple[Pair, ...], classes: ClassTable, on_disk: dict[str, int]
) -> None:
    for pair in pairs:
        with suppress(PathsamError):  # of labels that lie elsewhere there is nothing to keep
            _keep_now(folder, (pair,), classes, on_disk)
        folder.set_aside(pair.key)
