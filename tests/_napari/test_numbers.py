"""Numbers in the narrow columns of our docks."""

from __future__ import annotations

import pytest

pytest.importorskip("napari")

from napari_pathsam._napari.segment_table import density_text, mm2_text
from napari_pathsam._napari.tables import short


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"), (9876, "9 876"), (10_000, "10 k"), (57_600, "57.6 k"), (213_900, "214 k"),
        (999_999, "1000 k"), (6_039_000, "6.04 M"), (8.1e9, "8.1 G"),
    ],
)  # fmt: skip
def test_large_numbers_are_short(number: float, text: str) -> None:
    assert short(number) == text.replace(" ", "\u2009")


@pytest.mark.parametrize(
    ("area", "text"),
    [(0, "0"), (1.3e-5, "≈0"), (0.00031, "0.0003"), (0.0033, "0.0033"), (12.34, "12"),
     (1234.5, "1234")],
)  # fmt: skip
def test_areas_fit_their_column(area: float, text: str) -> None:
    assert mm2_text(area) == text


@pytest.mark.parametrize(
    ("density", "text"),
    [(0, "0"), (0.0432, "0.043"), (3.14, "3.1"), (278.4, "278"), (5123, "5 123"),
     (12_345, "12.3 k")],
)  # fmt: skip
def test_densities_fit_their_column(density: float, text: str) -> None:
    assert density_text(density) == text
