"""A model's trainable parameters as views of one flat buffer, their gradients as views of another.

One fused optimizer call, one norm, one clip then serve the whole model. On the CPU, numpy views of the same
memory give norms almost for free (a dot product each); on a device they stay there until asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Doubles = NDArray[np.float64]
Values = Sequence[float] | Tensor
"""One number per layer: a list on the host, a tensor where they still lie on the device."""

# A float32 dot product is trusted between these; outside, squares have overflowed or vanished.
_SMALLEST_SQUARE, _LARGEST_SQUARE = 1e-30, 1e37


@dataclass(frozen=True)
class Layer:
    """Entries ``start`` to ``stop`` of the flat buffer; the weight matrices among them end at
    ``weights_stop``."""

    name: str
    start: int
    weights_stop: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Span:
    """Entries ``start`` to ``stop`` of the flat buffer: one parameter, as so many rows of equal length."""

    start: int
    stop: int
    rows: int


class Parameters:
    """The flat buffers ``values`` and ``gradient`` [n] of a model and the ``layers`` they fall into.

    The model's own parameters and their ``.grad`` become views; ``release`` gives them memory of their own
    again. ``norm`` is the gradient's norm, measured once and forgotten when the gradient changes.

    Raises ValueError where a model has no trainable parameter or one that is not float32.
    """

    def __init__(self, model: nn.Module) -> None:
        named = _by_layer(model)
        tensors = [tensor for _, members in named for tensor in members]
        if not tensors:
            raise ValueError("the model has no trainable parameter")
        if any(tensor.dtype != torch.float32 for tensor in tensors):
            raise ValueError("every trainable parameter of the model must be float32")
        self.tensors = tensors
        """The model's own parameters, in the order of the buffers."""
        self.values = torch.cat([tensor.detach().flatten() for tensor in tensors])
        self.gradient = torch.zeros_like(self.values)
        self.layers = tuple(_layers(named))
        self._spans = _unit_spans(named, model)
        self._share()
        self._norm: float | None = None

    def _share(self) -> None:
        start = 0
        for tensor in self.tensors:
            stop = start + tensor.numel()
            tensor.data = self.values[start:stop].view(tensor.shape)
            tensor.grad = self.gradient[start:stop].view(tensor.shape)
            start = stop

    def release(self) -> None:
        """Give every parameter memory of its own and no gradient."""
        for tensor in self.tensors:
            tensor.data = tensor.data.clone()
            tensor.grad = None

    def as_in(self, model: nn.Module, vector: Tensor) -> Tensor:
        """A vector along the flat buffer, [n], in the order of ``model.parameters()``."""
        pieces = torch.split(vector, [tensor.numel() for tensor in self.tensors])
        by_tensor = {id(tensor): piece for tensor, piece in zip(self.tensors, pieces, strict=True)}
        return torch.cat([by_tensor[id(p)] for p in model.parameters() if p.requires_grad])

    def zero_gradient(self) -> None:
        """Set the gradient to 0; backward then adds to it in place."""
        self.gradient.zero_()
        self._norm = None

    def norm(self) -> float:
        """Euclidean norm of the whole gradient; NaN or infinite exactly where an entry is."""
        if self._norm is None:
            self._norm = self._measure()
        return self._norm

    def scale(self, coefficient: float) -> None:
        """Multiply the gradient by ``coefficient``."""
        self.gradient.mul_(coefficient)
        self._norm = None

    def clamp(self, limit: float) -> None:
        """Clip every entry of the gradient to ±limit. NaN stays NaN."""
        self.gradient.clamp_(-limit, limit)
        self._norm = None

    def scale_layers(self, coefficients: Sequence[float]) -> None:
        """Multiply the gradient of each layer by a number of its own."""
        for layer, coefficient in zip(self.layers, coefficients, strict=True):
            if coefficient != 1:
                self.gradient[layer.start : layer.stop].mul_(coefficient)
        self._norm = None

    def unit_norms(self) -> tuple[Doubles, Doubles]:
        """Norms of each unit's weights and of its gradient, [units] each, but for the output layer.

        A unit is what shares the first index of a parameter of two dimensions or more, or a whole vector.
        """
        raise NotImplementedError

    def scale_units(self, coefficients: Doubles) -> None:
        """Multiply the gradient of each unit by a number of its own."""
        raise NotImplementedError

    def nonfinite(self) -> int:
        """Number of NaN or infinite entries of the gradient."""
        return 0 if math.isfinite(self.norm()) else int((~torch.isfinite(self.gradient)).sum())

    def measure(self, loss: Tensor) -> float:
        """Read the loss, and measure the gradient's norm with it: the step's one device → host copy."""
        raise NotImplementedError

    def layer_norms(self) -> Values:
        """Gradient norm of each layer."""
        raise NotImplementedError

    def weight_norms(self) -> Values:
        """Norm of each layer's weight matrices."""
        raise NotImplementedError

    def product(self, other: Tensor, largest: float) -> float | Tensor:
        """Product of the gradient with another vector [n], which is at most ``largest`` in size."""
        raise NotImplementedError

    def track_updates(self) -> Callable[[], Values]:
        """A function giving the norm of each layer's change of weights since it was last called."""
        raise NotImplementedError

    def _measure(self) -> float:
        raise NotImplementedError


class HostParameters(Parameters):
    """On the CPU: numpy views of the buffers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._flat_gradient = self.gradient.numpy()
        self._flat_values = self.values.numpy()
        self._gradients = [self._flat_gradient[layer.start : layer.stop] for layer in self.layers]
        self._weights = _weight_views(self._flat_values, self.layers)
        self._unit_weights = _unit_views(self._flat_values, self._spans)
        self._unit_gradients = _unit_views(self._flat_gradient, self._spans)

    def measure(self, loss: Tensor) -> float:
        self._norm = norm(self._flat_gradient)
        return loss.item()

    def layer_norms(self) -> Values:
        return [norm(view) for view in self._gradients]

    def weight_norms(self) -> Values:
        return [norm(view) for view in self._weights]

    def unit_norms(self) -> tuple[Doubles, Doubles]:
        return _row_norms(self._unit_weights), _row_norms(self._unit_gradients)

    def scale_units(self, coefficients: Doubles) -> None:
        singles, first = coefficients.astype(np.float32), 0
        for view in self._unit_gradients:
            view *= singles[first : first + len(view), None]
            first += len(view)
        self._norm = None

    def product(self, other: Tensor, largest: float) -> float | Tensor:
        one, two = self._flat_gradient, other.numpy()
        if not _SMALLEST_SQUARE < largest < _LARGEST_SQUARE:
            one, two = one.astype(np.float64), two.astype(np.float64)
        return float(one.dot(two))

    def track_updates(self) -> Callable[[], Values]:
        values, kept = self._flat_values, self._flat_values.copy()
        views = _weight_views(kept, self.layers)

        def updates() -> Values:
            # In place: a third buffer would push the model's own out of the cache.
            np.subtract(values, kept, out=kept)
            changes = [norm(view) for view in views]
            np.copyto(kept, values)
            return changes

        return updates

    def _measure(self) -> float:
        return norm(self._flat_gradient)


class DeviceParameters(Parameters):
    """On an accelerator: fused norms; only ``measure`` waits for the device.

    After a clip that scales, the norm follows without another copy; after one that clamps it has to be read.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._gradients = [self.gradient[layer.start : layer.stop] for layer in self.layers]
        self._weights = _weight_views(self.values, self.layers)

    def measure(self, loss: Tensor) -> float:
        numbers = torch.stack([loss.detach().double(), _device_norm(self.gradient)])
        value, self._norm = numbers.tolist()
        return float(value)

    def scale(self, coefficient: float) -> None:
        known = self._norm
        super().scale(coefficient)
        self._norm = None if known is None else known * coefficient

    def layer_norms(self) -> Values:
        return torch.stack(torch._foreach_norm(self._gradients))

    def weight_norms(self) -> Values:
        return torch.stack(torch._foreach_norm(self._weights))

    def unit_norms(self) -> tuple[Doubles, Doubles]:
        flats = (self.values, self.gradient)
        views = [view for flat in flats for view in _unit_views(flat, self._spans)]
        if not views:
            return np.zeros(0), np.zeros(0)
        norms = torch.cat([torch.linalg.vector_norm(view, dim=1, dtype=torch.float64) for view in views])
        weights, gradients = np.split(norms.cpu().numpy(), 2)
        return weights, gradients

    def scale_units(self, coefficients: Doubles) -> None:
        singles = torch.from_numpy(coefficients.astype(np.float32)).to(self.gradient.device)
        first = 0
        for view in _unit_views(self.gradient, self._spans):
            view.mul_(singles[first : first + len(view)].unsqueeze(1))
            first += len(view)
        self._norm = None

    def product(self, other: Tensor, largest: float) -> float | Tensor:
        return torch.dot(self.gradient.double(), other.double())

    def track_updates(self) -> Callable[[], Values]:
        kept = self.values.clone()
        views = _weight_views(kept, self.layers)

        def updates() -> Values:
            torch.sub(self.values, kept, out=kept)
            changes = torch.stack(torch._foreach_norm(views))
            kept.copy_(self.values)
            return changes

        return updates

    def _measure(self) -> float:
        return float(_device_norm(self.gradient))


def flatten(model: nn.Module) -> Parameters:
    """The flat parameters of a model, of the kind that suits where it lies."""
    device = next(model.parameters()).device if any(True for _ in model.parameters()) else torch.device("cpu")
    return HostParameters(model) if device.type == "cpu" else DeviceParameters(model)


def norm(vector: NDArray[np.float32]) -> float:
    """Euclidean norm of a float32 vector; once more in float64 where float32 squares overflow or vanish."""
    square = float(vector.dot(vector))
    if _SMALLEST_SQUARE < square < _LARGEST_SQUARE:
        return math.sqrt(square)
    wide = vector.astype(np.float64)
    return math.sqrt(wide.dot(wide))


def _device_norm(vector: Tensor) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(vector, dtype=torch.float64)
    return size


def _weight_views(flat: Any, layers: Sequence[Layer]) -> list[Any]:
    return [flat[layer.start : layer.weights_stop] for layer in layers]


def _unit_views(flat: Any, spans: Sequence[Span]) -> list[Any]:
    return [flat[span.start : span.stop].reshape(span.rows, -1) for span in spans]


def _row_norms(matrices: Sequence[NDArray[np.float32]]) -> Doubles:
    """Euclidean norm of every row, those of all matrices in one array."""
    if not matrices:
        return np.zeros(0)
    squares = np.concatenate([np.einsum("ij,ij->i", each, each) for each in matrices])
    if not np.isfinite(squares).all():
        wide = [each.astype(np.float64) for each in matrices]
        squares = np.concatenate([np.einsum("ij,ij->i", each, each) for each in wide])
    norms: Doubles = np.sqrt(squares, dtype=np.float64)
    return norms


def _unit_spans(named: Sequence[tuple[str, list[nn.Parameter]]], model: nn.Module) -> list[Span]:
    """Of every parameter but those of the output layer: of a caller's own model, the last one."""
    output = "output" if hasattr(model, "layer_of") else named[-1][0]
    spans, start = [], 0
    for name, tensors in named:
        for tensor in tensors:
            stop = start + tensor.numel()
            if name != output and stop > start:
                spans.append(Span(start, stop, tensor.shape[0] if tensor.ndim > 1 else 1))
            start = stop
    return spans


def _by_layer(model: nn.Module) -> list[tuple[str, list[nn.Parameter]]]:
    """Trainable parameters by layer, layers in the model's order, matrices before vectors in each."""
    layer_of = getattr(model, "layer_of", _module_of)
    members: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            members.setdefault(layer_of(name), []).append(parameter)
    return [(name, sorted(tensors, key=lambda tensor: tensor.ndim < 2)) for name, tensors in members.items()]


def _module_of(parameter: str) -> str:
    """The module that owns a parameter; the whole model is called "model"."""
    return parameter.rpartition(".")[0] or "model"


def _layers(named: Sequence[tuple[str, list[nn.Parameter]]]) -> list[Layer]:
    layers, start = [], 0
    for name, tensors in named:
        stop = start + sum(tensor.numel() for tensor in tensors)
        matrices = sum(tensor.numel() for tensor in tensors if tensor.ndim >= 2)
        # A layer of vectors alone (a normalisation, say) counts them as its weights.
        layers.append(Layer(name, start, start + matrices if matrices else stop, stop))
        start = stop
    return layers
