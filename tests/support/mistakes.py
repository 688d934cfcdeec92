"""Mistakes that users make, each on one marked line, which the error names, with the op and the types involved.

What can be known when the graph is built is raised there, on the marked line itself; the rest when compiling or calling, and
then the message leads back to the marked line.
"""

import numpy as np
import pytest

import minigraph as mg

TABLE = []


def mistake(when, error, *parts):
    """Record a function that makes a mistake on the line marked `# mistake`; `parts` must be in the message."""

    def record(function):
        TABLE.append(pytest.param(function, when, error, parts, id=function.__name__))
        return function

    return record


# -- known when the graph is built -----------------------------------------------------------------------------------


@mistake("build", ValueError, "MatMul(float32 (None, 3), float32 (4, None))", "3 is not 4")
def product_of_sizes_that_differ():
    x, w = mg.matrix("x", shape=(None, 3)), mg.matrix("w", shape=(4, None))
    x @ w  # mistake


@mistake("build", ValueError, "MatMul(float32 (1, 3), float32 (4, 1))")
def dot_of_vectors_of_different_lengths():
    x, w = mg.vector("x", shape=(3,)), mg.vector("w", shape=(4,))
    mg.dot(x, w)  # mistake


@mistake("build", TypeError, "matmul", "<s: float32 scalar>", "<x: float32 (None, None)>", "use * for scalars")
def product_with_a_scalar():
    x, s = mg.matrix("x"), mg.scalar("s")
    x @ s  # mistake


@mistake("build", ValueError, "Add(float32 (3,), float32 (4,))", "sizes [3, 4] differ")
def sum_of_lengths_that_differ():
    x, y = mg.vector("x", shape=(3,)), mg.vector("y", shape=(4,))
    x + y  # mistake


@mistake("build", TypeError, "BitwiseAnd(float32 (None,), float32 (None,))")
def bits_of_floats():
    x = mg.vector("x")
    x & x  # mistake


@mistake("build", TypeError, "Invert(float32 (None,))")
def negation_of_floats_as_truth():
    x = mg.vector("x")
    mg.log(~x)  # mistake


@mistake("build", TypeError, "LeftShift(bool (None,), bool (None,))")
def shift_of_truth():
    x = mg.vector("x", dtype="bool")
    x << x  # mistake


@mistake("build", ValueError, "int8", "300")
def number_too_large_for_its_partner():
    x = mg.vector("x", dtype="int8")
    x + 300  # mistake


@mistake("build", ValueError, "power", "<n: int64 (None,)>", "-1")
def negative_power_of_an_integer():
    n = mg.lvector("n")
    n**-1  # mistake


@mistake("build", IndexError, "Index(float32 (3,))", "index 5 is out of bounds for axis 0 with size 3")
def index_past_a_known_size():
    x = mg.vector("x", shape=(3,))
    x[5]  # mistake


@mistake("build", IndexError, "too many indices", "<x: float32 (None,)>")
def too_many_indices():
    x = mg.vector("x")
    x[0, 0]  # mistake


@mistake("build", TypeError, "getitem", "<x: float32 (None,)>", "'a'")
def index_that_is_text():
    x = mg.vector("x")
    x["a"]  # mistake


@mistake("build", TypeError, "getitem", "<x: float32 (None,)>", "<i: float32 scalar>")
def index_that_is_a_float():
    x, i = mg.vector("x"), mg.scalar("i")
    x[i]  # mistake


@mistake("build", ValueError, "getitem", "step", "<x: float32 (None,)>")
def slice_without_a_step():
    x = mg.vector("x")
    x[::0]  # mistake


@mistake("build", ValueError, "Reshape(float32 (2, 3))", "6 elements", "(4, 2)")
def reshape_to_another_number_of_elements():
    x = mg.matrix("x", shape=(2, 3))
    x.reshape((4, 2))  # mistake


@mistake("build", TypeError, "reshape", "<x: float32 (None, None)>", "2.5")
def size_that_is_a_float():
    x = mg.matrix("x")
    x.reshape((2.5, -1))  # mistake


@mistake("build", ValueError, "Dimshuffle(float32 (None, None))", "static size 1")
def dropping_an_axis_that_is_not_one():
    x = mg.matrix("x")
    x.dimshuffle(0)  # mistake


@mistake("build", ValueError, "transpose", "<x: float32 (None, None)>", "permutation")
def transposing_by_no_permutation():
    x = mg.matrix("x")
    x.transpose(0, 0)  # mistake


@mistake("build", ValueError, "sum", "<x: float32 (None, None)>", "axis 2 is out of bounds")
def reduction_over_an_axis_that_is_not_there():
    x = mg.matrix("x")
    x.sum(axis=2)  # mistake


@mistake("build", ValueError, "Max(float32 (0, 3))", "no elements")
def greatest_of_nothing():
    x = mg.matrix("x", shape=(0, 3))
    x.max(axis=0)  # mistake


@mistake("build", ValueError, "oncatenate", "float32 (2, 3)", "float32 (2, 4)")
def concatenation_of_what_does_not_fit():
    x, y = mg.matrix("x", shape=(2, 3)), mg.matrix("y", shape=(2, 4))
    mg.concatenate([x, y], axis=0)  # mistake


@mistake("build", ValueError, "broadcast_to", "float32 (3,)", "(2, 4)")
def broadcast_to_a_shape_that_does_not_fit():
    x = mg.vector("x", shape=(3,))
    mg.broadcast_to(x, (2, 4))  # mistake


@mistake("build", ValueError, "einsum", "ij,jk->ik", "float32 (None,)")
def einsum_of_too_few_axes():
    x, y = mg.vector("x"), mg.matrix("y")
    mg.einsum("ij,jk->ik", x, y)  # mistake


@mistake("build", TypeError, "set_subtensor", "<x: float32 (None,)>", "x[1:3]")
def assignment_to_what_is_not_indexed():
    x = mg.vector("x")
    mg.set_subtensor(x, 1)  # mistake


@mistake("build", TypeError, "setitem", "float32 (None,)", "set_subtensor")
def assignment_as_in_numpy():
    x = mg.vector("x")  # involved
    x[0] = 1  # mistake


@mistake("build", TypeError, "bool", "bool (None,)", "mg.where")
def branch_of_python():
    x = mg.vector("x")
    if x > 0:  # mistake
        x = -x


@mistake("build", TypeError, "IfElse(bool (None,), float32 (None,), float32 (None,))", "scalar")
def lazy_branch_on_an_array():
    x = mg.vector("x")
    mg.ifelse(x > 0, x, -x)  # mistake


@mistake("build", TypeError, "IfElse(bool scalar, float32 (None,), float32 scalar)")
def branches_of_different_kinds():
    x, c = mg.vector("x"), mg.scalar("c")
    mg.ifelse(c > 0, x, c)  # mistake


@mistake("build", TypeError, "corrcoef", "counterpart", "<x: float32 (None,)>")
def function_of_numpy_that_has_no_counterpart():
    x = mg.vector("x")
    np.corrcoef(x)  # mistake


@mistake("build", TypeError, "astype", "<x: float32 (None,)>", "float33")
def dtype_that_does_not_exist():
    x = mg.vector("x")
    x.astype("float33")  # mistake


@mistake("build", TypeError, "grad", "float32 (None,)", "mean or sum")
def gradient_of_a_vector():
    x = mg.vector("x")
    mg.grad(x * 2, x)  # mistake


@mistake("build", TypeError, "grad", "<n: int64 scalar>", "floats only")
def gradient_by_an_integer():
    n = mg.lscalar("n")  # involved
    cost = n * 2.0
    mg.grad(cost, n)  # mistake


@mistake("build", ValueError, "grad", "<y: float32 scalar>", "does not depend")
def gradient_by_something_else():
    x, y = mg.scalar("x"), mg.scalar("y")  # involved
    mg.grad(x * 2, y)  # mistake


@mistake("build", TypeError, "with_default_update", "<x: float32 scalar>", "only shared")
def default_update_of_an_input():
    x = mg.scalar("x")
    mg.with_default_update(x, {x: x + 1})  # mistake


# -- known when the function is compiled -----------------------------------------------------------------------------


@mistake("compile", ValueError, "<y: float32 scalar>", "not among the inputs", "function")
def forgotten_input():
    x = mg.scalar("x")
    y = mg.scalar("y")  # mistake
    mg.function([x], x + y)


@mistake("compile", ValueError, "<y: float32 scalar>", "not used", "function")
def unused_input():
    x = mg.scalar("x")
    y = mg.scalar("y")  # mistake
    mg.function([x, y], x)


@mistake("compile", TypeError, "<s: float32 scalar>", "<Add: float64 scalar>", "widened")
def update_that_was_widened():
    s = mg.shared(1.0, "s")  # involved
    new = s + np.float64(1)  # mistake
    mg.function([], updates={s: new})


@mistake("compile", TypeError, "<s: float32 (3,)>", "float32 scalar")
def update_that_lost_its_axes():
    s = mg.shared([1.0, 2.0, 3.0], "s")  # involved
    new = s.sum()  # mistake
    mg.function([], updates={s: new})


@mistake("compile", TypeError, "<s: float32 scalar>", "cannot be an input", "givens")
def shared_variable_as_an_input():
    s = mg.shared(1.0, "s")  # mistake
    mg.function([s], s + 1)


@mistake("compile", TypeError, "<x: float32 (None,)>", "<w: float64 (None,)>")
def given_of_another_dtype():
    x = mg.vector("x")  # involved
    w = mg.dvector("w")  # mistake
    mg.function([w], x + 1, givens={x: w})


# -- known when the function is called -------------------------------------------------------------------------------


@mistake("call", ValueError, "MatMul(float32 (None, None), float32 (None, None))", "float32 (2, 3), float32 (4, 5)")
def product_of_shapes_that_do_not_fit():
    x, w = mg.matrix("x"), mg.matrix("w")
    y = x @ w  # mistake
    mg.function([x, w], mg.exp(y))(np.ones((2, 3), "float32"), np.ones((4, 5), "float32"))


@mistake("call", ValueError, "Add(float32 (None,), float32 (None,))", "(3,) and (1,)", "known to be 1 when the graph is built")
def broadcast_of_a_size_that_is_one_by_chance():
    x, b = mg.vector("x"), mg.vector("b")
    y = x + b  # mistake
    mg.function([x, b], y)([1, 2, 3], [1])


@mistake("call", ValueError, "Multiply(float32 (None, 3), float32 (None,))", "(2, 3) and (4,)")
def operands_that_do_not_match():
    x, b = mg.matrix("x", shape=(None, 3)), mg.vector("b")
    y = x * b  # mistake
    mg.function([x, b], y.sum())(np.ones((2, 3), "float32"), [1, 2, 3, 4])


@mistake("call", IndexError, "Index(float32 (None,), int64 scalar)", "index 5 is out of bounds", "float32 (2,)")
def index_out_of_range():
    x, i = mg.vector("x"), mg.lscalar("i")
    y = x[i]  # mistake
    mg.function([x, i], y)([1, 2], 5)


@mistake("call", IndexError, "Index(float32 (None, None), int64 (None,))", "index 7")
def row_that_is_not_there():
    table, picks = mg.matrix("table"), mg.lvector("picks")
    rows = table[picks]  # mistake
    mg.function([table, picks], rows.mean())(np.ones((3, 2), "float32"), [0, 7])


@mistake("call", AssertionError, "Assert(float32 (None,), bool (None,))", "x must be positive", "float32 (2,)")
def assertion_that_fails():
    x = mg.vector("x")
    y = mg.assert_(x, x > 0, "x must be positive")  # mistake
    mg.function([x], mg.log(y))([1, -1])


@mistake("call", ValueError, "Reshape(float32 (None, None))", "float32 (3, 5)")
def elements_that_cannot_be_arranged_so():
    x = mg.matrix("x")
    y = x.reshape((-1, 4))  # mistake
    mg.function([x], y)(np.ones((3, 5), "float32"))


@mistake("call", ValueError, "Max(float32 (None,))", "float32 (0,)")
def greatest_of_an_empty_array():
    x = mg.vector("x")
    y = x.max()  # mistake
    mg.function([x], y)(np.ones(0, "float32"))


@mistake("call", ValueError, "oncatenate", "float32 (None, None), float32 (None, None)")
def concatenation_that_does_not_fit_when_called():
    x, y = mg.matrix("x"), mg.matrix("y")
    z = mg.concatenate([x, y], axis=0)  # mistake
    mg.function([x, y], z)(np.ones((2, 3), "float32"), np.ones((2, 4), "float32"))


@mistake("call", ValueError, "Inv", "float64 (2, 2)")
def inverse_of_a_singular_matrix():
    x = mg.dmatrix("x")
    y = mg.linalg.inv(x)  # mistake
    mg.function([x], y)(np.zeros((2, 2)))


@mistake("call", TypeError, "<x: float32 (None,)>", "float64", "float32", "astype")
def array_of_another_dtype():
    x = mg.vector("x")  # mistake
    mg.function([x], x * 2)(np.array([0.1, 0.2]))


@mistake("call", TypeError, "<x: float32 (None, None)>", "1 axes", "(3,)")
def array_of_too_few_axes():
    x = mg.matrix("x")  # mistake
    mg.function([x], x * 2)([1, 2, 3])


@mistake("call", ValueError, "<x: float32 (None, 3)>", "(2, 4)")
def array_of_another_size():
    x = mg.matrix("x", shape=(None, 3))  # mistake
    mg.function([x], x * 2)(np.ones((2, 4), "float32"))


@mistake("call", TypeError, "<y: float32 scalar>", "missing")
def forgotten_argument():
    x = mg.scalar("x")
    y = mg.scalar("y")  # mistake
    mg.function([x, y], x + y)(1)


@mistake("call", TypeError, "<x: float32 (None,)>", "str 'text'")
def argument_that_is_text():
    x = mg.vector("x")  # mistake
    mg.function([x], x)("text")


@mistake("call", ValueError, "<s: float32 (3,)>", "(2,)", "no state was changed")
def update_of_another_run_time_shape():
    x = mg.vector("x")
    s = mg.shared([1.0, 2.0, 3.0], "s")  # mistake
    mg.function([x], updates={s: x * 2})([1, 2])


@mistake("call", ValueError, "MatMul(float32 (None, None), float32 (None, None))", "(2, 3)")
def product_whose_gradient_alone_is_computed():
    x, w = mg.matrix("x"), mg.matrix("w")
    y = x @ w  # mistake
    slope = mg.grad((y * y).sum(), w)
    mg.function([x, w], slope)(np.ones((2, 3), "float32"), np.ones((4, 5), "float32"))


@mistake("call", ValueError, "Add(float32 (None,), float32 (None,))", "(3,) and (2,)")
def sum_that_was_optimized_into_a_difference():
    x, b = mg.vector("x"), mg.vector("b")
    negative = -b
    y = x - negative  # mistake
    mg.function([x, b], y)([1, 2, 3], [1, 2])
