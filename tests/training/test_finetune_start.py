"""What fine-tuning starts from: what it knows is taken over, and never lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadWeightsError
from napari_pathsam.models.catalogue import load_model
from napari_pathsam.training.finetune import Teacher
from napari_pathsam.training.finetune_config import (
    FineTuneConfig,
    FineTuneSettings,
    HoldOut,
    preset_config,
)
from napari_pathsam.training.finetune_file import save_taught
from napari_pathsam.training.finetune_run import FineTuneImage, freeze

Settings = Callable[..., FineTuneSettings]


def test_class_prompts_of_the_same_name_are_taken_over(
    settings: Settings, painted: list[FineTuneImage], tmp_path: Path
) -> None:
    teacher = Teacher(freeze(settings(), painted))
    list(teacher.steps())
    start = tmp_path / "start.safetensors"
    save_taught(start, teacher.result())
    known = teacher.result().model
    table = ClassTable.of("tumour", "Gland", "ground")
    again = settings().model_copy(update={"start": str(start), "classes": table})
    assert not freeze(again, painted).run.start_knows_all
    model = Teacher(freeze(again, painted)).model
    assert model.classes.names == ("tumour", "Gland")
    assert torch.equal(model.head.tokens[2], known.head.tokens[1])
    assert torch.equal(model.head.tokens[0], known.head.tokens[0])
    assert not torch.equal(model.head.tokens[1], known.head.tokens[1])
    state, other = model.decoder.state_dict(), known.decoder.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)
    fresh = again.model_copy(update={"fresh_prompts": True})
    assert not torch.equal(
        Teacher(freeze(fresh, painted)).model.head.tokens[2], known.head.tokens[1]
    )
    # A run knows what it started from.
    frozen = freeze(again, painted)
    save_taught(start, replace(teacher.result(), model=model))
    with pytest.raises(BadWeightsError, match="other weights"):
        Teacher(frozen)


@pytest.fixture
def known(settings: Settings, painted: list[FineTuneImage], tmp_path: Path) -> Path:
    """A head that has learned the classes."""
    long = settings(epochs=8, steps=8, batch=4, lr=1e-2, body_lr=1.0, crop_px=128)
    teacher = Teacher(freeze(long, painted))
    list(teacher.steps())
    save_taught(tmp_path / "known.safetensors", teacher.result())
    return tmp_path / "known.safetensors"


def test_training_never_ends_below_its_start(
    settings: Settings, painted: list[FineTuneImage], known: Path, tmp_path: Path
) -> None:
    frozen = freeze(settings(start=str(known), lr=1.0, epochs=3), painted)
    state = tmp_path / "state.pt"
    teacher = Teacher(frozen, state=state)
    scored = [r.scores.mean_dice for r in teacher.steps() if r.scores is not None]
    assert min(scored) < scored[0] - 0.1  # steps as large as these spoil it
    taught = teacher.result()
    assert taught.scores.mean_dice >= scored[0]
    assert taught.epoch == 0
    assert "made nothing better" in taught.notes[-1]
    begun = load_model(known, "cpu").state_dict()
    assert all(torch.equal(begun[name], value) for name, value in taught.weights.items())
    assert Teacher(frozen, state=state).best.floor == scored[0]


def test_a_start_that_is_right_is_changed_gently(
    settings: Settings, painted: list[FineTuneImage], known: Path
) -> None:
    def begun(**fields) -> tuple[Teacher, list[str]]:
        teacher = Teacher(freeze(settings(**fields), painted))
        steps = teacher.steps()
        while teacher.step == 0:
            notes = next(steps).notes
        return teacher, list(notes)

    teacher, notes = begun(start=str(known))
    right = teacher.best.floor
    assert right > 0.7
    assert teacher.best.doubt > 0  # a few strokes may say that it is worse than it is
    assert teacher.pace == max(0.05, max(0, 1 - right - teacher.best.doubt) ** 2)
    assert teacher.optimizer.param_groups[0]["lr"] < teacher.config.lr * teacher.pace
    assert f"scores {right:.2f}" in notes[0]
    assert begun(start=str(known), lr=1e-3)[0].pace == 1  # a rate of the person's own
    assert begun()[0].pace == 1  # class prompts from new
    config = preset_config("balanced")
    assert config.pace(None) == config.pace(0.95) == config.gentlest
    assert config.pace(0.2) == pytest.approx(0.64)
    assert FineTuneConfig().pace(0.95) == pytest.approx(1)  # as runs of before were made


def test_a_start_that_nothing_is_held_out_for_is_changed_gently_and_that_is_said(
    settings: Settings, painted: list[FineTuneImage], tmp_path: Path
) -> None:
    teacher = Teacher(freeze(settings(), painted))
    list(teacher.steps())
    known = tmp_path / "start.safetensors"
    save_taught(known, teacher.result())
    again = settings().model_copy(update={"start": str(known), "hold_out": HoldOut(by="none")})
    teacher = Teacher(freeze(again, painted))
    notes = list(teacher.steps())[-1].notes
    assert "nothing is held out" in notes[0]
    assert f"{100 * teacher.pace:.0f} % of the preset's" in notes[0]
    assert not any("made nothing better" in note for note in teacher.result().notes)
