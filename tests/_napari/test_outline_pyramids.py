"""Outlines of a slide as layers: their classes, progress, a stop, and what is kept on the disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

napari = pytest.importorskip("napari")

from napari.layers import Labels  # noqa: E402
from napari.utils import cancelable_progress  # noqa: E402

from napari_pathsam._napari import outline_pyramids as module  # noqa: E402
from napari_pathsam._napari import writer  # noqa: E402
from napari_pathsam._napari.finetune_labels import class_names_of_objects  # noqa: E402
from napari_pathsam._napari.outline_pyramids import outline_pyramids  # noqa: E402
from napari_pathsam._napari.segment_pyramids import PyramidLayers  # noqa: E402
from napari_pathsam.core.areas import area_table  # noqa: E402
from napari_pathsam.core.classes import ClassTable  # noqa: E402
from napari_pathsam.core.errors import BadFileError, BadImageError  # noqa: E402
from napari_pathsam.core.geometry import Region  # noqa: E402
from napari_pathsam.io import _ngff_metadata, store_geojson  # noqa: E402
from napari_pathsam.io.annotations import read_geojson, write_geojson  # noqa: E402
from napari_pathsam.io.label_store import LabelStore  # noqa: E402
from napari_pathsam.io.object_classes import tell_class_of  # noqa: E402
from napari_pathsam.workspace.segment_slide import SlideResult  # noqa: E402

CLASS_OF = {1: 2, 2: 1, 4: 2}


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_geojson, "BIN_PX", 32)
    monkeypatch.setattr(_ngff_metadata, "COARSEST_PX", 32)


@pytest.fixture
def labels() -> np.ndarray:
    """Four objects, one without a class."""
    out = np.zeros((70, 90), np.int32)
    for i, (y, x) in enumerate(((5, 5), (5, 50), (40, 5), (40, 50)), start=1):
        out[y : y + 20, x : x + 30] = i
    return out


@pytest.fixture
def outlines(labels: np.ndarray, class_table: ClassTable, tmp_path: Path) -> Path:
    path = tmp_path / "slide 1.geojson"
    write_geojson(path, labels, class_of=CLASS_OF, classes=class_table)
    return path


def folder_of(layers: list[Any]) -> Path:
    return Path(layers[-1][1]["metadata"]["store"])


def test_objects_keep_their_classes(
    outlines: Path, labels: np.ndarray, class_table: ClassTable, tmp_path: Path
) -> None:
    (*_, classes), (levels, options, kind) = outline_pyramids(outlines, labels.shape, {})
    assert classes == kind == "labels"
    layer = Labels(levels, **options)
    names = dict(zip(class_table.names, range(1, 9), strict=False))
    told = class_names_of_objects(layer)
    assert told is not None
    assert {i: names[name] for i, name in told.items() if name} == CLASS_OF
    writer.write_geojson(str(tmp_path / "again.geojson"), *layer.as_layer_data_tuple()[:2])
    for found, wanted in zip(
        read_geojson(tmp_path / "again.geojson", labels.shape),
        read_geojson(outlines, labels.shape),
        strict=True,
    ):
        np.testing.assert_array_equal(found, wanted)


def test_objects_of_segment_are_written_with_the_classes_of_the_map(
    labels: np.ndarray, class_table: ClassTable, tmp_path: Path
) -> None:
    class_map = np.zeros(labels.shape, np.uint8)
    for label, class_id in CLASS_OF.items():
        class_map[labels == label] = class_id
    ids = labels * (class_map > 0)
    stores = {}
    for name, array in (("classes", class_map), ("objects", ids.astype(np.int32))):
        stores[name] = LabelStore.create(
            tmp_path / "a run.zarr", labels.shape, name=name, dtype=array.dtype,
            classes=class_table, chunk_px=16,
        )  # fmt: skip
        stores[name].write(Region.of(labels.shape), array)
    tell_class_of(stores["objects"], class_table, CLASS_OF)
    result = SlideResult(
        request=cast(Any, None), title="a run", classes=class_table, at_mpp=0.5,
        run=cast(Any, SimpleNamespace(stores=stores)),
        table=area_table(class_map, class_table, labels=ids),
    )  # fmt: skip
    layer = PyramidLayers(cast(Any, None)).objects(result, name="objects")
    data, attributes, _ = layer.as_layer_data_tuple()
    writer.write_geojson(str(tmp_path / "o.geojson"), data, attributes)
    instances, found, _ = read_geojson(tmp_path / "o.geojson", labels.shape)
    np.testing.assert_array_equal(instances, ids)
    np.testing.assert_array_equal(found, class_map)
    large: Any = [np.broadcast_to(np.int32(1), (80_000, 100_000))]
    says = r"pathsam export .*a run\.zarr['\"] --labels objects --out FILE\.geojson"
    with pytest.raises(BadImageError, match=says):
        writer.write_geojson("x", large, attributes)
    with pytest.raises(BadImageError, match="press Export in the dock") as told:
        writer.write_geojson("x", large, {"multiscale": True, "name": "mine"})
    assert "pathsam export" not in str(told.value)


def test_it_says_how_far_it_is_and_can_be_stopped(
    outlines: Path, labels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[float, float | None]] = []
    stop = [True]

    class Bar(cancelable_progress):
        def update(self, n: int = 1) -> None:
            super().update(n)
            told.append((self.n, self.total))
            with pytest.raises(BadFileError, match="being opened already"):
                outline_pyramids(outlines, labels.shape, {})
            if stop[0]:
                self.cancel()

    monkeypatch.setattr("napari.utils.cancelable_progress", Bar)
    assert outline_pyramids(outlines, labels.shape, {}) == [(None,)]
    place = module._place(outlines, labels.shape)
    assert len(told) == 1
    assert not list(place.parent.iterdir())
    stop[0] = False
    assert len(outline_pyramids(outlines, labels.shape, {})) == 2
    assert told[-1][0] == told[-1][1] > 1
    n = len(told)
    assert len(outline_pyramids(outlines, labels.shape, {})) == 2
    assert len(told) == n  # there at once


def test_old_outlines_are_removed(outlines: Path, labels: np.ndarray) -> None:
    first = folder_of(outline_pyramids(outlines, labels.shape, {}))
    other = first.with_name("other-1-1.zarr")
    left = first.with_name(".slide.zarr.abc.part")
    outlines.write_text(json.dumps(json.loads(outlines.read_text()), indent=1))
    for days, gone in ((0, set()), (2, {first, left}), (31, {first, left, other})):
        for path in (first, other, left):
            path.mkdir(exist_ok=True)
            os.utime(path, (time.time() - days * module.DAY_S,) * 2)
        module._opened.clear()  # as if the program had been started anew
        second = folder_of(outline_pyramids(outlines, labels.shape, {}))
        assert second != first
        there = {path for path in first.parent.iterdir() if path.suffix != ".lock"}
        assert there == {first, other, left, second} - gone


SHOWS = """
import sys
from pathlib import Path
from napari_pathsam.io._in_use import InUse
shown = InUse(Path(sys.argv[1]))
print(flush=True)
input()
"""


def test_outlines_that_another_program_shows_are_not_removed(
    outlines: Path, labels: np.ndarray
) -> None:
    first = folder_of(outline_pyramids(outlines, labels.shape, {}))
    outlines.write_text(json.dumps(json.loads(outlines.read_text()), indent=1))
    os.utime(first, (0, 0))
    outline_pyramids(outlines, labels.shape, {})
    assert first.exists()  # this one shows it
    module._opened.clear()
    with subprocess.Popen(
        [sys.executable, "-c", SHOWS, first], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        outline_pyramids(outlines, labels.shape, {})
        assert first.exists()
        child.kill()
    outline_pyramids(outlines, labels.shape, {})
    assert not list(first.parent.glob(f"*{first.name}*"))


def test_a_folder_that_cannot_be_made_is_a_readable_error(
    outlines: Path, labels: np.ndarray
) -> None:
    folder = module._place(outlines, labels.shape).parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("in the way")
    with pytest.raises(BadFileError, match="could not be written"):
        outline_pyramids(outlines, labels.shape, {})
