"""Parts of networks that are several at once: layers that members share, and what each has of its own.

Within such a network values are [n, members, width]. After Gorishniy et al. 2025 (TabM, arXiv:2410.24210).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradkeel_worker.models.network import Network

Link = Literal["identity", "log", "logit", "softmax"]
"""What an output is: a number in prepared units, a logarithm, a logit, or one of several classes' logits."""

_ROWS = 512
"""Rows at a time outside training, so that the members' values stay in the cache."""


class Adapter(nn.Module):
    """x [n, width] → [n, members, width]: each member sees the inputs by factors of its own, which start at
    random."""

    def __init__(self, members: int, sizes: tuple[int, ...], *, signs: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(starting_factors(members, sizes, signs=signs))

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(1) * self.weight


def starting_factors(members: int, sizes: tuple[int, ...], *, signs: bool) -> Tensor:
    """[members, Σ sizes]: the ``sizes`` columns that one feature became share one factor, −1 or 1 (``signs``)
    or normal."""
    drawn = torch.randn(members, len(sizes))
    if signs:
        drawn = torch.where(drawn < 0, -1.0, 1.0)
    return drawn.repeat_interleave(torch.tensor(sizes), dim=1)


class SharedLinear(nn.Module):
    """x [n, members, fan_in] → ((x · r) Wᵀ) · s + b: W is shared, r, s and b are each member's own
    (BatchEnsemble, arXiv:2002.06715, equation 5)."""

    def __init__(self, members: int, fan_in: int, fan_out: int, *, scaled_input: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(fan_out, fan_in))
        self.r = nn.Parameter(torch.ones(members, fan_in)) if scaled_input else None
        self.s = nn.Parameter(torch.ones(members, fan_out))
        self.bias = nn.Parameter(torch.empty(members, fan_out))

    def forward(self, x: Tensor) -> Tensor:
        scaled = x if self.r is None else x * self.r
        return torch.addcmul(self.bias, functional.linear(scaled, self.weight), self.s)


class MemberLinear(nn.Module):
    """x [n, members, fan_in] → [n, members, fan_out], by weights [members, fan_out, fan_in] and a bias of
    each member's own."""

    def __init__(self, members: int, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members, fan_out, fan_in))
        self.bias = nn.Parameter(torch.empty(members, fan_out))

    def forward(self, x: Tensor) -> Tensor:
        products = torch.bmm(x.transpose(0, 1), self.weight.transpose(1, 2))
        return products.transpose(0, 1) + self.bias


class Ensemble(Network):
    """A network of several members: their outputs [n, members, outputs] in training, so that each has a loss
    of its own, else their mean [n, outputs].

    The mean is that of numbers, rates or probabilities, as ``link`` says; it comes back as an output.
    ``apart``: the members' outputs outside training too.
    """

    link: Link = "identity"
    apart: bool = False

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        if self.training or self.apart:
            return super().forward(x, c)
        mean = MEANS[self.link]
        if len(x) <= _ROWS:
            return mean(super().forward(x, c))
        chunks = [slice(start, start + _ROWS) for start in range(0, len(x), _ROWS)]
        run = super().forward
        return torch.cat([mean(run(x[rows], None if c is None else c[rows])) for rows in chunks])


def members_apart(model: nn.Module) -> nn.Module:
    """The model; of an ensemble, such that each member's output is told outside training too: each has a
    loss of its own."""
    if isinstance(model, Ensemble):
        model.apart = True
    return model


def _log_mean(logarithms: Tensor) -> Tensor:
    return logarithms.logsumexp(1) - math.log(logarithms.shape[1])


def _mean(outputs: Tensor) -> Tensor:
    return outputs.mean(1)


def _mean_logit(logits: Tensor) -> Tensor:
    return _log_mean(functional.logsigmoid(logits)) - _log_mean(functional.logsigmoid(-logits))


def _mean_softmax(logits: Tensor) -> Tensor:
    return _log_mean(logits.log_softmax(2))


MEANS: dict[Link, Callable[[Tensor], Tensor]] = {
    "identity": _mean,
    "log": _log_mean,
    "logit": _mean_logit,
    "softmax": _mean_softmax,
}
"""What an output is → function(members' outputs [n, members, outputs]) → output of the mean [n, outputs]."""
