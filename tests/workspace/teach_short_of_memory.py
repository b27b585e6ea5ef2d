"""Teaching, as the dock does it, in a process whose memory runs out in the middle of training.

    python teach_short_of_memory.py FOLDER ROOM

FOLDER holds ``image.png`` and ``image_labels.png``. The first training shows how much its steps
need; the second may have ROOM of that, a share. Writes what was said and made as JSON to standard
output.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path


def address_space(what: str) -> int:
    """Bytes of it that are taken now (``VmSize``), or were at most (``VmPeak``)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what))


def main(folder: Path, room: float) -> None:
    import torch

    torch.set_num_threads(1)
    from napari_pathsam.core.classes import ClassTable
    from napari_pathsam.core.geometry import Region
    from napari_pathsam.inference.embedding_cache import EmbeddingCache
    from napari_pathsam.io.images import read_rgb
    from napari_pathsam.models.catalogue import load_model
    from napari_pathsam.workspace import ArraySource, InlineRunner
    from napari_pathsam.workspace.teaching import Teaching
    from napari_pathsam.workspace.teaching_choices import Advanced
    from napari_pathsam.workspace.teaching_pairs import pairs_in_folder
    from napari_pathsam.workspace.teaching_run import TeachRun
    from napari_pathsam.workspace.teaching_store import LessonStore
    from napari_pathsam.workspace.teaching_work import FieldOfView

    nano, cache = load_model("pathsam-nano", device="cpu"), EmbeddingCache()
    pixels, _ = read_rgb(folder / "image.png")
    view = FieldOfView(ArraySource(pixels), Region.of(pixels.shape[:2]), 1.0)
    teaching = Teaching(InlineRunner(), LessonStore(folder / "lessons"))
    run = TeachRun(teaching, InlineRunner(), lambda: cache, lambda *_: nano, lambda: view)
    failed: list[str] = []
    said: list[str] = []
    before: list[int] = []
    for signal in (teaching.failed, run.failed):
        signal.connect(failed.append)
    run.status.connect(said.append)

    def on_told(reports: tuple) -> None:
        """What is started from was scored: now the steps begin."""
        if any(r.phase == "epoch" and not r.epoch for r in reports):
            before.append(address_space("VmSize"))
            if len(before) == 2:
                most = before[1] + int(room * (peak - before[1]))
                resource.setrlimit(resource.RLIMIT_AS, (most, most))

    run.told.connect(on_told)
    teaching.choose(
        classes=ClassTable.of("dark", "pale"), background_id=2, device="cpu",
        advanced=Advanced(epochs=1),
    )  # fmt: skip
    teaching.add_files(pairs_in_folder(folder, 1.0))
    run.train()
    peak = address_space("VmPeak")
    run.train()
    versions = [v.model_dump(mode="json") for v in teaching.lesson.versions]
    json.dump({"failed": failed, "said": said, "versions": versions}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
