"""A label store ↔ QuPath's GeoJSON, of any size: a million outlines in a few hundred megabytes.

What is written and read is what :mod:`~napari_pathsam.io.annotations` writes and reads.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from array import array
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.io._features import (
    OWN_KEY,
    annotation_of,
    complete_table,
    geometry_of,
    opened_text,
    properties_of,
)
from napari_pathsam.io._files import existing_file, reading, replacing
from napari_pathsam.io._json_stream import members_of
from napari_pathsam.io._ngff_container import writing
from napari_pathsam.io._outlines import Polygon, fill_polygon
from napari_pathsam.io._store_outlines import outlined
from napari_pathsam.io.annotations import own_classes, own_mpp, own_shape
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.object_classes import OBJECTS, write_class_of

CLASSES = "classes"
TOLD_EVERY = 1000
BIN_PX = 2048
"""Side of what is painted at a time."""


def write_store_geojson(
    path: str | os.PathLike[str],
    store: LabelStore,
    kinds: LabelStore | None = None,
    *,
    objects: bool | None = None,
    areas: LabelStore | None = None,
    simplify_px: float = 0.0,
    object_type: Literal["annotation", "detection"] = "annotation",
) -> Iterator[int]:
    """Write every object of a store, or every area of a class map; yields how many there are.

    Closing the generator leaves no file.

    Parameters
    ----------
    path
        ``.geojson``, or ``.geojson.gz`` to compress.
    store, kinds
        Labels; and, of objects, the class map beside them, which says what they are.
    objects
        Whether ids are objects; None: unless they are 8-bit.
    areas
        A class map whose areas are written, too: those that are no objects.
    simplify_px
        How far an outline may leave the pixels' edges; 0 keeps it exact.
    """
    path = Path(path)
    objects = store.dtype != np.uint8 if objects is None else objects
    table = (kinds or store).classes or ClassTable()
    own: dict[str, Any] = {"version": 1, "shape_yx": list(store.shape_yx)}
    if store.mpp is not None:
        own["mpp"] = store.mpp
    n = 0
    with replacing(path) as temporary, opened_text(temporary, path) as file:
        file.write('{"type": "FeatureCollection", "features": [')
        found = ((one, objects) for one in outlined(store, kinds, objects=objects))
        more = () if areas is None else ((one, False) for one in outlined(areas, objects=False))
        for one, is_object in chain(found, more):
            class_id = one.class_id if is_object else one.value
            table = complete_table(table, {class_id} - {0})
            name = {"label": str(one.value)} if is_object else {"area": "true"}
            feature = {
                "type": "Feature",
                "geometry": geometry_of(one.polygons, (0, 0), simplify_px),
                "properties": properties_of(
                    name, table[class_id] if class_id else None, object_type
                ),
            }
            file.write((",\n" if n else "\n") + json.dumps(feature, separators=(",", ":")))
            n += 1
            if n % TOLD_EVERY == 0:
                yield n
        own["classes"] = [info.model_dump() for info in table]
        file.write(f'\n], "{OWN_KEY}": {json.dumps(own)}}}\n')
    yield n


def read_store_geojson(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    shape_yx: tuple[int, int] | None = None,
    mpp: float | None = None,
    about: dict[str, Any] | None = None,
) -> Generator[tuple[int, int], None, None]:
    """Paint the outlines of a GeoJSON file into two label stores of ``out``: objects and classes.

    Yields parts done of all, first while reading (of 0), then while painting; closing the generator
    leaves nothing. Of two outlines that overlap the later one in the file wins, as in
    :func:`~napari_pathsam.io.annotations.read_geojson`.

    Parameters
    ----------
    shape_yx, mpp
        Of the image; None: as the file says, where we wrote it.

    Raises
    ------
    BadFileError
        The file is damaged or no GeoJSON; the size is not known; ``out`` is there; the disk is full
        or does not let us.
    """
    path, out = existing_file(path, wanted="a GeoJSON file"), Path(out)
    if out.exists():
        raise BadFileError(f"{out} is there already; choose another name. Nothing was changed.")
    try:
        folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".part"))
    except OSError as error:
        raise BadFileError(f"{out} could not be written: {error.strerror or error}.") from error
    try:
        with _on_disk(out), closing(_Bins(folder / "outlines.sqlite")) as bins:
            for n in bins.fill(path, out):
                yield n, 0
            size = shape_yx or bins.shape_yx
            if size is None:
                raise BadFileError(
                    f"{path.name} does not say how large the image is that its outlines are of. "
                    "Give the slide (--like), or its height and width in pixels (--shape)."
                )
            mpp = mpp or bins.mpp
            container = folder / "labels.zarr"
            objects, kinds = (
                LabelStore.create(
                    container, size, mpp=mpp, classes=bins.classes, about=about, name=name,
                    dtype=dtype, chunk_px=BIN_PX // 2,
                )
                for name, dtype in ((OBJECTS, np.int32), (CLASSES, np.uint8))
            )  # fmt: skip
            ids = bins.ids()
            places = bins.places(size)
            bands = [
                Region(y, 0, min(4 * BIN_PX, size[0] - y), size[1])
                for y in range(0, size[0], 4 * BIN_PX)
            ]
            total = len(places) + len(bands)
            for done, at in enumerate(places, start=1):
                labels, class_map = bins.painted(at, ids)
                objects.write_base(at, labels)
                kinds.write_base(at, class_map)
                yield done, total
            for done, band in enumerate(bands, start=len(places) + 1):
                objects.update_overviews(band)
                kinds.update_overviews(band)
                yield done, total
            write_class_of(objects, *bins.class_of(ids))
        with writing(out):
            container.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _on_disk(out: Path) -> Iterator[None]:
    """Turn what SQLite says of the disk into a BadFileError."""
    try:
        yield
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        raise BadFileError(
            f"{out} could not be written: {'the disk is full' if full else error}. Free some "
            "space, there or where temporary files lie, and try again; nothing was changed."
        ) from error


class _Bins:
    """Outlines on the disk, in the order of the file, by the part of the image they lie in."""

    def __init__(self, path: Path) -> None:
        self.shape_yx: tuple[int, int] | None = None
        self.mpp: float | None = None
        self.classes = ClassTable()
        self._label, self._class, self._is_area = array("q"), array("i"), array("b")
        self._names: list[str] = [""]
        self._colors: dict[str, str | None] = {}
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
            "CREATE TABLE outline (number INTEGER PRIMARY KEY, feature INTEGER, rings BLOB);"
            "CREATE TABLE place (y INTEGER, x INTEGER, number INTEGER);"
        )

    def close(self) -> None:
        """No more is asked."""
        self._database.close()

    def fill(self, path: Path, out: Path) -> Iterator[int]:
        """Read a file that is to become ``out``; yields how many features there are."""
        own: dict[str, Any] = {}
        number = n = 0
        kind = "FeatureCollection"
        self._database.execute("BEGIN")
        with reading(path, "GeoJSON"), _on_disk(out):
            for name, value in members_of(path, "features"):
                if name == "type":
                    kind = value
                elif name == OWN_KEY and isinstance(value, dict):
                    own = value
                elif name == "features":
                    number = self._add(value, number)
                    n += 1
                    if n % TOLD_EVERY == 0:
                        yield n
        if kind != "FeatureCollection":
            raise BadFileError(
                f"{path.name}: a GeoJSON “FeatureCollection” is wanted, and this is a {kind!r}. "
                "In QuPath choose File > Export objects as GeoJSON."
            )
        self._database.execute("COMMIT")
        self._database.execute("CREATE INDEX by_place ON place (y, x, number)")
        self.shape_yx, self.mpp = own_shape(own), own_mpp(own)
        self.classes = own_classes(own, [(name, self._colors[name]) for name in self._names[1:]])

    def _add(self, feature: Any, number: int) -> int:
        item = annotation_of(feature)
        if item is None:
            return number
        at = len(self._label)
        name = item.class_name or ""
        if name not in self._colors:
            self._colors[name] = item.color
            if name:
                self._names.append(name)
        self._label.append(item.label or 0)
        self._class.append(self._names.index(name))
        self._is_area.append(item.area)
        for polygon in item.polygons:
            number += 1
            self._database.execute(
                "INSERT INTO outline VALUES (?, ?, ?)", (number, at, _packed(polygon))
            )
            (x0, y0), (x1, y1) = polygon[0].min(axis=0), polygon[0].max(axis=0)
            self._database.executemany(
                "INSERT INTO place VALUES (?, ?, ?)",
                (
                    (y, x, number)
                    for y in range(int(max(y0, 0) // BIN_PX), int(max(y1, 0) // BIN_PX) + 1)
                    for x in range(int(max(x0, 0) // BIN_PX), int(max(x1, 0) // BIN_PX) + 1)
                ),
            )
        return number

    def ids(self) -> NDArray[np.int64]:
        """Of each feature: labels that are given and used once; the others are counted on."""
        labels = np.array(self._label, np.int64)
        _, at, counts = np.unique(labels, return_inverse=True, return_counts=True)
        once = (counts[at] == 1) & (labels > 0)
        first = int(labels[once].max(initial=0)) + 1
        labels[~once] = np.arange(first, first + int((~once).sum()))
        return labels

    def class_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ids of objects, and of their classes, ``(2, n)``."""
        classes = self._class_ids()[np.array(self._class, np.int64)]
        return np.stack([ids, classes])[:, np.array(self._is_area, np.int8) == 0]

    def _class_ids(self) -> NDArray[np.int64]:
        return np.array([self.classes.id_of(name) if name else 0 for name in self._names])

    def places(self, shape_yx: tuple[int, int]) -> list[Region]:
        """The parts of the image that hold anything."""
        rows = self._database.execute("SELECT DISTINCT y, x FROM place ORDER BY y, x")
        whole = Region.of(shape_yx)
        bins = (Region(y * BIN_PX, x * BIN_PX, BIN_PX, BIN_PX) for y, x in rows.fetchall())
        return [part for one in bins if (part := one.intersection(whole)) is not None]

    def painted(
        self, at: Region, ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Objects and classes of one part."""
        labels = np.zeros(at.shape_yx, np.int32)
        class_map = np.zeros(at.shape_yx, np.uint8)
        class_ids = self._class_ids()
        corner = np.array([at.x, at.y])
        for feature, blob in self._database.execute(
            "SELECT feature, rings FROM place JOIN outline USING (number) "
            "WHERE y = ? AND x = ? ORDER BY number",
            (at.y // BIN_PX, at.x // BIN_PX),
        ):
            filled = fill_polygon([ring - corner for ring in _unpacked(blob)], at.shape_yx)
            if filled is None:
                continue
            where, inside = filled
            if not self._is_area[feature]:
                labels[where][inside] = ids[feature]
            class_map[where][inside] = class_ids[self._class[feature]]
        return labels, class_map


def _packed(polygon: Polygon) -> bytes:
    """Number of rings, their lengths, their corners."""
    head = np.array([len(polygon), *(len(ring) for ring in polygon)], np.int64)
    return head.tobytes() + np.concatenate(polygon).astype(np.float64).tobytes()


def _unpacked(blob: bytes) -> Sequence[NDArray[np.float64]]:
    n = int(np.frombuffer(blob, np.int64, 1)[0])
    lengths = np.frombuffer(blob, np.int64, n, 8)
    corners = np.frombuffer(blob, np.float64, -1, 8 * (n + 1)).reshape(-1, 2)
    return np.split(corners, np.cumsum(lengths)[:-1])
