"""PyTorch on a GPU: eager with fused optimizers, compiled with CUDA graphs, and a whole step captured as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from frameworks import torch_work, work

WARM = 5
"""Calls before a step is captured."""


class Torch:
    """One way of using PyTorch: "torch", "torch compiled", or "torch graph", which is compiled, too."""

    def __init__(self, way: str) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.compiled, self.graph, self.device = way != "torch", way == "torch graph", device
        self.version = torch.__version__
        self.card = torch.cuda.get_device_name() if device == "cuda" else device
        torch.backends.cudnn.allow_tf32 = False  # as everywhere else: float32 means float32
        self._plain = torch_work.Torch(True, False)

    def wait(self, last: Any) -> None:
        """Wait for all that was enqueued."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def _wrapped(self, function: Any) -> Any:
        """A function compiled as this way asks for."""
        if not self.compiled:
            return function
        return torch.compile(function, mode="default" if self.graph or self.device != "cuda" else "reduce-overhead")

    def _step(self, net: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, rule: Any) -> Callable[[], Any]:
        """A training step."""
        loss = torch.nn.CrossEntropyLoss()
        forward = self._wrapped(lambda a, b: loss(net(a), b))

        def step() -> torch.Tensor:
            rule.zero_grad(set_to_none=True)
            value = forward(x, t)
            value.backward()
            rule.step()
            return value

        return self._captured(step)

    def _captured(self, step: Callable[[], Any]) -> Callable[[], Any]:
        """A step as one CUDA graph, where this way asks for it."""
        if not self.graph or self.device != "cuda":
            return step
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(WARM):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return graph.replay

    def _rule(self, net: torch.nn.Module, optimizer: str) -> Any:
        """An optimizer, fused."""
        if optimizer == "adam":
            return torch.optim.Adam(net.parameters(), work.ADAM_RATE, fused=True, capturable=self.graph)
        return torch.optim.SGD(net.parameters(), work.RATE, momentum=work.MOMENTUM, fused=True)

    def mlp_step(self, sizes: tuple[int, ...], count: int, optimizer: str) -> Callable[[], Any]:
        """A training step of an MLP with batch normalization."""
        inputs, classes = work.batch(sizes, count)
        net = torch_work._network(sizes).to(self.device)
        x, t = torch.from_numpy(inputs).to(self.device), torch.from_numpy(classes).long().to(self.device)
        return self._step(net, x, t, self._rule(net, optimizer))

    def cnn_step(self, channels: int, size: int) -> Callable[[], Any]:
        """A training step of a small convolutional network."""
        net, x, t = (one.to(self.device) for one in self._plain._cnn(channels, size))
        return self._step(net, x, t, self._rule(net, "momentum"))

    def normalization(self, shape: tuple[int, ...], backward: bool) -> Callable[[], Any]:
        """Batch normalization of channels on axis 1, with its statistics; or the gradients of x, scale and shift."""
        x, dy = (torch.randn(shape, device=self.device) for _ in range(2))
        scale, shift = torch.ones(shape[1], device=self.device), torch.zeros(shape[1], device=self.device)
        options = (scale, shift, None, None, True, 0.1, work.EPSILON)
        if self.compiled:
            forward = self._wrapped(lambda a: torch.ops.aten.native_batch_norm(a, *options))
        else:
            forward = lambda a: torch.ops.aten.native_batch_norm(a, *options)  # noqa: E731
        if not backward:
            return self._captured(lambda: forward(x))
        _, mean, deviation = torch.ops.aten.native_batch_norm(x, *options)

        def slopes(a: torch.Tensor, b: torch.Tensor) -> Any:
            return torch.ops.aten.native_batch_norm_backward(
                a, b, scale, None, None, mean, deviation, True, work.EPSILON, [True, True, True]
            )

        function = self._wrapped(slopes)
        return self._captured(lambda: function(dy, x))

    def micro(self, name: str, elements: int) -> Callable[[], Any]:
        """One kernel over so many elements."""
        if name == "adam":
            p, g, *_ = (torch.from_numpy(one).to(self.device) for one in work.vectors(elements))
            parameter = torch.nn.Parameter(p)
            parameter.grad = g
            rule = torch.optim.Adam([parameter], work.ADAM_RATE, fused=True, capturable=self.graph)
            return self._captured(rule.step)
        x = torch.from_numpy(work.rows(elements)).to(self.device)
        functions: dict[str, Any] = {
            "layer_norm": lambda a: torch.nn.functional.layer_norm(a, (work.ROW,)),
            "softmax": lambda a: torch.softmax(a, -1),
            "gelu": torch.nn.functional.gelu,
        }
        function = self._wrapped(functions[name])
        return self._captured(lambda: function(x))
