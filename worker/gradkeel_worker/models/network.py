"""The network that every family here builds: category embeddings, layers, a linear output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gradkeel_worker.models.numeric import NumericEmbedding

OUTPUT, NUMERIC = "output", "embeddings.numeric"


@dataclass(frozen=True)
class Inputs:
    """What enters a network: ``numeric`` float columns and one (table size, width) per category column.

    ``embedding`` takes the first columns in place of them.
    """

    numeric: int
    categories: tuple[tuple[int, int], ...] = ()
    embedding: NumericEmbedding | None = field(default=None, compare=False)

    @property
    def width(self) -> int:
        """Columns of the first layer's input, embeddings included."""
        more = 0 if self.embedding is None else self.embedding.outputs - self.embedding.columns
        return self.numeric + more + sum(width for _, width in self.categories)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many columns of the first layer's input each input became, in their order."""
        embedded: tuple[int, ...] = ()
        if self.embedding is not None:
            embedded = (self.embedding.outputs // self.embedding.columns,) * self.embedding.columns
        plain = (1,) * (self.numeric - len(embedded))
        return embedded + plain + tuple(width for _, width in self.categories)


class Network(nn.Module):
    """Numeric inputs beside the embeddings of categories, through ``layers`` to ``output``.

    Layers are named as the config counts them: "embeddings.numeric" for the embedding of numbers,
    "embeddings.i" for category i, "layers.i" for hidden layer i, "output" for the last linear layer.
    """

    def __init__(self, inputs: Inputs, layers: Sequence[nn.Module], output: nn.Module) -> None:
        super().__init__()
        self.inputs = inputs
        self.numeric = inputs.embedding
        self.embeddings = nn.ModuleList(nn.Embedding(size, width) for size, width in inputs.categories)
        self.layers = nn.ModuleList(layers)
        self.output = output
        self._path = tuple(module for _, module in self.operations())
        self._embeds = bool(inputs.categories) or inputs.embedding is not None

    def operations(self) -> Iterator[tuple[str, nn.Module]]:
        """(layer name, module) of everything after the embeddings, in forward order; what stands in plain
        order is told one by one."""
        for index, layer in enumerate(self.layers):
            for module in layer if isinstance(layer, nn.Sequential) else (layer,):
                yield f"layers.{index}", module
        yield OUTPUT, self.output

    def taps(self) -> Iterator[tuple[str, nn.Module]]:
        """(layer name, module) whose output is the layer's activation: its last module but for dropout, or
        the ``tap`` of that."""
        last: dict[str, nn.Module] = {}
        for name, module in self.operations():
            if not isinstance(module, nn.Dropout):
                last[name] = getattr(module, "tap", module)
        yield from last.items()

    def layer_names(self) -> tuple[str, ...]:
        """Every layer's name, as ``freeze`` accepts them."""
        numeric = () if self.numeric is None else (NUMERIC,)
        embeddings = tuple(f"embeddings.{index}" for index in range(len(self.embeddings)))
        return (
            numeric + embeddings + tuple(f"layers.{index}" for index in range(len(self.layers))) + (OUTPUT,)
        )

    def layer_of(self, parameter: str) -> str:
        """The layer that a parameter such as "layers.0.linear.weight" belongs to."""
        family, _, rest = parameter.partition(".")
        if family == "numeric":
            return NUMERIC
        return family if family == OUTPUT else f"{family}.{rest.partition('.')[0]}"

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """x float [n, numeric], c int64 [n, categories] → [n, outputs], in prepared units or logits."""
        hidden = self._joined(x, c) if self._embeds else x
        for module in self._path:
            hidden = module(hidden)
        return hidden

    def _joined(self, x: Tensor, c: Tensor | None) -> Tensor:
        parts = self._numbers(x)
        if c is not None:
            parts += [table(levels) for table, levels in zip(self.embeddings, c.unbind(1), strict=True)]
        return torch.cat(parts, dim=1)

    def _numbers(self, x: Tensor) -> list[Tensor]:
        if self.numeric is None:
            return [x] if self.inputs.numeric else []
        columns = self.numeric.columns
        vectors = self.numeric(x[:, :columns])
        return [vectors, x[:, columns:]] if columns < self.inputs.numeric else [vectors]
