"""How the weights of a network start. Draws come from torch's global generator, which the caller seeds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from gradkeel.contract import config as contract
from gradkeel_worker.models.ensemble import MemberLinear, SharedLinear
from gradkeel_worker.models.network import OUTPUT, Network

Initialiser = Callable[[Tensor, Any], object]


def _default(weight: Tensor, _: contract.DefaultInit) -> None:
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5))  # what nn.Linear itself does: variance 1 / (3 · fan-in)


def _he(weight: Tensor, _: contract.He) -> None:
    nn.init.kaiming_normal_(weight, nonlinearity="relu")


def _glorot(weight: Tensor, _: contract.Glorot) -> None:
    nn.init.xavier_uniform_(weight)


def _lecun(weight: Tensor, _: contract.Lecun) -> None:
    nn.init.kaiming_normal_(weight, nonlinearity="linear")


def _orthogonal(weight: Tensor, _: contract.Orthogonal) -> None:
    nn.init.orthogonal_(weight)


def _normal(weight: Tensor, init: contract.Normal) -> None:
    nn.init.normal_(weight, std=init.std)


def _constant(weight: Tensor, init: contract.ConstantInit) -> None:
    nn.init.constant_(weight, init.value)


INITS: dict[str, Initialiser] = {
    "default": _default,
    "he": _he,
    "glorot": _glorot,
    "lecun": _lecun,
    "orthogonal": _orthogonal,
    "normal": _normal,
    "constant": _constant,
}


def initialise(network: Network, init: contract.Init, *, bias: float, output_bias: float = 0.0) -> None:
    """Set every linear layer's weight by ``init``, hidden biases to ``bias``, the output's to
    ``output_bias``.

    He's variance 2 / fan-in makes up for the relu that follows; none follows the output layer, which starts
    as torch's own layers do, so that first predictions lie within the target's spread.
    """
    for name, operation in network.operations():
        at_output = name == OUTPUT
        kind = "default" if at_output and init.kind == "he" else init.kind
        for module in operation.modules():
            if not isinstance(module, nn.Linear | SharedLinear | MemberLinear):
                continue
            for matrix in module.weight if isinstance(module, MemberLinear) else (module.weight,):
                INITS[kind](matrix, init)
            if module.bias is not None:
                nn.init.constant_(module.bias, output_bias if at_output else bias)
    for table in network.embeddings:
        assert isinstance(table, nn.Embedding)
        _initialise_table(table.weight)


def _initialise_table(weight: Tensor) -> None:
    """Uniform within ±1 / √width; row 0, the rare and unseen levels, at the centre."""
    bound = 1 / math.sqrt(weight.shape[1])
    nn.init.uniform_(weight, -bound, bound)
    nn.init.zeros_(weight[0])
