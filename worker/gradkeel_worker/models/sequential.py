"""Layers listed one by one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from gradkeel.contract import config as contract
from gradkeel_worker.models.activations import ACTIVATIONS
from gradkeel_worker.models.dropout import Dropout
from gradkeel_worker.models.initialisation import initialise
from gradkeel_worker.models.network import Inputs, Network

LayerBuilder = Callable[[Any, int], tuple[nn.Module, int]]


def _linear(layer: contract.LinearLayer, width: int) -> tuple[nn.Module, int]:
    return nn.Linear(width, layer.units, bias=layer.bias), layer.units


def _dropout(layer: contract.Dropout, width: int) -> tuple[nn.Module, int]:
    return Dropout(layer.p), width


def _batch_norm(_: contract.BatchNorm, width: int) -> tuple[nn.Module, int]:
    return nn.BatchNorm1d(width), width


def _layer_norm(_: contract.LayerNorm, width: int) -> tuple[nn.Module, int]:
    return nn.LayerNorm(width), width


def _activation(name: str, _: object, width: int) -> tuple[nn.Module, int]:
    return ACTIVATIONS[name](), width


LAYERS: dict[str, LayerBuilder] = {
    "linear": _linear,
    **{name: partial(_activation, name) for name in ACTIVATIONS},
    "dropout": _dropout,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
}


def sequential(config: contract.Sequential, inputs: Inputs, outputs: int) -> Network:
    """``config.layers`` in order, then a linear output; layer i of the list is called "layers.i"."""
    width, modules = inputs.width, []
    for layer in config.layers:
        module, width = LAYERS[layer.kind](layer, width)
        modules.append(module)
    network = Network(inputs, modules, nn.Linear(width, outputs))
    initialise(network, config.init, bias=config.bias_init)
    return network
