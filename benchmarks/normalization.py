"""What folding normalizations brings in inference, and how fast statistics are recomputed over a data set.

python benchmarks/normalization.py [--rounds N]

Both ways of a comparison take turns within one process; a figure is the median over the rounds of the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import minigraph as mg
from minigraph.layers import BatchNormalization, BatchNormalizedMLP, Rectifier
from minigraph.transforms import fold_batch_normalization, recompute_population_statistics

NETS = {
    "64-100-100-10": [64, 100, 100, 10],
    "784-512-512-10": [784, 512, 512, 10],
    "64-100 (16 layers)-10": [64, *[100] * 16, 10],
    "64-32 (16 layers)-10": [64, *[32] * 16, 10],
}


def seconds(call: Callable[[], Any], calls: int) -> float:
    """Seconds a call takes, on the average of several."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def folding(sizes: list[int], rows: int, backend: str, rounds: int) -> tuple[float, float, float]:
    """Microseconds a call of the network as it is, and folded, and how many times as fast the latter is."""
    network = BatchNormalizedMLP([*(Rectifier() for _ in sizes[2:]), None], sizes, seed=1)
    x = mg.matrix("x", shape=(None, sizes[0]))
    y = network.apply(x)
    data = np.random.default_rng(0).normal(1, 2, (500, sizes[0])).astype("float32")
    recompute_population_statistics(y, [data])
    plain, folded = (mg.function([x], one, backend=backend) for one in (y, fold_batch_normalization(y).outputs[0]))
    batch = data[:rows].copy()
    calls = max(20, min(300, int(0.01 / seconds(lambda: plain(batch), 20))))
    seconds(lambda: folded(batch), 20)
    times = [(seconds(lambda: plain(batch), calls), seconds(lambda: folded(batch), calls)) for _ in range(rounds)]
    before, after = (statistics.median(one) * 1e6 for one in zip(*times, strict=True))
    return before, after, statistics.median(one / other for one, other in times)


def recomputation(rows: int, features: int, batch: int) -> float:
    """Seconds in which the statistics of a data set are recomputed, the best of three."""
    data = np.random.default_rng(0).normal(3, 2, (rows, features)).astype("float32")
    x = mg.matrix("x", shape=(None, features))
    y = BatchNormalization(features).apply(x)
    batches = [data[start : start + batch] for start in range(0, rows, batch)]
    return min(seconds(lambda: recompute_population_statistics(y, batches), 1) for _ in range(3))


def main() -> None:
    """Measure, and print as tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=41)
    options = parser.parse_args()
    print("| inference | rows | backend | as it is | folded | times as fast |\n| --- | --- | --- | --- | --- | --- |")
    for backend in ("native", "numpy"):
        for name, sizes in NETS.items():
            for rows in (1, 32):
                before, after, ratio = folding(sizes, rows, backend, options.rounds)
                print(f"| {name} | {rows} | {backend} | {before:.1f} us | {after:.1f} us | {ratio:.2f} |", flush=True)
    print("\n| statistics of 400,000 x 64 in minibatches of | seconds |\n| --- | --- |")
    for batch in (100, 1000, 10_000):
        print(f"| {batch} | {recomputation(400_000, 64, batch):.3f} |", flush=True)


if __name__ == "__main__":
    main()
