"""Encoders on disk: fetched or imported once, kept as safetensors, checked each time they load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from napari_pathsam.core.errors import BadWeightsError, UnavailableError, what_is_wrong
from napari_pathsam.models.encoder_layout import arranged, check, check_finite, fitted, refused
from napari_pathsam.models.encoder_list import ENCODERS
from napari_pathsam.models.encoder_spec import GUIDE, EncoderSpec
from napari_pathsam.models.encoders import PathologyEncoder, build_network
from napari_pathsam.models.hub import Progress, sha256_of
from napari_pathsam.models.ledger import cache_dir, check_recorded, fetch_into, record
from napari_pathsam.models.model_file import CARD_KEY, replacing
from napari_pathsam.models.sources import HubFile, LocalFile, Packaged, Url, check_text, size_text


class EncoderCard(BaseModel):
    """What a file of the cache says about itself; ``sha256`` is the published file's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    encoder: EncoderSpec
    source: str
    sha256: str


def encoder_path(spec: EncoderSpec) -> Path:
    """Where an encoder's weights lie, or would lie; what was imported comes first."""
    if isinstance(spec.weights, Packaged):
        return spec.weights.path
    kept = _cached(spec.name)
    return spec.weights.path if isinstance(spec.weights, LocalFile) and not kept.is_file() else kept


def imported_encoders() -> dict[str, EncoderSpec]:
    """All encoders in the cache by name, as their own files describe them."""
    found = {}
    for path in sorted(_folder().glob("*.safetensors")):
        try:
            found[path.stem] = _card(path).encoder
        except (BadWeightsError, UnavailableError):  # `pathsam models verify` says what is wrong
            continue
    return found


def fetch_encoder(
    spec: EncoderSpec,
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Path:
    """Download an encoder's weights once, check them whole and keep them; their path.

    Raises
    ------
    Cancelled, UnavailableError, BadWeightsError
        Stopped by the user; no network, space, permission or access; not the file it should be.
    """
    source = spec.weights
    if not isinstance(source, Url | HubFile):
        return encoder_path(spec)

    def keep(file: Path, digest: str) -> None:
        _keep(file, spec, source.url, digest)

    return fetch_into(
        _cached(spec.name), spec.name, source, keep, progress=progress, cancelled=cancelled
    )


def read_spec(path: str | Path) -> EncoderSpec:
    """The encoder a JSON file describes.

    Any network timm builds, with weights of one's own: :class:`EncoderSpec` has the fields, and
    ``docs/training.md`` an example. A name of the catalogue is refused.
    """
    path = Path(path).expanduser()
    try:
        spec = EncoderSpec.model_validate_json(path.read_text("utf-8"))
    except OSError as error:
        raise UnavailableError(f"{path} could not be read ({error}). Check the path.") from error
    except ValidationError as error:
        raise BadWeightsError(
            f"{path} describes no encoder: {what_is_wrong(error)}. Nothing was imported. It wants "
            'name, timm, token_px, embed_dim, licence and weights ({"kind": "local", "path": '
            f'"FILE"}}); an example: {GUIDE}'
        ) from error
    if spec.name in ENCODERS:
        raise BadWeightsError(
            f"{path} describes an encoder of one's own under the name {spec.name}, which is one of "
            f"the catalogue's. Give it another name, or use `--as {spec.name}`."
        )
    return spec


def import_encoder(path: str | Path, spec: EncoderSpec) -> str:
    """Take a copy of a published checkpoint the user has; returns the encoder's name.

    A file whose published SHA-256 is another one is refused, so that a catalogue name never stands
    for foreign weights.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UnavailableError(f"There is no file {path}. Check the path.")
    digest = sha256_of(path)
    known = getattr(spec.weights, "sha256", None)
    if known is not None and digest != known:
        raise refused(path, f"its SHA-256 is not the published one of {spec.name}")
    _keep(path, spec, path.name, digest)
    return spec.name


def open_encoder(spec: EncoderSpec) -> PathologyEncoder:
    """The encoder with its weights, on the CPU, in float32; strictly what the specification says.

    Raises
    ------
    BadWeightsError
        A tensor is missing, does not belong, has another shape, or is not the recorded one.
    UnavailableError
        The weights are not here.
    """
    path = encoder_path(spec)
    if isinstance(spec.weights, LocalFile) and path != _cached(spec.name):
        digest = sha256_of(path) if path.is_file() else None
        if digest != (spec.weights.sha256 or digest):
            raise refused(path, "its SHA-256 is not the one the specification names")
        return _assembled(path, spec, arranged(path, spec), digest)
    if not path.is_file():
        raise _not_here(spec)
    if not isinstance(spec.weights, Packaged):
        check_recorded(path)
    card = _card(path)
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return _assembled(path, spec, state, card.sha256)


def save_encoder(path: Path, encoder: PathologyEncoder, *, source: str, sha256: str) -> None:
    """Write an encoder's weights as a file of the kind the cache and the package hold."""
    state = encoder.net.state_dict()
    _write(path, state, EncoderCard(encoder=encoder.spec, source=source, sha256=sha256))


def _keep(file: Path, spec: EncoderSpec, source: str, digest: str) -> None:
    state = arranged(file, spec)
    shapes = {name: tuple(t.shape) for name, t in state.items()}
    fits = fitted(spec, shapes)
    check(file, _shapes(_skeleton(fits)), shapes)
    check_finite(file, state)
    path = _cached(spec.name)
    _write(path, state, EncoderCard(encoder=fits, source=source, sha256=digest))
    record(path, sha256_of(path))


def _write(path: Path, state: dict[str, Tensor], card: EncoderCard) -> None:
    whole = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    with replacing(path) as new:
        save_file(whole, new, {CARD_KEY: card.model_dump_json()})


def _assembled(
    path: Path, spec: EncoderSpec, state: dict[str, Tensor], digest: str | None
) -> PathologyEncoder:
    shapes = {name: tuple(t.shape) for name, t in state.items()}
    fits = fitted(spec, shapes)
    net = _skeleton(fits)
    check(path, _shapes(net), shapes)
    check_finite(path, state)
    if any(buffer.is_meta for name, buffer in net.named_buffers() if name not in state):
        net = build_network(fits)  # it computes some of its buffers itself
    weights = {n: t.float() if t.is_floating_point() else t for n, t in state.items()}
    net.load_state_dict(weights, assign=True)
    encoder = PathologyEncoder(fits, net)
    encoder.weights_sha256 = digest
    return encoder


def _skeleton(spec: EncoderSpec) -> Any:
    """The network without memory for its weights."""
    with torch.device("meta"):
        return build_network(spec)


def _shapes(net: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in net.state_dict().items()}


def _folder() -> Path:
    return cache_dir() / "encoders"


def _cached(name: str) -> Path:
    return _folder() / f"{name}.safetensors"


def _card(path: Path) -> EncoderCard:
    try:
        with safe_open(path, framework="pt") as file:
            written = (file.metadata() or {}).get(CARD_KEY, "")
        return EncoderCard.model_validate_json(written)
    except (SafetensorError, OSError, ValueError, ValidationError) as error:
        raise refused(
            path, f"it is damaged, or no encoder's file ({type(error).__name__})"
        ) from error


def _not_here(spec: EncoderSpec) -> UnavailableError:
    if isinstance(spec.weights, Packaged):
        return UnavailableError(
            f"The encoder {spec.name} is not in this installation ({spec.weights.path}). Install "
            "the package again."
        )
    if isinstance(spec.weights, LocalFile):
        return UnavailableError(f"There is no file {spec.weights.path}. Check the path.")
    gate = " Its authors ask everybody to register first." if spec.gated else ""
    return UnavailableError(
        f"The weights of the encoder {spec.name} were not fetched yet. `pathsam models fetch "
        f"{spec.name}` downloads them ({size_text(spec.weights)}, licence {spec.licence}: "
        f"{spec.licence_url}; {check_text(spec.weights)}); `pathsam models import FILE --as "
        f"{spec.name}` takes a copy you have.{gate}"
    )
