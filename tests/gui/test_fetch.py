"""Weights in the dock: fetched with progress, cancelled, refused; and broken model files."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import threading
from types import SimpleNamespace

import pytest

from napari_pathsam._napari.model_chooser import DEFAULT, Catalogue, ModelChoice

pytestmark = [pytest.mark.gui, pytest.mark.hidden]

NAME = "sam2.1-tiny"
CONTENT = b"weights " * 400_000
STEPS = 8


@pytest.fixture
def server():
    """Sends the file in steps; before each but the first it waits for ``go``."""
    go = threading.Semaphore(0)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            step = len(CONTENT) // STEPS
            with contextlib.suppress(ConnectionError):
                for start in range(0, len(CONTENT), step):
                    self.wfile.write(CONTENT[start : start + step])
                    self.wfile.flush()
                    go.acquire(timeout=20)

        def log_message(self, *args):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{httpd.server_port}/weights.pt", go=go)
    go.release(100)
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def fetching(dock_of, field, model, server, tmp_path, monkeypatch):
    """A dock whose catalogue has a model that lies on the local server; ``asked`` for by the dock.

    What Meta's files are turned into is tested elsewhere; here any bytes are a model.
    """
    from napari_pathsam.models import catalogue, checkpoints
    from napari_pathsam.models.sources import Url

    monkeypatch.setenv("NAPARI_PATHSAM_CACHE", str(tmp_path / "cache"))
    weights = Url(url=server.url, sha256=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT))
    entry = catalogue.MODELS[NAME].model_copy(update={"weights": weights})
    monkeypatch.setitem(catalogue.MODELS, NAME, entry)

    def kept(path, name, digest, source, config):
        checkpoints.cached_path(name).write_bytes(path.read_bytes())

    monkeypatch.setattr(checkpoints, "_import_meta", kept)
    asked: list[str] = []

    def loader(name, device):
        asked.append(name)
        return model

    _, dock, hands = dock_of(field.image, loader=loader, rgb=True)
    choice = ModelChoice(NAME, entry.title, "Larger.", entry.licence, size_text=entry.size_text,
                         ready=False)  # fmt: skip
    dock.models.chooser.set_catalogue(Catalogue((DEFAULT, choice), frozenset({"auto", "cpu"})))
    combo = dock.models.chooser._model
    combo.setCurrentIndex(combo.findData(NAME))
    return dock, hands, asked, tmp_path / "cache"


@pytest.mark.hidden(False)
def test_weights_are_fetched_with_progress_and_then_used(fetching, server):
    dock, hands, asked, cache = fetching
    bar, button = dock.models.bar, dock.models._button
    assert "not on this machine yet" in bar.text()
    assert "Apache" in bar.text()
    assert button.text() == "Download"
    button.click()
    hands.until(lambda: re.search(r"[1-9]\d? ?%", bar.text()), 20_000)
    assert button.text() == "Cancel"
    hands.screenshot("17-fetching")
    hands.click((130.0, 130.0))  # the model that is here answers meanwhile
    hands.until(lambda: dock.workspace.candidate is not None)
    assert NAME not in asked
    server.go.release(STEPS)
    hands.until(lambda: not bar.text(), 20_000)
    assert [p.name for p in cache.rglob("*") if p.is_file()] == [f"{NAME}.safetensors"]
    hands.until(lambda: dock.runner.idle, 20_000)
    dock.workspace.reject()
    hands.click((130.0, 130.0))
    hands.until(lambda: dock.workspace.candidate is not None)
    assert asked[-1] == NAME
    assert not dock.view.error_bar.text()


@pytest.mark.parametrize("by", ["button", "key"])
def test_a_download_is_cancelled_and_leaves_nothing(fetching, server, by):
    dock, hands, asked, cache = fetching
    bar, button = dock.models.bar, dock.models._button
    button.click()
    hands.until(lambda: "%" in bar.text(), 20_000)
    button.click() if by == "button" else hands.key("Escape")
    assert "cancelled" in bar.text()
    assert button.text() == "Download"
    server.go.release(STEPS)
    hands.until(lambda: dock._files.idle, 20_000)
    assert "cancelled" in bar.text()
    assert not [p for p in cache.rglob("*") if p.is_file()]
    assert NAME not in asked


def test_a_server_that_is_not_there_is_one_paragraph(fetching, monkeypatch):
    from napari_pathsam.models import catalogue

    dock, hands, _, cache = fetching
    entry = catalogue.MODELS[NAME]
    gone = entry.weights.model_copy(update={"url": "http://127.0.0.1:9/none.pt"})
    monkeypatch.setitem(catalogue.MODELS, NAME, entry.model_copy(update={"weights": gone}))
    dock.models._button.click()
    hands.until(lambda: "could not be fetched" in dock.models.bar.text(), 30_000)
    assert "models import" in dock.models.bar.text()
    assert dock.models._button.text() == "Download"
    assert not [p for p in cache.rglob("*") if p.is_file()]


@pytest.mark.parametrize("kind", ["missing", "text", "cut short"])
def test_a_broken_model_file_gives_its_paragraph(dock_of, field, model, tmp_path, kind):
    """The prompts stay, and another model answers them."""
    from napari_pathsam.models.catalogue import MODELS, load_model

    path = tmp_path / "model.safetensors"
    if kind == "text":
        path.write_text("this is no model")
    elif kind == "cut short":
        path.write_bytes(MODELS["pathsam-nano"].weights.path.read_bytes()[:200_000])

    def loader(name, device):
        return model if name == "good" else load_model(path, device)

    _, dock, hands = dock_of(field.image, loader=loader, rgb=True)
    hands.click(field.lumen)
    hands.until(lambda: bool(dock.view.error_bar.text()), 30_000)
    said = dock.view.error_bar.text()
    assert "model.safetensors" in said
    assert "Error(" not in said
    assert "Traceback" not in said
    assert "\n" not in said
    assert len(dock.workspace.prompts.points_yx) == 1
    hands.screenshot(f"18-model-file-{kind.replace(' ', '-')}")
    dock.workspace.set_model("good")
    hands.until(lambda: dock.workspace.candidate is not None)
    assert not dock.view.error_bar.text()
