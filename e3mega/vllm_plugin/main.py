"""The process of a vLLM server: stock vLLM with the key, a free port and a leash.

``python -m e3mega.vllm_plugin.main KEY_FILE ADDRESS_FILE fast|stock [vLLM's arguments]``;
``e3mega.generation.server`` becomes it.
"""

import json
import os
import sys
import time
from multiprocessing.util import register_after_fork
from pathlib import Path

from e3mega.errors import TierError, boundary
from e3mega.vllm_plugin import guard
from e3mega.vllm_plugin.die_with_parent import die_with_parent


def write_address(path: Path, host: str, port: int) -> None:
    """Tell where the server listens, by rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps({"host": host, "port": port, "pid": os.getpid()}))
    partial.rename(path)


def fork_instead_of_spawn() -> None:
    """Have vLLM fork its engine core and worker from this warm process.

    vLLM's CPU platform sets the start method to spawn in ``check_and_update_config``, so that
    each process imports torch and vLLM anew, about 17 s each on two cores. Nothing in them needs
    a fresh interpreter before the first forward pass.
    """
    from vllm.platforms.cpu import CpuPlatform

    original = CpuPlatform.check_and_update_config.__func__

    def check_and_fork(cls: type, vllm_config: object) -> None:
        original(cls, vllm_config)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    # A forked process finds vLLM's plugins loaded and does not call ours, which would tie it.
    register_after_fork(die_with_parent, lambda tie: tie())
    # setattr, for a class method is replaced by another with the same call.
    setattr(CpuPlatform, "check_and_update_config", classmethod(check_and_fork))  # noqa: B010


async def serve(arguments: list[str], address_file: Path) -> None:
    """Run vLLM's API server on a free loopback port until it is told to stop."""
    from vllm.entrypoints.launchers.api_server.entry import run_server_worker
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.entrypoints.launchers.launcher import setup_server
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    args = make_arg_parser(FlexibleArgumentParser()).parse_args(arguments)
    assert args is not None, "the parser leaves the process when it cannot parse"
    validate_parsed_serve_args(args)
    listen_address, sock = setup_server(args, reuse_port=False)
    write_address(address_file, args.host, sock.getsockname()[1])
    await run_server_worker(listen_address, sock, args)


def main(argv: list[str]) -> None:
    """Start as asked; a fast start that fails before serving becomes a stock start."""
    key_file, address_file, start, *arguments = argv
    die_with_parent()
    guard.install_key(Path(key_file).read_text().strip())
    began = time.monotonic()

    import uvloop
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup

    cli_env_setup()
    if start == "fast":
        fork_instead_of_spawn()
    try:
        with boundary(TierError, f"vLLM's {start} start failed"):
            uvloop.run(serve(arguments, Path(address_file)))
    except TierError as error:
        if start != "fast" or time.monotonic() - began > 120:
            raise
        print(f"{error}; starting as vLLM does", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "e3mega.vllm_plugin.main"]
        os.execv(sys.executable, [*command, key_file, address_file, "stock", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
