"""Several processes: the steps of one process, with every batch split over two."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.training.processes import Processes, from_torchrun

RUN = """
import sys
import numpy as np, torch
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.models.pathsam_config import profiled
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.sam2_config import Sam2Config, TimmConfig
from napari_pathsam.training.class_config import ClassLossConfig, TrainConfig
from napari_pathsam.training.class_data import TrainingImage
from napari_pathsam.training.class_fit import ClassTrainer
from napari_pathsam.training.processes import from_torchrun

def train(processes, path, dice_over):
    torch.manual_seed(processes.rank)  # the weights of the first one count
    base = Sam2(Sam2Config(
        name="tiny", trunk=TimmConfig(name="mobilenetv2_050"), width=32, mlp_dim=32,
        iou_hidden_dim=16, field_px=64, fixed_canvas=False, object_score=False))
    base.load_state_dict(torch.load(path, weights_only=True))
    config = profiled("recommended", name="made", base="tiny", mpp=1, hidden=(8,))
    model = PathSam(config, base, ClassTable.of("gland", "stroma"))
    rng = np.random.default_rng(0)
    images = []
    for i in range(5):
        target = np.repeat(np.repeat(rng.integers(0, 3, (8, 8)), 8, 0), 8, 1).astype(np.int16)
        target[: 8 * i] = -1  # some have far fewer labels than others
        pixels = np.array([[230, 230, 230], [120, 60, 150], [220, 130, 170]], np.uint8)[target]
        images.append(TrainingImage(pixels, target, str(i)))
    # The last batch has one patch: one of the processes has none.
    settings = TrainConfig(
        epochs=2, batch=2, patch_px=64, variants=1, stride=4, warmup=1, kan_l1=1e-4,
        loss=ClassLossConfig(dice_over=dice_over, beta=0.1), lr=1e-3)
    trainer = ClassTrainer(
        model, images, images[:3], settings, cache=EmbeddingCache(), processes=processes)
    losses = [loss for _ in range(2) for loss in trainer.train_epoch()]
    found = trainer.validate()
    weights = {n: p.detach() for n, p in trainer.trained.items()}
    weights |= {f"average {n}": t for n, t in trainer.average.items()}
    return {
        "weights": weights, "losses": torch.tensor(losses),
        "counts": torch.from_numpy(found.counts), "encoded": trainer.encoded,
    }

def every(processes, path):
    return {dice_over: train(processes, path, dice_over) for dice_over in ("batch", "image")}

if __name__ == "__main__":
    torch.set_num_threads(1)
    with from_torchrun() as together:
        assert together.size == 2
        torch.save(every(together, sys.argv[2]), f"{sys.argv[1]}{together.rank}")
"""


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    from napari_pathsam.models.sam2 import Sam2
    from napari_pathsam.models.sam2_config import Sam2Config, TimmConfig

    script, base = tmp_path / "run.py", tmp_path / "base.pt"
    script.write_text(RUN)
    config = Sam2Config(
        name="tiny", trunk=TimmConfig(name="mobilenetv2_050"), width=32, mlp_dim=32,
        iou_hidden_dim=16, field_px=64, fixed_canvas=False, object_score=False,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(Sam2(config).state_dict(), base)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    torchrun = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone",
        "--local-addr", "127.0.0.1",
    ]  # fmt: skip
    command = [*torchrun, script, tmp_path / "two", base]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    two = [torch.load(tmp_path / name, weights_only=True) for name in ("two0", "two1")]
    with torch.random.fork_rng(devices=[]):
        one = runpy.run_path(str(script))["every"](Processes(), base)
    for dice_over, wanted in one.items():
        for found in (each[dice_over] for each in two):
            assert torch.allclose(found["losses"], wanted["losses"], atol=1e-5)
            assert torch.equal(found["counts"], wanted["counts"])
            for name, weights in wanted["weights"].items():
                assert torch.allclose(found["weights"][name], weights, atol=2e-5), name
            assert found["encoded"] < wanted["encoded"]  # each did a part of the work
        same = zip(*(each[dice_over]["weights"].values() for each in two), strict=True)
        assert all(torch.equal(a, b) for a, b in same)


def test_alone_nothing_is_changed() -> None:
    alone, value = Processes(), torch.ones(3, requires_grad=True)
    assert alone.summed(value) is value
    assert list(alone.share([1, 2, 3])) == [1, 2, 3]
    assert list(Processes(1, 2).share([1, 2, 3])) == [2]
    assert list(Processes(1, 2).share([1])) == []
    parameter = Tensor([1.0])
    alone.add_gradients([parameter])
    assert parameter.grad is None
    assert alone.first
    assert not Processes(1, 2).first


def test_without_torchrun_it_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UnavailableError, match="torchrun --nproc-per-node"), from_torchrun():
        pass
