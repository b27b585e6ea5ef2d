"""No seams: on a mosaic of the packaged images the window grid does not show."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from napari_pathsam.inference.seams import (
    SeamCounts,
    count_seams,
    cut_objects,
    seam_score,
    seam_text,
)
from napari_pathsam.models.catalogue import load_model
from napari_pathsam.models.pathsam import PathSam

SIDE = 512


@pytest.mark.slow
def test_shifting_the_windows_changes_next_to_nothing(
    project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In windows half as wide as usual, which see half as far: the worse for seams."""
    monkeypatch.syspath_prepend(str(project_root / "benchmarks"))
    monkeypatch.setattr(PathSam, "tile_px", 256)
    try:
        import seams

        model = load_model("pathsam-nano:glands", "cpu")
        pixels = seams.mosaic(seams.packaged(), SIDE, 1.0)
        blended, _ = seams.compared(model, pixels, 0.5)
        beside, _ = seams.compared(model, pixels, 0.0)
    finally:
        sys.modules.pop("seams", None)
    assert blended["objects"] > 20
    assert blended["changed"] <= 0.02
    assert blended["changed"] <= beside["changed"] / 4  # a sixth and less in windows of full size
    assert blended["cut"] == 0
    assert blended["seam score"] < beside["seam score"]


def test_what_is_cut() -> None:
    """An object that a window cuts, one that only happens to be straight there, one that is not."""
    found = np.zeros((100, 100), np.uint8)
    found[10:50, 10:40] = found[20:50, 60:90] = found[60:90, 10:90] = 1
    other = found.copy()
    other[10:60, 10:40] = 1
    assert cut_objects(found, [50], [], other=other) == (1, 3)
    assert cut_objects(found, [50], []) == (2, 3)
    assert cut_objects(found, [30, 75], [25]) == (0, 3)
    at_50 = count_seams(found, [50], [])
    assert at_50.score > 5
    assert (at_50 + SeamCounts()).score == SeamCounts.total([at_50]).score
    assert count_seams(found, [30], []).score == 0


def test_a_score_says_how_sure_it_is(rng: np.random.Generator) -> None:
    """As uncertain as scores of blocks drawn anew differ; of one block nobody knows."""

    def blocks() -> list[SeamCounts]:
        at_ends, beside = rng.poisson(rng.gamma(2, 10, (2, 40)) * [[1.2], [5]])
        return [
            SeamCounts(int(a), 1000, int(b), 5000) for a, b in zip(at_ends, beside, strict=True)
        ]

    found = np.array([seam_score(blocks()) for _ in range(300)])
    assert abs(found[:, 0].mean() - 1.2) < 0.05
    assert abs(found[:, 1].mean() / found[:, 0].std() - 1) < 0.25
    assert "±" in seam_text(blocks())
    assert "±" not in seam_text(blocks()[:1])
    assert "Seam score" in seam_text(blocks()[:1])
    assert not seam_text([])
