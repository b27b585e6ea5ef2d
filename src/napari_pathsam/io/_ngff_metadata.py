"""What OME-Zarr (NGFF 0.5) says of a pyramid and of labels: levels, axes, names and colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from napari_pathsam.core.classes import PALETTE, ClassInfo, ClassTable

VERSION = "0.5"
CHUNK_PX = 1024
COARSEST_PX = 512
"""Levels are added, each half the size, until the longer side is no more than this."""

MICROMETER = "micrometer"


def halving_shapes(shape_yx: Sequence[int]) -> list[tuple[int, int]]:
    """The shapes of a pyramid: half the size each, rounded down, no side below one."""
    shapes = [(int(shape_yx[0]), int(shape_yx[1]))]
    while max(shapes[-1]) > COARSEST_PX and min(shapes[-1]) > 1:
        shapes.append((shapes[-1][0] // 2, shapes[-1][1] // 2))
    return shapes


def space_axes(mpp: float | None) -> list[dict[str, str]]:
    """Rows and columns, in µm where the pixel size is known."""
    unit = {} if mpp is None else {"unit": MICROMETER}
    return [{"name": name, "type": "space", **unit} for name in "yx"]


def multiscale(
    name: str, axes: list[dict[str, str]], shapes: Sequence[tuple[int, int]], mpp: float | None
) -> dict[str, Any]:
    """Where levels ``0``, ``1``, … lie; axes before rows and columns have the scale 1."""
    datasets = []
    for level, shape in enumerate(shapes):
        scale = [(mpp or 1.0) * whole / n for whole, n in zip(shapes[0], shape, strict=True)]
        transform = {"type": "scale", "scale": [1.0] * (len(axes) - 2) + scale}
        datasets.append({"path": str(level), "coordinateTransformations": [transform]})
    return {"name": name, "axes": axes, "datasets": datasets}


def image_label(
    classes: ClassTable, class_of: Mapping[int, int] | None, *, objects: bool
) -> dict[str, Any]:
    """Names and colours of labels; objects are named after their class, where that is known."""
    known = {info.id: info for info in classes}
    named = dict(class_of or {}) if objects else {i: i for i in known}
    shown = [(label, known[i]) for label, i in sorted(named.items()) if i in known]
    return {
        "version": VERSION,
        "colors": [
            {"label-value": label, "rgba": [*bytes.fromhex(info.color[1:]), 255]}
            for label, info in shown
        ],
        "properties": [
            {"label-value": label, "name": info.name, "class_id": info.id} for label, info in shown
        ],
        "source": {"image": "../../"},
    }


def classes_of_label(described: Any) -> ClassTable | None:
    """The classes an ``image-label`` of another program speaks of; None: of none we can use."""
    try:
        names = {int(p["label-value"]): p.get("name") for p in described.get("properties") or ()}
        colors = {int(c["label-value"]): c["rgba"] for c in described.get("colors") or ()}
        found = [
            ClassInfo(
                id=i,
                name=str(names.get(i) or f"class {i}"),
                color="#" + bytes(colors[i][:3]).hex()
                if i in colors
                else PALETTE[i % len(PALETTE)],
            )
            for i in sorted((names.keys() | colors.keys()) - {0})
        ]
        return ClassTable(classes=tuple(found)) if found else None
    except (AttributeError, KeyError, TypeError, ValueError, ValidationError):
        return None
