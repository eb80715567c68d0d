"""Sends the logs of each epoch to a web server."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any

import jax
import numpy as np

from easyflax.train.callback import Callback

__all__ = ["RemoteMonitor"]

_TIMEOUT = 10.0  # seconds that an epoch waits for a server that does not answer


class RemoteMonitor(Callback):
    """Posts the number of each epoch, counted from 0, and its logs; arguments and requests are Keras's.

    A server that cannot be reached, or that refuses, is warned of, and training goes on.

    Args:
        root: the address of the server, beginning with `http://` or `https://`.
        path: behind `root`.
        field: the name of the form's field that has the JSON; without meaning if `send_as_json`.
        headers: of the requests, besides those that say what is sent.
        send_as_json: sends the JSON itself, as `application/json`, instead of a form.

    Raises:
        ValueError: the address is of another kind.
    """

    def __init__(
        self,
        root: str = "http://localhost:9000",
        path: str = "/publish/epoch/end/",
        field: str = "data",
        headers: Mapping[str, str] | None = None,
        send_as_json: bool = False,
    ):
        super().__init__()
        if urllib.parse.urlsplit(root).scheme not in ("http", "https"):
            raise ValueError(
                f"RemoteMonitor: root is {root!r}, expected an address. Pass for example "
                f"'http://localhost:9000'."
            )
        self.root = root
        self.path = path
        self.field = field
        self.headers = headers
        self.send_as_json = send_as_json

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if jax.process_index() != 0:
            return
        values = {name: _plain(value) for name, value in (logs or {}).items()}
        try:
            with urllib.request.urlopen(self._request({"epoch": epoch, **values}), timeout=_TIMEOUT):
                pass
        except urllib.error.HTTPError as error:
            self._warn(f"answered {error.code} {error.reason}")
        except (OSError, HTTPException) as error:
            self._warn(f"could not be reached: {getattr(error, 'reason', error)}")

    def _request(self, values: dict[str, Any]) -> urllib.request.Request:
        text = json.dumps(values)
        if self.send_as_json:
            kind, body = "application/json", text
        else:
            kind, body = "application/x-www-form-urlencoded", urllib.parse.urlencode({self.field: text})
        headers = {"Content-Type": kind, **(self.headers or {})}
        return urllib.request.Request(self.root + self.path, body.encode(), headers, method="POST")

    def _warn(self, what: str) -> None:
        warnings.warn(
            f"RemoteMonitor: the server at {self.root} {what}. The epoch was not sent, training goes on.",
            stacklevel=3,
        )


def _plain(value: Any) -> Any:
    return np.asarray(value).tolist() if hasattr(value, "dtype") else value
