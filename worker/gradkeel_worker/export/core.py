"""The network as a graph, in float32: one function per kind of layer."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from gradkeel_worker.export.errors import ExportError
from gradkeel_worker.export.front import Fed
from gradkeel_worker.export.graph import Graph
from gradkeel_worker.models.dropout import Dropout
from gradkeel_worker.models.ensemble import Adapter, Ensemble, Link, MemberLinear, SharedLinear
from gradkeel_worker.models.network import OUTPUT, Network
from gradkeel_worker.models.numeric import (
    NumericEmbedding,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
)
from gradkeel_worker.models.resnet import Residual
from gradkeel_worker.models.sequence import GRU, LSTM, CausalBlock, Change, SequenceNetwork, before

Layer = Callable[[Graph, Any, str], str]


def add_core(graph: Graph, model: nn.Module, fed: Fed) -> str:
    """Add the network; its outputs [N, out], float. Raises ExportError at a layer that is not known here."""
    if not isinstance(model, Network):
        raise ExportError(f"only the built-in models can be exported, not {type(model).__name__}")
    tables = zip(model.embeddings, fed.codes, strict=True)
    vectors = [graph.add("Gather", _weights(graph, table.weight), codes, axis=0) for table, codes in tables]
    hidden = graph.concat([*_numbers(graph, model, fed.x), *vectors])
    if fed.windows is not None:
        hidden = graph.add("Gather", hidden, fed.windows, axis=0)
    for name, module in model.operations():
        if fed.windows is not None and name == OUTPUT:
            hidden = graph.add("Gather", hidden, graph.constant(-1, np.int64), axis=1)
        hidden = _layer(graph, module, hidden, name)
    if isinstance(model, SequenceNetwork) and model.change is not None:
        return _changed(graph, model.change, hidden, fed)
    return AVERAGES[model.link](graph, hidden) if isinstance(model, Ensemble) else hidden


def _changed(graph: Graph, change: Change, output: str, fed: Fed) -> str:
    """The reference of each window and the output times its spread: [M, 1]."""
    assert fed.x is not None and fed.windows is not None
    past = graph.add("Gather", fed.x, graph.constant([change.column], np.int64), axis=1)
    windows = graph.add("Gather", past, fed.windows, axis=0)
    last = graph.add("Gather", windows, graph.constant(-1 - change.back, np.int64), axis=1)
    value = graph.add(
        "Add", graph.add("Mul", last, _weights(graph, change.slope)), _weights(graph, change.offset)
    )
    return graph.add("Add", value, graph.add("Mul", output, _weights(graph, change.spread)))


def _layer(graph: Graph, module: nn.Module, x: str, name: str) -> str:
    if type(module) not in LAYERS:
        raise ExportError(f"layer {name} is a {type(module).__name__}, which has no exported form")
    return LAYERS[type(module)](graph, module, x)


def _numbers(graph: Graph, model: Network, x: str | None) -> list[str]:
    """The numeric inputs, the first columns of x embedded where the model does that."""
    if x is None:
        return []
    embedding = model.numeric
    if embedding is None:
        return [x]
    first, last = (graph.constant([bound], np.int64) for bound in (0, embedding.columns))
    axis = graph.constant([1], np.int64)
    parts = [_embedded(graph, embedding, graph.add("Slice", x, first, last, axis))]
    if embedding.columns < model.inputs.numeric:
        parts.append(graph.add("Slice", x, last, graph.constant([model.inputs.numeric], np.int64), axis))
    return parts


def _embedded(graph: Graph, embedding: NumericEmbedding, x: str) -> str:
    """x [N, columns] → [N, columns · width], column by column as one batched product."""
    turned = graph.add("Unsqueeze", graph.add("Transpose", x, perm=[1, 0]), graph.constant([2], np.int64))
    features = FEATURES[type(embedding)](graph, embedding, turned)
    product = graph.add("MatMul", features, _weights(graph, embedding.weight))
    vectors = graph.add("Relu", graph.add("Add", product, _weights(graph, embedding.bias)))
    shape = graph.constant([-1, embedding.outputs], np.int64)
    return graph.add("Reshape", graph.add("Transpose", vectors, perm=[1, 0, 2]), shape)


def _piecewise_linear(graph: Graph, embedding: PiecewiseLinearEmbedding, x: str) -> str:
    begun = graph.add("Sub", x, _weights(graph, embedding.left))
    passed = graph.add("Mul", begun, _weights(graph, embedding.rate))
    raised = graph.add("Max", passed, _weights(graph, embedding.lower))
    return graph.add("Min", raised, _weights(graph, embedding.upper))


def _periodic(graph: Graph, embedding: PeriodicEmbedding, x: str) -> str:
    turns = graph.constant(2 * math.pi * _array(embedding.frequency), np.float32)
    phase = graph.add("Mul", turns, x)
    return graph.add("Concat", graph.add("Cos", phase), graph.add("Sin", phase), axis=2)


FEATURES: dict[type[NumericEmbedding], Callable[[Graph, Any, str], str]] = {
    PiecewiseLinearEmbedding: _piecewise_linear,
    PeriodicEmbedding: _periodic,
}
"""Kind of embedding of numbers → function(graph, module, x [columns, N, 1]) → [columns, N, features]."""


def _weights(graph: Graph, tensor: Tensor | nn.Module) -> str:
    assert isinstance(tensor, Tensor)
    return graph.constant(_array(tensor), np.float32)


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    return np.asarray(tensor.detach().cpu().numpy())


def _single(graph: Graph, value: float) -> str:
    return graph.constant([[value]], np.float32)


def _linear(graph: Graph, module: nn.Linear, x: str) -> str:
    inputs = [_weights(graph, module.weight)]
    if module.bias is not None:
        inputs.append(_weights(graph, module.bias))
    return graph.add("Gemm", x, *inputs, transB=1)


def _nothing(graph: Graph, module: nn.Module, x: str) -> str:
    return x


def _relu(graph: Graph, module: nn.Module, x: str) -> str:
    return graph.add("Relu", x)


def _leaky_relu(graph: Graph, module: nn.LeakyReLU, x: str) -> str:
    return graph.add("LeakyRelu", x, alpha=module.negative_slope)


def _gelu(graph: Graph, module: nn.GELU, x: str) -> str:
    if module.approximate != "none":
        raise ExportError("gelu is exported in its exact form only")
    bell = graph.add("Erf", graph.add("Div", x, _single(graph, math.sqrt(2))))
    half = graph.add("Mul", x, _single(graph, 0.5))
    return graph.add("Mul", half, graph.add("Add", bell, _single(graph, 1.0)))


def _silu(graph: Graph, module: nn.Module, x: str) -> str:
    return graph.add("Mul", x, graph.add("Sigmoid", x))


def _elu(graph: Graph, module: nn.ELU, x: str) -> str:
    return graph.add("Elu", x, alpha=float(module.alpha))


def _selu(graph: Graph, module: nn.Module, x: str) -> str:
    return graph.add("Selu", x)


def _tanh(graph: Graph, module: nn.Module, x: str) -> str:
    return graph.add("Tanh", x)


def _sigmoid(graph: Graph, module: nn.Module, x: str) -> str:
    return graph.add("Sigmoid", x)


def _batch_norm(graph: Graph, module: nn.BatchNorm1d, x: str) -> str:
    """The running statistics, folded in double into one product and one sum."""
    assert module.running_mean is not None and module.running_var is not None
    mean, variance = (_array(t).astype(np.float64) for t in (module.running_mean, module.running_var))
    factor = _array(module.weight).astype(np.float64) / np.sqrt(variance + module.eps)
    shift = _array(module.bias).astype(np.float64) - mean * factor
    scaled = graph.add("Mul", x, graph.constant(factor, np.float32))
    return graph.add("Add", scaled, graph.constant(shift, np.float32))


def _layer_norm(graph: Graph, module: nn.LayerNorm, x: str) -> str:
    weights = [_weights(graph, module.weight), _weights(graph, module.bias)]
    return graph.add("LayerNormalization", x, *weights, axis=-1, epsilon=module.eps)


def _residual(graph: Graph, module: Residual, x: str) -> str:
    passed = x
    for part in module.branch:
        passed = _layer(graph, part, passed, "within a block")
    return graph.add("Add", x, passed)


# An ensemble's values are [N · members, width] between its layers, one row for each member of each row.


def _members(graph: Graph, rows: str, members: int, width: int) -> str:
    """Rows [N · members, width] as [N, members, width]."""
    return graph.add("Reshape", rows, graph.constant([-1, members, width], np.int64))


def _rows(graph: Graph, values: str, width: int) -> str:
    """Values [N, members, width] as [N · members, width]."""
    return graph.add("Reshape", values, graph.constant([-1, width], np.int64))


def _adapter(graph: Graph, module: Adapter, x: str) -> str:
    seen = graph.add("Unsqueeze", x, graph.constant([1], np.int64))
    return _rows(graph, graph.add("Mul", seen, _weights(graph, module.weight)), module.weight.shape[1])


def _shared_linear(graph: Graph, module: SharedLinear, x: str) -> str:
    fan_out, fan_in = module.weight.shape
    if module.r is not None:
        apart = _members(graph, x, len(module.s), fan_in)
        x = _rows(graph, graph.add("Mul", apart, _weights(graph, module.r)), fan_in)
    product = graph.add("Gemm", x, _weights(graph, module.weight), transB=1)
    scaled = graph.add("Mul", _members(graph, product, len(module.s), fan_out), _weights(graph, module.s))
    return _rows(graph, graph.add("Add", scaled, _weights(graph, module.bias)), fan_out)


def _member_linear(graph: Graph, module: MemberLinear, x: str) -> str:
    """[N · members, fan_in] → [N, members, fan_out]."""
    members, _, fan_in = module.weight.shape
    apart = graph.add("Transpose", _members(graph, x, members, fan_in), perm=[1, 0, 2])
    weight = graph.constant(_array(module.weight).transpose(0, 2, 1), np.float32)
    together = graph.add("Transpose", graph.add("MatMul", apart, weight), perm=[1, 0, 2])
    return graph.add("Add", together, _weights(graph, module.bias))


def _mean(graph: Graph, values: str) -> str:
    return graph.add("ReduceMean", values, graph.constant([1], np.int64), keepdims=0)


def _log_mean(graph: Graph, values: str) -> str:
    """log of the mean of exp(values), from float32 alone without overflow."""
    axis = graph.constant([1], np.int64)
    largest = graph.add("ReduceMax", values, axis, keepdims=1)
    mean = _mean(graph, graph.add("Exp", graph.add("Sub", values, largest)))
    return graph.add("Add", graph.add("Log", mean), graph.add("Squeeze", largest, axis))


def _mean_logit(graph: Graph, logits: str) -> str:
    positive, negative = graph.add("Sigmoid", logits), graph.add("Sigmoid", graph.add("Neg", logits))
    sizes = [graph.add("Log", _mean(graph, share)) for share in (positive, negative)]
    return graph.add("Sub", *sizes)


def _mean_softmax(graph: Graph, logits: str) -> str:
    return graph.add("Log", _mean(graph, graph.add("Softmax", logits, axis=2)))


AVERAGES: dict[Link, Callable[[Graph, str], str]] = {
    "identity": _mean,
    "log": _log_mean,
    "logit": _mean_logit,
    "softmax": _mean_softmax,
}
"""What an output is → function(graph, members' outputs [N, members, outputs]) → output of their mean."""


def _gru(graph: Graph, module: GRU, x: str) -> str:
    """torch keeps the gates as reset, update, new; ONNX wants update, reset, new."""
    return _recurrent(graph, "GRU", module, x, (1, 0, 2), linear_before_reset=1)


def _lstm(graph: Graph, module: LSTM, x: str) -> str:
    """torch keeps the gates as input, forget, cell, output; ONNX wants input, output, forget, cell."""
    return _recurrent(graph, "LSTM", module, x, (0, 3, 1, 2))


def _recurrent(
    graph: Graph, operation: str, module: nn.RNNBase, x: str, gates: tuple[int, ...], **attributes: Any
) -> str:
    """x [M, length, inputs] → states [M, length, width]; the runtime wants the steps first."""

    def ordered(name: str) -> npt.NDArray[Any]:
        blocks = np.split(_array(getattr(module, name)), len(gates))
        return np.concatenate([blocks[gate] for gate in gates])

    weights = [graph.constant(ordered(f"weight_{of}_l0")[None], np.float32) for of in ("ih", "hh")]
    bias = graph.constant(np.concatenate([ordered("bias_ih_l0"), ordered("bias_hh_l0")])[None], np.float32)
    steps = graph.add("Transpose", x, perm=[1, 0, 2])
    states = graph.add(operation, steps, *weights, bias, hidden_size=module.hidden_size, **attributes)
    one_way = graph.add("Squeeze", states, graph.constant([1], np.int64))
    return graph.add("Transpose", one_way, perm=[1, 0, 2])


def _causal_block(graph: Graph, module: CausalBlock, x: str) -> str:
    turned = graph.add("Transpose", x, perm=[0, 2, 1])
    hidden = turned
    for convolution in (module.first, module.second):
        hidden = graph.add("Relu", _convolved(graph, convolution, hidden))
    around = turned if module.skip is None else _convolved(graph, module.skip, turned)
    return graph.add("Transpose", graph.add("Relu", graph.add("Add", hidden, around)), perm=[0, 2, 1])


def _convolved(graph: Graph, convolution: nn.Conv1d, x: str) -> str:
    weights = [_weights(graph, convolution.weight), _weights(graph, convolution.bias)]  # type: ignore[arg-type]
    return graph.add("Conv", x, *weights, dilations=list(convolution.dilation), pads=[before(convolution), 0])


LAYERS: dict[type[nn.Module], Layer] = {
    nn.Linear: _linear,
    Dropout: _nothing,
    nn.ReLU: _relu,
    nn.LeakyReLU: _leaky_relu,
    nn.GELU: _gelu,
    nn.SiLU: _silu,
    nn.ELU: _elu,
    nn.SELU: _selu,
    nn.Tanh: _tanh,
    nn.Sigmoid: _sigmoid,
    nn.BatchNorm1d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    Residual: _residual,
    Adapter: _adapter,
    SharedLinear: _shared_linear,
    MemberLinear: _member_linear,
    GRU: _gru,
    LSTM: _lstm,
    CausalBlock: _causal_block,
}
"""Kind of layer → function(graph, module, value) → value."""
