"""A model that ``pathsam train`` made, taken into the Segment dock and used there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from napari_pathsam.cli import main
from napari_pathsam.io.images import read_labels, write_labels

from .conftest import GLANDS, tissue  # noqa: TID252
from .test_segment import MICRONS, done  # noqa: TID252

pytestmark = [pytest.mark.gui, pytest.mark.slow]

SIDE = 256


def glands() -> np.ndarray:
    """``(512, 512)`` of the made-up field: 1 inside its four glands."""
    yy, xx = np.indices((512, 512))
    near = np.zeros((512, 512), bool)
    for cy, cx in GLANDS:
        angle = np.arctan2(yy - cy, xx - cx)
        near |= np.hypot(yy - cy, xx - cx) / (1 + 0.12 * np.cos(3 * angle)) < 62
    return near.astype(np.uint8)


def command(*arguments: object) -> None:
    with pytest.raises(SystemExit) as left:
        main([str(a) for a in arguments])
    assert not left.value.code


def test_trained_by_the_command_used_in_the_dock(segment_of, tmp_path: Path) -> None:
    labels = glands()
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for n, (y, x) in enumerate(((0, 0), (0, 256), (256, 0), (256, 256))):
        at = np.s_[y : y + SIDE, x : x + SIDE]
        Image.fromarray(tissue(n)[at]).save(tmp_path / "images" / f"{n}.png")
        write_labels(tmp_path / "labels" / f"{n}.png", labels[at])
    (tmp_path / "classes.csv").write_text("id,name,color\n1,gland,#ff8800\n")
    model = tmp_path / "my glands.safetensors"
    command("train", "--images", tmp_path / "images", "--labels", tmp_path / "labels",
            "--classes", tmp_path / "classes.csv", "--mpp", 0.5, "--preset", "quick",
            "--tissue", "made up", "--stain", "pink",
            "--device", "cpu", "--out", model)  # fmt: skip

    unseen = tissue(9)
    viewer, dock, hands = segment_of(unseen, model=None, **MICRONS)
    dock.view.heads.file_chosen.emit(str(model))
    hands.until(lambda: dock.view.heads.value() is not None)
    head = dock.view.heads.value()
    assert (head.title, head.tissue, head.mpp_range) == ("my glands", "made up", (0.25, 0.75))
    dock.view.extent.set_value("whole")
    dock.view.run_button.click()
    done(dock, hands)
    assert not dock.view.error_bar.text()
    (layer,) = [x for x in viewer.layers if x.metadata.get("napari-pathsam") == "segmentation"]
    found = np.asarray(layer.data)
    inside = ndimage.binary_fill_holes(labels)
    assert (found == inside).mean() > 0.93
    hands.screenshot("60-segment-trained")

    Image.fromarray(unseen).save(tmp_path / "unseen.png")
    command("segment", tmp_path / "unseen.png", "--model", model, "--mpp", 0.5,
            "--device", "cpu", "--out", tmp_path / "o.png")  # fmt: skip
    np.testing.assert_array_equal(read_labels(tmp_path / "o.png"), found)
    # At another pixel size the dock says what the model learned from.
    dock.view.pixel_size._spin.setValue(1.2)  # as typed
    hands.until(lambda: "at home from 0.25 to 0.75" in dock.view.mpp_bar.text())
