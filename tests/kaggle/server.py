"""A small Kaggle on this machine: the protocol of the client's version 2.2, over HTTP on a free port.

What it gets stays on disk, so that a dry run can be made of what was pushed: see `kernel_folder` and `dataset_folder`.
It can be told to fail: `fail` (an HTTP error), `answer` (an error within a reply), `cut` (uploads that break off).
"""

import base64
import json
import threading
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

from services import Refused, Services


class Server(Services):
    """users: name -> key; tokens: token -> name. calls: the methods that were asked for, in order."""

    def __init__(self, root: Path):
        super().__init__(root)
        self.users, self.tokens, self.calls, self.strangers = {}, {}, [], []
        self.failures: dict[str, list[tuple[int, dict, str]]] = {}
        self.answers: dict[str, dict] = {}
        self.cuts = 0
        self.lock = threading.RLock()
        server = self

        class Handler(_Handler):
            kaggle = server

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)

    @contextmanager
    def running(self):
        self.thread.start()
        try:
            yield self
        finally:
            self.http.shutdown()
            self.http.server_close()
            self.thread.join()

    def fail(self, method: str, status: int, times: int = 1, message: str = "told to fail", **headers: str) -> None:
        """The next calls of a method end with an HTTP error; "upload" and "file" are methods too."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.failures.setdefault(method, []).extend([(status, named, message)] * times)

    def answer(self, method: str, **fields) -> None:
        """All replies of a method have these fields."""
        self.answers[method] = fields

    def cut(self, times: int) -> None:
        """The next uploads break off in the middle."""
        self.cuts = times

    def who(self, authorization: str) -> str | None:
        """The user whose credential this is."""
        kind, _, value = authorization.partition(" ")
        if kind == "Basic":
            user, _, key = base64.b64decode(value).decode().partition(":")
            return user if self.users.get(user) == key else None
        return self.tokens.get(value) if kind == "Bearer" else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kaggle: Server

    def log_message(self, *args):
        pass  # a header may hold a credential

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        service, _, method = urlparse(self.path).path.removeprefix("/api/v1/").partition("/")
        with self.kaggle.lock:
            self.kaggle.calls.append(method)
            if self._failed(method):
                return
            user = self.kaggle.who(self.headers.get("Authorization", ""))
            if method == "IntrospectToken":
                name = self.kaggle.tokens.get(body["token"])
                return self._reply({"active": name is not None, "username": name or ""})
            if user is None:
                return self._reply({"code": 401, "message": "Unauthorized"}, 401)
            try:
                reply = self.kaggle.serve(service, method, body, user)
            except KeyError as error:
                return self._reply({"code": 400, "message": f"the request has no {error}"}, 400)
            except Refused as error:
                return self._reply({"code": error.status, "message": str(error)}, error.status)
            if "redirect" in reply:
                return self._send(302, b"", {"Location": reply["redirect"]})
            self._reply(reply | self.kaggle.answers.get(method, {}))

    def do_PUT(self):
        """The content of a file; with "Content-Range: bytes */N", the question how much of it has come."""
        self._watch()
        with self.kaggle.lock:
            self.kaggle.calls.append("upload")
            length = int(self.headers.get("Content-Length") or 0)
            if self.kaggle.cuts > 0 and length:
                self.kaggle.cuts -= 1
                self.rfile.read(length // 2)
                self.close_connection = True
                return self.connection.close()
            content = self.rfile.read(length)
            if self._failed("upload"):
                return
            upload = self.kaggle.uploads[urlparse(self.path).path.rpartition("/")[2]]
            if length or not upload.wanted:
                upload.file.write_bytes(content)
            came = upload.file.stat().st_size if upload.file.is_file() else -1
            self._reply({}, 200 if came == upload.wanted else 308)

    def do_GET(self):
        self._watch()
        with self.kaggle.lock:
            self.kaggle.calls.append("file")
            if self._failed("file"):
                return
            file = self.kaggle.root / unquote(urlparse(self.path).path).removeprefix("/files/")
            self._send(200, file.read_bytes(), {"Content-Type": "application/octet-stream"})

    def _failed(self, method: str) -> bool:
        left = self.kaggle.failures.get(method)
        if not left:
            return False
        status, headers, message = left.pop(0)
        self._reply({"code": status, "message": message}, status, headers)
        return True

    def _watch(self):
        """Addresses of storage are open to all: a credential has no business there."""
        if "Authorization" in self.headers:
            self.kaggle.strangers.append(self.path)

    def _reply(self, value: dict, status: int = 200, headers: dict | None = None):
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict):
        self.send_response(status)
        for name, told in {"Last-Modified": formatdate(usegmt=True), **headers}.items():
            self.send_header(name, told)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
