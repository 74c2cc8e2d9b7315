"""A W&B server on this machine that fails on demand: enough of its GraphQL, file stream and uploads for a run to be online."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

KEY = "0123456789abcdef0123456789abcdef01234567"
FAULTS = ("refusing", "silent", "slow", "500", "429")
STAGES = ("viewer", "run", "stream")  # the question who owns the key; the beginning of a run; its values


class Host(ThreadingHTTPServer):
    """Answers as W&B does, until a request of the stage `since` comes: from then on with `fault`.

    refusing: connections are cut, and new ones refused; silent: taken, and never answered; slow: answered after `seconds`; 500, 429:
    answered with this error. `asked` are the stages of all requests, `rows` the values that have arrived.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, fault: str | None = None, since: str = "viewer", seconds: float = 1.0) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.fault, self.since, self.seconds = fault, since, seconds
        self.failing, self.closed = threading.Event(), threading.Event()
        self.asked: list[str] = []
        self.rows: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that has given up


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Host

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])) if "Content-Length" in self.headers else self.chunks()
        question = json.loads(body) if body[:1] == b"{" else {}
        query = question.get("query", "")
        stage = "stream" if "file_stream" in self.path else "run" if "upsertBucket" in query else "viewer" if "viewer" in query else "rest"
        self.server.asked.append(stage)
        if self.server.fault and stage == self.server.since:
            self.server.failing.set()
        if self.server.failing.is_set() and not self.goes_on():
            return
        for line in question.get("files", {}).get("wandb-history.jsonl", {}).get("content", []):
            self.server.rows.append(json.loads(line))
        self.answer(200, self.data(query, question.get("variables", {})))

    do_GET = do_PUT = do_POST

    def goes_on(self) -> bool:
        """Fails as asked; whether an answer follows all the same."""
        fault = self.server.fault
        if fault in ("500", "429"):
            self.answer(int(fault), {"error": fault})
        elif fault == "slow":
            return not self.server.closed.wait(self.server.seconds)
        elif fault == "silent":
            self.server.closed.wait()
        elif not self.server.closed.is_set():
            self.server.closed.set()
            threading.Thread(target=lambda: (self.server.shutdown(), self.server.server_close())).start()
        self.close_connection = True
        return False

    def data(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        if "upsertBucket" in query:
            project = {"id": "p", "name": given["project"], "entity": {"id": "e", "name": "me"}}
            bucket = {"id": "r", "name": given["name"], "displayName": given["displayName"] or "run", "description": None, "config": None,
                      "sweepName": None, "historyLineCount": 0, "project": project}
            return {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.server.url}/upload/{name}"} for name in given["files"]]
            return {"data": {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}}
        return {"data": {"viewer": {"id": "1", "username": "me", "entity": "me", "flags": "{}", "teams": {"edges": []}}}}

    def answer(self, code: int, content: dict[str, Any]) -> None:
        text = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline() or b"0", 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        return body

    def log_message(self, *arguments: object) -> None:
        pass
