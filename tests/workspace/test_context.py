"""A model that looks at what is round a field, in the workspace: shown it, or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_pathsam.core.geometry import Region
from napari_pathsam.models.embedding import PromptedMask
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.wsi_sam import WsiSam
from napari_pathsam.models.wsi_sam_config import wsi_profiled
from napari_pathsam.workspace import ArraySource, Workspace

SHAPE = (300, 320)


@pytest.fixture
def model(tiny_model: Sam2) -> WsiSam:
    """Fields of 64 pixels, and whatever is round them tells."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = wsi_profiled(
            "recommended", name="wsi", base="tiny", field_px=64, from_zero=False, add_sam="never"
        )
        return WsiSam(config, tiny_model).eval()


def images() -> tuple[np.ndarray, np.ndarray]:
    """Two images that are the same but far from the middle."""
    coarse = np.random.default_rng(0).integers(0, 256, (19, 20, 3), np.uint8)
    one = coarse.repeat(16, 0).repeat(16, 1)[: SHAPE[0], : SHAPE[1]]
    other = one.copy()
    other[:112], other[-112:] = 255 - other[:112], 255 - other[-112:]
    return one, other


def test_what_is_round_a_field_is_shown_unless_nobody_wants_it(
    model: WsiSam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads, answers = [], []
    decode = WsiSam.decode_prompts

    def load(name: str, device: str) -> WsiSam:
        loads.append(name)
        return model

    def decode_prompts(*args: Any, **more: Any) -> PromptedMask:
        answers.append(decode(*args, **more))
        return answers[-1]

    monkeypatch.setattr(WsiSam, "decode_prompts", decode_prompts)
    workspace = Workspace(model_loader=load, journal_dir=tmp_path)
    for context in (True, False, True):
        workspace.set_model("wsi", context=context)
        for image in images():
            workspace.open_image(ArraySource(image))
            workspace.set_view(Region(118, 128, 64, 64), 1.0)
            workspace.set_points([(150.0, 160.0)], [True])
            assert workspace.field.region == Region(118, 128, 64, 64)
            workspace.clear()
            workspace.close_image()
    assert loads == ["wsi"]  # only what it is shown changes
    one, other, alone, also_alone, again, _ = (a.low_res_logits for a in answers)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(alone, also_alone)
    np.testing.assert_array_equal(again, one)
