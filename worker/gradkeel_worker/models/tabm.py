"""TabM: an ensemble of perceptrons that share nearly all of their weights (arXiv:2410.24210)."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from gradkeel.contract import config as contract
from gradkeel_worker.models.activations import ACTIVATIONS
from gradkeel_worker.models.dropout import Dropout
from gradkeel_worker.models.ensemble import Adapter, Ensemble, MemberLinear, SharedLinear
from gradkeel_worker.models.initialisation import initialise
from gradkeel_worker.models.network import Inputs


def tabm(config: contract.TabM, inputs: Inputs, outputs: int) -> Ensemble:
    """An adapter of the inputs, ``config.blocks`` of linear → activation → dropout, an output per member.

    ``mini``: nothing but the adapter and the output layer is each member's own. The adapter, part of the
    first layer, starts as random signs, or normal where numbers are embedded, one for each feature.
    """
    blocks = [_block(config, inputs, index) for index in range(config.blocks)]
    network = Ensemble(inputs, blocks, MemberLinear(config.members, config.width, outputs))
    initialise(network, config.init, bias=config.bias_init)
    return network


def _block(config: contract.TabM, inputs: Inputs, index: int) -> nn.Sequential:
    first = index == 0
    block: OrderedDict[str, nn.Module] = OrderedDict()
    if first:
        block["adapter"] = Adapter(config.members, inputs.sizes, signs=inputs.embedding is None)
    fan_in = inputs.width if first else config.width
    block["linear"] = (
        nn.Linear(fan_in, config.width)
        if config.mini
        else SharedLinear(config.members, fan_in, config.width, scaled_input=not first)
    )
    block["activation"] = ACTIVATIONS[config.activation]()
    if config.dropout > 0:
        block["dropout"] = Dropout(config.dropout)
    return nn.Sequential(block)
