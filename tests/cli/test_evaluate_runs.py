"""``pathsam evaluate --out`` and ``pathsam compare`` as people call them."""

from __future__ import annotations

import base64
import csv
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from napari_pathsam.cli import evaluate_run
from napari_pathsam.evaluation import evaluate as evaluating
from napari_pathsam.models import catalogue


@pytest.fixture(autouse=True)
def _model(monkeypatch, tiny_pathsam):
    """Every name loads a model that knows gland and stroma."""
    monkeypatch.setattr(catalogue, "load_model", lambda name, device: tiny_pathsam)
    monkeypatch.setattr(evaluate_run, "weights_of", lambda loaded, name: {name: "0" * 64})


@pytest.fixture
def labelled(tmp_path, rng):
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for i in range(4):
        coarse = rng.integers(0, 256, (8, 10, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((80, 64)).save(images / f"i{i}.png")
        ids = np.zeros((64, 80), np.uint8)
        ids[5 + i : 25, 5:30], ids[40:60, 40 : 70 - i] = 1, 2
        Image.fromarray(ids).save(labels / f"i{i}.png")
    return "evaluate", "--images", images, "--labels", labels, "--mpp", 0.5


def test_a_run_leaves_a_report_that_needs_no_network(pathsam, labelled, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "run"
    status, said, _ = pathsam(*labelled, "--out", out, "--gallery", 2, "--as-published")
    assert status == 0
    assert "report.html" in said
    assert re.search(r"boundary F1 within 3 px: \d\.\d{3} \d\.\d{3}–\d\.\d{3}\n", said)
    names = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert {"run.json", "scores.jsonl", "report.json", "images.csv", "report.html"} <= names
    drawn = {"classes", "confusion", "reliability", "sizes"}
    assert {f"plots/{plot}.png" for plot in drawn} <= names
    assert sum(name.startswith("overlays/") for name in names) == 2
    page = (out / "report.html").read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)  # everything is in it
    assert "://" not in page
    pictures = re.findall(r"data:image/(?:png|jpeg);base64,([A-Za-z0-9+/=]+)", page)
    assert len(pictures) == len(drawn) + 2
    for picture in pictures:
        Image.open(io.BytesIO(base64.b64decode(picture))).load()
    assert page.count('class="chip"') == 2  # which colour is gland, and which is stroma
    report = json.loads((out / "report.json").read_text())
    for word in ("gland", "stroma", f"{report['metrics']['dice']:.3f}", "0" * 64, "too narrow"):
        assert word in page
    assert report["settings"]["command"].startswith("pathsam evaluate --images")
    assert report["settings"]["weights_sha256"] == {"pathsam-nano": "0" * 64}
    assert report["metrics"]["intervals"]["groups"] == 4
    assert "dtu_object_dice" in report["metrics"]["as_published"]
    with (out / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["i0", "i1", "i2", "i3"]


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on(pathsam, labelled, tmp_path, monkeypatch):
    plain = tmp_path / "plain.json"
    assert pathsam(*labelled, "--json", plain)[0] == 0
    scoring, out = evaluating.scoring, tmp_path / "run"

    def stopped(*args, **kwargs):
        for i, score in enumerate(scoring(*args, **kwargs)):
            if i == 2:
                raise KeyboardInterrupt
            yield score

    asked = (*labelled, "--out", out, "--gallery", 0)
    with monkeypatch.context() as patch:
        patch.setattr(evaluating, "scoring", stopped)
        status, _, error = pathsam(*asked)
        assert status == 1
        assert "2 of 4 images" in error
        assert "--resume" in error
    status, _, error = pathsam(*asked)
    assert status == 1
    assert "holds a run already" in error
    stale = out / "overlays" / "01_of_before.jpg"
    stale.parent.mkdir()
    stale.touch()
    assert pathsam(*asked, "--resume")[0] == 0
    assert not stale.exists()
    one, two = (json.loads(p.read_text())["metrics"] for p in (plain, out / "report.json"))
    one.pop("seconds_per_image"), two.pop("seconds_per_image")
    assert one == two
    status, _, error = pathsam(*asked, "--resume", "--threshold", 0.9)
    assert status == 1
    assert "other settings" in error
    assert pathsam(*labelled, "--resume")[0] == 2


def test_what_would_not_be_done_is_refused_before_a_run_begins(pathsam, labelled, tmp_path):
    out = tmp_path / "run"
    status, _, error = pathsam(*labelled, "--out", out, "--seed-at", 0.9, "--seed-drop", 3)
    assert status == 1
    assert "--seed-at" in error
    assert "Leave one of them out" in " ".join(error.split())
    assert not out.exists()


@pytest.mark.parametrize(
    ("asked", "typed"),
    [
        (("evaluate", "--task", "classes"), ("--most-clicks", 3)),
        (("evaluate", "--task", "classes"), ("--largest-share", 0.5)),
        (("evaluate", "--task", "prompts"), ("--threshold", 0.5)),
        (("evaluate", "--task", "prompts"), ("--map", "gland=stroma")),
        (("evaluate", "--task", "prompts"), ("--as-published",)),
        (("evaluate", "--task", "everything"), ("--split-objects",)),
        (("evaluate", "--task", "everything"), ("--most-clicks", 3)),
        (("compare", "one", "two", "--task", "prompts"), ("--map", "gland=stroma")),
    ],
)
def test_options_that_a_task_does_not_read_are_refused(pathsam, labelled, asked, typed):
    status, said, error = pathsam(*asked, *labelled[1:], *typed)
    assert (status, said) == (2, "")
    assert typed[0] in error
    words = " ".join(error.replace("│", " ").split())
    assert f"--task {asked[-1]} does not read it; leave this out" in words


def test_options_of_a_folder_need_one_and_a_run_says_everything_itself(pathsam, labelled, tmp_path):
    for typed in (("--gallery", 3), ("--resume",)):
        status, _, error = pathsam(*labelled, *typed)
        assert status == 2
        assert typed[0] in error
    for typed in (("--out", tmp_path / "x"), ("--dataset", "glas"), ("--threshold", 0.5),
                  ("--task", "prompts"), ("--csv", tmp_path / "x.csv"), ("--seed", 1)):  # fmt: skip
        status, _, error = pathsam("evaluate", "--run", tmp_path / "mine.run.npz", *typed)
        assert status == 2
        assert typed[0] in error
        assert "the run says everything" in " ".join(error.replace("│", " ").split())


@pytest.mark.slow
def test_two_runs_are_compared(pathsam, labelled, tmp_path):
    for name, more in (("a", ()), ("b", ("--threshold", 0.6))):
        assert pathsam(*labelled, "--out", tmp_path / name, "--gallery", 0, *more)[0] == 0
    out = tmp_path / "c.json"
    status, said, _ = pathsam("compare", tmp_path / "a", tmp_path / "b", "--json", out)
    assert status == 0
    found = json.loads(out.read_text())
    runs = [json.loads((tmp_path / n / "report.json").read_text())["metrics"] for n in "ab"]
    dice = found["figures"]["dice"]
    assert dice["difference"] == pytest.approx(runs[1]["dice"] - runs[0]["dice"])
    assert dice["low"] <= dice["difference"] <= dice["high"]
    assert found["groups"] == 4
    assert "B − A" in said
    assert "intervals: 4 images, each taken for a patient of its own;" in said
    for typed in (("--group-by", "i"), ("--limit", 2), ("--mpp", 0.5), ("--map", "gland=stroma"),
                  ("--task", "prompts"), ("--split", "test")):  # fmt: skip
        status, said, error = pathsam("compare", tmp_path / "a", tmp_path / "b", *typed)
        assert (status, said) == (2, "")
        assert typed[0] in error
        assert "as they were measured" in " ".join(error.replace("│", " ").split())
    status, _, error = pathsam("compare", tmp_path / "a", tmp_path / "images")
    assert status == 1
    assert "holds no run" in error
    assert pathsam("compare", tmp_path / "a", "pathsam-nano")[0] == 2


def test_two_models_are_compared(pathsam, labelled):
    status, said, _ = pathsam("compare", "one", "two", *labelled[1:], "--group-by", "i[01]|i")
    assert status == 0
    assert "intervals: 3 patients, slides or cases;" in said  # two are of one
    assert "not told apart" in said  # it is one model
    assert "+0.000" in said


def test_prompts_in_a_run(pathsam, labelled, tmp_path):
    out = tmp_path / "run"
    status, said, _ = pathsam(*labelled, "--task", "prompts", "--limit", 2, "--most-clicks", 6,
                              "--out", out, "--gallery", 1)  # fmt: skip
    assert status == 0
    for word in ("noisy box", "scribble", "clicks to an IoU of 0.80"):
        assert word in " ".join(said.split())
    metrics = json.loads((out / "report.json").read_text())["metrics"]
    assert metrics["noc_80"] <= metrics["noc_90"] <= 6
    assert (out / "plots" / "clicks.png").is_file()
    page = (out / "report.html").read_text()
    assert f'<td>labelled objects</td><td class="n">{metrics["n_objects"]}</td>' in page
    assert "ms a click (median)" in page
    assert "bootstrap over 2 images" in page
    assert len(list((out / "overlays").iterdir())) == 1


def test_a_page_of_one_image_claims_no_intervals(pathsam, labelled, tmp_path):
    out = tmp_path / "run"
    status, said, _ = pathsam(*labelled, "--limit", 1, "--out", out, "--gallery", 0)
    assert status == 0
    assert "there are no intervals" in said
    page = (out / "report.html").read_text()
    assert "there are no intervals" in page
    assert "resamples" not in page
    assert "rough" not in page


@pytest.mark.slow
def test_everything_in_a_run(pathsam, labelled, tmp_path):
    out = tmp_path / "run"
    status, said, _ = pathsam(*labelled, "--task", "everything", "--limit", 2, "--largest-share",
                              0.5, "--out", out, "--gallery", 1)  # fmt: skip
    assert status == 0
    assert "IoU of each object's best mask" in said
    (picture,) = (out / "overlays").iterdir()
    with Image.open(picture) as shown:
        assert shown.width > 2 * 80  # the labels, and the answer beside them
    assert "best mask" in (out / "report.html").read_text()


def test_without_matplotlib_the_rest_is_there(pathsam, labelled, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    out = tmp_path / "run"
    status, _, error = pathsam(*labelled, "--out", out, "--gallery", 0, "--limit", 2)
    assert status == 0
    assert "napari-pathsam[plots]" in error
    assert not (out / "plots").exists()
    assert "napari-pathsam[plots]" in (out / "report.html").read_text()
