"""W&B's mode, against real servers on this machine."""

import base64
import json
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from experiments.wandb_mode import find_key, settle_wandb_mode

KEY = "0123456789abcdef0123456789abcdef01234567"


class Host(BaseHTTPRequestHandler):
    """As W&B's GraphQL: it knows one key."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        known = self.headers["Authorization"] == "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()
        self.send_response(200 if known else 401)
        self.end_headers()
        self.wfile.write(json.dumps({"data": {"viewer": {"id": "1"} if known else None}}).encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def host():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_SILENT"):
        monkeypatch.setenv(name, "")  # restored afterwards, though the code under test sets it
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))


def test_a_given_mode_is_kept(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert settle_wandb_mode() == ("offline", "W&B: offline (WANDB_MODE)")
    monkeypatch.setenv("WANDB_MODE", "offlin")
    with pytest.raises(ValueError, match="WANDB_MODE='offlin': no such mode; nearest: offline"):
        settle_wandb_mode()


def test_no_key_is_offline():
    mode, sentence = settle_wandb_mode()
    assert mode == os.environ["WANDB_MODE"] == "offline" and "no key" in sentence and os.environ["WANDB_SILENT"] == "true"


def test_a_key_that_the_host_knows_is_online(monkeypatch, host, tmp_path):
    monkeypatch.setenv("WANDB_BASE_URL", host)
    (tmp_path / "netrc").write_text(f"machine {host.removeprefix('http://')}\n  login user\n  password {KEY}\n")
    assert find_key() == KEY
    assert settle_wandb_mode() == ("online", f"W&B: online, {host}")
    assert os.environ["WANDB_MODE"] == "online"


def test_the_host_that_wandb_login_stored(monkeypatch, host, tmp_path):
    (tmp_path / "settings").write_text(f"[default]\nbase_url = {host}/\n")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert settle_wandb_mode() == ("online", f"W&B: online, {host}")


def test_a_key_that_the_host_refuses_is_offline(monkeypatch, host):
    monkeypatch.setenv("WANDB_BASE_URL", host)
    monkeypatch.setenv("WANDB_API_KEY", KEY[::-1])
    mode, sentence = settle_wandb_mode()
    assert mode == "offline" and f"{host} does not know the key" in sentence and KEY[::-1] not in sentence


def test_a_host_that_is_away_is_offline(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert settle_wandb_mode()[1].startswith(f"W&B: offline, http://127.0.0.1:{port} does not answer;")


def test_a_host_that_dawdles_is_offline_after_two_seconds(monkeypatch):
    def answer_a_letter_at_a_time(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            for letter in "HTTP/1.1 2":
                connection.send(letter.encode())
                time.sleep(0.5)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer_a_letter_at_a_time, args=(server,), daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        began = time.monotonic()
        assert settle_wandb_mode()[0] == "offline"
        assert time.monotonic() - began < 2.5
