"""The survey: minigraph against its peers in many cases outside of the benchmark suite.

python benchmarks/survey [--only PART] [--family PART] [--rounds N] [--frameworks A,B] [--families] [--list] [--save]
    [--report] [--memory] [--minutes N]

With --save the report goes to benchmarks/SURVEY.md, and the figures to benchmarks/survey.json. --memory measures the memory of
the cases that train, not speed, and adds it to both.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from survey import report
from survey.case import Case, Way
from survey.cases import CASES
from survey.measure import FRAMEWORKS, Row, Survey, memory

CORES = 2
"""The number that all processes share, with a thread on each."""
BENCHMARKS = Path(__file__).parents[1]
FIGURES = BENCHMARKS / "survey.json"


def mixed(cases: list[Case]) -> list[Case]:
    """The cases in an order that is always the same, in which every family is everywhere."""
    return random.Random(0).sample(cases, len(cases))


def line(row: Row) -> str:
    """A case in one line."""
    times = ", ".join(f"{name} {report.microseconds(seconds)}" for name, seconds in row.seconds.items())
    return f"{row.worst or float('nan'):8.2f}  {row.name:60}  {times}"


def save(figures: dict[str, Any]) -> None:
    """Write what was measured, and the report on it."""
    rows = [Row(**one) for one in figures["cases"]]
    text = report.survey_text(rows, len(CASES), figures["machine"], figures["rounds"], figures.get("memory", {}))
    (BENCHMARKS / "SURVEY.md").write_text(text)
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")


def measured(cases: list[Case], names: list[str], rounds: int, minutes: float) -> tuple[list[Row], dict[str, Any]]:
    """The rows of those of the cases that can be measured in some minutes, and what is known of the machine."""
    start = time.perf_counter()
    survey = Survey(names, rounds)
    rows: list[Row] = []
    for case in mixed(cases):
        if time.perf_counter() - start > 60 * minutes:
            break
        rows.append(survey.measure(case))
        print(line(rows[-1]), flush=True)
    survey.close()
    places = {case.name: place for place, case in enumerate(cases)}
    rows.sort(key=lambda row: places[row.name])
    print(f"{len(rows)} of {len(cases)} cases, {time.perf_counter() - start:.0f} s")
    return rows, {"about": report.about(), **survey.machine}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--family", default="", help="only families whose name contains this")
    parser.add_argument("--rounds", type=int, default=3, help="how many turns every framework has; 0 only compares results")
    parser.add_argument("--frameworks", default=",".join(FRAMEWORKS), help="those to compare, with commas between them")
    parser.add_argument("--families", action="store_true", help="print a table of the families as well")
    parser.add_argument("--minutes", type=float, default=15, help="when to stop; families are mixed")
    parser.add_argument("--list", action="store_true", help="print the names of the cases, and measure nothing")
    parser.add_argument("--report", action="store_true", help="write SURVEY.md anew from survey.json, and measure nothing")
    parser.add_argument("--memory", action="store_true", help="measure the memory of cases that train")
    parser.add_argument("--save", action="store_true", help="write SURVEY.md and survey.json")
    options = parser.parse_args()
    cases = [case for case in CASES if options.only in case.name and options.family in case.family]
    if options.list:
        print("\n".join(f"{case.family}: {case.name}" for case in cases))
        return
    names = options.frameworks.split(",")
    if unknown := set(names) - set(FRAMEWORKS):
        parser.error(f"no frameworks of the survey: {', '.join(sorted(unknown))}; there are {', '.join(FRAMEWORKS)}")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    figures = json.loads(FIGURES.read_text())
    if options.memory:
        figures["memory"] = {}
        for case in [one for one in cases if one.trains and one.way is Way.CALLS]:
            figures["memory"][case.name] = memory(case, names)
            print(case.name, figures["memory"][case.name], flush=True)
        print(report.memory_table(figures["memory"]))
    elif not options.report:
        rows, machine = measured(cases, names, options.rounds, options.minutes)
        figures |= {"machine": machine, "rounds": options.rounds, "cases": [row.as_record() for row in rows]}
        if options.families:
            print(report.family_table(rows))
    if options.save or options.report:
        save(figures)


if __name__ == "__main__":
    main()
