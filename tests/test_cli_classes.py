"""``pathsam evaluate --task classes`` as people call it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from napari_pathsam.models import catalogue


@pytest.fixture(autouse=True)
def _model(monkeypatch, tiny_pathsam):
    """Every name loads a model that knows gland and stroma."""
    monkeypatch.setattr(catalogue, "load_model", lambda name, device: tiny_pathsam)


@pytest.fixture
def labelled(tmp_path, rng):
    """Two images and their labels: ids 1, 2 and, where nobody looked, 255."""
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for name in ("a", "b"):
        coarse = rng.integers(0, 256, (8, 10, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((80, 64)).save(images / f"{name}.png")
        ids = np.zeros((64, 80), np.uint8)
        ids[5:25, 5:30], ids[40:60, 40:70], ids[0:3] = 1, 2, 255
        Image.fromarray(ids).save(labels / f"{name}.png")
    return "evaluate", "--images", images, "--labels", labels


def test_writes_what_the_design_says(pathsam, labelled, tmp_path):
    out = tmp_path / "r.json"
    status, said, _ = pathsam(*labelled, "--mpp", 0.5, "--json", out)
    assert status == 0
    report = json.loads(out.read_text())
    assert set(report) == {
        "model", "dataset", "split", "task", "n_images", "metrics", "settings", "versions"
    }  # fmt: skip
    assert (report["task"], report["n_images"]) == ("classes", 2)
    metrics = report["metrics"]
    assert {"dice", "iou", "precision", "recall", "per_class", "mean_dice"} <= set(metrics)
    assert metrics["iou"] == pytest.approx(metrics["dice"] / (2 - metrics["dice"]))
    assert list(metrics["per_class"]) == ["gland", "stroma"]
    assert {"dice", "iou", "precision", "recall"} <= set(metrics["per_class"]["gland"])
    assert np.sum(metrics["confusion"]["pixels"]) == 2 * 61 * 80
    assert "object_f1" not in metrics  # ids are classes where a model knows several
    assert report["settings"]["label_kind"] == "classes"
    for word in ("foreground", "gland", "mean of classes", f"{metrics['dice']:.3f}"):
        assert word in said
    assert "not known" not in said
    assert "taken as they are" in " ".join(pathsam(*labelled)[1].split())


def test_instances_on_request(pathsam, labelled, tmp_path):
    out = tmp_path / "r.json"
    asked = (*labelled, "--mpp", 0.5, "--label-kind", "instances", "--ignore", 255, "--json", out)
    status, _, error = pathsam(*asked)
    assert status == 1
    assert "--map" in error
    status, said, _ = pathsam(*asked, "--map", "*=object")
    assert status == 0
    metrics = json.loads(out.read_text())["metrics"]
    assert metrics["objects"]["in_labels"] == 4
    assert {"object_f1", "object_dice", "object_hausdorff", "boundary_f1"} <= set(metrics)
    assert "Hausdorff" in said


def test_class_tables_and_mappings(pathsam, labelled, tmp_path):
    table, out = tmp_path / "classes.csv", tmp_path / "r.json"
    table.write_text("id,name\n1,Tumour\n2,stroma\n")
    asked = (*labelled, "--mpp", 0.5, "--classes", table, "--json", out)
    assert pathsam(*asked, "--map", "gland = tumour")[0] == 0
    report = json.loads(out.read_text())
    assert list(report["metrics"]["per_class"]) == ["Tumour", "stroma"]
    assert report["settings"]["mapping"] == {"gland": "tumour"}
    assert report["metrics"]["per_class"]["Tumour"]["recall"] > 0
    assert pathsam(*asked)[0] == 0
    assert json.loads(out.read_text())["metrics"]["per_class"]["Tumour"]["recall"] == 0
    status, _, error = pathsam(*asked, "--map", "nerve=stroma")
    assert status == 1
    assert "'nerve'" in error
    table.write_text("nothing")
    status, _, error = pathsam(*asked)
    assert status == 1
    assert "classes.csv" in error


def test_data_sets_by_target(pathsam, labelled, tmp_path):
    root, out = tmp_path / "ebhi", tmp_path / "r.json"
    for diagnosis in ("Polyp", "Normal"):
        for kind, source in (("image", "images"), ("label", "labels")):
            (root / diagnosis / kind).mkdir(parents=True)
            (root / diagnosis / kind / "GT1-1.png").write_bytes(
                (tmp_path / source / "a.png").read_bytes()
            )
    asked = ("evaluate", "--dataset", "ebhi-seg", "--root", root, "--split", "all", "--json", out)
    status, said, _ = pathsam(*asked, "--target", "lesions", "--map", "gland=Polyp")
    assert status == 0
    assert "not published" in " ".join(said.split())
    report = json.loads(out.read_text())
    assert len(report["metrics"]["per_class"]) == 6
    assert report["metrics"]["pixel_size"] == {"images": {"nominal": 2}, "mpp": [1.4]}
    assert report["settings"]["target"] == "lesions"
    assert report["metrics"]["per_class"]["Polyp"]["pixels"] == 20 * 25 + 20 * 30 + 3 * 80
    status, _, error = pathsam(*asked, "--target", "cells")
    assert status == 1
    assert "glands, lesions" in error
    assert pathsam(*asked, "--map", "*=gland", "--mpp", 1.0)[0] == 0
    report = json.loads(out.read_text())
    assert report["metrics"]["pixel_size"] == {"images": {"given": 2}, "mpp": [1.0]}


def test_tissue_tiles(pathsam, tmp_path, rng):
    tile = tmp_path / "224px_0.5mpp" / "STR" / "STR-1.png"
    tile.parent.mkdir(parents=True)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(tile)
    out = tmp_path / "r.json"
    status, said, _ = pathsam("evaluate", "--dataset", "crc-tissue", "--root", tmp_path,
                              "--json", out)  # fmt: skip
    assert status == 0
    assert "1 tiles, accuracy" in said
    assert json.loads(out.read_text())["metrics"]["tiles"]["n"] == 1


def test_prompts_are_still_asked_for(pathsam, labelled, tmp_path, tiny_model, monkeypatch):
    out = tmp_path / "r.json"
    assert pathsam(*labelled, "--task", "prompts", "--limit", 1, "--json", out)[0] == 0
    assert json.loads(out.read_text())["task"] == "prompts"
    monkeypatch.setattr(catalogue, "load_model", lambda name, device: tiny_model)
    status, _, error = pathsam(*labelled, "--task", "classes")
    assert status == 1
    assert "knows no classes" in error


@pytest.mark.parametrize("wrong", [("--map", "gland"), ("--target", "lesions"), ("--task", "x")])
def test_called_wrongly(pathsam, labelled, wrong):
    assert pathsam(*labelled, *wrong)[0] == 2


def test_stains_views_and_post_processing_are_said(pathsam, labelled, tmp_path):
    out = tmp_path / "r.json"
    plain = pathsam(*labelled, "--mpp", 0.5, "--json", out)[1]
    before = json.loads(out.read_text())
    assert "no post-processing" in plain
    assert before["settings"]["post_processing"] == "none"
    assert "stain_norm" not in before["settings"]
    status, said, _ = pathsam(
        *labelled, "--mpp", 0.5, "--stain-norm", "macenko", "--smallest", 9, "--json", out
    )
    after = json.loads(out.read_text())
    assert status == 0
    assert "under 9 px removed" in said
    assert after["settings"]["stain_norm"] == "macenko"
    assert after["metrics"]["confusion"] != before["metrics"]["confusion"]
    assert after["settings"]["views"] is None
    assert pathsam(*labelled, "--mpp", 0.5, "--views", 8, "--json", out)[0] == 0
    turned = json.loads(out.read_text())
    assert turned["settings"]["views"] == 8
    assert turned["metrics"]["confusion"] != before["metrics"]["confusion"]
    assert pathsam(*labelled, "--views", 3)[0] == 2
