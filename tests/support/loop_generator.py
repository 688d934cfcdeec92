"""Random loops, each beside the same steps written out one after the other."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import minigraph as mg
from minigraph.core.graph import Variable

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
    state: list[Variable] = field(default_factory=list)
    """The shared variables that the loop updates."""
    after: list[tuple[Variable, Variable]] = field(default_factory=list)
    """The updates of them that steps written out do not ask for."""


class State:
    """State that steps read and update, in any case or where a branch is taken, and a stream that they draw from."""

    def __init__(self, row: tuple[int, ...], bound: float, seed: int) -> None:
        self.count, self.taken = mg.shared(np.float64(0.5), "count"), mg.shared(np.float64(-0.5), "taken")
        self.stream = mg.random.RandomStream(seed)
        self.row, self.bound = row, bound
        self.variables = [self.count, self.taken, self.stream.state]

    def inside(self, first: Variable) -> Variable:
        """The first output of a step, with all the requests that computing it makes."""
        noise = copy.copy(self.stream).normal(self.row, dtype="float64")
        gate, value, count, taken = self._step(first, noise, self.count, self.taken)
        value = mg.with_default_update(value, {self.count: count})
        return mg.ifelse(gate, mg.with_default_update(value * 0.5, {self.taken: taken}), value * 0.7)

    def written_out(self, first: Variable, t: int, now: Sequence[Variable]) -> tuple[Variable, list[Variable]]:
        """The first output of step t, and the state after it, from the state before it."""
        drawn = copy.copy(self.stream).normal(self.row, dtype="float64")
        (noise,) = mg.replace([drawn], {self.stream.state: self.stream.state + np.array([0, t], "uint64")})
        gate, value, count, taken = self._step(first, noise, *now)
        return mg.ifelse(gate, value * 0.5, value * 0.7), [count, mg.ifelse(gate, taken, now[1])]

    def _step(self, first: Variable, noise: Variable, count: Variable, taken: Variable) -> tuple[Variable, ...]:
        """The condition of the branch, a value that reads the state, the count, and what the other becomes if it is taken."""
        total = first.sum()
        value = mg.tanh(first + noise * 0.1 + mg.cos(count) * 0.3 + mg.sin(taken) * 0.2)
        return mg.gt(total, self.bound), value, count + 1 + mg.tanh(total) * 0.1, taken + mg.tanh(total)


Inner = Callable[[Variable, Variable, Variable], Variable]
"""A loop within a step: over the rows of a matrix, from a state, with what is added in each step."""


def _looped(matrix: Variable, first: Variable, added: Variable) -> Variable:
    """An inner loop, as one."""
    return mg.scan(lambda row, state: mg.tanh(state * row + added), matrix, first)[-1]


def _repeated(matrix: Variable, first: Variable, added: Variable) -> Variable:
    """The same, with its three steps written out."""
    for k in range(3):
        first = mg.tanh(first * matrix[k] + added)
    return first


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
    state = State(row, bound * 0.5, seed) if rng.random() < 0.3 else None
    extra, asking = _handed_over(row, seed) if rng.random() < 0.4 else ([], [])
    captured = bool(rng.random() < 0.5)

    def step(*elements: Variable, inner: Inner = _repeated) -> list[Variable]:
        given = [*elements, *extra, bias] if elements else [*extra, bias + np.zeros(row)]
        nested = inner if kind == "nested" else None
        return _random_outputs(np.random.default_rng(recipe), given, matrix, len(state_taps) + free, nested, row)

    def ends(outputs: Sequence[Variable]) -> Variable:
        return mg.gt(outputs[0].sum(), bound)

    def looping(*elements: Variable) -> Any:
        outputs = step(*elements[: len(elements) - (0 if captured else len(extra))], inner=_looped)
        outputs[:1] = outputs[:1] if state is None else [state.inside(outputs[0])]
        return (*outputs, mg.until(ends(outputs))) if kind == "until" else outputs

    described = [{"input": one, "taps": list(taps)} for one, taps in zip(sequences, sequence_taps, strict=True)]
    infos: list[Any] = [{"initial": one, "taps": list(taps)} for one, taps in zip(firsts, state_taps, strict=True)]
    infos += [None] * free
    cut = int(rng.integers(1, length + 2)) if kind == "truncated" else -1
    if kind == "checkpoints":
        every = int(rng.integers(1, length + 2)) if rng.random() < 0.6 else None
        looped = mg.scan_checkpoints(looping, described, infos, [] if captured else extra, steps, every)
    else:
        looped = mg.scan(
            looping,
            described,
            infos,
            [] if captured else extra,
            steps,
            truncate_gradient=cut,
            go_backwards=kind == "backwards",
            name=f"loop{seed}",
        )
    looped = looped if isinstance(looped, list) else [looped]
    count = steps or min(
        values[one].shape[0] - max(0, *taps, 0) + min(0, *taps, 0) for one, taps in zip(sequences, sequence_taps, strict=True)
    )
    unrolled, conditions, states = _unrolled(
        step, ends, list(zip(sequences, sequence_taps, strict=True)), list(zip(firsts, state_taps, strict=True)), count,
        cut, kind == "backwards", values, state,
    )  # fmt: skip
    if kind == "until":
        options: Any = {"on_unused_input": "ignore", "backend": "numpy", "no_default_updates": True}
        answers = mg.function(list(values), conditions, **options)(*values.values())
        count = next((k + 1 for k, answer in enumerate(answers) if answer), count)
    stacked = [mg.stack(rows[:count]) for rows in unrolled]
    leaves = [*values, matrix] + ([] if bias in values else [bias])
    if state is None:
        return RandomLoop(looped, stacked, leaves, values, f"{kind} {seed}", asking)
    drawn = state.stream.state + np.array([0, count], "uint64")
    after = list(zip(state.variables, [*states[count], drawn], strict=True))
    return RandomLoop(looped, stacked, leaves, values, f"{kind} {seed} with state", [*asking, *state.variables], after)


def _handed_over(row: tuple[int, ...], seed: int) -> tuple[list[Variable], list[Variable]]:
    """Values that are drawn and counted outside of a loop, and the state that they update."""
    stream, number = mg.random.RandomStream(seed + 1), mg.shared(np.float64(0.2), "number")
    noise = mg.tanh(stream.normal(row, dtype="float64"))
    return [noise, mg.with_default_update(mg.cos(number) + noise * 0, {number: number + 1})], [stream.state, number]


def _unrolled(
    step: Callable[..., list[Variable]],
    ends: Callable[[Sequence[Variable]], Variable],
    sequences: Sequence[tuple[Variable, tuple[int, ...]]],
    states: Sequence[tuple[Variable, tuple[int, ...]]],
    count: int,
    cut: int,
    backwards: bool,
    values: dict[Variable, np.ndarray],
    state: State | None,
) -> tuple[list[list[Variable]], list[Variable], list[list[Variable]]]:
    """The outputs of each step, written out, whether each is the last one, and the state before each and in the end."""
    histories = [[first] if taps == (-1,) else [first[k] for k in range(-min(taps))] for first, taps in states]
    outputs: list[list[Variable]] = []
    conditions = []
    reached: list[list[Variable]] = [state.variables[:2] if state else []]
    for t in range(count):
        if 0 <= cut == count - t < count:
            histories = [[mg.disconnected_grad(one) for one in history] for history in histories]
            reached[-1] = [mg.disconnected_grad(one) for one in reached[-1]]
        elements = []
        for one, taps in sequences:
            low, high = min(0, *taps, 0), max(0, *taps, 0)
            rows = values[one].shape[0] - high + low
            place = rows - 1 - t if backwards else t
            elements += [one[place + tap - low] for tap in taps]
        elements += [history[tap] for history, (_, taps) in zip(histories, states, strict=True) for tap in taps]
        results = step(*elements)
        if state is not None:
            results[0], after = state.written_out(results[0], t, reached[-1])
            reached.append(after)
        if cut >= 0 and t < count - cut:
            results = [mg.disconnected_grad(one) for one in results]
        conditions.append(ends(results))
        outputs.append(results)
        for history, result in zip(histories, results, strict=False):
            history.append(result)
    return [list(rows) for rows in zip(*outputs, strict=True)], conditions, reached


def _random_outputs(
    rng: np.random.Generator, given: list[Variable], matrix: Variable, count: int, inner: Inner | None, row: tuple[int, ...]
) -> list[Variable]:
    """Outputs of one step, of the shape of a row, computed by random ops."""
    pool = list(given)

    def pick() -> Variable:
        return pool[int(rng.integers(len(pool)))]

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
    if inner is not None:
        pool.append(inner(matrix, pick() + np.zeros(row), pick()))
    full = [one + np.zeros(row) for one in pool]
    return [mg.tanh(full[int(rng.integers(len(full)))] + full[-1 - k % len(full)] * 0.5) for k in range(count)]
