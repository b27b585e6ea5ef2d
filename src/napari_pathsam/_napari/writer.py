"""Save labels layers: as a label image, or as GeoJSON for QuPath, objects and classes together.

Coordinates are pixels of the image the labels lie on. Labels layers of the whole image begin at
its corner; those that cover a part carry ``metadata["offset_yx"]`` (the reader and the dock see
to that). Class names are the layer's features ``index`` and ``class``, colours its own; of
objects in a label pyramid (``metadata["store"]``) without these the class map beside them tells.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam._napari.layer_source import OWN
from napari_pathsam.core.classes import PALETTE, ClassInfo, ClassTable
from napari_pathsam.core.errors import BadImageError
from napari_pathsam.io.images import LARGEST_SIDE_PX


def write_label_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a labels layer's numbers as ``.png`` or ``.tif``."""
    from napari_pathsam.io.images import write_labels

    labels = _plane(data, attributes)
    classes = _classes(attributes)[0] if _is_class_map(attributes) else None
    write_labels(path, labels, classes)
    return [path]


def write_geojson(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a labels layer's objects as QuPath annotations, with exact outlines.

    Of a class map every connected area becomes one annotation.
    """
    from napari_pathsam.io.annotations import objects_of_classes
    from napari_pathsam.io.annotations import write_geojson as write

    labels, offset_yx = _plane(data, attributes), _offset(attributes)
    classes, class_of = _classes(attributes)
    if _is_class_map(attributes):
        labels, class_of = objects_of_classes(labels)
    path = _geojson(path)
    write(path, labels, class_of=class_of, classes=classes, offset_yx=offset_yx,
          mpp=_mpp(attributes))  # fmt: skip
    return [path]


def write_geojson_of_both(path: str, layers: list[tuple[Any, dict[str, Any], str]]) -> list[str]:
    """Write an image's objects and classes, two layers, to one file that gives back both.

    What is painted of a class and belongs to no object is written as areas of that class.
    """
    from napari_pathsam.io.annotations import write_geojson as write

    kinds = {_is_class_map(attributes): (data, attributes) for data, attributes, _ in layers}
    if set(kinds) != {True, False}:
        raise BadImageError(
            "Two labels layers can be saved to one GeoJSON file when one holds objects and the "
            "other the classes of the same image. Save these each to a file of its own."
        )
    (data, of_objects), (areas, of_classes) = kinds[False], kinds[True]
    if _offset(of_objects) != _offset(of_classes):
        raise BadImageError(
            "These two labels layers cover different parts of the image. Save each to a file of "
            "its own."
        )
    table, _ = _classes(of_classes)
    more = {**of_objects, "metadata": {**(of_objects.get("metadata") or {}), "classes": table}}
    labels, class_map = _plane(data, of_objects), _plane(areas, of_classes)
    classes, class_of = _classes(more)
    path = _geojson(path)
    write(path, labels, class_of=class_of, class_map=class_map, classes=classes,
          offset_yx=_offset(of_objects), mpp=_mpp(of_objects))  # fmt: skip
    return [path]


def _geojson(path: str) -> str:
    return str(Path(path if path.lower().endswith((".geojson", ".gz")) else f"{path}.geojson"))


def _offset(attributes: dict[str, Any]) -> tuple[int, int]:
    metadata = attributes.get("metadata") or {}
    y, x = metadata.get("offset_yx", (0, 0))
    return (int(y), int(x))


def _plane(data: Any, attributes: dict[str, Any]) -> NDArray[np.integer]:
    finest = data[0] if attributes.get("multiscale") else data
    if finest.size > LARGEST_SIDE_PX**2:
        raise BadImageError(
            f"The layer {attributes.get('name', '')!r} has {finest.shape[-2]:,} × "
            f"{finest.shape[-1]:,} pixels, too many to hold in memory. "
            + _instead(attributes.get("metadata") or {})
        )
    labels = np.asarray(finest)
    while labels.ndim > 2 and labels.shape[0] == 1:
        labels = labels[0]
    if labels.ndim != 2:
        raise BadImageError(
            f"The layer {attributes.get('name', '')!r} has the shape {labels.shape}; one plane "
            "(H, W) can be written. Take the plane out into a layer of its own."
        )
    return labels


def _instead(metadata: dict[str, Any]) -> str:
    """How labels of a slide are written."""
    store = metadata.get("store")
    if store is None:
        return (
            "Write it piece by piece: press Export in the dock that made it; or crop the layer to "
            f"at most {LARGEST_SIDE_PX:,} × {LARGEST_SIDE_PX:,} pixels."
        )
    return f"Write it piece by piece: `{export_command(metadata)}` (or .ome.tif, .csv)."


def export_command(metadata: dict[str, Any]) -> str:
    """The command that writes the label pyramid of a layer."""
    from napari_pathsam.workspace.scripting import quoted

    which = "objects" if metadata.get("label_kind") == "instances" else "classes"
    words = ["pathsam", "export", str(metadata["store"]), "--labels", which]
    return quoted([*words, "--out", "FILE.geojson"])


def _is_class_map(attributes: dict[str, Any]) -> bool:
    metadata = attributes.get("metadata") or {}
    return (metadata.get("label_kind") or metadata.get(OWN)) == "classes"


def _classes(attributes: dict[str, Any]) -> tuple[ClassTable, dict[int, int]]:
    """The classes a layer's features name, and the class of each label."""
    metadata = attributes.get("metadata") or {}
    table = metadata.get("classes")
    table = table if isinstance(table, ClassTable) else ClassTable()
    class_of: dict[int, int] = {}
    for label, name in _named(attributes):
        if name in table.names:
            class_of[label] = table.id_of(name)
            continue
        free = label not in {info.id for info in table} and 1 <= label <= 254
        if _is_class_map(attributes) and free:  # there the label is the class's id
            color = _color(attributes, label) or PALETTE[(label - 1) % len(PALETTE)]
            info = ClassInfo(id=label, name=name, color=color)
            table = ClassTable(classes=tuple(sorted((*table, info), key=lambda c: c.id)))
        else:
            table = table.with_class(name, _color(attributes, label))
        class_of[label] = table.id_of(name)
    return table, class_of


def _named(attributes: dict[str, Any]) -> list[tuple[int, str]]:
    features = attributes.get("features")
    columns = getattr(features, "columns", features if features is not None else ())
    if features is None or not {"index", "class"} <= set(columns):
        return []
    pairs = zip(features["index"], features["class"], strict=True)
    named = ((int(label), str(name).strip()) for label, name in pairs)
    return [(label, name) for label, name in named if label and name]


def _color(attributes: dict[str, Any], label: int) -> str | None:
    """The colour a layer shows a label in; None when it is hidden."""
    colormap: Any = attributes.get("colormap")
    if not hasattr(colormap, "map"):
        return None
    red, green, blue, alpha = np.ravel(colormap.map(np.array([label])))[:4]
    if alpha == 0:
        return None
    return "#" + bytes(round(float(c) * 255) for c in (red, green, blue)).hex()


def _mpp(attributes: dict[str, Any]) -> float | None:
    """Pixel size in µm, when the layer's units say so."""
    try:
        factor = [float(unit.to_base_units().magnitude) * 1e6 for unit in _quantities(attributes)]
        scale = attributes["scale"]
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    sizes = [float(s) * f for s, f in zip(scale, factor, strict=False)][-2:]
    return float(np.mean(sizes)) if len(sizes) == 2 else None


def _quantities(attributes: dict[str, Any]) -> list[Any]:
    units = [1 * unit for unit in attributes["units"]]
    if not all(unit.check("[length]") for unit in units):
        raise ValueError("not lengths")
    return units
