"""minigraph: array expressions written once, then differentiated, transformed, optimized and compiled."""

import sys
from types import FunctionType
from typing import TYPE_CHECKING, Any

from minigraph import operators
from minigraph.core import errors
from minigraph.core.config import config
from minigraph.core.conversion import constant, shared, tensor
from minigraph.core.errors import *
from minigraph.core.graph import Graph, Variable
from minigraph.core.guard import guard_all, guarded
from minigraph.core.loading import loaded
from minigraph.core.version import __version__
from minigraph.core.walks import clone, replace
from minigraph.core.wishes import After
from minigraph.core.words import instead_of_word
from minigraph.inputs import *
from minigraph.ops import random
from minigraph.ops.array.arranging import *
from minigraph.ops.array.creation import *
from minigraph.ops.array.indexing import *
from minigraph.ops.array.shape import *
from minigraph.ops.array.sorting import *
from minigraph.ops.array.windows import *
from minigraph.ops.control import *
from minigraph.ops.elementwise.activation import *
from minigraph.ops.elementwise.arithmetic import *
from minigraph.ops.elementwise.base import *
from minigraph.ops.elementwise.comparison import *
from minigraph.ops.elementwise.special import *
from minigraph.ops.elementwise.transcendental import *
from minigraph.ops.linear import linalg
from minigraph.ops.linear.contraction import *
from minigraph.ops.linear.convolution import *
from minigraph.ops.linear.pooling import *
from minigraph.ops.linear.products import *
from minigraph.ops.loop.scan import *
from minigraph.ops.reduce.crossentropy import *
from minigraph.ops.reduce.normalization import *
from minigraph.ops.reduce.reduction import *
from minigraph.ops.reduce.running import *
from minigraph.ops.reduce.softmax import *
from minigraph.ops.reduce.statistics import *

if TYPE_CHECKING:
    from minigraph import dialects, files, layers, testing, training, transforms
    from minigraph.compiler.choose import register_backend, register_rule, unregister_backend, unregister_rule
    from minigraph.compiler.doctor import doctor
    from minigraph.files.functions import load_function
    from minigraph.functions.build import In, Out
    from minigraph.functions.function import Function, function
    from minigraph.functions.reports import Memory, Profile, Trace, Transfers
    from minigraph.gradient import grad, hessian, hessian_vector_product, jacobian, jvp, vjp
    from minigraph.layers.core.computation_graph import ComputationGraph
    from minigraph.layers.core.filter import VariableFilter
    from minigraph.layers.core.modes import training as training_mode
    from minigraph.layers.normalization.batch import batch_normalization
    from minigraph.printing import debugprint, pprint, to_dot, to_networkx, to_svg

__all__ = [
    "Function", "In", "Memory", "Out", "Profile", "Trace", "Transfers", "function", "load_function",
    "grad", "hessian", "hessian_vector_product", "jacobian", "jvp", "vjp",
    "addbroadcast", "patternbroadcast", "specify_shape", "unbroadcast",
    "Graph", "Variable", "clone", "constant", "replace", "shared", "tensor",
    "ComputationGraph", "VariableFilter", "batch_normalization", "training_mode",
    "debugprint", "pprint", "to_dot", "to_networkx", "to_svg",
    "After", "config", "doctor", "register_backend", "register_rule", "unregister_backend", "unregister_rule",
    "dialects", "errors", "files", "layers", "linalg", "random", "testing", "training", "transforms",
    "MinigraphError", "InvalidTypeError", "ImmutableError", "InvalidValueError", "InvalidIndexError", "FailedAssertionError",
    "ExecutionError", "FileFormatError", "InvalidAttributeError", "LinearAlgebraError", "MissingExtraError", "OutOfMemoryError",
    "scalar", "vector", "matrix", "row", "col", "tensor3", "tensor4", "tensor5", "iscalar", "ivector", "imatrix", "irow",
    "icol", "itensor3", "itensor4", "itensor5", "lscalar", "lvector", "lmatrix", "lrow", "lcol", "ltensor3", "ltensor4",
    "ltensor5", "fscalar", "fvector", "fmatrix", "frow", "fcol", "ftensor3", "ftensor4", "ftensor5", "dscalar", "dvector",
    "dmatrix", "drow", "dcol", "dtensor3", "dtensor4", "dtensor5",
    "elu", "gelu", "leaky_relu", "log_softmax", "relu", "sigmoid", "silu", "softmax", "softplus",
    "abs", "add", "ceil", "clip", "divide", "divmod", "floor", "floor_divide", "maximum", "minimum", "multiply",
    "multiply_or_zero", "neg", "negative", "power", "reciprocal", "remainder", "round", "sign", "square", "subtract", "trunc",
    "concatenate", "diag", "flip", "outer", "pad", "repeat", "roll", "split", "stack", "tile", "tril", "triu",
    "and_", "bitwise_and", "bitwise_or", "bitwise_xor", "eq", "equal", "ge", "greater", "greater_equal", "gt", "invert",
    "isfinite", "isinf", "isnan", "le", "left_shift", "less", "less_equal", "logical_and", "logical_not", "logical_or",
    "logical_xor", "lt", "neq", "not_equal", "or_", "right_shift", "switch", "where", "xor",
    "assert_", "disconnected_grad", "grad_clip", "grad_reverse", "grad_scale", "ifelse", "with_default_update",
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "arange", "eye", "full", "full_like", "linspace", "ones", "ones_like", "tri", "zeros", "zeros_like",
    "binary_crossentropy", "categorical_crossentropy", "one_hot", "sigmoid_binary_crossentropy", "softmax_crossentropy",
    "cast", "identity",
    "inc_subtensor", "index", "nonzero", "set_subtensor", "take", "take_along_axis",
    "argsort", "sort", "topk", "unique",
    "batched_dot", "dot", "einsum", "matmul", "tensordot",
    "center", "normalize_by", "standardize",
    "average_pool", "global_average_pool", "max_pool",
    "all", "any", "argmax", "argmin", "cumprod", "cumsum", "logsumexp", "max", "mean", "min", "norm", "prod", "ptp", "std",
    "sum", "var",
    "foldl", "foldr", "map", "reduce", "scan", "scan_checkpoints", "until",
    "broadcast_to", "dimshuffle", "expand_dims", "flatten", "moveaxis", "ravel", "reshape", "shape", "shape_padleft",
    "shape_padright", "size", "squeeze", "swapaxes", "transpose",
    "digamma", "erf", "erfc", "gammaln", "polygamma",
    "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "cos", "cosh", "exp", "exp2", "expm1", "hypot",
    "log", "log10", "log1p", "log2", "logaddexp", "sin", "sinh", "sqrt", "tan", "tanh",
    "overlap", "windows",
]  # fmt: skip

_LATER = {
    **{name: name for name in ("dialects", "files", "layers", "testing", "training", "transforms")},
    "doctor": "compiler.doctor:doctor",
    **{
        name: f"compiler.choose:{name}"
        for name in ("register_backend", "register_rule", "unregister_backend", "unregister_rule")
    },
    **{name: f"functions.build:{name}" for name in ("In", "Out")},
    **{name: f"functions.function:{name}" for name in ("Function", "function")},
    "load_function": "files.functions:load_function",
    **{name: f"functions.reports:{name}" for name in ("Memory", "Profile", "Trace", "Transfers")},
    **{name: f"gradient:{name}" for name in ("grad", "hessian", "hessian_vector_product", "jacobian", "jvp", "vjp")},
    "training_mode": "layers.core.modes:training",
    "ComputationGraph": "layers.core.computation_graph:ComputationGraph",
    "VariableFilter": "layers.core.filter:VariableFilter",
    "batch_normalization": "layers.normalization.batch:batch_normalization",
    **{name: f"printing:{name}" for name in ("debugprint", "pprint", "to_dot", "to_networkx", "to_svg")},
}
"""The public names that are loaded when somebody first asks for them, each with its place in the package."""

guard_all(vars(linalg), linalg.__all__)
guard_all(globals(), [name for name in __all__ if name not in _LATER])


def __dir__() -> list[str]:
    """The public names."""
    return sorted([*__all__, "__version__"])


if not TYPE_CHECKING:  # type checkers would take it that every name is there

    def __getattr__(name: str) -> Any:
        """A public name that was not loaded before; AttributeError for any other, with our word for one of Theano's."""
        if name in _LATER:
            value = loaded(_LATER[name])
            return globals().setdefault(name, guarded(value) if isinstance(value, FunctionType) else value)
        message = f"module {__name__!r} has no attribute {name!r}"
        ours = instead_of_word(name)
        raise AttributeError(f"{message}; {ours}" if ours else message, name=name, obj=sys.modules[__name__])
