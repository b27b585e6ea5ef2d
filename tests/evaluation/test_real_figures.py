"""The packaged heads on a few real images give the figures they gave when they were published."""

import json

import pytest

CASES: dict[str, tuple[str, str, int, dict[str, float]]] = {
    "glands": ("glas", "testA", 3, {"dice": 0.9622, "precision": 0.9580, "boundary_f1": 0.4992}),
    "lesions": ("ebhi-seg", "val", 4, {"dice": 0.8565, "micro_dice": 0.1987}),
    "nuclei": ("tnbc", "val", 1, {"dice": 0.8203, "precision": 0.7703, "boundary_f1": 0.8716}),
    "tissue": ("crc-tissue", "unseen", 14, {"micro_dice": 0.9126, "tile_accuracy": 1.0}),
}


@pytest.mark.parametrize("head", CASES)
def test_a_packaged_head(pathsam, shared_data, tmp_path, head):
    dataset, split, limit, wanted = CASES[head]
    target = ("--target", "lesions") if head == "lesions" else ()
    root = shared_data / dataset.replace("-", "_")
    status, said, _ = pathsam(
        "evaluate", "--dataset", dataset, "--root", root, "--split", split, *target,
        "--model", f"pathsam-nano:{head}", "--limit", limit, "--json", tmp_path / "r.json",
    )  # fmt: skip
    assert status == 0
    metrics = json.loads((tmp_path / "r.json").read_text())["metrics"]
    assert {k: metrics[k] for k in wanted} == pytest.approx(wanted, abs=2e-3)
    assert metrics["iou"] == pytest.approx(metrics["dice"] / (2 - metrics["dice"]))
    alone = metrics["intervals"]["groups"] == 1
    assert ("there are no intervals" in said) == alone == (head in ("lesions", "nuclei"))
