"""Restoring: saved work is brought back where nobody waits for it, and can be stopped at any time.

Of a slide with many objects it takes seconds. Nothing is drawn on the image meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari_pathsam.core.errors import PathsamError
from napari_pathsam.workspace.history import Step
from napari_pathsam.workspace.replay import Restored, base_steps, header, origin_of, replaying

if TYPE_CHECKING:
    from napari_pathsam.io.hand_pyramids import HandPyramids
    from napari_pathsam.workspace.journal import Journal


class _Stopped(Exception):
    """Nobody wants it any more."""


class Restoring:
    """One journal on its way back.

    Parameters
    ----------
    journal
        What was saved; nothing is written to it by others until this ends or was stopped.
    shape_yx
        Of the image.
    pyramids
        Makes those that a slide's labels go into.

    Attributes
    ----------
    done
        The part of it that is back, 0 to 1; from any thread.
    """

    def __init__(
        self,
        journal: Journal,
        shape_yx: tuple[int, int],
        pyramids: Callable[[], HandPyramids | None],
    ) -> None:
        self._journal, self._shape_yx, self._make_pyramids = journal, shape_yx, pyramids
        self._pyramids: HandPyramids | None = None
        self._lock = threading.Lock()
        self._stopped = False
        self.done = 0.0

    def stop(self) -> None:
        """When this returns the journal is as it was or whole anew, and stays so."""
        with self._lock:
            self._stopped = True

    def run(self) -> tuple[Restored, Exception | None] | None:
        """The work, and why its journal could not be rewritten where it should be; in a worker.

        None when it was stopped.

        Raises
        ------
        BadFileError
            The journal does not fit the image, or itself; nothing was changed.
        """
        try:
            head = self._journal.header()
            restored = self._replayed(head)
            return restored, self._compacted(restored, always=any(origin_of(head)))
        except _Stopped:
            self._set_aside()
            return None
        except Exception:
            self._set_aside()
            raise

    def _replayed(self, head: dict[str, Any]) -> Restored:
        journal = self._journal
        steps = ((what, Step.from_json(step)) for what, step in journal.entries())
        n = journal.saved.n_actions if journal.saved else 0
        for found in replaying(head, steps, self._shape_yx, self._pyramids_made):
            self._check()
            if isinstance(found, Restored):
                return found
            self.done = min(1.0, found / n)
        raise AssertionError("a replay ends with what it found")

    def _compacted(self, restored: Restored, *, always: bool) -> Exception | None:
        """Rewrite a long journal as what came of it."""
        if not (always or self._journal.is_long):
            return None
        labels = restored.annotations
        try:
            self._journal.compact(
                self._base(restored), len(labels.objects), header(labels, restored.classes),
                placing=self._placing(),
            )  # fmt: skip
        except (PathsamError, OSError) as error:
            return error
        return None

    def _base(self, restored: Restored) -> Iterator[dict[str, Any]]:
        for step in base_steps(restored.annotations, restored.classes, restored.state):
            self._check()
            yield step.to_json()

    @contextmanager
    def _placing(self) -> Iterator[None]:
        with self._lock:
            self._check()
            yield

    def _check(self) -> None:
        if self._stopped:
            raise _Stopped

    def _pyramids_made(self) -> HandPyramids | None:
        self._pyramids = self._make_pyramids()
        return self._pyramids

    def _set_aside(self) -> None:
        """Nobody must take half of the labels for all there are."""
        if self._pyramids is not None:
            self._pyramids.set_aside()
