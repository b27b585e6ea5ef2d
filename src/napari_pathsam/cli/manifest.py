"""What became of many images: a table beside the results, whole after every image."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from napari_pathsam.io._files import replacing

NAME = "manifest.csv"


class Manifest:
    """A row for each image: waiting, done or failed, what was written, and why not.

    ``folder``: where the table lies, beside the results; None: it is not kept.
    """

    def __init__(self, images: Sequence[Path], folder: Path | None) -> None:
        self._folder = folder
        self._rows = dict.fromkeys(images, ("waiting", "", ""))

    def put(self, image: Path, state: str, paths: Sequence[Path], why: str = "") -> None:
        """What became of an image."""
        written = " ".join(str(path) for path in paths) if state == "done" else ""
        self._rows[image] = (state, written, why)
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        out = io.StringIO()
        table = csv.writer(out, lineterminator="\n")
        table.writerow(("image", "state", "written", "why"))
        table.writerows((str(image), *row) for image, row in self._rows.items())
        with replacing(self._folder / NAME) as temporary:
            temporary.write_text(out.getvalue(), encoding="utf-8")
