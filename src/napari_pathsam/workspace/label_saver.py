"""LabelSaver: brings the labels of a slide to their pyramids on the disk, soon after they change.

The journal is what nothing is lost from; the pyramids are for memory, and for other programs.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Callable

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import PathsamError
from napari_pathsam.workspace.annotations import Annotations
from napari_pathsam.workspace.runner import no_collecting

REST_S = 2.0
CLOSING_S = 1.0
"""So long somebody who closes an image waits for its labels, at most."""


class LabelSaver:
    """Saves in a thread, some time after :meth:`soon`; of small images there is nothing to save.

    Parameters
    ----------
    annotations
        Whose labels these are.
    warn
        Called from :meth:`soon` or :meth:`close`, once, with a paragraph on what went wrong.
    """

    def __init__(self, annotations: Annotations, warn: Callable[[str], None]) -> None:
        self._annotations, self._warn = annotations, warn
        self._timer: threading.Timer | None = None
        self._saving = threading.Lock()
        self._closing = False
        # The classes and microns per pixel when something was changed last, and those told last.
        self._about: tuple[ClassTable, float | None] | None = None
        self._told: tuple[ClassTable, float | None] | None = None
        self._trouble, self._warned = "", False

    def soon(self, classes: ClassTable, mpp: float | None) -> None:
        """Something was changed; the classes and microns per pixel are these now."""
        if self._annotations.pyramids is None:
            return
        self._about = (classes, mpp)
        self._say()
        if self._timer is None:
            self._timer = threading.Timer(REST_S, _later, (weakref.ref(self),))
            self._timer.daemon = True
            self._timer.start()

    def close(self) -> None:
        """Save what is left, and the class of each object; a second of it.

        Pyramids that are not whole then get another name: they are made anew from the journal when
        it is restored, and until then nobody takes them for all there is.
        """
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        with self._saving:
            whole = self._save(within_s=CLOSING_S)
        if not whole and self._annotations.pyramids is not None:
            self._annotations.pyramids.set_aside()
        self._say()

    def save_now(self) -> None:
        """Save what has changed; from any thread."""
        self._timer = None  # what changes from now on is saved the next time
        with self._saving, no_collecting():
            if not self._closing:
                self._save()

    def _save(self, *, within_s: float | None = None) -> bool:
        """Whether all is saved then; ``within_s``: for the last time, and only for so long."""
        pyramids, about = self._annotations.pyramids, self._about
        if pyramids is None or about is None:
            return True
        ends = math.inf if within_s is None else time.monotonic() + within_s
        try:
            for _ in self._annotations.save():
                if time.monotonic() > ends or (self._closing and within_s is None):
                    return False
            if about is not self._told:
                classes, mpp = about
                objects = list(self._annotations.objects.values())
                pyramids.describe(classes, {o.id: o.class_id for o in objects}, mpp)
                self._told = about
            self._warned = False
        except Exception as error:  # noqa: BLE001 - whatever it is: told, and tried again
            known = isinstance(error, PathsamError)
            self._trouble = str(error) if known else f"{pyramids.path} is not saved: {error!r}."
            return False
        return True

    def _say(self) -> None:
        trouble, self._trouble = self._trouble, ""
        if trouble and not self._warned:
            self._warned = True
            self._warn(
                f"{trouble} Your labels are safe in the journal and in memory; only their pyramid "
                "on the disk is behind, and memory grows with what you draw."
            )


def _later(saver: weakref.ref[LabelSaver]) -> None:
    """Save, unless nobody holds the labels any more."""
    if (known := saver()) is not None:
        known.save_now()
