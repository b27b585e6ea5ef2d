"""The cache of weights, and the SHA-256 of every file in it, recorded when it was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from napari_pathsam.core.errors import BadWeightsError, UnavailableError
from napari_pathsam.io.places import cache_folder
from napari_pathsam.models.hub import Progress, Wanted, downloaded, sha256_of
from napari_pathsam.models.model_file import replacing
from napari_pathsam.models.sources import Remote


def cache_dir() -> Path:
    """Where fetched and imported models are kept; NAPARI_PATHSAM_CACHE overrides it."""
    return cache_folder() / "models"


def recorded() -> dict[str, str]:
    """SHA-256 by the file's place in the cache, or by URL where nobody published one."""
    try:
        found = json.loads((cache_dir() / "sha256.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def record(what: Path | str, digest: str) -> None:
    """Keep the SHA-256 of a file of the cache, or of what a URL sent."""
    known = {**recorded(), _key(what): digest}
    with replacing(cache_dir() / "sha256.json") as new:
        new.write_text(json.dumps(known, indent=1, sort_keys=True), "utf-8")


def check_recorded(path: Path) -> None:
    """The file is there, and is still what was written."""
    if not path.is_file():
        raise UnavailableError(
            f"{path.stem} was not fetched yet; `pathsam models fetch {path.stem}` does it."
        )
    known = recorded().get(_key(path))
    if known is not None and sha256_of(path) != known:
        raise BadWeightsError(
            f"{path} has changed since it was written: its SHA-256 is not the recorded one. It "
            f"was not loaded. `pathsam models fetch {path.stem}` or `pathsam models import` "
            "replaces it."
        )


def fetch_into(
    path: Path,
    name: str,
    source: Remote,
    keep: Callable[[Path, str], None],
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Path:
    """``path`` of the cache: there whole, or made by ``keep(downloaded file, its SHA-256)``.

    Raises
    ------
    Cancelled, UnavailableError, BadWeightsError
        Stopped by the user; no network, space, permission or access; not the file it should be.
    """
    if path.is_file():
        try:
            check_recorded(path)
            return path
        except BadWeightsError:
            path.unlink()  # damaged since it was written: fetch it again
    known = source.sha256 or recorded().get(source.url)
    with downloaded(Wanted(name, source, known, progress, cancelled), cache_dir()) as got:
        keep(*got)
        if source.sha256 is None:
            record(source.url, got[1])
    return path


def _key(what: Path | str) -> str:
    return what if isinstance(what, str) else what.relative_to(cache_dir()).as_posix()
