"""A Hub on this machine, for tests of what is asked of one and of what it answers."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub(ThreadingHTTPServer):
    """What huggingface_hub asks of a Hub, on 127.0.0.1: the listing of a repository and its files.

    `repositories` maps a name to its files; `statuses` a path to the status it is answered with instead; a request
    for anything in `silent` is never answered. `requests` are the methods and paths asked for, in order.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeHubHandler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.statuses: dict[str, tuple[int, dict[str, str]]] = {}
        self.silent: set[str] = set()
        self.released = threading.Event()
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if path in self.statuses:
            return *self.statuses[path], b"<html>"
        path = path.removesuffix(f"/revision/{COMMIT}").replace(f"/resolve/{COMMIT}/", "/resolve/main/")
        if path.startswith("/api/models/") and path.removeprefix("/api/models/") in self.repositories:
            name = path.removeprefix("/api/models/")
            siblings = [{"rfilename": file, "size": len(data)} for file, data in self.repositories[name].items()]
            return 200, {}, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode()
        name, _, file = path.removeprefix("/").partition("/resolve/main/")
        data = self.repositories.get(name, {}).get(file)
        if data is None:
            return 404, {}, b""
        return 200, {"X-Repo-Commit": COMMIT, "ETag": f'"{abs(hash((name, file))):x}"'}, data


class FakeHubHandler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.requests.append(f"{self.command} {path}")
        if path in self.server.silent:
            self.server.released.wait(30)
            self.close_connection = True
            return
        status, headers, body = self.server.answer(path)
        self.send_response(status)
        for header, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def log_message(self, *_args) -> None: ...
