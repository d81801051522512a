"""Where a NaN or an infinity came from: the first tensor that holds one, told apart from those that pass it
on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gradkeel_worker.diagnosis.evidence import Origin

if TYPE_CHECKING:
    from gradkeel_worker.data import Part, Prepared
    from gradkeel_worker.data.windows import Windows

Array = np.ndarray[Any, Any]

_LIMITED_DOMAIN = ("log", "sqrt", "rsqrt", "pow", "div", "reciprocal", "acos", "asin", "atanh", "lgamma")
_UNINITIALISED = ("empty", "new_empty", "resize", "set_", "detach", "alias", "view", "_unsafe_view")


def kind_of(value: float) -> str:
    """nan, inf or -inf."""
    return "nan" if np.isnan(value) else "inf" if value > 0 else "-inf"


def first_bad_cell(prepared: Prepared, rows: Array | list[int] | None = None) -> Origin | None:
    """The first non-finite cell of the training part, among the given record indexes where there are any."""
    part = prepared.train
    inside = np.ones(len(part.rows), bool) if rows is None else np.isin(part.rows, np.asarray(rows))
    if part.windows is not None:
        found = _bad_in_windows(prepared, part.windows, inside)
        return found or _bad_target(part, inside, prepared.config.targets)
    bad = np.flatnonzero(~part.finite_rows() & inside)
    if not len(bad):
        return _bad_target(part, inside, prepared.config.targets)
    i = int(bad[0])
    j = int(np.flatnonzero(~np.isfinite(part.x[i]))[0])
    cell = prepared.x_source_cell("train", i, j)
    return Origin(
        what="input",
        kind=kind_of(float(part.x[i, j])),
        row=cell.get("row"),
        line=cell.get("line"),
        column=cell.get("column"),
    )


def _bad_in_windows(prepared: Prepared, windows: Windows, inside: Array) -> Origin | None:
    """The first non-finite cell of the rows in some windows."""
    read = np.zeros(len(windows.x), bool)
    read[windows.places(inside)] = True
    bad = ~np.isfinite(windows.x) & read[:, None]
    if not bad.any():
        return None
    i, j = (int(k) for k in np.argwhere(bad)[0])
    row, line = windows.place(i)
    kind, column = kind_of(float(windows.x[i, j])), prepared.inputs[j].source
    return Origin(what="input", kind=kind, row=row, line=line, column=column)


def _bad_target(part: Part, inside: Array, names: Sequence[str]) -> Origin | None:
    y = np.asarray(part.y, np.float64).reshape(len(part.rows), -1)
    bad = np.argwhere(~np.isfinite(y) & inside[:, None])
    if not len(bad):
        return None
    i, j = (int(k) for k in bad[0])
    line = None if part.lines is None else int(part.lines[i])
    return Origin(
        "target",
        kind_of(float(y[i, j])),
        row=int(part.rows[i]),
        line=line,
        column=names[j],
        operation="data",
    )


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every tensor operation, forward and backward, and keeps the first with a non-finite result."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.first: tuple[str, bool, float, float, float] | None = None
        self.module: list[str] = []
        self.layer: str | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: keeps torch from importing its compiler (a second, and 100 MB) on the first operation."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if self.first is None and not name.startswith(_UNINITIALISED):
            self._look(name, tree_leaves((args, kwargs)), tree_leaves(result))
        return result

    def _look(self, name: str, sources: list[Any], results: list[Any]) -> None:
        bad = [t for t in results if _is_float(t) and not bool(torch.isfinite(t).all())]
        inputs = [t for t in sources if _is_float(t) and t.numel()]
        if not bad or not inputs:
            return
        produced = all(bool(torch.isfinite(t).all()) for t in inputs)
        finite = [t[torch.isfinite(t)] for t in inputs]
        largest = max((float(t.abs().max()) for t in finite if t.numel()), default=0.0)
        smallest = min((float(t.min()) for t in finite if t.numel()), default=0.0)
        value = float(bad[0][~torch.isfinite(bad[0])].flatten()[0])
        self.first = (name, produced, value, largest, smallest)
        self.layer = self.module[-1] if self.module else None


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


@contextmanager
def _module_names(model: nn.Module, watch: _Watch) -> Iterator[None]:
    """Keep ``watch.module`` at the innermost module of ``model`` that is running."""

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: watch.module.append(name)

    def leave(*_: Any) -> None:
        watch.module.pop()

    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(enter(name or type(module).__name__)))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def trace_nonfinite(
    model: nn.Module, loss_fn: Callable[[Tensor, Tensor], Tensor], x: Tensor, c: Tensor, y: Tensor
) -> Origin | None:
    """Repeat one forward and backward pass and name the first operation with a non-finite result.

    ``x`` [n, d], ``c`` [n, k], ``y`` as the loss takes it, ``model`` with the weights of the moment; its
    weights,
    gradients, mode and torch's random state are left as they were. None where everything is finite.
    """
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return Origin("weight", "nan", layer=name.rpartition(".")[0], operation="optimizer step")
    state = torch.get_rng_state()
    watch = _Watch()
    parameters = [p for p in model.parameters() if p.requires_grad]
    try:
        with watch, _module_names(model, watch), torch.enable_grad():
            output = model(x, c)
            if watch.first is not None:
                return _origin("activation", watch)
            loss = loss_fn(output, y)
            if watch.first is not None:
                return _origin("loss", watch)
            torch.autograd.grad(loss, parameters, allow_unused=True)
    finally:
        torch.set_rng_state(state)
    return _origin("gradient", watch) if watch.first is not None else None


def _origin(what: str, watch: _Watch) -> Origin:
    assert watch.first is not None
    name, produced, value, largest, smallest = watch.first
    outside = name.startswith(_LIMITED_DOMAIN) and (
        smallest <= 0 or name.startswith(("acos", "asin", "atanh"))
    )
    return Origin(
        what=what,
        kind=kind_of(value),
        layer=watch.layer if what != "loss" else "loss",
        operation=f"{name} (outside its domain)" if outside else name,
        producer=produced,
        largest_input=largest,
    )
