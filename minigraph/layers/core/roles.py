"""Roles, which variables have in a model. A role is a class, and a subclass of a role is a special case of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from minigraph.core.graph import Identity, Variable, is_annotation
from minigraph.ops.control import DisconnectedGrad

__all__ = [
    "Role", "add_role", "has_roles", "with_auxiliary",
    "INPUT", "OUTPUT", "COST", "AUXILIARY", "COLLECTED", "DROPOUT",
    "PERSISTENT", "PARAMETER", "WEIGHT", "BIAS", "FILTER", "INITIAL_STATE",
    "BATCH_NORM_SCALE_PARAMETER", "BATCH_NORM_SHIFT_PARAMETER", "BATCH_NORM_POPULATION_STATISTICS",
    "BATCH_NORM_POPULATION_MEAN", "BATCH_NORM_POPULATION_STDEV", "BATCH_NORM_POPULATION_INVERSE_STDEV",
    "BATCH_NORM_POPULATION_VARIANCE", "BATCH_NORM_POPULATION_WEIGHT",
    "BATCH_NORM_OFFSET", "BATCH_NORM_DIVISOR", "BATCH_NORM_MINIBATCH_ESTIMATE",
]  # fmt: skip


class Role:
    """The base of all roles."""


class INPUT(Role):
    """An input of an application of a layer."""


class OUTPUT(Role):
    """A result of an application of a layer."""


class COST(Role):
    """A scalar to be minimized."""


class AUXILIARY(Role):
    """A variable to be monitored, not needed for the result."""


class COLLECTED(Role):
    """A variable put together from several others."""


class DROPOUT(Role):
    """A variable to which dropout was applied."""


class PERSISTENT(Role):
    """State that is saved and loaded with a model."""


class PARAMETER(PERSISTENT):
    """State that is learned."""


class WEIGHT(PARAMETER):
    """The matrix of a linear map."""


class BIAS(PARAMETER):
    """A term that is added to each feature."""


class FILTER(WEIGHT):
    """The weights of a convolution."""


class INITIAL_STATE(PARAMETER):
    """The learned state before the first step of a recurrence."""


class BATCH_NORM_SCALE_PARAMETER(PARAMETER):
    """gamma, by which a normalized feature is multiplied."""


class BATCH_NORM_SHIFT_PARAMETER(BIAS):
    """beta, which is added to a normalized feature."""


class BATCH_NORM_POPULATION_STATISTICS(PERSISTENT):
    """Statistics of the training data, kept for inference: saved with the model, but not learned by gradient."""


class BATCH_NORM_POPULATION_MEAN(BATCH_NORM_POPULATION_STATISTICS):
    """The mean of the training data."""


class BATCH_NORM_POPULATION_STDEV(BATCH_NORM_POPULATION_STATISTICS):
    """The root of the variance of the training data plus epsilon."""


class BATCH_NORM_POPULATION_INVERSE_STDEV(BATCH_NORM_POPULATION_STATISTICS):
    """1 over the root of the variance of the training data plus epsilon."""


class BATCH_NORM_POPULATION_VARIANCE(BATCH_NORM_POPULATION_STATISTICS):
    """The variance of the training data."""


class BATCH_NORM_POPULATION_WEIGHT(BATCH_NORM_POPULATION_STATISTICS):
    """The number, or the sum of weights, of the batches that the other statistics come from."""


class BATCH_NORM_OFFSET(Role):
    """The mean in use in an application of batch normalization; in training mode a copy of it, for inspection and pairs."""


class BATCH_NORM_DIVISOR(Role):
    """The deviation in use in an application of batch normalization; in training mode a copy, for inspection and pairs."""


class BATCH_NORM_MINIBATCH_ESTIMATE(Role):
    """A statistic of the current minibatch."""


def add_role(variable: Variable, role: type[Role]) -> Variable:
    """A copy of `variable` that also has `role`; variables themselves never change."""
    return variable.copy(tags=(role,))


def roles_of(variable: Variable) -> tuple[type[Role], ...]:
    """The roles among a variable's tags."""
    return tuple(tag for tag in variable.tags if isinstance(tag, type) and issubclass(tag, Role))


def is_any(own: Iterable[type[Role]], wanted: type[Role]) -> bool:
    """Whether one of several roles is the wanted one, or a special case of it."""
    return any(issubclass(mine, wanted) for mine in own)


def has_roles(variable: Variable, roles: Iterable[type[Role]], match_all: bool = False) -> bool:
    """Whether the variable has one of the roles (all, with `match_all`), or a special case of it."""
    own = roles_of(variable)
    found = [is_any(own, wanted) for wanted in roles]
    return all(found) if match_all else any(found)


def differentiated_inputs(variable: Variable) -> Sequence[Variable]:
    """The inputs of a variable through which a gradient may flow."""
    if isinstance(variable.op, DisconnectedGrad):
        return ()
    return variable.inputs[:1] if is_annotation(variable.op) else variable.inputs


def with_auxiliary(variable: Variable, *auxiliary: Variable) -> Variable:
    """`variable`, from which the others can be reached as auxiliary variables, though they are not computed for it."""
    return Identity()(variable, *(add_role(one, AUXILIARY) for one in auxiliary))
