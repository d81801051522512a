"""Fully connected layers."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

from torch import nn

from gradkeel.contract import config as contract
from gradkeel_worker.models.activations import ACTIVATIONS
from gradkeel_worker.models.dropout import Dropout
from gradkeel_worker.models.initialisation import initialise
from gradkeel_worker.models.network import Inputs, Network

NORMS: dict[str, type[nn.Module] | None] = {"none": None, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def mlp(config: contract.MLP, inputs: Inputs, outputs: int) -> Network:
    """Hidden layers of ``config.widths``, each linear → norm → activation → dropout."""
    widths = (inputs.width, *config.widths)
    blocks = [_block(config, fan_in, fan_out) for fan_in, fan_out in pairwise(widths)]
    network = Network(inputs, blocks, nn.Linear(widths[-1], outputs))
    initialise(network, config.init, bias=config.bias_init)
    return network


def _block(config: contract.MLP, fan_in: int, fan_out: int) -> nn.Sequential:
    block: OrderedDict[str, nn.Module] = OrderedDict(linear=nn.Linear(fan_in, fan_out))
    if (norm := NORMS[config.norm]) is not None:
        block["norm"] = norm(fan_out)
    block["activation"] = ACTIVATIONS[config.activation]()
    if config.dropout > 0:
        block["dropout"] = Dropout(config.dropout)
    return nn.Sequential(block)
