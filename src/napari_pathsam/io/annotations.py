"""Objects ↔ GeoJSON as QuPath writes and reads it.

Coordinates are level-0 pixels, ``x`` to the right and ``y`` down, with ``(0, 0)`` at the upper
left corner of the first pixel. Outlines follow the edges of pixels unless they are simplified,
so that label map → GeoJSON → label map is identical.
"""

from __future__ import annotations

import gzip
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.classes import ClassInfo, ClassTable
from napari_pathsam.core.errors import BadFileError, BadImageError
from napari_pathsam.io._features import (
    OWN_KEY,
    Annotation,
    annotation_of,
    complete_table,
    geometry_of,
    opened_text,
    properties_of,
)
from napari_pathsam.io._files import existing_file, reading, replacing
from napari_pathsam.io._outlines import fill_polygon, polygons_of

__all__ = [
    "Annotation",
    "Annotations",
    "load_annotations",
    "objects_of_classes",
    "own_classes",
    "own_mpp",
    "own_shape",
    "paint",
    "read_geojson",
    "write_geojson",
]

LARGEST_FILE = 2 * 2**30


@dataclass(frozen=True)
class Annotations:
    """A GeoJSON file in memory; ``shape_yx`` and ``mpp`` are known when we wrote it."""

    items: tuple[Annotation, ...]
    classes: ClassTable
    shape_yx: tuple[int, int] | None = None
    mpp: float | None = None

    def extent_yx(self) -> tuple[int, int, int, int]:
        """Whole pixels ``y0, x0, y1, x1`` (half-open) that hold every polygon."""
        rings = [ring for item in self.items for polygon in item.polygons for ring in polygon]
        if not rings:
            return (0, 0, 1, 1)
        low = np.floor(np.min([ring.min(axis=0) for ring in rings], axis=0))
        high = np.ceil(np.max([ring.max(axis=0) for ring in rings], axis=0))
        (x0, y0), (x1, y1) = low.tolist(), high.tolist()
        return (int(y0), int(x0), max(int(y1), int(y0) + 1), max(int(x1), int(x0) + 1))


# --- writing -------------------------------------------------------------------------------------


def write_geojson(
    path: str | os.PathLike[str],
    instances: NDArray,
    *,
    class_of: Mapping[int, int] | None = None,
    class_map: NDArray | None = None,
    classes: ClassTable | None = None,
    offset_yx: tuple[float, float] = (0, 0),
    simplify_px: float = 0.0,
    mpp: float | None = None,
    object_type: Literal["annotation", "detection"] = "annotation",
) -> None:
    """Write each object of an instance map as one feature.

    Parameters
    ----------
    path
        ``.geojson``, or ``.geojson.gz`` to compress.
    instances
        ``(H, W)`` ids; 0 is background. Several pieces of one id become one MultiPolygon.
    class_of
        Class id of each object id; those left out, or of class 0, have no classification.
    class_map
        ``(H, W)`` class ids, or None. What they say beyond the objects' own classes is written
        too, as annotations that are areas of a class and no objects.
    classes
        Names and colours; an id without an entry is called “Class <id>”.
    offset_yx
        Level-0 position of the map's upper left corner.
    simplify_px
        How far an outline may leave the pixels' edges; 0 keeps it exact. Neighbours are
        simplified apart from each other, so they may then overlap or part by that much.
    mpp
        Pixel size in µm, noted for readers of ours.
    """
    path = Path(path)
    instances = np.asarray(instances)
    if instances.ndim != 2 or instances.dtype.kind not in "biu":
        raise BadImageError(
            f"Objects of the shape {instances.shape} and type {instances.dtype} cannot be "
            "written; whole numbers (H, W) can."
        )
    if instances.size and instances.min() < 0:
        raise BadImageError(f"Ids down to {instances.min()} cannot be written; they begin with 0.")
    class_of = dict(class_of or {})
    areas, area_class = _areas_beside(instances, class_of, class_map)
    used = {*class_of.values(), *area_class.values()}
    table = complete_table(classes or ClassTable(), used - {0})
    own: dict[str, Any] = {
        "version": 1,
        "classes": [info.model_dump() for info in table],
        "shape_yx": [math.ceil(n + at) for n, at in zip(instances.shape, offset_yx, strict=True)],
    }
    if mpp is not None:
        own["mpp"] = float(mpp)
    with replacing(path) as temporary, opened_text(temporary, path) as file:
        file.write(f'{{"type": "FeatureCollection", "{OWN_KEY}": {json.dumps(own)}, "features": [')
        separator = "\n"
        for labels, class_ids in ((instances, class_of), (areas, area_class)):
            for index, polygons in polygons_of(labels):
                class_id = class_ids.get(index, 0)
                info = table[class_id] if class_id else None
                name = {"area": "true"} if labels is areas else {"label": str(index)}
                feature = {
                    "type": "Feature",
                    "geometry": geometry_of(polygons, offset_yx, simplify_px),
                    "properties": properties_of(name, info, object_type),
                }
                file.write(separator + json.dumps(feature, separators=(",", ":")))
                separator = ",\n"
        file.write("\n]}\n")


def _areas_beside(
    instances: NDArray, class_of: Mapping[int, int], class_map: NDArray | None
) -> tuple[NDArray, dict[int, int]]:
    """What a class map says that the objects do not: areas, and the class of each."""
    if class_map is None:
        return np.zeros((0, 0), np.int32), {}
    class_map = np.asarray(class_map)
    if class_map.shape != instances.shape:
        raise BadImageError(
            f"Objects of the shape {instances.shape} and a class map of {class_map.shape} do not "
            "belong together; write each to a file of its own."
        )
    ids, at = np.unique(instances, return_inverse=True)
    said = np.array([class_of.get(int(i), 0) for i in ids])[at].reshape(instances.shape)
    return objects_of_classes(np.where(class_map == said, 0, class_map))


def objects_of_classes(class_map: NDArray) -> tuple[NDArray[np.int32], dict[int, int]]:
    """The 8-connected areas of a class map as objects: ``(instances, class of each)``."""
    from skimage.measure import label

    instances = label(class_map, connectivity=2, background=0)
    instances = instances.astype(np.int32)
    ids, where = np.unique(instances, return_index=True)
    values = np.asarray(class_map).ravel()[where]
    return instances, {int(i): int(v) for i, v in zip(ids, values, strict=True) if i}


# --- reading -------------------------------------------------------------------------------------


def read_geojson(
    path: str | os.PathLike[str], shape_yx: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.uint8], ClassTable]:
    """Read objects as an instance map and a class map of an image's shape.

    Pixels whose centre a polygon holds belong to it; where two overlap the later one in the file
    wins; what lies outside the image is left out. Ids are those the file was written from, or
    1, 2, … in its order. Points and lines have no area and are passed over.

    Raises
    ------
    BadFileError
        Missing, damaged, hostile, or not GeoJSON.
    """
    return paint(load_annotations(path), shape_yx)


def paint(
    annotations: Annotations,
    shape_yx: tuple[int, int],
    *,
    offset_yx: tuple[int, int] = (0, 0),
    downsample: float = 1,
) -> tuple[NDArray[np.int32], NDArray[np.uint8], ClassTable]:
    """Draw annotations into label maps ``shape_yx`` whose corner lies at a level-0 position."""
    instances = np.zeros(shape_yx, np.int32)
    class_map = np.zeros(shape_yx, np.uint8)
    offset_xy = np.array(offset_yx[::-1])
    for index, item in zip(_ids(annotations.items), annotations.items, strict=True):
        class_id = annotations.classes.id_of(item.class_name) if item.class_name else 0
        for polygon in item.polygons:
            rings = [(ring - offset_xy) / downsample for ring in polygon]
            if (filled := fill_polygon(rings, shape_yx)) is not None:
                where, inside = filled
                if not item.area:
                    instances[where][inside] = index
                class_map[where][inside] = class_id
    return instances, class_map, annotations.classes


def _ids(items: tuple[Annotation, ...]) -> list[int]:
    """Labels that are given and used once; the others are counted on from the largest."""
    given = [item.label for item in items]
    once = {label for label, n in Counter(given).items() if label is not None and n == 1}
    new = iter(range(max(once, default=0) + 1, 2**31))
    return [label if label is not None and label in once else next(new) for label in given]


def load_annotations(path: str | os.PathLike[str]) -> Annotations:
    """Read a FeatureCollection, a list of features or one feature; ``.gz`` or not."""
    path = existing_file(path, wanted="a GeoJSON file")
    with reading(path, "GeoJSON"):
        document = json.loads(_text(path))
    try:
        return _annotations(document)
    except BadFileError as error:
        raise BadFileError(f"{path.name}: {error}") from error
    except Exception as error:
        raise BadFileError(
            f"{path.name} is JSON, but its features are not built as GeoJSON's are "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}). Export it again: "
            "in QuPath, File > Export objects as GeoJSON."
        ) from error


def _text(path: Path) -> bytes:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as file:
        text: bytes = file.read(LARGEST_FILE + 1)
    if len(text) > LARGEST_FILE:
        raise BadFileError(f"{path.name} holds more than 2 GiB. Export the objects in parts.")
    return text.removeprefix(b"\xef\xbb\xbf")


def _annotations(document: Any) -> Annotations:
    features = document
    own: dict[str, Any] = {}
    if isinstance(document, dict):
        kind = document.get("type")
        if kind not in ("FeatureCollection", "Feature"):
            raise BadFileError(
                f"a GeoJSON “FeatureCollection” is wanted, and this is a {kind!r}. "
                "In QuPath choose File > Export objects as GeoJSON."
            )
        features = document["features"] if kind == "FeatureCollection" else [document]
        own = document[OWN_KEY] if isinstance(document.get(OWN_KEY), dict) else {}
    if not isinstance(features, list):
        raise BadFileError("a list of features is wanted.")
    items = tuple(item for feature in features if (item := annotation_of(feature)) is not None)
    return Annotations(items, _class_table(own, items), own_shape(own), own_mpp(own))


def _class_table(own: dict[str, Any], items: tuple[Annotation, ...]) -> ClassTable:
    return own_classes(own, [(i.class_name, i.color) for i in items if i.class_name])


def own_classes(own: dict[str, Any], found: Iterable[tuple[str, str | None]]) -> ClassTable:
    """The classes we wrote, and those of other names and colours that were found.

    Raises
    ------
    BadFileError
        There are more than 254.
    """
    try:
        table = ClassTable(classes=tuple(ClassInfo(**info) for info in own.get("classes", ())))
    except (TypeError, ValueError):
        table = ClassTable()
    known = set(table.names)
    for name, color in found:
        if name not in known:
            if len(table) >= 254:
                raise BadFileError("it has more than 254 classes.")
            table = table.with_class(name, color)
            known.add(name)
    return table


def own_shape(own: dict[str, Any]) -> tuple[int, int] | None:
    """The image's size, where we wrote it."""
    shape = own.get("shape_yx")
    if isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape):
        return (shape[0], shape[1]) if min(shape) > 0 else None
    return None


def own_mpp(own: dict[str, Any]) -> float | None:
    """The pixel size in µm, where we wrote it."""
    mpp = own.get("mpp")
    return float(mpp) if isinstance(mpp, int | float) and 0 < mpp < 1000 else None
