"""The backend for CUDA GPUs: regions compiled for them, arrays that stay on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigraph.compiler.binding import CallSignature
from minigraph.compiler.cuda.cuda_graph import Replay
from minigraph.compiler.cuda.plan import Device, DevicePlan
from minigraph.compiler.cuda.program import SHAPED
from minigraph.compiler.passes import Pass, Pipeline
from minigraph.compiler.pipeline import PASSES, SECLUDE
from minigraph.compiler.shape_cache import Arrays, CompilingBackend, PlannedRegion, Shapes
from minigraph.core.conversion import check_shape, fit
from minigraph.core.errors import ExecutionError, InvalidTypeError, OutOfMemoryError
from minigraph.core.graph import Array
from minigraph.core.types import TensorType
from minigraph.rewrite.one_pass_variance import one_pass_variance
from minigraph.rewrite.partition import Region, partition
from minigraph.rewrite.view_transposed import view_transposed

VECTORS = 16
"""The alignment that kernels expect of arrays, in bytes."""

PRODUCTS = ("float16", "float32", "float64")
"""The dtypes of products that cuBLAS computes."""

DLPACK_GPUS = (2, 13)
"""DLPack's numbers for memory of CUDA GPUs, and for memory that they share with the host."""


class DeviceRegion(PlannedRegion[DevicePlan]):
    """A region on a GPU, with a plan for each set of input shapes that it meets."""

    language = "cu"

    def __init__(self, gpu: Gpu, region: Region) -> None:
        super().__init__(gpu, region)
        self._device = gpu.shared

    def fast_call(self, signature: CallSignature) -> Replay:
        return Replay(self, signature)

    def make(self, shapes: Shapes) -> DevicePlan:
        return DevicePlan(self._device, self.shaped(shapes), self.donations, self.backend)


WHOLE = (SECLUDE, Pass(one_pass_variance), *PASSES, Pass(view_transposed))
"""The passes over graphs of any sizes."""
CUDA = Pipeline(WHOLE, (Pass(partition, needed=True),), SHAPED)


@dataclass(frozen=True)
class Gpu(CompilingBackend):
    """CuPy for the steps that need Python, kernels of our own and cuBLAS for everything between them.

    number: that of the GPU; shared: the state that all plans of a function share.
    """

    number: int
    shared: Device
    writes_over_state = True
    stops = False
    call_names = "GPU call", "GPU op"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Use the GPU that was chosen; say so where its memory does not suffice, and give back what is not in use."""
        try:
            with self.xp.cuda.Device(self.number):
                self.shared.lent.any = False
                try:
                    yield
                finally:
                    if self.shared.lent.any:  # their owner may take them back now
                        self.xp.cuda.get_current_stream().synchronize()
        except self.xp.cuda.memory.OutOfMemoryError as error:
            self.xp.get_default_memory_pool().free_all_blocks()
            raise OutOfMemoryError(f"GPU {self.number} has too little memory: {error}; no state was changed") from error

    def load(self, array: Array) -> Array:
        """An array on this GPU, copied there if it is not."""
        if isinstance(array, self.xp.ndarray):
            if array.device.id == self.number:
                return self._in_order(array)
            array = self.store(array)
        self.shared.copies.count(to_device=True)
        return self.xp.asarray(np.asarray(array, order="C"))

    def store(self, array: Array) -> np.ndarray[Any, Any]:
        """A copy on the host."""
        return self.shared.to_host(array)

    def transfers(self) -> tuple[int, int]:
        return self.shared.copies.to_device, self.shared.copies.to_host

    def fit(self, value: Any, expected: TensorType, what: object) -> Array:
        """An input, `value`, on the GPU; one there is not copied if its dtype is the expected one; errors name `what`."""
        if not self._lies_on_a_gpu(value):
            return self.load(fit(value, expected, what))
        array = value
        if not isinstance(value, self.xp.ndarray):
            array, self.shared.lent.any = self.xp.from_dlpack(value), True
        if array.device.id != self.number:
            raise ExecutionError(f"{what} lies on GPU {array.device.id}, and the function was made for GPU {self.number}")
        if array.dtype != expected.dtype:
            if not np.can_cast(array.dtype, expected.dtype, "safe"):
                raise InvalidTypeError(f"{what} has dtype {array.dtype} on the GPU, expected {expected}; cast it with astype")
            array = array.astype(expected.dtype)
        check_shape(array, expected, what)
        return array

    def _lies_on_a_gpu(self, value: Any) -> bool:
        """Whether a value is an array in a GPU's memory, of whatever library."""
        if hasattr(value, "__dlpack_device__"):
            return value.__dlpack_device__()[0] in DLPACK_GPUS
        return isinstance(value, self.xp.ndarray)

    def products(self) -> tuple[str, ...]:
        return PRODUCTS

    def region(self, region: Region) -> DeviceRegion:
        return DeviceRegion(self, region)

    def in_order(self, arrays: Sequence[Array]) -> Arrays:
        return tuple([self._in_order(one) for one in arrays])

    def _in_order(self, array: Array) -> Array:
        """An array in C order that begins where vectors may."""
        if array.flags.c_contiguous and not array.data.ptr % VECTORS:
            return array
        return self.xp.array(array, order="C")
