"""Workspace: one open image and everything a person does to it, without a GUI."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from psygnal import Signal

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.prompts import YX, Box, Prompts
from napari_pathsam.workspace.annotations import AcceptedObject
from napari_pathsam.workspace.candidate import Candidate
from napari_pathsam.workspace.fields import Field, ImageSource
from napari_pathsam.workspace.journal import SavedWork
from napari_pathsam.workspace.runner import Runner


class Workspace:
    """The open image, its prompts, its labels, undo, and the work under way.

    Signals go up, calls go down: a dock calls the methods and listens to the signals. All
    coordinates are level-0 pixels ``(y, x)`` of the open image. What goes wrong, in an action or
    in a worker, arrives through :attr:`failed` as one readable paragraph, and then nothing has
    changed; no action raises for what a person did.

    Parameters
    ----------
    model_loader
        ``(name, device) -> model`` with the interface of ``models.sam2.Sam2``; called in a worker
        when the first prompt comes. Default: ``models.catalogue.load_model``.
    runner
        Where slow work runs. Default: at once, in this thread.
    journal_dir
        Where journals are kept. Default: ``journals`` in the user's data folder.
    """

    image_changed = Signal()
    """Another image was opened or closed; labels, prompts and history are new ones."""
    prompts_changed = Signal(Prompts)
    candidate_changed = Signal(object)
    """The candidate, or None."""
    labels_changed = Signal(Region)
    """The level-0 region in which instances or class map changed, in place."""
    labels_moved = Signal()
    """The label arrays are new ones or lie elsewhere (``labels_origin_yx``)."""
    classes_changed = Signal(ClassTable)
    """The table changed."""
    active_class_changed = Signal(int)
    objects_changed = Signal()
    history_changed = Signal()
    busy_changed = Signal(object)
    """What is under way, in words, or None."""
    field_changed = Signal(object)
    """The field that prompts are answered from, or None."""
    status = Signal(str)
    """Worth reading, but nothing went wrong."""
    failed = Signal(str)
    """One paragraph; nothing was changed."""

    def __init__(
        self,
        *,
        model_loader: Callable[[str, str], Any] | None = None,
        runner: Runner | None = None,
        journal_dir: Path | None = None,
    ) -> None:
        raise NotImplementedError

    # --- the image ------------------------------------------------------------------------------

    source: ImageSource | None

    def open_image(self, source: ImageSource, *, view: Region | None = None) -> None:
        """Start on another image; afterwards :attr:`restorable` says what was saved for it."""

    def close_image(self) -> None:
        """Let go of the image; its journal stays and is offered when it is opened again."""

    def set_view(self, view: Region, view_px_per_px: float) -> None:
        """Tell what is on screen and the screen pixels per level-0 pixel."""

    def set_mpp(self, mpp: float | None) -> None:
        """Microns per level-0 pixel, against what the image says; None: what the image says."""

    @property
    def mpp(self) -> float | None: ...

    def set_model(self, name: str, device: str = "auto") -> None:
        """Use another model from the next prompt on; it is loaded then."""

    def forget_embeddings(self) -> None:
        """The image's pixels look different now (another contrast, say): encode anew."""

    def cancel(self) -> None:
        """Stop loading, encoding and decoding; prompts stay, the next one starts again."""

    # --- saved work -----------------------------------------------------------------------------

    @property
    def restorable(self) -> SavedWork | None:
        """What the journal of an earlier session can bring back; None: nothing."""

    def restore(self) -> None:
        """Bring back what was saved: the same labels, bit for bit, and the undo history."""

    def discard_saved(self) -> None:
        """Start afresh; the old journal is set aside under another name."""

    # --- prompts --------------------------------------------------------------------------------

    @property
    def prompts(self) -> Prompts:
        """Points and box of the object in work."""

    @property
    def refining(self) -> int | None:
        """The accepted object that is being refined, if any."""

    @property
    def candidate(self) -> Candidate | None: ...

    @property
    def field(self) -> Field | None: ...

    @property
    def busy(self) -> str | None: ...

    def add_point(self, y: float, x: float, positive: bool = True) -> None: ...

    def remove_point(self, index: int) -> None: ...

    def move_point(self, index: int, y: float, x: float) -> None: ...

    def set_points(self, points_yx: Sequence[YX], positive: Sequence[bool]) -> None:
        """All points at once, in one step: what a points layer's adapter calls."""

    def set_box(self, box: Box | None) -> None:
        """The box ``(y0, x0, y1, x1)``, half-open; None takes it away."""

    def add_scribble(self, path_yx: ArrayLike, positive: bool = True) -> None:
        """Points along a drawn path ``(n, 2)``, as one step."""

    def add_polygon(self, path_yx: ArrayLike) -> None:
        """A lasso ``(n, 2)`` round the object: a first mask and its box."""

    def refine(self, object_id: int) -> None:
        """Take an accepted object up again; accepting then replaces it."""

    def cycle_mask(self) -> None:
        """Offer the next of the decoder's masks."""

    def clear(self) -> None:
        """Forget the prompts and the candidate, as one step."""

    def reject(self) -> None:
        """The candidate is not wanted: the same as :meth:`clear`."""

    # --- labels ---------------------------------------------------------------------------------

    @property
    def instances(self) -> NDArray[np.int32]:
        """``(H, W)`` ids of objects; always this very array, changed in place."""

    @property
    def class_map(self) -> NDArray[np.uint8]:
        """``(H, W)`` ids of classes; an object's pixels have the object's class."""

    @property
    def labels_origin_yx(self) -> tuple[int, int]:
        """Level-0 pixel of the label arrays' (0, 0); (0, 0) up to 16,384 pixels a side."""

    @property
    def objects(self) -> Mapping[int, AcceptedObject]: ...

    def labels_slices(self, region: Region) -> tuple[slice, slice]:
        """Index of a level-0 region in the label arrays."""

    def accept(self, class_id: int | None = None, overwrite: bool = False) -> int | None:
        """Write the candidate as an object; its id, or None when that was not possible.

        The class is the active one when none is given (refining: the object's own). Existing
        objects keep their pixels unless ``overwrite``.
        """

    def delete_object(self, object_id: int) -> None: ...

    def set_object_class(self, object_id: int, class_id: int) -> None: ...

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
        """

    def import_labels(
        self,
        instances: NDArray[np.integer],
        class_map: NDArray[np.integer],
        classes: ClassTable | None = None,
    ) -> None:
        """Replace all labels by those of a file, as one step."""

    # --- classes --------------------------------------------------------------------------------

    @property
    def classes(self) -> ClassTable: ...

    @property
    def active_class(self) -> int: ...

    def set_active_class(self, class_id: int) -> None: ...

    def add_class(self, name: str, color: str | None = None) -> int | None: ...

    def rename_class(self, class_id: int, name: str) -> None: ...

    def recolor_class(self, class_id: int, color: str) -> None: ...

    def delete_class(self, class_id: int) -> None:
        """The class, its objects and its pixels go, in one step; the last class stays."""

    def import_classes(self, table: ClassTable) -> None:
        """Use another table; refused when a class in use is missing from it."""

    def class_count(self, class_id: int) -> int:
        """Objects of a class."""

    def class_area_px(self, class_id: int) -> int:
        """Pixels of a class, objects' and others'."""

    def class_area_um2(self, class_id: int) -> float | None:
        """The same in µm²; None where mpp is not known."""

    # --- history --------------------------------------------------------------------------------

    @property
    def can_undo(self) -> bool: ...

    @property
    def can_redo(self) -> bool: ...

    @property
    def undo_text(self) -> str | None:
        """What undo would take back, in words."""

    @property
    def redo_text(self) -> str | None: ...

    def undo(self) -> None: ...

    def redo(self) -> None: ...
