"""What every model that knows classes must do, whatever it is made of; all of the catalogue, small.

What promptable models must do is in ``test_promptable``.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.datasets import folder_samples
from napari_pathsam.datasets.base import overriding
from napari_pathsam.evaluation.evaluate import evaluate
from napari_pathsam.inference.class_maps import segment_classes
from napari_pathsam.models.catalogue import TRAINABLE
from napari_pathsam.models.class_model import ClassModel
from napari_pathsam.models.encoder_spec import EncoderSpec, VitArgs
from napari_pathsam.models.encoders import random_encoder
from napari_pathsam.models.head_file import load_head, save_head
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.models.pathsam_config import PathSamConfig, profiled
from napari_pathsam.models.recipes import RECIPES
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.task_config import TaskConfig
from napari_pathsam.models.task_file import load_task, save_task
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.models.task_recipes import TASK_RECIPES
from napari_pathsam.training import precision
from napari_pathsam.training.augment import AugmentConfig
from napari_pathsam.training.class_config import TrainConfig
from napari_pathsam.training.class_data import TrainingImage
from napari_pathsam.training.class_trainer import count_images
from napari_pathsam.training.task_settings import task_training
from napari_pathsam.training.task_trainer import trainer_of

SPEC = EncoderSpec(
    name="made", timm="vit_tiny_patch16_224", token_px=16, embed_dim=32, window_px=None,
    vit=VitArgs(embed_dim=32, depth=1, num_heads=2, img_size=64), licence="none",
    weights={"kind": "local", "path": "nowhere.pt"},
)  # fmt: skip
# Each network of the catalogue with few channels; the rest is the catalogue's.
SMALL: dict[str, dict[str, Any]] = {
    "unet": {"width": 8, "levels": 4},
    "unet-timm": {"trunk": "mobilenetv2_035", "decoder_widths": (32, 16, 16, 8, 8)},
    "unet3plus": {"width": 4},
    "eunet3plus": {"width": 4},
    "guided-eunet3plus": {"width": 4},
    "mask-rcnn": {
        "trunk": "resnet18",
        "anchors_px": (28, 40, 48, 56, 64),  # discs are 28 px wide
        "frozen_norm": False,
        "rois": 8,
    },
}
PATHSAM = {
    "pathsam": {"hidden": (16,)},
    "path-sam2": {"hidden": (16,), "encoder": SPEC, "align_high_res": True},
}
CLASSES = ClassTable.of("gland", "stroma")
COLORS = np.array([[232, 228, 233], [110, 50, 150], [225, 130, 175]])
STILL = AugmentConfig(stain=0, brightness=0, sharpness=0, noise=0, anisotropy=0, free_rotation=0)


@dataclass(frozen=True)
class Case:
    """A model of the catalogue: how it is built and taught here."""

    name: str
    base: Sam2

    @property
    def config(self) -> TaskConfig | PathSamConfig:
        if self.name in PATHSAM:
            fields = {"name": self.name, "base": "tiny", "mpp": 0.5}
            return profiled("recommended", **fields, **PATHSAM[self.name])
        guide = {"guide": "tiny"} if self.name.startswith("guided") else {}
        network = SMALL[self.name]
        return TASK_RECIPES[self.name].config(mpp=0.5, tile_px=128, network=network, **guide)

    def build(self, seed: int = 0) -> ClassModel:
        """With random weights."""
        config = self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if isinstance(config, PathSamConfig):
                encoder = None if config.encoder is None else random_encoder(config.encoder)
                return PathSam(config, deepcopy(self.base), CLASSES, encoder).eval()
            guide = None if config.guide is None else deepcopy(self.base)
            return TaskModel(config, CLASSES, guide).eval()

    def training(self, **fields: Any) -> TrainConfig:
        """The catalogue's settings, for images of 64 pixels that are not changed."""
        given = {
            "batch": 4, "patch_px": 64, "warmup": 3, "variants": 1, "augment": STILL,
            "scale": (1.0, 1.0), "lr": 5e-3, "encoder_lr": 2e-3, "ema": None,
        } | fields  # fmt: skip
        if self.name in PATHSAM:
            return TrainConfig(**({"stride": 2} | given | {"lr": 3e-3}))
        return task_training(self.name, "recommended", None, given)

    def images(self) -> list[TrainingImage]:
        """What it learns from; where it learns objects the pink side is none."""
        if self.name != "mask-rcnn":
            return discs()
        return [replace(i, target=np.where(i.target == 1, 1, 0).astype(np.int16)) for i in discs()]

    def trainer(self, model: ClassModel, **fields: Any):
        return trainer_of(model)(model, self.images(), (), self.training(**fields))

    def save(self, path: Path, model: ClassModel) -> None:
        card = {"licence": "none", "base": [{"name": "tiny"}]}
        if isinstance(model, TaskModel):
            save_task(path, model, card)
        else:
            save_head(path, model, card, trained=("head", "alignment", "decoder"))

    def load(self, path: Path) -> ClassModel:
        if self.name not in PATHSAM:
            return load_task(path, load_base=lambda _: deepcopy(self.base))[0]

        def encoder(spec: EncoderSpec):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return random_encoder(spec)

        base = deepcopy(self.base)
        return load_head(path, load_base=lambda _: base, load_encoder=encoder)[0]


def discs() -> list[TrainingImage]:
    """Four images of 64 pixels: a dark disc on pale ground that is pink on one side."""
    rng = np.random.default_rng(5)
    yy, xx = np.mgrid[:64, :64]
    found = []
    for i in range(4):
        target = np.zeros((64, 64), np.int16)
        target[:, int(rng.integers(24, 44)) :] = 2
        y, x = rng.integers(22, 42, 2)
        target[(yy - y) ** 2 + (xx - x) ** 2 < 14**2] = 1
        image = (COLORS[target] + rng.integers(-6, 7, (64, 64, 1))).astype(np.uint8)
        found.append(TrainingImage(image, target, str(i), str(i)))
    return found


def picture(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


@pytest.fixture(params=[*SMALL, *PATHSAM])
def case(request: pytest.FixtureRequest, tiny_model: Sam2) -> Case:
    if request.param == "unet-timm":
        pytest.importorskip("segmentation_models_pytorch")
    return Case(request.param, tiny_model)


def test_no_model_of_the_catalogue_is_left_out() -> None:
    assert set(SMALL) == set(TASK_RECIPES)
    # Every other recipe is a PathSam with or without an encoder: test_pathsam has the variants.
    assert {r.encoder is None for r in RECIPES.values()} == {True, False}
    assert set(TRAINABLE) == {"wsi-sam"}  # answers prompts: test_promptable


def test_it_is_built_from_a_configuration_that_can_be_written_down(case: Case) -> None:
    model = case.build()
    config = type(model.config).model_validate_json(model.config.model_dump_json())
    assert config == case.config
    assert (model.name, model.classes) == (config.name, CLASSES)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    for profile in ("paper", "repo"):
        if case.name in TASK_RECIPES:
            other = TASK_RECIPES[case.name].config(profile)
            assert TaskConfig.model_validate_json(other.model_dump_json()) == other


@pytest.mark.parametrize("shape", [(64, 64), (37, 53), (1, 7), (90, 33)])
def test_any_size_has_as_many_classes_as_pixels(case: Case, shape: tuple[int, int]) -> None:
    model = case.build()
    found = model.decode_classes(model.encode(picture(shape)))
    assert found.logits_at().shape == (3, *shape)
    assert found.logits_at().isfinite().all()
    assert found.class_map().shape == shape
    assert set(np.unique(found.class_map())) <= {0, 1, 2}


def test_a_batch_is_as_its_images(case: Case) -> None:
    model = case.build()
    pixels = torch.from_numpy(np.stack([picture((64, 96), i) for i in range(3)]))
    pixels = pixels.permute(0, 3, 1, 2).float() / 255

    def logits(some: torch.Tensor) -> torch.Tensor:
        embedding = model.encode_batch(some)
        if isinstance(model, TaskModel):
            return model.outputs(embedding)[0][0]
        return model.class_logits(embedding)[0]

    with torch.no_grad():
        together = logits(pixels)
        for i in range(3):
            torch.testing.assert_close(together[i], logits(pixels[i : i + 1])[0], atol=2e-3, rtol=0)


def test_what_is_trained_has_finite_gradients_and_what_is_frozen_none(case: Case) -> None:
    model = case.build()
    trainer = case.trainer(model)
    model.train()
    assert trainer.loss_of([(i, 0) for i in range(4)]).isfinite()
    for name, parameter in model.named_parameters():
        if name in trainer.trained:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
        else:
            assert parameter.grad is None, name
    assert trainer.trained


@pytest.mark.slow
def test_it_learns_four_images_by_heart(case: Case) -> None:
    """In at most so many epochs; less is needed of most."""
    model = case.build()
    fields: dict[str, Any] = {"epochs": 60}
    enough = 0.95
    if case.name in PATHSAM:  # the tiny SAM is random: frozen it has nothing to offer
        fields["parts"] = ("head", "alignment", "decoder", "encoder")
    elif case.name == "mask-rcnn":  # its steps are dear; 0.85 are right where it finds nothing
        fields, enough = {"epochs": 28, "lr": 1e-2}, 0.93
    trainer = case.trainer(model, schedule="constant", **fields)
    losses: list[float] = []
    right = 0.0
    while right <= enough and trainer.epoch < trainer.config.epochs:
        losses += [loss for _ in range(4) for loss in trainer.train_epoch()]
        counts = count_images(model.eval(), case.images())
        right = np.trace(counts) / counts.sum()
    trainer.finish()
    assert right > enough
    assert np.mean(losses[-2:]) < 0.8 * losses[0]
    if case.name == "mask-rcnn":
        assert all(len(model.find_objects(model.encode(i.image)).scores) for i in case.images())


def test_saved_and_loaded_it_answers_the_same(case: Case, tmp_path: Path) -> None:
    model = case.build()
    case.save(tmp_path / "model.safetensors", model)
    loaded = case.load(tmp_path / "model.safetensors")
    assert (loaded.config, loaded.classes) == (model.config, model.classes)
    image = picture((64, 90))
    a, b = (one.decode_classes(one.encode(image)).logits for one in (model, loaded))
    assert torch.equal(a, b)


@pytest.mark.slow
def test_a_seed_decides_everything(case: Case) -> None:
    states = []
    for seed in (0, 0, 1):
        model = case.build(seed)
        trainer = case.trainer(model, seed=seed)
        model.train()
        trainer.train_step([(0, 0), (1, 0)])
        trainer.train_step([(2, 0), (3, 0)])
        states.append({n: p.detach().clone() for n, p in trainer.trained.items()})
    assert all(torch.equal(states[0][n], states[1][n]) for n in states[0])
    assert any(not torch.equal(states[0][n], states[2][n]) for n in states[0])


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_it_moves_between_devices(case: Case, device: str) -> None:
    there = torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available()
    if not there:
        pytest.skip(f"no {device} here")
    model, image = case.build(), picture((64, 96))
    here = model.decode_classes(model.encode(image)).logits
    moved = model.to(device)
    assert moved.device.type == device
    found = moved.decode_classes(moved.encode(image)).logits
    assert found.device.type == device
    assert (found.cpu().argmax(0) == here.argmax(0)).float().mean() > 0.98
    back = model.to("cpu")
    assert torch.equal(back.decode_classes(back.encode(image)).logits, here)


def test_it_works_under_autocast(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    model, image = case.build(), picture((64, 96))
    with torch.autocast("cpu", torch.bfloat16):
        found = model.decode_classes(model.encode(image)).logits
    assert found.shape[0] == 3
    assert found.isfinite().all()
    trainer = case.trainer(model, mixed_precision=True)
    model.train()
    assert trainer.loss_of([(0, 0), (1, 0)]).isfinite()


def test_it_segments_and_is_evaluated(case: Case, tmp_path: Path) -> None:
    model = case.build()
    found = segment_classes(model, picture((150, 131)), 0.25)
    assert found.shape == (150, 131)
    assert set(np.unique(found)) <= {0, 1, 2}
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for one in discs()[:2]:
        Image.fromarray(one.image).save(tmp_path / "images" / f"{one.name}.png")
        Image.fromarray(one.target.astype(np.uint8)).save(tmp_path / "labels" / f"{one.name}.png")
    samples = folder_samples(tmp_path / "images", tmp_path / "labels", label_kind="classes")
    report = evaluate(model, overriding(samples, mpp=0.5))
    assert (report.n_images, report.task) == (2, "classes")
    assert sum(c["pixels"] for c in report.metrics["per_class"].values()) > 0
    assert np.sum(report.metrics["confusion"]["pixels"]) == 2 * 64 * 64
