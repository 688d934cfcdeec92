"""One framework in a process of its own: reads requests as lines of JSON, answers in lines of JSON.

{"make": ["mlp_step", arguments...]} builds a case and reports the seconds to the end of its first call, {"time": n} reports the
seconds of n calls, {"memory": 0} the greatest resident memory in bytes so far. Of minigraph, {"make": ...,
"passes": ["-merge"]} leaves passes out, and {"code": 0} reports the code of what was made last.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

MODULES = {
    "minigraph": "minigraph_work",
    "numpy": "numpy_work",
    "jax": "jax_work",
    "pytensor": "pytensor_work",
    "limit": "limit_work",
}
TORCH = {
    "torch": (False, False), "torch fused": (True, False), "torch compiled": (True, True), "torch cells": (True, False, True),
}  # fmt: skip


def framework(name: str) -> Any:
    """What offers the cases of a framework."""
    if name in TORCH:
        return importlib.import_module("frameworks.torch_work").Torch(*TORCH[name])
    return importlib.import_module(f"frameworks.{MODULES[name]}")


def answer(offered: Any, state: dict[str, Any], request: dict[str, Any]) -> Any:
    """What one request asks for."""
    if "make" in request:
        kind, *arguments = request["make"]
        start = time.perf_counter()
        made = [tuple(one) if isinstance(one, list) else one for one in arguments]
        if "passes" in request:
            offered.mg.config.passes = request["passes"]
        state["call"] = None  # what the last case held is free before the next is made
        state["call"] = getattr(offered, kind)(*made)
        if request.get("first", True):
            state["call"]()
        return time.perf_counter() - start
    if "time" in request:
        call, seconds = state["call"], []
        for _ in range(request["time"]):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        return seconds
    if "code" in request:
        return offered.made[-1].source(code=True)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def serve(offer: Callable[[str], Any], name: str) -> None:
    """Answer requests until there are no more; `offer` makes of the name what offers the cases."""
    replies = os.fdopen(os.dup(1), "w")
    with contextlib.redirect_stdout(sys.stderr):
        offered, state = offer(name), {}
        for line in sys.stdin:
            try:
                reply = {"ok": answer(offered, state, json.loads(line))}
            except Exception as error:  # the driver reports it, and goes on with the others
                reply = {"error": f"{type(error).__name__}: {error}"}
            replies.write(json.dumps(reply) + "\n")
            replies.flush()


if __name__ == "__main__":
    serve(framework, sys.argv[1])
