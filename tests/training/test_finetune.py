"""Fine-tuning from painted labels: it learns, to the same bits; what is wrong is said in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, BadImageError, BadLabelsError, BadWeightsError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.strokes import scribbles
from napari_pathsam.inference.class_maps import segment_tiles
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.training.class_data import TrainingImage
from napari_pathsam.training.finetune import Teacher
from napari_pathsam.training.finetune_check import table_of
from napari_pathsam.training.finetune_config import FineTuneSettings, HoldOut
from napari_pathsam.training.finetune_file import read_run, save_taught, write_run
from napari_pathsam.training.finetune_report import Scores, TrainingStopped
from napari_pathsam.training.finetune_run import FineTuneImage, Frozen, freeze
from napari_pathsam.training.finetune_score import rescore, worst_regions
from napari_pathsam.training.finetune_state import Best

Discs = Callable[..., list[TrainingImage]]
THREE = ClassTable.of("gland", "stroma", "ground")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model) -> str:
    """``tiny`` among the imported models."""
    from napari_pathsam.models.checkpoints import import_checkpoint
    from napari_pathsam.models.model_file import save_model

    monkeypatch.setenv("NAPARI_PATHSAM_CACHE", str(tmp_path / "cache"))
    save_model(tmp_path / "tiny.safetensors", tiny_model, {"licence": "none"})
    return import_checkpoint(tmp_path / "tiny.safetensors")


@pytest.fixture
def painted(discs: Discs) -> list[FineTuneImage]:
    """Two images with strokes in gland (1), stroma (2) and ground (3)."""
    found = []
    for n, one in enumerate(discs(2)):
        truth = np.where(one.target == 0, 3, one.target).astype(np.uint8)
        labels = scribbles(truth, share=0.15, seed=n, width_px=5, length_px=30)
        slide = ArraySlide(one.image, mpp=0.5, name=f"discs {n}")
        found.append(FineTuneImage(slide, labels, 0.5, name=f"discs {n}", key=str(n)))
    return found


def settings(tiny: str, **fields) -> FineTuneSettings:
    made = FineTuneSettings(
        name="mine", base=tiny, classes=THREE, background_id=3, hidden=(16,), device="cpu",
        threads=1, hold_out=fields.pop("hold_out", HoldOut(share=0.25)),
        zero=fields.pop("zero", "unlabelled"),
    )  # fmt: skip
    quick = {"epochs": 2, "steps": 2, "batch": 2, "crop_px": 64}
    return made.with_preset("fast", **(quick | fields))


def same(a, b) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_from_strokes(tiny: str, painted: list[FineTuneImage]) -> None:
    cache = EmbeddingCache()
    frozen = freeze(
        settings(tiny, epochs=12, steps=10, batch=4, lr=1e-2, body_lr=1.0, crop_px=128, variants=2),
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


def test_one_run_one_model(tiny: str, painted: list[FineTuneImage], tmp_path: Path) -> None:
    frozen = freeze(settings(tiny, variants=2), painted)
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
    assert freeze(settings(tiny, variants=2, seed=1), painted).digest != frozen.digest


def test_a_stopped_run_goes_on_to_the_same_bits(
    tiny: str, painted: list[FineTuneImage], tmp_path: Path
) -> None:
    frozen = freeze(settings(tiny, epochs=3), painted)
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
        Teacher(freeze(settings(tiny, epochs=4), painted), state=state)


def test_closing_keeps_the_best(tiny: str, painted: list[FineTuneImage]) -> None:
    teacher = Teacher(freeze(settings(tiny), painted))
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
    tiny: str, painted: list[FineTuneImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = Teacher(freeze(settings(tiny, batch=4), painted))
    true = Teacher._stepped

    def stepped(self, crops):
        if len(crops) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to …")
        return true(self, crops)

    monkeypatch.setattr(Teacher, "_stepped", stepped)
    reports = list(teacher.steps())
    assert reports[-1].done == 4
    assert [n.split(":")[0] for n in reports[-1].notes] == ["There was not enough memory"] * 2
    assert "1 crops in a step instead of 2" in reports[-1].notes[1]


def test_a_loss_that_is_no_number_stops(
    tiny: str, painted: list[FineTuneImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_pathsam.training import finetune

    teacher = Teacher(freeze(settings(tiny, hold_out=HoldOut(by="none")), painted))
    steps = teacher.steps()
    kept = next(report.weights for report in steps if report.improved)
    monkeypatch.setattr(
        finetune, "class_loss", lambda *a, **k: torch.tensor(float("nan"), requires_grad=True)
    )
    with pytest.raises(TrainingStopped, match=r"epoch 1 was kept\. Lower the learning rate"):
        list(steps)
    assert same(teacher.result().weights, kept)
    assert teacher.result().scores is None


def test_only_touched_tiles_are_read(tiny: str) -> None:
    class Counting(ArraySlide):
        reads = 0

        def read_resampled(self, region, shape_yx):
            self.reads += 1
            return super().read_resampled(region, shape_yx)

    image = np.random.default_rng(0).integers(0, 255, (400, 600, 3), np.uint8)
    slide = Counting(image, mpp=0.5, name="large")
    labels = np.zeros((400, 600), np.uint8)
    labels[20:30, 20:40], labels[20:30, 60:80] = 1, 2
    frozen = freeze(settings(tiny), [FineTuneImage(slide, labels, 0.5)])
    assert (slide.reads, frozen.n_tiles) == (1, 1)
    labels[380:390, 580:590] = 1
    assert freeze(settings(tiny), [FineTuneImage(slide, labels, 0.5)]).n_tiles == 2
    # The tiles are those of the region that is segmented.
    field = Region(100, 100, 128, 128)
    here = np.zeros((400, 600), np.uint8)
    here[150:160, 150:170], here[150:160, 190:210] = 1, 2
    cache = EmbeddingCache()
    frozen = freeze(settings(tiny), [FineTuneImage(slide, here, 0.5, region=field)])
    teacher = Teacher(frozen, cache=cache)
    assert list(segment_tiles(teacher.model, slide, mpp=0.5, region=field, cache=cache))
    next(teacher.steps())
    assert teacher.crops.encoded == 0


def test_part_of_a_slide_and_a_layer_of_held_out_labels(
    tiny: str, painted: list[FineTuneImage]
) -> None:
    one = painted[0]
    at = Region(10, 20, 60, 70)
    part = replace(one, labels=one.labels[at.slices], labels_at=at)
    frozen = freeze(settings(tiny, hold_out=HoldOut(by="none")), [part])
    (record,) = frozen.run.images
    assert record.labels_at.region == at
    assert frozen.held_px == 0
    own = np.zeros_like(one.labels)
    own[40:44, 40:60] = 1
    frozen = freeze(
        settings(tiny, hold_out=HoldOut(by="layer")), [replace(one, held_out=own), painted[1]]
    )
    assert frozen.held_px == 80
    assert frozen.labels[0].labels[40, 50] == 1


def test_unpainted_is_background_only_when_said(tiny: str, painted: list[FineTuneImage]) -> None:
    from napari_pathsam.training.finetune_data import tile_pixels_of

    for zero in ("unlabelled", "background"):
        frozen = freeze(settings(tiny, zero=zero), painted[:1])
        ((pixels,),) = tile_pixels_of(frozen)
        known = int((painted[0].labels > 0).sum())
        assert len(pixels.y) == (known if zero == "unlabelled" else painted[0].labels.size)
        if zero == "background":  # held-out regions with the ground round them
            assert set(pixels.channel[pixels.held].tolist()) == {0, 1, 2}


def test_class_prompts_of_the_same_name_are_taken_over(
    tiny: str, painted: list[FineTuneImage], tmp_path: Path
) -> None:
    teacher = Teacher(freeze(settings(tiny), painted))
    list(teacher.steps())
    start = tmp_path / "start.safetensors"
    save_taught(start, teacher.result())
    known = teacher.result().model
    table = ClassTable.of("tumour", "Gland", "ground")
    again = settings(tiny).model_copy(update={"start": str(start), "classes": table})
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


def test_the_worst_regions_are_found(tiny: str, painted: list[FineTuneImage]) -> None:
    wrong = painted[0].labels.copy()
    wrong[2:10, 2:14] = 0
    teacher = Teacher(
        freeze(
            settings(tiny, epochs=8, steps=10, batch=4, lr=1e-2, body_lr=1.0, crop_px=128), painted
        )
    )
    list(teacher.steps())
    frozen = freeze(settings(tiny), painted)
    swapped = frozen.labels[0].labels.copy()
    first = painted[0].labels == 1
    swapped[first] = 2  # a mistake of the person
    mistaken = replace(frozen, labels=(replace(frozen.labels[0], labels=swapped), frozen.labels[1]))
    worst = worst_regions(teacher.result().model, mistaken)[0]
    assert worst.image_name == "discs 0"
    assert worst.class_name == "stroma"
    assert worst.said == "gland"
    assert worst.disagreement > 0.8
    assert swapped[worst.region.slices].max() > 0


def test_what_is_wrong_is_said(tiny: str, painted: list[FineTuneImage]) -> None:
    one = painted[0]
    blank = np.zeros_like(one.labels)

    def refused(labels: np.ndarray, said: str, **fields) -> None:
        with pytest.raises(BadLabelsError, match=said) as told:
            freeze(settings(tiny), [replace(one, labels=labels, **fields)])
        assert len(str(told.value).split()) < 45

    refused(blank, "Nothing is painted on discs 0 yet")
    refused(np.where(one.labels == 1, 1, 0), "Only one class is painted, “gland”")
    few = one.labels.copy()
    few[few == 2] = 0
    few[50, 50:53] = 2
    refused(few, "“stroma” has 3 painted pixels, too few")
    off = np.zeros((200, 200), np.uint8)
    off[150:170, 150:170] = 1
    refused(off, "lie off the image, which has 96 × 96 pixels")
    refused(one.labels, "lie off the image", labels_at=Region(500, 500, 96, 96))
    refused(np.where(one.labels == 1, 9, one.labels), "hold the ids 9, which no class has")
    refused(one.labels, "they must be of one size", held_out=blank[:10])
    with pytest.raises(BadLabelsError, match="Two classes are called “Gland”"):
        table_of([(1, "gland", None), (2, "Gland ", None)])
    with pytest.raises(BadLabelsError, match="There is no image"):
        freeze(settings(tiny), [])
    with pytest.raises(BadImageError, match="pixel size"):
        freeze(settings(tiny), [replace(one, mpp=None)])
    single = np.zeros_like(one.labels)
    single[5:15, 5:30], single[40:50, 5:30], single[70:80, 5:30] = 1, 1, 2
    said = freeze(settings(tiny), [replace(one, labels=single)]).warnings
    assert any("“stroma” has one region only" in text for text in said)
    assert any("“ground” is not painted" in text for text in said)


def test_few_held_out_pixels_are_not_taken_for_more(
    tiny: str, painted: list[FineTuneImage]
) -> None:
    frozen = freeze(settings(tiny), painted[:1])
    scores = rescore(Teacher(frozen).model, frozen)
    assert any("too few to mean much" in text for text in scores.sentences)
    counts = np.array([[900, 100], [100, 900]])
    few = replace(scores, counts=counts, names=("ground", "gland"), regions=(2, 2))
    many = replace(few, regions=(20, 20))
    assert few.mean_dice == pytest.approx(0.9)
    assert few.noise == pytest.approx(0.15)  # √(0.9 · 0.1 / 4)
    assert many.noise < 0.05
    assert [row.sentence for row in many.rows] == ["", ""]
    # Newer weights that score a little less are as good, as far as so few regions can tell.
    best = Best(1, few, {}, highest=0.95)
    assert best.beaten_by(few)
    assert not best.beaten_by(many)


@pytest.mark.parametrize("spoiled", ["torn", "foreign", "shape"])
def test_a_damaged_run_is_refused(
    tiny: str, painted: list[FineTuneImage], tmp_path: Path, spoiled: str
) -> None:
    frozen = freeze(settings(tiny), painted)
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
    tiny: str, painted: list[FineTuneImage], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    import json

    from napari_pathsam.cli import main

    frozen: Frozen = freeze(settings(tiny), painted)
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


def test_what_it_will_cost_is_measured(tiny: str, painted: list[FineTuneImage]) -> None:
    from napari_pathsam.training.finetune_config import preset_config
    from napari_pathsam.training.finetune_plan import estimates

    cache = EmbeddingCache()
    frozen = freeze(settings(tiny), painted)
    small = preset_config("fast", crop_px=64)
    configs = {"short": small, "long": small.model_copy(update={"epochs": 60, "variants": 4})}
    found = estimates(frozen, configs, cache=cache)
    short, long = found["short"], found["long"]
    assert 0 < short.train_s < long.train_s
    assert short.encode_s < long.encode_s
    assert 0 < short.memory_bytes < 2e9
    assert short.text.startswith("about ")
    assert estimates(frozen, configs, cache=cache)["short"].encode_s == 0  # it is there by now
