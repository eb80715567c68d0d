"""Requests to a real server in this process, beside those of Keras."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs

import keras
import numpy as np
import pytest

from easyflax.callbacks import RemoteMonitor

LOGS = {"loss": 0.5, "accuracy": np.float32(0.25), "zero": np.array(1.5)}


@pytest.fixture
def server():
    """A server that keeps what it gets, and answers with `server.answer`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            server.requests.append((self.path, dict(self.headers), body))
            self.send_response(server.answer)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.answer = [], 200
    server.root = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def what_counts(request):
    """The path, the kind, a header of the user's, and the values, of whatever library the request is."""
    path, headers, body = request
    kind = headers["Content-Type"]
    values = body if kind == "application/json" else parse_qs(body)
    if isinstance(values, dict):
        values = {name: [json.loads(value) for value in found] for name, found in values.items()}
    else:
        values = json.loads(values)
    return path, kind, headers.get("X-Run"), values


@pytest.mark.parametrize(
    "options",
    [{}, {"send_as_json": True}, {"path": "/log", "field": "logs", "headers": {"X-Run": "7"}}],
    ids=["form", "json", "own names"],
)
def test_requests_are_those_of_keras(server, options):
    pytest.importorskip("requests")  # which Keras's needs
    for cls in (RemoteMonitor, keras.callbacks.RemoteMonitor):
        monitor = cls(server.root, **options)
        monitor.on_epoch_end(0, dict(LOGS))
        monitor.on_epoch_end(1, None)
    ours, keras_ = server.requests[:2], server.requests[2:]
    assert [what_counts(request) for request in ours] == [what_counts(request) for request in keras_]


def test_a_form_has_the_epoch_and_its_logs(server):
    RemoteMonitor(server.root).on_epoch_end(3, {**LOGS, "matrix": np.eye(2)})
    path, kind, _, values = what_counts(server.requests[0])
    assert (path, kind) == ("/publish/epoch/end/", "application/x-www-form-urlencoded")
    expected = {"epoch": 3, "loss": 0.5, "accuracy": 0.25, "zero": 1.5, "matrix": [[1.0, 0.0], [0.0, 1.0]]}
    assert values == {"data": [expected]}


def test_a_server_that_refuses_is_warned_of(server):
    server.answer = 503
    with pytest.warns(UserWarning, match=r"server at http://127.*answered 503 .*training goes on"):
        RemoteMonitor(server.root).on_epoch_end(0, {})


def test_a_server_that_is_not_there_is_warned_of():
    with pytest.warns(UserWarning, match=r"could not be reached: .*The epoch was not sent"):
        RemoteMonitor("http://127.0.0.1:9").on_epoch_end(0, {})


def test_an_address_of_another_kind_is_refused():
    with pytest.raises(ValueError, match=r"root is 'localhost:9000', expected an address\. Pass"):
        RemoteMonitor("localhost:9000")


def test_only_process_0_sends(server, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    RemoteMonitor(server.root).on_epoch_end(0, {})
    assert not server.requests
