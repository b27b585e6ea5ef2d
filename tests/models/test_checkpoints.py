"""Fetching from a local server and importing Meta's layout: good, broken, cancelled, hostile."""

from __future__ import annotations

import contextlib
import errno
import http.server
import pickle
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_pathsam.core.errors import BadWeightsError, Cancelled, UnavailableError
from napari_pathsam.models import checkpoints, hub
from napari_pathsam.models.catalogue import MODELS, ModelEntry, Url, load_model
from napari_pathsam.models.ledger import record, recorded
from napari_pathsam.models.model_file import read_card, save_model
from napari_pathsam.models.sam2 import Sam2


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("NAPARI_PATHSAM_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "models"
    shutil.rmtree(tmp_path)  # pytest would keep gigabytes


@pytest.fixture(scope="module")
def server(tiny_checkpoint: Path) -> Iterator[str]:
    """Serves the checkpoint as /good/…, and the ways in which it can go wrong."""
    content = tiny_checkpoint.read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind = self.path.split("/")[1]
            if kind == "missing":
                self.send_error(404)
                return
            body = {
                "tampered": content[:-5000] + b"!" + content[-4999:],
                "short": content[:1_000_000],
                "endless": content + content[:40_000_000],
            }.get(kind, content)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            # "interrupted" promises everything and closes half-way
            sent = body[: len(body) // 2] if kind == "interrupted" else body
            with contextlib.suppress(ConnectionError):
                self.wfile.write(sent)

        def log_message(self, *args: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture(scope="module")
def digest(tiny_checkpoint: Path) -> str:
    return hub.sha256_of(tiny_checkpoint)


@pytest.fixture
def entry_at(server: str, digest: str, tiny_checkpoint: Path):
    """The catalogue's tiny, but fetched from here."""
    size = tiny_checkpoint.stat().st_size

    def entry(kind: str, sha256: str | None = digest, *, size: int = size) -> ModelEntry:
        url = f"{server}/{kind}/{tiny_checkpoint.name}"
        weights = Url(url=url, sha256=sha256, size=size)
        return MODELS["sam2.1-tiny"].model_copy(update={"weights": weights})

    return entry


def left_in(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.rglob("*")) if cache.exists() else []


@pytest.mark.slow
def test_fetch_verifies_converts_and_keeps_only_the_model_file(
    entry_at, upstream_tiny, cache, digest, monkeypatch
):
    seen = []
    path = checkpoints.fetch(
        entry_at("good"), progress=lambda done, total: seen.append((done, total))
    )
    assert left_in(cache) == ["sam2.1-tiny.safetensors", "sha256.json"]
    assert seen[-1][0] == seen[-1][1] == entry_at("good").size
    assert len(seen) > 50
    card = read_card(path)
    assert (card.licence, card.base[0].sha256) == ("Apache-2.0", digest)

    model = load_model("sam2.1-tiny", device="cpu")
    theirs = upstream_tiny.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, theirs[name])

    monkeypatch.setattr(hub, "_fetch", None)  # the second time asks no network
    assert checkpoints.fetch(entry_at("missing")) == path
    assert checkpoints.verify("sam2.1-tiny") == path

    with path.open("r+b") as file:  # a weight changed on disk since
        file.seek(-1000, 2)
        file.write(b"\x01\x02\x03\x04")
    with pytest.raises(BadWeightsError, match="has changed since it was written"):
        load_model("sam2.1-tiny")
    with pytest.raises(BadWeightsError):
        checkpoints.verify("sam2.1-tiny")


@pytest.mark.parametrize(
    ("kind", "error", "says"),
    [
        ("tampered", BadWeightsError, "not the published file"),
        ("short", BadWeightsError, "not the published file"),
        ("interrupted", UnavailableError, "could not be fetched"),
        ("missing", UnavailableError, "404"),
        ("endless", BadWeightsError, "sends more than"),
    ],
)
def test_a_bad_download_is_thrown_away(entry_at, cache, kind, error, says):
    with pytest.raises(error, match=says):
        checkpoints.fetch(entry_at(kind))
    assert left_in(cache) == []


def test_no_server_gives_a_readable_error(entry_at, cache):
    entry = entry_at("good")
    dead = entry.weights.model_copy(update={"url": "http://127.0.0.1:9/x.pt"})
    with pytest.raises(UnavailableError, match="Check the network"):
        checkpoints.fetch(entry.model_copy(update={"weights": dead}))
    assert left_in(cache) == []


def test_cancelling_leaves_nothing(entry_at, cache):
    received = []
    with pytest.raises(Cancelled):
        checkpoints.fetch(
            entry_at("good"),
            progress=lambda done, total: received.append(done),
            cancelled=lambda: len(received) > 3,
        )
    assert 3 <= len(received) <= 5
    assert left_in(cache) == []


@pytest.mark.slow
def test_without_a_published_hash_the_first_one_is_held_to(entry_at, cache, tiny_checkpoint):
    with pytest.raises(BadWeightsError, match="bytes instead of"):
        checkpoints.fetch(entry_at("short", None))
    assert left_in(cache) == []
    path = checkpoints.fetch(entry_at("good", None))
    path.unlink()
    content = recorded()
    record(entry_at("tampered").weights.url, content[entry_at("good").weights.url])
    with pytest.raises(BadWeightsError, match="not the published file"):
        checkpoints.fetch(entry_at("tampered", None))


def test_a_full_disk_and_a_folder_that_cannot_be_written_are_said(
    entry_at, cache, monkeypatch, tmp_path
):
    with pytest.raises(UnavailableError, match="MB are free"):
        checkpoints.fetch(entry_at("good", size=10**15))
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("NAPARI_PATHSAM_CACHE", str(blocked))
    with pytest.raises(UnavailableError, match="NAPARI_PATHSAM_CACHE"):
        checkpoints.fetch(entry_at("good"))


def test_space_that_runs_out_on_the_way_leaves_nothing(entry_at, cache, monkeypatch):
    def update(self: object, n: int) -> None:
        if n:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hub.Wanted, "update", update)
    with pytest.raises(UnavailableError, match="No space left"):
        checkpoints.fetch(entry_at("good"))
    assert left_in(cache) == []


# --- importing -----------------------------------------------------------------------------------


def test_a_file_with_the_published_hash_gets_the_catalogues_name(
    tiny_checkpoint, digest, monkeypatch, cache, entry_at
):
    monkeypatch.setitem(MODELS, "sam2.1-tiny", entry_at("missing"))
    assert checkpoints.import_checkpoint(tiny_checkpoint) == "sam2.1-tiny"
    assert load_model("sam2.1-tiny").name == "sam2.1-tiny"


@pytest.mark.slow
def test_any_other_file_keeps_its_own_name(tiny_checkpoint, cache, tmp_path):
    name = checkpoints.import_checkpoint(tiny_checkpoint)
    assert name == "sam2.1_hiera_tiny"
    assert checkpoints.imported_models() == (name,)
    assert load_model(name).name == name
    claims = tmp_path / "sam2.1-tiny.pt"
    claims.symlink_to(tiny_checkpoint)
    assert checkpoints.import_checkpoint(claims) == "sam2.1-tiny-imported"
    with pytest.raises(UnavailableError, match="not fetched"):
        load_model("sam2.1-tiny")


def test_a_model_file_can_be_imported(tiny_model, tmp_path, cache):
    path = tmp_path / "x.safetensors"
    save_model(path, tiny_model, {"licence": "MIT", "provenance": {"by": "me"}})
    name = checkpoints.import_checkpoint(path)
    assert name == "tiny"
    assert read_card(checkpoints.cached_path(name)).provenance == {"by": "me"}


class Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_with_code_is_refused_and_not_executed(tmp_path, cache):
    proof = tmp_path / "executed"
    path = tmp_path / "evil.pt"
    torch.save({"model": {"a": torch.zeros(1)}, "x": Attack(proof)}, path)
    with pytest.raises(BadWeightsError, match="not executed"):
        checkpoints.import_checkpoint(path)
    path.write_bytes(pickle.dumps(Attack(proof)))
    with pytest.raises(BadWeightsError, match="damaged, truncated or of another kind"):
        checkpoints.import_checkpoint(path)
    assert not proof.exists()
    assert left_in(cache) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("no_mem_embed"), "no_mem_embed is missing"),
        (lambda s: s.update(head=torch.zeros(3)), "head does not belong"),
        (lambda s: s.update(no_mem_embed=torch.zeros(1, 1, 8)), r"shape \(1, 1, 8\)"),
        (lambda s: s.update(no_mem_embed=torch.full((1, 1, 256), torch.inf)), "not finite"),
        (lambda s: s.pop("no_obj_embed_spatial"), r"SAM 2\.0"),
        (lambda s: s.pop("image_encoder.trunk.patch_embed.proj.weight"), r"no SAM 2\.1 model"),
        (lambda s: s.update(step=3), "no table of tensors"),
    ],
)
def test_a_checkpoint_that_is_not_quite_one_is_refused(
    upstream_tiny, tmp_path, cache, change, says
):
    state = dict(upstream_tiny.state_dict())
    change(state)
    path = tmp_path / "almost.pt"
    torch.save({"model": state}, path)
    with pytest.raises(BadWeightsError, match=says):
        checkpoints.import_checkpoint(path)
    assert left_in(cache) == []


def test_truncated_text_and_missing_files_are_refused(tiny_checkpoint, tmp_path, cache):
    path = tmp_path / "broken.pt"
    whole = tiny_checkpoint.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a checkpoint"):
        path.write_bytes(content)
        with pytest.raises(BadWeightsError, match="was not imported"):
            checkpoints.import_checkpoint(path)
    torch.save([np.float64(3)], path)
    with pytest.raises(BadWeightsError):
        checkpoints.import_checkpoint(path)
    with pytest.raises(UnavailableError, match="no file"):
        checkpoints.import_checkpoint(tmp_path / "gone.pt")


@pytest.mark.slow
@pytest.mark.parametrize("size", ["small", "base-plus", "large"])
def test_the_larger_sizes_are_recognised_and_fit_to_the_last_tensor(size):
    from sam2.build_sam import build_sam2

    short = {"small": "s", "base-plus": "b+", "large": "l"}[size]
    state = build_sam2(f"configs/sam2.1/sam2.1_hiera_{short}.yaml", device="cpu").state_dict()
    config = checkpoints.recognise(Path("x.pt"), state)
    assert config.name == f"sam2.1-{size}"
    for_images = {k: t for k, t in state.items() if not k.startswith(checkpoints.VIDEO_PARTS)}
    Sam2(config).load_state_dict(for_images)  # strict
