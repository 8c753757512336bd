"""The host's side of the demo without Elixir: scripts/demo runs it with CONFIG FILES PROGRESS."""

from __future__ import annotations

import collections
import sys
import time

import trio

from snakepit_port.harness import CallError, Host, open_host

BATCH = 200

#: Errors that are told one by one.
SHOWN = 3


async def main(config: str, limit: int, progress: str) -> int:
    async with open_host(config) as host:
        await host.await_ready()
        paths = await host.call("parse", "library", [limit])
        print(f"{len(paths)} files of the standard library, two workers", flush=True)

        start = time.monotonic()
        reports, failures = await parse(host, paths, "parse", 2, progress)
        if not reports:
            print("error: no file could be read", file=sys.stderr)
            tell(failures)
            return 1
        batches = [reports[at : at + BATCH] for at in range(0, len(reports), BATCH)]
        merged = [await host.call("rank", "merge", [batch]) for batch in batches]
        report = await host.call("rank", "merge", [merged])
        seconds = time.monotonic() - start

        workers = [
            [worker["pool"], worker["id"], worker["requests"]]
            for worker in await host.workers()
            if worker["pool"] != "parse_alone"
        ]
        table = [report, by_class(failures), workers, seconds]
        print("\n" + await host.call("rank", "table", table))

        print("\nparsing again, to compare", flush=True)
        taken = []
        for pool, workers_of, label in (("parse_alone", 1, "1 worker "), ("parse", 2, "2 workers")):
            start = time.monotonic()
            await parse(host, paths, pool, workers_of, "none")
            taken.append(time.monotonic() - start)
            print(f"  {label}  {taken[-1]:.2f} s", flush=True)
        print(f"  ratio      {taken[1] / taken[0]:.2f} (at most 0.65 is good on two cores)")
        return tell(failures)


def tell(failures: list[CallError]) -> int:
    """What a file has wrong with it is a result. That a worker died, say, is not."""
    errors = [error for error in failures if error.type != "exception"]
    for error in errors[:SHOWN]:
        print(f"error: {error}", file=sys.stderr)
    if len(errors) > SHOWN:
        print(f"error: {len(errors) - SHOWN} more calls failed", file=sys.stderr)
    return 1 if errors else 0


async def parse(
    host: Host, paths: list[str], pool: str, workers: int, progress: str
) -> tuple[list[dict[str, object]], list[CallError]]:
    reports: list[dict[str, object]] = []
    failures: list[CallError] = []
    waiting = iter(paths)

    async def caller() -> None:
        for path in waiting:
            try:
                reports.append(await host.call(pool, "parse", [path]))
            except CallError as error:
                failures.append(error)
            show(progress, len(reports) + len(failures), len(paths))

    # Enough calls at a time that no worker waits for one; far fewer than the queue takes.
    async with trio.open_nursery() as nursery:
        for _ in range(2 * workers + 4):
            nursery.start_soon(caller)
    return reports, failures


def by_class(failures: list[CallError]) -> list[list[object]]:
    counts = collections.Counter(error.exception or error.type for error in failures)
    traced = collections.Counter(
        error.exception or error.type for error in failures if error.traceback
    )
    return [[name, count, traced[name]] for name, count in counts.items()]


def show(progress: str, done: int, total: int) -> None:
    if progress == "bar":
        bar = "#" * (40 * done // total)
        print(f"\r[{bar:.<40}] {done}/{total}", end="\n" if done == total else "", flush=True)
    elif progress == "lines" and (done % 500 == 0 or done == total):
        print(f"  {done}/{total}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(trio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3]))
    except CallError as failure:
        sys.exit(f"error: {failure}")
