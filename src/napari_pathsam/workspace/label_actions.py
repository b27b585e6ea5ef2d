"""What a person can do with labels and classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadPromptError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.sparse_labels import SparseArray
from napari_pathsam.workspace import class_steps, label_steps
from napari_pathsam.workspace.annotations import AcceptedObject, LabelMap
from napari_pathsam.workspace.history import PromptState, Step
from napari_pathsam.workspace.state import WorkspaceState
from napari_pathsam.workspace.telling import told


class LabelActions(WorkspaceState):
    """The part of a workspace that changes labels and the class table; each action is a step."""

    @property
    def instances(self) -> LabelMap:
        """``(H, W)`` ids of objects; always this very array, changed in place.

        Above 16,384 pixels a side a :class:`SparseLabels`, of which parts are read as copies.
        """
        return self._annotations.instances

    @property
    def class_map(self) -> LabelMap:
        """``(H, W)`` ids of classes; an object's pixels have the object's class."""
        return self._annotations.class_map

    @property
    def objects(self) -> Mapping[int, AcceptedObject]:
        """The accepted objects by id."""
        return self._annotations.objects

    @property
    def has_labels(self) -> bool:
        """Whether any pixel has a class."""
        return any(self.class_area_px(info.id) for info in self._classes)

    @property
    def labelled(self) -> Region | None:
        """The level-0 region outside of which nothing was ever labelled; None: nowhere."""
        return self._annotations.touched

    @told
    def accept(self, class_id: int | None = None, overwrite: bool = False) -> int | None:
        """Write the candidate as an object; its id, or None when that was not possible.

        The class is the active one when none is given (refining: the object's own). Existing
        objects keep their pixels unless ``overwrite``. What is shown is accepted, also while a
        newer answer is on its way.
        """
        if self._shown is None or self._shown.candidate is None:
            raise BadPromptError("There is nothing to accept yet: click on an object first.")
        if class_id is None:
            refined = self.objects.get(self._state.refining or 0)
            class_id = refined.class_id if refined else self._active
        class_steps.known(self._classes, class_id)
        object_id, step = label_steps.accepting(
            self._annotations, self._shown, self._state, class_id, overwrite=overwrite
        )
        self._do(step)
        return object_id

    @told
    def accept_objects(
        self,
        labels: NDArray[np.integer] | SparseArray,
        region: Region,
        class_id: int | None = None,
    ) -> int | None:
        """Add every object of a label map over a level-0 region, as one step; how many those are.

        They get new ids and one class, the active one when none is given. Existing objects keep
        their pixels.
        """
        self._image()
        wanted = class_steps.known(self._classes, self._active if class_id is None else class_id)
        n, step = label_steps.accepting_many(self._annotations, labels, region, wanted)
        self._do(step)
        return n

    @told
    def delete_object(self, object_id: int) -> None:
        """An object goes; when it is the one being refined, its prompts go too."""
        edits = self._annotations.deleting(object_id)
        refined = object_id == self._state.refining
        prompts = (self._state, PromptState()) if refined else None
        self._do(Step(f"Delete object {object_id}", edits, prompts=prompts))

    @told
    def set_object_class(self, object_id: int, class_id: int) -> None:
        """An object gets another class."""
        class_steps.known(self._classes, class_id)
        edits = self._annotations.reclassing(object_id, class_id)
        if edits:
            self._do(Step(f"Object {object_id} is {self._classes[class_id].name}", edits))

    @told
    def record_stroke(
        self,
        kind: Literal["instances", "classes"],
        indices: tuple[NDArray[np.integer], ...],
        old: ArrayLike,
        new: ArrayLike,
    ) -> None:
        """Make a brush, eraser or fill stroke on one of the label arrays a step.

        ``indices`` are rows and columns in the array, ``old`` and ``new`` its values there; the
        array may hold the new values already. Rules: an object's pixels have its class, so a
        stroke with an object's id paints its class too, erasing clears both, an id not seen
        before becomes an object of the active class; a stroke on the class map leaves the pixels
        of objects as they are, and a class id not in the table is added to it.

        ``labels_changed`` is emitted for all that was stroked, also where a rule put it back.
        """
        self._image()
        try:
            step = label_steps.stroke(
                self._annotations, self._classes, self._active, kind, indices, old, new
            )
            if step is not None:
                self._do(step)
        finally:
            if (stroked := label_steps.stroked(self._annotations, indices)) is not None:
                self.labels_changed.emit(stroked)

    @told
    def import_labels(
        self,
        instances: NDArray[np.integer],
        class_map: NDArray[np.integer],
        classes: ClassTable | None = None,
        *,
        region: Region | None = None,
    ) -> None:
        """Replace all labels (of a level-0 region) by those of a file, as one step.

        Classes meet ours by name. An object gets the class that most of its pixels have, the
        active one where they have none.
        """
        self._image()
        step = label_steps.importing(
            self._annotations, self._classes, self._active, instances, class_map, classes, region
        )
        if step is not None:
            self._do(step)

    # --- classes --------------------------------------------------------------------------------

    @property
    def classes(self) -> ClassTable:
        """The class table; it stays from image to image."""
        return self._classes

    @property
    def active_class(self) -> int:
        """The class objects are accepted into."""
        return self._active

    @told
    def set_active_class(self, class_id: int) -> None:
        """Accept into another class from now on; not a step."""
        if class_steps.known(self._classes, class_id) != self._active:
            self._active = class_id
            self.active_class_changed.emit(class_id)

    @told
    def add_class(self, name: str, color: str | None = None) -> int | None:
        """One more class, under the smallest free id, which is returned."""
        self._do(class_steps.adding(self._classes, name, color))
        return self._classes.id_of(name.strip())

    @told
    def rename_class(self, class_id: int, name: str) -> None:
        """Another name."""
        self._change_class(class_id, name=name)

    @told
    def recolor_class(self, class_id: int, color: str) -> None:
        """Another colour, ``#rrggbb``."""
        self._change_class(class_id, color=color)

    def _change_class(self, class_id: int, **changes: str) -> None:
        step = class_steps.altering(self._classes, class_id, **changes)
        if step.classes and step.classes[0] != step.classes[1]:
            self._do(step)

    @told
    def delete_class(self, class_id: int) -> None:
        """The class, its objects and its pixels go, in one step; the last class stays."""
        self._do(class_steps.deleting(self._classes, class_id, self._annotations))

    @told
    def import_classes(self, table: ClassTable) -> None:
        """Use another table; refused when a class in use is missing from it."""
        if table != self._classes:
            self._do(class_steps.importing(self._classes, table, self._annotations))

    def class_count(self, class_id: int) -> int:
        """Objects of a class."""
        return self._annotations.class_objects(class_id)

    def class_area_px(self, class_id: int) -> int:
        """Pixels of a class, objects' and others'."""
        return self._annotations.class_px(class_id)

    def class_area_um2(self, class_id: int) -> float | None:
        """The same in µm²; None where mpp is not known."""
        return None if self.mpp is None else self.class_area_px(class_id) * self.mpp**2
