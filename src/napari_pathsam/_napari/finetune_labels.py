"""Labels layers as what is painted on an image: snapshots that a worker can read."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam._napari.label_layers import WHOLE
from napari_pathsam._napari.layer_source import OWN, LayerSource
from napari_pathsam._napari.plane import (
    Plane,
    level_0,
    own_layer_place,
    plane_index,
    plane_of,
    view_of,
)
from napari_pathsam._napari.segment_layers import color_classes
from napari_pathsam._napari.store_levels import StoredLabels
from napari_pathsam._napari.writer import export_command
from napari_pathsam.core.class_map import UNSURE
from napari_pathsam.core.classes import PALETTE, ClassTable
from napari_pathsam.core.errors import BadFileError, BadImageError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.sparse_labels import SparseLabels
from napari_pathsam.io.images import LARGEST_SIDE_PX
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.object_classes import OBJECTS
from napari_pathsam.io.store_geojson import CLASSES
from napari_pathsam.workspace.annotations import LARGEST_WHOLE_PX
from napari_pathsam.workspace.segment_request import bounds
from napari_pathsam.workspace.segment_work import SourceTiles
from napari_pathsam.workspace.teaching_objects import OBJECTS_CLASS, as_one_class
from napari_pathsam.workspace.teaching_pairs import with_ids
from napari_pathsam.workspace.teaching_store import PART, Strokes

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

STROKES = "PathSAM training labels"
"""Name of the layer that “New” makes."""
PART_PX = 4096
"""Of a slide what is painted is read in parts of this side, each an image to train on."""
FIRST_CLASSES = ("Class 1", "Background")
"""What there is to paint with at first."""
BY_NAME = "classes_by_name"
"""In a layer's metadata: its ids are other classes in this lesson, it is read by their names."""
LARGEST_NEW_PX = 4096
"""Of a larger image the new layer covers the field in view."""


@dataclass(frozen=True)
class Painted:
    """One plane of a labels layer, and where it lies; read in a worker, while it is painted on."""

    array: Any
    index: tuple[int, ...]
    plane: Plane
    name: str
    class_of: dict[int, str] | None = None  # of objects, or ids of another table: their class
    export: str = ""  # the command that writes them, where they are a pyramid on the disk
    objects: bool = True  # where class_of is not None

    @classmethod
    def of(cls, layer: Labels, viewer: Viewer) -> Painted:
        """What a labels layer shows now; of a window on a slide's labels, all of the slide's."""
        whole = layer.metadata.get(WHOLE, layer)
        return cls(
            _array_of(whole), plane_index(whole, viewer), plane_of(whole, viewer), layer.name,
            class_names_of_objects(layer),
            export_command(layer.metadata) if layer.metadata.get("store") else "",
            not layer.metadata.get(BY_NAME),
        )  # fmt: skip

    def in_parts(self, image: Plane, shape_yx: tuple[int, int]) -> bool:
        """Whether it covers an image that is too large for that, and says where it is labelled."""
        if isinstance(self.array, StoredLabels):
            return self.array.shape == shape_yx and self.plane.same_place(image)
        return isinstance(self.array, SparseLabels)

    def over(
        self,
        image: Plane,
        shape_yx: tuple[int, int],
        classes: ClassTable,
        part: Region | None = None,
    ) -> Strokes:
        """Class ids on the image's pixels, over the region that the layer covers.

        With ``part`` only what lies in that; of labels that are read in parts (:meth:`in_parts`)
        it is needed.

        Raises
        ------
        BadImageError
            The layer lies off the image, is too large to be read at once, or holds objects in a
            pyramid whose classes are not known.
        """
        if self.in_parts(image, shape_yx) and (part or isinstance(self.array, SparseLabels)):
            part = part or Region(0, 0, 1, 1)
            return Strokes(self._classes(self.array[part.slices], classes), part)
        height, width = self.array.shape[-2:]
        if not isinstance(self.array, np.ndarray) and height * width > LARGEST_SIDE_PX**2:
            raise BadImageError(
                f"The labels layer “{self.name}” has {height:,} × {width:,} "
                f"pixels, and at most {LARGEST_SIDE_PX:,} × {LARGEST_SIDE_PX:,}, all over the "
                "slide, can be learned from at once. Go to a part of the slide that is typical, "
                "press New, and paint there." + self._as_a_file()
            )
        array = self.array[self.index] if self.index else self.array
        if self.plane.same_place(image) and array.shape == shape_yx:
            cut = array if part is None else array[part.slices]
            return Strokes(self._classes(np.asarray(cut), classes), part)
        ids = self._classes(np.asarray(array), classes)
        corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1)]) * array.shape - 0.5
        at = image.pixels_of(self.plane, corners) + 0.5
        low = np.round(at.min(axis=0)).astype(int)
        high = np.maximum(np.round(at.max(axis=0)).astype(int), low + 1)
        box = Region(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
        region = box.intersection(Region.of(shape_yx))
        if region is None:
            raise BadImageError(
                f"The labels layer “{self.name}” does not lie on the image. Choose the one that "
                "belongs to it, or press New."
            )
        if part is not None:
            region = region.intersection(part) or Region(part.y, part.x, 1, 1)
        return Strokes(self._sampled(ids, image, region), region)

    def _sampled(
        self, ids: NDArray[np.integer], image: Plane, region: Region
    ) -> NDArray[np.integer]:
        """The nearest label of every pixel of a level-0 region, strip by strip."""
        out = np.zeros(region.shape_yx, ids.dtype)
        columns = region.x + np.arange(region.width)
        for row in range(region.height):
            yx = np.stack([np.full(region.width, region.y + row), columns], axis=1)
            at = np.round(self.plane.pixels_of(image, yx)).astype(int)
            inside = ((at >= 0) & (at < ids.shape)).all(axis=1)
            out[row, inside] = ids[tuple(at[inside].T)]
        return out

    def _classes(self, array: NDArray[np.integer], classes: ClassTable) -> NDArray[np.integer]:
        """Ids of classes, where the layer holds objects."""
        if self.class_of is None:
            return array
        if not self.class_of and self.export and array.any():
            raise BadImageError(
                f"The labels layer “{self.name}” holds objects, and which classes they have is "
                "not known here. Choose the layer of classes that was made with it."
                + self._as_a_file()
            )
        if not self.class_of:
            return as_one_class(array, classes)
        table = np.zeros(int(array.max(initial=0)) + 1, np.uint8)
        if not self.objects:
            table[UNSURE:][:1] = UNSURE
        ids = {name: classes.find(name) or 0 for name in set(self.class_of.values())}
        for its_id, name in self.class_of.items():
            if its_id < len(table):
                table[its_id] = ids[name]
        return table[array]

    def _as_a_file(self) -> str:
        return f" All of it as a file: `{self.export}`." if self.export else ""


@dataclass(frozen=True)
class LayerPair:
    """An image layer and the labels layer on it, or on a part of a slide."""

    source: LayerSource
    labels: Painted
    mpp: float | None
    path: Path | None = None
    aside: Painted | None = None  # what is only scored on
    part: Region | None = None

    @property
    def key(self) -> str:
        if self.part is None:
            return self.source.key
        return f"{self.source.key}{PART}{self.part.y // PART_PX}-{self.part.x // PART_PX}"

    @property
    def name(self) -> str:
        if self.part is None:
            return self.source.name
        return f"{self.source.name} at {self.part.y}, {self.part.x}"

    def parts(self) -> tuple[LayerPair, ...]:
        """Of a slide a pair for each part of it that is painted on; else itself."""
        if not self.labels.in_parts(self.source.plane, self.source.shape_yx):
            return (self,)
        found: dict[tuple[int, int], Region] = {}
        for piece in self.labels.array.pieces():
            index = (piece.y // PART_PX, piece.x // PART_PX)
            found[index] = bounds([piece, found.get(index, piece)])
        pixels = sum(part.height * part.width for part in found.values())
        if isinstance(self.labels.array, StoredLabels) and pixels > LARGEST_SIDE_PX**2:
            return (self,)  # more than can be read; whoever asks for it is told
        return tuple(replace(self, part=part) for part in found.values()) or (self,)

    @property
    def labels_name(self) -> str:
        return self.labels.name

    def tiles(self) -> SourceTiles:
        return SourceTiles(self.source)

    def painted(self, classes: ClassTable) -> Strokes:
        return self.labels.over(self.source.plane, self.source.shape_yx, classes, self.part)

    def held_out(self, classes: ClassTable) -> NDArray[np.integer] | None:
        if self.aside is None:
            return None
        mine = self.painted(classes)
        other = self.aside.over(self.source.plane, self.source.shape_yx, classes, mine.at)
        return other.over(mine.at or Region.of(self.source.shape_yx))


def _array_of(layer: Labels) -> Any:
    """What is painted: of a large label pyramid on the disk something that knows where."""
    array, path = level_0(layer), layer.metadata.get("store")
    height, width = array.shape[-2:]
    if path is None or isinstance(array, np.ndarray) or height * width <= LARGEST_SIDE_PX**2:
        return array
    objects = layer.metadata.get("label_kind") == "instances"
    with suppress(BadFileError):  # it is gone: the layer shows nothing, either
        return StoredLabels(LabelStore.open(path, OBJECTS if objects else CLASSES))
    return array


def class_names_of_objects(layer: Labels) -> dict[int, str] | None:
    """The class of each object of a layer of objects; None: its ids are classes of the lesson.

    And of each id of a layer that is read by name (:func:`mark_other`).

    Empty where it does not say their classes: of a label pyramid they are not known then, of any
    other layer all are one class.
    """
    kind = layer.metadata.get("label_kind") or layer.metadata.get(OWN)
    features = getattr(layer, "features", None)
    if layer.metadata.get(BY_NAME):
        return _named_ids(layer)
    if kind != "instances":
        return None
    if features is None or "class" not in features:
        return {}
    pairs = zip(features["index"], features["class"], strict=True)
    named = {int(i): str(name) for i, name in pairs if int(i)}
    return named if any(named.values()) else {}


def named_classes(layer: Labels) -> set[str]:
    """The classes that a layer of objects names."""
    features, objects = layer.features, layer.metadata.get("label_kind") or layer.metadata.get(OWN)
    if objects != "instances" or "class" not in features:
        return set()
    return {str(n) for n in features["class"][features["index"] != 0].unique()} - {""}


def of_one_class(layer: Labels) -> bool:
    """Whether it holds objects, all of them of the class :data:`OBJECTS_CLASS`."""
    if class_names_of_objects(layer) != {} or layer.metadata.get("store"):
        return False
    features = getattr(layer, "features", None)
    return features is None or "class" not in features or bool((features["index"] > 0).any())


def classes_of_layer(
    layer: Labels, known: ClassTable, *, avoid: Collection[int] = ()
) -> ClassTable:
    """The table with the classes that a labels layer names, or just has.

    ``avoid``: ids that new ones do not get.
    """
    from pandas import unique

    objects = class_names_of_objects(layer)
    if objects is not None:
        names_of = (OBJECTS_CLASS,) if of_one_class(layer) else objects.values()
        for name in dict.fromkeys(n for n in names_of if n):
            if known.find(name) is None:
                known = known.with_class(name, avoid=avoid)
        return known
    names = _named_ids(layer)
    ids = set(names)
    array = level_0(layer)
    if isinstance(array, np.ndarray):
        ids |= {int(i) for i in unique(array.ravel()) if i}  # a third of numpy's time
    colors = {i: _hex(layer.get_color(i)) or PALETTE[(i - 1) % len(PALETTE)] for i in ids}
    return with_ids(known, [i for i in ids if i < 255], names, colors)


def unnamed(layer: Labels) -> None:
    """Take the names and colours of classes from a layer: its ids are objects."""
    from napari.utils.colormaps import label_colormap

    layer.colormap = label_colormap(49)  # as of a new layer
    if "class" in layer.features:
        layer.features = layer.features.drop(columns="class")


def _named_ids(layer: Labels) -> dict[int, str]:
    """The classes that a layer of class ids names."""
    features = getattr(layer, "features", None)
    if features is None or not {"index", "class"} <= set(features):
        return {}
    pairs = zip(features["index"], features["class"], strict=True)
    return {int(i): str(n) for i, n in pairs if int(i) and str(n) not in ("", "unsure")}


def mark_other(layer: Labels, known: ClassTable) -> None:
    """Note in a layer of classes whether its ids are other classes here, by their names."""
    layer.metadata.pop(BY_NAME, None)
    if class_names_of_objects(layer) is not None:
        return
    taken = {c.id for c in known}
    found = {i: known.find(name) for i, name in _named_ids(layer).items()}
    if any(here != i and (here is not None or i in taken) for i, here in found.items()):
        layer.metadata[BY_NAME] = True


def region_to_paint(source: LayerSource, viewer: Viewer) -> Region:
    """What a new labels layer covers: all of an image, or the field in view of a large one."""
    shape_yx = source.shape_yx
    at = Region.of(shape_yx)
    if max(shape_yx) > LARGEST_NEW_PX:
        seen = view_of(viewer, source.plane, shape_yx)
        at = seen[0] if seen is not None else at
        if max(at.shape_yx) > LARGEST_WHOLE_PX:
            raise BadImageError(
                f"{at.height} × {at.width} pixels are in view, more than a labels layer can hold: "
                "zoom in to the tissue you want to paint on, and press New again."
            )
    return at


def painted_part(
    painted: Painted, image: Plane, shape_yx: tuple[int, int], classes: ClassTable
) -> tuple[Region, Strokes | None]:
    """The region a layer covers, and what is painted in it, cut out; None: nothing. In a worker."""
    found = painted.over(image, shape_yx, classes)
    whole = found.at or Region.of(shape_yx)
    rows, columns = (np.flatnonzero(found.labels.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return whole, None
    part = Region(
        whole.y + int(rows[0]), whole.x + int(columns[0]),
        int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1,
    )  # fmt: skip
    return whole, Strokes(found.over(part).astype(np.uint8), part)


def copied(
    painted: Painted, image: Plane, shape_yx: tuple[int, int], classes: ClassTable
) -> Strokes:
    """The classes of a layer of objects, or of one that is read by name; in a worker.

    Raises
    ------
    BadImageError
        The classes of its objects are not known, or it covers a slide.
    """
    if painted.in_parts(image, shape_yx):
        raise BadImageError(
            f"“{painted.name}” covers the slide, and its ids are no classes of this lesson: none "
            "is painted in it. Press New to paint what is in view in a layer of its own, or accept "
            "objects of the other classes in Annotate: they are learned from, too."
        )
    found = painted.over(image, shape_yx, classes)
    return Strokes(found.labels.astype(np.uint8), found.at)


def labels_over(
    array: NDArray[np.integer], at: Region, image: Image, plane: Plane, classes: ClassTable,
    make: Any, name: str = STROKES, bare: str = "background",
) -> Labels:  # fmt: skip
    """A labels layer, the person's own, over a level-0 region of an image; 0 is called ``bare``."""
    place = own_layer_place(plane, image)
    layer = make(array, name=name, opacity=0.8, **place)
    layer.translate = place["scale"] * np.array([at.y, at.x])
    if at.y or at.x:
        layer.metadata["offset_yx"] = (at.y, at.x)  # the writers add it
    color_classes(layer, classes, bare)
    return layer


def _hex(color: Any) -> str | None:
    if color is None:
        return None
    return "#" + "".join(f"{round(float(v) * 255):02x}" for v in np.asarray(color)[:3])
