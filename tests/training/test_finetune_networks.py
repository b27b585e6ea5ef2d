"""A network of its own, trained whole on what was painted: held out, written, gone on with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadWeightsError
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.models.catalogue import load_model, weights_sha256
from napari_pathsam.models.checkpoints import cached_path
from napari_pathsam.models.model_file import BaseWeights
from napari_pathsam.models.task_file import save_task
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.models.task_recipes import find_task_recipe
from napari_pathsam.training.explain import explain
from napari_pathsam.training.finetune import Teacher
from napari_pathsam.training.finetune_config import WHOLE, FineTuneSettings, preset_config
from napari_pathsam.training.finetune_file import read_run, save_taught, write_run
from napari_pathsam.training.finetune_networks import (
    SMALL,
    made_from,
    network_config,
    trains_network,
)
from napari_pathsam.training.finetune_run import FineTuneImage, Frozen, freeze
from napari_pathsam.training.finetune_score import rescore
from napari_pathsam.training.finetune_start import start_model
from napari_pathsam.training.task_start import start_task
from napari_pathsam.workspace.teaching_choices import NETWORKS, Choices

CLASSES = ClassTable.of("gland", "other")
NARROW = (16, 8, 8, 4, 4)


def frozen(base: str = "unet", classes: ClassTable = CLASSES, **fields) -> Frozen:
    """Dark and pale squares of 96 pixels, with strokes on five of each."""
    rng = np.random.default_rng(3)
    labels = np.zeros((101, 96), np.uint8)  # no whole number of strides
    image = np.full((101, 96, 3), 225, np.uint8)
    for n in range(5):
        image[4 + 18 * n : 16 + 18 * n, 8:40] = (110, 50, 150)
        labels[7 + 18 * n : 13 + 18 * n, 12:30] = 1
        labels[7 + 18 * n : 13 + 18 * n, 60:80] = 2
    image = (image + rng.integers(-6, 7, image.shape)).clip(0, 255).astype(np.uint8)
    config = preset_config(
        "fast", parts=WHOLE, epochs=2, steps=8, batch=2, crop_px=64, variants=2, lr=5e-3, warmup=1
    )
    settings = FineTuneSettings(
        base=base, classes=classes, background_id=2, config=config, device="cpu", threads=1,
        **fields,
    )  # fmt: skip
    return freeze(settings, [FineTuneImage(ArraySlide(image, mpp=0.5), labels, 0.5, name="a")])


@pytest.mark.slow
def test_it_is_trained_scored_and_written(tmp_path: Path) -> None:
    run = frozen()
    teacher = Teacher(run, state=tmp_path / "state")
    steps = teacher.steps()
    reports = [next(steps)]
    while reports[-1].epoch < 1 or reports[-1].phase != "epoch":
        reports.append(next(steps))
    steps.close()  # stopped after the first epoch, and taken up again
    again = Teacher(run, state=tmp_path / "state")
    scores = [r.scores for r in (*reports, *again.steps()) if r.scores is not None]
    taught = again.result()
    assert len(scores) == 3
    assert scores[-1].mean_dice > 0.8
    assert taught.scores is not None
    assert taught.scores.n_px == run.held_px > 0
    whole = Teacher(run)
    assert [r.scores.mean_dice for r in whole.steps() if r.scores][-1] == scores[-1].mean_dice
    assert all(torch.equal(t, taught.weights[n]) for n, t in whole.result().weights.items())

    card = save_taught(tmp_path / "version.safetensors", taught)
    assert card.trained == ("network",)
    loaded = load_model(tmp_path / "version.safetensors", "cpu")
    assert isinstance(loaded, TaskModel)
    found = rescore(loaded, run)
    assert found is not None
    assert found.mean_dice == pytest.approx(taught.scores.mean_dice, abs=1e-6)
    write_run(tmp_path / "a.run.npz", run, taught)
    kept, outcome = read_run(tmp_path / "a.run.npz")
    assert kept.digest == run.digest
    assert outcome is not None
    with pytest.raises(BadWeightsError, match="no KAN"):
        explain(loaded, loaded.encode(run.pixels[0][0]), 1)

    start = str(tmp_path / "version.safetensors")
    assert trains_network("pathsam-nano", start)
    on = Teacher(frozen(start=start))  # goes on from there, and knows the classes
    assert on.frozen.run.start_knows_all
    state = on.model.state_dict()
    assert all(torch.equal(t, state[n]) for n, t in loaded.state_dict().items())
    crypt = CLASSES[1].model_copy(update={"name": "crypt"})
    renamed = Teacher(frozen(start=start, classes=CLASSES.replacing(crypt).remembering(CLASSES)))
    assert renamed.model.classes.names == ("crypt",)
    with pytest.raises(BadWeightsError, match="goes on with the classes"):
        frozen(start=start, classes=ClassTable.of("nucleus", "other"))


def test_what_is_offered_can_be_had() -> None:
    assert set(NETWORKS) == set(SMALL)
    for base in SMALL:
        choices = Choices(base=base, classes=CLASSES, background_id=2)
        settings = choices.settings()
        assert settings.config.parts == WHOLE
        assert network_config(settings, 0.5).mpp == 0.5
    assert Choices(classes=CLASSES).settings().config.parts != WHOLE
    with pytest.raises(BadWeightsError, match="mask-rcnn is not taught with what is painted"):
        frozen("mask-rcnn")


def settings_of(**fields) -> FineTuneSettings:
    return FineTuneSettings(classes=CLASSES, background_id=2, device="cpu", **fields)


def written(path: Path, recipe: str, network: dict, **card) -> str:
    """The file of a small network, untrained, of the class it is asked for."""
    about = {"tissue": "colon", "mpp_range": (0.4, 1.6)}
    config = find_task_recipe(recipe).config(mpp=0.5, network=network, **about)
    save_task(path, TaskModel(config, ClassTable.of("gland")), {"licence": "none"} | card)
    return str(path)


def test_a_u_net_sees_what_the_trunk_it_starts_from_sees() -> None:
    """``pathsam train --base unet-timm --trunk pathsam-nano``, with nothing more said."""
    config = find_task_recipe("unet-timm").config(network={"decoder_widths": NARROW})
    model = start_task(config, CLASSES, device="cpu", trunk=Path("pathsam-nano"))
    base = load_model("pathsam-nano", "cpu")
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        mine = model.network.trunk(model.seen(model.encode_batch(pixels))[0])
        theirs = base.image_encoder.trunk(base.normalise(pixels))
    torch.testing.assert_close(mine[-1], theirs[-1], atol=1e-3, rtol=1e-3)
    assert model.config.network.frozen_norm


def test_what_a_network_goes_on_from_is_named_and_nothing_else(tmp_path: Path) -> None:
    pathsam = BaseWeights(name="pathsam-nano", sha256=weights_sha256("pathsam-nano"))
    own = BaseWeights(name="mobilenet", sha256="0" * 64)
    path = tmp_path / "mine.safetensors"
    network = {"trunk": "mobilenetv2_035", "decoder_widths": NARROW}
    start = written(path, "unet-timm", network, base=(own,))
    config = preset_config("fast", parts=WHOLE)
    model = start_model(settings_of(start=start, config=config, mpp=1.0)).model
    assert made_from(model, start) == (own,)
    assert (model.config.tissue, model.config.mpp_range) == ("", None)
    assert model.config.mpp == 1.0
    told = start_model(settings_of(start=start, config=config), [0.25, 1.2]).model
    assert told.config.mpp_range == (0.125, 1.8)
    assert start_model(settings_of(start=start, config=config)).model.config.mpp == 0.5
    new = start_model(settings_of(base="unet-timm", mpp=0.5)).model
    assert made_from(new, None) == (pathsam,)


def test_an_imported_network_is_trained_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_PATHSAM_CACHE", str(tmp_path))
    kept = cached_path("my-unet")
    kept.parent.mkdir(parents=True, exist_ok=True)
    written(kept, "unet-timm", {"trunk": "mobilenetv2_035", "decoder_widths": NARROW})
    assert Choices(start="my-unet").config_of("fast").parts == WHOLE
    assert Choices(start="pathsam-nano:glands").config_of("fast").parts != WHOLE


def test_a_mask_rcnn_is_no_start(tmp_path: Path) -> None:
    network = {"trunk": "resnet18", "rois": 8}
    start = written(tmp_path / "objects.safetensors", "mask-rcnn", network)
    with pytest.raises(BadWeightsError, match="learns from objects, is not taught with what is"):
        frozen(start=start, classes=CLASSES)


def test_a_network_from_new_is_trained_whole(tmp_path: Path) -> None:
    for found in (settings_of(base="unet"), settings_of(base="unet").with_preset("fast")):
        assert found.config == preset_config("fast", parts=WHOLE)
    assert settings_of().config == preset_config("fast") == settings_of(start="x.st").config
    start = written(tmp_path / "mine.safetensors", "unet", {"width": 4})
    parts = settings_of().config
    for wrong in (
        settings_of(base="unet", config=parts, mpp=0.5),
        settings_of(start=start),
        settings_of(base="pathsam-nano", config=preset_config("fast", parts=WHOLE), mpp=0.5),
    ):
        with pytest.raises(BadWeightsError, match="none of the parts that were to be trained"):
            start_model(wrong)
