"""Which generation servers accept connections already."""

import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from e3mega.rollout.whole_file import text_if_there

_CONNECT_TIMEOUT_S = 0.2


class StartingServers:
    """The servers that do not answer yet; one that answered once is not asked again."""

    def __init__(self, addresses: Mapping[str, Path]) -> None:
        self._waiting = dict(addresses)
        self._began = time.monotonic()

    def look(self) -> dict[str, float]:
        """Seconds since the start for each server that does not answer yet."""
        self._waiting = {
            name: address for name, address in self._waiting.items() if not _answers(address)
        }
        return dict.fromkeys(self._waiting, time.monotonic() - self._began)


def _answers(address_file: Path) -> bool:
    """Whether a server listens where the file says; it is bound long before it listens."""
    text = text_if_there(address_file)
    if not text:
        return False
    address = json.loads(text)
    try:
        connection = socket.create_connection(
            (address["host"], address["port"]), timeout=_CONNECT_TIMEOUT_S
        )
    except OSError:
        return False
    connection.close()
    return True
