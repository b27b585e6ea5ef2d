"""A dock that works on one image layer of the viewer, and follows it as it changes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_pathsam._napari.docking import Dock
from napari_pathsam._napari.image_chooser import LayerChooser
from napari_pathsam._napari.layer_source import LayerSource, source_of
from napari_pathsam._napari.layer_watch import LayerWatch
from napari_pathsam._napari.pixel_sizes import keep_typed_mpp
from napari_pathsam._napari.runner import QtRunner
from napari_pathsam.core.errors import PathsamError

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

PAN_PAUSE_S = 0.2


class ImageDock(Dock):
    """Has an ``image`` layer and its ``source``, chosen by the person or by being the only one.

    A subclass says what a new image means (:meth:`image_opened`), what a new look of the same image
    means (:meth:`look_changed`), what ends with an image (:meth:`leave`), where errors are shown
    (:meth:`say_error`), and which signals it listens to (:meth:`signals`).
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer: Viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.runner, self.files = QtRunner(self), QtRunner(self)
        self.image: Image | None = None
        self.source: LayerSource | None = None
        self._typed_mpp: dict[str, float | None] = {}  # by image
        self._watch = LayerWatch(self.viewer, self)

    # --- what a dock says of itself ---

    def image_opened(self) -> None:
        """Another image, or none."""

    def image_replaced(self) -> None:
        """The same layer holds another image now."""
        self.image_opened()

    def look_changed(self, old: LayerSource) -> None:
        """The same image, shown in another way or lying elsewhere."""

    def leave(self, image: Image) -> None:
        """End what goes on for an image that was removed."""

    def say_error(self, text: str) -> None:
        """Say what went wrong."""

    def signals(self) -> tuple[tuple[Any, Callable], ...]:
        """Signals of things that outlive the dock, and what listens to them."""
        layers, camera = self.viewer.layers.events, self.viewer.scene.camera.events
        return (
            (layers.inserted, self._on_inserted),
            (layers.removed, self._on_removed),
            (camera, self._on_camera),
        )

    # --- the image ---

    @property
    def mpp(self) -> float | None:
        """Microns per pixel of the image: as typed, else as the layer says."""
        if self.source is None:
            return None
        return self._typed_mpp.get(self.source.key) or self.source.mpp

    def type_mpp(self, mpp: float | None) -> None:
        """The person says how large a pixel is."""
        if self.source is not None:
            self._typed_mpp[self.source.key] = mpp
            keep_typed_mpp(self.image, mpp, say=self.say_error)

    def open_image(self, image: Image | None) -> None:
        """Work on another image layer; None: on none."""
        self._watch.stop()
        self.image, self.source = image, None
        if image is not None:
            try:
                self.source = source_of(image, self.viewer)
            except PathsamError as error:
                self.image = None
                self.say_error(str(error))
            else:
                self._watch.watch(image)
        self.image_opened()

    def look_again(self, *, replaced: bool = False) -> None:
        """See how the image is shown now; ``replaced``: its pixels may be others."""
        if self.image is None:
            return
        old = self.source
        try:
            self.source = source_of(self.image, self.viewer, None if replaced else old)
        except PathsamError as error:
            self.say_error(str(error))
            return
        if old is None or self.source.key != old.key or self.source.shape_yx != old.shape_yx:
            self.image_replaced()
        else:
            self.look_changed(old)

    # --- beginning and end ---

    def begin(self, images: LayerChooser) -> None:
        """Listen to the viewer and to what :meth:`signals` names."""
        self.images = images
        images.value_changed.connect(self.open_image)
        self._watch.changed.connect(lambda replaced: self.look_again(replaced=replaced))
        for signal, slot in self.signals():
            signal.connect(slot)

    def end(self) -> None:
        """Hear nothing any more."""
        self._watch.stop()
        for signal, slot in self.signals():
            with suppress(ValueError, TypeError, RuntimeError):
                signal.disconnect(slot)

    def finish_threads(self) -> None:
        self.runner.close(wait_s=2)
        self.files.close(wait_s=2)

    def choose_first_image(self) -> None:
        """Work on the selected image layer, else on the first one there is."""
        found = self.images.candidates()
        active = self.viewer.layers.selection.active
        self.open_image(active if active in found else next(iter(found), None))

    def _on_inserted(self, event: Any) -> None:
        if event.value in self.images.candidates():
            QTimer.singleShot(0, self._choose_if_none)

    def _choose_if_none(self) -> None:
        if not self._closed and self.image is None:
            self.choose_first_image()

    def _on_removed(self, event: Any) -> None:
        if self.image is not None and event.value == self.image:
            QTimer.singleShot(0, self._leave_removed)  # napari may be going through its list

    def _leave_removed(self) -> None:
        if not self._closed and self.image is not None and self.image not in self.viewer.layers:
            self.leave(self.image)
            self.open_image(None)

    def _on_camera(self, *_: Any) -> None:
        self.runner.yield_for(PAN_PAUSE_S)
