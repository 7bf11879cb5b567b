"""Nothing of a server answers without the run's key."""

import http.client
import re
import time
from http.client import HTTPConnection

import pytest

from tests.e2e.tier import Tier

pytestmark = pytest.mark.e2e

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def routes(tier: Tier) -> tuple[dict[str, list[str]], list[str]]:
    """Methods by path, and the paths without methods (WebSockets), as vLLM lists both."""
    plain = re.findall(r"Route: (\S+), Methods: (.+)", tier.job.log.read_text())
    others = re.findall(r"Route: (\S+), Endpoint:", tier.job.log.read_text())
    return {path: methods.split(", ") for path, methods in plain}, others


def status(tier: Tier, method: str, path: str, headers: dict[str, str]) -> int:
    connection = HTTPConnection(*tier.address, timeout=30)
    connection.request(method, re.sub(r"\{.*?\}", "1", path), headers=headers)
    found = connection.getresponse().status
    connection.close()
    return found


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"X-API-Key": "wrong"},
    ],
)
def test_every_route_asks_for_the_key(tier: Tier, headers: dict[str, str]) -> None:
    plain, others = routes(tier)
    assert {"/inference/v1/generate", "/update_weights", "/collective_rpc"} <= plain.keys()
    assert len(plain) > 30, "development routes are among them"
    unknown = {path: ["GET"] for path in ("/unknown", "/metrics", "/docs", "/openapi.json", "//")}
    for path, methods in {**plain, **unknown}.items():
        for method in methods:
            assert status(tier, method, path, headers) == 401, (method, path)
    for path in ("/inference/v1/generate", "/unknown"):
        for method in METHODS:
            assert status(tier, method, path, headers) == 401, (method, path)
    for path in (*others, "/v1/realtime", "/unknown"):
        assert status(tier, "GET", path, {**headers, **HANDSHAKE}) == 401, path


def test_the_key_opens(tier: Tier) -> None:
    key = {"Authorization": f"Bearer {tier.key}"}
    assert status(tier, "GET", "/health", key) == 200
    assert status(tier, "GET", "/unknown", key) == 404


def test_the_server_keeps_an_idle_connection(tier: Tier) -> None:
    """A server that closed it could do so while the next request is on its way."""
    key = {"Authorization": f"Bearer {tier.key}"}
    connection = http.client.HTTPConnection(*tier.address, timeout=30)
    for pause_s in (0, 7):  # uvicorn's own limit is 5
        time.sleep(pause_s)
        connection.request("GET", "/health", headers=key)
        response = connection.getresponse()
        assert response.status == 200
        response.read()
        assert connection.sock is not None, "the server says that it closes the connection"
    connection.close()
