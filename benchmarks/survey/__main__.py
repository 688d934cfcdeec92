"""The survey: minigraph against its peers in many cases outside of the benchmark suite.

python benchmarks/survey [--only PART] [--family PART] [--rounds N] [--frameworks A,B] [--families] [--list] [--save]
    [--report] [--minutes N]

With --save the report goes to benchmarks/SURVEY.md, and the figures to benchmarks/survey.json.
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
from survey.case import Case
from survey.cases import CASES
from survey.measure import FRAMEWORKS, Row, Survey

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


def save(rows: list[Row], count: int, machine: dict[str, Any], rounds: int) -> None:
    """Write the report on the rows of a number of cases, and the figures."""
    (BENCHMARKS / "SURVEY.md").write_text(report.survey_text(rows, count, machine, rounds))
    figures = {"machine": machine, "rounds": rounds, "cases": [row.as_record() for row in rows]}
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")


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
    parser.add_argument("--save", action="store_true", help="write SURVEY.md and survey.json")
    options = parser.parse_args()
    cases = [case for case in CASES if options.only in case.name and options.family in case.family]
    if options.list:
        print("\n".join(f"{case.family}: {case.name}" for case in cases))
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    if options.report:
        figures = json.loads(FIGURES.read_text())
        save([Row(**one) for one in figures["cases"]], len(CASES), figures["machine"], figures["rounds"])
        return
    names = options.frameworks.split(",")
    if unknown := set(names) - set(FRAMEWORKS):
        parser.error(f"no frameworks of the survey: {', '.join(sorted(unknown))}; there are {', '.join(FRAMEWORKS)}")
    start = time.perf_counter()
    survey = Survey(names, options.rounds)
    rows: list[Row] = []
    for case in mixed(cases):
        if time.perf_counter() - start > 60 * options.minutes:
            break
        rows.append(survey.measure(case))
        print(line(rows[-1]), flush=True)
    survey.close()
    places = {case.name: place for place, case in enumerate(cases)}
    rows.sort(key=lambda row: places[row.name])
    if options.families:
        print(report.family_table(rows))
    print(f"{len(rows)} of {len(cases)} cases, {time.perf_counter() - start:.0f} s")
    if options.save:
        save(rows, len(cases), {"about": report.about(), **survey.machine}, options.rounds)


if __name__ == "__main__":
    main()
