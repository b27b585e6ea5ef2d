"""Outlines that reach over more than a labels layer holds: a label pyramid, shown at any zoom."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from platformdirs import user_data_dir

from napari_pathsam._napari.label_colors import class_colormap
from napari_pathsam._napari.store_levels import levels_of
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.store_geojson import CLASSES, OBJECTS, read_store_geojson


def outline_pyramids(
    path: Path, shape_yx: tuple[int, int], frame: dict[str, Any]
) -> list[tuple[Any, dict[str, Any], str]]:
    """Read-only layers of classes, where there are any, and objects, as napari's readers give them.

    The pyramid is painted once and kept in the user's data folder; of the same file it is there
    at once.

    Raises
    ------
    BadFileError
        The file is no GeoJSON, or the disk does not let us.
    """
    out = _place(path, shape_yx)
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        for _ in read_store_geojson(path, out, shape_yx=shape_yx):
            pass
    name, layers = path.name.split(".")[0], []
    for kind, opacity in ((CLASSES, 0.4), (OBJECTS, 0.7)):
        store = LabelStore.open(out, kind)
        if kind == CLASSES and not len(store.classes or ()):
            continue
        about = {
            "path": str(path.resolve()), "store": str(out), "classes": store.classes,
            "label_kind": "classes" if kind == CLASSES else "instances",
        }  # fmt: skip
        options: dict[str, Any] = {
            "name": f"{name}: {kind}", "opacity": opacity, "multiscale": True, "cache": False,
            "metadata": about, **frame,
        }  # fmt: skip
        if kind == CLASSES and store.classes is not None:
            options["colormap"] = class_colormap({info.id: info.color for info in store.classes})
            options["features"] = {
                "index": [0, *(info.id for info in store.classes)],
                "class": ["background", *store.classes.names],
            }
        layers.append((levels_of(store), options, "labels"))
    return layers


def _place(path: Path, shape_yx: tuple[int, int]) -> Path:
    stat = path.stat()
    told = (str(path.resolve()), stat.st_mtime_ns, stat.st_size, shape_yx)
    digest = sha256(repr(told).encode()).hexdigest()[:12]
    stem = path.name.split(".")[0][:40]
    return Path(user_data_dir("napari-pathsam")) / "outlines" / f"{stem}-{digest}.zarr"
