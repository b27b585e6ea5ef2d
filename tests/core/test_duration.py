"""Durations in words."""

from __future__ import annotations

import pytest

from napari_pathsam.core.duration import duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "1 s"), (8.4, "8 s"), (89, "89 s"), (90, "2 min"), (3599, "60 min"), (9000, "2.5 h")],
)
def test_duration(seconds: float, said: str) -> None:
    assert duration(seconds) == said
