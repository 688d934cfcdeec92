"""The report of what was measured, in Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from run import machine as processor

from survey.measure import FRAMEWORKS, OURS, PEERS, Row

LIMITS = (0.8, 1.0, 1.3)
LIBRARIES = ("numpy", "torch", "jax", "pytensor", "numba", "llvmlite")


def worst_first(rows: list[Row]) -> list[Row]:
    """The rows by their worst ratio; those without one, which are errors, come first."""
    return sorted(rows, key=lambda row: -(row.worst or float("inf")))


def markdown_row(cells: list[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def case_table(rows: list[Row]) -> str:
    """A line for each case."""
    lines = [
        markdown_row(["case", "family", "minigraph us", "limit us", "worst", *PEERS]),
        markdown_row(["---"] * (5 + len(PEERS))),
    ]
    for row in worst_first(rows):
        ours = (
            "error" if row.ours is None else microseconds(row.ours) + (" (NHWC)" if row.ours != row.seconds.get(OURS) else "")
        )
        cells = [row.name, row.family, ours, microseconds(row.least)]
        cells.append(f"**{row.worst:.2f}**" if row.worst else "")
        lines.append(markdown_row([*cells, *(_peer(row, name) for name in PEERS)]))
    return "\n".join(lines)


def _peer(row: Row, name: str) -> str:
    """A peer's ratio and microseconds, or why it has none."""
    if name in row.ratios:
        return f"{row.ratios[name]:.2f} ({microseconds(row.seconds[name])})"
    if name in row.seconds:
        return f"({microseconds(row.seconds[name])})"
    if name in row.errors:
        return "error"
    return "unsupported" if name in row.notes else ""


def microseconds(seconds: float) -> str:
    """Seconds as microseconds, with three digits at least."""
    us = seconds * 1e6
    return f"{us:,.0f}" if us >= 100 else f"{us:.3g}"


def shares(rows: list[Row]) -> list[str]:
    """The share of rows at most each of the limits."""
    ratios = [row.worst for row in rows if row.worst is not None]
    return [f"{sum(one <= limit for one in ratios) / len(ratios):.0%}" if ratios else "" for limit in LIMITS]


def family_table(rows: list[Row]) -> str:
    """A line for each family, and one for all."""
    titles = [f"at most {limit}" for limit in LIMITS]
    lines = [markdown_row(["family", "cases", *titles, "worst case", "ratio"]), markdown_row(["---"] * (4 + len(titles)))]
    families = list(dict.fromkeys(row.family for row in rows))
    for family in [*families, "all"]:
        own = [row for row in rows if family in ("all", row.family)]
        worst = max(own, key=lambda row: row.worst or 0.0)
        lines.append(markdown_row([family, str(len(own)), *shares(own), worst.name, f"{worst.worst or 0:.2f}"]))
    return "\n".join(lines)


def by_peer(rows: list[Row]) -> str:
    """The number of cases in which each peer is ahead."""
    counts = []
    for name in PEERS:
        ratios = [row.ratios[name] for row in rows if name in row.ratios]
        if ratios:
            counts.append(f"{name} in {sum(one > 1 for one in ratios)} of {len(ratios)}")
    return ", ".join(counts)


def by_reason(rows: list[Row], told: Callable[[Row], dict[str, str]]) -> str:
    """The cases that frameworks could not do, or did differently, by the reason that is `told` of a row."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for name, reason in told(row).items():
            reasons.setdefault((name, reason), []).append(row.name)
    lines = []
    for (name, reason), cases in reasons.items():
        which = f"{len(cases)} cases" if len(cases) > 6 else "; ".join(cases)
        lines.append(f"- {name}: {reason.replace('|', '/')} ({which})")
    return "\n".join(lines) or "- none"


def about() -> str:
    """The processor, and the versions of libraries."""
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return f"{processor()}, {platform.system()}; {versions}"


def machine_text(machine: dict[str, Any]) -> str:
    """The machine that was measured, and the limits that it was measured to have."""
    bandwidths = ", ".join(f"{rate / 1e9:.0f} GB/s for {size / 2**20:g} MiB" for size, rate in machine["bandwidths"])
    peaks = ", ".join(f"{rate / 1e9:.0f} GFLOP/s in {dtype}" for dtype, rate in machine["peaks"].items())
    return f"{machine['about']}. Measured: {bandwidths}; {peaks}."


Memory = dict[str, dict[str, tuple[int, int]]]
"""For cases that train, and frameworks, the greatest resident bytes of a process before the case and after it."""


def memory_table(memory: Memory) -> str:
    """A line for each case that trains, those in which minigraph needs the most relative to its best peer first."""

    def worst(case: str) -> float:
        others = [after for name, (_, after) in memory[case].items() if name in PEERS]
        return memory[case][OURS][1] / min(others) if others else 0.0

    names = [name for name in FRAMEWORKS if any(name in one for one in memory.values())]
    lines = [markdown_row(["case", "worst", *names]), markdown_row(["---"] * (2 + len(names)))]
    for case in sorted(memory, key=worst, reverse=True):
        cells = [_mebibytes(*memory[case][name]) if name in memory[case] else "" for name in names]
        lines.append(markdown_row([case, f"**{worst(case):.2f}**", *cells]))
    return "\n".join(lines)


def _mebibytes(before: int, after: int) -> str:
    """The greatest memory of a process in MiB, and how much of it came with the case."""
    return f"{after / 2**20:.0f} ({(after - before) / 2**20:.0f})"


def _memory_text(memory: Memory) -> str:
    """The part of the report on memory."""
    return f"""## Memory of training

The greatest resident memory in MiB of a process that trains for three steps, libraries included, and how much of it came with
the case. "worst" is minigraph's over the best peer's.

{memory_table(memory)}

"""


def survey_text(rows: list[Row], count: int, machine: dict[str, Any], rounds: int, memory: Memory) -> str:
    """The whole report on some rows of a number of cases, and on memory, in Markdown."""
    reached = "" if len(rows) == count else f" (of {count}; the others were not reached in the minutes there were)"
    at_most = ", ".join(f"{share} at most {limit}" for share, limit in zip(shares(rows), LIMITS, strict=True))
    threads = min(2, len(os.sched_getaffinity(0)))
    return f"""# Survey of speed

`make survey` writes this: {len(rows)} cases{reached}, each written once and run in every framework that can do it, with
{threads} threads each. Results are compared before anything is timed. A ratio is minigraph's time over a peer's, both medians
over {rounds} rounds in which the frameworks take turns; "worst" is the ratio to the best peer, and below 1 minigraph is faster
than all. Images are laid out both ways in minigraph, as in PyTorch, and its better one, NHWC where it says so, is compared with
each of theirs. Behind a ratio stand the peer's microseconds. "limit" is the greater of two quotients: bytes of arguments and
results over the bandwidth that was measured for as many bytes, and operations over the measured peak.

The machine: {machine_text(machine)}

Of the cases {at_most}. Ahead of minigraph: {by_peer(rows)}.

## Families

{family_table(rows)}

## Cases, worst first

{case_table(rows)}

{_memory_text(memory) if memory else ""}## Errors

Frameworks whose results differ from those of the others, and what minigraph cannot do:

{by_reason(rows, lambda row: row.errors | {name: one for name, one in row.notes.items() if name not in PEERS})}

## Unsupported

{by_reason(rows, lambda row: {name: one for name, one in row.notes.items() if name in PEERS})}
"""
