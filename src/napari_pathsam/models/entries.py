"""One line of the catalogue: a model by name, with its weights, terms and resolution."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from napari_pathsam.models.advice import Advice
from napari_pathsam.models.encoder_spec import EncoderSpec
from napari_pathsam.models.sources import HubFile, Packaged, Source, Url, check_text, size_text

Kind = Literal["promptable", "head", "encoder", "start"]


class Trainable(BaseModel):
    """A promptable model without weights to fetch, and the command that trains it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    summary: str
    source: str
    command: str


class ModelEntry(BaseModel):
    """One line of the catalogue. ``mpp_range`` is in µm per pixel, None where nobody measured.

    ``gated`` weights are given only to those who asked their authors; ``advised`` says how a head's
    answer is best tidied.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    summary: str
    licence: str
    licence_url: str
    gated: bool = False
    weights: Source
    mpp_range: tuple[float, float] | None = None
    field_px: int = 1024
    kind: Kind = "promptable"
    advised: Advice | None = None

    @property
    def size(self) -> int:
        """Bytes to download, or in the package (0 when it is not there)."""
        if isinstance(self.weights, Url | HubFile):
            return self.weights.size
        path = self.weights.path
        return path.stat().st_size if path.is_file() else 0

    @property
    def size_text(self) -> str:
        """``156 MB``, with ≈ where only the number of weights is known."""
        if isinstance(self.weights, Url | HubFile):
            return size_text(self.weights)
        return f"{self.size / 1e6:.0f} MB" if self.size else ""

    @property
    def revision(self) -> str:
        """Which version of the file it is, in words."""
        if not isinstance(self.weights, Url | HubFile):
            return ""
        known = check_text(self.weights)
        if isinstance(self.weights, HubFile):
            return f"{known}; revision {self.weights.revision}"
        return known

    @property
    def sha256(self) -> str | None:
        """The published checksum of the weights."""
        return None if isinstance(self.weights, Packaged) else self.weights.sha256


def encoder_entry(spec: EncoderSpec) -> ModelEntry:
    """An encoder's line of the catalogue."""
    window = "the whole field" if spec.window_px is None else f"windows of {spec.window_px} px"
    return ModelEntry(
        name=spec.name,
        title=spec.title or spec.name,
        summary=f"{spec.embed_dim} features a token of {spec.token_px} px, {window}.",
        licence=spec.licence,
        licence_url=spec.licence_url,
        gated=spec.gated,
        weights=spec.weights,
        mpp_range=None if spec.mpp is None else (spec.mpp, spec.mpp),
        kind="encoder",
    )
