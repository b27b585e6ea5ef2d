"""What every PathSam must do, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from itertools import product

import numpy as np
import pytest
import torch

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadWeightsError
from napari_pathsam.core.prompts import Prompts
from napari_pathsam.models.encoder_spec import EncoderSpec, VitArgs
from napari_pathsam.models.encoders import random_encoder
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.models.pathsam_config import PathSamConfig, profiled
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.sam2_config import Sam2Config, VitConfig
from napari_pathsam.models.sources import LocalFile
from napari_pathsam.training.class_config import ClassLossConfig, TrainConfig
from napari_pathsam.training.class_data import TrainingImage
from napari_pathsam.training.class_fit import ClassTrainer

SPEC = EncoderSpec(
    name="made", timm="vit_tiny_patch16_224", token_px=16, embed_dim=32, window_px=None,
    vit=VitArgs(embed_dim=32, depth=1, num_heads=2, img_size=64), licence="none",
    weights=LocalFile(path="nowhere.pt"),
)  # fmt: skip
Make = Callable[..., PathSam]


@pytest.fixture(scope="module")
def tiny_sam1() -> Sam2:
    """SAM 1 with random weights on a canvas of 64 pixels."""
    trunk = VitConfig(embed_dim=32, depth=2, num_heads=2, window=2, global_blocks=(1,))
    config = Sam2Config(
        name="tiny-sam1", trunk=trunk, width=32, mlp_dim=32, iou_hidden_dim=16, field_px=64,
        pad=True, object_score=False,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Sam2(config).eval()


@pytest.fixture
def make(tiny_model: Sam2, tiny_sam1: Sam2, class_table: ClassTable) -> Make:
    """``make(profile, sam1=…, **fields of PathSamConfig)``."""

    def build(profile="recommended", *, sam1: bool = False, **fields) -> PathSam:
        base = deepcopy(tiny_sam1 if sam1 else tiny_model)
        about = {"name": "made", "base": base.name, "mpp": 0.5} | fields
        config = profiled(profile, **about)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            encoder = None if config.encoder is None else random_encoder(config.encoder)
            return PathSam(config, base, class_table, encoder).eval()

    return build


VARIANTS = [
    (profile, {"alignment": alignment, "head": head} | seeing)
    for profile, alignment, head, seeing in product(
        ("recommended", "paper", "repo"),
        ("neck", "fresh"),
        ("kan", "mlp"),
        ({}, {"encoder": SPEC}, {"encoder": SPEC, "sam_encoder": False}),
    )
]
VARIANTS += [
    ("recommended", {"align_high_res": True}),
    ("recommended", {"align_high_res": True, "encoder": SPEC}),
]
SAM1 = [
    (profile, {"sam1": True} | seeing)
    for profile, seeing in product(
        ("recommended", "paper", "repo"),
        ({}, {"encoder": SPEC}, {"encoder": SPEC, "sam_encoder": False}),
    )
]  # fmt: skip


def image(seed: int = 0, shape: tuple[int, int] = (64, 96)) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(
        0, 256, (shape[0] // 8, shape[1] // 8, 3), np.uint8
    )
    return coarse.repeat(8, 0).repeat(8, 1)


def labelled() -> TrainingImage:
    target = np.zeros((64, 64), np.int16)
    target[10:40, 5:50], target[45:60] = 1, 2
    return TrainingImage(image(1, (64, 64)), target)


@pytest.mark.parametrize(("profile", "fields"), [*VARIANTS, *SAM1], ids=lambda v: str(v)[:90])
def test_it_encodes_decodes_and_takes_a_step(make: Make, profile, fields) -> None:
    model = make(profile, **fields)
    assert model.config == PathSamConfig.model_validate_json(model.config.model_dump_json())
    embedding = model.encode(image())
    found = model.decode_classes(embedding)
    assert found.logits.shape[0] == 3
    assert found.predicted_iou.shape == (3,)
    assert found.logits.isfinite().all()
    assert found.class_map().shape == (64, 96)
    assert set(np.unique(found.class_map())) <= {0, 1, 2}
    assert torch.allclose(found.probabilities().sum(dim=0), torch.ones(64, 96), atol=1e-5)
    clicked = Prompts(points_yx=((20, 20),), positive=(True,))
    assert model.decode_prompts(embedding, clicked).mask.shape == (64, 96)  # the same embedding

    config = TrainConfig(
        epochs=1, batch=1, patch_px=64, variants=None, stride=4, warmup=0, ema=None, lr=1e-3,
        loss=ClassLossConfig(beta=0.1),
    )  # fmt: skip
    trainer = ClassTrainer(model, [labelled()], (), config)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    trainer.train_step([(0, 0)])
    assert {n for n, p in trainer.trained.items() if p.grad is None} == set()
    frozen = {n: p for n, p in model.named_parameters() if n not in trainer.trained}
    assert all(torch.equal(p, before[n]) for n, p in frozen.items())
    assert not torch.equal(model.head.tokens, before["head.tokens"])


@pytest.mark.parametrize(
    "fields", [{}, {"encoder": SPEC}, {"align_high_res": True}, {"sam1": True}]
)
def test_at_the_first_step_the_alignment_is_sams_own_neck(make: Make, fields) -> None:
    model = make("recommended", **fields)
    embedding = model.encode(image())
    image_embed, high_res = model.align(embedding)
    assert torch.equal(image_embed, embedding.image_embed)
    assert len(high_res) == len(embedding.high_res)
    for ours, sams in zip(high_res, embedding.high_res, strict=True):
        assert torch.allclose(ours, sams, atol=1e-5)  # the finest in another order
    if "encoder" in fields:  # and it can learn to look at the pathology encoder
        model.train_only(("alignment",))
        model.align(embedding)[0].square().sum().backward()
        assert model.alignment.addition.add.weight.grad.abs().max() > 0


def test_one_call_is_as_many(make: Make) -> None:
    """Of several images, and of the classes: each mask by its own KAN."""
    model = make("recommended", encoder=SPEC)
    pixels = torch.cat([model.base.resized(image(i), (64, 96)) for i in range(3)])
    with torch.no_grad():
        logits, iou = model.class_logits(model.encode_batch(pixels))
        for i in range(3):
            one, one_iou = model.class_logits(model.encode_batch(pixels[i : i + 1]))
            assert torch.allclose(logits[i], one[0], atol=1e-4)
            assert torch.allclose(iou[i], one_iou[0], atol=1e-5)
        tokens, maps = torch.randn(2, 3, 64), torch.randn(2, 8, 5, 6)
        found, _ = model.head(torch.randn(2, 64), tokens, maps)
        for k, kan in enumerate(model.head.to_weights):
            for b in range(2):
                wanted = torch.einsum("c,chw->hw", kan(tokens[b, k]), maps[b])
                assert torch.allclose(found[b, k], wanted, atol=1e-5)


def test_training_and_using_see_the_same(make: Make) -> None:
    model = make("recommended", encoder=SPEC)
    found = model.decode_classes(model.encode(image()))
    with torch.no_grad():
        logits, iou = model.class_logits(model.encode_batch(model.base.resized(image(), (64, 96))))
    assert torch.allclose(found.logits, logits[0], atol=1e-5)
    assert torch.allclose(found.predicted_iou, iou[0], atol=1e-5)


@pytest.mark.parametrize("profile", ["recommended", "paper", "repo"])
@pytest.mark.parametrize("sam1", [False, True])
def test_without_sams_encoder_nothing_of_it_reaches_the_classes(make: Make, profile, sam1) -> None:
    model = make(profile, sam1=sam1, encoder=SPEC, sam_encoder=False)
    before = model.decode_classes(model.encode(image())).logits.clone()
    with torch.no_grad():
        for parameter in model.base.image_encoder.parameters():
            parameter.normal_()
    assert torch.equal(model.decode_classes(model.encode(image())).logits, before)
    with torch.no_grad():
        for parameter in model.pathology.parameters():
            parameter.normal_()
    assert not torch.equal(model.decode_classes(model.encode(image())).logits, before)


def test_it_must_see_something() -> None:
    with pytest.raises(ValueError, match="pathology encoder is needed"):
        profiled("recommended", name="blind", base="tiny", mpp=1, sam_encoder=False)
    with pytest.raises(ValueError, match="at least one level"):
        profiled("paper", name="blind", base="tiny", mpp=1, levels=())


def test_embeddings_of_another_kind_are_refused(make: Make, tiny_sam1: Sam2) -> None:
    plain, seeing = make(), make(encoder=SPEC)
    with pytest.raises(BadWeightsError, match="pathology encoder"):
        seeing.decode_classes(plain.encode(image()))
    with pytest.raises(BadWeightsError, match="tiny-sam1"):
        plain.decode_classes(tiny_sam1.encode(image()))


def test_papers_and_released_code_as_they_are(make: Make) -> None:
    paper, repo = make("paper"), make("repo")
    kan = paper.head.to_weights[0]
    assert [layer.coefficients.shape[:2] for layer in kan.layers] == [
        (256, 64),
        (256, 256),
        (8, 256),
    ]
    assert len(repo.head.to_weights[0].layers) == 1
    assert not repo.reads_high_res
    assert paper.alignment.levels == (2, 3)
    assert repo.alignment.levels == (3,)
    # No batch of images, any input: the decoder's copy is trained, SAM's own stays.
    assert torch.equal(
        paper.decoder.transformer.layers[0].mlp.layers[0].weight,
        paper.base.sam_mask_decoder.transformer.layers[0].mlp.layers[0].weight,
    )
    assert paper.decoder.transformer is not paper.base.sam_mask_decoder.transformer
