"""Random loops, each beside the same steps written out one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import minigraph as mg
from minigraph.graph import Variable

TAPS_OF_SEQUENCES = [(0,), (0,), (1,), (-1, 0), (0, 2), (-2,)]
TAPS_OF_STATES = [(-1,), (-1,), (-1,), (-2, -1), (-2,), (-1, -3)]


@dataclass
class RandomLoop:
    """The outputs of a loop, the same outputs of steps written out, the leaves of both, and values of the inputs."""

    looped: list[Variable]
    unrolled: list[Variable]
    leaves: list[Variable]
    values: dict[Variable, np.ndarray]
    title: str


def random_loop(seed: int) -> RandomLoop:
    """A loop with several sequences, taps, states and outputs, perhaps with an early end, a loop inside, or cut gradients."""
    rng = np.random.default_rng(seed)
    row = (int(rng.integers(1, 4)), 3) if rng.random() < 0.6 else (3,)
    kind = str(rng.choice(["plain", "plain", "until", "truncated", "backwards", "nested", "checkpoints"]))
    length = int(rng.integers(2, 7))
    values: dict[Variable, np.ndarray] = {}

    def leaf(name: str, shape: tuple[int, ...], shared: bool = False) -> Variable:
        value = rng.normal(size=shape) * 0.7
        if shared:
            return mg.shared(value, name)
        known = [size if size == 1 or axis == len(shape) - 1 or rng.random() < 0.3 else None for axis, size in enumerate(shape)]
        variable = mg.tensor(name, dtype="float64", shape=known)
        values[variable] = value
        return variable

    sequence_taps = [TAPS_OF_SEQUENCES[k] for k in rng.integers(0, len(TAPS_OF_SEQUENCES), rng.integers(0, 3))]
    sequences = [leaf(f"x{k}", (length + 2 + k, *row)) for k in range(len(sequence_taps))]
    state_taps = [TAPS_OF_STATES[k] for k in rng.integers(0, len(TAPS_OF_STATES), rng.integers(0 if sequences else 1, 4))]
    firsts = [leaf(f"s{k}", row if taps == (-1,) else (-min(taps), *row)) for k, taps in enumerate(state_taps)]
    matrix, bias = leaf("W", (3, 3), shared=True), leaf("b", (3,), shared=bool(rng.random() < 0.5))
    free = int(rng.integers(0 if state_taps else 1, 3))
    recipe = int(rng.integers(2**31))
    steps = length if not sequences or rng.random() < 0.4 else None
    bound = float(rng.uniform(-1, 1))

    def step(*elements: Variable) -> list[Variable]:
        given = [*elements, bias] if elements else [bias + np.zeros(row)]
        return _random_outputs(np.random.default_rng(recipe), given, matrix, len(state_taps) + free, kind == "nested", row)

    def ends(outputs: Sequence[Variable]) -> Variable:
        return mg.gt(outputs[0].sum(), bound)

    def looping(*elements: Variable) -> Any:
        outputs = step(*elements)
        return (*outputs, mg.until(ends(outputs))) if kind == "until" else outputs

    described = [{"input": one, "taps": list(taps)} for one, taps in zip(sequences, sequence_taps, strict=True)]
    infos: list[Any] = [{"initial": one, "taps": list(taps)} for one, taps in zip(firsts, state_taps, strict=True)]
    infos += [None] * free
    cut = int(rng.integers(1, length + 2)) if kind == "truncated" else -1
    if kind == "checkpoints":
        every = int(rng.integers(1, length + 2)) if rng.random() < 0.6 else None
        looped = mg.scan_checkpoints(looping, described, infos, n_steps=steps, save_every_N=every)
    else:
        looped = mg.scan(
            looping,
            described,
            infos,
            n_steps=steps,
            truncate_gradient=cut,
            go_backwards=kind == "backwards",
            name=f"loop{seed}",
        )
    looped = looped if isinstance(looped, list) else [looped]
    count = steps or min(
        values[one].shape[0] - max(0, *taps, 0) + min(0, *taps, 0) for one, taps in zip(sequences, sequence_taps, strict=True)
    )
    unrolled, conditions = _unrolled(
        step, ends, list(zip(sequences, sequence_taps, strict=True)), list(zip(firsts, state_taps, strict=True)), count,
        cut, kind == "backwards", values,
    )  # fmt: skip
    if kind == "until":
        answers = mg.function(list(values), conditions, on_unused_input="ignore", backend="numpy")(*values.values())
        count = next((k + 1 for k, answer in enumerate(answers) if answer), count)
    stacked = [mg.stack(rows[:count]) for rows in unrolled]
    return RandomLoop(looped, stacked, [*values, matrix] + ([] if bias in values else [bias]), values, f"{kind} {seed}")


def _unrolled(
    step: Callable[..., list[Variable]],
    ends: Callable[[Sequence[Variable]], Variable],
    sequences: Sequence[tuple[Variable, tuple[int, ...]]],
    states: Sequence[tuple[Variable, tuple[int, ...]]],
    count: int,
    cut: int,
    backwards: bool,
    values: dict[Variable, np.ndarray],
) -> tuple[list[list[Variable]], list[Variable]]:
    """The outputs of each step, written out, and whether each is the last one."""
    histories = [[first] if taps == (-1,) else [first[k] for k in range(-min(taps))] for first, taps in states]
    outputs: list[list[Variable]] = []
    conditions = []
    for t in range(count):
        if 0 <= cut == count - t < count:
            histories = [[mg.disconnected_grad(one) for one in history] for history in histories]
        elements = []
        for one, taps in sequences:
            low, high = min(0, *taps, 0), max(0, *taps, 0)
            rows = values[one].shape[0] - high + low
            place = rows - 1 - t if backwards else t
            elements += [one[place + tap - low] for tap in taps]
        elements += [history[tap] for history, (_, taps) in zip(histories, states, strict=True) for tap in taps]
        results = step(*elements)
        if cut >= 0 and t < count - cut:
            results = [mg.disconnected_grad(one) for one in results]
        conditions.append(ends(results))
        outputs.append(results)
        for history, result in zip(histories, results, strict=False):
            history.append(result)
    return [list(rows) for rows in zip(*outputs, strict=True)], conditions


def _random_outputs(
    rng: np.random.Generator, given: list[Variable], matrix: Variable, count: int, nested: bool, row: tuple[int, ...]
) -> list[Variable]:
    """Outputs of one step, of the shape of a row, computed by random ops."""
    pool = list(given)

    def pick() -> Variable:
        return pool[int(rng.integers(len(pool)))]

    def inner(total: Variable, factor: Variable) -> Variable:
        return mg.scan(lambda w, s: mg.tanh(s * w + factor), matrix, total)[-1]

    def rolled(one: Variable) -> Variable:
        return mg.concatenate([one[..., 1:], one[..., :1] * 2.0], axis=-1)

    choices: list[Callable[[], Variable]] = [
        lambda: mg.tanh(pick() + pick()),
        lambda: mg.sigmoid(pick()) * pick(),
        lambda: pick() @ matrix,
        lambda: pick() - pick().mean(axis=-1, keepdims=True),
        lambda: pick() * 0.5 + pick().sum() * 0.1,
        lambda: rolled(pick()),
        lambda: mg.where(mg.gt(pick(), 0), pick(), 0.3),
        lambda: mg.softmax(pick()),
        lambda: mg.exp(-mg.square(pick())),
    ]
    for _ in range(int(rng.integers(2, 6))):
        pool.append(mg.tanh(choices[int(rng.integers(len(choices)))]()))
    if nested:
        pool.append(inner(pick() + np.zeros(row), pick()))
    full = [one + np.zeros(row) for one in pool]
    return [mg.tanh(full[int(rng.integers(len(full)))] + full[-1 - k % len(full)] * 0.5) for k in range(count)]
