"""Time of a training epoch with embeddings kept, against encoding every step as the papers do.

    OMP_NUM_THREADS=2 python benchmarks/train_cache.py [--encoder vit-l] [--cpu-time] [--json FILE]

Same model, same machine, one run. The base is SAM 2.1 tiny on its canvas of 1024 pixels; weights
are random, which costs the same. Reported for each choice of what is trained: seconds an image of
an epoch that encodes, of one that reads embeddings from disk and from memory, and their ratios,
which hold once every variant was met. ``--cpu-time`` counts processor time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np
import torch

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.models.encoder_spec import EncoderSpec, VitArgs
from napari_pathsam.models.encoders import random_encoder
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.models.pathsam_config import profiled
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.sam2_config import SAM2_CONFIGS
from napari_pathsam.models.sources import LocalFile
from napari_pathsam.training.class_config import TrainConfig
from napari_pathsam.training.class_data import TrainingImage
from napari_pathsam.training.class_fit import ClassTrainer

TRAINED = {
    "head": ("head",),
    "alignment + decoder": ("head", "alignment", "decoder"),
}
VIT_L = EncoderSpec(
    name="vit-l", timm="vit_large_patch16_224", token_px=16, embed_dim=1024, window_px=224,
    vit=VitArgs(init_values=1e-5),
    licence="random weights", weights=LocalFile(path="none.pt"),
)  # fmt: skip


def images(n: int, side: int) -> list[TrainingImage]:
    rng = np.random.default_rng(0)
    found = []
    for i in range(n):
        target = rng.integers(0, 3, (side // 32, side // 32)).repeat(32, 0).repeat(32, 1)
        pixels = np.array([[235, 230, 235], [120, 60, 150], [220, 140, 180]])[target]
        noise = rng.integers(-9, 10, (side, side, 1))
        found.append(
            TrainingImage((pixels + noise).astype(np.uint8), target.astype(np.int16), f"{i}")
        )
    return found


def built(encoder: EncoderSpec | None) -> PathSam:
    torch.manual_seed(0)
    config = profiled("recommended", name="timed", base="sam2.1-tiny", encoder=encoder, mpp=0.5)
    pathology = None if encoder is None else random_encoder(encoder)
    base = Sam2(SAM2_CONFIGS["sam2.1-tiny"]).eval()
    return PathSam(config, base, ClassTable.of("gland", "stroma"), pathology)


clock = perf_counter


def epoch(trainer: ClassTrainer) -> float:
    started = clock()
    for _ in trainer.train_epoch():
        pass
    return clock() - started


def measured(model: PathSam, parts: tuple, data: list[TrainingImage], repeats: int) -> dict:
    """Median seconds of an epoch: every step encoded, kept on disk, kept in memory."""
    found = {}
    config = TrainConfig(
        parts=parts, epochs=99, batch=1, patch_px=data[0].target.shape[0], variants=1
    )
    with tempfile.TemporaryDirectory() as folder:
        ways = {
            "encoded": None,
            "disk": EmbeddingCache(memory_bytes=0, disk=Path(folder)),
            "memory": EmbeddingCache(memory_bytes=8 * 2**30, disk=Path(folder)),
        }
        trainers = {
            way: ClassTrainer(model, data, (), config, cache=cache) for way, cache in ways.items()
        }
        for way in ("disk", "memory"):
            epoch(trainers[way])  # warms up, fills the cache
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(repeats):  # in turn, so that whatever else runs slows all alike
            for way, trainer in trainers.items():
                times[way].append(epoch(trainer))
        bytes_each = ways["disk"].disk_nbytes // len(data)
    for way, each in times.items():
        found[f"{way}_s_per_image"] = median(each) / len(data)
    for way in ("disk", "memory"):
        found[f"{way}_times_faster"] = median(
            a / b for a, b in zip(times["encoded"], times[way], strict=True)
        )
    return found | {"bytes_per_image": bytes_each}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", choices=["none", "vit-l"], default="none")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cpu-time", action="store_true", help="when the machine is shared")
    given = parser.parse_args()
    global clock
    clock = process_time if given.cpu_time else perf_counter
    model = built(VIT_L if given.encoder == "vit-l" else None)
    data = images(given.images, 1024)
    results = {}
    for name, parts in TRAINED.items():
        results[name] = measured(model, parts, data, given.repeats)
        told = ", ".join(f"{key} {value:.3g}" for key, value in results[name].items())
        print(f"{name}: {told}", flush=True)
    about = {
        "encoder": given.encoder,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    if given.json is not None:
        given.json.write_text(json.dumps(about | {"results": results}, indent=1))


if __name__ == "__main__":
    main()
