"""Areas: counted by hand, in px and mm², with objects given or found."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from napari_pathsam.core.areas import area_table, to_csv
from napari_pathsam.core.classes import ClassTable


@pytest.fixture
def class_map() -> np.ndarray:
    """Two glands (6 and 2 px), one of them touching stroma (3 px), 1 px unsure; 4 × 5."""
    return np.array(
        [[1, 1, 1, 0, 0], [1, 1, 1, 2, 0], [0, 0, 0, 2, 2], [1, 1, 0, 0, 255]], np.uint8
    )


def test_counted_by_hand(class_map: np.ndarray, class_table: ClassTable) -> None:
    table = area_table(class_map, class_table, mpp=500.0, name="a.png")
    gland = table[1]
    assert (gland.px, gland.mm2, gland.share) == (8, 2.0, 0.4)
    assert (gland.objects, gland.mean_px, gland.median_px, gland.total_px) == (2, 4.0, 4.0, 8)
    assert gland.mean_um2 == 4 * 250_000
    assert (table[2].objects, table[2].px) == (1, 3)
    assert (table[0].px, table[0].objects) == (8, None)
    assert table[255].px == 1
    assert sum(row.px for row in table.rows) == class_map.size
    assert area_table(class_map, class_table)[1].mm2 is None


def test_objects_that_were_told_apart(class_map: np.ndarray, class_table: ClassTable) -> None:
    labels = np.zeros(class_map.shape, np.int32)
    labels[:2, 0], labels[:2, 1:3], labels[3, :2], labels[1:3, 3:] = 7, 900, 3, 4
    table = area_table(class_map, class_table, labels=labels)
    assert (table[1].objects, table[1].median_px, table[1].total_px) == (3, 2.0, 8)
    assert (table[2].objects, table[2].total_px) == (1, 4)


def test_a_class_that_is_not_there(class_table: ClassTable) -> None:
    table = area_table(np.zeros((3, 3), np.uint8), class_table)
    assert [(r.px, r.objects, r.mean_px) for r in table.rows[1:]] == [(0, 0, None)] * 2
    assert [r.name for r in table.rows] == ["background", "gland", "stroma"]


def test_densities_are_per_mm2_of_tissue(class_map: np.ndarray, class_table: ClassTable) -> None:
    table = area_table(class_map, class_table, mpp=500.0, tissue_mm2=4.0)
    assert table.tissue_mm2 == 4
    assert (table[1].objects_per_mm2, table[1].share_of_tissue) == (0.5, 0.5)
    assert (table[0].objects_per_mm2, table[0].share_of_tissue) == (None, None)
    assert (table[255].objects_per_mm2, table[255].share_of_tissue) == (None, 0.25 / 4)
    for unknown in ({"mpp": 500.0}, {"tissue_mm2": 4.0}, {"mpp": 500.0, "tissue_mm2": 0.0}):
        row = area_table(class_map, class_table, **unknown)[1]
        assert (row.objects_per_mm2, row.share_of_tissue) == (None, None)
    (gland,) = (r for r in csv.DictReader(io.StringIO(to_csv([table]))) if r["class"] == "gland")
    assert gland["objects_per_mm2_of_tissue"] == gland["share_of_tissue"] == "0.5"
    assert gland["tissue_mm2"] == "4"


def test_no_class_fills_more_than_the_tissue(
    class_map: np.ndarray, class_table: ClassTable
) -> None:
    """Tissue was missed then, or the class is none of tissue: nothing is to be related to it."""
    px = int((class_map == 1).sum())
    row = area_table(class_map, class_table, mpp=500.0, tissue_mm2=px / 4 / 1.04)[1]
    assert row.share_of_tissue == 1
    assert row.objects_per_mm2 == pytest.approx(2 * 1.04 * 4 / px)
    row = area_table(class_map, class_table, mpp=500.0, tissue_mm2=px / 4 / 2.41)[1]
    assert (row.objects_per_mm2, row.share_of_tissue) == (None, None)


def test_csv_of_several_images(class_map: np.ndarray, class_table: ClassTable) -> None:
    tables = [
        area_table(class_map, class_table, mpp=0.5, name="a, b.png"),
        area_table(class_map[:2], class_table, name="c.png"),
    ]
    rows = list(csv.DictReader(io.StringIO(to_csv(tables))))
    assert [r["image"] for r in rows] == ["a, b.png"] * 4 + ["c.png"] * 3
    assert float(rows[1]["mm2"]) == pytest.approx(8 * 0.25 / 1e6)
    assert (rows[1]["class"], rows[1]["objects"], rows[0]["objects"]) == ("gland", "2", "")
    assert rows[-1]["mm2"] == ""
