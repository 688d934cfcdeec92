"""PyTorch's functions, under NumPy's names and those of the survey."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from survey.frameworks.base import Namespace


class TorchNamespace(Namespace):
    """PyTorch, whose functions of networks stand for those that are made of others elsewhere."""

    def astype(self, x: Any, dtype: str) -> Any:
        return x.to({"float16": torch.float16, "float32": torch.float32, "float64": torch.float64, "int32": torch.int32}[dtype])

    def sum(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        """The sum over axes."""
        return torch.sum(x, dim=axis, keepdim=keepdims) if axis is not None else torch.sum(x)

    def mean(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        """The mean over axes."""
        return torch.mean(x, dim=axis, keepdim=keepdims) if axis is not None else torch.mean(x)

    def max(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        """The greatest element over axes."""
        return torch.amax(x, dim=() if axis is None else axis, keepdim=keepdims)

    def min(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        """The least element over axes."""
        return torch.amin(x, dim=() if axis is None else axis, keepdim=keepdims)

    def var(self, x: Any, axis: Any = None) -> Any:
        """The mean square distance from the mean."""
        return torch.var(x, dim=axis, correction=0)

    def argmax(self, x: Any, axis: Any = None) -> Any:
        """The position of the greatest element."""
        return torch.argmax(x, dim=axis)

    def cumsum(self, x: Any, axis: int) -> Any:
        """Running sums."""
        return torch.cumsum(x, dim=axis)

    def sort(self, x: Any, axis: int = -1) -> Any:
        """The elements in order."""
        return torch.sort(x, dim=axis)[0]

    def argsort(self, x: Any, axis: int = -1) -> Any:
        """The positions of elements in order."""
        return torch.argsort(x, dim=axis)

    def take(self, x: Any, indices: Any, axis: int = 0) -> Any:
        """Rows by their positions."""
        return torch.index_select(x, axis, indices) if indices.ndim == 1 else F.embedding(indices, x)

    def transpose(self, x: Any, axes: Sequence[int]) -> Any:
        """The axes in another order."""
        return torch.permute(x, tuple(axes))

    def concatenate(self, parts: Any, axis: int = 0) -> Any:
        """Arrays one after the other."""
        return torch.cat(list(parts), dim=axis)

    def stack(self, parts: Any, axis: int = 0) -> Any:
        """Arrays along a new axis."""
        return torch.stack(list(parts), dim=axis)

    def roll(self, x: Any, shift: int, axis: int) -> Any:
        """Elements moved along an axis, those beyond its end to its beginning."""
        return torch.roll(x, shift, axis)

    def flip(self, x: Any, axis: int) -> Any:
        """An axis read backwards."""
        return torch.flip(x, (axis,))

    def pad(self, x: Any, width: int) -> Any:
        """Zeros around a matrix."""
        return F.pad(x, (width,) * 4)

    def maximum(self, x: Any, y: Any) -> Any:
        """The greater of elements and a number, or of elements."""
        return torch.maximum(x, y) if isinstance(y, torch.Tensor) else torch.clamp_min(x, y)

    def power(self, x: Any, y: Any) -> Any:
        """Powers."""
        return torch.pow(x, y)

    def equal(self, x: Any, y: Any) -> Any:
        """Whether elements are equal."""
        return torch.eq(x, y)

    def relu(self, x: Any) -> Any:
        return F.relu(x)

    def sigmoid(self, x: Any) -> Any:
        return torch.sigmoid(x)

    def softplus(self, x: Any) -> Any:
        return F.softplus(x)

    def silu(self, x: Any) -> Any:
        return F.silu(x)

    def gelu(self, x: Any) -> Any:
        return F.gelu(x)

    def softmax(self, x: Any) -> Any:
        return torch.softmax(x, -1)

    def logsumexp(self, x: Any, axis: int = -1) -> Any:
        return torch.logsumexp(x, axis, keepdim=True)

    def crossentropy(self, logits: Any, classes: Any) -> Any:
        return F.cross_entropy(logits, classes.long())

    def layer_norm(self, x: Any, scale: Any, shift: Any) -> Any:
        return F.layer_norm(x, scale.shape, scale, shift, 1e-5)

    def batch_norm(self, x: Any, scale: Any, shift: Any) -> Any:
        return F.batch_norm(x, None, None, scale, shift, training=True, eps=1e-5)

    def attention(self, q: Any, k: Any, v: Any, size: int, causal: Any = None) -> Any:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal is not None)

    def conv2d(self, x: Any, filters: Any, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        """The correlation of images with filters."""
        return F.conv2d(x, filters, None, stride, padding, 1, groups)

    def conv1d(self, x: Any, filters: Any, dilation: int, padding: int) -> Any:
        """The correlation of (batch, channels, time) with filters."""
        return F.conv1d(x, filters, None, 1, padding, dilation)

    def max_pool(self, x: Any, size: int, stride: int, padding: int = 0) -> Any:
        """The greatest element of every window."""
        return F.max_pool2d(x, size, stride, padding)

    def average_pool(self, x: Any, size: int, stride: int, padding: int = 0) -> Any:
        """The mean of every window, zeros that are added included."""
        return F.avg_pool2d(x, size, stride, padding)

    def lstm(self, x: Any, w: Any, u: Any, b: Any, first: Any, size: int) -> Any:
        """PyTorch's own LSTM."""
        state, arrays = (first[None], first[None]), (w.T, u.T, b, torch.zeros_like(b))
        return torch.lstm(x, state, arrays, True, 1, 0.0, torch.is_grad_enabled(), False, False)[0]

    def gru(self, x: Any, w: Any, u: Any, b: Any, first: Any, size: int) -> Any:
        """PyTorch's own GRU."""
        arrays = (w.T, u.T, b, torch.zeros_like(b))
        return torch.gru(x, first[None], arrays, True, 1, 0.0, torch.is_grad_enabled(), False, False)[0]

    def top_k(self, x: Any, k: int) -> Any:
        return torch.topk(x, k)[0]

    def cholesky(self, x: Any) -> Any:
        return torch.linalg.cholesky(x)

    def solve_lower(self, a: Any, b: Any) -> Any:
        return torch.linalg.solve_triangular(a, b, upper=False)
