"""Windows, convolutions and pooling."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from minigraph.ops.array import windows
from minigraph.ops.linear import convolution, pooling
from support import convolution_reference as by_hand
from support.op_table.makers import one, record, with_arguments
from support.op_table.records import EVERY, FLOATS, NUMBERS, Call, Record, Wrong, matrix

# -- windows, convolution, pooling -----------------------------------------------------------------------------------


def filtering(x: tuple[int, ...], filters: tuple[int, ...], **options: Any) -> Call:
    """A call on an array and filters."""
    return Call((x, filters), (), options, known=True)


def convolution_record(name: str, reference: Any, calls: Iterable[Call], *wrong: Wrong) -> Record:
    """A convolution or its transpose."""
    return record(convolution, name, reference, calls, dtypes=(*FLOATS, ("float32", "float64")), wrong=wrong, tolerance=4)


WINDOWS = (
    record(
        windows,
        "windows",
        by_hand.windows,
        [
            with_arguments((5,), 2, (0,)),
            with_arguments((2, 7, 6), (3, 2), (1, 2), (2, 1), (1, 3)),
            with_arguments((3, 4), 1, (1,), 2),
            with_arguments((0, 4), 4, (1,)),
        ],
        dtypes=EVERY,
        wrong=(
            Wrong(lambda: windows.windows(matrix(2, 3), 4, (1,)), ValueError),
            Wrong(lambda: windows.windows(matrix(2, 3), 2, (2,)), ValueError),
            Wrong(lambda: windows.windows(matrix(2, 3), (2, 2), (1,)), ValueError),
            Wrong(lambda: windows.windows(matrix(2, 3), 0, (1,)), ValueError),
            Wrong(lambda: windows.windows(matrix(2, 3), 2, (1,), 1.5), TypeError),
            Wrong(lambda: windows.windows("text", 2, (1,)), TypeError),
        ),
    ),
    record(
        windows,
        "overlap",
        by_hand.overlap,
        [
            Call(((4, 2),), (5, (0,)), {}, known=True),
            Call(((2, 3, 2, 3, 2),), ((7, 4), (1, 2), (2, 1), (1, 2)), {}, known=True),
            Call(((2, 3, 2),), ((7,), (1,), 2), {}, known=True),
            Call(((0, 1, 4),), ((4,), (1,)), {}, known=True),
        ],
        dtypes=NUMBERS,
        wrong=(
            Wrong(lambda: windows.overlap(matrix(3, 2), 5, (0,)), ValueError),
            Wrong(lambda: windows.overlap(matrix(3, None), 5, (0,)), ValueError),
            Wrong(lambda: windows.overlap(matrix(3, 2), 4, (0,), (1, 1)), ValueError),
            Wrong(lambda: windows.overlap(matrix(3, 2), 1, (0,)), ValueError),
        ),
    ),
)

CONVOLUTION = (
    convolution_record(
        "conv1d",
        by_hand.convolved,
        [
            filtering((2, 3, 7), (4, 3, 3)),
            filtering((2, 4, 8), (6, 2, 3), stride=2, padding=((2, 1),), dilation=2, groups=2),
            filtering((2, 1, 3), (2, 1, 3), padding="full", flip_filters=True),
            filtering((2, 3, 9), (6, 1, 3), stride=2, padding=((2, 1),), dilation=2, groups=3, flip_filters=True),
        ],
        Wrong(lambda: convolution.conv1d(matrix(2, 3, 7), matrix(4, 2, 3)), ValueError),
        Wrong(lambda: convolution.conv1d(matrix(2, 3, 2), matrix(4, 3, 3)), ValueError),
        Wrong(lambda: convolution.conv1d(matrix(3, 7), matrix(4, 3, 3)), TypeError),
        Wrong(lambda: convolution.conv1d(matrix(2, 3, None), matrix(4, 3, 3), 2, "same"), ValueError),
    ),
    convolution_record(
        "conv2d",
        by_hand.convolved,
        [
            filtering((2, 3, 5, 4), (4, 3, 3, 2)),
            filtering((2, 4, 7, 6), (4, 1, 2, 3), stride=(2, 1), padding="same", groups=4),
            filtering((2, 3, 8, 7), (6, 1, 3, 2), stride=(2, 3), dilation=(1, 2), padding=((0, 2), 1), groups=3),
            filtering((1, 2, 3, 2), (2, 1, 2, 1), padding=3, groups=2),
            filtering((0, 2, 5, 5), (2, 1, 2, 2), groups=2),
            filtering((1, 2, 5, 5), (3, 2, 2, 2), padding=((1, 0), 2), dilation=(1, 2), stride=2),
            filtering((0, 2, 5, 5), (3, 2, 2, 2)),
        ],
        Wrong(lambda: convolution.conv2d(matrix(2, 3, 5, 5), matrix(4, 3, 3, 3), groups=2), ValueError),
        Wrong(lambda: convolution.conv2d(matrix(2, 4, 5, 5), matrix(3, 2, 3, 3), groups=2), ValueError),
        Wrong(lambda: convolution.conv2d(matrix(2, 3, 2, 5), matrix(3, 1, 3, 3), groups=3), ValueError),
        Wrong(lambda: convolution.conv2d(matrix(2, 3, 5, 5), matrix(4, 3, 3, 3), groups=0), ValueError),
        Wrong(lambda: convolution.conv2d(matrix(2, 3, 5, 5), matrix(4, 3, 3, 3), padding="half"), ValueError),
        Wrong(lambda: convolution.conv2d(matrix(2, 3, 5, 5), matrix(4, 3, 3, 3), padding=(1, 2, 3)), ValueError),
        Wrong(lambda: convolution.conv2d(matrix(2, 3, 5, 5), matrix(4, 3, 3, 3), padding=-1), ValueError),
        Wrong(lambda: convolution.conv2d(matrix(2, 3, 5, 5), matrix(4, 3, 3, 3), stride=0), ValueError),
        Wrong(lambda: convolution.conv2d(matrix(2, 3, 5, 5), matrix(4, 3, None, 3)), ValueError),
        Wrong(lambda: convolution.conv2d("text", matrix(4, 3, 3, 3)), TypeError),
    ),
    convolution_record(
        "conv3d",
        by_hand.convolved,
        [
            filtering((2, 2, 4, 3, 5), (3, 2, 2, 2, 3)),
            filtering((1, 2, 3, 4, 3), (2, 2, 2, 3, 1), stride=2, padding=1),
            filtering((1, 2, 3, 5, 4), (4, 1, 2, 3, 1), stride=(1, 2, 1), dilation=(2, 1, 1), padding="same", groups=2),
        ],
        Wrong(lambda: convolution.conv3d(matrix(2, 3, 5, 5), matrix(4, 3, 3, 3)), TypeError),
        Wrong(lambda: convolution.conv3d("text", matrix(4, 3, 3)), TypeError),
    ),
    convolution_record(
        "conv_transpose1d",
        by_hand.transposed,
        [
            filtering((2, 3, 4), (3, 4, 3)),
            filtering((2, 4, 3), (4, 2, 3), stride=3, padding=((1, 2),), output_padding=2, dilation=2, groups=2),
            filtering((2, 3, 4), (3, 4, 3), stride=2, flip_filters=True),
        ],
        Wrong(lambda: convolution.conv_transpose1d(matrix(2, 3, 7), matrix(4, 2, 3)), ValueError),
        Wrong(lambda: convolution.conv_transpose1d("text", matrix(4, 3, 3)), TypeError),
    ),
    convolution_record(
        "conv_transpose2d",
        by_hand.transposed,
        [
            filtering((2, 3, 3, 2), (3, 2, 2, 3)),
            filtering((2, 4, 3, 2), (4, 1, 3, 2), stride=(2, 3), padding=1, output_padding=(1, 0), groups=2),
            filtering((2, 4, 3, 2), (4, 1, 3, 2), stride=(2, 3), padding=1, groups=2, flip_filters=True),
        ],
        Wrong(lambda: convolution.conv_transpose2d(matrix(2, 3, 4, 4), matrix(3, 2, 3, 3), 2, 0, 2), ValueError),
        Wrong(lambda: convolution.conv_transpose2d(matrix(2, 3, 4, 4), matrix(3, 2, 3, 3), groups=2), ValueError),
        Wrong(lambda: convolution.conv_transpose2d(matrix(2, 3, 4, 4), matrix(3, 2, 3, 3), 1, "same"), ValueError),
    ),
    convolution_record(
        "conv_transpose3d",
        by_hand.transposed,
        [
            filtering((1, 2, 2, 3, 2), (2, 2, 2, 2, 3), stride=2),
            filtering((1, 1, 2, 1, 2), (1, 1, 1, 2, 1)),
            filtering((1, 1, 2, 1, 2), (1, 1, 1, 2, 2), flip_filters=True),
        ],
        Wrong(lambda: convolution.conv_transpose3d(matrix(2, 3, 4, 4), matrix(3, 2, 3, 3)), TypeError),
        Wrong(lambda: convolution.conv_transpose3d("text", matrix(4, 3, 3)), TypeError),
    ),
)

POOLING = (
    record(
        pooling,
        "max_pool",
        partial(by_hand.pooled, "max"),
        [
            with_arguments((2, 3, 6, 4), 2),
            with_arguments((2, 3, 7, 5), (2, 3)),
            Call(((2, 2, 6, 5),), ((3, 2), (2, 1), 1), {}, known=True),
            Call(((2, 2, 6, 5),), (3, 2), {"padding": (1, 0), "ignore_border": False}),
            with_arguments((2, 6), (3,), 1),
        ],
        wrong=(
            Wrong(lambda: pooling.max_pool(matrix(2, 3, 5, 5), 6), ValueError),
            Wrong(lambda: pooling.max_pool(matrix(2, 3, 5, 5), 2, 0), ValueError),
            Wrong(lambda: pooling.max_pool(matrix(2, 3, 5, 5), 2, padding=2), ValueError),
            Wrong(lambda: pooling.max_pool(matrix(2, 3), 2), TypeError),
            Wrong(lambda: pooling.max_pool(matrix(2, 3, None), 2, padding=2, ignore_border=False), ValueError),
            Wrong(lambda: pooling.max_pool("text", 2), TypeError),
        ),
    ),
    record(
        pooling,
        "average_pool",
        partial(by_hand.pooled, "mean"),
        [
            with_arguments((2, 3, 6, 4), 2),
            Call(((2, 2, 6, 5),), ((3, 2), (2, 1), 1), {}, known=True),
            Call(((2, 2, 6, 5),), (3, 2, 1), {"count_padding": False}, known=True),
            Call(((2, 2, 6, 4),), (3, 2), {"ignore_border": False, "count_padding": False}),
            Call(((2, 2, 6, 5),), (3, 2, 1), {"ignore_border": False}),
            with_arguments((2, 1, 6), 3, 1),
        ],
        wrong=(
            Wrong(lambda: pooling.average_pool(matrix(2, 3, 5, 5), (2, 2, 2, 2, 2)), TypeError),
            Wrong(lambda: pooling.average_pool(matrix(2, 3, 5, 5), 2, padding=(1, 1, 1)), ValueError),
        ),
    ),
    record(
        pooling,
        "global_average_pool",
        lambda x, keepdims=False: x.mean(tuple(range(2, x.ndim)), keepdims=keepdims),
        [one(2, 3, 4, 5), one(2, 3, 4, keepdims=True)],
        wrong=(
            Wrong(lambda: pooling.global_average_pool(matrix(2, 3)), TypeError),
            Wrong(lambda: pooling.global_average_pool("text"), TypeError),
        ),
    ),
)
