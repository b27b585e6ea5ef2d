"""Keeper: the journal of the open image; what goes wrong with it is said once, work goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from platformdirs import user_data_dir

from napari_pathsam.core.errors import PathsamError
from napari_pathsam.workspace.history import Step
from napari_pathsam.workspace.journal import Journal, SavedWork


class _TooLong(Exception):
    """Nobody wants to wait for it."""


class Keeper:
    """Writes steps down; offers what was written in an earlier session.

    Until the offer is answered, new steps go to another file, so that neither is lost.

    Parameters
    ----------
    directory
        Where journals are kept; None: in the user's data folder.
    warn, inform
        Called with a paragraph when nothing can be kept; when something is worth knowing.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        warn: Callable[[str], None],
        inform: Callable[[str], None],
    ) -> None:
        self.directory = directory or Path(user_data_dir("napari-pathsam")) / "journals"
        self._warn, self._inform = warn, inform
        self._key = ""
        self._journal: Journal | None = None
        self._offered: Journal | None = None
        self._spent: list[Journal] = []  # that the disk takes no more for; their files stay locked

    @property
    def offer(self) -> SavedWork | None:
        """What can be restored."""
        return self._offered.saved if self._offered else None

    @property
    def pyramids_path(self) -> Path | None:
        """Where label pyramids of a slide may lie: beside its journal; None: there is none."""
        return None if self._journal is None else self._journal.path.with_suffix(".zarr")

    @property
    def offered_pyramids_path(self) -> Path:
        """The same, of the offered work."""
        assert self._offered is not None
        return self._offered.path.with_suffix(".zarr")

    def open(self, key: str) -> None:
        """Look for saved work of this image, and be ready to keep more."""
        self._key = key
        journal = self._try(lambda: Journal(self.directory, key))
        if journal is None:
            return
        if journal.trouble:
            self._warn(journal.trouble)
        if journal.shared:
            self._inform(
                "This image is open in another window or program too. What you do here is saved "
                "separately, and neither sees the other's labels."
            )
        if journal.saved:
            self._offered = journal
            self._journal = self._try(lambda: Journal(self.directory, key, fresh=True))
        else:
            self._journal = journal

    def keep(self, what: str, step: Step, n_objects: int, header: dict[str, Any]) -> None:
        """Write a step down: did, undid or redid."""
        journal = self._journal
        if journal is not None:
            self._try(lambda: journal.append(what, step.to_json(), n_objects, header))

    @property
    def offered(self) -> Journal:
        """What there is an offer of."""
        assert self._offered is not None
        return self._offered

    def take_up(self, trouble: Exception | None = None) -> None:
        """The offered work was restored: further steps go on in its file.

        ``trouble``: why they cannot.
        """
        if self._journal is not None:
            self._journal.close()
        self._journal, self._offered = self._offered, None
        if trouble is not None:
            self._give_up(trouble)

    def discard(self) -> None:
        """The offered work is not wanted: its file gets another name."""
        if self._offered is None:
            return
        offered, self._offered = self._offered, None
        self._try(offered.set_aside)
        if self._journal is None:
            self._journal = offered
        else:
            offered.close()

    def compact(
        self,
        base: Callable[[], Iterator[Step]],
        n_objects: int,
        header: dict[str, Any],
        *,
        within_s: float = math.inf,
    ) -> None:
        """Rewrite a large journal as what came of it, where that makes it smaller.

        What takes longer than ``within_s`` is left to the next time.
        """
        journal, ends = self._journal, time.monotonic() + within_s
        if journal is None:
            return

        def steps() -> Iterator[dict[str, Any]]:
            for step in base():
                if time.monotonic() > ends:
                    raise _TooLong
                yield step.to_json()

        if journal.is_long:
            with suppress(_TooLong):
                self._try(lambda: journal.compact(steps(), n_objects, header))

    def close(self) -> None:
        """Let go of the files."""
        for journal in (self._journal, self._offered, *self._spent):
            if journal is not None:
                journal.close()
        self._journal, self._offered, self._spent = None, None, []

    def _try(self, work: Callable[[], Any]) -> Any:
        """Do it; when the disk does not let us, say so and go on without."""
        try:
            return work()
        except (PathsamError, OSError) as error:
            self._give_up(error)
            return None

    def _give_up(self, error: Exception) -> None:
        """Nothing is written to this journal any more; say so."""
        if isinstance(error, OSError):
            self._warn(
                f"Your work cannot be saved as you go: {error.strerror or error} "
                f"({self.directory}). You can go on, but nothing is brought back if the program "
                "ends by accident: export your labels now and then, or make room or give write "
                "access there and open the image again."
            )
        else:
            self._warn(str(error))
        if self._journal is not None:
            self._spent.append(self._journal)
            self._journal = None
