"""Arrays of one system as those of another, and their names and order in each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from minigraph.core.errors import InvalidValueError, MinigraphError
from minigraph.layers.core.initialization import same_but_for_ones
from minigraph.layers.core.roles import BATCH_NORM_POPULATION_WEIGHT, Role
from minigraph.layers.core.settings import flag
from minigraph.layers.core.state_values import Array, impossible, in_dtype, real
from minigraph.layers.normalization.conventions import Convention, Variance
from minigraph.ops.reduce.normalization import check_epsilon

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
    """The arrays that make a layer of the `target` system compute, in inference, the same as one of the `source` system.

    values: arrays by the names of the source; scale and shift may be left out, and then are left out of the result. Shapes
    stay, and dtypes of floats. epsilon: that of the layers, by default each system's own. target_epsilon: that of the target,
    if it differs. count: the number of minibatches that the statistics stand for, if the target counts them and the source does
    not; with 100 or more all rules weigh the next minibatch as after a long training. Averages go on differently in each
    system: only fixed statistics are converted exactly.

    ValueError for unknown or missing names, values that no population can have, and where no variance of the target gives the
    deviation of the source: sqrt(variance + target_epsilon) is never below sqrt(target_epsilon); also for features that were
    averaged over different numbers of minibatches, where the target has one for all. TypeError for what is not real numbers.

    >>> from minigraph.dialects import BLOCKS, PYTORCH, convert
    >>> convert({"running_mean": np.zeros(1), "running_var": np.ones(1)}, PYTORCH, BLOCKS, epsilon=0.5)["population_stdev"]
    array([1.22474487])
    """
    given = _named(values, source)
    own = check_epsilon(source.epsilon if epsilon is None else epsilon)
    new = check_epsilon(target_epsilon if target_epsilon is not None else (target.epsilon if epsilon is None else epsilon))
    _check_arrays(given, source, own)
    if not target.population:
        raise InvalidValueError(f"{target.name} keeps no population")
    with np.errstate(all="ignore"):
        mean, stdev = source.read([given[name].astype(np.float64) for name in source.population], own)
    if not (np.isfinite(mean).all() and np.isfinite(stdev).all() and (stdev > 0).all()):
        raise InvalidValueError(f"the {source.name} statistics give a mean or deviation that is not finite, or not above 0")
    kind = given[source.mean].dtype
    kind = kind if kind.kind == "f" else np.dtype(np.float64)
    result = _written(mean, stdev, target, kind, new)
    for name, learned in ((target.scale, source.scale), (target.shift, source.shift)):
        if learned in given:
            result[name] = given[learned]
    if target.count is not None:
        seen = given[source.count] if source.count is not None and source.count in given else real(count, "count")
        result[target.count] = _counted(seen, source, target, mean.shape, kind)
    return {name: result[name] for name in target.order if name in result}


def _written(mean: Any, stdev: Any, target: Convention, kind: np.dtype[Any], epsilon: float) -> Values:
    """The population as a system stores it, in a dtype; ValueError where that has no variance or no number for it."""
    if isinstance(target.storage, Variance):
        stdev = _with_variance(stdev, kind, epsilon, target)
    arrays = dict(zip(target.population, target.write(mean, stdev, epsilon), strict=True))
    with np.errstate(over="ignore"):
        result = {name: np.asarray(array).astype(kind) for name, array in arrays.items()}
    if any(impossible(result[name], stored.role, epsilon) for name, stored in target.population.items()):
        raise InvalidValueError(f"what {target.name} would store is beyond the reach of {kind.name}: convert a wider dtype")
    return result


def _counted(seen: Array, source: Convention, target: Convention, shape: tuple[int, ...], kind: np.dtype[Any]) -> Array:
    """A count of minibatches as a system keeps it, for each feature or for all; ValueError where no number is right for all."""
    if not seen.size or impossible(seen, BATCH_NORM_POPULATION_WEIGHT):
        raise InvalidValueError(f"a count of minibatches is 0 or more, not {seen!r}")
    if target.counts_features:
        return np.broadcast_to(seen.reshape(shape if seen.size > 1 else ()), shape).astype(kind)
    if (seen != seen.flat[0]).any():
        raise InvalidValueError(
            f"the features were averaged over different numbers of minibatches, {seen.min()} to {seen.max()}, and "
            f"{target.name} has one for all: leave {source.count} out, and give count"
        )
    return in_dtype(seen.reshape(-1)[0:1].reshape(()), np.dtype(np.int64), "the count of minibatches")


def _plain(name: str) -> str:
    """A name without the number of an output, such as the ':0' that Keras' variables have."""
    return re.sub(r":\d+$", "", name)


def _named(values: Mapping[str, Any], source: Convention) -> Values:
    """Arrays of real numbers by their plain names; ValueError where two have one."""
    given: Values = {}
    for name, array in values.items():
        if _plain(name) in given:
            raise InvalidValueError(f"two arrays are named {_plain(name)!r}")
        given[_plain(name)] = real(array, f"{source.name}: {name}")
    return given


def convert_model(
    values: Mapping[str, Any],
    source: Convention,
    target: Convention,
    *,
    leave: Callable[[str], bool] = lambda path: False,
    separator: str = ".",
    **options: Any,
) -> dict[str, Any]:
    """The arrays of a whole model with those of its normalizations converted from `source` to `target`; others do not change.

    values: arrays by names such as 'features.1.running_mean'; the part before the last `separator` is the layer's path. Numbers
    of outputs, as in Keras' 'bn/gamma:0', are no part of a name. leave: a function from a layer's path that is true for those
    to leave alone. options: those of `convert`, for all layers.

    ValueError, besides those of `convert`, for a model without any normalization of the source, for a layer that has a part of
    one, such as a mean without a variance, and where converted arrays would have the names of others.

    >>> from minigraph.dialects import KERAS, PYTORCH
    >>> model = {"0.weight": np.ones((2, 3)), "1.running_mean": np.zeros(3), "1.running_var": np.ones(3)}
    >>> list(convert_model(model, PYTORCH, KERAS))
    ['0.weight', '1.moving_mean', '1.moving_variance']
    """
    layers: dict[str, dict[str, Any]] = {}
    for name, array in values.items():
        own = name.rpartition(separator)[2]
        layers.setdefault(name.removesuffix(own), {})[own] = array
    result: dict[str, Any] = {}
    found = False
    for path, arrays in layers.items():
        present = {_plain(own) for own in arrays} & set(source.population)
        found = found or bool(present)
        if present and not leave(path.removesuffix(separator)):
            arrays = _converted(path.removesuffix(separator), arrays, source, target, options)
        result |= {f"{path}{own}": array for own, array in arrays.items()}
    if not found:
        raise InvalidValueError(
            f"the model has no {source.name} normalization: no layer has arrays named {', '.join(source.population)}; "
            f"is {separator!r} what separates the names?"
        )
    return result


def _converted(
    path: str, arrays: Mapping[str, Any], source: Convention, target: Convention, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The arrays of one layer of a model, those of its normalization converted; errors name the layer."""
    known = {own: array for own, array in arrays.items() if _plain(own) in source.order}
    others = {own: array for own, array in arrays.items() if _plain(own) not in source.order}
    try:
        converted = convert(known, source, target, **options)
    except MinigraphError as error:
        raise type(error)(f"{path or 'the model'}: {error.message}; give leave, if it is no normalization") from None
    if converted.keys() & others.keys():
        raise InvalidValueError(f"{path or 'the model'} has arrays named {sorted(converted.keys() & others.keys())} already")
    return {**converted, **others}


def _check_arrays(values: Values, source: Convention, epsilon: float) -> None:
    """ValueError unless the arrays are the population of a system, perhaps with scale, shift and count, of possible values."""
    missing = [name for name in source.population if name not in values]
    unknown = [name for name in values if name not in source.order]
    if missing or unknown or not source.population:
        raise InvalidValueError(
            f"{source.name} has the arrays {list(source.order)}, of which only {source.scale}, {source.shift} "
            f"{'' if source.count is None else f'and {source.count} '}may be left out: missing {missing}, unknown {unknown}"
        )
    first = values[source.mean]
    for name in (source.spread, source.scale, source.shift):
        if name in values and not same_but_for_ones(values[name].shape, first.shape):
            raise InvalidValueError(
                f"the {source.name} arrays are of different sizes: {source.mean} {first.shape}, {name} {values[name].shape}"
            )
    for name, array in values.items():
        stored = source.population.get(name)
        if stored is not None and stored.shape is not None and not same_but_for_ones(array.shape, stored.shape):
            raise InvalidValueError(f"{source.name}: {name} has shape {stored.shape}, not {array.shape}")
        role = BATCH_NORM_POPULATION_WEIGHT if name == source.count else Role
        reason = impossible(array, role if stored is None else stored.role, epsilon)
        if reason is not None:
            raise InvalidValueError(f"{source.name}: {name} {reason}")
    inconsistent = source.inconsistent(values)
    if inconsistent is not None:
        raise InvalidValueError(f"{source.name}: {inconsistent}")


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
    """Arrays by name, from a list, `arrays`, in the order of the convention, with or without its `scale` and `shift`."""
    asked = ((convention.scale, flag(scale, "scale")), (convention.shift, flag(shift, "shift")))
    left_out = {name for name, there in asked if not there}
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
