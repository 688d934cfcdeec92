"""Warnings of `function` about graphs that learn: statistics that no population follows, training in inference mode."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from minigraph.core.graph import Graph, Input, Shared, Variable, reachable, toposort
from minigraph.core.origin import warn
from minigraph.core.walks import with_bodies
from minigraph.layers.core.application import ApplicationCall, get_application_call
from minigraph.layers.core.modes import Untrained
from minigraph.layers.core.roles import BATCH_NORM_POPULATION_STATISTICS, INPUT, PARAMETER, has_roles
from minigraph.layers.core.tree import get_layer
from minigraph.layers.normalization.loop_statistics import behind_copies
from minigraph.layers.normalization.normalized import find_normalizations
from minigraph.ops.control import DefaultUpdate, DisconnectedGrad
from minigraph.ops.reduce.normalization import FlowedThrough


def warn_of_forgotten_population(graph: Graph) -> None:
    """Warn if parameters learn from minibatch statistics that no population follows, unless that was asked for."""
    targets = {target for target, _ in graph.updates}
    if not any(has_roles(target, [PARAMETER]) for target in targets):
        return
    variables = graph.variables
    for variable in variables:
        if isinstance(variable.op, DefaultUpdate):  # a population that needs no pairs
            targets.update(variable.inputs[1::2])
    kept = {get_layer(target) for target in targets if has_roles(target, [BATCH_NORM_POPULATION_STATISTICS])}
    forgotten = {
        one.variable.origin.layer or one.layer.name: None
        for one in find_normalizations(variables)
        if one.estimates and one.population and one.layer not in kept
    }
    if forgotten:
        warn(
            f"parameters are updated, but not the population statistics of {', '.join(forgotten)}, which inference uses: add "
            "moving_average(get_batch_normalization_updates(cost)) to the updates, where cost is the training-mode graph; if "
            "that is meant, say so by freeze_batch_normalization(cost, Freeze.AVERAGES) before taking gradients"
        )


def warn_of_forgotten_training(graph: Graph) -> None:
    """Warn if parameters learn through applications that were built in inference mode, unless that was asked for."""
    values = {target: value for target, value in graph.updates if has_roles(target, [PARAMETER])}
    order = _differentiable(list(values.values()))
    untrained = _untrained(order)
    if not untrained:
        return
    applied = _downstream(order, {one for one in order if has_roles(one, [INPUT])})
    learned = {target for target, value in values.items() if value in applied}  # others are averaged, or decay
    reached = _flowed_through(with_bodies(order), untrained) | _read_by_learners(order, untrained, learned)
    names = dict.fromkeys(variable.origin.layer or call.layer.name for call, variable in untrained.items() if call in reached)
    if names:
        warn(
            f"parameters of or beside {', '.join(names)} are updated through an inference-mode application: build the cost "
            "within `with training(network):`, or give apply_batch_normalization(cost); if inference is meant, say so by "
            "freeze_batch_normalization(cost, Freeze.STATISTICS) before taking gradients, or, of any layer, by "
            "training(network, predicate=...) that leaves it out"
        )


def _differentiable(roots: Sequence[Variable]) -> list[Variable]:
    """The variables behind the roots, inputs first, without those that are reached through a `disconnected_grad` alone."""
    reached = reachable(roots, lambda one: () if isinstance(one.op, DisconnectedGrad) else one.inputs)
    return [one for one in toposort(roots) if one in reached]


Untrainings = dict[ApplicationCall, Variable]
"""The applications that were built in inference mode without being meant to stay there, with the result of each."""


def _untrained(order: Sequence[Variable]) -> Untrainings:
    """The applications in inference mode among variables, those in the bodies of loops among them."""
    found = {one.call: one.variable for one in find_normalizations(order) if one.forgets_training}
    for variable in with_bodies(order):
        call = get_application_call(variable)
        if isinstance(variable.op, Untrained) and call is not None:
            found[call] = variable
    return found


def _flowed_through(variables: Iterable[Variable], untrained: Untrainings) -> set[ApplicationCall]:
    """The applications through whose results, or through whose own parameters, gradients flowed."""
    # in the backward body of a loop a stand-in of the same origin takes the place of a result
    by_origin = {behind_copies(variable).origin: call for call, variable in untrained.items()}
    found: set[ApplicationCall] = set()
    for variable in variables:
        if isinstance(variable.op, FlowedThrough):
            passed = variable.inputs[1]
            call = by_origin.get(passed.origin) if isinstance(passed.op, Input) else get_application_call(passed)
            if call is not None and call in untrained:
                found.add(call)
    return found


def _read_by_learners(order: Sequence[Variable], untrained: Untrainings, learned: set[Variable]) -> set[ApplicationCall]:
    """The applications whose results layers that learn take in, though no gradient need flow back through them."""
    # those within a network that does not learn do not count: inputs of its parameters, and what follows them within a layer
    within = set(order)
    depends = _downstream(order, {one for one in order if isinstance(one.op, Input)})
    parameters = {one for one in order if isinstance(one.op, Shared) and has_roles(one, [PARAMETER])}
    behind = _downstream(order, parameters - learned)
    learners = {get_layer(target) for target in learned}
    pending = [one for one in order if has_roles(one, [INPUT]) and get_layer(one) in learners]
    around_learners = {f"{one.origin.layer}/" for one in pending}
    results = {variable: call for call, variable in untrained.items()}
    seen, found = set(pending), set()
    while pending:
        variable = pending.pop()
        around = variable.origin.layer.rpartition("/")[0] + "/"
        if variable in results and (variable not in behind or any(path.startswith(around) for path in around_learners)):
            found.add(results[variable])
        if any(one in behind and one not in depends for one in variable.inputs):
            continue
        fresh = [one for one in variable.inputs if one not in seen and one in within]
        pending += fresh
        seen.update(fresh)
    return found


def _downstream(order: Sequence[Variable], sources: set[Variable]) -> set[Variable]:
    """The sources, and the variables that depend on them."""
    found = set(sources)
    for variable in order:
        if any(one in found for one in variable.inputs):
            found.add(variable)
    return found
