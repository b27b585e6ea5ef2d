"""Hugging Face, as a local server that speaks its layout: redirects, hashes, gates, resuming."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from napari_pathsam.core.errors import BadWeightsError, Cancelled, UnavailableError
from napari_pathsam.models.encoder_files import fetch_encoder
from napari_pathsam.models.encoders import EncoderSpec, VitArgs, load_encoder, random_encoder
from napari_pathsam.models.sources import HubFile

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_PATHSAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    return tmp_path / "cache" / "models"


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> tuple[EncoderSpec, bytes]:
    """An encoder, and its checkpoint as an author would publish it."""
    source = HubFile(repo="authors/encoder", file="pytorch_model.bin", revision=COMMIT, size=1)
    spec = EncoderSpec(
        name="theirs",
        title="Theirs",
        timm="vit_small_patch16_224",
        vit=VitArgs(depth=2, img_size=64),
        token_px=16,
        embed_dim=384,
        licence="Theirs-1.0",
        licence_url="https://example.org/licence",
        weights=source,
    )
    path = tmp_path_factory.mktemp("published") / "pytorch_model.bin"
    torch.save(random_encoder(spec, seed=3).net.state_dict(), path)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    weights = source.model_copy(update={"size": len(content), "sha256": digest})
    return spec.model_copy(update={"weights": weights}), content


class Hub:
    """What the server is to do, and what it was asked."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.error: tuple[int, str] | None = None  # status, X-Error-Code
        self.needs_token: str | None = None
        self.breaks = 0  # how often a download breaks off on its way
        self.asked: list[tuple[str, str, str | None, str | None]] = []
        self.url = ""


@pytest.fixture
def huggingface(published, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub_ = Hub(published[1])

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            token, part = self.headers.get("Authorization"), self.headers.get("Range")
            hub_.asked.append((self.command, self.path, token, part))
            if self.path.startswith("/cdn/"):
                self.send_content(part, with_body=with_body)
            elif hub_.error is not None or (
                hub_.needs_token and token != f"Bearer {hub_.needs_token}"
            ):
                status, code = hub_.error or (401, "GatedRepo")
                self.send_response(status)
                self.send_header("X-Error-Code", code)
                self.send_header("X-Error-Message", "Access to this model is restricted.")
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif self.path == f"/authors/encoder/resolve/{COMMIT}/pytorch_model.bin":
                self.send_response(302)  # a large file lies elsewhere
                elsewhere = hub_.url.replace("127.0.0.1", "localhost")
                self.send_header("Location", f"{elsewhere}/cdn/blob")
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("X-Linked-Size", str(len(published[1])))
                etag = hashlib.sha256(published[1]).hexdigest()
                self.send_header("X-Linked-Etag", f'"{etag}"')
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.send_error(404)

        def send_content(self, part: str | None, *, with_body: bool) -> None:
            start = int(part.removeprefix("bytes=").split("-")[0]) if part else 0
            body = hub_.content[start:]
            self.send_response(206 if part else 200)
            if part:
                total = len(hub_.content)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"blob"')
            self.end_headers()
            if with_body:
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(body[: len(body) * 4 // 5] if hub_.breaks else body)
                    if hub_.breaks:
                        hub_.breaks -= 1
                        self.wfile.flush()
                        self.connection.close()

        def log_message(self, *args: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    hub_.url = f"http://127.0.0.1:{httpd.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", hub_.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # it waits between its tries
    yield hub_
    httpd.shutdown()
    httpd.server_close()


def left_in(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.rglob("*")) if cache.exists() else []


def test_a_file_is_fetched_from_the_mirror_checked_and_kept_as_safetensors(
    published, huggingface, cache
):
    spec, _ = published
    with pytest.raises(UnavailableError, match="pathsam models fetch theirs"):
        load_encoder(spec, "cpu")
    assert huggingface.asked == []  # nothing is downloaded unless asked
    seen = []
    path = fetch_encoder(spec, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (spec.weights.size, spec.weights.size)
    assert left_in(cache) == ["encoders", "sha256.json", "theirs.safetensors"]
    assert huggingface.asked[0][1].startswith(f"/authors/encoder/resolve/{COMMIT}/")
    loaded = load_encoder(spec, "cpu")
    expected = random_encoder(spec, seed=3).net.state_dict()
    for name, tensor in loaded.net.state_dict().items():
        assert torch.equal(tensor, expected[name])
    assert loaded.weights_sha256 == spec.weights.sha256
    huggingface.asked.clear()
    assert fetch_encoder(spec) == path  # the second time asks no network
    assert huggingface.asked == []


def test_the_users_own_login_is_used_and_goes_nowhere_else(published, huggingface, monkeypatch):
    spec, _ = published
    huggingface.needs_token = "hf_mine"
    with pytest.raises(UnavailableError) as caught:
        fetch_encoder(spec)
    said = str(caught.value)
    assert "https://huggingface.co/authors/encoder" in said
    assert "hf auth login" in said
    assert "--as theirs" in said
    assert said.count(". ") == 0  # one sentence
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    fetch_encoder(spec)
    assert {token for _, path, token, _ in huggingface.asked if "/resolve/" in path} == {
        None,
        "Bearer hf_mine",
    }
    assert {token for _, path, token, _ in huggingface.asked if "/cdn/" in path} == {None}


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ((403, "GatedRepo"), "does not give theirs to you yet"),
        ((401, "RepoNotFound"), "does not give theirs to you yet"),
        ((404, "RepoNotFound"), "does not give theirs to you yet"),
        ((404, "EntryNotFound"), "could not be fetched"),
        ((404, "RevisionNotFound"), "could not be fetched"),
        ((500, ""), "could not be fetched"),
    ],
)
def test_what_the_hub_refuses_is_said_readably(published, huggingface, cache, error, says):
    huggingface.error = error
    with pytest.raises(UnavailableError, match=says):
        fetch_encoder(published[0])
    assert left_in(cache / "encoders") == []


def test_no_network_is_said_once(published, monkeypatch):
    told: list[str] = []
    listening = logging.StreamHandler()
    listening.emit = lambda record: told.append(record.getMessage())
    library = logging.getLogger("huggingface_hub")
    library.addHandler(listening)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    wanted = "could not be fetched from https://huggingface"
    with pytest.raises(UnavailableError, match=wanted) as said:
        fetch_encoder(published[0])
    library.removeHandler(listening)
    assert ".." not in str(said.value)
    assert not told  # all of its tries, in one paragraph


def test_another_file_than_the_published_one_is_thrown_away(published, huggingface, cache):
    spec, content = published
    huggingface.content = content[:-500] + b"!" + content[-499:]
    with pytest.raises(BadWeightsError, match="SHA-256 is another one"):
        fetch_encoder(spec)
    assert left_in(cache) == []
    unknown = spec.weights.model_copy(update={"sha256": None, "size": 10**6})
    huggingface.content = content
    with pytest.raises(BadWeightsError, match="more than the 1 MB"):
        fetch_encoder(spec.model_copy(update={"weights": unknown}))
    assert left_in(cache) == []


def test_a_download_that_breaks_off_goes_on_where_it_stopped(
    published, huggingface, cache, monkeypatch
):
    # How long it waits for what does not come before it asks again.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 1)
    huggingface.breaks = 1
    seen = []
    fetch_encoder(published[0], progress=lambda done, total: seen.append(done))
    parts = [part for command, _, _, part in huggingface.asked if command == "GET" and part]
    assert parts
    assert not any(part.startswith("bytes=0-") for part in parts)
    assert seen == sorted(seen)
    huggingface.breaks = 10**6
    for kept in (cache / "encoders").iterdir():
        kept.unlink()
    with pytest.raises(UnavailableError, match="could not be fetched"):
        fetch_encoder(published[0])
    assert left_in(cache) == ["encoders", "sha256.json"]


def test_cancelling_leaves_nothing(published, huggingface, cache):
    received = []
    with pytest.raises(Cancelled):
        fetch_encoder(
            published[0],
            progress=lambda done, total: received.append(done),
            cancelled=lambda: bool(received and received[-1]),
        )
    assert left_in(cache) == []


def test_a_copy_in_the_users_hugging_face_cache_is_used_as_it_lies(
    published, huggingface, tmp_path
):
    spec, content = published
    folder = tmp_path / "hf" / "models--authors--encoder" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    mine = folder / "pytorch_model.bin"
    mine.write_bytes(content)
    fetch_encoder(spec)
    assert huggingface.asked == []
    assert mine.is_file()


def test_the_first_hash_is_held_to_where_none_is_published(published, huggingface):
    spec, content = published
    unknown = spec.model_copy(update={"weights": spec.weights.model_copy(update={"sha256": None})})
    fetch_encoder(unknown).unlink()
    huggingface.content = content[:-500] + b"!" + content[-499:]
    with pytest.raises(BadWeightsError, match="SHA-256 is another one"):
        fetch_encoder(unknown)
