"""One object as a GeoJSON feature: as QuPath writes it, and as it reads it."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.classes import PALETTE, ClassInfo, ClassTable
from napari_pathsam.core.errors import BadFileError
from napari_pathsam.io._outlines import Polygon

OWN_KEY = "napari_pathsam"
"""A member of our files that QuPath passes over: class ids, image size, pixel size."""
AREAS = ("Polygon", "MultiPolygon")
WITHOUT_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")


@dataclass(frozen=True)
class Annotation:
    """One feature of a GeoJSON file: its polygons, label (None: not given) and class.

    An ``area`` belongs to a class and is no object.
    """

    polygons: tuple[Polygon, ...]
    label: int | None
    class_name: str | None
    color: str | None
    area: bool = False


def complete_table(classes: ClassTable, used: set[int]) -> ClassTable:
    """The table with a class, called “Class <id>”, for every id that is used."""
    missing = used - {info.id for info in classes}
    added = (
        ClassInfo(id=i, name=f"Class {i}", color=PALETTE[(i - 1) % len(PALETTE)]) for i in missing
    )
    return ClassTable(classes=tuple(sorted((*classes, *added), key=lambda info: info.id)))


def opened_text(temporary: Path, path: Path) -> IO[str]:
    """A file to write text to, compressed where ``path`` ends in ``.gz``."""
    if path.suffix.lower() == ".gz":
        return gzip.open(temporary, "wt", encoding="utf-8")
    return temporary.open("w", encoding="utf-8")


def geometry_of(
    polygons: list[Polygon], offset_yx: tuple[float, float], simplify_px: float
) -> dict[str, Any]:
    """Polygons moved to where the map lies, as GeoJSON's geometry."""
    if simplify_px > 0:
        polygons = [_simplified(polygon, simplify_px) for polygon in polygons]
    offset_xy = np.array(offset_yx[::-1])
    if (offset_xy == np.rint(offset_xy)).all():
        offset_xy = offset_xy.astype(np.int64)
    coordinates = [
        [(np.concatenate([ring, ring[:1]]) + offset_xy).tolist() for ring in polygon]
        for polygon in polygons
    ]
    if len(coordinates) == 1:
        return {"type": "Polygon", "coordinates": coordinates[0]}
    return {"type": "MultiPolygon", "coordinates": coordinates}


def _simplified(polygon: Polygon, tolerance: float) -> Polygon:
    import shapely

    shape = shapely.Polygon(polygon[0], polygon[1:]).simplify(tolerance, preserve_topology=True)
    if shape.is_empty or shape.geom_type != "Polygon":
        return polygon
    return [np.asarray(ring.coords)[:-1] for ring in (shape.exterior, *shape.interiors)]


def properties_of(name: dict[str, str], info: ClassInfo | None, object_type: str) -> dict[str, Any]:
    """What QuPath reads of an object: its kind, its name, its class with a colour."""
    properties: dict[str, Any] = {"objectType": object_type, "metadata": name}
    if info is not None:
        color = list(bytes.fromhex(info.color[1:]))
        properties["classification"] = {"name": info.name, "color": color}
    return properties


def annotation_of(feature: dict[str, Any]) -> Annotation | None:
    """A feature of a GeoJSON file; None when it has no area."""
    geometry = feature["geometry"]
    if geometry is None or geometry["type"] in WITHOUT_AREA:
        return None
    if geometry["type"] not in AREAS:
        raise BadFileError(
            f"it holds a geometry of the type {geometry['type']!r}; polygons and multi-polygons "
            "can be read."
        )
    parts = geometry["coordinates"]
    polygons = [parts] if geometry["type"] == "Polygon" else parts
    properties = feature.get("properties") or {}
    name, color = _classification(properties.get("classification"))
    outlines: tuple[Polygon, ...] = tuple(
        [_ring(ring) for ring in polygon] for polygon in polygons if polygon
    )
    area = name is not None and properties.get("metadata") == {"area": "true"}
    return Annotation(outlines, _label(properties), name, color, area)


def _ring(points: list[list[float]]) -> NDArray[np.float64]:
    ring = np.array([point[:2] for point in points], dtype=np.float64)
    if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3:
        raise BadFileError("one of its outlines has fewer than three corners.")
    if not (np.abs(ring) < 1e9).all():
        raise BadFileError("one of its outlines has corners that are no numbers, or are too large.")
    return ring[:-1] if (ring[0] == ring[-1]).all() else ring


def _label(properties: dict[str, Any]) -> int | None:
    for key in ("metadata", "measurements"):
        holder = properties.get(key)
        if isinstance(holder, dict):
            try:
                label = int(str(holder.get("label")))
            except ValueError:
                continue
            return label if 0 < label < 2**31 else None
    return None


def _classification(found: Any) -> tuple[str | None, str | None]:
    """Name and ``#rrggbb`` of QuPath's classification, of any of its versions."""
    if isinstance(found, str):
        found = {"name": found}
    if not isinstance(found, dict):
        return None, None
    names = found.get("names")
    name = found.get("name") or (": ".join(map(str, names)) if isinstance(names, list) else "")
    color = found.get("color")
    packed = found.get("colorRGB")
    if isinstance(packed, int):
        color = [packed >> 16 & 255, packed >> 8 & 255, packed & 255]
    if isinstance(color, list) and len(color) >= 3:
        return str(name).strip() or None, "#" + bytes(int(c) for c in color[:3]).hex()
    return str(name).strip() or None, None
