"""A hub of our own: the handful of addresses huggingface_hub asks for, served from a folder."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "c0ffee" + "0" * 34


@contextmanager
def serve(models: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """Serve folders as hub models at the one commit `COMMIT`, its branch `main` and its tag `v1`.

    Yields:
        The endpoint, and the list (growing) of the paths asked for.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            asked.append(self.path)
            status, headers, body = _answer(self.path.split("?")[0], models)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 (the name http.server calls)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def _answer(path: str, models: dict[str, Path]) -> tuple[int, dict[str, str], bytes]:
    parts = path.strip("/").split("/")
    if parts[:2] == ["api", "models"]:
        folder, revision = models.get("/".join(parts[2:4])), parts[5] if len(parts) > 5 else "main"
        if folder is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if revision not in ("main", "v1", COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        listing: Any = [_entry(file) for file in sorted(folder.iterdir())]
        if parts[4:5] != ["tree"]:
            siblings = [{"rfilename": file["path"], "size": file["size"]} for file in listing]
            listing = {"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": siblings}
        return 200, {"Content-Type": "application/json"}, json.dumps(listing).encode()
    if parts[0] == "api":
        return 404, {}, b"{}"
    body = (models["/".join(parts[:2])] / parts[4]).read_bytes()
    return 200, {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": COMMIT}, body


def _entry(file: Path) -> dict[str, Any]:
    body = file.read_bytes()
    return {"type": "file", "path": file.name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
