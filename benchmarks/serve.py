"""Events over HTTP, committed before they are answered, against a bare ASGI handler that only parses the body.

    python -m benchmarks.serve [--seconds S] [--repeat N]

Both are served by uvicorn with the same options, each in a process of its own, and get the same bytes from the same
client over the same number of kept connections, by turns. What the bare handler does is the least that any server
must do: read the body, parse the JSON, answer. The rest is ours: the key, the checks, the commit.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import uvicorn

SHAPES = (("one event a request, 64 connections", 1, 64), ("100 events a request, 16 connections", 100, 16))


async def bare(scope, receive, send) -> None:
    """Read, parse, answer."""
    if scope["type"] != "http":
        return
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    orjson.loads(b"".join(parts))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"12")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"status":1}'})


@dataclass(frozen=True, slots=True)
class Run:
    """What one run came to."""

    rate: float
    p50: float
    p99: float


@contextmanager
def serving(code: str, *arguments: str) -> Iterator[tuple[int, str]]:
    """A server in a process of its own: (port, write key)."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    try:
        assert process.stdout is not None
        port, _, key = process.stdout.readline().strip().partition(" ")
        yield int(port), key
    finally:
        process.kill()
        process.wait()


def serve_bare() -> None:
    """The other side."""
    config = uvicorn.Config(
        bare, port=0, log_level="warning", access_log=False, server_header=False, lifespan="off"
    )
    server = uvicorn.Server(config)

    async def run() -> None:
        task = asyncio.ensure_future(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], "none", flush=True)
        await task

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(run())


def serve_ours(directory: str) -> None:
    """Our side."""
    from bizcode import Business
    from bizcode.serve import run
    from bizcode.serve.server import write_key

    with Business(directory) as biz:
        key = write_key(biz)
        run(biz, port=0, rate=None, started=lambda url: print(url.rpartition(":")[2], key, flush=True))


def request(key: str, size: int, number: int) -> bytes:
    """One request's bytes; each event has an id of its own, as SDKs give them."""
    events = [
        {
            "event": ("View", "View", "Signup", "Purchase")[n % 4],
            "distinct_id": f"u{(number * 7 + n) % 5_000}",
            "uuid": f"{number:012x}-{n:04x}-{time.time_ns():016x}",
            "timestamp": "2024-03-10T12:00:00Z",
            "properties": {"plan": "pro", "amount": 19.5 + n, "country": "DE", "path": "/pricing"},
        }
        for n in range(size)
    ]
    found = {"api_key": key, **events[0]} if size == 1 else {"api_key": key, "batch": events}
    body = orjson.dumps(found)
    return b"POST /batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def load(port: int, key: str, size: int, connections: int, seconds: float) -> Run:
    """As many requests as each connection gets answered, one after the other."""
    times: list[float] = []
    numbers = itertools.count()
    end = time.perf_counter() + seconds

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (start := time.perf_counter()) < end:
            writer.write(request(key, size, next(numbers)))
            start = time.perf_counter()
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
            at = head.lower().index(b"content-length: ") + 16
            await reader.readexactly(int(head[at : head.index(b"\r\n", at)]))
            times.append(time.perf_counter() - start)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    taken = time.perf_counter() - began
    times.sort()
    return Run(len(times) * size / taken, times[len(times) // 2] * 1e3, times[int(len(times) * 0.99)] * 1e3)


def median(runs: list[Run]) -> Run:
    return Run(*(statistics.median(getattr(run, name) for run in runs) for name in ("rate", "p50", "p99")))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=4)
    arguments.add_argument("--repeat", type=int, default=3)
    given = arguments.parse_args()
    import uvloop

    print(f"{'':38}{'events/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'  of bare':>9}")
    for what, size, connections in SHAPES:
        runs: dict[str, list[Run]] = {"bare": [], "bizcode": []}
        with (
            tempfile.TemporaryDirectory() as directory,
            serving("from benchmarks.serve import serve_bare; serve_bare()") as plain,
            serving(
                "import sys; from benchmarks.serve import serve_ours; serve_ours(sys.argv[1])", directory
            ) as ours,
        ):
            for _ in range(given.repeat):
                for name, (port, key) in (("bare", plain), ("bizcode", ours)):
                    runs[name].append(uvloop.run(load(port, key, size, connections, given.seconds)))
        base = median(runs["bare"]).rate
        for name, found in runs.items():
            run = median(found)
            print(
                f"{what if name == 'bare' else '':38}{run.rate:12,.0f}{run.p50:9.2f}{run.p99:9.2f}{run.rate / base:9.2f}  {name}"
            )


if __name__ == "__main__":
    main()
