"""``pathsam segment`` into label pyramids: resumed after a kill, many slides, what is said."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from scipy import ndimage

from napari_pathsam.cli import main
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.class_maps import segment_classes
from napari_pathsam.inference.distributed import wait_for_workers
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.models.pathsam import PathSam

Run = Callable[..., tuple[int, str, str]]
SHAPE = (300, 420)


@pytest.fixture
def image(tmp_path: Path, rng: np.random.Generator) -> Path:
    smooth = ndimage.gaussian_filter(rng.normal(size=(*SHAPE, 3)), (6, 6, 0)) * 500
    path = tmp_path / "in" / "field.png"
    path.parent.mkdir()
    pixels = np.clip(smooth + np.array([190, 110, 170]), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def segment(
    tiny_pathsam: PathSam, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    module = sys.modules["napari_pathsam.cli.segment"]
    monkeypatch.setattr(module, "load", lambda *_: tiny_pathsam)
    monkeypatch.setattr("napari_pathsam.inference.slide_plan.OVERLAP", 0.25)  # as images

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["segment", *map(str, arguments), "--model", "m", "--mpp", "0.5"])
        out, err = capsys.readouterr()
        return int(left.value.code or 0), " ".join(out.split()), " ".join(err.split())

    return run


def stored(path: Path, name: str = "classes") -> np.ndarray:
    return LabelStore.open(path, name).read(Region.of(SHAPE))


def test_a_pyramid_holds_what_an_image_would(
    segment: Run, image: Path, tmp_path: Path, tiny_pathsam: PathSam
) -> None:
    out = tmp_path / "o.zarr"
    code, told, _ = segment(
        image, "--out", out, "--uncertainty", "--instances", "--area", tmp_path / "a.csv"
    )
    assert code == 0
    assert (stored(out, "objects") > 0).sum() == (stored(out) > 0).sum()
    assert "Seam score" in told
    expected = segment_classes(tiny_pathsam, np.asarray(Image.open(image)), mpp=0.5)
    assert (stored(out) == expected).mean() > 0.9999
    assert stored(out, "uncertainty").any()
    rows = {r["class"]: r for r in csv.DictReader((tmp_path / "a.csv").read_text().splitlines())}
    assert int(rows["gland"]["px"]) == (stored(out) == 1).sum()
    tissue = float(rows["gland"]["tissue_mm2"])
    assert 0 < tissue <= SHAPE[0] * SHAPE[1] * 0.25e-6 * 1.001
    per_mm2 = float(rows["gland"]["objects_per_mm2_of_tissue"])
    assert per_mm2 == pytest.approx(int(rows["gland"]["objects"]) / tissue, rel=1e-4)
    code, _, err = segment(image, "--out", out, "--uncertainty")
    assert code == 1
    assert "--resume" in err
    code, told, _ = segment(image, "--out", out, "--uncertainty", "--resume")
    assert code == 0
    assert "done already" in told
    code, _, err = segment(image, "--out", out, "--resume", "--threshold", 0.7)
    assert code == 1
    assert "something else" in err


def test_the_time_that_is_left_is_the_runs_own(
    segment: Run, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=200)
    monkeypatch.setattr("napari_pathsam.cli.console.ERR", console)
    monkeypatch.setattr("napari_pathsam.inference.slide_time.TimeLeft.seconds", 4000.0)
    assert segment(image, "--out", tmp_path / "o.zarr")[0] == 0
    assert "left: 67 min" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.getvalue())


def test_a_long_run_is_told_before_it_begins(
    segment: Run, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, err = segment(image, "--out", tmp_path / "short.zarr")
    assert "windows" not in err
    monkeypatch.setattr("napari_pathsam.inference.slide_estimate.SHORT_S", 0.0)
    monkeypatch.setattr("napari_pathsam.inference.slide_estimate.LONG_S", 0.0)
    _, _, err = segment(image, "--out", tmp_path / "long.zarr")
    assert re.search(r"mm² to do in \d+ windows; about \d+ s and \d+ MB on the disk", err)
    for faster in ("--region", "--workers", "--device cuda", "a smaller model: pathsam-nano"):
        assert faster in err


def test_many_slides_have_a_manifest_and_failures_are_tried_again(
    segment: Run, image: Path, tmp_path: Path
) -> None:
    empty = image.with_name("empty.png")
    Image.fromarray(np.full((*SHAPE, 3), 243, np.uint8)).save(empty)
    (broken := image.with_name("broken.png")).write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    out = tmp_path / "out"
    code, _, err = segment(image, empty, broken, "--out", out, "--format", "zarr")
    assert code == 1
    assert "2 of 3 images" in err
    assert err.count("once more") == 2
    table = csv.DictReader((out / "manifest.csv").read_text().splitlines())
    rows = {Path(row["image"]).name: row for row in table}
    assert [rows[p.name]["state"] for p in (image, empty, broken)] == ["done", "failed", "failed"]
    assert "No tissue" in rows["empty.png"]["why"]
    assert stored(out / "field.zarr").any()
    assert not (out / "empty.zarr").exists()


def test_what_nobody_foresaw_of_one_slide_does_not_cost_the_others(
    segment: Run, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a graphics card that falls out for a moment."""
    from napari_pathsam.inference import windows

    logits, tried = windows.window_logits, 0

    def not_at_first(*asked: Any) -> Any:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise RuntimeError("the card fell out")
        return logits(*asked)

    monkeypatch.setattr(windows, "window_logits", not_at_first)
    Image.open(image).rotate(180).save(other := image.with_name("other.png"))
    out = tmp_path / "out"
    code, _, err = segment(image, other, "--out", out, "--format", "zarr")
    assert code == 0, err
    said = "".join(err.split())  # long lines are folded
    assert "field.png:notforeseen:RuntimeError:thecardfellout" in said
    assert said.count("oncemore") == 1
    assert stored(out / "field.zarr").any()
    assert stored(out / "other.zarr").any()


@pytest.mark.parametrize("name", ["o.png", "o.zarr"])
def test_a_region_beyond_the_image_is_cut_and_said(
    segment: Run, image: Path, tmp_path: Path, name: str
) -> None:
    """Also one that would be too large for memory, if there were so much."""
    code, _, err = segment(image, "--out", tmp_path / name, "--region", "200,10,90000,80000")
    assert code == 0
    assert "Rows 200 to 90000, columns 10 to 80000 were asked for, and field.png has 300" in err
    assert "only rows 200 to 300, columns 10 to 420 are segmented, 100 × 410 pixels" in err
    if name == "o.png":
        with Image.open(tmp_path / name) as written:
            assert written.size == (410, 100)
    code, _, err = segment(image, "--out", tmp_path / f"2{name}", "--region", "200,10,300,420")
    assert (code, "asked for" in err) == (0, False)


def test_what_only_a_pyramid_holds_is_refused_elsewhere(
    segment: Run, image: Path, tmp_path: Path
) -> None:
    for option in ("--resume", "--uncertainty", "--probabilities"):
        code, _, err = segment(image, "--out", tmp_path / "o.png", option)
        assert code == 2
        assert ".zarr" in err


def test_a_scheduler_that_is_not_there_leaves_nothing(
    segment: Run, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("napari_pathsam.inference.distributed.CONNECT_S", 0.3)
    out = tmp_path / "o.zarr"
    code, _, err = segment(image, "--out", out, "--scheduler", "tcp://127.0.0.1:9")
    assert code == 1
    assert "No Dask scheduler answers at tcp://127.0.0.1:9" in err
    assert not out.exists()


@pytest.mark.filterwarnings("ignore")  # of Dask, about ports
def test_workers_that_begin_later_are_waited_for(
    segment: Run, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dask = pytest.importorskip("distributed")
    alone, out = tmp_path / "alone.zarr", tmp_path / "o.zarr"
    assert segment(image, "--out", alone)[0] == 0
    one = {"processes": False, "threads_per_worker": 1, "dashboard_address": None}
    with dask.LocalCluster(n_workers=0, **one) as cluster:

        def begin_and_wait(client: Any, wanted: int) -> None:
            cluster.scale(wanted)
            wait_for_workers(client, wanted)
            assert len(client.ncores()) == wanted

        monkeypatch.setattr("napari_pathsam.inference.distributed.wait_for_workers", begin_and_wait)
        address = cluster.scheduler_address
        code, _, err = segment(image, "--out", out, "--scheduler", address, "--workers", "2")
    assert (code, f"{address} has 0 of 2 workers; waiting" in err) == (0, True), err
    assert (stored(out) == stored(alone)).all()


WORK = """
import os, random, signal, sys, time
import numpy as np, torch
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.inference.class_maps import SegmentSettings
from napari_pathsam.inference.slide import segment_slide
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.models.pathsam_config import profiled
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.sam2_config import Sam2Config, TimmConfig

torch.manual_seed(0)
torch.set_num_threads(1)
config = Sam2Config(
    name="tiny", trunk=TimmConfig(name="mobilenetv2_050"), width=64, mlp_dim=64,
    iou_hidden_dim=32, field_px=64, fixed_canvas=False, smallest_px=64, object_score=False,
)
config = profiled("recommended", name="tiny:made", base="tiny", mpp=0.5, hidden=(16,)), config
model = PathSam(config[0], Sam2(config[1]), ClassTable.of("gland", "stroma")).eval()
pixels = np.random.default_rng(1).integers(90, 200, (220, 190, 3)).astype(np.uint8)
slide = ArraySlide(pixels, mpp=0.5, name="noise")

def work(path):
    for _ in segment_slide(
        model, slide, store=path, resume=True, tissue=False, uncertainty=True, chunk_px=32,
        settings=SegmentSettings(),
    ):
        pass


def killed(path, after_s):
    if not (child := os.fork()):
        work(path)
        os._exit(0)
    end = time.monotonic() + after_s
    while time.monotonic() < end and not os.waitid(
        os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT
    ):
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] != 0


draw, kills, whole, often = random.Random(4), 0, *sys.argv[1:]
work(whole)
while killed(often, draw.uniform(0, 0.05) * (1 + kills)):  # later and later
    kills += 1
print(kills)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")
@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_labels(tmp_path: Path) -> None:
    whole, often = tmp_path / "whole.zarr", tmp_path / "often.zarr"
    told = subprocess.run(
        [sys.executable, "-c", WORK, str(whole), str(often)],
        stdout=subprocess.PIPE, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert int(told.stdout) >= 3
    region = Region(0, 0, 220, 190)
    for name in ("classes", "uncertainty"):
        stores = [LabelStore.open(path, name) for path in (whole, often)]
        assert len(np.unique(stores[0].read(region))) > 1
        for level in range(len(stores[0].level_shapes)):
            assert (stores[0].read(region, level) == stores[1].read(region, level)).all()
    lines = [(p / "labels/classes/pathsam-run.jsonl").read_text() for p in (whole, often)]
    assert lines[1].count('"block"') == lines[0].count('"block"') > 3  # each written once
    assert not [p for p in often.rglob("*") if p.suffix in (".partial", ".part")]
