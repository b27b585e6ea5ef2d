"""The packaged nuclei head on one real image gives the figures it gave when they were published."""

import json

import pytest


def test_nuclei_of_one_image(pathsam, shared_data, tmp_path):
    out = tmp_path / "r.json"
    status, said, _ = pathsam(
        "evaluate", "--dataset", "tnbc", "--root", shared_data / "tnbc", "--split", "val",
        "--model", "pathsam-nano:nuclei", "--limit", 1, "--json", out,
    )  # fmt: skip
    assert status == 0
    metrics = json.loads(out.read_text())["metrics"]
    wanted = {"dice": 0.8203, "precision": 0.7703, "recall": 0.8773, "boundary_f1": 0.8716}
    assert {k: metrics[k] for k in wanted} == pytest.approx(wanted, abs=2e-3)
    assert metrics["iou"] == pytest.approx(metrics["dice"] / (2 - metrics["dice"]))
    assert "there are no intervals" in said  # one patient
