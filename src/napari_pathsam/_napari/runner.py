"""The workspace's runner in a viewer: one worker thread; answers come back on the GUI thread.

One thread, because one model answers at a time: an encoding that two threads share is twice as
slow in each. It runs at a lower priority than the GUI and with fewer torch threads than there are
cores, so that the viewer stays alive on two of them.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_pathsam._napari.torch_import import keep_triton_out, load_torch
from napari_pathsam.workspace.runner import no_collecting

NICENESS = 5
LONGEST_PAUSE_S = 5.0
"""A piece of work waits this long in all for a person who never stops panning."""
PAUSE_S = 0.01


class Cancelled(Exception):
    """The job was cancelled while it ran; nobody waits for its result."""


class QtJob:
    """Work handed in; :meth:`cancel` drops it, also while it runs."""

    def __init__(
        self,
        work: Callable[[], Any],
        then: Callable[[Any], None] | None,
        failed: Callable[[Exception], None] | None,
    ) -> None:
        self.work: Callable[[], Any] | None = work
        self.then = then
        self.failed = failed
        self.cancelled = False
        self.paused_s = 0.0

    def cancel(self) -> None:
        """Forget the job: it stops at its next checkpoint and neither callback is called."""
        self.cancelled = True


class QtRunner(QObject):
    """Runs jobs one after the other in a worker thread."""

    _finished = Signal(object, object, object)  # job, result, error

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        keep_triton_out()
        self._jobs: queue.SimpleQueue[QtJob | None] = queue.SimpleQueue()
        self._running: QtJob | None = None
        self._pending = 0
        self._closed = False
        self._busy_until = 0.0
        self._finished.connect(self._deliver)
        self._thread = threading.Thread(target=self._run, name="pathsam-worker", daemon=True)
        self._thread.start()

    def submit(
        self,
        fn: Callable[..., Any],
        *args: Any,
        then: Callable[[Any], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> QtJob:
        """Call ``fn(*args)`` in the worker; ``then(result)`` or ``failed(error)`` here."""
        job = QtJob(lambda: fn(*args), then, failed)
        self._pending += 1
        self._jobs.put(job)
        return job

    @property
    def idle(self) -> bool:
        """Whether every job handed in has been answered."""
        return self._pending == 0

    def yield_for(self, seconds: float) -> None:
        """Let running work pause that long: the person is panning."""
        self._busy_until = time.monotonic() + seconds

    def checkpoint(self, *_: Any) -> None:
        """Called by work between two steps, in the worker: stop if cancelled, pause if asked."""
        job = self._running
        while job is not None and not self._closed and not job.cancelled:
            if time.monotonic() >= self._busy_until or job.paused_s >= LONGEST_PAUSE_S:
                return
            job.paused_s += PAUSE_S
            time.sleep(PAUSE_S)
        if job is not None:
            raise Cancelled

    def close(self, *, wait_s: float = 0.0) -> None:
        """Drop what is waiting and let the thread end; wait for that so long at most."""
        self._closed = True
        self._jobs.put(None)
        if wait_s:
            self._thread.join(wait_s)

    def _deliver(self, job: QtJob, result: Any, error: Exception | None) -> None:
        self._pending -= 1
        if job.cancelled or self._closed:
            return
        if error is None:
            if job.then is not None:
                job.then(result)
        elif job.failed is not None:
            job.failed(error)

    def _run(self) -> None:
        _lower_priority()
        while (job := self._jobs.get()) is not None and not self._closed:
            self._running = job
            result, error = self._outcome(job)
            self._running = None
            job.work = None  # what the closure holds must not be freed by this thread later on
            if not self._closed:
                with suppress(RuntimeError):  # Qt side already deleted: the viewer was closed
                    self._finished.emit(job, result, error)
            del job, result, error

    @staticmethod
    def _outcome(job: QtJob) -> tuple[Any, Exception | None]:
        """Run a job. Python's collector is held back: run here, it would free Qt objects."""
        if job.cancelled or job.work is None:
            return None, None
        with no_collecting():
            try:
                return job.work(), None
            except Cancelled:
                return None, None
            except Exception as error:  # noqa: BLE001 - handed to the GUI thread, which shows it
                return None, error


def _lower_priority() -> None:
    """Nicer than the GUI thread, where the system knows priorities of threads (Linux)."""
    with suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def interruptible(model: Any, runner: QtRunner) -> Any:
    """Make a model's image encoders pause and stop at each of their blocks; returns the model."""
    base = getattr(model, "base", model)
    for encoder in (getattr(base, "image_encoder", None), getattr(model, "pathology", None)):
        for module in () if encoder is None else encoder.modules():
            if not any(True for _ in module.children()):
                module.register_forward_pre_hook(_Checkpoint(runner))
    return model


class _Checkpoint:
    """A runner's checkpoint as a hook; copies of a module share it."""

    def __init__(self, runner: QtRunner) -> None:
        self._runner = runner

    def __call__(self, *_: Any) -> None:
        self._runner.checkpoint()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Checkpoint:
        return self


class ViewerModels:
    """Loads models in the worker, and keeps the ones used last."""

    def __init__(self, runner: QtRunner, *, keep: int = 1) -> None:
        self._runner = runner
        self._keep = keep
        self._kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    def __call__(self, name: str, device: str) -> Any:
        """The model; called in the worker.

        Raises
        ------
        UnavailableError
            When torch itself cannot be loaded; it says what to do.
        """
        key = (name, device, _stamp(name))
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        torch = load_torch()
        from napari_pathsam.models.catalogue import load_model

        # All cores: the worker's threads are nicer than the viewer's, and the gaps between
        # event-loop ticks were the same as with one core left free (docs/results.md). Who sets
        # OMP_NUM_THREADS is obeyed.
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(os.cpu_count() or 2)
        model = interruptible(load_model(name, device=device), self._runner)
        self._kept[key] = model
        while len(self._kept) > self._keep:
            self._kept.popitem(last=False)
        return model


def _stamp(name: str) -> int:
    """When a model file was changed last; 0 for names of the catalogue."""
    try:
        return Path(name).stat().st_mtime_ns
    except OSError:
        return 0
