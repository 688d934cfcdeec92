"""PyTorch: eager, with fused optimizers, and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from frameworks import work


def _network(sizes: tuple[int, ...]) -> torch.nn.Sequential:
    """Linear, BatchNorm1d and ReLU for each hidden layer, and a Linear."""
    layers: list[torch.nn.Module] = []
    for a, b in zip(sizes[:-2], sizes[1:-1], strict=True):
        layers += [torch.nn.Linear(a, b, bias=False), torch.nn.BatchNorm1d(b, eps=work.EPSILON), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-2], sizes[-1]))


class Recurrent(torch.nn.Module):
    """An LSTM whose last state is classified: PyTorch's own, or its cells in a loop, perhaps normalized at every step."""

    def __init__(self, hidden: int, normalized: bool, cells: bool) -> None:
        super().__init__()
        self.hidden, self.normalized, self.cells = hidden, normalized, cells
        self.lstm = torch.nn.LSTMCell(1, hidden) if cells else torch.nn.LSTM(1, hidden)
        self.classify = torch.nn.Linear(hidden, work.CLASSES)
        if normalized:
            for name, size in (("x", 4 * hidden), ("h", 4 * hidden), ("c", hidden)):
                self.register_parameter(f"scale_{name}", torch.nn.Parameter(torch.full((size,), 0.1)))
                self.register_buffer(f"mean_{name}", torch.zeros(work.STEPS, size))
                self.register_buffer(f"variance_{name}", torch.ones(work.STEPS, size))
            self.shift = torch.nn.Parameter(torch.zeros(hidden))

    def _normalize(self, name: str, z: torch.Tensor, step: int, shift: torch.Tensor | None = None) -> torch.Tensor:
        mean, variance = getattr(self, f"mean_{name}")[step], getattr(self, f"variance_{name}")[step]
        scale = getattr(self, f"scale_{name}")
        return torch.nn.functional.batch_norm(z, mean, variance, scale, shift, self.training, work.AVERAGING, work.EPSILON)

    def _step(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One step of a normalized cell."""
        z = self._normalize("x", x @ self.lstm.weight_ih.T, step) + self._normalize("h", h @ self.lstm.weight_hh.T, step)
        i, f, g, o = (z + self.lstm.bias_ih).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(self._normalize("c", c, step, self.shift)), c

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logits of sequences (time, batch, 1)."""
        if not self.cells:
            return self.classify(self.lstm(x)[0][-1])
        h = c = torch.zeros(x.shape[1], self.hidden)
        for step in range(work.STEPS):
            h, c = self._step(x[step], h, c, step) if self.normalized else self.lstm(x[step], (h, c))
        return self.classify(h)


class Torch:
    """One way of using PyTorch; `cells` stand in loops over steps, instead of PyTorch's own LSTM."""

    def __init__(self, fused: bool, compiled: bool, cells: bool = False) -> None:
        self.fused, self.compiled, self.cells = fused, compiled, cells

    def _wrapped(self, function: Any) -> Any:
        return torch.compile(function) if self.compiled else function

    def mlp_step(self, sizes: tuple[int, ...], count: int, optimizer: str) -> Callable[[], Any]:
        """A training step of an MLP with batch normalization."""
        inputs, classes = work.batch(sizes, count)
        x, t = torch.from_numpy(inputs), torch.from_numpy(classes).long()
        net, loss = _network(sizes), torch.nn.CrossEntropyLoss()
        options = {"fused": True} if self.fused else {}
        if optimizer == "adam":
            rule: Any = torch.optim.Adam(net.parameters(), work.ADAM_RATE, **options)
        else:
            rule = torch.optim.SGD(net.parameters(), work.RATE, momentum=work.MOMENTUM, **options)
        forward = self._wrapped(lambda a, b: loss(net(a), b))

        def step() -> float:
            rule.zero_grad(set_to_none=True)
            value = forward(x, t)
            value.backward()
            rule.step()
            return float(value.item())

        return step

    def mlp_inference(self, sizes: tuple[int, ...], count: int) -> Callable[[], Any]:
        """The logits of the same network."""
        x = torch.from_numpy(work.batch(sizes, count)[0])
        net = _network(sizes).eval()
        forward = self._wrapped(net)

        def run() -> Any:
            with torch.inference_mode():
                return forward(x)

        return run

    def _recurrent(self, hidden: int, normalized: bool) -> Recurrent:
        cells = self.cells or self.compiled
        if normalized and not cells:
            raise ValueError("PyTorch's own LSTM cannot be normalized")
        return Recurrent(hidden, normalized, cells)

    def lstm_step(self, hidden: int, normalized: bool) -> Callable[[], Any]:
        """A training step of an LSTM whose last state is classified."""
        inputs, classes = work.sequences()
        x, t = torch.from_numpy(inputs), torch.from_numpy(classes).long()
        net, loss = self._recurrent(hidden, normalized), torch.nn.CrossEntropyLoss()
        options = {"fused": True} if self.fused else {}
        rule = torch.optim.SGD(net.parameters(), work.RATE, momentum=work.MOMENTUM, **options)
        forward = self._wrapped(lambda a, b: loss(net(a), b))

        def step() -> float:
            rule.zero_grad(set_to_none=True)
            value = forward(x, t)
            value.backward()
            rule.step()
            return float(value.item())

        return step

    def lstm_inference(self, hidden: int, normalized: bool) -> Callable[[], Any]:
        """The logits of the same network."""
        x = torch.from_numpy(work.sequences()[0])
        forward = self._wrapped(self._recurrent(hidden, normalized).eval())

        def run() -> Any:
            with torch.inference_mode():
                return forward(x)

        return run

    def _cnn(self, channels: int, size: int) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
        """Two convolutions, each normalized, rectified and pooled, and a Linear, in PyTorch's best layout; and a batch."""
        parts: list[torch.nn.Module] = []
        for before, filters in zip((channels, *work.FILTERS), work.FILTERS, strict=False):
            parts += [torch.nn.Conv2d(before, filters, 3, padding=1, bias=False), torch.nn.BatchNorm2d(filters, work.EPSILON)]
            parts += [torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
        classify = torch.nn.Linear(work.FILTERS[-1] * (size // 4) ** 2, work.CLASSES)
        net = torch.nn.Sequential(*parts, torch.nn.Flatten(), classify).to(memory_format=torch.channels_last)
        inputs, classes = work.images(channels, size)
        x = torch.from_numpy(inputs).to(memory_format=torch.channels_last)
        return net, x, torch.from_numpy(classes).long()

    def cnn_step(self, channels: int, size: int) -> Callable[[], Any]:
        """A training step of a small convolutional network."""
        net, x, t = self._cnn(channels, size)
        loss = torch.nn.CrossEntropyLoss()
        options = {"fused": True} if self.fused else {}
        rule = torch.optim.SGD(net.parameters(), work.RATE, momentum=work.MOMENTUM, **options)
        forward = self._wrapped(lambda a, b: loss(net(a), b))

        def step() -> float:
            rule.zero_grad(set_to_none=True)
            value = forward(x, t)
            value.backward()
            rule.step()
            return float(value.item())

        return step

    def cnn_inference(self, channels: int, size: int) -> Callable[[], Any]:
        """The logits of the same network."""
        net, x, _ = self._cnn(channels, size)
        forward = self._wrapped(net.eval())

        def run() -> Any:
            with torch.inference_mode():
                return forward(x)

        return run

    def micro(self, name: str, elements: int) -> Callable[[], Any]:
        """One kernel over so many elements."""
        if name == "adam":
            p, g, *_ = (torch.from_numpy(one) for one in work.vectors(elements))
            parameter = torch.nn.Parameter(p)
            parameter.grad = g
            rule = torch.optim.Adam([parameter], work.ADAM_RATE, **({"fused": True} if self.fused else {}))
            return rule.step
        x = torch.from_numpy(work.rows(elements))
        functions: dict[str, Any] = {
            "layer_norm": lambda a: torch.nn.functional.layer_norm(a, (work.ROW,)),
            "softmax": lambda a: torch.softmax(a, -1),
            "gelu": torch.nn.functional.gelu,
        }
        function = self._wrapped(functions[name])

        def run() -> Any:
            with torch.inference_mode():
                return function(x)

        return run
