"""Task-specific networks by the commands alone: from folders of images to objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_pathsam.cli import main
from napari_pathsam.io.images import read_labels
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.models.model_file import read_card
from napari_pathsam.training.class_data import TrainingImage

Discs = Callable[..., list[TrainingImage]]


@pytest.mark.slow
def test_from_folders_to_objects(tmp_path: Path, discs: Discs, capsys, monkeypatch) -> None:
    """``pathsam train --base``, then ``segment``: of a U-Net, and of a Mask R-CNN."""
    monkeypatch.setenv("NAPARI_PATHSAM_CACHE", str(tmp_path / "cache"))
    for name in ("i", "l"):
        (tmp_path / name).mkdir()
    for n, one in enumerate(discs(3)):
        Image.fromarray(one.image).save(tmp_path / "i" / f"{n}.png")
        Image.fromarray((one.target == 1).astype(np.uint8)).save(tmp_path / "l" / f"{n}.png")

    def run(*arguments: object) -> int:
        with pytest.raises(SystemExit) as left:
            main([str(a) for a in arguments])
        assert "Traceback" not in capsys.readouterr().err
        return int(left.value.code or 0)

    for base, tile_px, network in (
        ("unet", 64, "width = 4\nlevels = 3"),
        (  # the whole image at once: each tile of its own has a thousand places to look at
            "mask-rcnn",
            96,
            'trunk = "resnet18"\nrois = 8\nscore = 0\nmost = 5\nanchors_px = [8, 16, 24, 32, 48]',
        ),
    ):
        (tmp_path / "recipe.toml").write_text(f"""
name = "{base}-made"
base = "{base}"
classes = ["gland"]
licence = "none"
[network]
mpp = 0.5
tile_px = {tile_px}
[network.network]
{network}
[used]
mpp = 0.6
[train]
epochs = 1
patch_px = 64
[[sources]]
images = "{tmp_path / "i"}"
labels = "{tmp_path / "l"}"
label_kind = "instances"
mpp = 0.5
""")
        out = tmp_path / f"{base}.safetensors"
        assert run("train", "--config", tmp_path / "recipe.toml", "--out", out) == 0
        card = read_card(out)
        assert (card.config.name, card.trained) == (f"{base}-made", ("network",))
        assert (card.config.mpp, card.mpp) == (0.6, 0.6)  # trained at 0.5
        assert card.config.mpp_range == (0.25, 0.75)
        assert card.provenance["split"]["n_validation"] == 1
        png = tmp_path / f"{base}.png"
        here = ["--mpp", 0.5, "--instances"]
        assert run("segment", tmp_path / "i" / "0.png", "--model", out, "--out", png, *here) == 0
        objects, classes = read_labels(png.with_stem(f"{base}_objects")), read_labels(png)
        assert objects.shape == (96, 96)
        assert ((objects > 0) <= (classes > 0)).all()
        assert run("prompt", tmp_path / "i" / "0.png", "--point", "5,5", "--model", out,
                   "--out", tmp_path / "p.png") == 1  # fmt: skip
    sure = tmp_path / "sure.zarr"
    assert run("segment", tmp_path / "i" / "0.png", "--model", out, "--out", sure,
               "--mpp", 0.5, "--uncertainty") == 0  # fmt: skip
    assert LabelStore.open(sure, "uncertainty").shape_yx == (96, 96)
    # Of a slide too large for memory Mask R-CNN's objects are its own, too.
    monkeypatch.setattr("napari_pathsam.cli.segment_slides.fits_memory", lambda *_: False)
    zarr = tmp_path / "o.zarr"
    assert run("segment", tmp_path / "i" / "0.png", "--model", out, "--out", zarr, *here) == 0
    assert LabelStore.open(zarr, "objects").about["objects"]["one by one"]
