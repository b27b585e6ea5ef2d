"""What every model that answers prompts must do, whatever it is made of."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from napari_pathsam.core.errors import BadImageError, BadPromptError, BadWeightsError
from napari_pathsam.core.prompts import Prompts
from napari_pathsam.datasets import folder_samples
from napari_pathsam.evaluation.evaluate import evaluate
from napari_pathsam.evaluation.prompting import PromptSettings
from napari_pathsam.inference.embedding_cache import EmbeddingCache, embedding_of
from napari_pathsam.inference.segment import segment_prompted
from napari_pathsam.models.model_file import load_model_file, save_model
from napari_pathsam.models.promptable import Promptable
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.sam2_config import Sam2Config, TimmConfig, VitConfig
from napari_pathsam.models.wsi_sam import WsiSam
from napari_pathsam.models.wsi_sam_config import wsi_profiled
from napari_pathsam.models.wsi_sam_file import load_wsi_sam, save_wsi_sam

SMALL = {
    "width": 64, "mlp_dim": 64, "iou_hidden_dim": 32, "field_px": 128, "object_score": False,
}  # fmt: skip
TRUNK = TimmConfig(name="mobilenetv2_050")
VIT = VitConfig(embed_dim=32, depth=2, num_heads=2, window=2, global_blocks=(1,))
BASES = {
    "sam2": Sam2Config(name="sam2", trunk=TRUNK, **SMALL),
    "nano": Sam2Config(
        name="nano", trunk=TRUNK, fixed_canvas=False, prompt_map=True, octaves=2, one_piece=True,
        top_down_levels=(0, 1, 2, 3), **SMALL,
    ),
    "sam1": Sam2Config(name="sam1", trunk=VIT, pad=True, **SMALL),
}  # fmt: skip
STANDING = {
    "wsi-sam": ("nano", {"profile": "recommended"}),
    "wsi-sam-alone": ("nano", {"profile": "recommended", "context": False}),
    "wsi-sam-paper": ("sam2", {"profile": "paper", "aggregate": "concat"}),
    "wsi-sam-repo": ("sam1", {"profile": "repo"}),
}
BUILT: dict[str, Promptable] = {}
CLICK = Prompts(points_yx=((20, 30),), positive=(True,))
ASKED = (
    CLICK,
    Prompts(box=(5, 6, 30, 40)),
    CLICK.with_point(5, 5, positive=False),
    CLICK.with_box((5, 6, 30, 40)),
)


def build(name: str) -> Promptable:
    """With random weights, always the same; made once."""
    if name not in BUILT:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if name in BASES:
                BUILT[name] = Sam2(BASES[name]).eval()
            else:
                base, fields = STANDING[name]
                config = wsi_profiled(**{"name": name, "base": base} | fields)
                BUILT[name] = WsiSam(config, Sam2(BASES[base])).eval()
    return BUILT[name]


@pytest.fixture(params=[*BASES, *STANDING])
def model(request: pytest.FixtureRequest) -> Promptable:
    return build(request.param)


def picture(shape: tuple[int, int] = (40, 56), seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return np.array(Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.NEAREST))


@pytest.mark.parametrize("shape", [(40, 56), (37, 53), (1, 7), (190, 33)])
def test_any_size_has_an_answer_as_large(model: Promptable, shape: tuple[int, int]) -> None:
    embedding = model.encode(picture(shape), mpp=0.5)
    assert (embedding.shape_yx, embedding.mpp) == (shape, 0.5)
    asked = Prompts(points_yx=((0, 3),), positive=(True,))
    answer = model.decode_prompts(embedding, asked)
    assert answer.mask.shape == shape
    assert np.isfinite(answer.low_res_logits).all()
    assert len(answer.predicted_iou) == len(answer.low_res_logits)
    assert 0 <= answer.best < len(answer.predicted_iou)


def test_many_objects_are_as_one_by_one(model: Promptable) -> None:
    embedding = model.encode(picture())
    together = model.decode_many(embedding, ASKED, whole=True)
    for asked, found in zip(ASKED, together, strict=True):
        alone = model.decode_prompts(embedding, asked)
        np.testing.assert_allclose(alone.low_res_logits, found.low_res_logits, atol=2e-3)
        assert found.score == pytest.approx(alone.score, abs=1e-3)
    assert model.decode_many(embedding, [], whole=True) == []


def test_no_state_is_kept_between_calls(model: Promptable) -> None:
    images = [picture(seed=s) for s in (0, 1)]
    embeddings = [model.encode(image) for image in images]
    first = [model.decode_prompts(e, CLICK) for e in embeddings]
    model.decode_prompts(embeddings[1], ASKED[1], previous=first[1])
    again = model.decode_prompts(model.encode(images[0]), CLICK)
    np.testing.assert_array_equal(first[0].low_res_logits, again.low_res_logits)
    assert not np.array_equal(first[0].low_res_logits, first[1].low_res_logits)


def test_a_mask_and_an_answer_are_fed_back(model: Promptable) -> None:
    embedding = model.encode(picture())
    mask = np.zeros((40, 56), bool)
    mask[10:30, 10:40] = True
    given = model.decode_prompts(embedding, Prompts(mask=mask))
    assert given.mask.shape == (40, 56)
    fresh = model.decode_prompts(embedding, ASKED[2])
    refined = model.decode_prompts(embedding, ASKED[2], previous=given)
    assert not np.array_equal(fresh.low_res_logits, refined.low_res_logits)


def test_what_cannot_be_answered_is_said(model: Promptable) -> None:
    embedding = model.encode(picture())
    for wrong in (Prompts(), Prompts(points_yx=((99, 3),), positive=(True,)),
                  Prompts(mask=np.ones((3, 3), bool))):  # fmt: skip
        with pytest.raises(BadPromptError):
            model.decode_prompts(embedding, wrong)
        with pytest.raises(BadPromptError):
            model.decode_many(embedding, [wrong])
    with pytest.raises(BadWeightsError, match=r"[Ee]ncode the image with the model"):
        model.decode_prompts(replace(embedding, model="another"), CLICK)
    for image in (np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32)):
        with pytest.raises(BadImageError, match="as_rgb"):
            model.encode(image)


def test_kept_and_made_anew_an_embedding_answers_the_same(model: Promptable) -> None:
    cache = EmbeddingCache()
    found = [embedding_of(model, picture(), mpp=0.5, cache=cache) for _ in range(2)]
    assert [made for _, made in found] == [True, False]
    a, b = (model.decode_prompts(e, ASKED[1]).low_res_logits for e, _ in found)
    np.testing.assert_array_equal(a, b)
    if isinstance(model, WsiSam) and model.config.context:
        around, made = embedding_of(model, picture(), cache=cache, surroundings=picture(seed=3))
        assert made  # other surroundings are another entry
        assert not torch.equal(around.coarser[0].image_embed, found[0][0].coarser[0].image_embed)


def test_saved_and_loaded_it_answers_the_same(model: Promptable, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    if isinstance(model, WsiSam):
        save_wsi_sam(path, model, {"licence": "none", "base": [{"name": model.base.name}]})
        loaded = load_wsi_sam(path, load_base=lambda _: deepcopy(model.base))[0]
    else:
        save_model(path, model, {"licence": "none"})
        loaded = load_model_file(path)[0]
    assert loaded.config == model.config
    assert loaded.name == model.name
    a, b = (m.decode_prompts(m.encode(picture()), CLICK).low_res_logits for m in (model, loaded))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_it_moves_between_devices(model: Promptable, device: str) -> None:
    there = torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available()
    if not there:
        pytest.skip(f"no {device} here")
    here = model.decode_prompts(model.encode(picture()), ASKED[1]).mask
    moved = deepcopy(model).to(device)
    found = moved.decode_prompts(moved.encode(picture()), ASKED[1]).mask
    assert (found == here).mean() > 0.98


def test_it_works_under_autocast(model: Promptable) -> None:
    if isinstance(model, Sam2):
        pytest.skip("SAM's fast decoder works in single precision; training has its own tests")
    with torch.autocast("cpu", torch.bfloat16):
        answer = model.decode_prompts(model.encode(picture()), ASKED[1])
    assert answer.low_res_logits.dtype == np.float32
    assert np.isfinite(answer.low_res_logits).all()


def test_it_answers_on_an_image_and_is_evaluated(model: Promptable, tmp_path: Path) -> None:
    found = segment_prompted(model, picture((60, 80)), Prompts(box=(10, 10, 40, 50)), mpp=0.5)
    assert found.in_image((60, 80)).shape == (60, 80)
    ids = np.zeros((40, 56), np.uint8)
    ids[5:25, 5:30], ids[26:38, 30:50] = 1, 2
    for folder, pixels in (("images", picture()), ("labels", ids)):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / "a.png")
    samples = folder_samples(tmp_path / "images", tmp_path / "labels", label_kind="instances")
    report = evaluate(model, samples, PromptSettings(clicks=(1, 2), most_clicks=2))
    assert (report.task, report.metrics["n_objects"]) == ("prompts", 2)
    assert 0 <= report.metrics["iou_box"] <= 1
