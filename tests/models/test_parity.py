"""The same numbers as upstream's SAM2ImagePredictor, and by our fast path as by the plain one."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from napari_pathsam.core.prompts import Prompts
from napari_pathsam.models.checkpoints import VIDEO_PARTS
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.sam2_config import SAM2_CONFIGS

BOX = (30.0, 40.0, 110.0, 150.0)  # y0, x0, y1, x1
PROMPTS = {
    "point": Prompts(points_yx=((50.0, 70.5),), positive=(True,)),
    "points": Prompts(points_yx=((50.0, 70.5), (20, 30), (90, 99)), positive=(True, False, True)),
    "box": Prompts(box=BOX),
    "box and points": Prompts(points_yx=((60, 60), (100, 140)), positive=(True, False), box=BOX),
}


@pytest.fixture(scope="module", params=[("plain", (180, 180)), ("scaled", (128, 200))])
def pair(request, upstream_tiny):
    """Upstream's predictor and our model with the same weights and image."""
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    state = {k: t.clone() for k, t in upstream_tiny.state_dict().items()}
    kept = {k: t.clone() for k, t in state.items()}
    weights, shape = request.param
    if weights == "scaled":
        for k in state:
            if "output_hypernetworks_mlps" in k and ".layers.2." in k:
                state[k] *= 300
    upstream_tiny.load_state_dict(state)
    ours = Sam2(SAM2_CONFIGS["sam2.1-tiny"]).eval()
    ours.load_state_dict({k: t for k, t in state.items() if not k.startswith(VIDEO_PARTS)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        predictor = SAM2ImagePredictor(upstream_tiny)
    predictor.set_image(tissue(shape, seed=1))
    yield predictor, ours, ours.encode(tissue(shape, seed=1)), weights
    upstream_tiny.load_state_dict(kept)


def tissue(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Smooth coloured blobs."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((1, 3, 9, 7))).float()
    up = torch.nn.functional.interpolate(coarse, shape, mode="bicubic", align_corners=False)
    return (up[0].permute(1, 2, 0).clamp(0, 1) * 255).byte().numpy()


def ask_upstream(predictor, prompts: Prompts, multimask: bool, mask_input=None):
    points = np.array([(x, y) for y, x in prompts.points_yx]) if prompts.points_yx else None
    box = None
    if prompts.box is not None:
        y0, x0, y1, x1 = prompts.box
        box = np.array([x0, y0, x1, y1])
    return predictor.predict(
        points,
        np.array(prompts.positive, int) if points is not None else None,
        box,
        mask_input,
        multimask_output=multimask,
        return_logits=True,
    )


@pytest.mark.slow
def test_masks_equal_those_of_upstreams_predictor(pair):
    predictor, ours, embedding, weights = pair
    spans, stable = [], set()

    for prompts in PROMPTS.values():
        for multimask in (True, False):
            first = ours.decode_prompts(embedding, prompts, multimask=multimask)
            given = np.clip(first.low_res_logits[first.best], -32, 32)[None]
            for fed_back in (None, given):  # then the answer goes back in as a mask prompt
                masks, iou, low = ask_upstream(predictor, prompts, multimask, fed_back)
                answer = ours.decode_prompts(
                    embedding,
                    prompts,
                    previous=None if fed_back is None else first,
                    multimask=multimask,
                )
                allowed = 1e-3 if weights == "scaled" else 1e-4 * np.ptp(low)
                assert np.abs(np.clip(answer.low_res_logits, -32, 32) - low).max() < allowed
                for i, mask in enumerate(masks):
                    assert np.abs(answer.logits_at(i) - mask).max() < allowed
                np.testing.assert_allclose(answer.predicted_iou, iou, atol=1e-5)
                spans.append(np.abs(low).max())
                if not multimask and fed_back is None:
                    three = ours.decode_prompts(embedding, prompts, multimask=True).low_res_logits
                    stable.add(not any(np.abs(low[0] - m).max() < allowed for m in three))
    if weights == "scaled":
        assert 5 < max(spans) <= 32  # the tolerance means something
    # dynamic choice: with small logits the single mask is unstable and gives way, with large not
    assert stable == {weights == "scaled"}


def test_a_mask_alone_is_a_prompt_as_upstream(pair):
    predictor, ours, embedding, weights = pair
    mask = np.zeros(embedding.shape_yx, bool)
    mask[30:90, 50:150] = True
    answer = ours.decode_prompts(embedding, Prompts(mask=mask))
    given = ours.mask_input(embedding, [Prompts(mask=mask)], None)[0].numpy()
    _, _, low = ask_upstream(predictor, Prompts(), False, given)
    allowed = 1e-3 if weights == "scaled" else 1e-4 * np.ptp(low)
    assert np.abs(np.clip(answer.low_res_logits, -32, 32) - low).max() < allowed


# --- our fast path against the plain one ---------------------------------------------------------


@pytest.fixture(scope="module")
def nano() -> Sam2:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # One magnification, untidied: what the decoder itself says.
        changes = {"octaves": 1, "one_piece": False}
        model = Sam2(SAM2_CONFIGS["pathsam-nano"].model_copy(update=changes)).eval()
        for p in model.sam_mask_decoder.parameters():
            if p.ndim == 1:
                torch.nn.init.normal_(p, std=0.3)
    return model


def plain(model: Sam2, embedding, prompts: Prompts, masks=None) -> torch.Tensor:
    """All four masks by upstream's own modules, as training computes them."""
    with torch.inference_mode():
        return model.decode_tensors(
            embedding.image_embed,
            embedding.high_res,
            *model.prompt_tokens(embedding, [prompts]),
            masks,
        )[0][0]


@pytest.mark.parametrize("shape", [(512, 512), (300, 480), (64, 500)])
def test_nano_decodes_fast_what_it_decodes_plainly(nano, shape):
    image = tissue(shape, seed=3)
    embedding = nano.encode(image)
    scale = shape[0] / 128, shape[1] / 200
    for one in PROMPTS.values():
        points = tuple((y * scale[0], x * scale[1]) for y, x in one.points_yx)
        box = one.box and tuple(v * s for v, s in zip(one.box, scale * 2, strict=True))
        prompts = Prompts(points_yx=points, positive=one.positive, box=box)
        answer = nano.decode_prompts(embedding, prompts, multimask=True)
        wanted = plain(nano, embedding, prompts)[1:].numpy()
        np.testing.assert_allclose(answer.low_res_logits, wanted, atol=2e-6 * np.ptp(wanted))
        again = nano.decode_prompts(embedding, prompts, previous=answer, multimask=True)
        given = torch.from_numpy(answer.low_res_logits[answer.best])[None, None].clamp(-32, 32)
        wanted = plain(nano, embedding, prompts, given)[1:].numpy()
        np.testing.assert_allclose(again.low_res_logits, wanted, atol=2e-6 * np.ptp(wanted))


def test_many_objects_give_what_each_gives_alone(tiny_model):
    image = tissue((100, 128), seed=4)
    embedding = tiny_model.encode(image)
    mask = np.zeros((100, 128), bool)
    mask[20:50, 20:50] = True
    prompts = [
        Prompts(box=(10, 10, 40, 60)),
        Prompts(points_yx=((50, 50),), positive=(True,)),
        Prompts(points_yx=((50, 50), (20, 70)), positive=(True, False)),
        Prompts(box=(60, 5, 100, 30)),
        Prompts(mask=mask),
        Prompts(points_yx=((30, 30),), positive=(True,), mask=mask),
        Prompts(box=(0, 0, 100, 128)),
    ]
    for whole in (True, False):
        answers = tiny_model.decode_many(embedding, prompts, whole=whole)
        for one, answer in zip(prompts, answers, strict=True):
            alone = tiny_model.decode_prompts(embedding, one)
            inside = np.s_[:]
            if one.box is not None and not whole:  # low resolution: 4 image pixels each
                y0, x0, y1, x1 = (int(v) // 4 for v in one.box)
                inside = np.s_[:, y0:y1, x0:x1]
            np.testing.assert_allclose(
                answer.low_res_logits[inside], alone.low_res_logits[inside], atol=1e-4
            )
            np.testing.assert_allclose(answer.predicted_iou, alone.predicted_iou, atol=1e-5)
    boxed = tiny_model.decode_many(embedding, prompts[:1])[0]
    assert not boxed.mask[90:].any()  # far from the box nothing is reported
    assert not boxed.mask[:, 100:].any()
    assert tiny_model.decode_many(embedding, []) == []


def test_new_weights_are_noticed_by_an_embedding_that_was_decoded_before(tiny_model):
    import copy

    model = copy.deepcopy(tiny_model)
    embedding = model.encode(tissue((96, 128), seed=5))
    prompts = PROMPTS["point"]
    before = model.decode_prompts(embedding, prompts, multimask=True)
    with torch.no_grad():
        for p in model.sam_mask_decoder.parameters():
            p.mul_(1.1)
    after = model.decode_prompts(embedding, prompts, multimask=True)
    assert np.abs(after.low_res_logits - before.low_res_logits).max() > 0.01
    wanted = plain(model, embedding, prompts)[1:].numpy()
    np.testing.assert_allclose(after.low_res_logits, wanted, atol=1e-4)


# --- other canvases ------------------------------------------------------------------------------


@torch.no_grad()
def test_medsam2_is_sam_2_on_a_canvas_of_512_pixels(upstream_tiny):
    """Its checkpoint has the tensors of tiny; positions and sizes are those of the canvas."""
    ours = Sam2(SAM2_CONFIGS["medsam2"]).eval()
    state = upstream_tiny.state_dict()
    ours.load_state_dict({k: t for k, t in state.items() if not k.startswith(VIDEO_PARTS)})
    embedding = ours.encode(tissue((180, 240), seed=1))
    assert embedding.image_embed.shape == (1, 256, 32, 32)
    pixels = ours.prepare(tissue((180, 240), seed=1))
    features = upstream_tiny.forward_image(pixels)["backbone_fpn"]
    wanted = features[2] + upstream_tiny.no_mem_embed[0, 0][:, None, None]
    np.testing.assert_allclose(embedding.image_embed, wanted, atol=1e-4)
    for ours_level, level in zip(embedding.high_res, features, strict=False):
        np.testing.assert_allclose(ours_level, level, atol=1e-4)
    answer = ours.decode_prompts(embedding, PROMPTS["box"], multimask=True)
    wanted = plain(ours, embedding, PROMPTS["box"])[1:].numpy()
    np.testing.assert_allclose(answer.low_res_logits, wanted, atol=1e-5 * np.ptp(wanted))
    # the same box in units of the canvas: 512 pixels here, 1024 upstream
    corners, _ = ours.sam_prompt_encoder(
        points=ours.prompt_tokens(embedding, [PROMPTS["box"]]), boxes=None, masks=None
    )
    upstream = upstream_tiny.sam_prompt_encoder
    y0, x0, y1, x1 = BOX
    points = torch.tensor([[[x0 / 240, y0 / 180], [x1 / 240, y1 / 180]]]) * 1024
    same = points + 0.5  # half a pixel of 512 is a whole one of 1024
    twice, _ = upstream(points=(same, torch.tensor([[2, 3]])), boxes=None, masks=None)
    np.testing.assert_allclose(corners, twice, atol=1e-4)
