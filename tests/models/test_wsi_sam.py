"""WSI-SAM: where fields lie, what reaches the mask, its profiles and ablations, its file."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from napari_pathsam.core.errors import BadImageError, BadPromptError, BadWeightsError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.prompts import Prompts
from napari_pathsam.inference.context import encode_field
from napari_pathsam.inference.segment import segment_prompted
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.sam2_config import HieraConfig, Sam2Config, TimmConfig, VitConfig
from napari_pathsam.models.wsi_sam import WsiSam, fusion_state
from napari_pathsam.models.wsi_sam_config import wsi_profiled
from napari_pathsam.models.wsi_sam_fields import (
    OUTSIDE,
    read_surroundings,
    to_field,
    to_surroundings,
    without_surroundings,
)
from napari_pathsam.models.wsi_sam_file import load_wsi_sam, save_wsi_sam
from napari_pathsam.models.wsi_sam_parts import cut_to_field, laid_into_surroundings

SMALL = {"width": 64, "mlp_dim": 64, "iou_hidden_dim": 32, "field_px": 128}
BASES = {
    "nano": Sam2Config(
        name="nano", trunk=TimmConfig(name="mobilenetv2_050"), fixed_canvas=False,
        object_score=False, prompt_map=True, top_down_levels=(0, 1, 2, 3), one_piece=True,
        octaves=3, **SMALL,
    ),
    "sam2.1": Sam2Config(
        name="sam2.1",
        trunk=HieraConfig(
            embed_dim=16, stages=(1, 1, 2, 1), global_att_blocks=(3,), window_spec=(8, 4, 4, 4)
        ),
        **SMALL,
    ),
    "tinyvit": Sam2Config(
        name="tinyvit", trunk=TimmConfig(name="tiny_vit_5m_224", pad_type=""), **SMALL
    ),
    "sam1": Sam2Config(
        name="sam1", trunk=VitConfig(embed_dim=32, depth=2, num_heads=2, global_blocks=(1,)),
        pad=True, object_score=False, **SMALL,
    ),
}  # fmt: skip


@cache
def base_of(name: str = "nano") -> Sam2:
    """Made once: nothing changes it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Sam2(BASES[name]).eval()


def built(base: Sam2 | str = "nano", profile: str = "recommended", **fields) -> WsiSam:
    base = base_of(base) if isinstance(base, str) else base
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = wsi_profiled(profile, name="wsi", base=base.name, **fields)
        return WsiSam(config, base).eval()


def shaken(model: WsiSam) -> WsiSam:
    """Weights that begin at zero no longer do: what is joined can be seen."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(2)
        for name, parameter in model.named_parameters():
            if not name.startswith("base."):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def picture(shape=(64, 64), seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return coarse.repeat(shape[0] // 8 + 1, 0).repeat(shape[1] // 8 + 1, 1)[: shape[0], : shape[1]]


CLICK = Prompts(points_yx=((20, 30),), positive=(True,))
BOX = Prompts(box=(10, 12, 40, 50))


# --- where fields lie -----------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.25, 2.0, 3.0, 4.0, 7.5])
def test_places_go_to_the_surroundings_and_back(factor: float) -> None:
    side = 1024
    for x in (0, 100, 512, 777.5, 1024):
        there = to_surroundings(x, side, factor)
        assert there == pytest.approx(x / factor + side * (1 - 1 / factor) / 2)
        assert to_field(there, side, factor) == pytest.approx(x)
    assert to_surroundings(side / 2, side, factor) == side / 2  # one centre
    covered = to_surroundings(side, side, factor) - to_surroundings(0, side, factor)
    assert covered == pytest.approx(side / factor)


def test_the_papers_fields() -> None:
    assert (to_surroundings(0, 1024, 2), to_surroundings(1024, 1024, 2)) == (256, 768)
    assert to_surroundings(300, 1024, 2) == 300 / 2 + 256


@pytest.mark.parametrize(("factor", "at"), [(2.0, 64), (3.0, 40), (1.5, 100)])
def test_the_field_is_found_in_its_surroundings(factor: float, at: int) -> None:
    """What is read round a field shows the field where the formula says."""
    rng = np.random.default_rng(0)
    whole = np.zeros((200, 230, 3), np.uint8)
    whole[90:110, 100:130] = rng.integers(100, 256, (20, 30, 1))
    slide = ArraySlide(whole)
    side = 48
    field = Region(80, 90, side, side)
    around = read_surroundings(slide.read_resampled, (200, 230), field, (side, side), factor)
    assert around.shape == (side, side, 3)
    rows = np.flatnonzero((around > 60).any(axis=(1, 2)))
    assert rows[0] == pytest.approx(to_surroundings(10, side, factor), abs=1)
    assert rows[-1] + 1 == pytest.approx(to_surroundings(30, side, factor), abs=1)


def test_what_is_not_of_the_image_is_glass() -> None:
    black = ArraySlide(np.zeros((64, 64, 3), np.uint8))
    around = read_surroundings(black.read_resampled, (64, 64), Region(0, 0, 32, 32), (32, 32), 2)
    assert (around[:8] == OUTSIDE).all()
    assert (around[:, :8] == OUTSIDE).all()
    assert (around[8:, 8:] == 0).all()
    alone = without_surroundings(np.zeros((32, 48, 3), np.uint8), 4)
    assert alone.shape == (32, 48, 3)
    assert (alone[12:20, 18:30] == 0).all()
    assert (alone == 0).sum() == 3 * 8 * 12
    far = Region(500, 500, 32, 32)
    assert (read_surroundings(black.read_resampled, (64, 64), far, (8, 8), 2) == OUTSIDE).all()


@pytest.mark.parametrize("factor", [2.0, 4.0])
def test_maps_are_cut_to_the_field_and_laid_back(factor: float) -> None:
    n = 32
    x = torch.arange(n).float()[None, None, None].expand(1, 1, n, n)
    inside = cut_to_field(x, (n, n), factor)
    wanted = to_surroundings(torch.arange(n) + 0.5, n, factor) - 0.5
    assert torch.allclose(inside[0, 0, 0], wanted)
    back = laid_into_surroundings(torch.full((1, 1, n, n), 5.0), (n, n), factor)
    start, stop = (int(to_surroundings(v, n, factor)) for v in (0, n))
    assert (back[0, 0, start:stop, start:stop] == 5).all()
    assert back.sum() == 5 * (stop - start) ** 2


# --- the network ----------------------------------------------------------------------------------


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("profile", ["recommended", "paper", "repo"])
def test_every_base_and_profile_answers(base: str, profile: str) -> None:
    model = built(base, profile)
    embedding = model.encode(picture((48, 64)), mpp=0.5, surroundings=picture((48, 64), 1))
    assert embedding.coarser[0].mpp == 1.0
    for asked in (CLICK, BOX, Prompts(mask=np.eye(48, 64, dtype=bool))):
        answer = model.decode_prompts(embedding, asked)
        assert answer.mask.shape == (48, 64)
        assert np.isfinite(answer.low_res_logits).all()
        refined = model.decode_prompts(embedding, CLICK, previous=answer)
        assert refined.mask.shape == (48, 64)
    rows, columns = (n // 4 for n in embedding.input_yx)
    assert answer.low_res_logits.shape == (1, rows, columns)
    assert model.decode_surroundings(embedding, BOX).shape[0] == embedding.image_embed.shape[-2] * 4


def test_the_papers_fusion_has_its_448_512_weights_a_resolution() -> None:
    with torch.device("meta"):
        base = Sam2(
            Sam2Config(name="mobile", trunk=TimmConfig(name="tiny_vit_5m_224", pad_type=""))
        )
        model = WsiSam(wsi_profiled("paper", name="w", base="mobile"), base)
    for part in (model.high, model.low):
        assert sum(p.numel() for p in part.parameters()) == 448_512
    assert sum(p.numel() for p in model.together.parameters()) == 0


@pytest.mark.parametrize("base", ["nano", "sam2.1", "sam1"])
def test_untrained_it_says_what_sam_says(base: str) -> None:
    """But for one more token, which SAM's own attend to."""
    sam = base_of(base)
    model = built(sam)
    embedding = model.encode(picture(), surroundings=picture(seed=1))
    owner = torch.zeros(1, dtype=torch.long)
    asked = (*sam.prompt_tokens(embedding, [BOX]), None)
    with torch.no_grad():
        found = model.decode_tensors(embedding, owner, asked)
        of_image = model.high.of_image(embedding)
        seen = model.high(sam, embedding, of_image, owner, asked)
        logits, iou = sam.decode_tensors(embedding.image_embed, embedding.high_res, *asked)
    assert torch.equal(found.high, seen.sam_logits)
    both = torch.stack([found.high.flatten(), logits[0, 0].flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.9
    assert torch.allclose(found.iou[0], iou[0, 0], atol=0.05)


def changed_by(model: WsiSam, one: np.ndarray, other: np.ndarray) -> float:
    """How much the field's logits change when only the surroundings do."""
    answers = [
        model.decode_prompts(model.encode(picture(), surroundings=s), BOX).low_res_logits
        for s in (one, other)
    ]
    return float(np.abs(answers[0] - answers[1]).max())


@pytest.mark.parametrize("profile", ["recommended", "paper", "repo"])
def test_what_is_round_the_field_reaches_its_mask(profile: str) -> None:
    model = shaken(built("nano", profile))
    around = picture(seed=1)
    assert changed_by(model, around, around) == 0
    assert changed_by(model, around, np.full_like(around, 200)) > 1e-3
    assert changed_by(model, around, around[:, ::-1].copy()) > 1e-3
    alone = shaken(built("nano", profile, context=False))
    assert changed_by(alone, around, np.full_like(around, 200)) == 0


def test_only_carried_maps_say_where() -> None:
    """Through the token alone, a change in the surroundings changes the weights of the maps: every
    pixel by the same combination. Carried maps change some places more than that allows."""
    around = picture(seed=1)
    other = around.copy()
    other[24:32, 24:32] = 255 - other[24:32, 24:32]
    for carry in (False, True):
        model = shaken(built("nano", carry=carry, add_sam="never", from_zero=False))
        embeddings = [model.encode(picture(), surroundings=s) for s in (around, other)]
        owner = torch.zeros(1, dtype=torch.long)
        asked = (torch.tensor([[[20.0, 20.0]]]), torch.ones(1, 1, dtype=torch.int32), None)
        with torch.no_grad():
            a, b = (model.decode_tensors(e, owner, asked).high[0] for e in embeddings)
            seen = model.high(
                model.base, embeddings[0], model.high.of_image(embeddings[0]), owner, asked
            )
        maps = seen.maps[0].flatten(1).T
        left = (b - a).flatten()
        left = left - maps @ torch.linalg.lstsq(maps, left[:, None]).solution[:, 0]
        explained = float(left.norm() / (b - a).norm())
        assert (explained > 0.05) is carry


@pytest.mark.parametrize("how", ["mean", "max", "concat", "sum"])
@pytest.mark.parametrize("where", ["token", "weights"])
def test_tokens_are_put_together(how: str, where: str) -> None:
    model = built("nano", aggregate=how, aggregate_at=where)
    width = 64 if where == "token" else 8
    high, low = torch.randn(3, width), torch.randn(3, width)
    with torch.no_grad():
        found = model.together(high, low)
    wanted = {"max": torch.maximum(high, low), "sum": high + low}.get(how, (high + low) / 2)
    assert torch.allclose(found, wanted, atol=1e-5)  # concat starts as the mean
    assert (model.together.mix is not None) is (how == "concat")
    weighed = model._weights(torch.randn(2, 64), torch.randn(2, 64))
    assert [w.shape for w in weighed] == [(2, 8), (2, 8)]
    assert (weighed[0] is weighed[1]) is (where == "weights")


def test_gradients_reach_all_that_is_trained_and_nothing_else() -> None:
    model = shaken(built("nano", aggregate="concat")).train()
    assert not model.base.training
    embedding = model.encode(picture(), surroundings=picture(seed=1))
    asked = (torch.tensor([[[10.0, 10.0], [50.0, 40.0]]]), torch.tensor([[2, 3]]), None)
    found = model.decode_tensors(embedding, torch.zeros(1, dtype=torch.long), asked)
    (found.high.square().mean() + found.low.square().mean()).backward()
    for name, parameter in model.named_parameters():
        if name.startswith("base."):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name


def test_sam_is_added_when_the_profile_says_so() -> None:
    asked = (torch.tensor([[[10.0, 10.0]]]), torch.ones(1, 1, dtype=torch.int32), None)
    for profile, differs in (("recommended", False), ("paper", True), ("repo", True)):
        model = built("nano", profile)
        embedding = model.encode(picture())
        owner = torch.zeros(1, dtype=torch.long)
        with torch.no_grad():
            training, inference = (
                model.train(mode).decode_tensors(embedding, owner, asked).high
                for mode in (True, False)
            )
        assert (not torch.allclose(training, inference)) is differs


def test_clicks_and_boxes_are_moved_by_the_formula() -> None:
    model = built("nano", factor=4.0)
    embedding = model.encode(picture((64, 96)))
    points = torch.tensor([[[10.0, 20.0], [0.0, 0.0]], [[8.0, 8.0], [40.0, 24.0]]])
    signs = torch.tensor([[1, -1], [2, 3]])
    moved, _, masks = model.moved(embedding, (points, signs, None))
    assert masks is None
    assert moved[0, 0].tolist() == [10.5 / 4 + 96 * 3 / 8 - 0.5, 20.5 / 4 + 64 * 3 / 8 - 0.5]
    assert moved[1].tolist() == [[8 / 4 + 36, 8 / 4 + 24], [40 / 4 + 36, 24 / 4 + 24]]


def test_a_batch_is_as_its_objects() -> None:
    model = shaken(built())
    embedding = model.encode(picture(), surroundings=picture(seed=1))
    several = [CLICK, BOX, Prompts(box=(5, 5, 30, 30)), Prompts(box=(5, 5, 30, 30), mask=None)]
    several += [Prompts(mask=np.eye(64, dtype=bool))]
    for asked, together in zip(several, model.decode_many(embedding, several), strict=True):
        alone = model.decode_prompts(embedding, asked)
        np.testing.assert_allclose(alone.low_res_logits, together.low_res_logits, atol=1e-3)


# --- using it -------------------------------------------------------------------------------------


def test_a_slide_gives_its_own_surroundings() -> None:
    """Of two images that differ only outside the field, the answers differ."""
    model = shaken(built("nano", field_px=64))
    image = picture((160, 160))
    other = image.copy()
    other[:30] = 255 - other[:30]
    asked = Prompts(box=(60, 60, 100, 100))
    found = [segment_prompted(model, one, asked) for one in (image, other)]
    assert found[0].region == found[1].region == Region(48, 48, 64, 64)
    field = (found[0].region, (64, 64))
    slides = [ArraySlide(one) for one in (image, other)]
    seen = [encode_field(model, s.read_resampled, s.shape_yx, *field, mpp=0.5) for s in slides]
    assert torch.equal(seen[0].image_embed, seen[1].image_embed)
    assert not torch.equal(seen[0].coarser[0].image_embed, seen[1].coarser[0].image_embed)
    alone = built("nano", field_px=64, context=False)
    seen = encode_field(alone, slides[0].read_resampled, slides[0].shape_yx, *field, mpp=0.5)
    assert not seen.coarser


@pytest.mark.parametrize("fields", [{}, {"context": False}, {"aggregate": "concat"}])
def test_saved_and_loaded_it_answers_the_same(tmp_path: Path, fields: dict) -> None:
    base = base_of()
    model = shaken(built(base, **fields))
    path = tmp_path / "wsi.safetensors"
    save_wsi_sam(path, model, {"licence": "none", "base": [{"name": "nano"}]})
    loaded, card = load_wsi_sam(path, load_base=lambda _: deepcopy(base))
    assert loaded.config == model.config == card.config
    assert not loaded.training
    image = picture((40, 56))
    a, b = (m.decode_prompts(m.encode(image), BOX).low_res_logits for m in (model, loaded))
    np.testing.assert_array_equal(a, b)
    assert path.stat().st_size < 4 * sum(t.numel() for t in fusion_state(model).values()) + 20_000


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    model = built()
    path = tmp_path / "wsi.safetensors"
    card = {"licence": "none", "base": [{"name": "nano"}]}
    save_wsi_sam(path, model, card)
    with pytest.raises(BadWeightsError, match="shape"):
        load_wsi_sam(path, load_base=lambda _: base_of("tinyvit"))
    with pytest.raises(BadImageError, match="as many pixels"):
        model.encode(picture(), surroundings=picture((32, 32)))
    with pytest.raises(BadImageError, match="as_rgb"):
        model.encode(np.zeros((5, 5), np.uint8))
    embedding = model.encode(picture())
    with pytest.raises(BadPromptError):
        model.decode_prompts(embedding, Prompts())
    with pytest.raises(BadPromptError):
        model.decode_many(embedding, [Prompts(points_yx=((99, 3),), positive=(True,))])
    with pytest.raises(BadWeightsError, match="Encode the image"):
        model.decode_prompts(built("nano", factor=3.0).encode(picture()), BOX)
    for wrong in ({"factor": 1.0}, {"aggregate": "median"}, {"add_sam": "never"}, {"x": 1}):
        with pytest.raises(ValidationError):
            wsi_profiled("recommended", name="w", base="nano", **wrong)
