"""The pathsam command as people call it: files that come out, exit status, readable errors."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from napari_pathsam.io.annotations import read_geojson
from napari_pathsam.io.images import read_labels


@pytest.fixture(scope="session")
def model_file(tiny_model, tmp_path_factory):
    """The tiny model as a file, which `--model` takes."""
    from napari_pathsam.models.model_file import save_model

    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(path, tiny_model, {"licence": "none"})
    return str(path)


@pytest.fixture
def image(tmp_path, rng):
    path = tmp_path / "tissue.png"
    coarse = rng.integers(0, 256, (9, 12, 3)).astype(np.uint8)
    Image.fromarray(coarse).resize((120, 90)).save(path)
    return str(path)


def test_help_needs_neither_torch_nor_napari():
    code = (
        "import sys\nfrom napari_pathsam.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print('HEAVY', *({'torch', 'napari', 'scipy', 'qtpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "HEAVY"
    for command in ("demo", "prompt", "evaluate", "train", "models", "datasets"):
        assert command in done.stdout


# --- prompt --------------------------------------------------------------------------------------


def test_prompt_writes_the_same_mask_in_every_format(pathsam, image, model_file, tmp_path):
    asked = ("prompt", image, "--point", "40,50", "60,70", "--negative", "5,5", "--box",
             "10,20,80,100", "--model", model_file)  # fmt: skip
    masks = []
    for suffix in (".png", ".tif", ".geojson"):
        out = tmp_path / "new" / f"mask{suffix}"
        status, said, _ = pathsam(*asked, "--out", out)
        assert status == 0
        assert str(out.name) in said
        masks.append(read_geojson(out, (90, 120))[0] if suffix == ".geojson" else read_labels(out))
    assert masks[0].shape == (90, 120)
    assert set(np.unique(masks[0])) == {0, 1}
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])
    assert len(list((tmp_path / "new").iterdir())) == 3  # no temporary file is left


def test_prompt_sees_the_colours_that_are_asked_for(
    pathsam, model_file, slide_files, tmp_path, monkeypatch
):
    from napari_pathsam.io import slides

    seen, opened = [], slides.open_slide
    monkeypatch.setattr(
        slides, "open_slide", lambda path, **how: seen.append(how) or opened(path, **how)
    )
    asked = ("prompt", slide_files.aperio(tmp_path), "--point", "40,50", "--model", model_file)
    for more in ((), ("--icc",)):
        assert pathsam(*asked, *more, "--out", tmp_path / "mask.png")[0] == 0
    assert seen == [{"icc": False}, {"icc": True}]


def test_prompt_agrees_with_the_api(pathsam, image, model_file, tiny_model, tmp_path):
    from napari_pathsam.core.prompts import Prompts
    from napari_pathsam.io.images import read_rgb

    out = tmp_path / "m.png"
    pathsam("prompt", image, "--point", "40,50", "--negative=20,30", "--model", model_file,
            "--out", out)  # fmt: skip
    prompts = Prompts().with_point(40, 50).with_point(20, 30, positive=False)
    wanted = tiny_model.decode_prompts(tiny_model.encode(read_rgb(image)[0]), prompts).mask
    np.testing.assert_array_equal(read_labels(out) > 0, wanted)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--point", "40;50", "--out", "m.png"],
        ["--point", "40", "--out", "m.png"],
        ["--box", "10,20,30", "--out", "m.png"],
        ["--box", "30,20,10,40", "--out", "m.png"],
        ["--negative", "4,5", "--out", "m.png"],
        ["--point", "4,5", "--out", "m.jpg"],
        ["--point", "4,nan", "--out", "m.png"],
        ["--point", "4,5"],
        ["--point", "4,5", "--mpp", "0", "--out", "m.png"],
        ["--pint", "4,5", "--out", "m.png"],
    ],
)
def test_a_wrong_command_line_is_status_2(pathsam, image, wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, error = pathsam("prompt", image, *wrong)
    assert status == 2
    assert "Error" in error
    assert not list(tmp_path.glob("m.*"))


def test_work_that_fails_is_status_1_and_one_paragraph(pathsam, image, model_file, tmp_path):
    text = tmp_path / "text.svs"
    text.write_text("not a slide")
    good = ("--point", "4,5", "--model", model_file, "--out", tmp_path / "m.png")
    cases = {
        "outside the image": (image, "--point", "500,5", *good[2:]),
        "nowhere.png": (tmp_path / "nowhere.png", *good),
        "text.svs": (text, *good),
        "folder": (tmp_path, *good),
        "no-such-model": (image, "--point", "4,5", "--model", "no-such-model", *good[4:]),
    }
    for expected, arguments in cases.items():
        status, _, error = pathsam("prompt", *arguments)
        assert status == 1
        assert expected in error
        assert not (tmp_path / "m.png").exists()


def test_an_output_that_cannot_be_written_is_told(pathsam, image, model_file, tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    status, _, error = pathsam(
        "prompt", image, "--point", "4,5", "--model", model_file, "--out", in_the_way / "m.png"
    )
    assert status == 1
    assert "file" in error


# --- evaluate ------------------------------------------------------------------------------------


@pytest.fixture
def labelled(tmp_path, rng):
    """Two folders: a.webp and b.png, a_anno.png and b.png."""
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for name, label in (("a.webp", "a_anno.png"), ("b.png", "b.png")):
        pixels = rng.integers(0, 256, (64, 80, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(images / name)
        ids = np.zeros((64, 80), np.uint8)
        ids[5:25, 5:30], ids[40:60, 40:70], ids[0:3, 0:3] = 1, 2, 3
        Image.fromarray(ids).save(labels / label)
    return images, labels


def test_evaluate_writes_what_the_design_says(pathsam, labelled, model_file, tmp_path):
    images, labels = labelled
    out = tmp_path / "r.json"
    status, said, _ = pathsam(
        "evaluate", "--images", images, "--labels", labels, "--mpp", "0.5", "--model", model_file,
        "--task", "prompts", "--at-mpp", "1.0", "--json", out,
    )  # fmt: skip
    assert status == 0
    assert "ellipse" in said
    report = json.loads(out.read_text())
    assert set(report) == {
        "model", "dataset", "split", "task", "n_images", "metrics", "settings", "versions"
    }  # fmt: skip
    assert (report["task"], report["n_images"]) == ("prompts", 2)
    metrics = report["metrics"]
    assert list(metrics["iou_at_clicks"]) == ["1", "2", "3", "4", "5"]
    assert (metrics["n_objects"], metrics["n_too_small"]) == (4, 2)
    assert metrics["ms_per_click"] > 0
    assert report["settings"]["at_mpp"] == 1.0
    assert report["settings"]["mpp"] == 0.5
    assert report["settings"]["label_kind"] == "instances"


def test_evaluate_a_data_set_by_name(pathsam, labelled, model_file, tmp_path):
    images, labels = labelled
    root = tmp_path / "glas"
    root.mkdir()
    for i, (image, label) in enumerate(zip(sorted(images.iterdir()), sorted(labels.iterdir()),
                                           strict=True), start=1):  # fmt: skip
        (root / f"testA_{i}{image.suffix}").write_bytes(image.read_bytes())
        (root / f"testA_{i}_anno.png").write_bytes(label.read_bytes())
    out = tmp_path / "r.json"
    asked = ("evaluate", "--dataset", "glas", "--root", root, "--model", model_file)
    assert pathsam(*asked, "--limit", 1, "--json", out)[0] == 0
    report = json.loads(out.read_text())
    assert (report["dataset"], report["split"], report["n_images"]) == ("glas", "testA", 1)
    status, _, error = pathsam(*asked, "--split", "train")
    assert status == 1
    assert "train" in error


def test_evaluate_wants_one_kind_of_data(pathsam, labelled, model_file, tmp_path):
    images, labels = labelled
    for wrong in (
        (),
        ("--images", images),
        ("--dataset", "glas"),
        ("--dataset", "glas", "--root", tmp_path, "--images", images, "--labels", labels),
        ("--images", images, "--labels", labels, "--split", "val"),
        ("--images", images, "--labels", labels, "--task", "dreams"),
    ):
        assert pathsam("evaluate", "--model", model_file, *wrong)[0] == 2


def test_evaluate_names_the_file_that_is_wrong(pathsam, labelled, model_file, tmp_path):
    images, labels = labelled
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(labels / "b.png")
    out = tmp_path / "r.json"
    status, _, error = pathsam(
        "evaluate", "--images", images, "--labels", labels, "--model", model_file, "--json", out
    )
    assert status == 1
    assert "b.png" in error
    assert not out.exists()


def test_ctrl_c_is_status_1_and_leaves_no_file(
    pathsam, labelled, model_file, tmp_path, monkeypatch
):
    from napari_pathsam.evaluation import prompting

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(prompting, "clicking", interrupted)
    images, labels = labelled
    out = tmp_path / "r.json"
    status, _, error = pathsam(
        "evaluate", "--images", images, "--labels", labels, "--model", model_file, "--json", out
    )
    assert status == 1
    assert "Stopped" in error
    assert not out.exists()


# --- models, datasets, train ---------------------------------------------------------------------


def test_models(pathsam, model_file, tmp_path):
    status, said, _ = pathsam("models", "list")
    assert status == 0
    for name in ("pathsam-nano", "sam2.1-tiny", "sam2.1-large", "Apache-2.0"):
        assert name in said
    said = " ".join(pathsam("models", "info", "sam2.1-tiny")[1].split())
    assert "7402e0d8" in said
    assert "Apache-2.0" in said
    status, said, _ = pathsam("models", "import", model_file)
    assert status == 0
    name = said.split()[-1]
    assert name in pathsam("models", "list")[1]
    assert pathsam("models", "verify", name)[0] == 0
    assert "whole" in pathsam("models", "verify")[1]
    status, _, error = pathsam("models", "verify", "sam2.1-tiny")
    assert status == 1
    assert "pathsam models fetch sam2.1-tiny" in " ".join(error.split())
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"\x80\x04nothing")
    status, _, error = pathsam("models", "import", broken)
    assert status == 1
    assert pathsam("models", "info", "sam3")[0] == 1
    from napari_pathsam.models.catalogue import HEADS

    said = " ".join(pathsam("models", "info", "pathsam-nano:nuclei")[1].split())
    assert "--threshold 0.73 --surest 0.94 --smallest 40 --views 8 (at 0.25 µm/px)" in said
    said = pathsam("models", "info", HEADS["pathsam-nano:glands"].weights.path)[1]
    assert "pathsam-nano:glands" in said
    assert "BSD-3-Clause" in said


def test_encoders_heads_and_recipes_are_models_too(pathsam, tmp_path, monkeypatch):
    import torch

    from napari_pathsam.models import encoder_files
    from napari_pathsam.models.encoders import ENCODERS, EncoderSpec, VitArgs, random_encoder
    from napari_pathsam.models.sources import LocalFile

    said = pathsam("models", "list")[1]
    for name in ("uni2-h", "pathsam-nano:glands", "sam-path", "train it"):
        assert name in said
    said = " ".join(pathsam("models", "info", "uni")[1].split())
    for text in (ENCODERS["uni"].weights.sha256[:20], "CC-BY-NC-ND", "hf auth login", "1.2 GB"):
        assert text in said
    assert "sam2.1-tiny" in pathsam("models", "info", "path-sam2-tiny+uni")[1]
    unhashed = "no checksum of it is known here"
    assert unhashed not in said
    assert unhashed in " ".join(pathsam("models", "info", "dinov2-s")[1].split())
    monkeypatch.setattr(encoder_files, "fetch_encoder", lambda spec, **_: tmp_path / spec.name)
    assert unhashed in " ".join(pathsam("models", "fetch", "dinov2-s")[2].split())
    assert unhashed not in " ".join(pathsam("models", "fetch", "uni")[2].split())
    status, _, error = pathsam("models", "verify", "uni")
    assert status == 1
    assert "models fetch uni" in " ".join(error.split())

    checkpoint, description = tmp_path / "mine.pth", tmp_path / "mine.json"
    spec = EncoderSpec(
        name="mine",
        timm="vit_tiny_patch16_224",
        vit=VitArgs(depth=1, img_size=64),
        token_px=16,
        embed_dim=192,
        licence="mine",
        weights=LocalFile(path=checkpoint),
    )
    torch.save(random_encoder(spec).net.state_dict(), checkpoint)
    description.write_text(spec.model_dump_json())
    status, said, _ = pathsam("models", "import", checkpoint, "--spec", description)
    assert status == 0
    assert "path-sam2-tiny+mine" in " ".join(said.split())
    assert "mine" in pathsam("models", "list")[1]
    assert pathsam("models", "verify", "mine")[0] == 0
    assert "vit_tiny_patch16_224" in pathsam("models", "info", "mine")[1]
    status, _, error = pathsam("models", "import", checkpoint, "--as", "uni")
    assert status == 1
    assert "not the published one" in " ".join(error.split())
    description.write_text('{"name": "x", "timm": "hf-hub:a/b"}')
    status, _, error = pathsam("models", "import", checkpoint, "--spec", description)
    assert status == 1


def test_datasets(pathsam, labelled, tmp_path):
    said = pathsam("datasets", "list")[1]
    assert all(name in said for name in ("glas", "ebhi-seg", "tnbc", "CC BY 4.0"))
    assert "Grade.csv" in pathsam("datasets", "info", "glas")[1]
    status, said, _ = pathsam("datasets", "verify", tmp_path)  # images and labels
    assert status == 0
    assert "can be read" in said
    (tmp_path / "empty").mkdir()
    status, _, error = pathsam("datasets", "verify", tmp_path / "empty")
    assert status == 1
    assert "none of the known data sets" in " ".join(error.split())
    slide, truth = tmp_path / "t" / "Slide_08", tmp_path / "t" / "GT_08"
    slide.mkdir(parents=True)
    truth.mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(slide / "08_1.png")
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(truth / "08_1.png")
    status, _, error = pathsam("datasets", "verify", tmp_path / "t")
    assert status == 1
    assert "1 images, the complete data set has 50" in " ".join(error.split())
    (truth / "08_1.png").write_bytes(b"broken")
    status, _, error = pathsam("datasets", "verify", tmp_path / "t")
    assert status == 1
    assert "08_1" in error


def test_train_is_called_rightly(pathsam, tmp_path):
    out = tmp_path / "m.safetensors"
    assert pathsam("train", "--config", "pathsam-nano", "--out", tmp_path / "m.pt")[0] == 2
    assert pathsam("train", "--config", "pathsam-nano", "--out", out, "--root", "tnbc")[0] == 2
    status, _, error = pathsam("train", "--config", "pathsam-nano", "--out", out)
    assert status == 1
    assert "ebhi-seg" in error
    assert pathsam("train", "--config", tmp_path / "none.toml", "--out", out)[0] == 1


# --- demo ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_demo_writes_pictures_labels_objects_and_a_report(
    pathsam, model_file, tmp_path, monkeypatch
):
    from napari_pathsam import samples

    three = samples.list_samples()[:3]  # a model that finds nothing takes long on many nuclei
    monkeypatch.setattr(samples, "list_samples", lambda: three)
    out = tmp_path / "demo"
    status, said, _ = pathsam("demo", "--out", out, "--model", model_file)
    assert status == 0
    report = json.loads((out / "report.json").read_text())
    for info in three:
        assert f"{info.name}.png" in said
        files = report["metrics"][info.name]["files"]
        labels = read_labels(out / files["labels"])
        instances, _, classes = read_geojson(out / files["geojson"], labels.shape)
        np.testing.assert_array_equal(instances, labels)
        assert len(classes) == 1
        with Image.open(out / files["overlay"]) as picture:
            assert picture.width > 1200
    assert report["metrics"]["colon_normal"]["n_objects"] >= 8
    assert not [p for p in out.iterdir() if p.name.startswith(".")]
