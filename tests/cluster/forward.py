"""`python -m tests.cluster.forward FROM=TO …`: hands connections on, each FROM and TO an address with its port.

The pretend sides speak plain HTTP, which the portal takes from this machine's loopback alone: so every host has them
there, and what is forwarded goes over the hosts' cables.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def _serve(listen: str, to: str) -> None:
    host, _, port = to.rpartition(":")

    running: set[asyncio.Task[None] | None] = set()  # asyncio itself keeps no hold of them

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.add(asyncio.current_task())
        try:
            there, back = await asyncio.wait_for(asyncio.open_connection(host, int(port)), 5)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(_pump(reader, back), _pump(there, writer))
        for each in (back, writer):
            each.close()
        running.discard(asyncio.current_task())

    mine, _, number = listen.rpartition(":")
    server = await asyncio.start_server(connected, mine, int(number))
    await server.serve_forever()


async def main(pairs: list[str]) -> None:
    """Until it is ended."""
    await asyncio.gather(*(_serve(*pair.split("=")) for pair in pairs))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
