"""PyTorch itself against `dialects.torch`, the relatives of batch normalization, and what `convert` makes of checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import (
    KINDS,
    Data,
    Terms,
    agree,
    along,
    backend_of,
    compiled,
    load,
    log_uniform,
    state,
    tensor,
    trained,
    trained_module,
)

import minigraph as mg
from minigraph import dialects
from minigraph.dialects import (
    BLOCKS,
    CAFFE,
    CONVENTIONS,
    GOMLX,
    KERAS,
    LASAGNE,
    ONNX,
    PUZZLELIB,
    PYTORCH,
    THEANO,
    TORCH7,
    TORCH7_VERSION_1,
    convert,
)
from minigraph.layers import (
    BatchNormalization,
    GroupNormalization,
    InstanceNormalization,
    LayerNormalization,
    RMSNormalization,
    SpatialBatchNormalization,
    WeightNormalizedLinear,
)


def computed(module, x, w, *parameters):
    """A module's output, and the gradients of its weighted sum with respect to x and parameters."""
    given = tensor(x).requires_grad_()
    y = module(given)
    gradients = torch.autograd.grad((y * tensor(w)).sum(), [given, *parameters])
    return [one.detach().numpy() for one in (y, *gradients)]


# -- batch normalization ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(200))
def test_batch_norm(number):
    """Every step's outputs and gradients, in training and then in evaluation, and all that is stored in between."""
    rng = np.random.default_rng(number)
    rank, features = int(rng.integers(2, 6)), int(rng.integers(1, 9))
    dtype, backend = str(rng.choice(["float32", "float64"])), backend_of(number)
    options = {
        "eps": log_uniform(rng, 1e-6, 1e-1),
        "momentum": None if rng.random() < 0.3 else float(rng.choice([0.0, 0.1, 1.0, rng.uniform(0.01, 1)])),
        "affine": bool(rng.random() < 0.75),
        "track_running_stats": bool(rng.random() < 0.75),
        "bias": bool(rng.random() < 0.75),
    }
    data = Data(rng, dtype, rank, features)
    module = getattr(torch.nn, KINDS[rank])(features, dtype=torch.float64, **options)
    layer = getattr(dialects.torch, KINDS[rank])(features, **options)
    x = data.input()
    outputs = trained(layer, x), layer.apply(x)
    learned = [layer.variables[name] for name in ("weight", "bias") if name in layer.variables]
    train, infer = (compiled(x, y, [x, *learned], backend) for y in outputs)

    own = layer.get_values()
    assert list(own) == list(state(module))
    for name, value in state(module).items():
        np.testing.assert_array_equal(own[name], value)
    if rng.random() < 0.5:
        drawn = data.start([name for name in own if name != "num_batches_tracked"], ("weight", "bias", "running_mean"))
        if "num_batches_tracked" in own:
            drawn["num_batches_tracked"] = np.asarray(rng.integers(0, 6))
        load(module, drawn)
        layer.set_values(drawn)

    axes = (0, *range(2, rank))
    scale = along(module.weight.detach().numpy(), rank) if options["affine"] else 1.0
    furthest = 0.0

    def check(f, x, w, stored):
        """Compare one call; `stored` are the statistics that were in use if not the minibatch's own."""
        terms = Terms(x, w, scale, axes, options["eps"], *stored)
        y, dx, *dlearned = f(x, w)
        expected = computed(module, x, w, *module.parameters())
        rounding = (terms.stored_output(dtype), terms.stored_dscale(axes, dtype)) if stored else (0.0, 0.0)
        agree(y, expected[0], dtype, rounding=rounding[0])
        agree(dx, expected[1], dtype, size=terms.dx)
        limits = [(terms.dscale(axes), rounding[1]), (terms.dshift(axes), 0.0)][: len(learned)]
        for own, other, (size, lost) in zip(dlearned, expected[2:], limits, strict=True):
            agree(own, other, dtype, size=size, rounding=lost)

    module.train()
    for values, w in data.batches():
        furthest = max(furthest, np.abs(values).max())
        check(train, values, w, ())
    after = state(module)
    own = layer.get_values()
    assert list(own) == list(after)
    if options["track_running_stats"]:
        agree(own["running_mean"], after["running_mean"], dtype, size=furthest)
        agree(own["running_var"], after["running_var"], dtype, size=np.abs(after["running_var"]))
        assert own["num_batches_tracked"].dtype == after["num_batches_tracked"].dtype
        assert own["num_batches_tracked"] == after["num_batches_tracked"]

    module.eval()
    stored = [along(after[name], rank) for name in ("running_mean", "running_var") if name in after]
    for values, w in data.batches():
        check(infer, values, w, stored)
    np.testing.assert_equal(layer.get_values(), own)
    load(module, own)


@pytest.mark.parametrize("momentum", [-0.5, 0, 1.5])
def test_any_number_is_a_momentum(momentum):
    """Averages go wherever it takes them, and batches are counted."""
    data = Data(np.random.default_rng(0), "float64", 2, 4)
    module = torch.nn.BatchNorm1d(4, momentum=momentum, dtype=torch.float64)
    layer = dialects.torch.BatchNorm1d(4, momentum=momentum)
    x = data.input()
    step = mg.function([x], trained(layer, x))
    for values, _ in data.batches():
        module(tensor(values))
        step(values)
    own, other = layer.get_values(), state(module)
    for name in ("running_mean", "running_var"):
        agree(own[name], other[name], "float64")
    assert own["num_batches_tracked"] == other["num_batches_tracked"]


# -- relatives -------------------------------------------------------------------------------------------------------


def scale_and_shift(rng, shape, dtype, there):
    """Random values of a scale and a shift, and which of them there are."""
    return [rng.normal(size=shape).astype(dtype) for one in there if one]


def check_relative(layer, module, x, values, w, drawn, backend, terms, axes):
    """Compare a layer that has a scale and a shift, or none, with a module: outputs, and all gradients.

    terms: the size of the terms, perhaps with axes split. axes: those of the terms along which scale and shift do not vary.
    PyTorch computes x / stdev - mean / stdev, so that a sample of one element does not become 0 exactly.
    """
    dtype = values.dtype.name
    y = layer.apply(x)
    assert len(layer.variables) == len(list(module.parameters())) == len(drawn)
    for variable, parameter, value in zip(layer.variables.values(), module.parameters(), drawn, strict=True):
        assert variable.type.shape == tuple(parameter.shape)
        variable.set_value(value)
        parameter.data = tensor(value)
    y, dx, *dlearned = compiled(x, y, [x, *layer.variables.values()], backend)(values, w)
    expected = computed(module, values, w, *module.parameters())
    agree(y, expected[0], dtype, rounding=terms.stored_output("float64").reshape(y.shape))
    agree(dx, expected[1], dtype, size=terms.dx.reshape(dx.shape))
    limits = [(terms.dscale(axes), terms.stored_dscale(axes, "float64")), (terms.dshift(axes), 0 * terms.dshift(axes))]
    for own, other, (size, rounding) in zip(dlearned, expected[2:], limits, strict=False):
        agree(own, other, dtype, size=size.reshape(own.shape), rounding=rounding.reshape(own.shape))


@pytest.mark.parametrize("number", range(100))
def test_layer_norm(number):
    """Over one or more of the last axes, with scale and shift, scale alone, or neither."""
    rng = np.random.default_rng(number)
    rank, features = int(rng.integers(2, 6)), int(rng.integers(1, 9))
    dtype, epsilon = str(rng.choice(["float32", "float64"])), log_uniform(rng, 1e-6, 1e-1)
    data = Data(rng, dtype, rank, features, axis=rank - 1)
    values, w = data.batch()
    over = int(rng.integers(1, rank))
    shape, axes = values.shape[-over:], tuple(range(rank - over, rank))
    there = [(True, True), (True, False), (False, False)][rng.integers(3)]
    module = torch.nn.LayerNorm(shape, epsilon, elementwise_affine=there[0], bias=there[1], dtype=torch.float64)
    layer = LayerNormalization(
        shape if rng.random() < 0.5 else None,
        axes=tuple(range(-over, 0)),
        epsilon=epsilon,
        learn_scale=there[0],
        learn_shift=there[1],
    )
    drawn = scale_and_shift(rng, shape, dtype, there)
    terms = Terms(values, w, drawn[0] if there[0] else 1.0, axes, epsilon)
    x = mg.tensor("x", dtype=dtype, shape=[None] * (rank - over) + list(shape))
    check_relative(layer, module, x, values, w, drawn, backend_of(number), terms, tuple(range(rank - over)))


@pytest.mark.parametrize("number", range(100))
def test_rms_norm(number):
    """Over one or more of the last axes, with a scale or without."""
    rng = np.random.default_rng(number)
    rank, features = int(rng.integers(2, 6)), int(rng.integers(1, 9))
    dtype, epsilon = str(rng.choice(["float32", "float64"])), log_uniform(rng, 1e-6, 1e-1)
    data = Data(rng, dtype, rank, features, axis=rank - 1)
    values, w = data.batch()
    over = int(rng.integers(1, rank))
    shape, axes = values.shape[-over:], tuple(range(rank - over, rank))
    there = bool(rng.random() < 0.7), False
    module = torch.nn.RMSNorm(shape, epsilon, elementwise_affine=there[0], dtype=torch.float64)
    layer = RMSNormalization(shape, axes=tuple(range(-over, 0)), epsilon=epsilon, learn_scale=there[0])
    drawn = scale_and_shift(rng, shape, dtype, there)
    square = np.square(values.astype(np.float64)).mean(axes, keepdims=True)
    terms = Terms(values, w, drawn[0] if there[0] else 1.0, axes, epsilon, np.zeros_like(square), square)
    x = mg.tensor("x", dtype=dtype, shape=[None] * (rank - over) + list(shape))
    check_relative(layer, module, x, values, w, drawn, backend_of(number), terms, tuple(range(rank - over)))


@pytest.mark.parametrize("number", range(100))
def test_group_norm(number):
    """Any number of groups that divides the channels, from one to all."""
    rng = np.random.default_rng(number)
    rank, groups, each = int(rng.integers(2, 6)), int(rng.integers(1, 5)), int(rng.integers(1, 4))
    dtype, epsilon = str(rng.choice(["float32", "float64"])), log_uniform(rng, 1e-6, 1e-1)
    channels = groups * each
    data = Data(rng, dtype, rank, channels)
    values, w = data.batch()
    there = [(True, True), (True, False), (False, False)][rng.integers(3)]
    module = torch.nn.GroupNorm(groups, channels, epsilon, affine=there[0], bias=there[1], dtype=torch.float64)
    layer = GroupNormalization(groups, channels, epsilon=epsilon, learn_scale=there[0], learn_shift=there[1])
    drawn = scale_and_shift(rng, channels, dtype, there)
    grouped = (len(values), groups, each, *values.shape[2:])
    scale = drawn[0].reshape(1, groups, each, *[1] * (rank - 2)) if there[0] else 1.0
    terms = Terms(values.reshape(grouped), w.reshape(grouped), scale, tuple(range(2, rank + 1)), epsilon)
    check_relative(layer, module, data.input(), values, w, drawn, backend_of(number), terms, (0, *range(3, rank + 1)))


@pytest.mark.parametrize("number", range(100))
def test_instance_norm(number):
    """Over one to three spatial axes of together at least two positions, as PyTorch demands."""
    rng = np.random.default_rng(number)
    rank, channels = int(rng.integers(3, 6)), int(rng.integers(1, 9))
    dtype, epsilon = str(rng.choice(["float32", "float64"])), log_uniform(rng, 1e-6, 1e-1)
    data = Data(rng, dtype, rank, channels)
    spatial = [int(size) for size in rng.integers(1, 6, rank - 2)]
    spatial[rng.integers(rank - 2)] = int(rng.integers(2, 6))
    values, w = data.batch((int(rng.integers(1, 17)), channels, *spatial))
    there = [(True, True), (True, False), (False, False)][rng.integers(3)]
    kind = getattr(torch.nn, f"InstanceNorm{rank - 2}d")
    module = kind(channels, epsilon, affine=there[0], bias=there[1], dtype=torch.float64)
    layer = InstanceNormalization(channels, epsilon=epsilon, learn_scale=there[0], learn_shift=there[1])
    drawn = scale_and_shift(rng, channels, dtype, there)
    terms = Terms(values, w, along(drawn[0], rank) if there[0] else 1.0, tuple(range(2, rank)), epsilon)
    check_relative(layer, module, data.input(), values, w, drawn, backend_of(number), terms, (0, *range(2, rank)))


@pytest.mark.parametrize("number", range(100))
def test_weight_norm(number):
    """Values, and gradients of input, direction, length and bias, also from a direction that is not of length g."""
    rng = np.random.default_rng(number)
    rank, inputs, outputs = int(rng.integers(2, 4)), int(rng.integers(1, 9)), int(rng.integers(1, 9))
    dtype, use_bias = str(rng.choice(["float32", "float64"])), bool(rng.random() < 0.7)
    data = Data(rng, dtype, rank, inputs, axis=rank - 1)
    values, _ = data.batch()
    w = rng.normal(size=(*values.shape[:-1], outputs)).astype(dtype)
    layer = WeightNormalizedLinear(inputs, outputs, use_bias=use_bias, seed=number)
    x = data.input()
    y = layer.apply(x)
    drawn = {name: rng.normal(size=one.type.shape).astype(dtype) for name, one in layer.variables.items()}
    linear = torch.nn.Linear(inputs, outputs, bias=use_bias, dtype=torch.float64)
    if number % 4 == 0:  # as both start: g is the length
        drawn |= {"W": layer.variables["W"].get_value(), "g": layer.variables["g"].get_value()}
        linear.weight.data = tensor(drawn["W"].T)
    module = torch.nn.utils.parametrizations.weight_norm(linear)
    length, direction = module.parametrizations.weight.original0, module.parametrizations.weight.original1
    if number % 4 == 0:
        agree(drawn["g"], length.detach().numpy()[:, 0], dtype)
    length.data, direction.data = tensor(drawn["g"][:, None]), tensor(drawn["W"].T)
    if use_bias:
        module.bias.data = tensor(drawn["b"])
    for name, value in drawn.items():
        layer.variables[name].set_value(value)

    names = [name for name in ("W", "g", "b") if name in layer.variables]
    own = compiled(x, y, [x, *(layer.variables[name] for name in names)], backend_of(number))(values, w)
    others = computed(module, values, w, direction, length, *([module.bias] if use_bias else []))
    others[2], others[3] = others[2].T, others[3][:, 0]
    flat = [np.abs(one.astype(np.float64)).reshape(-1, one.shape[-1]) for one in (values, w)]
    lengths = np.sqrt(np.square(drawn["W"].astype(np.float64)).sum(0))
    slope = np.sqrt(np.square(flat[0].T @ flat[1]).sum(0))
    matrix = np.abs(drawn["W"] / lengths * drawn["g"])
    sizes = [
        np.abs(values) @ matrix + np.abs(drawn.get("b", 0)),
        np.abs(w) @ matrix.T,
        np.abs(drawn["g"]) * slope / lengths,
        slope,
        flat[1].sum(0),
    ]
    for actual, expected, size in zip(own, others, sizes, strict=False):
        agree(actual, expected, dtype, size=size)


# -- conversions -----------------------------------------------------------------------------------------------------


def torch7(rank):
    """Torch7's module for this number of axes; it has none for 3."""
    names = {2: "BatchNormalization", 4: "SpatialBatchNormalization", 5: "VolumetricBatchNormalization"}
    return getattr(dialects.torch, names[rank])


def puzzlelib(rank):
    """PuzzleLib's module for this number of axes."""
    return getattr(dialects.puzzlelib, {2: "BatchNorm", 3: "BatchNorm1D", 4: "BatchNorm2D", 5: "BatchNorm3D"}[rank])


def make_layer(convention, rank, features, epsilon, affine):
    """A layer of a system for this number of axes."""
    options = {"learn_scale": affine, "learn_shift": affine}
    gamma, beta = (1.0, 0.0) if affine else (None, None)
    if convention is BLOCKS and rank > 2:
        return SpatialBatchNormalization((features, *[None] * (rank - 2)), epsilon=epsilon, **options)
    makers = {
        BLOCKS: lambda: BatchNormalization(features, epsilon=epsilon, **options),
        LASAGNE: lambda: dialects.lasagne.BatchNormLayer(epsilon=epsilon, gamma=gamma, beta=beta),
        TORCH7: lambda: torch7(rank)(features, epsilon, affine=affine),
        PYTORCH: lambda: getattr(dialects.torch, KINDS[rank])(features, epsilon, affine=affine),
        PUZZLELIB: lambda: puzzlelib(rank)(features, epsilon, affine=affine, empty=True),
        GOMLX: lambda: dialects.gomlx.BatchNormalization(1, epsilon=epsilon, center=affine, scale=affine),
        KERAS: lambda: dialects.keras.BatchNormalization(1, epsilon=epsilon, center=affine, scale=affine),
        ONNX: lambda: dialects.onnx.BatchNormalization(epsilon, **options),
    }
    return makers[convention]()


def inferred(convention, x, values, epsilon):
    """The inference output of a system's layer, or layers, or functions, that were given these arrays."""
    rank, features, affine = x.ndim, x.type.shape[1], convention.scale in values
    if convention is THEANO:
        own = {name: along(value, rank).astype(value.dtype) for name, value in values.items()}
        ones = np.ones((1, features, *[1] * (rank - 2)), x.dtype)
        scale, shift = own.get("gamma", ones), own.get("beta", 0 * ones)
        mean, variance = own["running_mean"], own["running_var"]
        return dialects.theano.batch_normalization_test(x, scale, shift, mean, variance, "spatial", epsilon)
    if convention is CAFFE:
        blobs = {name: value for name, value in values.items() if name not in ("scale", "bias")}
        norm, scale = dialects.caffe.BatchNorm(eps=epsilon, features=features), dialects.caffe.Scale(bias_term=True)
        y = norm.apply(x)
        norm.set_values(blobs)
        if affine:
            y = scale.apply(y)
            for name in ("scale", "bias"):
                scale.variables[name].set_value(values[name])
        return y
    layer = make_layer(convention, rank, features, epsilon, affine)
    if convention is PUZZLELIB:
        layer.dtype = x.dtype
        layer.set_values(values)  # an empty module cannot be applied before
        return layer.apply(x)
    y = layer.apply(x)
    layer.set_values(values)
    return y


@pytest.mark.parametrize("number", range(50))
def test_conversions(number):
    """A trained module's outputs are those of every system's layer, and of a module loaded from what these store.

    Nothing may be refused. Left out are only Torch7 for 3 axes, for which it has no module; its version 1 has no layer, and is
    read by that of version 2.
    """
    rng = np.random.default_rng(number)
    rank, features = int(rng.integers(2, 6)), int(rng.integers(1, 9))
    dtype, epsilon = str(rng.choice(["float32", "float64"])), log_uniform(rng, 1e-6, 1e-1)
    affine = bool(rng.random() < 0.7)
    data = Data(rng, dtype, rank, features)
    module, checkpoint = trained_module(data, epsilon, affine)

    x = data.input()
    outputs, stored = [], []
    for convention in CONVENTIONS:
        values = convert(checkpoint, PYTORCH, convention, epsilon=epsilon)
        assert set(values) <= set(convention.order) and all(one.dtype == dtype for one in values.values() if one.ndim)
        stored.append((convention, values))
        if convention is TORCH7_VERSION_1:
            convention, values = TORCH7, convert(values, TORCH7_VERSION_1, TORCH7, epsilon=epsilon)
        if convention is not TORCH7 or rank != 3:
            outputs.append(inferred(convention, x, values, epsilon))
    assert len(stored) == len(CONVENTIONS) == 11 and len(outputs) == (9 if rank == 3 else 11)

    values, w = data.batch()
    expected = module(tensor(values)).detach().numpy()
    scale = along(checkpoint["weight"], rank) if affine else 1.0
    statistics = [along(checkpoint[name], rank) for name in ("running_mean", "running_var")]
    rounding = Terms(values, w, scale, (0, *range(2, rank)), epsilon, *statistics).stored_output(dtype)
    for y in mg.function([x], outputs, backend=backend_of(number))(values):
        agree(y, expected, dtype, rounding=rounding)
    for convention, arrays in stored:
        back = convert(arrays, convention, PYTORCH, epsilon=epsilon)
        load(module, back)
        again = module(tensor(values)).detach().numpy()
        agree(again.astype(dtype), expected, dtype, rounding=rounding)
