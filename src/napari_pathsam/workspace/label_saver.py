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

REST_S = 2.0
CLOSING_S = 1.0
"""So long somebody who closes an image waits for its labels, at most."""


class LabelSaver:
    """Saves in a thread, some time after :meth:`soon`; of small images there is nothing to save.

    Parameters
    ----------
    annotations
        Whose labels these are.
    classes
        Asked for the class table.
    warn
        Called from :meth:`soon` or :meth:`close`, once, with a paragraph on what went wrong.
    """

    def __init__(
        self,
        annotations: Annotations,
        classes: Callable[[], ClassTable],
        warn: Callable[[str], None],
    ) -> None:
        self._annotations = annotations
        self._classes, self._warn = classes, warn
        self._timer: threading.Timer | None = None
        self._saving = threading.Lock()
        self._closing = False
        self._told: tuple[ClassTable, tuple[str, ...]] | None = None
        self._trouble, self._warned = "", False

    def soon(self) -> None:
        """Something was changed."""
        if self._annotations.pyramids is None:
            return
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
        with self._saving:
            self._save()

    def _save(self, *, within_s: float | None = None) -> bool:
        """Whether all is saved then; ``within_s``: for the last time, and only for so long."""
        pyramids, classes = self._annotations.pyramids, self._classes()
        if pyramids is None:
            return True
        ends = math.inf if within_s is None else time.monotonic() + within_s
        try:
            for _ in self._annotations.save():
                if time.monotonic() > ends or (self._closing and within_s is None):
                    return False
            if within_s is not None or (classes, pyramids.names) != self._told:
                objects = list(self._annotations.objects.values())
                pyramids.describe(classes, {o.id: o.class_id for o in objects})
                self._told = (classes, pyramids.names)
            self._warned = False
        except PathsamError as error:
            self._trouble = str(error)
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
