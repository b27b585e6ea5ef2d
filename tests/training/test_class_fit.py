"""Teaching classes: it learns, it resumes to the same bits, what is kept changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, BadLabelsError
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.training.class_config import TrainConfig
from napari_pathsam.training.class_data import TrainingImage
from napari_pathsam.training.class_fit import ClassTrainer, count_images, fit_classes, fit_steps

Discs = Callable[..., list[TrainingImage]]


def weights(model: PathSam) -> dict[str, torch.Tensor]:
    kept = ("head.", "alignment.", "decoder.")
    return {n: t.clone() for n, t in model.state_dict().items() if n.startswith(kept)}


def same(a: PathSam, b: PathSam) -> bool:
    found, wanted = weights(a), weights(b)
    return all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.slow
def test_it_learns(tiny_pathsam: PathSam, discs: Discs, quick: TrainConfig) -> None:
    config = quick.model_copy(
        update={"parts": ("head", "alignment", "decoder"), "epochs": 45, "batch": 4, "ema": 0.9,
                "variants": 4, "lr": 1e-2, "warmup": 10, "validate_every": 15, "patch_px": 96,
                "stride": 2}
    )  # fmt: skip
    held_out = discs(3, seed=1)
    reports = list(fit_classes(tiny_pathsam, discs(8), held_out, config, cache=EmbeddingCache()))
    scores = [r.validation.macro_dice for r in reports if r.validation]
    assert len(scores) == 3
    assert scores[-1] > 0.9
    assert reports[-1].loss < 0.5 * reports[0].loss
    # 8 images in 4 variants and 3 to validate on, once each; nothing after that.
    assert sum(r.encoded for r in reports) == 8 * 4 + 3
    assert all(r.encoded == 0 for r in reports[15:])


@pytest.mark.parametrize("kept", [True, False])
def test_a_stopped_run_ends_with_the_bits_of_one_that_was_not(
    kept: bool, tmp_path: Path, tiny_pathsam: PathSam, discs: Discs, quick: TrainConfig
) -> None:
    config = quick.model_copy(update={"epochs": 3, "variants": 2 if kept else None, "mosaic": 0.5})
    other, state = deepcopy(tiny_pathsam), tmp_path / "state.pt"
    fresh = deepcopy(tiny_pathsam)

    def run(model: PathSam, resume: Path | None = None) -> list:
        cache = EmbeddingCache() if kept else None
        return list(fit_classes(model, discs(4), discs(1, 1), config, cache=cache, resume=resume))

    run(tiny_pathsam)
    steps = fit_steps(
        other, discs(4), discs(1, 1), config, cache=EmbeddingCache() if kept else None, resume=state
    )
    assert len(list(islice(steps, 3))) == 3  # killed in the middle of the second epoch
    steps.close()
    assert [r.epoch for r in run(fresh, state)] == [2, 3]
    assert same(fresh, tiny_pathsam)
    assert run(fresh, state) == []  # it is finished
    assert same(fresh, tiny_pathsam)


def test_a_state_of_something_else_is_refused(
    tmp_path: Path, tiny_pathsam: PathSam, discs: Discs, quick: TrainConfig
) -> None:
    state = tmp_path / "state.pt"
    ClassTrainer(tiny_pathsam, discs(2), (), quick).save(state)
    for images, parts in ((discs(2, seed=3), quick.parts), (discs(2), ("head",))):
        trainer = ClassTrainer(tiny_pathsam, images, (), quick.model_copy(update={"parts": parts}))
        with pytest.raises(BadFileError, match=r"state\.pt.*--resume"):
            trainer.resume(state)
    state.write_bytes(b"nothing of the kind")
    with pytest.raises(BadFileError, match="start anew"):
        ClassTrainer(tiny_pathsam, discs(2), (), quick).resume(state)


def test_a_run_goes_on_with_its_own_labels_and_settings_only(
    tmp_path: Path, tiny_pathsam: PathSam, discs: Discs, quick: TrainConfig
) -> None:
    state, images, held_out = tmp_path / "state.pt", discs(2), discs(1, 1)
    loss = quick.loss.model_copy(update={"alpha": 0.5})
    turned = [replace(one, target=2 - one.target) for one in images]
    darker = [replace(one, image=one.image // 2) for one in images]
    others = {
        "other labels of the training images": (turned, held_out, {}),
        "other training images": (darker, held_out, {}),
        "other validation images": (images, (), {}),
        "epochs 2, now 9": (images, held_out, {"epochs": 9}),
        "loss.alpha 0.25, now 0.5; lr 0.002, now 0.1": (
            images,
            held_out,
            {"lr": 0.1, "loss": loss},
        ),
    }
    ClassTrainer(tiny_pathsam, images, held_out, quick).save(state)
    for says, (seen, watched, fields) in others.items():
        trainer = ClassTrainer(tiny_pathsam, seen, watched, quick.model_copy(update=fields))
        with pytest.raises(BadFileError, match=re.escape(says)):
            trainer.resume(state)
    named = tiny_pathsam.classes.model_copy(update={"classes": ClassTable.of("a", "b").classes})
    kept, tiny_pathsam.classes = tiny_pathsam.classes, named
    with pytest.raises(BadFileError, match=r"classes .*start anew"):
        ClassTrainer(tiny_pathsam, images, held_out, quick).resume(state)
    tiny_pathsam.classes = kept
    ClassTrainer(tiny_pathsam, images, held_out, quick).resume(state)


def test_more_epochs_are_the_same_run_where_the_rate_does_not_depend_on_them(
    tmp_path: Path, tiny_pathsam: PathSam, discs: Discs, quick: TrainConfig
) -> None:
    constant = quick.model_copy(update={"schedule": "constant"})
    ClassTrainer(tiny_pathsam, discs(2), (), constant).save(tmp_path / "state.pt")

    def of(epochs: int) -> ClassTrainer:
        longer = constant.model_copy(update={"epochs": epochs})
        return ClassTrainer(tiny_pathsam, discs(2), (), longer)

    of(3).resume(tmp_path / "state.pt")
    with pytest.raises(BadFileError, match="epochs 2, now 1"):
        of(1).resume(tmp_path / "state.pt")


def test_one_class_alone_is_nothing_to_learn_from(
    tiny_pathsam: PathSam, discs: Discs, quick: TrainConfig
) -> None:
    sparse = [replace(one, target=np.where(one.target == 1, 1, -1)) for one in discs(2)]
    with pytest.raises(BadLabelsError, match=r"Only one class is labelled, “gland”.*second class"):
        ClassTrainer(tiny_pathsam, sparse, (), quick)
    ClassTrainer(tiny_pathsam, [*sparse, *discs(1)], (), quick)


@pytest.mark.slow
def test_kept_embeddings_are_found_again_until_something_changes(
    tmp_path: Path, tiny_pathsam: PathSam, discs: Discs, quick: TrainConfig
) -> None:
    images = discs(2)

    def encoded(images: list[TrainingImage], config: TrainConfig, model: PathSam) -> int:
        cache = EmbeddingCache(disk=tmp_path / "cache")
        return sum(r.encoded for r in fit_classes(deepcopy(model), images, (), config, cache=cache))

    assert encoded(images, quick, tiny_pathsam) == 4
    assert encoded(images, quick, tiny_pathsam) == 0
    # Other labels ask for no other pixels.
    relabelled = [replace(one, target=np.maximum(one.target, 1)) for one in images]
    assert encoded(relabelled, quick, tiny_pathsam) == 0
    assert encoded(images, quick.model_copy(update={"lr": 1e-4, "epochs": 1}), tiny_pathsam) == 0

    pixels = images[0].image.copy()
    pixels[0, 0, 0] ^= 1
    assert encoded([replace(images[0], image=pixels), images[1]], quick, tiny_pathsam) == 2
    assert encoded(images, quick.model_copy(update={"seed": 1}), tiny_pathsam) == 4
    assert encoded(images, quick.model_copy(update={"patch_px": 96}), tiny_pathsam) == 4
    assert encoded(images, quick.model_copy(update={"parts": ("head",)}), tiny_pathsam) == 4
    changed = deepcopy(tiny_pathsam)
    with torch.no_grad():
        next(changed.base.image_encoder.trunk.parameters())[0] += 0.1
    assert encoded(images, quick, changed) == 4
    changed = deepcopy(tiny_pathsam)
    with torch.no_grad():  # a frozen alignment is part of what is kept
        next(changed.alignment.parameters())[0] += 0.1
    assert encoded(images, quick.model_copy(update={"parts": ("head",)}), changed) == 4


def test_what_is_kept_decodes_to_the_same_as_what_is_not(
    tiny_pathsam: PathSam, discs: Discs, quick: TrainConfig
) -> None:
    for parts in (("head",), ("head", "alignment"), ("head", "decoder")):
        config = quick.model_copy(update={"parts": parts, "precision": "single"})
        items = [(0, 0), (1, 1)]
        losses = []
        for cache in (None, EmbeddingCache()):
            trainer = ClassTrainer(tiny_pathsam, discs(2), (), config, cache=cache)
            losses.append(float(trainer.loss_of(items)))
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        again = float(trainer.loss_of(items))
        assert again == losses[1]  # a hit gives what the miss gave, to the bit


def test_validation_scores_what_the_model_segments(
    tiny_pathsam: PathSam, discs: Discs, quick: TrainConfig
) -> None:
    images = discs(2)
    trainer = ClassTrainer(tiny_pathsam, images, images, quick, cache=EmbeddingCache())
    found = trainer.validate()
    ids = np.array([0, 1, 2])
    counts = np.zeros((3, 3), int)
    for one in images:
        answer = tiny_pathsam.decode_classes(tiny_pathsam.encode(one.image)).class_map()
        np.add.at(counts, (ids[one.target], answer.astype(int)), 1)
    plain = count_images(tiny_pathsam, images)
    assert np.abs(found.counts - plain).sum() <= 0.002 * counts.sum()  # kept in half precision
    np.testing.assert_array_equal(plain, counts)


def test_sparse_labels_are_enough(tiny_pathsam: PathSam, discs: Discs, quick: TrainConfig) -> None:
    """What nobody labelled may be anything: the steps are the same to the bit."""
    images = []
    for one in discs(3):
        target = np.full_like(one.target, -1)
        target[::7, ::5] = one.target[::7, ::5]
        images.append(replace(one, target=target))
    reports = list(fit_classes(tiny_pathsam, images, images, quick))
    assert np.isfinite([r.loss for r in reports]).all()
    assert all(r.validation and r.validation.counts.sum() == 3 * 14 * 20 for r in reports)


def test_it_stops_when_the_score_no_longer_rises(
    tiny_pathsam: PathSam, discs: Discs, quick: TrainConfig
) -> None:
    config = quick.model_copy(update={"epochs": 9, "lr": 1e-12, "patience": 2, "ema": None})
    reports = list(fit_classes(tiny_pathsam, discs(2), discs(1), config, cache=EmbeddingCache()))
    assert [r.stopped for r in reports] == [False, False, True]
    assert reports[-1].seconds_left == 0


def test_the_average_is_what_is_kept(
    tiny_pathsam: PathSam, discs: Discs, quick: TrainConfig
) -> None:
    """By hand: a decay of 0.5 (shorter at the start) over the weights after each step."""
    config = quick.model_copy(update={"ema": 0.5, "epochs": 1, "batch": 1})
    trainer = ClassTrainer(tiny_pathsam, discs(3), (), config)
    wanted = trainer.trained["head.tokens"].detach().clone()
    for step, _ in enumerate(trainer.train_epoch(), start=1):
        keep = min(0.5, (1 + step) / (10 + step))
        wanted = keep * wanted + (1 - keep) * trainer.trained["head.tokens"].detach()
    now = trainer.trained["head.tokens"].detach().clone()
    trainer.finish()
    assert torch.allclose(tiny_pathsam.head.tokens, wanted, atol=1e-6)
    assert not torch.allclose(tiny_pathsam.head.tokens, now, atol=1e-6)


def test_only_what_was_asked_for_is_trained(
    tiny_pathsam: PathSam, discs: Discs, quick: TrainConfig
) -> None:
    for parts in (("head",), ("alignment",), ("decoder",), ("encoder", "head")):
        before = {n: t.clone() for n, t in tiny_pathsam.state_dict().items()}
        config = quick.model_copy(update={"parts": parts, "epochs": 1, "ema": None})
        list(fit_classes(tiny_pathsam, discs(2), (), config))
        after = tiny_pathsam.state_dict()
        changed = {n for n in before if not torch.equal(before[n], after[n])}
        found = {n.replace("base.image_", "").split(".")[0] for n in changed}
        assert found == set(parts)


def test_a_patch_larger_than_a_field_is_refused(
    tiny_pathsam: PathSam, discs: Discs, quick: TrainConfig
) -> None:
    with pytest.raises(ValueError, match="128 px"):
        ClassTrainer(tiny_pathsam, discs(1), (), quick.model_copy(update={"patch_px": 160}))


def test_runs_of_several_seeds_share_their_embeddings(
    tiny_pathsam: PathSam, discs: Discs, quick: TrainConfig
) -> None:
    images = discs(2)
    makers = [
        ClassTrainer(tiny_pathsam, images, [], quick.model_copy(update=seeds)).maker
        for seeds in ({"seed": 1, "data_seed": 4}, {"seed": 2, "data_seed": 4}, {"seed": 2})
    ]
    one, same, other = (maker.patch(0, 0)[0] for maker in makers)
    assert torch.equal(one, same)
    assert makers[0].settings() == makers[1].settings()
    assert not torch.equal(one, other)
