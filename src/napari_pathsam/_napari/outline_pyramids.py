"""Outlines that reach over more than a labels layer holds: a label pyramid, shown at any zoom."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from platformdirs import user_data_dir

from napari_pathsam._napari.label_colors import class_colormap
from napari_pathsam._napari.store_levels import levels_of
from napari_pathsam.core.errors import BadFileError
from napari_pathsam.io._in_use import InUse, in_use
from napari_pathsam.io._ngff_container import writing
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.object_classes import OBJECTS, class_of_objects
from napari_pathsam.io.store_geojson import CLASSES, read_store_geojson

DAY_S = 24 * 3600.0
KEPT_DAYS = 30
"""What was not opened for so long is removed; what a file held before it changed, after one day."""

_underway: set[Path] = set()
_opened: dict[Path, InUse] = {}


def outline_pyramids(path: Path, shape_yx: tuple[int, int], frame: dict[str, Any]) -> list[Any]:
    """Read-only layers of classes, where there are any, and objects, as napari's readers give them.

    The pyramid is painted once and kept in the user's data folder; of the same file it is there
    at once. While it is painted napari's progress bar shows how far it is, and stops it: then
    there is no layer.

    Raises
    ------
    BadFileError
        The file is no GeoJSON or is being opened already, or the disk does not let us.
    """
    out = _place(path, shape_yx)
    if out in _underway:
        raise BadFileError(f"{path.name} is being opened already: see “activity” at the bottom.")
    if not out.exists():
        with writing(out.parent):
            out.parent.mkdir(parents=True, exist_ok=True)
        _underway.add(out)
        try:
            if not _painted(path, out, shape_yx):
                return [(None,)]  # napari's word for: read, and no layer
        finally:
            _underway.discard(out)
    with suppress(OSError):
        os.utime(out)  # opened now
        _opened[out] = _opened.get(out) or InUse(out)
    _tidy(out)
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
        names = {info.id: info.name for info in store.classes or ()}
        if kind == CLASSES and store.classes is not None:
            options["colormap"] = class_colormap({info.id: info.color for info in store.classes})
            options["features"] = {"index": [0, *names], "class": ["background", *names.values()]}
        elif (class_of := class_of_objects(out)) is not None:
            options["features"] = {
                "index": list(class_of), "class": [names.get(c, "") for c in class_of.values()]
            }  # fmt: skip
        layers.append((levels_of(store), options, "labels"))
    return layers


def _painted(path: Path, out: Path, shape_yx: tuple[int, int]) -> bool:
    """Paint with a progress bar, which lets the window draw itself; False: it was stopped."""
    from napari.utils import cancelable_progress

    with (
        cancelable_progress(desc=f"Reading {path.name}") as bar,
        closing(read_store_geojson(path, out, shape_yx=shape_yx)) as steps,
    ):
        for done, total in steps:
            if total and bar.total != total:
                bar.set_description(f"Painting {path.name}")
                bar.total = total
                bar.n = 0
            bar.update(done - bar.n)
            if bar.is_canceled:
                return False
    return True


def _place(path: Path, shape_yx: tuple[int, int]) -> Path:
    stat = path.stat()
    stem = path.name.split(".")[0][:40]
    version = _digest((stat.st_mtime_ns, stat.st_size, shape_yx, "with the objects' classes"))
    name = f"{stem}-{_digest(str(path.resolve()))}-{version}.zarr"
    return Path(user_data_dir("napari-pathsam")) / "outlines" / name


def _digest(told: Any) -> str:
    return sha256(repr(told).encode()).hexdigest()[:10]


def _tidy(out: Path) -> None:
    """Remove pyramids that nobody opens any more, and what killed readers left.

    Not what a program that still runs has opened: a layer may show it.
    """
    same_file = out.name.rpartition("-")[0] + "-"
    for old in out.parent.iterdir():
        if old.suffix == ".lock":
            continue  # goes with its folder
        short = old.name.startswith((same_file, "."))
        with suppress(OSError):  # another program has it open
            age_s = time.time() - old.stat().st_mtime
            if age_s > DAY_S * (1 if short else KEPT_DAYS) and not in_use(old):
                gone = old.with_name(f".{old.name.strip('.')}.gone")  # at once, or not at all
                old.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)
