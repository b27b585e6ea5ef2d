"""“Find similar” and “Embedding as colours”: what looks into the embedding, in the Segment dock."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_pathsam._napari.layer_source import OWN
from napari_pathsam._napari.plane import Plane, own_layer_place
from napari_pathsam._napari.segment_layers import SEGMENTATION
from napari_pathsam._napari.segment_review import (
    Review,
    annotate_dock_of,
    class_of_examples,
    examples_in,
)
from napari_pathsam._napari.segment_similar import SELECTED
from napari_pathsam.workspace.prompting import DEFAULT_MODEL, Line, paragraph
from napari_pathsam.workspace.segment_request import Progress, bounds
from napari_pathsam.workspace.similar_work import (
    Components,
    Look,
    Proposals,
    principal_components,
    similar_objects,
)

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_pathsam._napari.segment import SegmentDock

COMPONENTS_NAME = "PathSAM embedding"


class SimilarSearch(QObject):
    """Runs searches and shows what they found; ``dock`` is what they are part of."""

    def __init__(self, dock: SegmentDock) -> None:
        super().__init__(dock)
        self._dock = dock
        self._line = Line(dock.runner)
        self.review = Review(dock.viewer, self)
        self._class_in: Any = None
        panel = dock.view.similar
        panel.wanted.connect(self.find)
        panel.accepted.connect(self.accept)
        panel.rejected.connect(self.reject)
        panel.score_changed.connect(self.review.set_score)
        dock.view.components_button.clicked.connect(lambda: self.show_components())
        self.review.changed.connect(self._on_review)
        dock.viewer.layers.events.inserted.connect(self._on_inserted)
        QTimer.singleShot(0, self._take_examples)

    def find(self) -> None:
        """Propose objects that look like the examples."""
        dock = self._dock
        layer, which = dock.view.similar.value()
        look = self._look()
        if look is None or dock.image is None or dock.source is None:
            return
        only = int(layer.selected_label) if layer is not None and which == SELECTED else None
        examples = () if layer is None else examples_in(
            layer, dock.viewer, dock.source.plane, dock.source.shape_yx, only
        )  # fmt: skip
        if not examples:
            dock.say_error(
                "There is no example yet: choose a labels layer with at least one object on this "
                "image, such as “PathSAM objects” with what you accepted in the Annotate dock."
                if only is None
                else f"The layer has no object {only}: select one with its picker first."
            )
            return
        self._class_in = class_of_examples(dock.viewer, layer, only)
        self._start(
            "Looking for similar objects", similar_objects, look, examples,
            then=partial(self._found, dock.image, dock.source.plane),
        )  # fmt: skip

    def show_components(self) -> None:
        """Show the first three principal components of the embedding as colours."""
        look, dock = self._look(), self._dock
        if look is not None and dock.source is not None:
            self._start(
                "Looking into the embedding", principal_components, look,
                then=partial(self._show, dock.image, dock.source.plane),
            )  # fmt: skip

    def accept(self) -> None:
        """Add what is shown to the annotations, as one step."""
        review = self.review
        if review.layer is None or review.image is None:
            return
        if review.image not in self._dock.viewer.layers:
            self._dock.say_error("The image of these proposals is no longer there.")
            return
        workspace = annotate_dock_of(self._dock.viewer, review.image).workspace
        n = workspace.accept_objects(review.shown, review.region, self._class_in(workspace))
        if n is None:
            return  # said by the Annotate dock, whose business it is
        review.close()
        self._dock.view.status.setText(
            f"{n} objects were added to the annotations; Undo there takes them back in one step."
        )

    def reject(self) -> None:
        """Remove the proposals."""
        self.review.close()

    def cancel(self) -> None:
        """Stop searching."""
        if self._line.busy_with is not None:
            self._line.stop()
            self._dock.show_progress(None)

    def close(self) -> None:
        """The dock goes; so do proposals nobody accepted."""
        self._line.stop()
        self._dock.viewer.layers.events.inserted.disconnect(self._on_inserted)
        self.review.disconnect_viewer()

    def _look(self) -> Look | None:
        """Where to look, and with which model; None when that is not known, which is said."""
        dock, head = self._dock, self._dock.view.heads.value()
        parts = dock.parts()
        if dock.source is None or not parts:
            dock.say_error("There is no part of an image to look at.")
            return None
        dock.view.error_bar.say("")
        chosen = head if head is not None and head.ready else None
        return Look(
            source=dock.source,
            region=bounds([part.region for part in parts]),
            model=chosen.name if chosen else DEFAULT_MODEL,
            device=dock.view.heads.device(),
            mpp=dock.mpp,
            load=dock.load,
            cache=dock.embedding_cache,
        )

    def _start(self, text: str, work: Any, *args: Any, then: Any) -> None:
        self._dock.show_progress(Progress(text))
        self._line.start(text, work, *args, then=then, failed=self._failed)

    def _failed(self, error: BaseException) -> None:
        self._dock.show_progress(None)
        self._dock.say_error(paragraph(error))

    def _found(self, image: Image, plane: Plane, found: Proposals) -> None:
        self._dock.show_progress(None)
        if image not in self._dock.viewer.layers:
            return
        self._dock.view.status.setText(found.said)
        self.review.open(found.labels, found.scores, found.region, image, plane)
        self._dock.view.similar.set_score(0.0)
        self._dock.bring_up(self._dock.view.similar)

    def _show(self, image: Image, plane: Plane, found: Components) -> None:
        from napari.layers import Image as ImageLayer

        self._dock.show_progress(None)
        layers = self._dock.viewer.layers
        if image not in layers:
            return
        place = own_layer_place(plane, image)
        ratio = np.array(found.region.shape_yx) / found.rgb.shape[:2]
        layer = ImageLayer(
            found.rgb, rgb=True, name=COMPONENTS_NAME, metadata={OWN: SEGMENTATION}, **place
        )
        layer.scale = place["scale"] * ratio
        layer.translate = place["scale"] * (
            np.array([found.region.y, found.region.x]) + (ratio - 1) / 2
        )
        self._dock.view.status.setText(found.said)
        active = layers.selection.active
        layers.insert(layers.index(image) + 1, layer)
        layers.selection.active = active

    def _on_review(self) -> None:
        self._dock.view.similar.show_proposals(self.review.count, self.review.n_shown)

    def _on_inserted(self, *_: Any) -> None:
        QTimer.singleShot(0, self._take_examples)

    def _take_examples(self) -> None:
        """The layer of accepted objects is the first choice, when there is one."""
        chooser = self._dock.view.similar.layers
        if chooser.value() is None:
            accepted = [x for x in chooser.candidates() if x.metadata.get(OWN) == "instances"]
            chooser.set_value(next(iter(accepted), None))
