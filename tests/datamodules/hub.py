"""A Hub on this machine that fails on demand: enough of its interface for `datasets` to load one public data set of Parquet files."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

COMMIT = "0123456789abcdef0123456789abcdef01234567"
STAGES = ("info", "file")  # questions about the data set; its files


class Hub(ThreadingHTTPServer):
    """Serves the files of `folder` as the data set `name`, revision main, and fails with `fault` from the stage `since` on.

    503: answers with it; silent: takes the connection and says nothing; refusing: takes no connection; truncated: sends half of a file.
    """

    daemon_threads = True

    def __init__(self, name: str, folder: Path, fault: str | None = None, since: str = "info") -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.name, self.fault, self.since = name, fault, since
        self.files = {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
        self.asked: list[str] = []
        self.closed = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        if self.fault == "refusing":
            self.server_close()
        else:
            threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        if self.fault != "refusing":
            self.shutdown()
            self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that has given up


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        hub = self.server
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.split("?")[0].replace("%2F", "/")
        hub.asked.append(f"{self.command} {path}")
        file = re.fullmatch(rf"/datasets/{hub.name}/resolve/([^/]+)/(.+)", path)
        info = re.fullmatch(rf"/api/datasets/{hub.name}(?:/revision/([^/]+)|/(tree|paths-info)/([^/]+).*)?", path)
        failing = hub.fault if hub.since == "info" or file else None
        if failing == "silent":
            hub.closed.wait()
            self.close_connection = True
        elif failing == "503":
            self.answer(503, b"{}")
        elif (info or file) and (((file and file[1]) or (info and (info[1] or info[3])) or "main") not in ("main", COMMIT)):
            self.answer(404, b'{"error": "Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"})
        elif file and file[2] in hub.files:
            self.send_file(hub.files[file[2]], cut=failing == "truncated")
        elif file:
            self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        elif info and info[2]:
            listed = [{"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                      for name, data in hub.files.items()]
            wanted = path.rpartition(info[3])[2].strip("/")
            self.answer(200, json.dumps([] if info[2] == "paths-info" or wanted else listed).encode())
        elif info:
            content = {"id": hub.name, "sha": COMMIT, "private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0,
                       "tags": [], "lastModified": "2026-01-01T00:00:00.000Z", "siblings": [{"rfilename": name} for name in hub.files]}
            self.answer(200, json.dumps(content).encode())
        elif path.startswith("/api/datasets"):
            self.answer(401, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
        else:
            self.answer(200 if path == "/" else 404, b"{}")

    do_POST = do_HEAD = do_GET

    def send_file(self, data: bytes, cut: bool) -> None:
        headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        first = int(re.fullmatch(r"bytes=(\d+)-.*", self.headers.get("Range") or "bytes=0-")[1])
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        self.answer(206 if first else 200, data[first:], headers, half=cut)

    def answer(self, code: int, content: bytes, headers: dict[str, str] | None = None, half: bool = False) -> None:
        self.send_response(code)
        for key, value in ({"Content-Type": "application/json", "Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if half else content)
        if half:
            self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass
