"""MODELS: every model by name, with its weights, licence and resolution; and how to load one."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.sam2_config import SAM2_CONFIGS
from napari_pathsam.models.sources import Packaged, Url

DEFAULT_MODEL = "pathsam-nano"


class ModelEntry(BaseModel):
    """One line of the catalogue. ``mpp_range`` is in µm per pixel, None where nobody measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    summary: str
    licence: str
    licence_url: str
    gated: bool = False
    weights: Packaged | Url
    mpp_range: tuple[float, float] | None = None
    field_px: int = 1024

    @property
    def size(self) -> int:
        """Bytes to download, or in the package (0 when it is not there)."""
        if isinstance(self.weights, Url):
            return self.weights.size
        return self.weights.path.stat().st_size if self.weights.path.is_file() else 0

    @property
    def size_text(self) -> str:
        """``156 MB``, with ≈ where only the number of weights is known."""
        about = isinstance(self.weights, Url) and not self.weights.exact_size
        return f"{'≈ ' if about else ''}{self.size / 1e6:.0f} MB"


def _sam2(
    name: str, file: str, sha256: str, size: int, summary: str, *, exact_size: bool = False
) -> ModelEntry:
    return ModelEntry(
        name=name,
        title=f"SAM 2.1 {name.removeprefix('sam2.1-')}",
        summary=summary,
        licence="Apache-2.0",
        licence_url="https://github.com/facebookresearch/sam2/blob/main/LICENSE",
        weights=Url(
            url=f"https://dl.fbaipublicfiles.com/segment_anything_2/092824/{file}",
            sha256=sha256,
            size=size,
            exact_size=exact_size,
        ),
        mpp_range=SAM2_CONFIGS[name].mpp_range,
        field_px=SAM2_CONFIGS[name].field_px,
    )


# Sizes and checksums as published; a size without exact_size follows from the number of weights.
MODELS: dict[str, ModelEntry] = {
    entry.name: entry
    for entry in (
        ModelEntry(
            name=DEFAULT_MODEL,
            title="PathSAM nano",
            summary="Small SAM 2 trained on glands and nuclei in H&E; comes with the package.",
            licence="BSD-3-Clause",
            licence_url="https://opensource.org/license/bsd-3-clause",
            weights=Packaged(file="pathsam-nano.safetensors"),
            mpp_range=SAM2_CONFIGS[DEFAULT_MODEL].mpp_range,
            field_px=SAM2_CONFIGS[DEFAULT_MODEL].field_px,
        ),
        _sam2(
            "sam2.1-tiny",
            "sam2.1_hiera_tiny.pt",
            "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
            156_008_466,
            "Meta's smallest; 39 M weights, a few seconds a field on a laptop.",
            exact_size=True,
        ),
        _sam2(
            "sam2.1-small",
            "sam2.1_hiera_small.pt",
            "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
            184_000_000,
            "Meta's second; 46 M weights.",
        ),
        _sam2(
            "sam2.1-base-plus",
            "sam2.1_hiera_base_plus.pt",
            "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
            323_000_000,
            "Meta's third; 81 M weights, better with a GPU.",
        ),
        _sam2(
            "sam2.1-large",
            "sam2.1_hiera_large.pt",
            "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
            898_000_000,
            "Meta's best; 224 M weights, wants a GPU.",
        ),
    )
}


def find_entry(name: str) -> ModelEntry:
    """The catalogue's entry of this name; UnavailableError lists the names there are."""
    if name not in MODELS:
        raise UnavailableError(
            f"No model is called {name!r}. There are: {', '.join(MODELS)}. The path of a "
            ".safetensors model file will do as well; `pathsam models list` shows all."
        )
    return MODELS[name]


def load_model(name_or_path: str | Path = DEFAULT_MODEL, device: str = "auto") -> Sam2:
    """A model ready to use: in eval mode, on ``device`` (``auto``, ``cuda``, ``mps`` or ``cpu``).

    Parameters
    ----------
    name_or_path
        A name of the catalogue, the name of an imported model, or the path of a model file.
        Nothing is downloaded: weights that were not fetched yet raise UnavailableError, which
        says the command that fetches them.
    device
        ``auto`` takes a CUDA GPU where there is one, then Apple's, then the CPU.
    """
    from napari_pathsam.models import checkpoints

    where = pick_device(device)
    path = Path(name_or_path)
    if path.suffix == ".safetensors" or (str(path) not in MODELS and path.is_file()):
        return checkpoints.load_model_file(path)[0].to(where)
    name = str(name_or_path)
    imported = checkpoints.cached_path(name)
    if name not in MODELS and imported.is_file():
        return checkpoints.load_cached(imported).to(where)
    entry = find_entry(name)
    if isinstance(entry.weights, Packaged):
        if not entry.weights.path.is_file():
            raise UnavailableError(
                f"The weights of {name} are not in this installation ({entry.weights.path}). "
                "Install the package again."
            )
        return checkpoints.load_model_file(entry.weights.path)[0].to(where)
    if not imported.is_file():
        raise UnavailableError(
            f"The weights of {name} were not fetched yet. `pathsam models fetch {name}` downloads "
            f"them ({entry.size_text}, licence {entry.licence}: {entry.licence_url}); "
            f"`pathsam models import FILE` takes a copy you have."
        )
    return checkpoints.load_cached(imported).to(where)


def pick_device(device: str = "auto") -> torch.device:
    """The torch device of this name; UnavailableError when this machine has none."""
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if device == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if there[name]))
    kind = device.split(":")[0]
    if not there.get(kind, False):
        usable = ", ".join(name for name, yes in there.items() if yes)
        raise UnavailableError(
            f"The device {device!r} is not available here; choose auto or one of: {usable}."
        )
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise UnavailableError(f"{device!r} is no device: {error}") from error
