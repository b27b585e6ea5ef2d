"""What the Segment dock has on screen: results become layers; what is painted there counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_pathsam._napari.segment_layers import ResultLayers
from napari_pathsam.workspace.segment_result import SegmentResult
from napari_pathsam.workspace.segment_slide import SlideResult
from napari_pathsam.workspace.segmenting import Result, Segmenting

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

    from napari_pathsam._napari.plane import Plane

RECOUNT_MS = 600
"""A person who paints makes many strokes; the table is measured once they pause."""


class ShownResults(QObject):
    """Keeps a :class:`Segmenting` and the layers of its results in step."""

    changed = Signal()
    """Another result is shown, or one is complete."""
    said = Signal(str)

    def __init__(self, viewer: Viewer, segmenting: Segmenting, parent: QObject) -> None:
        super().__init__(parent)
        self._segmenting = segmenting
        self.layers = ResultLayers(viewer, self)
        self._of_run: tuple[Image, Plane] | None = None
        self._shown: dict[tuple[str, str], Result] = {}
        self._painted: SegmentResult | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(RECOUNT_MS)
        self._timer.timeout.connect(self._recount)
        self.layers.painted.connect(self._on_painted)
        self.layers.gone.connect(self._on_gone)
        for signal, slot in self._signals():
            signal.connect(slot)

    def begin(self, image: Image, plane: Plane) -> None:
        """The next result belongs to this image layer; what was said of the last one goes."""
        self._of_run = (image, plane)
        self.said.emit("")

    def release(self, image: Image) -> None:
        """The image goes; the layers of its results are ordinary ones from now on."""
        self.layers.release(image)
        self._shown = {}

    def close(self) -> None:
        """The dock goes; the layers stay."""
        self._timer.stop()
        for signal, slot in self._signals():
            signal.disconnect(slot, missing_ok=True)
        self.layers.close()

    def _signals(self) -> tuple[tuple[Any, Any], ...]:
        s = self._segmenting
        return (
            (s.result_changed, self._on_result),
            (s.piece_written, self.layers.redraw),
            (s.finished, self._on_finished),
        )

    def _on_result(self, result: Result) -> None:
        """A run begins to fill a result."""
        if self._of_run is None:
            return
        key = (result.image_key, result.request.model)
        before = self._shown.get(key)
        if before is not None and before is not result:
            kept = self.layers.layer(before)
            if _same_pyramid(before, result):
                self.layers.drop(before)
            self.layers.let_go(before)
            if kept is not None and before.edited:
                self.said.emit(f"You changed “{kept.name}” by hand: it stays as it is, and this "
                               "run fills a new layer.")  # fmt: skip
        self._shown[key] = result
        if hidden := self.layers.show(result, *self._of_run):
            more = " and more" if hidden[1:] else ""
            self.said.emit(
                f"Hidden, for its colours stand for other classes: “{hidden[0]}”{more}. The eye "
                "in the list of layers shows it again."
            )
        self.changed.emit()

    def _on_finished(self, result: Result) -> None:
        self.layers.finish(result)
        self.changed.emit()

    def _on_painted(self, result: SegmentResult) -> None:
        self._painted = result
        self._timer.start()

    def _recount(self) -> None:
        if self._painted is not None:
            self._segmenting.recount(self._painted)

    def _on_gone(self, result: Result) -> None:
        running = self._segmenting.result is result
        self._shown = {k: r for k, r in self._shown.items() if r is not result}
        self._segmenting.let_go(result)
        self.changed.emit()
        if running:
            self.said.emit("The layer of this run was removed: the run was stopped.")


def _same_pyramid(one: Result, other: Result) -> bool:
    if isinstance(one, SlideResult) and isinstance(other, SlideResult):
        return one.path == other.path
    return False
