"""minigraph on a CUDA GPU: is it right there, and how fast beside PyTorch and JAX on the same card?

python benchmarks/gpu.py [--quick] [--no-checks] [--save]

Runs tests/compiler/cuda/gpu_checks.py (ops, random graphs, loops, examples) in several processes, then each framework in one
of its own. A figure is the median of several runs of many calls, enqueued one after the other over data on the GPU, with one
wait in the end. Bytes a second count what a normalization must move if its arrays fit no cache, beside a copy measured in the
same way. With --save the figures go into the last section of benchmarks/RESULTS.md. It is made to end in 8 minutes. Besides
what it compares it needs networkx, SciPy, pytest (with xdist, to check in several processes), and for the examples scikit-
learn, matplotlib and tqdm. Products are in float32.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "RESULTS.md"
HEADING = "## On a GPU"
FRAMEWORKS = ("minigraph", "torch", "torch compiled", "torch graph", "jax")
CHECKS_SECONDS, FRAMEWORK_SECONDS = 200, 55
"""How long all checks, and one framework, may take."""
PROCESSES = 8


def checks() -> str:
    """The last lines of the checks."""
    spread = ["-n", str(PROCESSES)] if importlib.util.find_spec("xdist") else []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir=.", *spread]
    command += ["--confcutdir=.", "-W", "ignore::pytest.PytestUnknownMarkWarning", "compiler/cuda/gpu_checks.py"]
    out, errors, finished = finished_in(command, CHECKS_SECONDS, ROOT / "tests")
    print(out[-6000:], errors[-2000:])
    if not finished:
        return f"not finished after {CHECKS_SECONDS} s"
    return out.strip().splitlines()[-1] if out.strip() else f"nothing was run: {errors[-300:]}"


def finished_in(command: list[str], seconds: float, place: Path) -> tuple[str, str, bool]:
    """What a command prints, and whether it ended in time; if not, it is ended with all its processes."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=place, stdout=pipe, stderr=pipe, text=True, env=environment(), start_new_session=True
    ) as process:
        try:
            return *process.communicate(timeout=seconds), True
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return *process.communicate(), False


def environment() -> dict[str, str]:
    """What the processes run with: this tree, installed or not."""
    path = os.pathsep.join([str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def measured(framework: str, quick: bool) -> dict[str, Any]:
    """The figures of a framework, from a process of its own; those that were there when it had to stop."""
    command = [sys.executable, str(HERE / "gpu_worker.py"), framework, *(["--quick"] if quick else [])]
    found: dict[str, Any] = {}
    started = time.monotonic()
    out, errors, _ = finished_in(command, FRAMEWORK_SECONDS, HERE)
    for line in out.splitlines():
        if line.startswith("{"):
            found |= json.loads(line)
    print(
        f"{framework}: {len(found)} figures in {time.monotonic() - started:.0f} s",
        errors[-1500:] if not found else "",
        flush=True,
    )
    return found


def tables(figures: dict[str, dict[str, Any]], checked: str) -> list[str]:
    """The figures as Markdown."""
    ours = figures.get("minigraph", {})
    card = next((one["card"] for one in figures.values() if "card" in one), "no GPU")
    versions = ", ".join(f"{name} {one['version']}" for name, one in figures.items() if "version" in one)
    lines = [HEADING, "", f"{card}, Python {platform.python_version()}; {versions}.", "", f"Checks: {checked}", ""]
    cases = [name for name in ours if isinstance(ours[name], float)]
    names = [name for name in FRAMEWORKS if name in figures]
    lines += [f"| microseconds | {' | '.join(names)} | of the best peer |", "|---" * (len(names) + 2) + "|"]
    for case in cases:
        times = {name: figures[name].get(case) for name in names}
        peers = [one for name, one in times.items() if name != "minigraph" and one]
        ratio = f"{ours[case] / min(peers):.2f}" if peers else ""
        cells = [f"{1e6 * one:.1f}" if one else "-" for one in times.values()]
        lines.append(f"| {case} | {' | '.join(cells)} | {ratio} |")
    moved = [name for name in ours.get("bytes", {}) if name in ours]
    if moved:
        copy = ours["copy"]
        lines += ["", f"A copy moves {copy / 1e9:,.0f} GB/s. minigraph's kernels, by what they must read and write:", ""]
        lines += ["| kernel | GB/s | of the copy |", "|---|---|---|"]
        for case in moved:
            rate = ours["bytes"][case] / ours[case]
            lines.append(f"| {case} | {rate / 1e9:,.0f} | {rate / copy:.2f} |")
    if "launches" in ours:
        lines += [
            "",
            "Launches and products of a step: " + "; ".join(f"{one}: {count}" for one, count in ours["launches"].items()),
        ]
    return lines


def main() -> None:
    """Check, measure, print, and save if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few calls of small cases")
    parser.add_argument("--no-checks", action="store_true")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    checked = "not run" if options.no_checks else checks()
    figures = {name: found for name in FRAMEWORKS if (found := measured(name, options.quick))}
    lines = tables(figures, checked)
    print("\n".join(lines))
    if options.save and figures.get("minigraph"):
        before = RESULTS.read_text().partition(HEADING)[0].rstrip()
        RESULTS.write_text("\n".join([before, "", *lines, ""]))
    passed = "passed" in checked and "failed" not in checked and "error" not in checked
    if not (options.no_checks or passed):
        sys.exit("the checks failed")
    if "minigraph" not in figures:
        sys.exit("minigraph was not measured")


if __name__ == "__main__":
    main()
