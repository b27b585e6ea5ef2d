"""SAM 1 against timm's own trunk and upstream's own decoder, called as SAM 1's predictor does."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from napari_pathsam.core.errors import BadWeightsError
from napari_pathsam.core.prompts import Prompts
from napari_pathsam.models import checkpoints, sam
from napari_pathsam.models.catalogue import load_model
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.sam2_config import SAM2_CONFIGS, VitConfig

SIDE, WIDTH = 128, 64
CONFIG = SAM2_CONFIGS["sam-vit-b"].model_copy(
    update={
        "name": "tiny-sam",
        "trunk": VitConfig(embed_dim=48, depth=3, num_heads=3, window=3, global_blocks=(1,)),
        "width": WIDTH,
        "mlp_dim": 96,
        "field_px": SIDE,
    }
)
PROMPTS = {
    "point": Prompts(points_yx=((50, 70.5),), positive=(True,)),
    "points": Prompts(points_yx=((50, 70.5), (20, 30), (90, 99)), positive=(True, False, True)),
    "box": Prompts(box=(30, 20, 90, 100)),
    "box and points": Prompts(
        points_yx=((60, 60), (80, 90)), positive=(True, False), box=(30, 20, 90, 100)
    ),
}


class Reference:
    """SAM 1 from unsplit parts, in the frames and the order of Meta's predictor."""

    def __init__(self) -> None:
        from sam2.modeling.sam.mask_decoder import MaskDecoder
        from sam2.modeling.sam.prompt_encoder import PromptEncoder
        from sam2.modeling.sam.transformer import TwoWayTransformer
        from timm.models.vision_transformer_sam import VisionTransformerSAM

        grid = SIDE // 16
        self.image_encoder = VisionTransformerSAM(
            img_size=SIDE, embed_dim=48, depth=3, num_heads=3, window_size=3, num_classes=0,
            global_attn_indexes=(1,), use_rel_pos=True, neck_chans=WIDTH,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
        )  # fmt: skip
        self.prompt_encoder = PromptEncoder(WIDTH, (grid, grid), (SIDE, SIDE), 16)
        self.mask_decoder = MaskDecoder(
            transformer=TwoWayTransformer(depth=2, embedding_dim=WIDTH, mlp_dim=96, num_heads=8),
            transformer_dim=WIDTH,
        )
        for part in (self.image_encoder, self.prompt_encoder, self.mask_decoder):
            part.eval()
            for p in part.parameters():
                if p.ndim == 1 or not p.any():
                    nn.init.normal_(p, 0.3, 0.3)
        for mlp in self.mask_decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight.data *= 10

    def meta_layout(self) -> dict[str, torch.Tensor]:
        """The names of Meta's ``sam_vit_b_01ec64.pth``."""
        state = {}
        for key, t in self.image_encoder.state_dict().items():
            state["image_encoder." + key.replace("mlp.fc", "mlp.lin")] = t
        for key, t in self.prompt_encoder.state_dict().items():
            state["prompt_encoder." + key] = t
        for key, t in self.mask_decoder.state_dict().items():
            for old, new in (("mlp.layers.0", "mlp.lin1"), ("mlp.layers.1", "mlp.lin2")):
                key = key.replace(old, new) if key.startswith("transformer.layers") else key
            state["mask_decoder." + key] = t
        return state

    @torch.no_grad()
    def encode(self, image: np.ndarray) -> torch.Tensor:
        height, width = image.shape[:2]
        scale = SIDE / max(height, width)
        size = (int(height * scale + 0.5), int(width * scale + 0.5))
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        if size != (height, width):
            pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
        mean = torch.tensor([123.675, 116.28, 103.53])[:, None, None]
        std = torch.tensor([58.395, 57.12, 57.375])[:, None, None]
        pixels = (pixels - mean) / std
        pixels = functional.pad(pixels, (0, SIDE - size[1], 0, SIDE - size[0]))
        self.size, self.shape = size, (height, width)
        return self.image_encoder.forward_features(pixels)

    @torch.no_grad()
    def decode(self, embedding, prompts: Prompts, multimask: bool, masks=None):
        scale = torch.tensor([self.size[1] / self.shape[1], self.size[0] / self.shape[0]])
        points = boxes = None
        if prompts.points_yx:
            at = torch.tensor([[(x, y) for y, x in prompts.points_yx]]) * scale
            points = (at, torch.tensor([[int(v) for v in prompts.positive]]))
        if prompts.box is not None:
            y0, x0, y1, x1 = prompts.box
            boxes = torch.tensor([[x0, y0, x1, y1]]) * torch.cat([scale, scale])
        sparse, dense = self.prompt_encoder(points=points, boxes=boxes, masks=masks)
        low, iou, _, _ = self.mask_decoder(
            image_embeddings=embedding,
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            repeat_image=False,
        )
        return low, iou

    def at_image_size(self, low: torch.Tensor) -> np.ndarray:
        full = functional.interpolate(low, (SIDE, SIDE), mode="bilinear")
        full = full[..., : self.size[0], : self.size[1]]
        return functional.interpolate(full, self.shape, mode="bilinear")[0].numpy()


@pytest.fixture(scope="module")
def reference() -> Reference:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Reference()


@pytest.fixture(scope="module")
def ours(reference) -> Sam2:
    model = Sam2(CONFIG).eval()
    model.load_state_dict(sam.renamed(reference.meta_layout()))  # strict
    return model


def tissue(shape: tuple[int, int]) -> np.ndarray:
    """Smooth coloured blobs."""
    coarse = torch.from_numpy(np.random.default_rng(1).random((1, 3, 9, 7))).float()
    up = functional.interpolate(coarse, shape, mode="bicubic", align_corners=False)
    return (up[0].permute(1, 2, 0).clamp(0, 1) * 255).byte().numpy()


@pytest.mark.parametrize("shape", [(128, 128), (96, 128), (256, 168), (100, 400)])
def test_embeddings_masks_and_ious_are_those_of_sam_1(reference, ours, shape):
    image = tissue(shape)
    wanted = reference.encode(image)
    embedding = ours.encode(image)
    assert embedding.high_res == ()
    assert [t.shape for t in embedding.trunk] == [(1, 48, 8, 8)]
    np.testing.assert_allclose(embedding.image_embed, wanted, atol=1e-5)
    assert embedding.input_yx == reference.size
    spans = []
    for one in PROMPTS.values():
        points = tuple((y * shape[0] / 128, x * shape[1] / 128) for y, x in one.points_yx)
        box = one.box and tuple(v * shape[i % 2] / 128 for i, v in enumerate(one.box))
        prompts = Prompts(points_yx=points, positive=one.positive, box=box)
        for multimask in (True, False):
            low, iou = reference.decode(wanted, prompts, multimask)
            answer = ours.decode_prompts(embedding, prompts, multimask=multimask)
            rows, cols = (n // 4 for n in embedding.input_yx)
            allowed = 1e-5 * np.ptp(low.numpy())
            assert np.abs(answer.low_res_logits - low[0, :, :rows, :cols].numpy()).max() < allowed
            np.testing.assert_allclose(answer.predicted_iou, iou[0], atol=1e-5)
            masks = np.stack([answer.mask_at(i) for i in range(len(low[0]))])
            assert (masks == (reference.at_image_size(low) > 0)).mean() > 0.97
            spans.append(float(low.abs().max()))
            if rows == cols:  # what lay over the padding is not kept
                again, iou = reference.decode(wanted, prompts, multimask, low[:, [answer.best]])
                refined = ours.decode_prompts(
                    embedding, prompts, previous=answer, multimask=multimask
                )
                allowed = 1e-5 * np.ptp(again.numpy())
                assert np.abs(refined.low_res_logits - again[0].numpy()).max() < allowed
                np.testing.assert_allclose(refined.predicted_iou, iou[0], atol=1e-5)
    assert max(spans) > 2  # the tolerance means something


def test_many_objects_give_what_each_gives_alone(ours):
    embedding = ours.encode(tissue((96, 128)))
    mask = np.zeros((96, 128), bool)
    mask[20:50, 20:50] = True
    prompts = [
        Prompts(box=(10, 10, 40, 60)),
        Prompts(points_yx=((50, 50), (20, 70)), positive=(True, False)),  # two tokens, as a box
        Prompts(points_yx=((50, 50),), positive=(True,)),
        Prompts(mask=mask),
        Prompts(box=(60, 80, 96, 128)),
    ]
    together = ours.decode_many(embedding, prompts, whole=True)
    inside = ours.decode_many(embedding, prompts)
    for one, whole, part in zip(prompts, together, inside, strict=True):
        alone = ours.decode_prompts(embedding, one)
        np.testing.assert_allclose(whole.low_res_logits, alone.low_res_logits, atol=1e-4)
        np.testing.assert_allclose(whole.predicted_iou, alone.predicted_iou, atol=1e-5)
        assert part.low_res_logits.shape == alone.low_res_logits.shape
        if one.box is not None:
            y0, x0, y1, x1 = (int(v) // 4 for v in one.box)
            at = np.s_[:, y0:y1, x0:x1]
            np.testing.assert_allclose(part.low_res_logits[at], alone.low_res_logits[at], atol=1e-4)
            assert part.mask.shape == (96, 128)


def test_the_fast_decoder_says_what_the_differentiable_one_says(ours):
    embedding = ours.encode(tissue((128, 128)))
    for prompts in PROMPTS.values():
        tensors = ours.prompt_tokens(embedding, [prompts])
        with torch.no_grad():
            wanted, _ = ours.decode_tensors(embedding.image_embed, (), *tensors, None)
        answer = ours.decode_prompts(embedding, prompts, multimask=True)
        np.testing.assert_allclose(
            answer.low_res_logits, wanted[0, 1:], atol=1e-5 * np.ptp(wanted.numpy())
        )


def test_a_size_that_is_asked_for_stretches_the_image_over_the_canvas(ours):
    image = tissue((96, 128))
    embedding = ours.encode(image, input_yx=(96, 128))
    assert embedding.input_yx == (SIDE, SIDE)
    pixels = ours.normalise(ours.resized(image, (SIDE, SIDE)))
    wanted = ours.encode_pixels(pixels)[0].detach()
    np.testing.assert_allclose(embedding.image_embed, wanted, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (3, 5), (33, 2000)])
def test_images_of_any_size_work(ours, shape):
    embedding = ours.encode(np.zeros((*shape, 3), np.uint8))
    for prompts in (Prompts(points_yx=((0, 0),), positive=(True,)), Prompts(box=(0, 0, 0.5, 0.5))):
        first = ours.decode_prompts(embedding, prompts)
        answer = ours.decode_prompts(embedding, prompts, previous=first)
        assert answer.mask.shape == shape
        assert np.isfinite(answer.low_res_logits).all()
        assert ours.decode_many(embedding, [prompts])[0].mask.shape == shape


# --- published weights ---------------------------------------------------------------------------


def test_vit_b_has_the_tensors_of_the_published_file():
    with torch.device("meta"):
        model = Sam2(SAM2_CONFIGS["sam-vit-b"])
    state = model.state_dict()
    assert (len(state), sum(t.numel() for t in model.parameters())) == (314, 93_735_472)
    assert state["image_encoder.trunk.net.blocks.2.attn.rel_pos_h"].shape == (127, 64)
    assert state["image_encoder.trunk.net.blocks.3.attn.rel_pos_h"].shape == (27, 64)


def test_other_sizes_of_sam_1_are_refused():
    state = {sam.PATCHES: torch.zeros(1024, 3, 16, 16)}
    with pytest.raises(BadWeightsError, match="another size than ViT-B"):
        checkpoints.recognise(checkpoints.Path("sam_vit_l.pth"), state)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Import as if the tiny one were ViT-B."""
    monkeypatch.setenv("NAPARI_PATHSAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(SAM2_CONFIGS, "sam-vit-b", CONFIG.model_copy(update={"name": "sam-vit-b"}))
    monkeypatch.setattr(sam, "vit_size", lambda state: (768, 12))
    return tmp_path


def test_a_checkpoint_in_metas_layout_is_imported(reference, ours, own_cache):
    path = own_cache / "medsam_vit_b.pth"
    torch.save(reference.meta_layout(), path)  # plain, without "model"
    name = checkpoints.import_checkpoint(path)
    loaded = load_model(name, device="cpu")
    assert (name, loaded.name, loaded.config.pad) == ("medsam_vit_b", "medsam_vit_b", True)
    for key, tensor in ours.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("mask_decoder.iou_token.weight"), "iou_token.weight is missing"),
        (lambda s: s.update({"image_encoder.adapter": torch.zeros(3)}), "does not belong"),
        (lambda s: s.update({"head.weight": torch.zeros(3)}), "head.weight does not belong"),
        (lambda s: s.update({"image_encoder.pos_embed": torch.zeros(1, 4, 4, 48)}), "the shape"),
    ],
)
def test_a_checkpoint_that_is_not_quite_one_is_refused(reference, own_cache, change, says):
    state = reference.meta_layout()
    change(state)
    torch.save(state, own_cache / "almost.pth")
    with pytest.raises(BadWeightsError, match=says):
        checkpoints.import_checkpoint(own_cache / "almost.pth")
    assert checkpoints.imported_models() == ()
