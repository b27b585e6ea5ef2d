"""The “PathSAM: Annotate” dock: what a person reads and presses.

Everything it does is a call of the session or the workspace; everything it shows comes from their
signals.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QCursor
from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QMenu,
    QScrollArea,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_pathsam._napari.cheat_sheet import CheatSheet
from napari_pathsam._napari.class_table import ClassCount, ClassTableWidget
from napari_pathsam._napari.export import ExportButton, Labels, write
from napari_pathsam._napari.image_chooser import LayerChooser
from napari_pathsam._napari.keys import TOOL_IDS, KeyBinder, Keys
from napari_pathsam._napari.model_chooser import Catalogue, Fetch, ModelChooser, read_catalogue
from napari_pathsam._napari.plane import canvas_to_data
from napari_pathsam._napari.runner import QtRunner, ViewerModels
from napari_pathsam._napari.session import Session
from napari_pathsam._napari.widgets import (
    AMBER,
    BLUE,
    RED,
    CandidatePanel,
    MessageBar,
    PixelSize,
    ToolBar,
    button,
    heading,
)
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.workspace import Workspace

if TYPE_CHECKING:
    from napari.viewer import Viewer


class AnnotateDock(QWidget):
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
        viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.viewer = viewer
        self.runner = QtRunner(self)
        self._files = QtRunner(self)  # exports and downloads, beside the model's work
        loader = model_loader or ViewerModels(self.runner)
        self._loader = loader
        self.workspace = Workspace(
            model_loader=loader, runner=self.runner, journal_dir=journal_dir
        )
        self.session = Session(viewer, self.workspace, self.runner, self)
        self.keys = keys or Keys()
        self._fetch = Fetch(self._files, self)
        self._cheat_sheet: CheatSheet | None = None
        self._closed = False
        self._build()
        self._binder = KeyBinder(viewer, self.keys, self._actions())
        self._connect()
        self._print_keys()
        self._choose_first_image()
        if model_loader is None:
            QTimer.singleShot(0, self._warm_up)

    # --- what it looks like ---

    def _build(self) -> None:
        self.images = LayerChooser(self.viewer, ("Image",), "choose an image…", self)
        self.images.setToolTip("The image to annotate. Choosing it is all the set-up there is")
        self.pixel_size = PixelSize(self)
        self.models = ModelChooser(self)
        self.restore_bar = MessageBar(BLUE, self)
        self.restore_bar.add("Start afresh", "Set the saved work aside", self._discard)
        self.restore_bar.add("Restore", "Bring the saved objects back", self._restore)
        self.error_bar = MessageBar(RED, self)
        self.error_bar.add("Close", "Hide this message", lambda: self.error_bar.say(""))
        self.fetch_bar = MessageBar(BLUE, self)
        self.fetch_button = self.fetch_bar.add("Download", "Fetch the weights", self._on_fetch)
        self.stray_bar = MessageBar(AMBER, self)
        self.back_button = self.stray_bar.add("Back", "", lambda: self.session.back())
        self.tools = ToolBar(self)
        self.candidate = CandidatePanel(self)
        self.classes = ClassTableWidget(self)
        self.undo_button = button("Undo", "", lambda: self.workspace.undo())
        self.redo_button = button("Redo", "", lambda: self.workspace.redo())
        self.export_button = ExportButton(self.export, self)
        self.help_button = button("Keys", "", self.show_keys)
        self.status = QLabel("", self)
        self.status.setWordWrap(True)
        self.points_layer = LayerChooser(self.viewer, ("Points",), "PathSAM's own", self)
        self.shapes_layer = LayerChooser(self.viewer, ("Shapes",), "PathSAM's own", self)
        self._lay_out()

    def _lay_out(self) -> None:
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(8, 6, 8, 6)
        column.setSpacing(6)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setSpacing(4)
        form.addRow("Image", self.images)
        form.addRow("Pixel size", self.pixel_size)
        form.addRow("Model", self.models)
        column.addLayout(form)
        for bar in (self.restore_bar, self.fetch_bar, self.error_bar, self.stray_bar):
            column.addWidget(bar)
        column.addWidget(heading("Prompt"))
        column.addWidget(self.tools)
        column.addWidget(self.candidate)
        column.addWidget(heading("Classes"))
        column.addWidget(self.classes)
        column.addWidget(heading("Work"))
        column.addLayout(_row(self.undo_button, self.redo_button))
        column.addLayout(_row(self.export_button, self.help_button))
        column.addWidget(self.status)
        column.addStretch(1)
        column.addWidget(self._layers_section())
        scroll = QScrollArea(self)
        scroll.setWidget(inside)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        self._scroll = scroll

    def _layers_section(self) -> QWidget:
        """Rarely needed, so folded: prompts from layers the person already has."""
        section = QWidget(self)
        toggle = QToolButton(section)
        toggle.setText("Prompts from my own layers")
        toggle.setArrowType(Qt.RightArrow)
        toggle.setToolButtonStyle(Qt.ToolButtonTextBesideIcon)
        toggle.setCheckable(True)
        toggle.setStyleSheet("QToolButton { border: none; background: transparent; }")
        toggle.setToolTip("Take prompts from a points or shapes layer that is already there")
        body = QWidget(section)
        form = QFormLayout(body)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Points", self.points_layer)
        form.addRow("Shapes", self.shapes_layer)
        body.hide()
        toggle.toggled.connect(body.setVisible)
        toggle.toggled.connect(
            lambda shown: toggle.setArrowType(Qt.DownArrow if shown else Qt.RightArrow)
        )
        layout = QVBoxLayout(section)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(toggle)
        layout.addWidget(body)
        return section

    # --- wiring ---

    def _connect(self) -> None:
        session, workspace = self.session, self.workspace
        self.images.value_changed.connect(session.open_image)
        self.pixel_size.value_changed.connect(self._on_pixel_size)
        self.models.value_changed.connect(self._on_model)
        self.tools.value_changed.connect(session.set_tool)
        self.tools.sign_changed.connect(session.set_sign)
        self.candidate.accepted.connect(lambda overwrite: self.accept(overwrite=overwrite))
        self.candidate.rejected.connect(workspace.reject)
        self.candidate.cycled.connect(workspace.cycle_mask)
        self.candidate.deleted.connect(self.delete_refined)
        self.candidate.cancelled.connect(self.cancel)
        self.classes.value_changed.connect(self._on_class_edit)
        self.classes.active_changed.connect(self._on_class_chosen)
        self.classes.hidden_changed.connect(session.set_hidden)
        for chooser in (self.points_layer, self.shapes_layer):
            chooser.value_changed.connect(self._on_prompt_layer)
        session.image_changed.connect(self._on_image)
        session.tool_changed.connect(self.tools.set_value)
        session.sign_changed.connect(self.tools.set_sign)
        session.strayed.connect(self._on_strayed)
        session.failed.connect(self.error_bar.say)
        self._fetch.progressed.connect(self._on_fetching)
        self._fetch.done.connect(self._on_fetched)
        self._fetch.failed.connect(self._on_fetch_failed)
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
            (w.active_class_changed, self.classes.set_active),
            (w.objects_changed, self._show_counts),
            (w.history_changed, self._show_history),
            (w.busy_changed, self._show_candidate),
            (w.status, self._show_status),
            (w.failed, self._on_failed),
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

    def _bind_keys(self) -> None:
        own = [*self.session.prompts.own(), *self.session.labels.layers.values()]
        self._binder.bind(own)

    def _print_keys(self) -> None:
        shown = self.keys.shown
        self.tools.set_keys(shown)
        self.candidate.set_keys(shown)
        self.classes.set_keys({n: shown(f"class{n}") for n in range(1, 10)})
        self.back_button.setText(f"Back to the tool  {shown('back')}")
        self.help_button.setText(f"Keys  {shown('help')}")
        self.help_button.setToolTip("All keys and mouse gestures, and changing them")
        self._show_history()
        self._bind_keys()
        inside, bar = self._scroll.widget(), self._scroll.verticalScrollBar()
        self.setMinimumWidth(inside.minimumSizeHint().width() + bar.sizeHint().width())

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
        if self._fetch.running:
            self._fetch.cancel()
            self.fetch_bar.say("The download was cancelled; nothing was kept.")
            self.fetch_button.setText("Download")
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
        labels = Labels.of(self.workspace)
        self.status.setText(f"Writing {path.name}…")
        self._files.submit(
            write, kind, path, labels,
            then=lambda written: self.status.setText(f"Written: {written}"),
            failed=lambda error: self._on_failed(f"{path.name} could not be written: {error}"),
        )  # fmt: skip

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

    def _on_pixel_size(self, mpp: float | None) -> None:
        self.workspace.set_mpp(mpp)
        self._show_counts()

    def _on_prompt_layer(self, layer: Any) -> None:
        prompts = self.session.prompts
        if layer is not None:
            prompts.use(layer)
        else:
            prompts.use_own(points=self.sender() is self.points_layer)
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
        menu = QMenu(self)
        menu.setAttribute(Qt.WA_DeleteOnClose)
        printed = self.keys.shown

        def entry(title: str, key: str, call: Callable[[], Any], enabled: bool = True) -> None:
            action = menu.addAction(f"{title}\t{printed(key)}" if key else title)
            action.setEnabled(enabled)
            action.triggered.connect(lambda: call())

        there = self.workspace.candidate is not None
        entry("Accept", "accept", self.accept, there)
        entry("Accept over existing", "overwrite", lambda: self.accept(overwrite=True), there)
        entry("Next mask", "cycle", self.workspace.cycle_mask, there)
        entry("Reject", "reject", self.workspace.reject, there or bool(self.workspace.prompts))
        object_id = self.session.object_at(y, x)
        if object_id is not None:
            menu.addSeparator()
            entry(f"Refine object {object_id}", "", lambda: self.session.refine(object_id))
            entry(f"Delete object {object_id}", "",
                  lambda: self.workspace.delete_object(object_id))  # fmt: skip
            classes = menu.addMenu("Set class")
            for info in self.workspace.classes:
                classes.addAction(info.name).triggered.connect(
                    lambda _=False, i=info.id: self.workspace.set_object_class(object_id, i)
                )
        return menu

    # --- what it shows ---

    def _choose_first_image(self) -> None:
        active = self.viewer.layers.selection.active
        found = self.images.candidates()
        layer = active if active in found else next(iter(found), None)
        if layer is not None:
            self.images.set_value(layer)
            self.session.open_image(layer)
        else:
            self._on_image(None)

    def _on_inserted(self, event: Any) -> None:
        if self.session.image is None and event.value in self.images.candidates():
            QTimer.singleShot(0, self._choose_if_none)

    def _choose_if_none(self) -> None:
        if not self._closed and self.session.image is None:
            self._choose_first_image()

    def _on_image(self, image: Any) -> None:
        self.images.set_value(image)
        there = image is not None
        for widget in (self.tools, self.candidate, self.classes, self.export_button):
            widget.setEnabled(there)
        self.status.setText("" if there else "Open an image (RGB or fluorescence) to begin.")
        self.pixel_size.setEnabled(there)
        if there:
            self.pixel_size.set_value(self.workspace.mpp)
        else:
            self.pixel_size.clear()
        saved = self.workspace.restorable if there else None
        self.restore_bar.say(
            f"There is saved work for this image: {saved}." if saved is not None else ""
        )
        self.classes.set_value(self.workspace.classes)
        self.classes.set_active(self.workspace.active_class)
        self._show_counts()
        self._show_candidate()
        self._show_history()
        self._bind_keys()

    def _restore(self) -> None:
        self.restore_bar.say("")
        self.workspace.restore()

    def _discard(self) -> None:
        self.restore_bar.say("")
        self.workspace.discard_saved()

    def _show_candidate(self, *_: Any) -> None:
        workspace = self.workspace
        found = workspace.candidate
        self.candidate.show_candidate(
            found.score if found else None,
            (found.index, found.n) if found else None,
            refining=workspace.refining,
            busy=workspace.busy,
            prompted=bool(workspace.prompts),
        )

    def _show_classes(self, *_: Any) -> None:
        self.classes.set_value(self.workspace.classes)
        self.classes.set_active(self.workspace.active_class)
        self._show_counts()

    def _show_counts(self) -> None:
        workspace = self.workspace
        counts = {
            c.id: ClassCount(workspace.class_count(c.id), workspace.class_area_px(c.id))
            for c in workspace.classes
        }
        self.classes.set_counts(counts, workspace.mpp)

    def _show_history(self) -> None:
        for made, title, action, can, what in (
            (self.undo_button, "Undo", "undo", self.workspace.can_undo, self.workspace.undo_text),
            (self.redo_button, "Redo", "redo", self.workspace.can_redo, self.workspace.redo_text),
        ):
            key = self.keys.shown(action)
            made.setText(f"{title}  {key}")
            made.setEnabled(can)
            made.setToolTip(f"{title}: {what} ({key})" if can else f"Nothing to {title.lower()}")

    def _show_status(self, text: str) -> None:
        self.status.setText(text)

    def _on_failed(self, text: str) -> None:
        self.error_bar.say(text)

    def _on_strayed(self, name: str) -> None:
        self.stray_bar.say(
            f"“{name}” is the active layer: clicks in the image do not prompt." if name else ""
        )

    # --- the model ---

    def _warm_up(self) -> None:
        """Import torch and load the model before the first click asks for it."""
        if self._closed:
            return
        self.runner.submit(
            read_catalogue,
            then=self._on_catalogue,
            failed=lambda error: self._on_failed(str(error)),
        )

    def _on_catalogue(self, catalogue: Catalogue) -> None:
        self.models.set_catalogue(catalogue)
        if self.models.choice().ready:
            # A model that cannot be loaded is reported when a prompt asks for it.
            self.runner.submit(self._loader, *self.models.value())

    def _on_model(self, name: str, device: str) -> None:
        self.workspace.set_model(name, device)
        choice = self.models.choice()
        self.fetch_button.setText("Download")
        self.fetch_bar.say(
            ""
            if choice.ready
            else f"{choice.title} is not on this machine yet: {choice.size_text}, "
            f"licence {choice.licence}."
        )

    def _on_fetch(self) -> None:
        if self._fetch.running:
            self.cancel()
        else:
            self._fetch.start(self.models.choice())
            self.fetch_button.setText("Cancel")

    def _on_fetching(self, text: str) -> None:
        self.fetch_bar.say(text)

    def _on_fetched(self, name: str) -> None:
        self.fetch_bar.say("")
        self.fetch_button.setText("Download")
        self._warm_up()
        self.workspace.set_model(name, self.models.value()[1])

    def _on_fetch_failed(self, text: str) -> None:
        self.fetch_button.setText("Download")
        self.fetch_bar.say(text)

    # --- the end ---

    def closeEvent(self, event: Any) -> None:
        """The dock or the viewer is closed."""
        self.shut_down()
        super().closeEvent(event)

    def shut_down(self) -> None:
        """Stop all work and leave the viewer as it was; accepted objects stay in it."""
        if self._closed:
            return
        self._closed = True
        self._fetch.cancel()
        self._binder.unbind()
        for signal, slot in self._workspace_slots():
            signal.disconnect(slot, missing_ok=True)
        self.viewer.layers.events.inserted.disconnect(self._on_inserted)
        if self._on_mouse in self.viewer.mouse_drag_callbacks:
            self.viewer.mouse_drag_callbacks.remove(self._on_mouse)
        for chooser in (self.images, self.points_layer, self.shapes_layer):
            chooser.disconnect_viewer()
        self.session.close()
        self.runner.close()
        self._files.close()


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(4)
    for widget in widgets:
        row.addWidget(widget, 1)
    return row


def change_classes(workspace: Workspace, table: ClassTable) -> None:
    """Bring the workspace's classes to a table: one edit by its own step, many as an import."""
    old = {c.id: c for c in workspace.classes}
    new = {c.id: c for c in table}
    added = [c for i, c in new.items() if i not in old]
    gone = [i for i in old if i not in new]
    edited = [c for i, c in new.items() if i in old and old[i] != c]
    if len(added) + len(gone) + len(edited) > 1:
        workspace.import_classes(table)
    elif added:
        workspace.add_class(added[0].name, added[0].color)
    elif gone:
        workspace.delete_class(gone[0])
    elif edited:
        info = edited[0]
        if info.name != old[info.id].name:
            workspace.rename_class(info.id, info.name)
        else:
            workspace.recolor_class(info.id, info.color)
