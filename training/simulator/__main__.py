"""Print the figures of `training.simulator.validation`."""

from __future__ import annotations

import time

from training.objective import DEFAULT_OBJECTIVE
from training.simulator.validation import static_pods, throughput


def main() -> None:
    """Speed by number of lanes, then both engines with static pods."""
    for lanes in (256, 1024, 4096, 8192):
        rate = throughput(lanes, 240, DEFAULT_OBJECTIVE, time.process_time)
        print(f"{lanes:5d} lanes: {rate:9,.0f} decisions per second of one core")
    for discipline in ("sharing", "shared"):
        print(f"\n{discipline}: pods, utilization, slow requests in event and fast engine")
        for case in static_pods(discipline, DEFAULT_OBJECTIVE, minutes=60):
            print(
                f"{case.pods:4d} {case.utilization:6.2f} {case.exact:9.3%} {case.fast:9.3%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
