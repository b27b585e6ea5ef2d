"""Where weights come from: the package, a web address, Hugging Face, a file of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# Names that cannot leave the folder or the repository they are looked up in.
FileName = Annotated[str, Field(pattern=r"^\w[\w.+-]*$", max_length=200)]
FilePath = Annotated[str, Field(pattern=r"^\w[\w.+-]*(/\w[\w.+-]*)*$", max_length=200)]
Bytes = Annotated[int, Field(ge=1)]


class Packaged(BaseModel):
    """Weights that ship inside the package."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["packaged"] = "packaged"
    file: FileName

    @property
    def path(self) -> Path:
        return Path(__file__).parents[1] / "weights" / self.file


class Url(BaseModel):
    """Weights to be fetched once, when asked.

    ``sha256`` is None where no public source gives one. ``size`` is in bytes; where only the
    number of weights is known it is approximate, and ``exact_size`` False.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["url"] = "url"
    url: Annotated[str, Field(pattern=r"^https?://", max_length=500)]
    sha256: Sha256 | None
    size: Bytes
    exact_size: bool = True


class HubFile(BaseModel):
    """One file of a Hugging Face repository, fetched once, when asked, with the user's own login.

    ``revision`` is a commit, a tag or a branch; with a branch only ``sha256``, or the hash recorded
    at the first download, keeps the file what it was.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["hub"] = "hub"
    repo: Annotated[str, Field(pattern=r"^\w[\w.-]*/\w[\w.-]*$", max_length=150)]
    file: FilePath
    revision: Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=100)] = "main"
    sha256: Sha256 | None = None
    size: Bytes
    exact_size: bool = True

    @property
    def url(self) -> str:
        """The page's own address of the file, whatever mirror it is fetched from."""
        return f"https://huggingface.co/{self.repo}/resolve/{self.revision}/{self.file}"


class LocalFile(BaseModel):
    """A checkpoint of the user's own, read where it lies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["local"] = "local"
    path: Path
    sha256: Sha256 | None = None


Remote = Url | HubFile
Source = Annotated[Packaged | Url | HubFile | LocalFile, Field(discriminator="kind")]


def check_text(source: Remote) -> str:
    """What a download is held to, in words."""
    if source.sha256:
        return f"sha256 {source.sha256}"
    return (
        "no checksum of it is known here: the first download is checked by its size and its "
        "tensors alone, later ones by the first one's sha256"
    )


def size_text(source: Remote) -> str:
    """``156 MB`` or ``4.5 GB``, with ≈ where only the number of weights is known."""
    about = "" if source.exact_size else "≈ "
    if source.size >= 1e9:
        return f"{about}{source.size / 1e9:.1f} GB"
    return f"{about}{source.size / 1e6:.0f} MB"
