"""An open load generator: requests arrive as they do from many independent people.

Arrivals are a Poisson process of a fixed rate, whatever the service answers; that is what makes a
queue. With `--even` they keep the same distance, so that five seconds of a low rate are like the
next five. Bounded: it ends by itself after `--seconds`, never has more than 200 requests under way.

Run as `python tests/live/load.py --rate 80 --seconds 60 --seed 1 URL...`. At its end, or on
SIGTERM, it prints one line of JSON: how many requests had which outcome.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import signal
import sys
from collections import Counter
from urllib.parse import urlsplit

import numpy as np

MAX_IN_FLIGHT = 200
TIMEOUT_S = 10.0


async def request(url: str, results: Counter[str]) -> None:
    """One GET on a connection of its own, without a library: the driver must cost little."""
    parts = urlsplit(url)
    head = f"GET / HTTP/1.1\r\nhost: {parts.netloc}\r\nconnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(head.encode())
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
        results[answer.split()[1].decode()] += 1
    except (OSError, TimeoutError, IndexError) as exc:
        results[type(exc).__name__] += 1


async def drive(args: argparse.Namespace, stop: asyncio.Event) -> Counter[str]:
    rng = np.random.default_rng(args.seed)
    loop = asyncio.get_running_loop()
    targets = itertools.cycle(args.urls)
    results: Counter[str] = Counter()
    pending: set[asyncio.Task[None]] = set()
    due = started = loop.time()
    while due < started + args.seconds and not stop.is_set():
        due += 1 / args.rate if args.even else float(rng.exponential(1 / args.rate))
        await asyncio.sleep(max(0.0, due - loop.time()))
        if len(pending) >= MAX_IN_FLIGHT:
            results["not sent"] += 1
            continue
        task = asyncio.create_task(request(next(targets), results))
        pending.add(task)
        task.add_done_callback(pending.discard)
    await asyncio.gather(*pending)
    return results


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("urls", nargs="+")
    parser.add_argument("--rate", type=float, required=True, help="requests per second, all URLs")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--even", action="store_true", help="the same time between any two")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    results = await drive(args, stop)
    sys.stdout.write(json.dumps(results) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
