"""Session: one viewer, one workspace, and the layers through which they talk; no widgets.

Signals of the layers become calls of the workspace, signals of the workspace become layers. What a
person reads and presses is in :mod:`napari_pathsam._napari.annotate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QWidget

from napari_pathsam._napari.label_sync import LabelSync
from napari_pathsam._napari.layer_source import LayerSource, ShownSource, source_of
from napari_pathsam._napari.layer_watch import LayerWatch
from napari_pathsam._napari.look_ahead import LookAhead
from napari_pathsam._napari.overlays import CandidateOverlay, FieldOutline
from napari_pathsam._napari.plane import view_of
from napari_pathsam._napari.prompt_layers import PromptLayers
from napari_pathsam.core.errors import PathsamError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.prompts import Box

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

    from napari_pathsam._napari.runner import QtRunner
    from napari_pathsam.workspace import Workspace

POINT_SCREEN_PX = 11.0
PAN_PAUSE_S = 0.2
DRAWN_AFTER_MS = 60
"""A marker waits so long for the candidate, which is worked out sooner and shown at once if nothing
else is done meanwhile. About what the small model takes; of a slower one nobody waits longer."""


class Session(QObject):
    """Keeps a viewer and a workspace in step."""

    image_changed = Signal(object)  # the Image layer, or None
    tool_changed = Signal(object)  # tool id, or None
    sign_changed = Signal(bool)
    strayed = Signal(str)  # “its name” when another layer is active, or No layer; else ""
    failed = Signal(str)

    def __init__(
        self, viewer: Viewer, workspace: Workspace, runner: QtRunner, dock: QWidget
    ) -> None:
        super().__init__(dock)
        self.viewer = viewer
        self.workspace = workspace
        self._runner = runner
        self.image: Image | None = None
        self.source: ShownSource | None = None
        self.tool: str | None = None
        self.prompts = PromptLayers(viewer, self)
        self.label_sync = LabelSync(viewer, workspace, self._own_doing, self)
        self.labels = self.label_sync.shown
        self.candidate = CandidateOverlay(viewer)
        self.outline = FieldOutline(viewer)
        self._seen: set[str] = set()  # images opened in this session: restored without asking
        self._busy_self = False  # layers come and go because we say so
        self._hearing = False  # what a person drew is on its way to the workspace
        self._zoom = 0.0
        self._watch = LayerWatch(viewer, self)
        self._watch.changed.connect(self._on_look)
        self._ahead = LookAhead(workspace, runner, self)
        self._view_timer = _timer(self, 40, self._on_view)
        self._marker_timer = _timer(self, DRAWN_AFTER_MS, self._draw_prompts)
        self._connections: list[tuple[Any, Callable]] = []
        self._connect()

    # --- the image ---

    def open_image(self, image: Image | None) -> None:
        """Work on another image layer; None: on none."""
        self._release_image()
        self.image = image
        if image is not None:
            try:
                source = source_of(image, self.viewer)
            except PathsamError as error:
                self.image = None
                self.failed.emit(str(error))
            else:
                self._watch.watch(image)
                self._open(source)
        self.image_changed.emit(self.image)

    def close(self) -> None:
        """The dock goes: take our layers and callbacks off the viewer; what is accepted stays."""
        for emitter, slot in self._connections:
            with suppress(ValueError, TypeError, RuntimeError):
                emitter.disconnect(slot)
        self._connections = []
        for timer in (self._view_timer, self._marker_timer, self._ahead.timer):
            timer.stop()
        with suppress(RuntimeError, ValueError):
            self._release_image(keep_labels=True)
        self.label_sync.close()

    def _open(self, source: LayerSource) -> None:
        assert self.image is not None
        workspace = self.workspace
        self.source = ShownSource(source)
        with self._own_doing():
            workspace.open_image(self.source, view=self._view(source))
            if source.key in self._seen and workspace.restorable is not None:
                workspace.restore()
            self._seen.add(source.key)
            self.label_sync.open(self.image, source.plane)
            self.candidate.open(self.image, source.plane)
            self.outline.open(self.image, source.plane)
            self.prompts.open(self.image, source.plane)
        self.label_sync.redraw()
        self._zoom = 0.0
        self._on_view()
        self.set_tool(self.tool or "point")

    def _release_image(self, *, keep_labels: bool = False) -> None:
        """Let go of the image: stop work, take our layers away."""
        self._watch.stop()
        # At once: after each removal napari collects garbage, which takes its time.
        with self._own_doing(), self.viewer.layers.batched_update():
            self.prompts.close()
            self.candidate.close()
            self.outline.close()
            self.label_sync.close_image(keep=keep_labels)
        if self.source is not None:
            self.workspace.close_image()
        self.image = self.source = None

    # --- tools ---

    def set_tool(self, tool_id: str | None) -> None:
        """Take a tool in hand: its layer becomes active, in the mode that draws."""
        self.tool = tool_id
        with self._own_doing():
            if self.image is not None:
                self.prompts.activate(tool_id)
        self.tool_changed.emit(tool_id)
        self._check_active()

    def toggle_tool(self, tool_id: str) -> None:
        """A tool's key: takes it in hand; pressed again, back to panning."""
        self.set_tool(None if self.tool == tool_id and not self._stray_name() else tool_id)

    def back(self) -> None:
        """Back to the tool's layer."""
        self.set_tool(self.tool or "point")

    def set_sign(self, positive: bool) -> None:
        """The sign of the next point or scribble."""
        self.prompts.set_sign(positive)
        self.sign_changed.emit(positive)

    def toggle_sign(self) -> None:
        """From + to − and back."""
        self.set_sign(not self.prompts.sign())

    def object_at(self, y: float, x: float) -> int | None:
        """The accepted object under an image pixel."""
        if self.source is None:
            return None
        row, column = round(y), round(x)
        array = self.workspace.instances
        if 0 <= row < array.shape[0] and 0 <= column < array.shape[1]:
            return int(array[row, column]) or None
        return None

    def refine_at(self, y: float, x: float) -> None:
        """Take up the object under a pixel, and the point tool with it."""
        found = self.object_at(y, x)
        if found is None:
            self.failed.emit(
                "There is no accepted object where you clicked. The Refine tool takes up an "
                "object you accepted before; to start a new one choose Point or Box."
            )
            return
        self.refine(found)

    def refine(self, object_id: int) -> None:
        """Take up an accepted object, with the point tool in hand."""
        self.workspace.refine(object_id)
        self.labels.select(object_id=object_id)
        self.set_tool("point")

    def peek(self) -> Callable[[], None]:
        """Hide the objects; what is returned shows them again."""
        self.labels.peek()
        self.candidate.hide()

        def release() -> None:
            self.labels.release_peek()
            if self.image is not None:
                self._on_candidate(self.workspace.candidate)

        return release

    # --- wiring ---

    def _connect(self) -> None:
        self.prompts.points_drawn.connect(self._on_points)
        self.prompts.box_drawn.connect(self._on_box)
        self.prompts.scribble_drawn.connect(self._on_scribble)
        self.prompts.lasso_drawn.connect(self._on_lasso)
        self.prompts.clicked.connect(self._on_clicked)
        w, v = self.workspace, self.viewer
        for emitter, slot in (
            (w.prompts_changed, self._on_prompts),
            (w.candidate_changed, self._on_candidate),
            (w.active_class_changed, self._on_active_class),
            (w.field_changed, self._on_field),
            (v.scene.camera.events, self._on_camera),
            (v.layers.events.removed, self._on_removed),
            (v.layers.selection.events.active, self._on_active),
        ):
            emitter.connect(slot)
            self._connections.append((emitter, slot))

    # --- from the layers ---

    def _on_points(self, points_yx: tuple, positive: tuple) -> None:
        self._hear(self.workspace.set_points, points_yx, positive)

    def _on_box(self, box: Box | None) -> None:
        if box is not None and not (box[2] - box[0] > 1.5 and box[3] - box[1] > 1.5):
            box = None  # a click with the box tool, not a drag
        if box != self.workspace.prompts.box:
            self._hear(self.workspace.set_box, box)
        else:
            self._draw_prompts()

    def _on_scribble(self, path_yx: NDArray, positive: bool) -> None:
        self._hear(self.workspace.add_scribble, path_yx, positive)

    def _on_lasso(self, path_yx: NDArray) -> None:
        self._hear(self.workspace.add_polygon, path_yx)

    def _hear(self, say: Callable[..., None], *args: Any) -> None:
        """Something was drawn: it goes to the workspace, and is shown as that took it."""
        self._tell_view()
        self._hearing = True
        try:
            say(*args)
        finally:
            self._hearing = False
        workspace = self.workspace
        if not workspace.prompted or workspace.answered or workspace.busy is not None:
            self._draw_prompts()
        elif not self._marker_timer.isActive():
            self._marker_timer.start()  # the decoder is at work, for a moment

    def _on_prompts(self, *_: Any) -> None:
        if not self._hearing:
            self._draw_prompts()

    def _draw_prompts(self) -> None:
        self._marker_timer.stop()
        self.prompts.show(self.workspace.prompts)

    def _on_clicked(self, y: float, x: float) -> None:
        if self.tool == "refine":
            self.refine_at(y, x)

    # --- from the workspace ---

    def _on_candidate(self, candidate: Any) -> None:
        classes = self.workspace.classes
        active = self.workspace.active_class
        color = next((c.color for c in classes if c.id == active), "#31a3dd")
        self.candidate.show(candidate, color, self._screen_px())
        if self._marker_timer.isActive():
            self._draw_prompts()

    def _on_active_class(self, *_: Any) -> None:
        if self.workspace.candidate is not None:
            self._on_candidate(self.workspace.candidate)

    def _on_field(self, field: Any) -> None:
        view = None if self.source is None else self._view(self.source.now)
        covered = field is None or view is None or field.region.intersection(view) == view
        with self._own_doing():
            self.outline.show(None if covered else field.region)

    # --- from the viewer ---

    def _view(self, source: LayerSource) -> Region | None:
        seen = view_of(self.viewer, source.plane, source.shape_yx)
        return seen[0] if seen else None

    def _tell_view(self) -> None:
        """Say what is in view now: a click may come before the timer that follows the camera."""
        if self.source is None:
            return
        seen = view_of(self.viewer, self.source.now.plane, self.source.shape_yx)
        if seen is not None:
            self.workspace.set_view(*seen)
            self.label_sync.look(*seen)

    def _screen_px(self) -> float:
        if self.source is None:
            return 1.0
        plane, zoom = self.source.now.plane, self.viewer.scene.camera.zoom
        return float(np.mean(plane.pixel_size_yx * plane.scene_unit)) * zoom

    def _on_camera(self, *_: Any) -> None:
        self._runner.yield_for(PAN_PAUSE_S)
        if not self._view_timer.isActive():
            self._view_timer.start()

    def _on_view(self) -> None:
        if self.source is None:
            return
        self._tell_view()
        screen_px = self._screen_px()
        if abs(screen_px - self._zoom) > 0.02 * self._zoom:
            self._zoom = screen_px
            self.prompts.set_point_size(POINT_SCREEN_PX / screen_px)
        self._on_field(self.workspace.field)

    def _on_removed(self, event: Any) -> None:
        if self._busy_self:
            return
        if self.image is not None and event.value == self.image:
            self.workspace.cancel()
            QTimer.singleShot(0, self._leave_removed)  # napari may be going through its list
        elif self.image is not None and event.value in (self.prompts.points, self.prompts.shapes):
            self._check_active()

    def _leave_removed(self) -> None:
        if self.image is not None and self.image not in self.viewer.layers:
            self._release_image(keep_labels=True)
            self.image_changed.emit(None)

    def _on_active(self, *_: Any) -> None:
        if not self._busy_self:
            self._check_active()

    def _stray_name(self) -> str:
        """The active layer's name when it is not the one the tool draws in."""
        if self.image is None or self.tool is None:
            return ""
        active = self.viewer.layers.selection.active
        wanted = self.prompts.layer_for(self.tool)
        if active is not None and active == wanted and wanted in self.viewer.layers:
            return ""
        return "No layer" if active is None else f"“{active.name}”"

    def _check_active(self) -> None:
        self.strayed.emit(self._stray_name())

    def _on_look(self, replaced: bool) -> None:
        """The image is shown in another way, lies elsewhere, or is another one now."""
        if self.image is None or self.source is None:
            return
        try:
            known = None if replaced else self.source.now
            source = source_of(self.image, self.viewer, known)
        except PathsamError as error:
            self.failed.emit(str(error))
            return
        old = self.source.now
        if source.key != old.key or source.shape_yx != old.shape_yx:
            self.open_image(self.image)
            return
        self.source.now = source
        if not source.looks_like(old):
            self.workspace.forget_embeddings()
        if not source.plane.same_place(old.plane) or source.mpp != old.mpp:
            for part in (self.label_sync, self.prompts, self.candidate, self.outline):
                part.place(source.plane)
            self._zoom = 0.0
            self._on_view()
            self.image_changed.emit(self.image)

    @contextmanager
    def _own_doing(self) -> Iterator[None]:
        """Layers come and go because we say so, not the person."""
        before, self._busy_self = self._busy_self, True
        try:
            yield
        finally:
            self._busy_self = before


def _timer(parent: QObject, interval_ms: int, slot: Callable[[], None]) -> QTimer:
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(interval_ms)
    timer.timeout.connect(slot)
    return timer
