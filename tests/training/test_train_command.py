"""``pathsam train`` for classes, as people call it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from napari_pathsam.cli import main
from napari_pathsam.cli.train_sources import sources_of
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.models.model_file import read_card


@pytest.fixture
def pathsam(capsys, tmp_path, monkeypatch, tiny_model):
    """Run the command, with ``tiny`` among the imported models; exit status, stdout, stderr."""
    from napari_pathsam.models.checkpoints import import_checkpoint
    from napari_pathsam.models.model_file import save_model

    monkeypatch.setenv("NAPARI_PATHSAM_CACHE", str(tmp_path / "cache"))
    save_model(tmp_path / "tiny.safetensors", tiny_model, {"licence": "none"})
    assert import_checkpoint(tmp_path / "tiny.safetensors") == "tiny"

    def run(*arguments):
        with pytest.raises(SystemExit) as left:
            main([str(a) for a in arguments])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return left.value.code or 0, said.out, " ".join(said.err.split())

    return run


@pytest.fixture
def folders(tmp_path: Path, discs) -> list:
    """Six images of three cases with their labels, as the options that name them."""
    for name in ("i", "l"):
        (tmp_path / name).mkdir()
    for n, one in enumerate(discs(6)):
        Image.fromarray(one.image).save(tmp_path / "i" / f"case{n // 2}_{n}.png")
        Image.fromarray(one.target.astype(np.uint8)).save(tmp_path / "l" / f"case{n // 2}_{n}.png")
    (tmp_path / "classes.csv").write_text("id,name\n1,gland\n2,stroma\n")
    return [
        "train", "--images", tmp_path / "i", "--labels", tmp_path / "l",
        "--classes", tmp_path / "classes.csv", "--base", "tiny", "--mpp", 0.5, "--device", "cpu",
        "--group-by", "^case[0-9]+", "--val-share", 0.3, "--preset", "quick",
    ]  # fmt: skip


def test_from_folders_to_a_model_that_segments(pathsam, folders, tmp_path):
    from napari_pathsam.models.catalogue import load_model, weights_sha256
    from napari_pathsam.models.model_file import read_card

    out = tmp_path / "mine.safetensors"
    more = ["--epochs", 2, "--seed", 3, "--licence", "CC0", "--tissue", "colon", "--stain", "PAS"]
    status, said, told = pathsam(*folders, *more, "--out", out)
    assert status == 0
    assert "gland" in said
    assert str(out) in said
    assert "4 images to train on, 2 to validate on; training head, 2 epochs" in told
    assert "on disk. The first epoch takes about" in told
    assert list((tmp_path / "cache" / "training-embeddings").iterdir())
    assert not (tmp_path / "cache" / "embeddings").exists()  # the docks' own
    assert not out.with_suffix(".state.pt").exists()

    card = read_card(out)
    found = (card.config.name, card.trained, card.mpp, card.licence)
    assert found == ("mine", ("head",), 0.5, "CC0")
    assert (card.config.tissue, card.config.stain) == ("colon", "PAS")
    assert card.classes.names == ("gland", "stroma")
    assert [(b.name, b.sha256) for b in card.base] == [("tiny", weights_sha256("tiny"))]
    about = card.provenance
    assert about["train"]["seed"] == 3
    assert about["split"]["n_images"] == 4
    (held,) = about["split"]["validation_groups"]
    assert held.startswith("case")
    assert {"torch", "timm"} <= set(about["versions"])
    assert set(about["metrics"]["per_class"]) <= {"gland", "stroma"}
    assert about["date"]
    assert json.dumps(about)

    model = load_model(out, "cpu")
    image = np.asarray(Image.open(tmp_path / "i" / "case0_0.png"))
    assert model.decode_classes(model.encode(image)).class_map().shape == (96, 96)


@pytest.mark.slow
def test_the_command_goes_on_after_ctrl_c(pathsam, folders, tmp_path, monkeypatch):
    from napari_pathsam.training import class_fit

    whole, out = tmp_path / "whole.safetensors", tmp_path / "m.safetensors"
    more = ["--epochs", 3, "--train", "alignment"]
    assert pathsam(*folders, *more, "--out", whole)[0] == 0
    steps = class_fit.fit_steps

    def interrupted(*given, **named):
        for report in steps(*given, **named):
            yield report
            if report.epoch is not None and report.epoch.epoch == 2:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(class_fit, "fit_steps", interrupted)
        status, _, told = pathsam(*folders, *more, "--out", out)
    assert status == 1
    assert "after 2 whole epochs" in told
    assert "--resume" in told
    assert not out.exists()
    status, _, told = pathsam(*folders, *more, "--epochs", 4, "--out", out, "--resume")
    assert status == 1
    assert "it is of another run (epochs 3, now 4)" in told
    assert not out.exists()
    assert pathsam(*folders, *more, "--out", out, "--resume")[0] == 0
    found, wanted = load_file(out), load_file(whole)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert any(name.startswith("alignment.") for name in wanted)


def test_a_recipe(pathsam, folders, tmp_path):
    recipe = tmp_path / "recipe.toml"
    text = f"""
name = "made:discs"
base = "tiny"
classes = ["gland", "stroma"]
licence = "none"
val_share = 0
[network]
mpp = 0.5
hidden = [8]
[train]
epochs = 1
parts = ["head", "decoder"]
[[sources]]
images = "{tmp_path / "i"}"
labels = "{tmp_path / "l"}"
mpp = 0.5
"""
    recipe.write_text(text)
    out = tmp_path / "m.safetensors"
    status, said, told = pathsam("train", "--config", recipe, "--out", out, "--cache-gb", 0)
    assert status == 0, told
    assert "6 images to train on, 0 to validate on; training head, decoder" in told
    assert "Nothing is kept" in told
    assert "The model is in" in said
    with_glass = text.replace("val_share", "glass = 3\nval_share")  # it is nobody's
    recipe.write_text(with_glass.replace("images", 'group_by = "^case."\nimages'))
    status, _, told = pathsam("train", "--config", recipe, "--out", out, "--cache-gb", 0,
                              "--fold", "2/3", "--epochs", 2)  # fmt: skip
    assert "7 images to train on, 2 to validate on" in told
    assert "2 epochs" in told
    assert read_card(out).provenance["split"]["validation_groups"] == ["case1"]
    for fold in ("4/3", "1", "1/1"):
        status, _, told = pathsam("train", "--config", recipe, "--out", out, "--fold", fold)
        assert status == 1
        assert "fold" in told
    assert pathsam("train", "--config", recipe, "--images", tmp_path, "--out", out)[0] == 2
    recipe.write_text(text.replace("epochs = 1", "epoch = 1"))
    status, _, told = pathsam("train", "--config", recipe, "--out", out)
    assert status == 1
    assert "epoch" in told


def test_the_variable_keeps_embeddings_off_the_disk(pathsam, folders, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_PATHSAM_EMBEDDINGS_GB", "0")
    out = tmp_path / "mine.safetensors"
    status, _, told = pathsam(*folders, "--epochs", 1, "--out", out)
    assert status == 0
    assert "Nothing is kept" in told
    assert not (tmp_path / "cache" / "training-embeddings").exists()


def test_labels_of_one_class_alone_are_refused(pathsam, folders, tmp_path):
    for path in (tmp_path / "l").iterdir():
        labels = np.asarray(Image.open(path))
        Image.fromarray(np.where(labels == 1, labels, 0).astype(np.uint8)).save(path)
    (tmp_path / "classes.csv").write_text("id,name\n1,gland\n")
    out = tmp_path / "mine.safetensors"
    status, _, told = pathsam(*folders, "--sparse", "--out", out)
    assert status == 1
    assert "Only one class is labelled, “gland”" in told
    assert not out.exists()


def test_wrong_calls(pathsam, folders, tmp_path):
    out = ["--out", tmp_path / "m.safetensors"]
    assert pathsam("train", *out)[0] == 2
    assert pathsam("train", "--images", tmp_path / "i", *out)[0] == 2
    assert pathsam(*folders, "--split", "train", *out)[0] == 2
    assert pathsam(*folders, "--val-images", tmp_path / "i", *out)[0] == 2
    without = [a for a in folders if a not in ("--mpp", 0.5)]
    status, _, told = pathsam(*without, *out)
    assert status == 2
    assert "--mpp" in told
    status, _, told = pathsam(*folders, "--distributed", *out)
    assert status == 1
    assert "torchrun" in told
    status, _, told = pathsam(*folders, "--encoder", "nobody", *out)
    assert status == 1
    assert "nobody" in told
    (tmp_path / "classes.csv").write_text("id,name\n1,gland\n")
    status, _, told = pathsam(*folders, "--label-kind", "classes", *out)
    assert status == 1
    assert "none of the classes" in told
    assert not (tmp_path / "m.safetensors").exists()


def test_what_does_not_fit_on_disk_is_not_planned(tiny_pathsam, discs, quick):
    from napari_pathsam.training.class_plan import plan, within

    before = {n: t.clone() for n, t in tiny_pathsam.state_dict().items()}
    config = quick.model_copy(update={"variants": 8, "epochs": 20})
    found = plan(tiny_pathsam, discs(3), config, validation=discs(2))
    assert all(torch.equal(t, before[n]) for n, t in tiny_pathsam.state_dict().items())
    assert (found.n_images, found.pieces) == (3, 2)
    assert found.first_epoch_s > found.epoch_s > 0
    assert found.seconds > 20 * found.epoch_s
    assert found.disk_bytes == (3 * 8 + 2) * found.entry_bytes
    assert found.entry_bytes > 1000
    assert within(found, 2 * found.disk_bytes) == config
    assert within(found, 15 * found.entry_bytes).variants == 4
    assert within(found, 3 * found.entry_bytes).variants is None
    encoder = config.model_copy(update={"parts": ("head", "encoder")})
    assert plan(tiny_pathsam, discs(2), encoder).disk_bytes == 0


@pytest.mark.parametrize(
    ("way", "unread"),
    [
        (("--config", "pathsam-nano-glands"), ("--mpp", 0.5)),
        (("--config", "pathsam-nano"), ("--device", "cuda")),
        (("--config", "wsi-sam-nano-tnbc"), ("--epochs", 3)),
        (("--model", "wsi-sam+tiny"), ("--preset", "best")),
        (("--run", "mine.run.npz"), ("--seed", 1)),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(pathsam, tmp_path, way, unread):
    out = tmp_path / "mine.safetensors"
    status, _, told = pathsam("train", *way, *unread, "--out", out)
    assert status == 2
    assert unread[0] in told
    assert "leave this out" in told
    assert not out.exists()


def test_a_patient_is_never_on_both_sides(pathsam, folders, tmp_path):
    out = ["--out", tmp_path / "m.safetensors"]
    without = [*folders[: folders.index("--val-share")], "--preset", "quick"]
    same = ["--val-images", tmp_path / "i", "--val-labels", tmp_path / "l"]
    status, _, told = pathsam(*without, *same, *out)
    assert status == 1
    assert "case0, case1, case2" in told
    assert "--val-share or --fold" in told
    status, _, told = pathsam(*without, *same, "--fold", "1/3", *out)
    assert status == 1
    assert "not both" in told


def test_a_part_to_hold_out_comes_before_the_data_sets_own(tmp_path):
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / part / kind).mkdir(parents=True)
            Image.fromarray(np.ones((8, 8), np.uint8)).save(tmp_path / part / kind / "a.png")
    given = (None, None, None, "folder", [str(tmp_path)], None, None, None, None)
    assert sources_of(*given)[2] == {"dataset": "folder", "target": None, "split": "val"}
    assert sources_of(*given, own_validation=False)[2] is None


def test_a_profile_is_that_of_the_models_own_paper():
    from napari_pathsam.cli.train_sources import recipe_of

    def asked(base, profile, dataset="glas", **train):
        return recipe_of(
            "mine", base, None, ClassTable.of("gland"), mpp=0.5, profile=profile, train=train,
            sources=({"dataset": dataset},), licence="mine",
        )  # fmt: skip

    found = asked("sam-path", "paper")
    assert found.network_config().head == "mlp"
    assert found.train_config().lr == 1e-4
    assert asked("sam-path", "paper", lr=3e-4).train_config().lr == 3e-4
    assert asked("sam-path", "recommended").network_config().head == "kan"
    assert asked("path-sam2-tiny", "paper").network_config().head == "kan"
    assert asked("path-sam2-tiny", "paper").train_config().lr == 1e-5

    def loss(*which):
        found = asked(*which).train_config().loss
        return found.alpha, found.beta, found.over_classes, found.dice_over

    assert loss("path-sam2-tiny", "paper") == (0.125, 0.01, "sum", "image")
    for base in ("sam-path", "fine-tuned-sam"):
        assert loss(base, "paper", "crag") == (0.125, 0.0, "sum", "image")
        assert loss(base, "paper", "bcss") == (0.25, 0.0625, "sum", "image")
        assert loss(base, "repo", "bcss") == (0.25, 0.0625, "mean", "image")
        assert loss(base, "recommended", "bcss") == loss("path-sam2-tiny", "recommended")


def test_an_encoder_takes_the_place_of_the_recipes_own_and_an_ablation_has_none():
    from napari_pathsam.cli.train_sources import recipe_of
    from napari_pathsam.core.errors import PathsamError

    def asked(base, encoder):
        return recipe_of(
            "mine", base, encoder, ClassTable.of("gland"), mpp=0.5, licence="mine",
            sources=({"dataset": "glas"},),
        )  # fmt: skip

    assert asked("path-sam2-tiny", "uni").encoder == "uni"
    assert asked("path-sam2-tiny+uni", None).encoder == "uni"
    assert asked("path-sam2-tiny+uni", "uni").encoder == "uni"
    with pytest.raises(PathsamError, match="without a pathology encoder"):
        asked("fine-tuned-sam2", "uni")
    with pytest.raises(PathsamError, match="Say one of them"):
        asked("path-sam2-tiny+uni", "virchow2")


def test_what_is_wrong_in_a_recipe_is_said_field_by_field(tmp_path):
    from napari_pathsam.core.errors import BadFileError
    from napari_pathsam.training.class_recipe import read_class_recipe

    recipe = tmp_path / "mine.toml"
    text = """
        name = "mine"
        classes = ["gland"]
        sources = [{dataset = "glas"SPLIT}]
        network = {mpp = 1.0HEAD}
        LICENCE
    """
    said = {}
    for name, values in {
        "typo": (", splitt = 'train'", "", "licence = 'x'"),
        "missing": ("", "", ""),
        "value": ("", ", head = 'mlpp'", "licence = 'x'"),
    }.items():
        written = text
        for mark, value in zip(("SPLIT", "HEAD", "LICENCE"), values, strict=True):
            written = written.replace(mark, value)
        recipe.write_text(written)
        with pytest.raises(BadFileError) as error:
            read_class_recipe(str(recipe))
        said[name] = str(error.value).removeprefix(f"{recipe} is not a training recipe: ")
    assert said == {
        "typo": "sources.0.splitt: there is no such field.",
        "missing": "licence: it is missing.",
        "value": "head: input should be 'kan' or 'mlp', not 'mlpp'.",
    }
