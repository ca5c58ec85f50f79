"""A small OpenAI-compatible server in a thread: it adds, for which no model is needed."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class StubServer:
    """Answers sums; `wrong` of them wrongly, `status` other than 200 refuses everything."""

    def __init__(self) -> None:
        self.status = 200
        self.wrong: frozenset[str] = frozenset()
        self.null: frozenset[str] = frozenset()
        self.asked: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(body)
                data = json.dumps(outer.answer(body)).encode()
                self.send_response(outer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                """Keep the test output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """What a chat completion looks like."""
        question = body["messages"][-1]["content"]
        total = str(sum(int(x) for x in re.findall(r"\d+", question)))
        content = None if question in self.null else "?" if question in self.wrong else total
        return {"choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]}

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def stub() -> Iterator[StubServer]:
    """A server of its own for one test."""
    server = StubServer()
    yield server
    server.close()
