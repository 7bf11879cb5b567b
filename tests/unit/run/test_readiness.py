"""A server starts until it accepts a connection."""

import json
import socket
from pathlib import Path

from e3mega.run.readiness import StartingServers


def test_a_server_is_ready_when_it_listens_and_is_not_asked_again(tmp_path: Path) -> None:
    address = tmp_path / "generation_0.json"
    servers = StartingServers({"generation_0": address})
    assert list(servers.look()) == ["generation_0"]
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address.write_text(json.dumps({"host": "127.0.0.1", "port": server.getsockname()[1]}))
        assert list(servers.look()) == ["generation_0"]
        server.listen()
        assert servers.look() == {}
    assert servers.look() == {}
