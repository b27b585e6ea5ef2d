"""The “PathSAM: Annotate” dock: what a person reads and presses.

Everything it does is a call of session or workspace; all that it shows comes from their signals.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtGui import QCursor
from qtpy.QtWidgets import QVBoxLayout

from napari_pathsam._napari.annotate_view import AnnotateView
from napari_pathsam._napari.cheat_sheet import CheatSheet
from napari_pathsam._napari.class_edits import change_classes
from napari_pathsam._napari.class_table import ClassCount
from napari_pathsam._napari.copy_as import origin_of
from napari_pathsam._napari.docking import Dock
from napari_pathsam._napari.embeddings import shared_keeping
from napari_pathsam._napari.export import FORMATS, OF_SLIDES, labels_of, write
from napari_pathsam._napari.keys import TOOL_IDS, KeyBinder, Keys
from napari_pathsam._napari.model_panel import ModelPanel
from napari_pathsam._napari.object_menu import object_menu
from napari_pathsam._napari.pixel_sizes import keep_typed_mpp
from napari_pathsam._napari.plane import canvas_to_data
from napari_pathsam._napari.runner import QtRunner, ViewerModels
from napari_pathsam._napari.session import Session
from napari_pathsam._napari.shape_boxes import ShapeBoxes
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.workspace import Workspace
from napari_pathsam.workspace.scripting import (
    ImageOrigin,
    Prompted,
    last_prompted,
    prompt_command,
    prompt_python,
)

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from qtpy.QtWidgets import QMenu


class AnnotateDock(Dock):
    """Click on an object, or draw a box round it; accept; go on to the next.

    ``model_loader(name, device)``, ``journal_dir`` and ``keys`` are for tests.
    """

    def __init__(
        self,
        napari_viewer: Viewer,
        *,
        model_loader: Callable[[str, str], Any] | None = None,
        journal_dir: Path | None = None,
        keys: Keys | None = None,
    ) -> None:
        super().__init__()
        self.viewer = viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.runner = runner = QtRunner(self)
        self._files = QtRunner(self)  # exports and downloads, beside the model's work
        loader = model_loader or ViewerModels(self.runner)
        self.workspace = Workspace(
            model_loader=loader, runner=runner, files=self._files, journal_dir=journal_dir,
            keeping=shared_keeping(),
        )  # fmt: skip
        self.session = Session(viewer, self.workspace, runner, self)
        self.keys = keys or Keys()
        self._cheat_sheet: CheatSheet | None = None
        self._bound_layers: list[Any] | None = None
        self.models = ModelPanel(self.runner, self._files, loader)
        self.view = AnnotateView(viewer, self.models, self.export)
        self._boxes = ShapeBoxes(self.view.boxes_button, self.view.shapes_layer, self.session)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.view, 1)
        self._left_timer = QTimer(self, singleShot=True, interval=500)
        self._left_timer.timeout.connect(self._show_candidate)
        self._binder = KeyBinder(viewer, self.keys, self._actions())
        self._connect()
        self._print_keys()
        self._choose_first_image()
        if model_loader is None:
            self.models.start_warm_up()

    # --- wiring ---

    def _connect(self) -> None:
        session, workspace, view = self.session, self.workspace, self.view
        view.restore_bar.follow(workspace)
        self._back_button = view.stray_bar.add("Back", "Activate the tool's layer", session.back)
        view.undo_button.clicked.connect(lambda: workspace.undo())
        view.redo_button.clicked.connect(lambda: workspace.redo())
        view.help_button.clicked.connect(lambda: self.show_keys())
        view.copy_button.said.connect(view.status.setText)
        view.copy_button.python = lambda: self._copied(prompt_python)
        view.copy_button.command = lambda: self._copied(prompt_command)
        view.images.value_changed.connect(session.open_image)
        view.pixel_size.value_changed.connect(self._on_pixel_size)
        self.models.value_changed.connect(self._on_model)
        self.models.fetched.connect(self._on_model)
        self.models.failed.connect(view.error_bar.say)
        view.tools.value_changed.connect(session.set_tool)
        view.tools.sign_changed.connect(session.set_sign)
        view.candidate.accepted.connect(lambda overwrite: self.accept(overwrite=overwrite))
        view.candidate.rejected.connect(workspace.reject)
        view.candidate.cycled.connect(workspace.cycle_mask)
        view.candidate.deleted.connect(self.delete_refined)
        view.candidate.cancelled.connect(self.cancel)
        view.classes.value_changed.connect(self._on_class_edit)
        view.classes.imported.connect(self._on_classes_imported)
        view.classes.active_changed.connect(self._on_class_chosen)
        view.classes.hidden_changed.connect(session.label_sync.set_hidden)
        for chooser in (view.points_layer, view.shapes_layer):
            chooser.value_changed.connect(self._on_prompt_layer)
        session.image_changed.connect(self._on_image)
        session.tool_changed.connect(view.tools.set_value)
        session.tool_changed.connect(self._bind_keys)
        session.sign_changed.connect(view.tools.set_sign)
        session.strayed.connect(self._on_strayed)
        session.failed.connect(view.error_bar.say)
        self.viewer.layers.events.inserted.connect(self._on_inserted)
        self.viewer.mouse_drag_callbacks.append(self._on_mouse)
        for signal, slot in self._workspace_slots():
            signal.connect(slot)

    def _workspace_slots(self) -> tuple[tuple[Any, Callable], ...]:
        w = self.workspace
        return (
            (w.candidate_changed, self._show_candidate),
            (w.prompts_changed, self._show_candidate),
            (w.classes_changed, self._show_classes),
            (w.active_class_changed, self.view.classes.set_active),
            (w.objects_changed, self._show_counts),
            (w.history_changed, self._show_history),
            (w.busy_changed, self._show_candidate),
            (w.status, self._say),
            (w.failed, self.view.error_bar.say),
        )

    def _actions(self) -> dict[str, Callable[[], Any]]:
        session, workspace = self.session, self.workspace
        actions: dict[str, Callable[[], Any]] = {
            tool: partial(session.toggle_tool, tool) for tool in TOOL_IDS
        }
        actions |= {
            "sign": session.toggle_sign,
            "back": session.back,
            "accept": self.accept,
            "overwrite": partial(self.accept, overwrite=True),
            "reject": workspace.reject,
            "cycle": workspace.cycle_mask,
            "cancel": self.cancel,
            "undo": workspace.undo,
            "redo": workspace.redo,
            "delete": self.delete_refined,
            "peek": session.peek,
            "help": self.show_keys,
        }
        actions |= {f"class{n}": partial(self._choose_class, n) for n in range(1, 10)}
        return actions

    def _bind_keys(self, *_: Any) -> None:
        """Bind on the viewer and on our layers as they are now; some may have been made anew."""
        own = [*self.session.prompts.own(), *self.session.labels.layers.values()]
        if own != self._bound_layers:
            self._bound_layers = own
            self._binder.bind(own)

    def _print_keys(self) -> None:
        self.view.print_keys(self.keys)
        self._back_button.setText(f"Back to the tool  {self.keys.shown('back')}")
        self._show_history()
        self._bound_layers = None  # other keys: bind them whatever the layers
        self._bind_keys()

    # --- what the person does ---

    def accept(self, *, overwrite: bool = False) -> int | None:
        """Write the candidate as an object; the tool stays in hand."""
        object_id = self.workspace.accept(overwrite=overwrite)
        if object_id is not None:
            self.session.labels.select(object_id=object_id)
            if not self.session.prompts.sign():
                self.session.set_sign(True)
        return object_id

    def delete_refined(self) -> None:
        """Delete the object that is being refined."""
        if (object_id := self.workspace.refining) is not None:
            self.workspace.delete_object(object_id)

    def cancel(self) -> None:
        """Stop what is running: encoding, or a download."""
        self.models.cancel()
        self.workspace.cancel()
        shapes = self.session.prompts.shapes
        if shapes is not None and self.viewer.layers.selection.active == shapes:
            # Our Escape stands before napari's: leave a half-drawn shape through a mode change.
            mode, shapes.mode = shapes.mode, "pan_zoom"
            shapes.mode = mode

    def show_keys(self) -> None:
        """Open the cheat sheet."""
        if self._cheat_sheet is None:
            self._cheat_sheet = CheatSheet(self.keys, self)
            self._cheat_sheet.keys_changed.connect(self._print_keys)
        self._cheat_sheet.show()
        self._cheat_sheet.raise_()

    def export(self, kind: str, path: Path) -> None:
        """Write the accepted objects; in a worker, of a copy."""
        labels = labels_of(self.workspace)
        self.view.status.setText(f"Writing {path.name}…")
        self._files.submit(
            write, kind, path, labels,
            then=lambda written: self.view.status.setText(f"Written: {written}"),
            failed=lambda error: self.view.error_bar.say(f"{path.name} was not written: {error}"),
        )  # fmt: skip

    def _copied(self, text_of: Callable[[Prompted, ImageOrigin], str]) -> str:
        """How the newest object came about, as code."""
        done = last_prompted(self.workspace)
        return text_of(done, origin_of(self.session.image))

    def _choose_class(self, row: int) -> None:
        classes = self.workspace.classes.classes
        if row <= len(classes):
            self._on_class_chosen(classes[row - 1].id)

    def _on_class_chosen(self, class_id: int) -> None:
        self.workspace.set_active_class(class_id)
        refining = self.workspace.refining
        if refining is not None:
            self.workspace.set_object_class(refining, class_id)

    def _on_class_edit(self, table: ClassTable) -> None:
        change_classes(self.workspace, table)
        self._show_classes()

    def _on_classes_imported(self, table: ClassTable) -> None:
        """Never an edit of single classes: one that is missing must not take its objects along."""
        self.workspace.import_classes(table)
        self._show_classes()

    def _on_pixel_size(self, mpp: float | None) -> None:
        self.workspace.set_mpp(mpp)
        keep_typed_mpp(self.session.image, mpp, say=self.view.error_bar.say)
        self._show_counts()

    def _on_prompt_layer(self, layer: Any) -> None:
        prompts = self.session.prompts
        if layer is not None:
            prompts.use(layer)
        else:
            prompts.use_own(points=self.sender() is self.view.points_layer)
        self._bind_keys()
        self.session.set_tool(self.session.tool)

    def _on_mouse(self, _viewer: Any, event: Any) -> Any:
        """A right click without a drag opens the menu (a right drag zooms, as ever)."""
        if event.button != 2 or self.session.source is None:
            return
        start = tuple(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if abs(event.pos[0] - start[0]) + abs(event.pos[1] - start[1]) < 5:
            y, x = canvas_to_data(self.viewer, self.session.source.now.plane, event.pos)
            self.menu_at(float(y), float(x)).popup(QCursor.pos())

    def menu_at(self, y: float, x: float) -> QMenu:
        """The right-click menu at an image pixel."""
        return object_menu(self.session, self.keys, self.accept, y, x, self)

    # --- what it shows ---

    def _choose_first_image(self) -> None:
        active = self.viewer.layers.selection.active
        found = self.view.images.candidates()
        layer = active if active in found else next(iter(found), None)
        if layer is not None:
            self.view.images.set_value(layer)
            self.session.open_image(layer)
        else:
            self._on_image(None)

    def _on_inserted(self, event: Any) -> None:
        if event.value in self.view.images.candidates():
            QTimer.singleShot(0, self._choose_if_none)

    def _choose_if_none(self) -> None:
        if not self._closed and self.session.image is None:
            self._choose_first_image()

    def _on_image(self, image: Any) -> None:
        there, view = image is not None, self.view
        view.images.set_value(image)
        for widget in view.of_an_image:
            widget.setEnabled(there)
        view.status.setText("" if there else "Open an image (RGB or fluorescence) to begin.")
        if there:
            view.pixel_size.set_value(self.workspace.mpp)
            slide = self.session.label_sync.window is not None
            view.export_button.offer(OF_SLIDES if slide else FORMATS)
        else:
            view.pixel_size.clear()
        view.restore_bar.bring_up_to_date()
        view.classes.set_value(self.workspace.classes)
        view.classes.set_active(self.workspace.active_class)
        self._show_counts()
        self._show_candidate()
        self._show_history()
        self._bind_keys()

    def _show_candidate(self, *_: Any) -> None:
        workspace = self.workspace
        found = workspace.candidate
        if found is not None:
            self.view.error_bar.say("")  # what went wrong before is over
        self.view.candidate.show_candidate(
            found.score if found else None,
            (found.index, found.n) if found else None,
            refining=workspace.refining,
            busy=workspace.busy,
            prompted=workspace.prompted,
            answered=workspace.answered,
            left_s=workspace.seconds_left,
        )
        if workspace.busy is not None and not self._closed:
            self._left_timer.start()

    def _show_classes(self, *_: Any) -> None:
        self.view.classes.set_value(self.workspace.classes)
        self.view.classes.set_active(self.workspace.active_class)
        self._show_counts()

    def _show_counts(self) -> None:
        self._bind_keys()  # a labels layer may have come back
        workspace = self.workspace
        counts = {
            c.id: ClassCount(workspace.class_count(c.id), workspace.class_area_px(c.id))
            for c in workspace.classes
        }
        self.view.classes.set_counts(counts, workspace.mpp)

    def _show_history(self) -> None:
        workspace = self.workspace
        self.view.show_history(self.keys, workspace.undo_text, workspace.redo_text)

    def _say(self, text: str) -> None:
        self.view.status.setText(text)

    def _on_strayed(self, name: str) -> None:
        self.view.stray_bar.say(
            f"{name} is the active layer: clicks in the image do not prompt." if name else ""
        )

    def _on_model(self, *_: Any) -> None:
        """Another model, or its weights have come; one that is not here yet is not asked."""
        if self.models.chooser.choice().ready:
            self.workspace.set_model(*self.models.value())

    # --- the end ---

    def finish_threads(self) -> None:
        self.runner.close(wait_s=2)
        self._files.close(wait_s=2)

    def stop(self) -> None:
        """Stop all work and leave the viewer as it was; accepted objects stay in it."""
        self.models.close_work()
        self._left_timer.stop()
        self.view.restore_bar.stop()
        self._binder.unbind()
        for signal, slot in self._workspace_slots():
            signal.disconnect(slot, missing_ok=True)
        self.viewer.layers.events.inserted.disconnect(self._on_inserted)
        if self._on_mouse in self.viewer.mouse_drag_callbacks:
            self.viewer.mouse_drag_callbacks.remove(self._on_mouse)
        for chooser in (self.view.images, self.view.points_layer, self.view.shapes_layer):
            chooser.disconnect_viewer()
        self._boxes.close()
        self.session.close()
        self.runner.close()
        self._files.close()
