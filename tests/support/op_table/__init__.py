"""The op table: one record per public op says what it computes, on what, how smooth it is, and what it refuses.

`tests/ops/test_ops.py` turns every record into tests of values, dtypes, layouts, special values, gradients, errors, memory, and
of NumPy's function of the same name. A record is called as its op is called: with arrays where the op takes variables.
"""

from support.op_table.arranging import ARRANGING
from support.op_table.control import CONTROL
from support.op_table.creation import CREATION
from support.op_table.elementwise import ACTIVATION, ELEMENTWISE, SPECIALS
from support.op_table.indexing import INDEXING
from support.op_table.losses import CROSSENTROPY
from support.op_table.products import LINALG, LINEAR
from support.op_table.reduction import NORMALIZATION, REDUCTIONS
from support.op_table.shape import SHAPES
from support.op_table.windows import CONVOLUTION, POOLING, WINDOWS

RECORDS = (
    *ELEMENTWISE,
    *SPECIALS,
    *SHAPES,
    *CREATION,
    *REDUCTIONS,
    *INDEXING,
    *ARRANGING,
    *ACTIVATION,
    *LINEAR,
    *LINALG,
    *CROSSENTROPY,
    *NORMALIZATION,
    *CONTROL,
    *WINDOWS,
    *CONVOLUTION,
    *POOLING,
)
