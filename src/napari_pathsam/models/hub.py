"""Downloads: one file from an address or a Hugging Face repository, checked before it is used.

Hugging Face is asked through ``huggingface_hub``, with whatever login the user has there and at the
mirror ``HF_ENDPOINT`` names; no token passes through this package. A copy in the user's own Hugging
Face cache is used as it lies.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from napari_pathsam.core.errors import BadWeightsError, Cancelled, UnavailableError
from napari_pathsam.models.model_file import cannot_write
from napari_pathsam.models.sources import HubFile, Remote, Url, size_text

SIZE_TOLERANCE = 0.02  # of sizes that follow from the number of weights
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}

Progress = Callable[[int, int], None]
"""Called with the bytes received and the bytes expected."""


@dataclass
class Wanted:
    """A file to be fetched, for whom, and who wants to know how it goes."""

    name: str
    source: Remote
    known_sha256: str | None
    """The published checksum, or the one recorded at the first download."""
    progress: Progress | None = None
    cancelled: Callable[[], bool] | None = None
    done: int = 0

    def update(self, n: int) -> None:
        """So many bytes more; raises to stop a download."""
        if self.cancelled and self.cancelled():
            raise Cancelled(f"Fetching {self.name} was cancelled; nothing was kept.")
        self.done += n
        if self.done > 1.1 * self.source.size + 2**21:
            raise BadWeightsError(
                f"The server sends more than the {size_text(self.source)} that {self.name} has; "
                "the download was stopped and nothing was kept. Try another network."
            )
        if self.progress:
            self.progress(min(self.done, self.source.size), self.source.size)


@contextmanager
def downloaded(wanted: Wanted, folder: Path) -> Iterator[tuple[Path, str]]:
    """The file and its SHA-256, there as long as the block lasts.

    Raises
    ------
    Cancelled, UnavailableError, BadWeightsError
        Stopped by the user; no network, space, permission or access; not the file it should be.
    """
    _check_room(wanted, folder)
    wanted.update(0)  # a cancel that came first needs no connection
    place = folder / "downloads" / wanted.name
    try:
        path = _fetch(wanted, place)
        _check_size(path, wanted)
        digest = sha256_of(path)
        if digest != (wanted.known_sha256 or digest):
            raise _another_file(wanted)
        yield path, digest
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if place.parent.is_dir() and not any(place.parent.iterdir()):
            place.parent.rmdir()


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(wanted: Wanted, place: Path) -> Path:
    try:
        if isinstance(wanted.source, Url):
            return _from_address(wanted, wanted.source, place)
        return _from_hub(wanted, wanted.source, place)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise cannot_write(place, error) from error
        raise UnavailableError(
            f"{wanted.name} could not be fetched from {wanted.source.url}: {_first_line(error)}. "
            "Check the network, or get the file elsewhere and give it to `pathsam models import "
            "FILE`."
        ) from error


def _from_address(wanted: Wanted, source: Url, place: Path) -> Path:
    import pooch

    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(
            pooch.retrieve(
                source.url,
                known_hash=f"sha256:{wanted.known_sha256}" if wanted.known_sha256 else None,
                fname=source.url.rsplit("/", 1)[-1],
                path=place,
                downloader=pooch.HTTPDownloader(
                    progressbar=_Bar(wanted), chunk_size=2**20, timeout=30
                ),
            )
        )
    except BadWeightsError:
        raise
    except ValueError as error:
        raise _another_file(wanted) from error


def _from_hub(wanted: Wanted, source: HubFile, place: Path) -> Path:
    import huggingface_hub
    from huggingface_hub import errors, try_to_load_from_cache

    mine = try_to_load_from_cache(source.repo, source.file, revision=source.revision)
    if isinstance(mine, str):
        return Path(mine)

    hf_hub_download: Any = huggingface_hub.hf_hub_download
    options: dict[str, Any] = {"endpoint": os.environ.get("HF_ENDPOINT")}
    if "tqdm_class" in signature(hf_hub_download).parameters:  # older ones cannot be watched
        options["tqdm_class"] = _bar_of(wanted)
    unreachable: Any = vars(errors)["HTTPError"]  # of the library it asks the network with
    try:
        with _its_warnings_off():  # what comes of its tries is said once, at the end
            found: str = hf_hub_download(
                source.repo, source.file, revision=source.revision, local_dir=place, **options
            )
        return Path(found)
    except errors.RepositoryNotFoundError as error:  # gated ones among them
        raise _no_access(wanted, source) from error
    except errors.HfHubHTTPError as error:
        if error.response is not None and error.response.status_code in (401, 403):
            raise _no_access(wanted, source) from error
        raise
    except unreachable as error:
        raise OSError(str(error)) from error


@contextmanager
def _its_warnings_off() -> Iterator[None]:
    from huggingface_hub.utils import logging

    its: Any = logging  # untyped
    before = its.get_verbosity()
    its.set_verbosity_error()
    try:
        yield
    finally:
        its.set_verbosity(before)


def _bar_of(wanted: Wanted) -> Any:
    """A progress bar as Hugging Face wants it that draws nothing, but passes the bytes on."""
    from huggingface_hub.utils.tqdm import tqdm

    bar: Any = tqdm

    class Bar(bar):
        def __init__(self, *args: Any, **keywords: Any) -> None:
            super().__init__(*args, **{**keywords, "disable": True})

        def update(self, n: float | None = 1) -> None:
            wanted.update(int(n or 0))

    return Bar


class _Bar:
    """Pooch's progress object."""

    total = 0

    def __init__(self, wanted: Wanted) -> None:
        self.wanted, self.update = wanted, wanted.update

    def reset(self) -> None:
        self.wanted.done = 0

    def close(self) -> None:
        pass


def _no_access(wanted: Wanted, source: HubFile) -> UnavailableError:
    page = f"https://huggingface.co/{source.repo}"
    return UnavailableError(
        f"Hugging Face does not give {wanted.name} to you yet: ask for access on {page} (its terms "
        "are there), log in here once with `hf auth login`, and fetch again; a copy you have "
        f"already goes in with `pathsam models import FILE --as {wanted.name}`."
    )


def _another_file(wanted: Wanted) -> BadWeightsError:
    return BadWeightsError(
        f"What {wanted.source.url} sent is not the published file of {wanted.name}: its SHA-256 is "
        "another one. It was thrown away. Try again, or from another network."
    )


def _check_room(wanted: Wanted, folder: Path) -> None:
    """The checkpoint and the model file made from it both lie in the cache for a moment."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    free, needed = shutil.disk_usage(folder).free, 2 * wanted.source.size
    if free < needed:
        raise UnavailableError(
            f"Fetching {wanted.name} needs {needed / 1e6:.0f} MB in {folder}, where "
            f"{free / 1e6:.0f} MB are free. Free some space, or name another folder in the "
            "variable NAPARI_PATHSAM_CACHE."
        )


def _check_size(path: Path, wanted: Wanted) -> None:
    size, source = path.stat().st_size, wanted.source
    allowed = 0 if source.exact_size else SIZE_TOLERANCE * source.size
    if abs(size - source.size) > allowed:
        raise BadWeightsError(
            f"What was fetched for {wanted.name} has {size:,} bytes instead of "
            f"{'' if source.exact_size else 'about '}{source.size:,}. It was thrown away. Try "
            "again."
        )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
