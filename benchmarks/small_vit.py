"""Train the small vision transformer of the ablation "with and without a second encoder".

    python benchmarks/small_vit.py --ebhi-seg DIR --crc-tissue DIR --osteosarcoma DIR --oral DIR \
        --out small-vit.safetensors

Supervised by what each data set says of a whole image: EBHI-Seg's diagnosis (its training split),
the tissue of CRC-VAL-HE-7K's tiles, the predominant class of the osteosarcoma tiles, the diagnosis
of the oral images; one linear layer for each. Patches of 128 pixels of 1.0 µm, one
window of the encoder each. Writes the weights, and beside them the encoder's
description that ``pathsam models import --spec`` takes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from napari_pathsam.datasets import open_dataset
from napari_pathsam.models.encoder_spec import EncoderSpec, VitArgs
from napari_pathsam.models.sam2_config import IMAGENET_MEAN, IMAGENET_STD
from napari_pathsam.models.sources import LocalFile
from napari_pathsam.training.augment import (
    AugmentConfig,
    cut_image,
    draw_stain,
    jitter_sharpness,
    random_affine,
    stained,
)

WINDOW_PX = 128
MPP = 1.0  # of the network's pixels
VIT = VitArgs(img_size=WINDOW_PX, embed_dim=192, depth=6, num_heads=3)
AUGMENT = AugmentConfig(stain=0.3, density=(0.2, 1.3), brightness=0.15)

Labelled = tuple[np.ndarray, int, int]
"""Image, task, class."""


def read(args: argparse.Namespace) -> tuple[list[Labelled], list[float], list[list[str]]]:
    """All images, the pixel size of each task's, and each task's class names."""
    found: list[Labelled] = []
    ebhi = open_dataset("ebhi-seg", args.ebhi_seg, "train")
    folders = [
        (1.4, [(s.load()[0], s.name.split("/")[0]) for s in ebhi]),
        (1.04, by_folder(args.crc_tissue / "108px_1.04mpp")),
        (1.0, by_folder(args.osteosarcoma)),
        (0.7, by_folder(args.oral)),  # not known
    ]
    names = []
    for task, (_, images) in enumerate(folders):
        names.append(sorted({name for _, name in images}))
        found += [(image, task, names[-1].index(name)) for image, name in images]
    return found, [mpp for mpp, _ in folders], names


def by_folder(root: Path) -> list[tuple[np.ndarray, str]]:
    paths = [p for p in sorted(root.rglob("*")) if p.suffix in (".png", ".webp", ".jpg", ".tif")]
    return [(np.array(Image.open(p).convert("RGB")), p.parent.name) for p in paths]


def patch(one: Labelled, mpp: float, rng: np.random.Generator) -> Tensor:
    image = stained(one[0], draw_stain(rng, AUGMENT))
    zoom = mpp / MPP * float(np.exp(rng.uniform(-0.3, 0.3)))
    theta = random_affine(rng, image.shape[:2], WINDOW_PX, zoom, AUGMENT)
    pixels = cut_image(image, theta, WINDOW_PX)
    return jitter_sharpness(pixels, rng, sharpness=AUGMENT.sharpness, noise=AUGMENT.noise) / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("ebhi-seg", "crc-tissue", "osteosarcoma", "oral", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    images, mpps, names = read(args)
    print([(len(n), sum(t == i for _, t, _ in images)) for i, n in enumerate(names)], flush=True)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    fields = VIT.model_dump(exclude_none=True)
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0, **fields)
    heads = nn.ModuleList(nn.Linear(192, len(n)) for n in names)
    parameters = [*vit.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, args.steps, pct_start=0.1)
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    share = np.array([len([1 for _, t, _ in images if t == i]) for i in range(len(names))])
    weight = np.array([1 / np.sqrt(share[t]) for _, t, _ in images])
    started, hits = perf_counter(), []
    for step in range(1, args.steps + 1):
        chosen = [images[i] for i in rng.choice(len(images), args.batch, p=weight / weight.sum())]
        pixels = torch.cat([patch(one, mpps[one[1]], rng) for one in chosen])
        features = vit.forward_features((pixels - mean) / std)[:, 1:].mean(dim=1)
        loss = features.new_zeros(())
        for task, head in enumerate(heads):
            rows = [i for i, one in enumerate(chosen) if one[1] == task]
            if rows:
                logits, truth = head(features[rows]), torch.tensor([chosen[i][2] for i in rows])
                loss = loss + functional.cross_entropy(logits, truth, reduction="sum") / len(chosen)
                hits += [(task, bool(h)) for h in logits.argmax(1) == truth]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            by_task = [np.mean([h for t, h in hits if t == i]) for i in range(len(names))]
            print(step, np.round(by_task, 3), f"{perf_counter() - started:.0f} s", flush=True)
            hits = []
    save_file({k: v.contiguous() for k, v in vit.state_dict().items()}, args.out)
    spec = EncoderSpec(
        name="small-vit", title="ViT, 6 layers, trained for an ablation", vit=VIT,
        timm="vit_tiny_patch16_224", token_px=16, embed_dim=192, window_px=WINDOW_PX, mpp=MPP,
        licence="BSD-3-Clause (weights); trained on CC BY data",
        weights=LocalFile(path=args.out.resolve()),
    )  # fmt: skip
    args.out.with_suffix(".json").write_text(spec.model_dump_json(indent=1))


if __name__ == "__main__":
    main()
