"""“Where next?”, the worst training regions and “Explain”: lists with places to go, and layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject

from napari_pathsam._napari.finetune_map import UncertaintyMap
from napari_pathsam._napari.finetune_places import Place
from napari_pathsam._napari.finetune_preview import PREVIEW
from napari_pathsam._napari.layer_source import OWN
from napari_pathsam._napari.plane import own_layer_place
from napari_pathsam.core.duration import duration
from napari_pathsam.core.geometry import Region

if TYPE_CHECKING:
    from napari_pathsam._napari.finetune import FineTuneDock
    from napari_pathsam.inference.uncertainty import Seen
    from napari_pathsam.training.finetune_score import WorstRegion
    from napari_pathsam.workspace.teaching_look import Explained

UNCERTAINTY = "PathSAM uncertainty"
PLACES = "PathSAM where next"
ACTS = "PathSAM acts here"
STANDS_FOR = (
    "The model wavers between {0} and {1} here. {2} of all that it is unsure of looks like this "
    "place: paint here what it is, and it learns for the rest, too."
)
DISAGREES = (
    "You painted {0}, and the model reads {1}: a slip of the brush, or too few strokes like this."
)
PART = (
    "This is of the {} of what is in view, {} × {} pixels: the model reads no more at once. Zoom "
    "in, and press Explain again, for another part."
)
NOT_IN_VIEW = (
    "This is of another part of the image, which is not in view. Press Explain for what is."
)
AROUND = 4.0
"""So many times as wide as a place the view is when one goes there, at most what is seen now."""


class Answers(QObject):
    """Asks the look of a dock, and shows what comes back."""

    def __init__(self, dock: FineTuneDock) -> None:
        super().__init__(dock)
        self._dock = dock
        self._layers: dict[str, Any] = {}
        self._explained: Explained | None = None
        self._map: UncertaintyMap | None = None
        view, look = dock.view, dock.look
        view.where.wanted.connect(self.find)
        view.where.stopped.connect(look.stop_seeking)
        view.where.shown_changed.connect(self._on_shown)
        view.where.places.chosen.connect(self._go_and_mark)
        view.worst.chosen.connect(self.go)
        view.explain.wanted.connect(self.explain)
        view.explain.map_wanted.connect(self.show_map)
        look.seen.connect(self._on_seen)
        look.seeking_changed.connect(self._on_seeking)
        look.explained.connect(self._on_explained)
        dock.teaching.lesson_changed.connect(self._on_lesson)
        dock.run.began.connect(self._on_began)

    # --- where next ---

    def find(self) -> None:
        """Look for uncertain regions in the field in view, or in all of the image or slide."""
        dock = self._dock
        number, field_now = dock.current_number(), dock.field_in_view(exactly=True)
        if number is None or field_now is None or dock.source is None:
            dock.say_error(
                "There is no version yet to be unsure of anything: paint a little and train first."
            )
            return
        view = field_now.region
        whole = dock.view.where.extent.value() == "whole"
        region = Region.of(dock.source.shape_yx) if whole else view
        pairs = dock.paint.pairs_over(dock.source.key, region)
        dock.look.seek(number, replace(field_now, region=region), pairs, view)

    def _on_seeking(self, seeking: bool) -> None:
        self._dock.view.where.set_busy(seeking)
        self._dock.view.where.say("")
        if seeking:
            self._map = None
        elif self._map is not None:
            self._show_found(self._map)

    def _on_seen(self, seen: Seen) -> None:
        dock = self._dock
        if dock.source is None:
            return
        where = dock.view.where
        where.places.set_value(
            Place(
                f"{s.classes[0]} or {s.classes[1]}?  ·  {_percent(s.score)} of all doubt",
                s.region, dock.source.key, STANDS_FOR.format(*s.classes, _percent(s.score)),
            )
            for s in seen.suggestions
        )  # fmt: skip
        if self._map is None:
            self._map = UncertaintyMap(seen)
        else:
            self._map.add(seen)
        where.bar.show_steps(
            seen.done, seen.total,
            f"{_looked_through(seen)} · {duration(seen.seconds_left)} left",
        )  # fmt: skip

    def _show_found(self, found: UncertaintyMap) -> None:
        """The map, the places and a sentence: it is over."""
        dock, seen = self._dock, found.last
        if ACTS in self._layers:  # one map at a time can be read
            self.remove(ACTS)
            dock.view.where.map_box.setChecked(True)
        visible = dock.view.where.map_box.isChecked()
        self._show_values(UNCERTAINTY, found.values, found.region, "magma", visible=visible)
        self._mark([s.region for s in seen.suggestions])
        said = []
        if not seen.suggestions:
            said.append("Nothing unpainted stands out here. Look elsewhere, or in the whole image.")
        if seen.done < seen.total:
            said.append(
                f"{_looked_through(seen)} looked through: what was in view, what is painted, then "
                "places spread over the rest."
            )
        elif seen.tissue:
            said.append("All of the tissue was looked through.")
        dock.view.where.say(" ".join(said))

    def forget(self) -> None:
        """Stop looking, and show nothing of what was found."""
        self._map = None
        self._dock.look.stop_seeking()

    def _on_began(self) -> None:
        self.forget()
        self.remove(UNCERTAINTY, ACTS)  # of another version, and over the one being made

    def _on_shown(self, shown: bool) -> None:
        if (layer := self._layers.get(UNCERTAINTY)) is not None:
            layer.visible = shown
        if shown:
            self.remove(ACTS)

    # --- worst ---

    def set_worst(self, worst: tuple[WorstRegion, ...], keys: tuple[str, ...]) -> None:
        """The painted regions a new version disagrees with."""
        self._dock.view.worst.set_value(
            Place(
                f"{w.class_name}  ·  {100 * w.disagreement:.0f} % read as {w.said}  ·  {w.n_px} px",
                w.region, keys[w.image], DISAGREES.format(w.class_name, w.said),
            )
            for w in worst
        )  # fmt: skip
        if not worst:
            self._dock.view.worst.say("The newest version agrees with all that it was trained on.")

    # --- going there ---

    def _go_and_mark(self, place: Place) -> None:
        self.go(place)
        if self._dock.source is not None and self._dock.source.key == place.key:
            self._mark([p.region for p in self._dock.view.where.places.value()])

    def go(self, place: Place) -> None:
        """Bring a place into view, of another image too."""
        dock = self._dock
        if dock.source is None:
            return
        if place.key and place.key != dock.source.key:
            image = dock.paint.image_of(place.key)
            if image is None:
                dock.say(f"“{place.text}” is on an image that is not open.")
                return
            if image != dock.image:
                dock.open_image(image)
        if dock.source is None:
            return
        plane, camera = dock.source.plane, dock.viewer.scene.camera
        r = place.region
        centre = np.array([r.y + (r.height - 1) / 2, r.x + (r.width - 1) / 2])
        scene = plane.to_world(centre) * plane.scene_unit
        camera.center = (*tuple(camera.center)[:-2], float(scene[0]), float(scene[1]))
        px = float(np.mean(plane.pixel_size_yx * plane.scene_unit))
        wide = AROUND * max(r.height, r.width) * px
        camera.zoom = max(float(camera.zoom), min(dock.viewer.canvas.size) / wide)

    # --- explain ---

    def explain(self, class_id: int) -> None:
        """What the version in use has learned of a class, where it is looked at now."""
        dock = self._dock
        number, field_now = dock.current_number(), dock.field_in_view()
        seen = dock.field_in_view(exactly=True)
        if number is None or field_now is None or seen is None:
            dock.say_error("There is no version yet to explain: paint a little and train first.")
            return
        region = field_now.region.intersection(seen.region) or seen.region
        dock.look.explain(number, class_id, replace(seen, region=region))

    def _on_explained(self, found: Explained) -> None:
        if found.number != self._dock.current_number():  # the person went back to another
            return
        self._explained = found
        self._dock.view.explain.set_value(found.explanation)
        self._say_where(found)
        self.remove(ACTS)  # of another class, or of elsewhere

    def _say_where(self, found: Explained) -> None:
        """Which part of what is in view an explanation is of, if it is not of all of it."""
        seen = self._dock.field_in_view(exactly=True)
        if seen is None or seen.source.key != found.field.source.key:
            return
        both = found.region.intersection(seen.region)
        if both is None:
            self._dock.view.explain.say(NOT_IN_VIEW)
        elif both == seen.region:
            self._dock.view.explain.say("")
        else:
            said = PART.format(_part_of(both, seen.region), both.width, both.height)
            self._dock.view.explain.say(said)

    def _on_lesson(self, _: Any) -> None:
        if self._explained is not None and self._explained.number != self._dock.current_number():
            self._explained = None
            self._dock.view.explain.set_value(None)
            self.remove(ACTS)

    def show_map(self, n: int) -> None:
        """Where one of the patterns acts."""
        found, dock = self._explained, self._dock
        if found is None or dock.source is None or found.field.source.key != dock.source.key:
            return
        values = np.asarray(found.explanation.patterns[n].map, np.float32)
        self._say_where(found)
        self._dock.view.where.map_box.setChecked(False)
        self._show_values(ACTS, values, found.region, "coolwarm", visible=True, round_0=True)

    # --- layers ---

    def _show_values(
        self, name: str, values: NDArray[np.float32], region: Region, colors: str, *,
        visible: bool, round_0: bool = False,
    ) -> None:  # fmt: skip
        """An image layer over a level-0 region, at the values' own resolution.

        ``round_0``: 0 has the middle colour.
        """
        from napari.layers import Image

        dock = self._dock
        if dock.image is None or dock.source is None:
            return
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        if round_0:
            high = max(high, -low)
            low = -high
        ratio = np.array(region.shape_yx) / np.array(values.shape)
        place = own_layer_place(dock.source.plane, dock.image)
        translate = place["scale"] * (np.array([region.y, region.x]) + (ratio - 1) / 2)
        if (known := self._layers.get(name)) is not None and known in dock.viewer.layers:
            known.data, known.contrast_limits = values, (low, max(high, low + 1e-6))
            known.affine, known.scale = place["affine"], place["scale"] * ratio
            known.translate, known.visible = translate, visible
            return
        layer = Image(
            values, name=name, rgb=False, colormap=colors, opacity=0.55, visible=visible,
            contrast_limits=(low, max(high, low + 1e-6)), interpolation2d="linear",
            metadata={OWN: PREVIEW}, affine=place["affine"], units=place["units"],
            scale=place["scale"] * ratio,
            translate=translate,
        )  # fmt: skip
        self._insert(name, layer)

    def _mark(self, regions: list[Region]) -> None:
        """The places, as squares that cannot be moved by accident."""
        from napari.layers import Shapes

        dock = self._dock
        self.remove(PLACES)
        if dock.image is None or dock.source is None or not regions:
            return
        squares = [
            np.array([(r.y, r.x), (r.y, r.x + r.width), (r.y + r.height, r.x + r.width),
                      (r.y + r.height, r.x)]) - 0.5
            for r in regions
        ]  # fmt: skip
        width = max(1.0, min(max(dock.source.shape_yx) / 400, max(regions[0].shape_yx) / 20))
        layer = Shapes(
            squares, shape_type="rectangle", face_color="transparent", edge_color="#ffe14a",
            edge_width=width, name=PLACES, metadata={OWN: PREVIEW},
            **own_layer_place(dock.source.plane, dock.image),
        )  # fmt: skip
        self._insert(PLACES, layer)
        layer.editable = False

    def _insert(self, name: str, layer: Any) -> None:
        layers, image = self._dock.viewer.layers, self._dock.image
        active = layers.selection.active
        below = (image, self._dock.preview.layer, *self._layers.values())
        found = [layers.index(x) for x in below if x is not None and x in layers]
        layers.insert(max(found, default=len(layers) - 1) + 1, layer)
        layers.selection.active = active
        self._layers[name] = layer

    def remove(self, *names: str) -> None:
        """Take layers away; all of them by default."""
        for name in names or tuple(self._layers):
            layer = self._layers.pop(name, None)
            if layer is not None and layer in self._dock.viewer.layers:
                self._dock.viewer.layers.remove(layer)


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %" if part >= 0.01 else "under 1 %"


def _part_of(region: Region, seen: Region) -> str:
    """Where a region lies in another: ``upper left``, ``middle``, ``right``."""
    words = []
    for axis, (low, high) in enumerate((("upper", "lower"), ("left", "right"))):
        before = (region.y, region.x)[axis] - (seen.y, seen.x)[axis]
        after = seen.shape_yx[axis] - region.shape_yx[axis] - before
        if abs(before - after) > seen.shape_yx[axis] / 8:
            words.append(low if before < after else high)
    return f"{' '.join(words)} part" if words else "middle"


def _looked_through(seen: Seen) -> str:
    return f"{_percent(seen.share)} of the {'tissue' if seen.tissue else 'field'}"
