"""The papers' tables: figures as in the notes, what follows from them, and rows measured here."""

import csv
import json

import pytest

from napari_pathsam.cli import main
from napari_pathsam.evaluation.measured import measured_rows, rows_of_report
from napari_pathsam.evaluation.published_tables import (
    PUBLISHED,
    glas_ranks,
    published_table,
    read_rows,
)
from napari_pathsam.evaluation.report import Report


def reading(name, **where):
    table = published_table(name)
    rows = [r for r in table.rows() if all(getattr(r, k) == v for k, v in where.items())]
    return table.read(rows[0])


@pytest.mark.parametrize(
    ("dataset", "model", "precision", "iou"),
    [
        ("EBHI", "Path-SAM2", 0.913, 0.856),
        ("CRAG", "Path-SAM2", 0.868, 0.787),
        ("GlaS", "Path-SAM2", 0.795, 0.744),
        ("EBHI", "SAM-Path", 0.889, 0.819),
        ("CRAG", "SAM-Path", 0.885, 0.792),
        ("GlaS", "SAM-Path", 0.801, 0.735),
    ],
)
def test_recall_under_the_name_of_iou_is_decoded(dataset, model, precision, iou):
    found = reading("path-sam2", dataset=dataset, model=model)
    assert "recall" in found.what
    assert found.implied["precision"] == pytest.approx(precision, abs=6e-4)
    assert found.implied["iou"] == pytest.approx(iou, abs=6e-4)


def test_what_is_no_recall_is_not_called_so():
    assert reading("sam-path", dataset="BCSS", model="SAM-Path").implied == {"accuracy": 0.7949}
    vanilla = reading("sam-path", dataset="CRAG", model="Vanilla SAM")
    assert vanilla.implied == {"iou": 0.3555}
    assert "iou ≥" in reading("path-sam2", dataset="EBHI", model="Vanilla SAM2").implied
    assert reading("eunet3plus", dataset="CoNIC", model="U-Net").implied == {}
    dtu = reading("glas-challenge", dataset="GlaS part A", model="DTU-MASKRCNN")
    assert "not to be ranked" in dtu.what
    assert reading("glas-challenge", dataset="GlaS part A", model="ExB1").implied == {}


def test_every_row_can_be_read_and_is_a_figure():
    n = {name: len(read_rows(name)) for name in PUBLISHED}
    assert n == {"path-sam2": 33, "sam-path": 8, "wsi-sam": 50, "eunet3plus": 15,
                 "glas-challenge": 24}  # fmt: skip
    for name, table in PUBLISHED.items():
        for row in table.rows():
            assert set(row.figures) == set(table.columns)
            assert all(v > 0 and (v <= 1 or "hausdorff" in k) for k, v in row.figures.items())
            assert all(0 < v < 1 for v in table.read(row).implied.values())
        assert all(0 < v <= 1 for r in measured_rows(name) for m, (v, *_) in r.figures.items()
                   if "hausdorff" not in m)  # fmt: skip
        commands = {r.command for r in measured_rows(name)}
        assert all(c.startswith(("pathsam ", "python benchmarks/")) for c in commands)


def test_figures_are_those_of_the_notes(shared_data):
    file = shared_data.parent / "docs" / "published_results.csv"
    papers = {"Path-SAM2": "path-sam2", "SAM-Path": "sam-path", "WSI-SAM": "wsi-sam",
              "SAM-guided eU-Net3+": "eunet3plus", "DTU": "glas-challenge"}  # fmt: skip
    here = {
        (name, r.table, r.dataset, r.model, metric): value
        for name in PUBLISHED
        for r in read_rows(name)
        for metric, value in r.figures.items()
    }
    with file.open(encoding="utf-8") as opened:
        for line in csv.DictReader(opened):
            key = papers[line["paper"]], line["table"], line["dataset"], line["model"]
            assert here.pop((*key, line["metric"])) == pytest.approx(float(line["value"]))
    assert not here


def test_the_challenge_ranks_as_it_did():
    part_a = {r.model: r.figures for r in read_rows("glas-challenge")
              if r.dataset == "GlaS part A" and not r.model.startswith("DTU")}  # fmt: skip
    ranks = glas_ranks(part_a)
    assert ranks["CUMedVision2"] == 3  # first in all three
    ours = {"object_f1": 0.9, "object_dice": 0.89, "object_hausdorff": 50.0}
    with_ours = glas_ranks(part_a | {"ours": ours, "unknown": {"object_f1": 0.5}})
    assert with_ours["ours"] == 2 + 2 + 2
    assert "unknown" not in with_ours


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def pathsam(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "220")

    def run(*arguments):
        with pytest.raises(SystemExit) as left:
            main([str(a) for a in arguments])
        said = capsys.readouterr()
        return left.value.code or 0, said.out, " ".join(said.err.split())

    return run


@pytest.fixture
def report(tmp_path):
    """A run on test A, as `pathsam evaluate --json` writes it."""
    figures = {"object_f1": 0.9, "object_dice": 0.89, "object_hausdorff": 50.0, "dice": 0.88}
    bounds = {k: [0.9 * v, 1.1 * v] for k, v in figures.items()}
    Report(
        model="mine", dataset="glas", split="testA", task="classes", n_images=60,
        metrics=figures | {"intervals": {"figures": bounds}},
        settings={"command": "pathsam evaluate --dataset glas"},
    ).write(tmp_path / "r.json")  # fmt: skip
    return tmp_path / "r.json"


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_prints_every_table(pathsam, name):
    status, said, _ = pathsam("tables", name)
    assert status == 0
    assert "not measured" in said or measured_rows(name)
    assert PUBLISHED[name].citation[:20] in said


def test_a_run_is_put_beside_and_ranked(pathsam, report, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_pathsam.evaluation.measured.measured_rows", lambda table: [])
    monkeypatch.setattr("napari_pathsam.cli.console.OUT.width", 160)
    status, said, _ = pathsam("tables", "glas-challenge", "--run", report)
    assert status == 0
    line = next(line for line in said.splitlines() if "mine (here)" in line)
    assert "0.900 [0.810, 0.990]" in line
    assert line.split("]")[3].split()[0] == "6"  # what comes after three figures: the rank sum
    assert "DTU-MASKRCNN ≥ 0.855" in said
    out = tmp_path / "rows.csv"
    assert pathsam("tables", "path-sam2", "--run", report, "--csv", out)[0] == 0
    with out.open() as file:
        rows = [r for r in csv.DictReader(file) if r["model"] == "mine"]
    assert [(r["dataset"], r["metric"], r["value"]) for r in rows] == [("GlaS", "dice", "0.8800")]


def test_an_infinite_distance_is_the_last_in_rank_and_not_unmeasured(
    pathsam, report, tmp_path, monkeypatch
):
    monkeypatch.setattr("napari_pathsam.cli.console.OUT.width", 160)
    told = json.loads(report.read_text())
    told["metrics"]["object_hausdorff"] = None  # as JSON has it
    told["metrics"]["objects"] = {"lone": 3}
    told["metrics"]["intervals"]["figures"]["object_hausdorff"] = [60.0, None]
    report.write_text(json.dumps(told))
    status, said, _ = pathsam("tables", "glas-challenge", "--run", report, "--csv", tmp_path / "r")
    assert status == 0
    line = next(line for line in said.splitlines() if "mine (here)" in line)
    assert "∞ [60.0, ∞]" in line
    assert "not measured" not in line
    assert "object_hausdorff,inf,60.0000,inf," in (tmp_path / "r").read_text()
    told["metrics"]["objects"] = {"lone": 0}
    report.write_text(json.dumps(told))
    said = pathsam("tables", "glas-challenge", "--run", report)[1]
    line = next(line for line in said.splitlines() if "mine (here)" in line)
    assert "0.900 [0.810, 0.990]" in line  # what there is of it, without a rank
    assert " – " in line


def test_refusals(pathsam, report, tmp_path):
    status, _, error = pathsam("tables", "unet")
    assert status == 1
    assert "glas-challenge" in error
    status, _, error = pathsam("tables", "eunet3plus", "--run", report)
    assert status == 1
    assert "glas, testA" in error
    status, _, error = pathsam("tables", "path-sam2", "--run", tmp_path / "gone.json")
    assert status == 1
    assert "does not exist" in error
    (tmp_path / "bad.json").write_text(json.dumps({"model": 1}))
    status, _, error = pathsam("tables", "path-sam2", "--run", tmp_path / "bad.json")
    assert status == 1
    assert "no report" in error


def test_a_run_of_another_split_has_no_place(report):
    train = json.loads(report.read_text()) | {"split": "train"}
    report.write_text(json.dumps(train))
    with pytest.raises(Exception, match="no place"):
        rows_of_report(report, "glas-challenge")


def test_our_rows_have_figures_with_intervals_and_a_command_to_copy(pathsam):
    status, said, _ = pathsam("tables", "path-sam2")
    assert status == 0
    (glas,) = [
        r for r in measured_rows("path-sam2")
        if (r.dataset, r.model) == ("GlaS", "pathsam-nano:glands")
    ]  # fmt: skip
    dice, iou = (glas.figures[k][0] for k in ("dice", "iou"))
    assert iou == pytest.approx(dice / (2 - dice), abs=2e-4)
    assert all(low < value < high for value, low, high in glas.figures.values())
    assert f"] {glas.command}\n" in said  # in one piece
    assert f"{dice:.3f}" in said
    taught = {r.model for r in measured_rows("path-sam2") if "ablation.py" in r.command}
    assert {"path-sam2-nano, no second encoder", "path-sam2-nano, no second encoder, MLP"} <= taught
    assert "taught on 246 images" in " ".join(said.split())
    ranked = [r for r in measured_rows("glas-challenge") if r.figures]
    assert {r.dataset for r in ranked} == {"GlaS part A"}
    assert all(set(r.figures) == {"object_f1", "object_dice", "object_hausdorff"} for r in ranked)
