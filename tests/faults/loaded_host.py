"""A host under load: python loaded_host.py CONFIG-AS-JSON COMMAND ARGS...

Calls the command, which is not to return, and others. When all that is under way, it prints the
process ids of its supervisor and of two daemons, and goes on until it is killed.
"""

from __future__ import annotations

import json
import sys

import trio

from snakepit_port.harness import Host, open_host


async def keep_calling(host: Host) -> None:
    number = 0
    while True:
        number += 1
        assert await host.call(None, "add", [number, 1]) == number + 1


async def main() -> None:
    async with open_host(json.loads(sys.argv[1])) as host:
        await host.await_ready()
        daemons = [await host.call(None, "abandon") for _ in range(2)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.call, None, sys.argv[2], sys.argv[3:])
            for _ in range(16):
                nursery.start_soon(keep_calling, host)
            for number in range(100):
                await host.call(None, "add", [number, 1])
            print(json.dumps([host.os_pid, *daemons]), flush=True)


trio.run(main)
