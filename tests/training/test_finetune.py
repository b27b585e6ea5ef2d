"""Fine-tuning from painted labels: it learns, to the same bits, and ends well whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.inference.class_maps import segment_tiles
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.training.finetune import Teacher
from napari_pathsam.training.finetune_config import FineTuneSettings, HoldOut
from napari_pathsam.training.finetune_file import read_run, save_taught, write_run
from napari_pathsam.training.finetune_report import Scores, TrainingStopped
from napari_pathsam.training.finetune_run import FineTuneImage, Frozen, freeze
from napari_pathsam.training.finetune_score import rescore

Settings = Callable[..., FineTuneSettings]


def same(a, b) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_it_learns_from_strokes(settings: Settings, painted: list[FineTuneImage]) -> None:
    cache = EmbeddingCache()
    frozen = freeze(
        settings(epochs=12, steps=10, batch=4, lr=1e-2, body_lr=1.0, crop_px=128, variants=2),
        painted,
    )
    assert frozen.held_px > 0
    teacher = Teacher(frozen, cache=cache)
    reports = list(teacher.steps())
    assert reports[-1].done == reports[-1].total == 120
    ends = [r for r in reports if r.phase == "epoch"]
    assert [r.epoch for r in ends] == list(range(13))
    assert all((r.weights is not None) == r.improved for r in ends)
    assert ends[-1].loss < 0.5 * ends[1].loss
    taught = teacher.result()
    assert taught.scores.mean_dice > 0.85
    assert taught.scores.mean_dice > ends[0].scores.mean_dice + 0.2
    assert taught.scores.n_px == frozen.held_px
    assert [row.name for row in taught.scores.rows] == ["gland", "stroma", "ground"]
    # What the score says is what is painted by "Segment all classes".
    segmented = list(segment_tiles(taught.model, painted[0].source, mpp=0.5, cache=cache))
    assert not any(tile.encoded for tile in segmented)
    found = np.where(segmented[-1].class_map == 0, 3, segmented[-1].class_map)
    strokes = painted[0].labels > 0
    assert (found == painted[0].labels)[strokes].mean() > 0.85


def test_one_run_one_model(
    settings: Settings, painted: list[FineTuneImage], tmp_path: Path
) -> None:
    frozen = freeze(settings(variants=2), painted)
    first = Teacher(frozen)
    list(first.steps())
    taught = first.result()

    write_run(tmp_path / "a.run.npz", frozen, taught)
    again, outcome = read_run(tmp_path / "a.run.npz")
    assert again.digest == frozen.digest
    assert again.run == frozen.run
    assert same(outcome.weights, taught.weights)
    second = Teacher(again)
    list(second.steps())
    assert same(second.result().weights, taught.weights)
    assert second.result().scores.to_json() == taught.scores.to_json()

    save_taught(tmp_path / "mine.safetensors", taught, note="a note")
    from napari_pathsam.models.catalogue import load_model
    from napari_pathsam.models.model_file import read_card

    loaded = load_model(tmp_path / "mine.safetensors", "cpu")
    once_more = rescore(loaded, again)
    assert np.array_equal(once_more.counts, taught.scores.counts)
    assert once_more.nll == pytest.approx(taught.scores.nll, rel=1e-4)
    about = read_card(tmp_path / "mine.safetensors").provenance
    assert about["digest"] == frozen.digest
    assert about["note"] == "a note"
    assert Scores.from_json(about["scores"]).mean_dice == taught.scores.mean_dice
    assert freeze(settings(variants=2, seed=1), painted).digest != frozen.digest


def test_a_stopped_run_goes_on_to_the_same_bits(
    settings: Settings, painted: list[FineTuneImage], tmp_path: Path
) -> None:
    frozen = freeze(settings(epochs=3), painted)
    whole = Teacher(frozen)
    list(whole.steps())
    state = tmp_path / "state.pt"
    stopped = Teacher(frozen, state=state)
    steps = stopped.steps()
    for report in steps:
        if report.done == 5:  # in the middle of the last epoch
            break
    steps.close()
    assert stopped.result().epoch <= 2
    gone_on = Teacher(frozen, state=state)
    assert gone_on.epoch == 2
    list(gone_on.steps())
    assert same(gone_on.result().weights, whole.result().weights)
    with pytest.raises(BadFileError, match="another run"):
        Teacher(freeze(settings(epochs=4), painted), state=state)


def test_closing_keeps_the_best(settings: Settings, painted: list[FineTuneImage]) -> None:
    teacher = Teacher(freeze(settings(), painted))
    assert teacher.result().epoch == 0
    kept = None
    steps = teacher.steps()
    for report in steps:
        kept = report.weights or kept
        if report.epoch == 1 and report.phase == "training":
            break
    steps.close()
    taught = teacher.result()
    if kept is None:
        assert taught.epoch == 0
    else:
        assert same(taught.weights, kept)
        state = taught.model.state_dict()
        assert all(torch.equal(state[name], value) for name, value in kept.items())


def test_too_little_memory_halves_the_batch(
    settings: Settings, painted: list[FineTuneImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = Teacher(freeze(settings(batch=4), painted))
    true = Teacher._stepped

    def stepped(self, crops):
        if len(crops) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to …")
        return true(self, crops)

    monkeypatch.setattr(Teacher, "_stepped", stepped)
    reports = list(teacher.steps())
    assert reports[-1].done == 4
    assert [n.split(":")[0] for n in reports[-1].notes] == ["There was not enough memory"] * 2
    assert "1 crop in a step instead of 2" in reports[-1].notes[1]


def test_a_loss_that_is_no_number_stops(
    settings: Settings, painted: list[FineTuneImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_pathsam.training import finetune

    teacher = Teacher(freeze(settings(hold_out=HoldOut(by="none")), painted))
    steps = teacher.steps()
    kept = next(report.weights for report in steps if report.improved)
    monkeypatch.setattr(
        finetune, "class_loss", lambda *a, **k: torch.tensor(float("nan"), requires_grad=True)
    )
    with pytest.raises(TrainingStopped, match=r"epoch 1 was kept\. Lower the learning rate"):
        list(steps)
    assert same(teacher.result().weights, kept)
    assert teacher.result().scores is None


@pytest.mark.parametrize("spoiled", ["torn", "foreign", "shape"])
def test_a_damaged_run_is_refused(
    settings: Settings, painted: list[FineTuneImage], tmp_path: Path, spoiled: str
) -> None:
    frozen = freeze(settings(), painted)
    path = tmp_path / "a.run.npz"
    if spoiled == "shape":
        first = frozen.labels[0]
        cut = replace(first, labels=first.labels[:10])
        write_run(path, replace(frozen, labels=(cut, frozen.labels[1])))
    else:
        write_run(path, frozen)
    if spoiled == "torn":
        path.write_bytes(path.read_bytes()[:-400])
    if spoiled == "foreign":
        np.savez(path, other=np.zeros(3))
    with pytest.raises(BadFileError, match="no fine-tuning run"):
        read_run(path)


def test_train_and_evaluate_say_the_same_as_the_dock(
    settings: Settings, painted: list[FineTuneImage], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    import json

    from napari_pathsam.cli import main

    frozen: Frozen = freeze(settings(), painted)
    teacher = Teacher(frozen)
    list(teacher.steps())
    taught = teacher.result()
    file, out = tmp_path / "a.run.npz", tmp_path / "mine.safetensors"
    write_run(file, frozen, taught)

    def run(*words) -> None:
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        assert not left.value.code, capsys.readouterr().err

    run("train", "--run", file, "--out", out)
    from safetensors.torch import load_file

    trained = load_file(out)
    assert all(torch.equal(trained[name], value) for name, value in taught.weights.items())
    for more in ([], ["--model", out]):
        run("evaluate", "--run", file, "--json", tmp_path / "s.json", *more)
        assert json.loads((tmp_path / "s.json").read_text()) == taught.scores.to_json()
    assert f"{taught.scores.n_px} held-out pixels" in capsys.readouterr().out


def test_what_it_will_cost_is_measured(settings: Settings, painted: list[FineTuneImage]) -> None:
    from napari_pathsam.training.finetune_config import preset_config
    from napari_pathsam.training.finetune_plan import estimates

    cache = EmbeddingCache()
    frozen = freeze(settings(), painted)
    small = preset_config("fast", crop_px=64)
    configs = {"short": small, "long": small.model_copy(update={"epochs": 60, "variants": 4})}
    found = estimates(frozen, configs, cache=cache)
    short, long = found["short"], found["long"]
    assert 0 < short.train_s < long.train_s
    assert short.encode_s < long.encode_s
    assert 0 < short.memory_bytes < 2e9
    assert short.text.startswith("about ")
    assert estimates(frozen, configs, cache=cache)["short"].encode_s == 0  # it is there by now
