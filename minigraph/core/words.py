"""Words that users bring along: the names here of what Theano had, and the nearest to a name that does not exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

THEANO: Mapping[str, str] = {
    "sqr(x)": "mg.square(x)",
    "sgn(x)": "mg.sign(x)",
    "inv(x)": "mg.reciprocal(x)",
    "abs_(x)": "mg.abs(x)",
    "mul(x, y)": "mg.multiply(x, y)",
    "sub(x, y)": "mg.subtract(x, y)",
    "true_div(x, y)": "mg.divide(x, y)",
    "int_div(x, y)": "mg.floor_divide(x, y)",
    "floor_div(x, y)": "mg.floor_divide(x, y)",
    "mod(x, y)": "mg.remainder(x, y)",
    "pow(x, y)": "mg.power(x, y)",
    "largest(x, y)": "mg.maximum(x, y)",
    "smallest(x, y)": "mg.minimum(x, y)",
    "psi(x)": "mg.digamma(x)",
    "bitwise_not(i)": "mg.invert(i)",
    "iround(x)": 'mg.cast(mg.round(x), "int64")',
    "round_half_to_even(x)": "mg.round(x)",
    "deg2rad(x)": "x * (np.pi / 180)",
    "rad2deg(x)": "x * (180 / np.pi)",
    "second(x, y)": "mg.broadcast_to(y, x.shape)",
    "fill(x, y)": "mg.broadcast_to(y, x.shape)",
    "alloc(y, 2, 3)": "mg.broadcast_to(y, (2, 3))",
    "tensor_copy(x)": "x.copy()",
    "as_tensor_variable(1.5)": "mg.constant(1.5)",
    "TensorType('float32', (False, True))('z')": 'mg.tensor("z", dtype="float32", shape=(None, 1))',
    "join(1, x, y)": "mg.concatenate([x, y], axis=1)",
    "horizontal_stack(x, y)": "mg.concatenate([x, y], axis=1)",
    "vertical_stack(x, y)": "mg.concatenate([x, y], axis=0)",
    "stacklists([x, y])": "mg.stack([x, y])",
    "max_and_argmax(x, 1)": "(x.max(1), x.argmax(1))",
    "diagonal(x)": "mg.diag(x)",
    "extract_diag(x)": "mg.diag(x)",
    "trace(x)": "mg.diag(x).sum()",
    "identity_like(x)": "mg.eye(x.shape[0])",
    "batched_tensordot(a, b, 1)": "mg.batched_dot(a, b)",
    "to_one_hot(i, 5)": "mg.one_hot(i, 5)",
    "extra_ops.diff(x)": "x[:, 1:] - x[:, :-1]",
    "nlinalg.matrix_inverse(x)": "mg.linalg.inv(x)",
    "nlinalg.det(x)": "mg.linalg.det(x)",
    "nlinalg.svd(x, full_matrices=False)": "mg.linalg.svd(x)",
    "nlinalg.eigh(x)": "mg.linalg.eigh(x)",
    "nlinalg.qr(x)": "mg.linalg.qr(x)",
    "slinalg.cholesky(x)": "mg.linalg.cholesky(x)",
    "slinalg.solve(x, y)": "mg.linalg.solve(x, y)",
    "slinalg.solve_lower_triangular(x, y)": "mg.linalg.solve_triangular(x, y, lower=True)",
    "slinalg.solve_upper_triangular(x, y)": "mg.linalg.solve_triangular(x, y)",
    "nnet.logsoftmax(x)": "mg.log_softmax(x)",
    "nnet.hard_sigmoid(x)": "mg.clip(0.2 * x + 0.5, 0, 1)",
    "nnet.ultra_fast_sigmoid(x)": "mg.sigmoid(x)",
    "nnet.softsign(x)": "x / (1 + mg.abs(x))",
    "nnet.selu(x)": "1.0507009873554805 * mg.elu(x, 1.6732632423543772)",
    "nnet.batch_normalization_train(...)": "mg.dialects.theano.batch_normalization_train",
    "nnet.batch_normalization_test(...)": "mg.dialects.theano.batch_normalization_test",
    "signal.pool.pool_2d(images, (2, 2), ignore_border=True)": "mg.max_pool(images, (2, 2))",
    "shared_randomstreams.RandomStreams(7)": "mg.random.RandomStream(7)",
    "MRG_RandomStreams(7)": "mg.random.RandomStream(7)",
    "Param(v, default=1.0)": "mg.In(v, value=1.0)",
    "gradient.Rop(r, v, u)": "mg.jvp(r, [v], [u])",
    "gradient.Lop(r, v, u)": "mg.vjp(r, [v], u)",
    "gradient.consider_constant(x)": "mg.grad_scale(x, 0)",
    "gradient.zero_grad(x)": "mg.grad_scale(x, 0)",
    "gradient.verify_grad(...)": "mg.testing.verify_grad",
    "printing.pp(x)": "mg.pprint(x)",
    "printing.pydotprint(f)": "mg.to_dot(f)",
    "opt.Assert('odd')(x, c)": "mg.assert_(x, c, 'odd')",
}
"""Calls of Theano's that have other names here, and what to write instead.

Where a call has "..." as arguments, the name of a function is given.
"""

ARGUMENTS: Mapping[str, Mapping[str, str]] = {
    "function": {
        "mode": "backend= chooses what it is compiled for",
        "profile": "call f.profile(...) on what it returns",
        "accept_inplace": "results are computed in place by themselves, where nobody can see it",
        "rebuild_strict": "givens are always checked",
    },
    "scan": {
        "mode": "backend= of mg.function chooses what it is compiled for",
        "profile": "call f.profile(...) on the function",
        "allow_gc": "memory is planned when a function is called first",
    },
    "shared": {
        "strict": "values are always checked, and cast only where nothing is lost",
        "allow_downcast": "values are cast only where nothing is lost; cast them before",
        "broadcastable": "axes of size 1 broadcast",
    },
}
"""Arguments of Theano's functions that functions do not have here, and what takes their place."""


def instead_of_word(name: str) -> str | None:
    """A sentence about what a word of Theano's is called here; None for any other word."""
    for theirs, ours in THEANO.items():
        if name == theirs.partition("(")[0].rpartition(".")[2]:
            return f"Theano's {theirs} is {ours} here"
    if any(f"{name}." in theirs for theirs in THEANO):
        return f"what Theano keeps in {name} is in minigraph itself, or listed in docs/porting.md under its name here"
    return None


def instead_of_argument(function: str, name: str, known: Sequence[str]) -> str:
    """Advice on the argument `name` that a function, with the arguments `known`, does not have."""
    of_theano = ARGUMENTS.get(function, {}).get(name)
    return of_theano or f"it has {', '.join(nearest(name, known) or known)}"


def nearest(name: str, known: Sequence[str]) -> list[str]:
    """The known name that is spelt most like `name`, or else those that contain it or occur in it."""
    from difflib import get_close_matches  # which is needed for messages alone

    return get_close_matches(name, known, 1) or [one for one in known if name in one or one in name]
