"""From the end of a stroke to an overlay of a 1024-pixel field: the dock's own path, no display.

Paints the packaged gland sample (four by four of it) as a person would, encodes it as the dock has
by then, and times what pressing Train starts: until the first overlay, and until the version is
kept. Run it on a quiet machine: ``python benchmarks/stroke_to_overlay.py --device cuda --base
sam2.1-tiny``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.strokes import scribbles
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.models.catalogue import load_model
from napari_pathsam.samples import load_sample
from napari_pathsam.workspace import ArraySource, InlineRunner
from napari_pathsam.workspace.segment_work import SourceTiles
from napari_pathsam.workspace.teaching import Teaching
from napari_pathsam.workspace.teaching_run import TeachRun
from napari_pathsam.workspace.teaching_store import LessonStore, Strokes
from napari_pathsam.workspace.teaching_work import FieldOfView

SIDE = 1024
MPP = 0.5


@dataclass(frozen=True)
class ArrayPair:
    """An image and labels in memory."""

    source: ArraySource
    labels: np.ndarray
    mpp: float = MPP
    path: Path | None = None
    labels_name: str = "strokes"

    @property
    def key(self) -> str:
        return self.source.key

    @property
    def name(self) -> str:
        return self.source.name

    def tiles(self) -> SourceTiles:
        return SourceTiles(self.source)

    def painted(self, classes: ClassTable) -> Strokes:
        return Strokes(self.labels)

    def held_out(self, classes: ClassTable) -> None:
        return None


def field() -> tuple[np.ndarray, np.ndarray]:
    """The gland sample beside itself up to 1024 pixels; strokes on 2 % of it, background as 2."""
    sample = load_sample("colon_low_grade")
    assert sample.labels is not None
    times = -(-SIDE // sample.labels.shape[0])
    image = np.tile(sample.image, (times, times, 1))[:SIDE, :SIDE]
    truth = np.tile(sample.labels, (times, times))[:SIDE, :SIDE]
    return np.ascontiguousarray(image), scribbles(np.where(truth == 1, 1, 2), share=0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--base", default="pathsam-nano")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    image, labels = field()
    pair = ArrayPair(ArraySource(image, name="glands"), labels)
    model, cache = load_model(args.base, device=args.device), EmbeddingCache()

    def load(name: str, device: str) -> object:
        return model if name == args.base else load_model(name, device=device)

    for n in range(args.repeats + 1):
        with tempfile.TemporaryDirectory() as folder:
            teaching = Teaching(InlineRunner(), LessonStore(Path(folder)))
            view = FieldOfView(pair.source, Region.of((SIDE, SIDE)), MPP)
            run = TeachRun(teaching, InlineRunner(), lambda: cache, load, lambda view=view: view)
            seen: list[float] = []
            run.previewed.connect(lambda _, seen=seen: seen.append(time.perf_counter()))
            run.failed.connect(print)
            teaching.choose(
                classes=ClassTable.of("gland", "Background"), background_id=2, base=args.base,
                device=args.device, preset=args.preset,
            )  # fmt: skip
            teaching.set_layers([pair])
            began, cpu = time.perf_counter(), time.process_time()
            run.train()
            figures = {
                "run": n,  # 0 encodes
                "first_overlay_s": round(seen[0] - began, 2),
                "last_overlay_s": round(seen[-1] - began, 2),
                "cpu_s": round(time.process_time() - cpu, 2),
            }
            print(json.dumps(vars(args) | figures), flush=True)
            teaching.close()


if __name__ == "__main__":
    main()
