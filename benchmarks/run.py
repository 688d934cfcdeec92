"""The benchmark suite: minigraph against the frameworks that users would otherwise pick, in one interleaved run.

python benchmarks/run.py [--quick] [--rounds N] [--only PART] [--save] [--table]

Every framework runs in a process of its own. They take turns, a few calls each, so that all meet the same state of the
machine; a figure is the median over the rounds of the ratio of medians, minigraph over peer, with its quartiles. With --save
the figures go to benchmarks/baseline.json; otherwise those that got more than a tenth worse than there are listed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from frameworks.work import HIDDEN, IMAGES, MICRO, MICRO_SIZES, NETS
from import_time import AS_USERS, import_seconds

HERE = Path(__file__).parent
BASELINE = HERE / "baseline.json"
LIBRARIES = {
    "minigraph": "numpy networkx llvmlite scipy-openblas32",
    "jax": "jax jaxlib numpy scipy ml_dtypes opt_einsum",
    "torch": "torch numpy sympy mpmath networkx jinja2 filelock fsspec typing_extensions",
    "pytensor": "pytensor numba llvmlite numpy scipy",
}
"""What has to be installed for each framework, itself included."""
PEERS = ("numpy", "torch", "torch fused", "torch cells", "torch compiled", "jax", "pytensor", "limit")
PAUSE = 0.1
"""Seconds between the turns of two frameworks. OpenBLAS' threads spin for some 25 ms after the last product, and would slow
down whoever comes next: after a pause of 20 ms a training step of 0.9 ms was seen to take 1.7."""


class Worker:
    """A framework's process; what minigraph compiles is not kept, unless in the directory `cache`."""

    def __init__(
        self, name: str, cache: str = "off", tree: Path = HERE.parent, script: str = "worker.py",
        environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """The process of the framework `name`.

        cache: the directory of what minigraph compiles. tree: the checkout of minigraph that works. script: the program of
        the process, in its folder `benchmarks`. environment: variables that it finds besides.
        """
        self.name = name
        self.error: str | None = None
        """The reason for which the last request failed."""
        self._process = subprocess.Popen(
            [sys.executable, str(tree / "benchmarks" / script), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
            env={**AS_USERS, "MINIGRAPH_CACHE": cache, "PYTHONPATH": str(tree), **(environment or {})},
        )  # fmt: skip

    @property
    def alive(self) -> bool:
        """Whether the process can be asked for more."""
        return self._process.poll() is None

    def ask(self, **request: Any) -> Any:
        """The answer to a request; None if the framework cannot do it."""
        self.send(**request)
        return self.receive()

    def send(self, **request: Any) -> None:
        """Ask, and go on without the answer."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def receive(self, patience: float | None = None) -> Any:
        """The answer to what was sent; None if the framework cannot do it.

        patience: the seconds after which a process without an answer is ended, and the answer is None.
        """
        assert self._process.stdout
        if select.select([self._process.stdout], [], [], patience)[0]:
            reply = json.loads(self._process.stdout.readline() or '{"error": "it died"}')
        else:
            reply = {"error": f"no answer within {patience:.0f} s"}
            self._process.kill()
            self._process.wait()
        self.error = reply.get("error")
        if self.error:
            print(f"    {self.name}: {self.error}"[:160], flush=True)
        return reply.get("ok")

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()


def interleaved(
    workers: list[Worker], rounds: int, budget: float, pause: float = PAUSE, fewest: int = 3
) -> dict[str, list[float]]:
    """The median seconds a call of each framework, for each round.

    budget: about the seconds of a turn, before which there is a `pause`. fewest: the least number of calls of a turn.
    """
    counts = {}
    for worker in workers:
        warm = worker.ask(time=3)
        counts[worker.name] = max(fewest, min(500, int(budget / max(min(warm), 1e-6))))
    medians: dict[str, list[float]] = {worker.name: [] for worker in workers}
    for _ in range(rounds):
        for worker in workers:
            time.sleep(pause)
            worker.ask(time=counts[worker.name] // 4)  # caches and threads wake up
            medians[worker.name].append(statistics.median(worker.ask(time=counts[worker.name])))
    return medians


def compare(title: str, case: list[Any], names: list[str], rounds: int, budget: float) -> dict[str, Any]:
    """One case in all frameworks: prints a line each, returns the ratios."""
    print(f"\n{title}", flush=True)
    workers = [Worker(name) for name in names]
    for worker in workers:
        worker.ask(memory=0)  # all have imported what they need before the first compiles
    first = {worker.name: worker.ask(make=case) for worker in workers}
    able = [worker for worker in workers if first[worker.name] is not None]
    medians = interleaved(able, rounds, budget)
    memory = {worker.name: worker.ask(memory=0) for worker in able}
    for worker in workers:
        worker.close()
    ours = medians["minigraph"]
    results: dict[str, Any] = {}
    for name, theirs in medians.items():
        ratios = sorted(one / other for one, other in zip(ours, theirs, strict=True))
        low, middle, high = (ratios[round(q * (len(ratios) - 1))] for q in (0.25, 0.5, 0.75))
        results[name] = {
            "us": statistics.median(theirs) * 1e6, "ratio": middle, "low": low, "high": high, "first": first[name],
            "memory": memory[name],
        }  # fmt: skip
        print(
            f"  {name:16} {statistics.median(theirs) * 1e6:12.1f} us   ratio {middle:5.2f} ({low:.2f} ... {high:.2f})   "
            f"first call {first[name]:6.2f} s   {memory[name] / 2**20:6.0f} MiB",
            flush=True,
        )
    return results


Case = tuple[str, list[Any], list[str]]
"""The title of a case, what workers make of it, and who can."""


def all_cases(quick: bool) -> list[Case]:
    """Everything that is measured."""
    peers = [name for name in PEERS if name != "torch cells" and not (quick and name in ("torch compiled", "pytensor"))]
    everybody = ["minigraph", *peers]
    others = [name for name in everybody if name != "limit"]
    cases: list[Case] = []
    for name, (sizes, count) in NETS.items():
        for optimizer in ("momentum", "adam"):
            cases.append((f"training step {name}, {optimizer}", ["mlp_step", sizes, count, optimizer], everybody))
    for name, (sizes, count) in NETS.items():
        cases.append((f"inference {name}", ["mlp_inference", sizes, count], others))
    for name in ("784-512-512-10, 128", "64-100-100-10, 32"):
        cases.append((f"inference of one row {name.split(',')[0]}", ["mlp_inference", NETS[name][0], 1], others))
    for kernel in MICRO:
        for elements in MICRO_SIZES:
            cases.append((f"{kernel} of {elements:.0e}", ["micro", kernel, elements], others))
    recurrent = ["minigraph", "torch", "torch fused", "torch cells", *([] if quick else ["torch compiled"]), "jax"]
    for kind, title in (("lstm_step", "training step of an LSTM"), ("lstm_inference", "inference of an LSTM")):
        for hidden in HIDDEN:
            for normalized in (False, True):
                name = f"{title} of {hidden}{', normalized' if normalized else ''}"
                able = [one for one in recurrent if not normalized or one not in ("torch", "torch fused")]
                cases.append((name, [kind, hidden, normalized], able))
    spatial = ["minigraph", "torch", "torch fused", *([] if quick else ["torch compiled"]), "jax"]
    for kind, title in (("cnn_step", "training step of a CNN"), ("cnn_inference", "inference of a CNN")):
        for name, (channels, size) in IMAGES.items():
            cases.append((f"{title} on {name}", [kind, channels, size], spatial))
    return cases


def measure(quick: bool, rounds: int, only: str) -> dict[str, Any]:
    """The cases with a text in their titles, by title."""
    budget = 0.1 if quick else 0.2
    chosen = [case for case in all_cases(quick) if only in case[0]]
    return {title: compare(title, case, names, rounds, budget) for title, case, names in chosen}


def start_to_first_step(names: list[str], runs: int) -> dict[str, float]:
    """Seconds from the start of a fresh process to the end of its first training step, the best of a few.

    PyTorch and PyTensor find what earlier processes compiled, and so does minigraph, once with and once without.
    """
    sizes, count = NETS["784-512-512-10, 128"]
    print("\nprocess start to the end of the first training step, 784-512-512-10, 128, momentum", flush=True)
    best = {}
    with tempfile.TemporaryDirectory() as kept:
        ours = [("minigraph", "minigraph", kept), ("nothing kept", "minigraph", "off")]
        for title, name, cache in [*ours, *((name, name, "off") for name in names)]:
            seconds = [one for _ in range(runs) if (one := _first_step(name, cache, sizes, count)) is not None]
            if seconds:
                best[title] = min(seconds)
                print(f"  {title:16} {best[title]:6.2f} s   ratio {best['minigraph'] / best[title]:5.2f}", flush=True)
    return best


def _first_step(name: str, cache: str, sizes: tuple[int, ...], count: int) -> float | None:
    """Seconds from the start of one process to the end of its first training step."""
    start = time.perf_counter()
    worker = Worker(name, cache)
    reply = worker.ask(make=["mlp_step", sizes, count, "momentum"])
    seconds = time.perf_counter() - start
    worker.close()
    return None if reply is None else seconds


def compile_against_depth(depths: list[int]) -> dict[int, float]:
    """Seconds to build, differentiate, compile and run the first step of normalized layers, each in a fresh process."""
    print("\nbuild, gradients, Adam, compile and first step, against the number of normalized layers", flush=True)
    seconds: dict[int, float] = {}
    for depth in depths:
        worker = Worker("minigraph")
        worker.ask(make=["micro", "softmax", 1000])  # imports and what is compiled once for all
        seconds[depth] = worker.ask(make=["compile_time", depth])
        worker.close()
        before = seconds.get(depth // 2)
        growth = f"   T(2n)/T(n) {seconds[depth] / before:4.2f}" if before else ""
        print(f"  {depth:4} layers {seconds[depth]:7.2f} s{growth}", flush=True)
    return seconds


def footprint() -> dict[str, tuple[float, float]]:
    """Seconds of an import in a fresh process, the best of a few, and bytes of what is installed, for each framework."""
    found = {}
    print("\nimport, and installed size", flush=True)
    for name, libraries in LIBRARIES.items():
        files = [path for library in libraries.split() for path in distribution(library).files or ()]
        size = sum(place.stat().st_size for path in files if (place := Path(path.locate())).is_file())
        if name == "minigraph":  # it is installed as a link to the sources
            size += sum(path.stat().st_size for path in (HERE.parent / "minigraph").rglob("*.py"))
        found[name] = min(import_seconds(name) for _ in range(5)), size
        print(f"  {name:16} {found[name][0]:6.2f} s   {size / 2**20:6.0f} MiB", flush=True)
    return found


def got_worse(now: dict[str, Any], before: dict[str, Any]) -> list[str]:
    """The ratios that are more than a tenth above those of the baseline."""
    return [
        f"{title}, over {name}: {result['ratio']:.2f}, was {before[title][name]['ratio']:.2f}"
        for title, results in now.items()
        if title in before
        for name, result in results.items()
        if name in before[title] and result["ratio"] > 1.1 * before[title][name]["ratio"]
    ]


def table(results: dict[str, Any]) -> str:
    """The ratios as a table in Markdown: the median, and the quartiles."""
    rows = [["work", "minigraph", *PEERS], ["---"] * (2 + len(PEERS))]
    for title, found in results.items():
        us = found["minigraph"]["us"]
        ratios = [
            f"{one['ratio']:.2f} ({one['low']:.2f} ... {one['high']:.2f})" if (one := found.get(name)) else "" for name in PEERS
        ]
        rows.append([title, f"{us:,.{0 if us > 100 else 1}f} us", *ratios])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def machine() -> str:
    """The processor and the number of cores that this process may use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    cores = sum(line.startswith("processor") for line in lines)
    return f"{model}, {cores} cores, Python {platform.python_version()}"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, without the peers that compile slowly")
    parser.add_argument("--rounds", type=int, default=0, help="how many turns every framework has")
    parser.add_argument("--only", default="", help="only cases whose title contains this")
    parser.add_argument("--save", action="store_true", help="make these figures the baseline")
    parser.add_argument("--table", action="store_true", help="print the baseline as a table, and measure nothing")
    options = parser.parse_args()
    before = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    if options.table:
        print(table(before))
        return
    print(machine(), flush=True)
    results = measure(options.quick, options.rounds or (5 if options.quick else 15), options.only)
    if not options.only:
        names = ["jax", "torch", "pytensor", *([] if options.quick else ["torch compiled"])]
        start_to_first_step(names, 2 if options.quick else 5)
        footprint()
        compile_against_depth([8, 16, 32, 64] if options.quick else [8, 16, 32, 64, 128, 256])
    for line in got_worse(results, before):
        print(f"worse: {line}")
    if options.save:
        BASELINE.write_text(json.dumps({**before, **results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
