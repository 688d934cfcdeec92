"""Cases in all frameworks: results are compared first, then the frameworks take turns."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from run import Worker, interleaved

from survey.case import Case, Way
from survey.machine import limit

OURS, OURS_LAST = "minigraph", "minigraph channels-last"
PEERS = ("jax", "torch", "torch channels-last", "torch compiled", "pytensor", "numpy")
FRAMEWORKS = (OURS, OURS_LAST, *PEERS)
ASKED_BY_NAME = ("torch compiled", "pytensor")
"""Frameworks that compile too slowly to be asked for every case."""
SCRIPT = "survey/worker.py"
BUDGET, PAUSE, PATIENCE = 0.02, 0.03, 100.0
"""Seconds of a turn, before a turn, and until a framework that does not answer is given up."""
CALLS_FOR_MEMORY = 3
"""The calls after which a process has held all the memory that it will."""
SOON_ASLEEP = {"OPENBLAS_THREAD_TIMEOUT": "22"}
"""NumPy's threads wait for work in a loop for 2 ** 22 cycles, not 2 ** 28, which would go on in the turns of the others."""
TOLERANCES = {"float16": 2e-2, "float32": 1e-3, "float64": 1e-8}


@dataclass
class Row:
    """The figures of a case.

    seconds: those of a call, by framework. notes: the reasons why others could not do it. errors: the ways in which results
    of others differ. least: the seconds that the machine takes at least.
    """

    name: str
    family: str
    seconds: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    least: float = 0.0

    @property
    def ours(self) -> float | None:
        """minigraph's seconds, in the better layout of images; None if it could not do the case."""
        return min((self.seconds[name] for name in (OURS, OURS_LAST) if name in self.seconds), default=None)

    @property
    def ratios(self) -> dict[str, float]:
        """minigraph over each peer."""
        ours = self.ours
        return {} if ours is None else {name: ours / self.seconds[name] for name in PEERS if name in self.seconds}

    @property
    def worst(self) -> float | None:
        """minigraph over its best peer; None without one."""
        return max(self.ratios.values(), default=None)

    def as_record(self) -> dict[str, Any]:
        """The fields, for a file."""
        return asdict(self)


class Survey:
    """The processes of the frameworks, which stay for all cases."""

    def __init__(self, names: list[str], rounds: int) -> None:
        """names: the frameworks, the first of which the others are compared with. rounds: the number of turns of each; with
        0 results are compared, and every time is a second."""
        self._rounds = rounds
        self._names = names
        self._workers = {names[0]: _started(names[0])}
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "limits.json"
            self._workers[names[0]].ask(make=["limits", str(path)], first=False)
            self.machine: dict[str, Any] = json.loads(path.read_text())

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers.values():
            worker.close()

    def measure(self, case: Case) -> Row:
        """The figures of a case in all frameworks that can do it."""
        row = Row(case.name, case.family)
        asked = [name for name in self._names if _is_asked(name, case)]
        row.notes |= {name: reason for name, reason in case.spared.items() if name in asked}
        names = [name for name in asked if name not in row.notes]
        first = self._first_calls(case, names, row) if case.way is Way.FIRST else self._made(case, names, row)
        agreeing = self._agreeing(case, list(first), row)
        if not self._rounds:
            row.seconds = dict.fromkeys(agreeing, 1.0)
        elif case.way is Way.FIRST:
            row.seconds = {name: first[name] for name in agreeing}
        elif case.way is Way.SHAPES:
            row.seconds = self._new_shapes(agreeing)
        else:
            workers = [self._workers[name] for name in agreeing]
            medians = interleaved(workers, self._rounds, BUDGET, PAUSE, fewest=2)
            row.seconds = {name: statistics.median(times) for name, times in medians.items()}
        return row

    def _made(self, case: Case, names: list[str], row: Row) -> dict[str, float]:
        """The seconds to the end of the first call of those that can do the case; they all compile at once."""
        for name in names:
            if name not in self._workers or not self._workers[name].alive:
                self._workers[name] = _started(name)
            self._workers[name].send(make=["case", case.name])
        return self._received(names, row)

    def _first_calls(self, case: Case, names: list[str], row: Row) -> dict[str, float]:
        """The same, in fresh processes, one after the other."""
        seconds: dict[str, float] = {}
        for name in names:
            if name in self._workers:
                self._workers[name].close()
            self._workers[name] = _started(name)
            self._workers[name].send(make=["case", case.name])
            seconds |= self._received([name], row)
        return seconds

    def _received(self, names: list[str], row: Row) -> dict[str, float]:
        """The answers, where there are any; the reasons of the others go to the row."""
        seconds = {}
        for name in names:
            reply = self._workers[name].receive(PATIENCE)
            if reply is None:
                row.notes[name] = _reason(self._workers[name].error or "no reason given")
            else:
                seconds[name] = reply
        return seconds

    def _agreeing(self, case: Case, names: list[str], row: Row) -> list[str]:
        """The frameworks whose results equal those of the first; the differences of the others go to the row."""
        found: dict[str, list[np.ndarray]] = {}
        with tempfile.TemporaryDirectory() as place:
            for name in names:
                path = Path(place) / f"{name}.npz"
                if self._workers[name].ask(make=["results", str(path)], first=False) is not None:
                    with np.load(path) as arrays:
                        found[name] = list(arrays.values())
                else:
                    row.notes[name] = _reason(self._workers[name].error or "no reason given")
        if not found:
            return []
        first = next(iter(found))
        row.least = _least(case, found[first], self.machine)
        differences = {name: difference(found[first], arrays, case.tolerance) for name, arrays in found.items()}
        disagreeing = {name: one for name, one in differences.items() if one}
        peers = [name for name in found if name in PEERS]
        if first == OURS and len(peers) > 1 and all(name in disagreeing for name in peers):
            disagreeing = {OURS: f"all disagree: {disagreeing[peers[0]]}"}
        row.errors |= disagreeing
        for name, one in disagreeing.items():
            print(f"    {name}: {one}", flush=True)
        return [name for name in found if name not in disagreeing]

    def _new_shapes(self, names: list[str]) -> dict[str, float]:
        """The median seconds of calls with new sizes."""
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(self._rounds):
            for name in names:
                time.sleep(PAUSE)
                seconds[name] += self._workers[name].ask(time=2)
        return {name: statistics.median(times) for name, times in seconds.items()}


def memory(case: Case, names: list[str]) -> dict[str, tuple[int, int]]:
    """The greatest resident bytes of a process of each framework that can do a case: before it, and after some calls."""
    found = {}
    for name in [one for one in names if _is_asked(one, case) and one not in case.spared]:
        worker = _started(name)
        before = worker.ask(memory=0)
        worker.send(make=["case", case.name])
        if worker.receive(PATIENCE) is not None:
            worker.ask(time=CALLS_FOR_MEMORY)
            found[name] = before, worker.ask(memory=0)
        worker.close()
    return found


def _started(name: str) -> Worker:
    """A process that has imported what it needs."""
    threads = str(len(os.sched_getaffinity(0)))
    environment = {f"{name}_NUM_THREADS": threads for name in ("OMP", "MKL", "OPENBLAS", "NUMBA", "MINIGRAPH")}
    worker = Worker(name, script=SCRIPT, environment=environment | SOON_ASLEEP)
    worker.ask(memory=0)
    return worker


def _is_asked(name: str, case: Case) -> bool:
    """Whether a framework is of interest for a case."""
    if name.endswith("channels-last"):
        return case.images
    return name not in ASKED_BY_NAME or name in case.asks


def _reason(error: str) -> str:
    """The first line of an error, without its class where a framework says that it cannot."""
    return error.removeprefix("UnsupportedError: ").strip().split("\n")[0][:150]


def _least(case: Case, results: list[np.ndarray], machine: dict[str, Any]) -> float:
    """The seconds that the machine takes for a case at least."""
    arrays = [one for one in [*case.arguments(), *results] if isinstance(one, np.ndarray)]
    dtype = "float64" if any(one.dtype == "float64" for one in arrays) else "float32"
    return limit(machine, case.flops, case.bytes or sum(one.nbytes for one in arrays), dtype)


def difference(ours: list[np.ndarray], theirs: list[np.ndarray], tolerance: float = 0.0) -> str:
    """The way in which results differ by more than a tolerance, relative to the greatest element; empty if they do not."""
    if [one.shape for one in ours] != [one.shape for one in theirs]:
        return f"shapes {[one.shape for one in theirs]} instead of {[one.shape for one in ours]}"
    floats = [one.dtype.name for one in [*ours, *theirs] if one.dtype.kind == "f"]
    bound = tolerance or max((TOLERANCES[name] for name in floats), default=0.0)
    for a, b in zip(ours, theirs, strict=True):
        x, y = a.astype("float64"), b.astype("float64")
        if (np.isnan(x) != np.isnan(y)).any():
            return "NaN in other places"
        scale = max(np.nanmax(np.abs(y), initial=0.0), 1e-30)
        error = np.nanmax(np.abs(x - y), initial=0.0) / scale
        if not error <= bound:
            return f"results differ by {error:.1e} of the greatest"
    return ""
