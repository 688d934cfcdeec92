"""minigraph on a GPU: data lies there, calls return without waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cupy
import numpy as np

import minigraph as mg
from frameworks import minigraph_work, work


class Minigraph:
    """The cases, by minigraph's layers and rules, on backend "cupy"."""

    def __init__(self) -> None:
        mg.config.backend = "cupy"
        self.version = f"{mg.__version__} with CuPy {cupy.__version__}"
        self.card = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
        self.launches: dict[str, str] = {}
        self._function: Any = None

    def wait(self, last: Any) -> None:
        """Wait for all that was enqueued."""
        cupy.cuda.get_current_stream().synchronize()

    def note(self, title: str) -> None:
        """Keep of what a call of the last case consists."""
        kernel = self._function._execution.plan.steps[0].kernel
        plan = kernel.recent
        products = sum(type(one).__name__ == "Gemm" for one in plan.program.commands)
        kernels = len(plan.program.commands) - products
        captured = "one graph" if plan.captured is not None else f"no graph ({self._function._fast.refusal})"
        self.launches[title] = f"{captured} of {kernels} kernels and {products} products"

    def _called(self, function: Any, *arrays: Any) -> Callable[[], Any]:
        """A call of a function with data on the GPU."""
        self._function = function
        given = [cupy.asarray(one) for one in arrays]
        return lambda: function(*given)

    def mlp_step(self, sizes: tuple[int, ...], count: int, optimizer: str) -> Callable[[], Any]:
        """A training step of an MLP with batch normalization."""
        return self._called(minigraph_work.training_function(sizes, optimizer), *work.batch(sizes, count))

    def cnn_step(self, channels: int, size: int) -> Callable[[], Any]:
        """A training step of a small convolutional network."""
        return self._called(minigraph_work.cnn_function(channels, size), *work.images(channels, size))

    def normalization(self, shape: tuple[int, ...], backward: bool) -> Callable[[], Any]:
        """Batch normalization of channels on axis 1, with its statistics; or the gradients of x, scale and shift."""
        x, dy = (mg.tensor(name, shape=(None,) * len(shape)) for name in ("x", "dy"))
        axes = tuple(axis for axis in range(len(shape)) if axis != 1)
        kept = [1 if axis in axes else size for axis, size in enumerate(shape)]
        scale, shift = mg.shared(np.ones(kept, "float32")), mg.shared(np.zeros(kept, "float32"))
        normalized, mean, stdev, *_ = mg.standardize(x, axes, work.EPSILON)
        y = normalized * scale + shift
        rng = np.random.default_rng(0)
        data, slopes = (rng.normal(size=shape).astype("float32") for _ in range(2))
        if not backward:
            return self._called(mg.function([x], [y, mean, stdev]), data)
        average, inverse = (mg.tensor(name, shape=kept) for name in ("average", "inverse"))
        x_hat, count = (x - average) * inverse, data.size / shape[1]
        dshift, dscale = (mg.sum(one, axes, keepdims=True) for one in (dy, dy * x_hat))
        dx = (dy - dshift / count - x_hat * (dscale / count)) * (inverse * scale)
        statistics = [data.mean(axes, keepdims=True), 1 / data.std(axes, keepdims=True)]
        return self._called(mg.function([x, dy, average, inverse], [dx, dscale, dshift]), data, slopes, *statistics)

    def micro(self, name: str, elements: int) -> Callable[[], Any]:
        """One kernel over so many elements."""
        function, *data = minigraph_work.micro_function(name, elements)
        return self._called(function, *data)

    def copy_rate(self, quick: bool, seconds: Callable[..., float]) -> float:
        """Bytes a second, read and written, of a copy of 256 MiB."""
        source = cupy.ones((1 << 14) if quick else (1 << 26), cupy.float32)
        target = cupy.empty_like(source)
        runtime, stream = cupy.cuda.runtime, cupy.cuda.get_current_stream()

        def copy() -> None:
            runtime.memcpyAsync(target.data.ptr, source.data.ptr, source.nbytes, runtime.memcpyDeviceToDevice, stream.ptr)

        return 2 * source.nbytes / seconds(copy, self.wait, quick)
