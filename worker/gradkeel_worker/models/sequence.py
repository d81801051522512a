"""Networks over windows of rows: recurrent layers and causal convolutions.

Each row of a window is embedded as a row by itself is; the layers see rows [n, window, width], and the output
layer what the last of them holds at a window's last row.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gradkeel.contract import config as contract
from gradkeel_worker.data.references import Reference
from gradkeel_worker.models.dropout import Dropout
from gradkeel_worker.models.initialisation import INITS, initialise
from gradkeel_worker.models.network import Inputs, Network

FORGET = 1.0
"""What the bias of an LSTM's forget gate starts higher than others (Gers et al. 2000; Jozefowicz et al.
2015)."""


class Change(nn.Module):
    """Makes of a network's output [n, 1] a value: the reference in the window with its drift, and the output
    times what changes from it spread. x [n, window, numeric]."""

    slope: Tensor
    offset: Tensor
    spread: Tensor

    def __init__(self, reference: Reference) -> None:
        super().__init__()
        self.column, self.back = reference.column, reference.back
        numbers = {"slope": reference.slope, "offset": reference.offset + reference.drift}
        for name, number in (numbers | {"spread": reference.spread}).items():
            self.register_buffer(name, torch.tensor(number, dtype=torch.float32))

    def forward(self, output: Tensor, x: Tensor) -> Tensor:
        past = x[:, -1 - self.back, self.column : self.column + 1]
        return past * self.slope + self.offset + output * self.spread


class SequenceNetwork(Network):
    """x float [n, window, numeric], c int64 [n, window, categories] → [n, outputs]."""

    def __init__(self, inputs: Inputs, layers: Sequence[nn.Module], output: nn.Module) -> None:
        super().__init__(inputs, layers, output)
        self.change: Change | None = None

    def change_from(self, reference: Reference) -> None:
        """Have the network predict changes from an earlier value of the target."""
        self.change = Change(reference)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        hidden = self._joined_rows(x, c) if self._embeds else x
        for module in self._path[:-1]:
            hidden = module(hidden)
        result: Tensor = self.output(hidden[:, -1])
        return result if self.change is None else self.change(result, x)

    def _joined_rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        levels = None if c is None else c.flatten(0, 1)
        rows = self._joined(x.flatten(0, 1), levels)
        return rows.view(*x.shape[:2], rows.shape[1])


class GRU(nn.GRU):
    """x [n, window, inputs] → states [n, window, width], from a state of zeros."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        states: Tensor = super().forward(x)[0]
        return states


class LSTM(nn.LSTM):
    """x [n, window, inputs] → hidden states [n, window, width], from states of zeros."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        states: Tensor = super().forward(x)[0]
        return states


class CausalBlock(nn.Module):
    """Two causal convolutions with relu and dropout, and what goes round them (arXiv:1803.01271, fig. 1).

    x [n, window, inputs] → [n, window, width]; a row's result rests on rows up to itself, zeros before the
    first.
    """

    def __init__(self, inputs: int, width: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv1d(inputs, width, kernel, dilation=dilation)
        self.second = nn.Conv1d(width, width, kernel, dilation=dilation)
        self.skip = nn.Conv1d(inputs, width, 1) if inputs != width else None
        self.dropout = Dropout(dropout) if dropout > 0 else None

    def forward(self, x: Tensor) -> Tensor:
        turned = x.transpose(1, 2)
        hidden = self._dropped(torch.relu(_causal(self.first, turned)))
        hidden = self._dropped(torch.relu(_causal(self.second, hidden)))
        around = turned if self.skip is None else self.skip(turned)
        return torch.relu(hidden + around).transpose(1, 2)

    def _dropped(self, hidden: Tensor) -> Tensor:
        return hidden if self.dropout is None else self.dropout(hidden)


def before(convolution: nn.Conv1d) -> int:
    """Rows of zeros that stand before the first."""
    return (convolution.kernel_size[0] - 1) * convolution.dilation[0]


def _causal(convolution: nn.Conv1d, turned: Tensor) -> Tensor:
    result: Tensor = convolution(nn.functional.pad(turned, (before(convolution), 0)))
    return result


def gru(config: contract.GRU, inputs: Inputs, outputs: int) -> Network:
    """Layers called "layers.i", their parameters "layers.i.gru.weight_hh_l0" and so on."""
    return _recurrent(config, inputs, outputs, "gru", GRU)


def lstm(config: contract.LSTM, inputs: Inputs, outputs: int) -> Network:
    """Layers called "layers.i", their parameters "layers.i.lstm.weight_hh_l0" and so on."""
    return _recurrent(config, inputs, outputs, "lstm", LSTM)


def tcn(config: contract.TCN, inputs: Inputs, outputs: int) -> Network:
    """Layer i looks 2^i rows apart."""
    layers = [
        nn.Sequential(
            OrderedDict(tcn=CausalBlock(fan_in, config.width, config.kernel, 2**index, config.dropout))
        )
        for index, fan_in in enumerate(_fan_ins(config, inputs))
    ]
    network = SequenceNetwork(inputs, layers, nn.Linear(config.width, outputs))
    initialise(network, config.init, bias=config.bias_init)
    for _, parameter in network.layers.named_parameters():
        if parameter.ndim > 1 and config.init.kind != "default":
            INITS[config.init.kind](parameter.data.flatten(1), config.init)
        elif parameter.ndim == 1:
            nn.init.constant_(parameter, config.bias_init)
    return network


def _fan_ins(config: contract.Windowed, inputs: Inputs) -> list[int]:
    return [inputs.width, *[config.width] * (config.layers - 1)]


def _recurrent(
    config: contract.Windowed, inputs: Inputs, outputs: int, name: str, kind: Callable[..., nn.RNNBase]
) -> Network:
    layers, recurrent = [], [kind(size, config.width, batch_first=True) for size in _fan_ins(config, inputs)]
    for layer in recurrent:
        parts: OrderedDict[str, nn.Module] = OrderedDict({name: layer})
        if config.dropout > 0:
            parts["dropout"] = Dropout(config.dropout)
        layers.append(nn.Sequential(parts))
    network = SequenceNetwork(inputs, layers, nn.Linear(config.width, outputs))
    initialise(network, config.init, bias=config.bias_init)
    for layer in recurrent:
        _initialise_gates(layer, config)
    return network


def _initialise_gates(layer: nn.RNNBase, config: contract.Windowed) -> None:
    """Each gate's two matrices by ``init`` (torch's own for default); one of its two biases at 0."""
    width = layer.hidden_size
    for name, parameter in layer.named_parameters():
        if name.startswith("weight") and config.init.kind != "default":
            for gate in parameter.data.chunk(len(parameter) // width):
                INITS[config.init.kind](gate, config.init)
        elif name.startswith("bias"):
            nn.init.constant_(parameter, config.bias_init if name.startswith("bias_ih") else 0.0)
    if isinstance(layer, LSTM):
        bias = layer.bias_ih_l0
        assert isinstance(bias, Tensor)
        bias.data[width : 2 * width] += FORGET
