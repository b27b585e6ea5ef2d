"""What fine-tuning starts from: what it knows is taken over, and never lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
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
from napari_pathsam.training.finetune_file import read_painted, read_run, save_taught, write_run
from napari_pathsam.training.finetune_run import FineTuneImage, freeze
from napari_pathsam.training.finetune_score import Tally, said_of

Settings = Callable[..., FineTuneSettings]


def same(a, b) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
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
    renamed = table.replacing(table[2].model_copy(update={"name": "crypt"})).remembering(table)
    model = Teacher(freeze(again.model_copy(update={"classes": renamed}), painted)).model
    assert model.classes.names == ("tumour", "crypt")
    assert torch.equal(model.head.tokens[2], known.head.tokens[1])
    fresh = again.model_copy(update={"fresh_prompts": True})
    assert not torch.equal(
        Teacher(freeze(fresh, painted)).model.head.tokens[2], known.head.tokens[1]
    )
    # A run knows what it started from.
    frozen = freeze(again, painted)
    save_taught(start, replace(teacher.result(), model=model))
    with pytest.raises(BadWeightsError, match="other weights"):
        Teacher(frozen)


@pytest.fixture(scope="module")
def known(
    settings: Settings,
    painted: list[FineTuneImage],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A head that has learned the classes; taught once, as nobody writes to its file."""
    long = settings(epochs=8, steps=8, batch=4, lr=1e-2, body_lr=1.0, crop_px=128)
    teacher = Teacher(freeze(long, painted))
    list(teacher.steps())
    path = tmp_path_factory.mktemp("known") / "known.safetensors"
    save_taught(path, teacher.result())
    return path


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_start_that_is_right_is_changed_gently(
    settings: Settings, painted: list[FineTuneImage], known: Path
) -> None:
    for hold_out in (HoldOut(), HoldOut(by="none")):
        more = {"start": str(known), "hold_out": hold_out, "epochs": 1}
        teacher = Teacher(freeze(settings(**more), painted))
        notes = list(teacher.steps())[-1].notes
        start = teacher.model_with(teacher.begun)
        found = Tally(start, teacher.frozen, start=True)
        for said in said_of(start, teacher.frozen):
            found.add(said)
        right = found.scores()  # the start never saw the strokes, so all of them count
        assert right.n_px == sum(int((one.labels > 0).sum()) for one in teacher.frozen.labels)
        assert right.mean_dice > 0.7
        assert teacher.learned == teacher.config.learned(right.mean_dice + right.noise) < 1
        assert f"scores {right.mean_dice:.2f}" in notes[0]
        assert f"{100 * teacher.learned:.0f} % what was learned" in notes[0]
    weights = teacher.result().weights  # nothing is held out, so the newest
    assert not same(weights, teacher.begun)
    for name, begun in teacher.begun.items():
        mixed = begun + teacher.learned * (teacher.average[name] - begun)
        torch.testing.assert_close(weights[name], mixed)


@pytest.mark.slow
def test_a_start_that_is_wrong_is_not_kept_and_that_is_said(
    settings: Settings, painted: list[FineTuneImage], known: Path
) -> None:
    exchanged = [replace(one, labels=np.array([0, 2, 3, 1])[one.labels]) for one in painted]
    teacher = Teacher(freeze(settings(start=str(known), epochs=1, steps=1), exchanged))
    notes = list(teacher.steps())[-1].notes
    assert teacher.learned == 1
    assert "all that was learned is taken" in notes[0]


@pytest.mark.slow
def test_a_version_that_is_corrected_is_asked_for_what_was_painted_since(
    settings: Settings, painted: list[FineTuneImage], known: Path, tmp_path: Path
) -> None:
    quick = {"start": str(known), "epochs": 1, "steps": 1}
    first = freeze(settings(epochs=8, steps=8, batch=4, lr=1e-2, body_lr=1.0, crop_px=128), painted)
    write_run(tmp_path / "first.run.npz", first)
    before = read_painted(tmp_path / "first.run.npz")
    again = Teacher(freeze(settings(**quick), painted, before=before))
    for one, old in zip(again.frozen.labels, first.labels, strict=True):
        assert not (one.held & old.taught.astype(bool)).any()
    assert again.frozen.held_px
    assert not again.frozen.corrects  # nothing new: what is held out has to say it
    assert "on what is held out" in list(again.steps())[-1].notes[0]

    labels = painted[0].labels.copy()
    free = np.argwhere(labels == 0)
    y, x = free[np.abs(free - 48).sum(axis=1).argmin()]
    patch = labels[y : y + 12, x : x + 12]
    patch[:] = 3  # in a gland, all of which the version knows to be one
    more = [replace(painted[0], labels=labels), painted[1]]
    frozen = freeze(settings(**quick), more, before=before)
    write_run(tmp_path / "second.run.npz", frozen)
    frozen, _ = read_run(tmp_path / "second.run.npz")
    assert frozen.corrects
    new = [one.new for one in frozen.labels]
    assert not new[1].any()
    assert (frozen.labels[0].labels[new[0]] == 3).all()
    teacher = Teacher(frozen)
    notes = list(teacher.steps())[-1].notes
    assert "on what you painted since" in notes[0]
    assert teacher.learned == 1
    assert teacher.best.floor == -np.inf
    assert teacher.result().epoch == 1


@pytest.mark.slow
def test_only_a_start_that_knows_the_classes_is_kept(
    settings: Settings, painted: list[FineTuneImage], known: Path
) -> None:
    def ended(**fields) -> Teacher:
        teacher = Teacher(freeze(settings(epochs=1, steps=1, **fields), painted))
        list(teacher.steps())
        return teacher

    own_rate = ended(start=str(known), lr=1e-3)  # a rate of the person's own
    assert own_rate.learned == 1
    fresh = ended(lr=1e-9)  # nothing is learned, but it is what was trained
    assert fresh.learned == 1
    assert fresh.result().epoch == 1
    assert not fresh.result().notes
    config = preset_config("balanced")
    assert config.learned(0.99) == config.gentlest == 0.1
    assert config.learned(0.8) == pytest.approx(0.16)
    assert config.learned(0.3) == 1
    assert FineTuneConfig().learned(0.99) == 1
