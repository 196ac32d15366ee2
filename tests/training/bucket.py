"""A bucket in memory: objects appear whole, and there is no renaming, appending or locking.

One store, seen through two doors: epath's backend for `gs://`, which the project and Orbax use for
single files, and the HTTP interface of Google Cloud Storage, which tensorstore uses for arrays.
"""

import contextlib
import fnmatch
import http.server
import io
import json
import os
import sys
import threading
import types
import urllib.parse
from collections.abc import Iterator
from typing import Any

from etils.epath import backend, gpath, stat_utils


class Bucket(backend.Backend):
    """Objects by their full name without `gs://`; folders are prefixes, or empty `name/` objects.

    Attributes:
      objects: content by name.
      writes: names in the order in which objects appeared.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.generations: dict[str, int] = {}
        self.writes: list[str] = []
        self.lock = threading.Lock()

    def put(self, name: str, content: bytes) -> None:
        with self.lock:
            self.objects[name] = content
            self.writes.append(name)
            self.generations[name] = len(self.writes)

    def open(self, path: Any, mode: str) -> Any:
        name = _name(path)
        if mode in ("w", "wb"):
            return _Upload(self, name, text="b" not in mode)
        if mode in ("r", "rb"):
            if name not in self.objects:
                raise FileNotFoundError(2, "No such object", str(path))
            content = io.BytesIO(self.objects[name])
            return content if "b" in mode else io.TextIOWrapper(content, "utf-8")
        raise NotImplementedError(f"buckets cannot open in mode {mode!r}")

    def exists(self, path: Any) -> bool:
        return _name(path) in self.objects or self.isdir(path)

    def isdir(self, path: Any) -> bool:
        prefix = _name(path) + "/"
        return any(name.startswith(prefix) for name in list(self.objects))

    def listdir(self, path: Any) -> list[str]:
        prefix = _name(path) + "/"
        found = [n[len(prefix) :] for n in list(self.objects) if n.startswith(prefix)]
        return sorted({name.split("/")[0] for name in found if name})

    def glob(self, path: Any) -> list[str]:
        wanted = _name(path).split("/")
        found = {tuple(n.split("/")[: len(wanted)]) for n in list(self.objects)}
        return [
            "gs://" + "/".join(parts)
            for parts in sorted(found)
            if len(parts) == len(wanted) and all(map(fnmatch.fnmatch, parts, wanted))
        ]

    def walk(self, top: Any, *, top_down: bool = True, on_error: Any = None) -> Iterator[Any]:
        raise NotImplementedError

    def makedirs(self, path: Any, *, exist_ok: bool = False, mode: Any = None) -> None:
        self.mkdir(path, exist_ok=exist_ok)

    def mkdir(self, path: Any, *, exist_ok: bool = False, mode: Any = None) -> None:
        if not exist_ok and self.exists(path):
            raise FileExistsError(str(path))
        self.put(_name(path) + "/", b"")

    def rmtree(self, path: Any) -> None:
        with self.lock:
            for name in [n for n in self.objects if n.startswith(_name(path) + "/")]:
                del self.objects[name]

    def remove(self, path: Any) -> None:
        with self.lock:
            self.objects.pop(_name(path), None)

    def rename(self, path: Any, dst: Any) -> None:
        raise NotImplementedError("buckets cannot rename")

    def replace(self, path: Any, dst: Any) -> None:
        raise NotImplementedError("buckets cannot rename")

    def copy(self, path: Any, dst: Any, overwrite: bool) -> None:
        self.put(_name(dst), self.objects[_name(path)])

    def stat(self, path: Any) -> stat_utils.StatResult:
        content = self.objects.get(_name(path), b"")
        return stat_utils.StatResult(
            is_directory=self.isdir(path), length=len(content), mtime=0, owner="", group="", mode=0
        )


class _Upload(io.BytesIO):
    """Becomes an object when it is closed."""

    def __init__(self, bucket: Bucket, name: str, text: bool):
        super().__init__()
        self._bucket, self._name, self._text = bucket, name, text

    def write(self, content: Any) -> int:
        return super().write(content.encode() if self._text else content)

    def close(self) -> None:
        if not self.closed:
            self._bucket.put(self._name, self.getvalue())
        super().close()


def _name(path: Any) -> str:
    return os.fspath(path).removeprefix("gs://").rstrip("/")


class _Handler(http.server.BaseHTTPRequestHandler):
    """As much of storage.googleapis.com as tensorstore asks for."""

    bucket: Bucket
    protocol_version = "HTTP/1.1"
    # Headers and body in one packet: apart they would wait for each other 40 ms.
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        bucket, name, query = self._parse()
        if name is None:
            return self._list(bucket, query)
        full = f"{bucket}/{name}"
        content = self.bucket.objects.get(full)
        if content is None:
            return self._answer(404, b"{}")
        generation = str(self.bucket.generations[full])
        if query.get("ifGenerationNotMatch") == generation:
            return self._answer(304, b"")
        if query.get("ifGenerationMatch", generation) != generation:
            return self._answer(412, b"{}")
        if query.get("alt") != "media":
            return self._answer(200, json.dumps(self._describe(full)).encode())
        return self._send_range(content, {"x-goog-generation": generation})

    def do_POST(self) -> None:
        bucket, _, query = self._parse()
        content = self.rfile.read(int(self.headers["Content-Length"]))
        name = f"{bucket}/{query['name']}"
        there = str(self.bucket.generations[name] if name in self.bucket.objects else 0)
        if query.get("ifGenerationMatch", there) != there:
            return self._answer(412, b"{}")
        self.bucket.put(name, content)
        return self._answer(200, json.dumps(self._describe(name)).encode())

    def do_DELETE(self) -> None:
        bucket, name, _ = self._parse()
        self.bucket.remove(f"{bucket}/{name}")
        self._answer(204, b"")

    def _parse(self) -> tuple[str, str | None, dict[str, str]]:
        url = urllib.parse.urlsplit(self.path)
        parts = url.path.split("/b/", 1)[1].split("/")
        name = urllib.parse.unquote("/".join(parts[2:])) or None
        query = {key: values[-1] for key, values in urllib.parse.parse_qs(url.query).items()}
        return parts[0], name, query

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        prefix, first = query.get("prefix", ""), query.get("startOffset", "")
        last = query.get("endOffset", "\U0010ffff")
        items = [
            self._describe(name)
            for name in sorted(self.bucket.objects)
            if name.startswith(f"{bucket}/{prefix}")
            and first <= name.removeprefix(f"{bucket}/") < last
        ]
        self._answer(200, json.dumps({"items": items}).encode())

    def _send_range(self, content: bytes, headers: dict[str, str]) -> None:
        wanted = self.headers.get("Range")
        if not wanted:
            return self._answer(200, content, headers)
        start, end = wanted.removeprefix("bytes=").split("-")
        if not start:
            first, last = max(len(content) - int(end), 0), len(content) - 1
        else:
            first, last = int(start), min(int(end or len(content)), len(content) - 1)
        where = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
        return self._answer(206, content[first : last + 1], headers | where)

    def _answer(self, code: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _describe(self, full: str) -> dict[str, str]:
        size, generation = len(self.bucket.objects[full]), self.bucket.generations[full]
        name = full.split("/", 1)[1]
        return {"name": name, "size": str(size), "generation": str(generation)}

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def serve(monkeypatch: Any) -> Iterator[Bucket]:
    """An empty bucket that every `gs://` path of this process leads to."""
    bucket = Bucket()
    monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, "gs", bucket)
    # Orbax 0.12.8 asks google-cloud-storage what kind of bucket this is: an ordinary one.
    cloud = types.ModuleType("google.cloud.storage")
    cloud.Client = lambda: types.SimpleNamespace(get_bucket=lambda name: types.SimpleNamespace())
    monkeypatch.setitem(sys.modules, "google.cloud", types.ModuleType("google.cloud"))
    monkeypatch.setattr(sys.modules["google.cloud"], "storage", cloud, raising=False)
    monkeypatch.setitem(sys.modules, "google.cloud.storage", cloud)
    handler = type("Handler", (_Handler,), {"bucket": bucket})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", url)
    monkeypatch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "none")
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
