"""Names of a model hub, against a server on this machine."""

import http.server
import json
import threading

import jax
import numpy as np
import pytest

from tests.interop import tiny
from vitok_jax import errors
from vitok_jax.interop import hub, opening


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("hub") / "out", tiny.origin())


@pytest.fixture
def server(exported):
    """Serves one repository; `asked` is what it was asked for, `files` what it has."""

    class Handler(http.server.BaseHTTPRequestHandler):
        asked: list[str] = []  # noqa: RUF012
        files = [*(p.name for p in exported.iterdir()), "model.pkl", "../evil.safetensors"]  # noqa: RUF012
        cut = 0

        def do_GET(self):
            self.asked.append(self.path)
            if self.path == "/api/models/org/name/revision/main":
                siblings = [{"rfilename": name} for name in self.files]
                content = json.dumps({"sha": "abc123", "siblings": siblings}).encode()
            elif self.path.startswith("/org/name/resolve/abc123/"):
                content = (exported / self.path.rpartition("/")[2]).read_bytes()
            else:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return self.wfile.write(
                content[: len(content) - (self.cut if "resolve" in self.path else 0)]
            )

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        Handler.url = f"http://127.0.0.1:{running.server_port}"
        yield Handler
        running.shutdown()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path


def test_a_name_is_fetched_once_and_works_offline(exported, server, cache, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    expected = opening.read(exported).params
    jax.tree.map(np.testing.assert_array_equal, opening.read("org/name").params, expected)
    snapshot = cache / "models--org--name" / "snapshots" / "abc123"
    names = sorted(path.name for path in snapshot.iterdir())
    assert names == ["config.json", "decoder.safetensors", "encoder.safetensors"]
    before = len(server.asked)
    opening.read("org/name")
    assert len(server.asked) == before + 1
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    opening.read("org/name")
    assert len(server.asked) == before + 1
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert opening.read("org/name").path == str(snapshot)


def test_the_cache_of_the_hubs_own_client_is_read(exported, cache, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    place = cache / "models--their--model"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("f00d\n")
    (place / "snapshots" / "f00d").mkdir(parents=True)
    for path in exported.iterdir():
        (place / "snapshots" / "f00d" / path.name).symlink_to(path)
    assert opening.read("their/model").step == 3


def test_what_cannot_be_had_is_one_line(server, cache, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        errors.UsageError, match=r"org/name: is no folder, .* a folder works offline"
    ):
        opening.read("org/name")
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    with pytest.raises(errors.UsageError, match=r"org/other: is no folder.*Not Found"):
        opening.read("org/other")
    server.cut = 10
    with pytest.raises(errors.UsageError, match="is no folder"):
        opening.read("org/name")
    snapshot = cache / "models--org--name" / "snapshots" / "abc123"
    assert list(snapshot.iterdir()) == []
    server.files, server.cut = ["model.pkl"], 0
    with pytest.raises(errors.UsageError, match="has no safetensors files"):
        opening.read("org/name")


def test_what_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "one").mkdir(parents=True)
    assert hub.is_repository("org/name-1.0")
    for path in (
        "runs/one",
        "runs/two",
        "/org/name",
        "./org/name",
        "org",
        "a/b/c",
        "gs://b/c",
        "../name",
    ):
        assert not hub.is_repository(path)
