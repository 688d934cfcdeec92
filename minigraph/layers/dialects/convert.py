"""Arrays of one system as those of another, and their names and order in each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from minigraph.errors import InvalidValueError
from minigraph.layers.conventions import Convention, Variance

Values = dict[str, np.ndarray[Any, Any]]


def convert(
    values: Mapping[str, Any],
    source: Convention,
    target: Convention,
    *,
    epsilon: float | None = None,
    target_epsilon: float | None = None,
    count: int = 100,
) -> Values:
    """The arrays that make a layer of the `target` system compute, in inference, what one of the `source` system did.

    values: arrays by the names of the source; scale and shift may be left out, and then are left out of the result. Shapes
    stay, and dtypes of floats. epsilon: that of the layers, by default each system's own. target_epsilon: that of the target,
    if it differs.
    count: how many minibatches the statistics stand for, if the target counts them and the source does not; with 100 or more
    all rules weigh the next minibatch as after a long training. Averages go on differently in each system: only fixed
    statistics are converted exactly.

    ValueError for unknown or missing names, values that no population can have, and where no variance of the target gives the
    deviation of the source: sqrt(variance + target_epsilon) is never below sqrt(target_epsilon).

    >>> from minigraph.layers.dialects import BLOCKS, PYTORCH, convert
    >>> convert({"running_mean": np.zeros(1), "running_var": np.ones(1)}, PYTORCH, BLOCKS, epsilon=0.5)["population_stdev"]
    array([1.22474487])
    """
    given = {name: np.asarray(array) for name, array in values.items()}
    _check_names(given, source)
    if not target.population:
        raise InvalidValueError(f"{target.name} keeps no population")
    own = source.epsilon if epsilon is None else epsilon
    new = target_epsilon if target_epsilon is not None else (target.epsilon if epsilon is None else epsilon)
    with np.errstate(all="ignore"):
        mean, stdev = source.read([given[name].astype(np.float64) for name in source.population], own)
    if not (np.isfinite(mean).all() and np.isfinite(stdev).all() and (stdev > 0).all()):
        raise InvalidValueError(f"the {source.name} statistics give a mean or deviation that is not finite, or not above 0")
    kind, shape = given[source.mean].dtype, given[source.mean].shape
    kind = kind if kind.kind == "f" else np.dtype(np.float64)
    if isinstance(target.storage, Variance):
        stdev = _with_variance(stdev, kind, new, target)
    written = dict(zip(target.population, target.write(mean, stdev, new), strict=True))
    learned = {target.scale: given.get(source.scale), target.shift: given.get(source.shift)}
    counted = {}
    if target.count is not None:
        seen = given[source.count] if source.count in given else np.asarray(count)
        counted[target.count] = np.full(shape, seen.flat[0], kind) if target.counts_features else seen.reshape(-1)[0]
    with np.errstate(over="ignore"):
        result = {name: np.asarray(array).astype(kind) for name, array in written.items()}
    if not all(np.isfinite(array).all() for array in result.values()):
        raise InvalidValueError(f"what {target.name} would store is beyond the reach of {kind.name}: convert a wider dtype")
    result |= {name: array for name, array in learned.items() if array is not None}
    result |= {name: np.asarray(array) for name, array in counted.items()}
    return {name: result[name] for name in target.order if name in result}


def convert_model(
    values: Mapping[str, Any],
    source: Convention,
    target: Convention,
    *,
    leave: Callable[[str], bool] = lambda path: False,
    separator: str = ".",
    **options: Any,
) -> dict[str, Any]:
    """The arrays of a whole model with those of its normalizations converted; all others stay as they are, in their order.

    values: arrays by names such as 'features.1.running_mean'; what stands before the last `separator` is the layer's path.
    leave: which layers, by their path, to leave alone. options: those of `convert`, for all layers.

    >>> from minigraph.layers.dialects import KERAS, PYTORCH
    >>> model = {"0.weight": np.ones((2, 3)), "1.running_mean": np.zeros(3), "1.running_var": np.ones(3)}
    >>> list(convert_model(model, PYTORCH, KERAS))
    ['0.weight', '1.moving_mean', '1.moving_variance']
    """
    layers: dict[str, dict[str, Any]] = {}
    for name, array in values.items():
        own = name.rpartition(separator)[2]
        layers.setdefault(name.removesuffix(own), {})[own] = array
    result: dict[str, Any] = {}
    for path, arrays in layers.items():
        if set(source.population) <= set(arrays) and not leave(path.removesuffix(separator)):
            known = {own: array for own, array in arrays.items() if own in source.order}
            others = {own: array for own, array in arrays.items() if own not in source.order}
            arrays = {**convert(known, source, target, **options), **others}
        result |= {f"{path}{own}": array for own, array in arrays.items()}
    return result


def _check_names(values: Mapping[str, Any], source: Convention) -> None:
    """ValueError unless the arrays are the population of a system, and otherwise what may be there."""
    missing = [name for name in source.population if name not in values]
    unknown = [name for name in values if name not in source.order]
    sizes = {np.size(values[name]) for name in (source.mean, source.spread, source.scale, source.shift) if name in values}
    if not missing and len(sizes) > 1:
        raise InvalidValueError(f"the {source.name} arrays are of different sizes: {sorted(sizes)}")
    if missing or unknown or not source.population:
        raise InvalidValueError(
            f"{source.name} has the arrays {list(source.order)}, of which only {source.scale}, {source.shift} "
            f"{'' if source.count is None else f'and {source.count} '}may be left out: missing {missing}, unknown {unknown}"
        )


def _with_variance(stdev: Any, kind: np.dtype[Any], epsilon: float, target: Convention) -> Any:
    """The deviation, where it is that of some variance of at least 0 up to rounding; ValueError otherwise."""
    variance = stdev * stdev - epsilon
    least = float(np.min(variance, initial=0.0))
    if least < -8 * np.finfo(kind).eps * epsilon:
        raise InvalidValueError(
            f"a deviation of {np.min(stdev):.6g} is less than {target.name} can have with epsilon {epsilon:g}, as its variance "
            f"would be {least:.3g}: give a target_epsilon of at most {np.min(stdev) ** 2:.3g}, and make the layer with it"
        )
    return np.sqrt(np.maximum(variance, 0.0) + epsilon)


def from_list(arrays: Sequence[Any], convention: Convention, *, scale: bool = True, shift: bool = True) -> Values:
    """Arrays by name, from a list in the order in which a system lists them; without scale or shift, where it has none."""
    left_out = {name for name, there in ((convention.scale, scale), (convention.shift, shift)) if not there}
    names = [name for name in convention.order if name not in left_out]
    if len(arrays) != len(names):
        raise InvalidValueError(f"{convention.name} lists {len(names)} arrays, {names}, not {len(arrays)}")
    return {name: np.asarray(array) for name, array in zip(names, arrays, strict=True)}


def to_list(values: Mapping[str, Any], convention: Convention) -> list[np.ndarray[Any, Any]]:
    """Arrays in the order in which a system lists them, from arrays by name."""
    unknown = [name for name in values if name not in convention.order]
    if unknown:
        raise InvalidValueError(f"{convention.name} has the arrays {list(convention.order)}, not {unknown}")
    return [np.asarray(values[name]) for name in convention.order if name in values]
