"""The “PathSAM: Segment” dock: one command gives every pixel a class.

Everything it does is a call of :class:`Segmenting`; everything it shows comes from its signals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_pathsam._napari.copy_as import origin_of
from napari_pathsam._napari.embeddings import shared_cache
from napari_pathsam._napari.image_dock import ImageDock
from napari_pathsam._napari.layer_source import LayerSource
from napari_pathsam._napari.plane import view_of
from napari_pathsam._napari.runner import ViewerModels
from napari_pathsam._napari.segment_advice import encoding_text, pixel_size_text
from napari_pathsam._napari.segment_extent import SHAPES, VIEW, parts_in_shapes
from napari_pathsam._napari.segment_heads import HeadChoice, OwnHeads
from napari_pathsam._napari.segment_layers import warm_up
from napari_pathsam._napari.segment_models import HeadSupply
from napari_pathsam._napari.segment_results import ShownResults
from napari_pathsam._napari.segment_search import SimilarSearch
from napari_pathsam._napari.segment_view import SegmentView
from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.annotations import LARGEST_WHOLE_PX
from napari_pathsam.workspace.scripting import ImageOrigin, segment_command, segment_python
from napari_pathsam.workspace.segment_request import Part, Progress, SegmentRequest, window_of
from napari_pathsam.workspace.segment_result import SegmentResult
from napari_pathsam.workspace.segment_slide import SlideResult, slide_command, slide_python
from napari_pathsam.workspace.segmenting import Result, Segmenting

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

    from napari_pathsam.inference.embedding_cache import EmbeddingCache

FINE_TUNE = "PathSAM: Fine-tune"
LOOK_MS = 300
"""What another field in view means is said once the view rests."""
MODELS_KEPT = 6
"""Heads are small beside their base; going back to one must not load it again."""


class SegmentDock(ImageDock):
    """Choose what to find; press the button; watch it appear.

    ``model_loader(name, device)``, ``heads`` and ``own_heads`` are for tests.
    """

    def __init__(
        self,
        napari_viewer: Viewer,
        *,
        model_loader: Callable[[str, str], Any] | None = None,
        heads: Sequence[HeadChoice] = (),
        own_heads: OwnHeads | None = None,
    ) -> None:
        super().__init__(napari_viewer)
        self._chosen: dict[str, str] = {}  # the head last used, by image
        self.load = model_loader or ViewerModels(self.runner, keep=MODELS_KEPT)
        self.segmenting = Segmenting(self.load, self.runner, self.embedding_cache)
        self.results = ShownResults(self.viewer, self.segmenting, self)
        self.view = SegmentView(self.viewer)
        self.supply = HeadSupply(self.view, self.runner, self.files, own_heads or OwnHeads(), self)
        self.similar = SimilarSearch(self)
        self._take_button = self.view.mpp_bar.add(
            "", "Use the pixel size the model works at for this image", self._take_mpp
        )
        self._resting = QTimer(self)
        self._resting.setSingleShot(True)
        self._resting.setInterval(LOOK_MS)
        self._resting.timeout.connect(self._advise)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.view, 1)
        self._connect()
        self.view.heads.teach_button.setVisible(_is_registered(FINE_TUNE))
        self.runner.submit(warm_up)
        if model_loader is None:
            QTimer.singleShot(0, self._read_heads)
        else:
            self.view.heads.set_heads(heads)
        self.choose_first_image()

    # --- wiring ---

    def _connect(self) -> None:
        view = self.view
        view.pixel_size.value_changed.connect(self._on_pixel_size)
        view.heads.value_changed.connect(self._on_head)
        view.heads.teach_wanted.connect(self._teach)
        view.extent.value_changed.connect(lambda _: self._advise())
        view.options.value_changed.connect(self._advise)
        view.run_button.clicked.connect(lambda: self.segment_all())
        view.progress.cancel_button.clicked.connect(lambda: self.cancel())
        view.csv_button.clicked.connect(lambda: view.table.save_csv(say=self.view.status.setText))
        view.copy_button.said.connect(view.status.setText)
        view.copy_button.python = lambda: self._copied(segment_python, slide_python)
        view.copy_button.command = lambda: self._copied(segment_command, slide_command)
        self.supply.changed.connect(self._on_supplied)
        self.supply.failed.connect(self.say_error)
        self.results.changed.connect(self._on_results)
        self.results.said.connect(self._say)
        self.begin(view.images)

    def signals(self) -> tuple[tuple[Any, Callable], ...]:
        s = self.segmenting
        return (
            *super().signals(),
            (s.progress_changed, self.show_progress),
            (s.status, self._say),
            (s.failed, self.say_error),
        )

    def embedding_cache(self) -> EmbeddingCache:
        """Embeddings, shared with the other docks; called in the worker."""
        return shared_cache()

    # --- what the person does ---

    def segment_all(self) -> None:
        """Segment, as chosen; what is missing is said."""
        self.view.error_bar.say("")
        head = self.view.heads.value()
        if self.source is None or self.image is None:
            self.say_error("There is no image yet. Open one, or choose an image layer above.")
            return
        if head is None:
            self.say_error(
                "Choose what to find first: each model says which tissue and stain it was made "
                "for, and none of them suits every image."
            )
            self.view.heads.setFocus()
            return
        if not head.ready:
            self.say_error(f"The weights of {head.title} are not here yet: download them first.")
            return
        self.look_again()
        assert self.source is not None
        kind, _ = self.view.extent.value()
        parts = self.parts()
        self._tell_large()
        seen = view_of(self.viewer, self.source.plane, self.source.shape_yx)
        self.results.begin(self.image, self.source.plane)
        self._chosen[self.source.key] = head.name
        self.segmenting.start(
            SegmentRequest(
                source=self.source,
                parts=parts,
                model=head.name,
                device=self.view.heads.device(),
                mpp=self.mpp,
                first=seen[0] if seen and kind != VIEW else None,
                options=self.view.options.value(),
            )
        )

    def cancel(self) -> None:
        """Stop what is running; what is done of a segmentation stays."""
        self.similar.cancel()
        self.segmenting.cancel()

    def open_image(self, image: Image | None) -> None:
        if image != self.image:
            self.cancel()
        super().open_image(image)

    def parts(self) -> tuple[Part, ...]:
        """The parts of the image that are chosen."""
        if self.source is None:
            return ()
        kind, shapes = self.view.extent.value()
        shape_yx = self.source.shape_yx
        if kind == SHAPES:
            if shapes is None:
                return ()
            return parts_in_shapes(shapes, self.viewer, self.source.plane, shape_yx)
        if kind == VIEW:
            seen = view_of(self.viewer, self.source.plane, shape_yx)
            return (Part(seen[0]),) if seen else ()
        return (Part(Region.of(shape_yx)),)

    def _teach(self) -> None:
        """Open the Fine-tune dock."""
        self.viewer.window.add_plugin_dock_widget("napari-pathsam", FINE_TUNE)

    def _read_heads(self) -> None:
        if not self._closed:
            self.supply.read()

    # --- what it says ---

    def _on_head(self) -> None:
        self.view.error_bar.say("")
        self._tell_head()

    def _on_supplied(self) -> None:
        """Other models are listed; while none is chosen, what was said to be missing still is."""
        if self.view.heads.value() is not None:
            self.view.error_bar.say("")
        self._tell_head()

    def _tell_head(self) -> None:
        self.supply.tell()
        self._show_table()
        self._advise()

    def _on_results(self) -> None:
        self._show_table()
        self._advise()

    def _advise(self) -> None:
        """Say what the pixel size and the encoding mean for what is chosen."""
        head, source = self.view.heads.value(), self.source
        if head is None or source is None:
            self.view.options.advised_button.hide()
        else:
            self.view.options.set_advice(head.title, head.advised, self.mpp or head.mpp)
        self.view.options.set_mpp(self.mpp)
        self._tell_large()
        if head is None or source is None:
            self.view.mpp_bar.say("")
            self.view.encoding.setText("")
            return
        self.view.mpp_bar.say(pixel_size_text(head, self.mpp))
        self._take_button.setVisible(self.mpp is None and head.mpp is not None)
        self._take_button.setText(f"It is {head.mpp:g} µm/px" if head.mpp else "")
        self.view.encoding.setText(
            encoding_text(
                self.segmenting,
                head,
                source.key,
                tuple(part.region for part in self.parts()),
                self.mpp,
                self.view.options.value().views,
            )
        )

    def _tell_large(self) -> None:
        """Objects of slides are told apart, but not redrawn."""
        if self.source is None:
            return
        largest = max(window_of(self.source.shape_yx, self.parts()).shape_yx)
        self.view.options.set_large(largest > LARGEST_WHOLE_PX)

    def _take_mpp(self) -> None:
        head = self.view.heads.value()
        if head is not None and head.mpp:
            self.view.pixel_size.set_value(head.mpp)
            self._on_pixel_size(head.mpp)

    def _on_pixel_size(self, mpp: float | None) -> None:
        self.type_mpp(mpp)
        self._advise()

    def _show_table(self) -> None:
        head = self.view.heads.value()
        result = self._result()
        if result is not None:
            self.view.table.set_value(result.classes, result.table)
        elif head is not None:
            self.view.table.set_value(head.classes, None)
        self.view.table.setVisible(head is not None)
        there = result is not None and result.table is not None
        self.view.csv_button.setEnabled(there)
        self.view.copy_button.setEnabled(there)

    def _result(self) -> Result | None:
        """What the chosen model found on this image."""
        head = self.view.heads.value()
        if head is None or self.source is None:
            return None
        return self.segmenting.result_of(self.source.key, head.name)

    def _copied(
        self,
        of_image: Callable[[SegmentResult, ImageOrigin], str],
        of_slide: Callable[[SlideResult, ImageOrigin], str],
    ) -> str:
        """The result that is shown, as code."""
        result = self._result()
        if result is None or self.image is None:
            raise UnavailableError("There is nothing to copy yet: segment something first.")
        origin = origin_of(self.image)
        if isinstance(result, SlideResult):
            return of_slide(result, origin)
        return of_image(result, origin)

    def _say(self, text: str) -> None:
        self.view.status.setText(text)

    def say_error(self, text: str) -> None:
        self.view.error_bar.say(text)
        self.bring_up(self.view.error_bar)

    def bring_up(self, part: QWidget) -> None:
        """Scroll to a part of the dock, once it is laid out."""
        QTimer.singleShot(0, lambda: None if self._closed else self.view.show_widget(part))

    # --- from the run ---

    def show_progress(self, progress: Progress | None) -> None:
        """Show how far the work under way is; None: there is none."""
        self.view.progress.show_progress(progress)
        self.view.run_button.setEnabled(progress is None and self.image is not None)

    # --- from the viewer ---

    def _on_camera(self, *_: Any) -> None:
        super()._on_camera()
        if self.view.extent.value()[0] == VIEW:
            self._resting.start()

    def image_opened(self) -> None:
        there = self.source is not None
        self.view.images.set_value(self.image)
        for widget in (self.view.extent, self.view.options, self.view.similar,
                       self.view.components_button, self.view.pixel_size):  # fmt: skip
            widget.setEnabled(there)
        self.view.run_button.setEnabled(there and not self.segmenting.running)
        if not there:
            self.view.pixel_size.clear()
            self._say("Open an image (RGB or fluorescence) to begin." if not self.image else "")
        else:
            assert self.source is not None
            self.view.pixel_size.set_value(self.mpp)
            self.view.heads.set_value(self._chosen.get(self.source.key))
            self._say("")
        self._on_head()

    def leave(self, image: Image) -> None:
        self.cancel()
        self.results.release(image)

    def image_replaced(self) -> None:
        assert self.source is not None
        self.results.layers.show_only(self.image, self.source.key)
        self.image_opened()

    def look_changed(self, old: LayerSource) -> None:
        new = self.source
        assert new is not None
        if not new.looks_like(old):
            self.segmenting.forget_encodings(new.key)
            self._advise()
        if not new.plane.same_place(old.plane) or new.mpp != old.mpp:
            self.results.layers.place(self.image, new.plane)
            self.view.pixel_size.set_value(self.mpp)
            self._advise()

    # --- the end ---

    def stop(self) -> None:
        """Stop all work and leave the viewer as it is; results stay, as ordinary layers."""
        self._resting.stop()
        self.segmenting.close()
        self.similar.close()
        self.supply.close()
        self.end()
        view = self.view
        for chooser in (view.images, view.extent.shapes, view.similar.layers):
            chooser.disconnect_viewer()
        self.results.close()
        self.runner.close()
        self.files.close()


def _is_registered(title: str) -> bool:
    """Whether our plugin has a widget of this name."""
    from npe2 import PluginManager

    return any(w.display_name == title for w in PluginManager.instance().iter_widgets())
