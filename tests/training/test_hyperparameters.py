"""The numbers that rules, schedules, clipping and averages are given: checked by name, unless they are symbolic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigraph as mg
from minigraph import training, transforms
from minigraph.layers.core.roles import WEIGHT

P = mg.shared(np.float32([1.0, 2.0]), "p", tags=(WEIGHT,))
COST = mg.square(P).sum()
GRADIENTS = mg.grad(COST, [P])
PAIRS = [(P, P * 2)]
NAN, INF = float("nan"), float("inf")
RULES = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam", "adamw", "amsgrad")
AMOUNT: tuple[Any, ...] = (NAN, INF, -1, -0.5, np.float32(-1), None, "0.1", True, [0.1], np.array([0.1]))
FRACTION = (*AMOUNT, 1, 1.0, 2.0)
LIMIT = (*AMOUNT, 0, 0.0)


def of_rule(name: str, argument: str) -> Callable[[Any], Any]:
    """A rule, as a function of one of its arguments."""
    return lambda value: vars(training)[name](COST, P, **{"learning_rate": 0.1, argument: value})


def of_schedule(name: str, argument: str, **others: Any) -> Callable[[Any], Any]:
    """A schedule, as a function of one of its arguments."""
    return lambda value: vars(training)[name](**others, **{argument: value})


NUMBERS: dict[str, tuple[Callable[[Any], Any], tuple[Any, ...]]] = {
    **{f"{rule} learning_rate": (of_rule(rule, "learning_rate"), AMOUNT) for rule in RULES},
    **{f"{rule} momentum": (of_rule(rule, "momentum"), FRACTION) for rule in ("momentum", "nesterov")},
    **{f"{rule} rho": (of_rule(rule, "rho"), FRACTION) for rule in ("rmsprop", "adadelta")},
    **{
        f"{rule} {beta}": (of_rule(rule, beta), FRACTION)
        for rule in ("adam", "adamw", "amsgrad")
        for beta in ("beta1", "beta2")
    },
    **{f"{rule} epsilon": (of_rule(rule, "epsilon"), AMOUNT) for rule in RULES[3:]},
    "adamw weight_decay": (of_rule("adamw", "weight_decay"), AMOUNT),
    "weight_decay rate": (lambda value: training.weight_decay(GRADIENTS, P, value), AMOUNT),
    "clip_gradients limit": (lambda value: training.clip_gradients(GRADIENTS, value), LIMIT),
    "clip_gradient_norm max_norm": (lambda value: training.clip_gradient_norm(GRADIENTS, value), LIMIT),
    "exponential_decay initial": (of_schedule("exponential_decay", "initial", factor=0.5), AMOUNT),
    "exponential_decay factor": (of_schedule("exponential_decay", "factor", initial=0.5), AMOUNT),
    "step_decay initial": (of_schedule("step_decay", "initial", factor=0.5, steps=3), AMOUNT),
    "step_decay factor": (of_schedule("step_decay", "factor", initial=0.5, steps=3), AMOUNT),
    "cosine_decay initial": (of_schedule("cosine_decay", "initial", steps=3), AMOUNT),
    "cosine_decay final": (of_schedule("cosine_decay", "final", initial=0.5, steps=3), AMOUNT),
    "linear_warmup schedule": (of_schedule("linear_warmup", "schedule", steps=3), AMOUNT),
    "puzzlelib_average initial_factor": (lambda value: transforms.puzzlelib_average(PAIRS, value), AMOUNT),
    "gomlx_average momentum": (lambda value: transforms.gomlx_average(PAIRS, value), AMOUNT),
    "decayed_sums fraction": (lambda value: transforms.decayed_sums(PAIRS, value), AMOUNT),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_checked_by_name(name: str) -> None:
    """What is no number, not finite or out of bounds is refused; a number, also one of NumPy's, passes."""
    build, wrongs = NUMBERS[name]
    for wrong in wrongs:
        with pytest.raises((TypeError, ValueError), match=rf"(?s){name.split()[1]}.* must be.*test_hyperparameters\.py"):
            build(wrong)
    for right in (0.5, np.float32(0.5)):
        assert build(right)


@pytest.mark.parametrize("name", [name for name in NUMBERS if not name.endswith("fraction")])
def test_variables_pass_in_place_of_numbers(name: str) -> None:
    """A scalar variable is used as it is."""
    assert NUMBERS[name][0](mg.shared(np.float64(0.5)))


def test_limits_may_be_variables_of_any_float() -> None:
    """A symbolic limit clips as the number does, and leaves the dtype of gradients."""
    gradients = [mg.constant(np.float32([-3.0, 4.0]))]
    for clip in (training.clip_gradients, training.clip_gradient_norm):
        (by_number,), (by_variable,) = clip(gradients, 2.0), clip(gradients, mg.shared(np.float64(2.0)))
        assert by_variable.dtype == "float32"
        np.testing.assert_allclose(by_variable.eval(), by_number.eval(), rtol=1e-6)


def test_what_a_schedule_returns_is_checked() -> None:
    """It is a rate, as one that is given."""
    for wrong in (None, -1.0, NAN):
        for rate in (lambda step, wrong=wrong: wrong, training.linear_warmup(lambda step, wrong=wrong: wrong, 3)):
            with pytest.raises((TypeError, ValueError), match="schedule"):
                training.sgd(COST, P, rate)


@pytest.mark.parametrize("roles", ["WEIGHT", WEIGHT, None, ["WEIGHT"], [int]])
def test_roles_are_classes_of_roles(roles: Any) -> None:
    """A name, or a role that is not in a list, would find no parameter."""
    for build in (
        lambda: training.weight_decay(GRADIENTS, P, 0.1, roles=roles),
        lambda: training.adamw(COST, P, roles=roles),
    ):
        with pytest.raises(TypeError, match=r"(?s)roles must be a list.*test_hyperparameters\.py"):
            build()


@pytest.mark.parametrize("wrong", [None, [None], [1], 1.0, "text", P, mg.lvector("labels"), [mg.lvector("labels")]], ids=str)
def test_gradients_are_lists_of_variables(wrong: Any) -> None:
    """Whatever takes gradients says so for anything else."""
    for build in (
        lambda: training.clip_gradients(wrong, 1.0),
        lambda: training.clip_gradient_norm(wrong, 1.0),
        lambda: training.weight_decay(wrong, P, 0.1),
    ):
        with pytest.raises(TypeError, match=r"(?s)gradients must be a list.*test_hyperparameters\.py"):
            build()
    with pytest.raises(TypeError, match="gradients must be variables"):
        training.sgd([None], [P], 0.1)


AVERAGES = ("overwrite", "moving_average", "debiased_moving_average", "cumulative_average", "puzzlelib_average")
AVERAGES += ("gomlx_average", "caffe_average", "decayed_sums")


@pytest.mark.parametrize("name", AVERAGES)
@pytest.mark.parametrize("wrong", [None, 3, "text", COST, mg.layers.Tanh(), [COST], [(P,)], [(P, 1.0)]], ids=str)
def test_averages_take_pairs(name: str, wrong: Any) -> None:
    """A layer or a graph is not what they are made of."""
    with pytest.raises(TypeError, match=r"(?s)pairs \(population, estimate\).*test_hyperparameters\.py"):
        vars(transforms)[name](wrong)


@pytest.mark.parametrize("count", [[], 3, "text", mg.lscalar("count"), mg.constant(0)], ids=str)
def test_counts_of_averages_are_shared_variables(count: Any) -> None:
    """A count that nothing can be stored in is refused."""
    for name in ("cumulative_average", "puzzlelib_average", "gomlx_average"):
        with pytest.raises(TypeError, match=r"(?s)count must be a shared variable.*test_hyperparameters\.py"):
            vars(transforms)[name](PAIRS, count=count)
