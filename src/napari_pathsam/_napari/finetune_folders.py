"""Folders of images with labels: adding them, and what the ids of their label images are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject

from napari_pathsam._napari.finetune_objects import (
    IDS_ARE_CLASSES,
    IDS_ARE_OBJECTS,
    others_hold_objects,
)
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.workspace.teaching_objects import OBJECTS_CLASS, without_unnamed
from napari_pathsam.workspace.teaching_pairs import FilePair, classes_of_files, read_folder

if TYPE_CHECKING:
    from napari_pathsam._napari.finetune import FineTuneDock

OBJECTS_TOLD = (
    "The label images of “{}” hold objects without class names: all of them are one class, "
    "“objects”. The rest can be background: see Unpainted, above."
)
IDS_TOLD = "The label images of “{}” have no class names: each id is a class of its own."


class Folders(QObject):
    """Adds folders to a dock's images; says what the ids in the last one are, and turns that."""

    def __init__(self, dock: FineTuneDock) -> None:
        super().__init__(dock)
        self._dock = dock
        self._asked: tuple[FilePair, ...] = ()
        self._brought: frozenset[int] = frozenset()
        self._button = dock.view.files_bar.add(*IDS_ARE_CLASSES, self.turn)
        dock.view.pairs.folder_chosen.connect(self.add)
        dock.teaching.pairs_changed.connect(self._show)

    def add(self, folder: Path) -> None:
        """Train on a folder's images too."""
        dock = self._dock
        known = dock.known_classes()
        dock.files.submit(
            read_folder, folder, dock.mpp, known, frozenset(dock.teaching.removed),
            then=partial(self._on_read, known), failed=lambda error: dock.say_error(str(error)),
        )  # fmt: skip

    def _on_read(self, known: ClassTable, found: tuple[tuple[FilePair, ...], ClassTable]) -> None:
        (pairs, classes), teaching = found, self._dock.teaching
        self._brought = frozenset(c.id for c in classes) - {c.id for c in known}
        (teaching.set_classes if len(known) else teaching.replace_classes)(classes)
        self._dock.say(f"{len(pairs)} images with labels are trained on, too.")
        teaching.add_files(pairs)

    def _show(self) -> None:
        """Say what the ids in the folder that was added last are, where that may be asked."""
        bar = self._dock.view.files_bar
        files = [p for p in self._dock.teaching.pairs if isinstance(p, FilePair)]
        folder = files[-1].image.parent if files else Path()
        self._asked = tuple(p for p in files if p.image.parent == folder and p.objects is not None)
        if not self._asked:
            bar.say("")
            return
        objects = self._asked[0].objects
        text, tip = IDS_ARE_CLASSES if objects else IDS_ARE_OBJECTS
        bar.say((OBJECTS_TOLD if objects else IDS_TOLD).format(folder.name))
        self._button.setText(text)
        self._button.setToolTip(tip)

    def turn(self) -> None:
        """The ids are classes after all, or objects after all."""
        dock = self._dock
        if not self._asked:
            return
        classes, objects = dock.teaching.choices.classes, not self._asked[0].objects
        pairs = tuple(replace(p, objects=objects) for p in self._asked)
        one = classes.find(OBJECTS_CLASS)
        if objects:
            classes = without_unnamed(classes, self._brought)
        elif one is not None and not others_hold_objects(dock.teaching, {p.key for p in pairs}):
            classes = classes.without(one)
        dock.files.submit(
            _classes_of, pairs, classes, self._brought.union(dock.teaching.removed),
            then=partial(self._on_turned, pairs, classes),
            failed=lambda error: dock.say_error(str(error)),
        )  # fmt: skip

    def _on_turned(
        self, pairs: tuple[FilePair, ...], known: ClassTable, classes: ClassTable
    ) -> None:
        self._brought = frozenset(c.id for c in classes) - {c.id for c in known}
        self._dock.teaching.set_classes(known)  # first: an id that is given again is another class
        self._dock.teaching.set_classes(classes)
        self._dock.teaching.add_files(pairs)


def _classes_of(
    pairs: tuple[FilePair, ...], classes: ClassTable, avoid: Collection[int]
) -> ClassTable:
    return classes_of_files(pairs, classes, avoid=avoid)
