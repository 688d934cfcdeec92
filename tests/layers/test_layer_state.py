"""All state of a layer is in its values, in `initialize` and in resets: training goes on as if it had never stopped."""

from __future__ import annotations

import copy
import gc
import pickle
from types import FunctionType, ModuleType

import numpy as np
import pytest

import minigraph as mg
from minigraph import dialects, layers
from minigraph.core.state import Cell
from minigraph.dialects import gomlx, keras, puzzlelib, torch
from minigraph.dialects.base import DialectNormalization, TrainableNormalization
from minigraph.layers import Layer, get_parameter_values, set_parameter_values
from minigraph.layers.core.roles import BATCH_NORM_POPULATION_STATISTICS, PARAMETER, has_roles
from minigraph.transforms import reset_population_statistics
from support.layer_table import CASES, MATRIX, RECORDS, assert_equal_steps, batches, stepping

ABSTRACT = {
    Layer,
    layers.PopulationNormalization,
    layers.Recurrent,
    DialectNormalization,
    TrainableNormalization,
    puzzlelib._SpatialNormalization,
    torch.PyTorchNormalization,
}


def exported():
    """All layer classes that users find in `layers` and in the modules of dialects."""
    modules = [layers, *(one for one in vars(dialects).values() if isinstance(one, ModuleType))]
    found = {one for module in modules for one in vars(module).values() if isinstance(one, type) and issubclass(one, Layer)}
    return found - ABSTRACT


def test_every_layer_class_has_a_record():
    assert exported() == set(RECORDS)


def values_equal(first, second):
    """Whether values by name are the same, bit for bit."""
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def cells_below(layer):
    """Every cell that can be reached from a layer through whatever objects."""
    seen, stack, cells = set(), [layer], set()
    while stack:
        one = stack.pop()
        if id(one) in seen or isinstance(one, type | ModuleType | FunctionType | str | np.ndarray):
            continue
        seen.add(id(one))
        if isinstance(one, Cell):
            cells.add(one)
        else:
            stack += gc.get_referents(one)
    return cells


@pytest.mark.parametrize(("make", "shape"), CASES)
def test_all_state_is_saved_copied_drawn_and_reset(make, shape):
    layer = make()
    step = stepping(layer, shape)
    start = get_parameter_values(layer)
    for batch in batches(shape, 3):
        step(batch)
    saved = get_parameter_values(layer)
    assert cells_below(layer) == {variable.cell for variable in layers.get_parameters(layer).values()}

    copied = copy.deepcopy(layer)
    assert values_equal(get_parameter_values(copied), saved)
    assert not cells_below(copied) & cells_below(layer)
    if not any(isinstance(one, FunctionType) for one in vars(layer).values()):
        assert values_equal(get_parameter_values(pickle.loads(pickle.dumps(layer))), saved)

    other = make()
    onward = stepping(other, shape)
    set_parameter_values(other, saved)
    assert_equal_steps(step, onward, shape)

    before = get_parameter_values(layer)
    reset_population_statistics(layer)
    population = layers.get_parameters(layer, BATCH_NORM_POPULATION_STATISTICS)
    assert values_equal(get_parameter_values(layer), {name: (start if name in population else before)[name] for name in before})

    fresh = make()
    first = stepping(fresh, shape)
    layer.initialize(3)
    fresh.initialize(3)
    assert values_equal(get_parameter_values(layer), get_parameter_values(fresh))
    assert_equal_steps(step, first, shape)


def test_puzzlelib_counts_on_after_a_resume():
    """And the arrays of PuzzleLib itself, which does not save the count, start it anew."""
    layer, other, third = puzzlelib.BatchNorm(1), puzzlelib.BatchNorm(1), puzzlelib.BatchNorm(1)
    steps = [stepping(one, (2, 1)) for one in (layer, other, third)]
    for _ in range(100):
        steps[0]([[0.0], [2.0]])
    set_parameter_values(other, get_parameter_values(layer))
    third.set_values(layer.get_values())
    for step in steps:
        step([[20.0], [22.0]])
    means = [one.get_values()["mean"].item() for one in (layer, other, third)]
    assert means == pytest.approx([3, 3, 21], rel=1e-5)
    assert list(layer.get_values()) == ["scale", "bias", "mean", "var"]
    other.initialize(0)
    assert int(other.num_of_props.get_value()) == 0


def test_renormalization_forgets_its_steps():
    layer = layers.BatchRenormalization(1, r_max=lambda n: 1.0 + n, d_max=lambda n: 1.0 * n)
    step = stepping(layer, (2, 1))
    for _ in range(50):
        step([[9.0], [11.0]])
    reset_population_statistics(layer)
    scale = layer.variables["scale"].get_value()
    assert np.diff(step([[9.0], [11.0]]).ravel()) == pytest.approx(2 * scale, rel=1e-3)
    assert int(layer.variables["steps"].get_value()) == 1


def test_layers_of_ones_own_save_their_streams():
    class Jitter(Layer):
        """Noise in training."""

        def allocate_parameters(self):
            self.stream = self.add_stream()

        @layers.application
        def apply(self, x):
            """x with noise."""
            return x + self.stream.normal(mg.shape(x))

    layer, other = Jitter(seed=1), Jitter(seed=2)
    steps = [stepping(one, MATRIX) for one in (layer, other)]
    steps[0](batches(MATRIX, 1)[0])
    set_parameter_values(other, get_parameter_values(layer))
    assert_equal_steps(*steps, MATRIX)


def test_frozen_parameters_are_state_that_does_not_learn():
    for layer in (gomlx.BatchNormalization(trainable=False), keras.BatchNormalization(trainable=False)):
        layer.apply(mg.matrix("x", shape=(None, 2)))
        assert layer.parameters == [] == list(layers.get_parameters(layer, PARAMETER))
        assert any(has_roles(one, [PARAMETER]) for one in layers.get_parameters(layer).values())
