"""Fully connected layers with residual connections (Gorishniy et al. 2021, arXiv:2106.11959, section 3.2)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from gradkeel.contract import config as contract
from gradkeel_worker.models.activations import ACTIVATIONS
from gradkeel_worker.models.dropout import Dropout
from gradkeel_worker.models.initialisation import initialise
from gradkeel_worker.models.mlp import NORMS
from gradkeel_worker.models.network import Inputs, Network


class Residual(nn.Module):
    """x [n, width] → x + the modules of ``branch`` one after the other; one of them is its "activation"."""

    def __init__(self, branch: OrderedDict[str, nn.Module]) -> None:
        super().__init__()
        self.branch = nn.Sequential(branch)

    @property
    def tap(self) -> nn.Module:
        """Whose output tells what the block's units do."""
        return self.branch.get_submodule("activation")

    def forward(self, x: Tensor) -> Tensor:
        passed: Tensor = self.branch(x)
        return x + passed


def resnet(config: contract.ResNet, inputs: Inputs, outputs: int) -> Network:
    """A linear layer, ``config.blocks`` residual blocks, norm → activation, a linear output."""
    layers: list[nn.Module] = [nn.Linear(inputs.width, config.width)]
    layers += [_block(config) for _ in range(config.blocks)]
    layers.append(nn.Sequential(_normed(config)))
    network = Network(inputs, layers, nn.Linear(config.width, outputs))
    initialise(network, config.init, bias=config.bias_init)
    return network


def _block(config: contract.ResNet) -> Residual:
    """norm → linear → activation → dropout → linear → dropout, beside the identity."""
    hidden = config.hidden
    branch = OrderedDict(list(_normed(config).items())[:-1])
    branch["first"] = nn.Linear(config.width, hidden)
    branch["activation"] = ACTIVATIONS[config.activation]()
    if config.dropout > 0:
        branch["dropout"] = Dropout(config.dropout)
    branch["second"] = nn.Linear(hidden, config.width)
    if config.residual_dropout > 0:
        branch["residual_dropout"] = Dropout(config.residual_dropout)
    return Residual(branch)


def _normed(config: contract.ResNet) -> OrderedDict[str, nn.Module]:
    """norm → activation."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if (norm := NORMS[config.norm]) is not None:
        parts["norm"] = norm(config.width)
    parts["activation"] = ACTIVATIONS[config.activation]()
    return parts
