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


class Torch:
    """One way of using PyTorch."""

    def __init__(self, fused: bool, compiled: bool) -> None:
        self.fused, self.compiled = fused, compiled

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
