"""Leaves a run at a checkpoint when it is asked to, instead of finishing it."""

import asyncio
import signal

from e3mega.loop.controller import Controller


async def run_or_leave(controller: Controller, asked: asyncio.Event) -> bool:
    """Finish the plan, or leave at a checkpoint as soon as ``asked`` is set; whether it left.

    What is being generated is cut short: finished groups are kept in the run folder, the others
    are generated again with the same seeds. A round that trains comes to its end first.
    """
    work = asyncio.create_task(controller.run())
    wish = asyncio.create_task(asked.wait())
    await asyncio.wait({work, wish}, return_when=asyncio.FIRST_COMPLETED)
    wish.cancel()
    if asked.is_set() and not work.done():
        return await controller.leave(work)
    await work
    return False


def asked_by_signal() -> asyncio.Event:
    """An event that SIGUSR1 sets, in the running event loop."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, asked.set)
    return asked
