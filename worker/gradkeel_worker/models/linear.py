"""One linear layer."""

from __future__ import annotations

from torch import nn

from gradkeel.contract import config as contract
from gradkeel_worker.models.initialisation import initialise
from gradkeel_worker.models.network import Inputs, Network


def linear(config: contract.Linear, inputs: Inputs, outputs: int) -> Network:
    """prediction = w · x + b; its one layer is called "output"."""
    network = Network(inputs, (), nn.Linear(inputs.width, outputs, bias=config.bias))
    initialise(network, config.init, bias=config.bias_init, output_bias=config.bias_init)
    return network
