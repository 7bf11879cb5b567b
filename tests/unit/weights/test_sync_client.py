"""The control plane of a sync against servers that answer as vLLM can."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from e3mega.errors import TierError
from e3mega.weights.engines.shared_memory import KeyedClient


@contextmanager
def server(num_refusals: int) -> Iterator[tuple[int, list[str]]]:
    """A server whose prefix cache is in use for so many requests; its port and what it was sent."""
    routes: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            routes.append(self.path)
            is_reset = routes.count("/reset_prefix_cache") > num_refusals
            body = json.dumps({"success": is_reset}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield httpd.server_address[1], routes
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def test_a_cache_in_use_is_asked_again_until_it_is_dropped() -> None:
    """vLLM answers 200 and ``success: false`` while a request holds blocks of the cache."""
    with server(num_refusals=2) as (port, routes):
        KeyedClient("generation_0", "127.0.0.1", port, key="k", deadline_s=60).finish_weight_update(
            "3"
        )
    assert routes == ["/finish_weight_update", *["/reset_prefix_cache"] * 3]


def test_a_cache_that_is_never_dropped_ends_the_sync() -> None:
    with server(num_refusals=10**6) as (port, _):
        client = KeyedClient("generation_0", "127.0.0.1", port, key="k", deadline_s=0.3)
        with pytest.raises(TierError, match="generation_0: its prefix cache outlives a sync"):
            client.finish_weight_update("3")
