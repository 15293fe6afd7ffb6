"""A hub of our own on a real socket, as far as an upload goes: it keeps what it is given."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_a_token_of_this_test"


@dataclass
class Hub:
    """What was uploaded.

    Args:
        address: for HF_ENDPOINT.
        repositories: {name: {file: content}}.
        large: content by sha256, as git-lfs has it.
    """

    address: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        """What the real one would say, to somebody with the token."""
        match path.split("?")[0].strip("/").split("/"):
            case ["api", "repos", "create"]:
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
                self.repositories.setdefault(name, {})
                return 200, {"url": f"{self.address}/{name}"}
            case ["api", "validate-yaml"]:
                return 200, {"warnings": [], "errors": []}
            case ["api", "models", owner, name, "preupload", "main"] if f"{owner}/{name}" in self.repositories:
                files = [file["path"] for file in json.loads(body)["files"]]
                mode = {True: "lfs", False: "regular"}
                return 200, {
                    "files": [
                        {"path": file, "uploadMode": mode[file.endswith(".safetensors")], "shouldIgnore": False}
                        for file in files
                    ]
                }
            case [_, _, "info", "lfs", "objects", "batch"]:
                objects = json.loads(body)["objects"]
                for each in objects:
                    each["actions"] = {"upload": {"href": f"{self.address}/large/{each['oid']}"}}
                return 200, {"transfer": "basic", "objects": objects}
            case ["large", oid] if hashlib.sha256(body).hexdigest() == oid:
                self.large[oid] = body
                return 200, {}
            case ["api", "models", owner, name, "commit", "main"]:
                for line in map(json.loads, body.splitlines()):
                    kept = self.repositories[f"{owner}/{name}"]
                    if line["key"] == "file":
                        kept[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                    elif line["key"] == "lfsFile":
                        kept[line["value"]["path"]] = self.large[line["value"]["oid"]]
                return 200, {"commitUrl": f"{self.address}/{owner}/{name}/commit/1", "commitOid": "1"}
            case _:
                return 404, {"error": "Repository not found"}


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub that runs."""
    kept = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            known = self.headers.get("Authorization") == f"Bearer {TOKEN}" or self.path.startswith("/large/")
            status, said = kept.answer(self.path, body) if known else (401, {"error": "Invalid username or password."})
            content = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()
