"""What each column of the file is worth to the model: permuted, and by the gradient of the output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from gradkeel_worker.data.categories import ONEHOT, ORDINAL
from gradkeel_worker.data.preparation import NEIGHBORS
from gradkeel_worker.diagnosis.metrics import row_log_loss
from gradkeel_worker.diagnosis.pinball import pinball_losses
from gradkeel_worker.diagnosis.sampling import sample
from gradkeel_worker.probes.columns import entered_vectors

if TYPE_CHECKING:
    from gradkeel_worker.data import Part, Prepared

Array = np.ndarray[Any, Any]
Json = dict[str, Any]
Predict = Callable[["Part"], Array]

MOST_ROWS = 2_000
FEWEST_ROWS = 200
REPEATS = 5
GRADIENT_ROWS = 512
MOST_OUTPUTS = 10
MOST_COLUMNS = 200
WORK = 8e10
"""Floating-point operations of all permutations together: about a second of one thread."""
LOOK_UP_A_ROW, LOOK_UP = 300.0, 3e6
"""The same for looking up neighbours: for each reference row, and at most."""


@dataclass(frozen=True)
class Columns:
    """Where a column of the file stands in the model's inputs: columns of x and of c."""

    x: tuple[int, ...]
    c: tuple[int, ...]


def source_columns(prepared: Prepared) -> dict[str, Columns]:
    """By column of the file, in its order: value, indicator, levels and embedding move together."""
    x: dict[str, list[int]] = {source.name: [] for source in prepared.preparation.sources}
    c: dict[str, list[int]] = {source.name: [] for source in prepared.preparation.sources}
    for j, one in enumerate(prepared.inputs):
        if one.role == NEIGHBORS:
            continue  # made of other columns: looked up anew when one of those moves
        x.setdefault(one.source, []).append(j)
    for k, category in enumerate(prepared.categories):
        c.setdefault(category.name, []).append(k)
    places = {name: Columns(tuple(x.get(name, ())), tuple(c.get(name, ()))) for name in (x | c)}
    return {name: place for name, place in places.items() if place.x or place.c}


def importance(model: nn.Module, prepared: Prepared, part: Part, predict: Predict, seed: int) -> Json | None:
    """Both measures for every column, on at most 2,000 rows of a held-out part, a seeded choice.

    Rows and repeats are bounded by the work that the model asks, never by the clock, so that a rerun tells
    the same. None where there is nothing to permute or a prediction is not finite.
    """
    places = source_columns(prepared)
    sound = np.flatnonzero(part.finite_rows())
    if not places or len(sound) < 2:
        return None
    plan = _plan(model, part, len(sound), len(places), _look_up_work(prepared))
    some = apart(part.take(sound[sample(len(sound), plan.rows, seed)]))
    gradients = input_gradients(model, prepared, some)
    permuted = _widest(places, gradients, plan.columns)
    metric, score = _score(prepared, some)
    base = score(predict(some))
    if not np.isfinite(base):
        return None
    found = permutation(
        prepared,
        some,
        {name: places[name] for name in permuted},
        lambda p: score(predict(p)),
        plan.repeats,
        seed,
    )
    columns = [{"column": name, **_told(found.get(name), base), **gradients.get(name, {})} for name in places]
    columns.sort(key=lambda one: (one["mean"] is None, -(one["mean"] or 0.0), -(one.get("gradient") or 0.0)))
    return {
        "metric": metric,
        "base": float(base),
        "rows": len(some.rows),
        "rows_of": len(part.rows),
        "repeats": plan.repeats,
        "columns": columns[:MOST_COLUMNS],
        "columns_of": len(places),
        "columns_permuted": len(permuted),
    }


def _told(scores: Array | None, base: float) -> Json:
    if scores is None or not np.isfinite(scores).all():
        return {"mean": None, "sd": None}
    return {"mean": float(np.mean(scores - base)), "sd": float(np.std(scores))}


# ------------------------------------------------------------------------------------------------------- cost


@dataclass(frozen=True)
class _Plan:
    rows: int
    repeats: int
    columns: int


def _plan(model: nn.Module, part: Part, rows: int, columns: int, look_up: float) -> _Plan:
    """Fewer rows first, then fewer repeats, then only the columns with the largest gradients."""
    passes = WORK / (work_of_a_row(model, part) + look_up + 1_000.0)
    rows = min(rows, MOST_ROWS, max(FEWEST_ROWS, int(passes / (REPEATS * columns))))
    repeats = max(1, min(REPEATS, int(passes / (rows * columns))))
    return _Plan(rows, repeats, max(1, min(columns, MOST_COLUMNS, int(passes / (rows * repeats)))))


def _look_up_work(prepared: Prepared) -> float:
    """What looking up a row's neighbours takes, in floating-point operations of the same time, nearly."""
    near = prepared.preparation.neighbors
    return 0.0 if near is None else sum(min(LOOK_UP_A_ROW * len(space), LOOK_UP) for space in near.spaces)


@torch.no_grad()
def work_of_a_row(model: nn.Module, part: Part) -> float:
    """Floating-point operations of one row, nearly: each matrix is met once for each place of its module's
    output (a member of an ensemble, a step of a sequence). ``part`` has a row at least."""
    found: list[float] = []

    def met(module: nn.Module, _: Any, out: Any) -> None:
        out = out[0] if isinstance(out, tuple) else out
        matrices = sum(p.numel() for p in module.parameters(recurse=False) if p.dim() > 1)
        found.append(2.0 * matrices * out.numel() / out.shape[1 if isinstance(module, nn.Conv1d) else -1])

    owners = [m for m in model.modules() if not isinstance(m, nn.Embedding)]
    hooks = [
        m.register_forward_hook(met) for m in owners if any(p.dim() > 1 for p in m.parameters(recurse=False))
    ]
    try:
        model(*map(torch.from_numpy, part.fed(slice(0, 1))))
    finally:
        for hook in hooks:
            hook.remove()
    return sum(found)


def _widest(places: dict[str, Columns], gradients: dict[str, Json], most: int) -> list[str]:
    ordered = sorted(places, key=lambda name: -(gradients.get(name, {}).get("gradient") or 0.0))
    return ordered[:most]


# ------------------------------------------------------------------------------------------------ permutation


def apart(part: Part) -> Part:
    """The part with rows of its own for every window, one window after another; without windows as it is.

    Windows share the rows of a series: only apart from one another can a column of one be moved."""
    windows = part.windows
    if windows is None:
        return part
    places = windows.places().ravel()
    ends = np.arange(1, len(part) + 1) * windows.length - 1
    return replace(part, windows=replace(windows, x=windows.x[places], c=windows.c[places], ends=ends))


def permutation(
    prepared: Prepared,
    part: Part,
    places: dict[str, Columns],
    score: Callable[[Part], float],
    repeats: int,
    seed: int,
) -> dict[str, Array]:
    """The score with each column permuted, [repeats] (Breiman 2001). All columns meet the same permutations,
    and neighbours are looked up anew. ``part`` is left as it was.
    """
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(len(part.rows)) for _ in range(repeats)]
    return {
        name: np.array([score(_looked_up(prepared, name, _moved(part, place, order))) for order in orders])
        for name, place in places.items()
    }


def _looked_up(prepared: Prepared, name: str, part: Part) -> Part:
    """The part with the means over its rows' neighbours, where the column has a say in who these are."""
    preparation = prepared.preparation
    near = preparation.neighbors
    if near is None or not any(name in space.columns for space in near.spaces):
        return part
    x = part.x.copy()
    first, last = len(preparation.values), preparation.numbers
    near.look_up(x[:, :first], _levels(prepared, part), None, x[:, first:last])
    return replace(part, x=x)


def _levels(prepared: Prepared, part: Part) -> dict[str, Array]:
    """The level codes [n] of every category, from the inputs made of them."""
    codes = {category.name: part.c[:, k] for k, category in enumerate(prepared.categories)}
    preparation = prepared.preparation
    for encoding in preparation.of_kind(ONEHOT):
        places = [j for j, i in enumerate(prepared.inputs) if (i.source, i.role) == (encoding.name, ONEHOT)]
        block = part.x[:, places]
        codes[encoding.name] = np.where(
            block.any(axis=1), np.array(encoding.onehot_codes())[block.argmax(axis=1)], 0
        )
    for encoding in preparation.of_kind(ORDINAL):
        i = next(i for i, value in enumerate(preparation.values) if value.source == encoding.name)
        numbers = part.x[:, i] * preparation.scale[i] + preparation.center[i]
        codes[encoding.name] = np.rint(numbers).astype(np.int64)
    return codes


def _moved(part: Part, place: Columns, order: Array) -> Part:
    """The part with a column's cells from other rows; of windows that are apart, its course over others."""
    windows = part.windows
    if windows is not None:
        rows = (order[:, None] * windows.length + np.arange(windows.length)).ravel()
        x, c = _exchanged(windows.x, windows.c, place, rows)
        return replace(part, windows=replace(windows, x=x, c=c))
    x, c = _exchanged(part.x, part.c, place, order)
    return replace(part, x=x, c=c)


def _exchanged(x: Array, c: Array, place: Columns, order: Array) -> tuple[Array, Array]:
    if place.x:
        x = x.copy()
        x[:, list(place.x)] = x[order[:, None], list(place.x)]
    if place.c:
        c = c.copy()
        c[:, list(place.c)] = c[order[:, None], list(place.c)]
    return x, c


def _score(prepared: Prepared, part: Part) -> tuple[str, Callable[[Array], float]]:
    """What grows where a column is missed: RMSE in target units, of several targets in units of their spread;
    the mean pinball loss; or the log loss."""
    actual = part.y_raw
    if prepared.classes is not None:
        return "log_loss", lambda told: float(row_log_loss(actual, told).mean())
    if prepared.levels:
        return "pinball", lambda told: float(pinball_losses(actual, told, prepared.levels).mean())
    several = prepared.output_names is not None
    scale = prepared.target_spread() if several else 1.0
    name = "scaled_rmse" if several else "rmse"
    return name, lambda told: float(np.sqrt(np.mean(((told - actual) / scale) ** 2)))


# -------------------------------------------------------------------------------------------------- gradients


def input_gradients(model: nn.Module, prepared: Prepared, part: Part) -> dict[str, Json]:
    """``gradient``: mean over rows of |∂output/∂input| times the input's standard deviation, summed over the
    inputs that a column has and the rows of a window, in the model's own units (scaled target or logit); the
    mean over outputs, of which there are ten at most.

    ``gradient_by_class`` where there are 3 to 10. Entries of an embedded category count as inputs. At most
    512 rows; nothing where the model gives no gradient.
    """
    x, c = map(torch.from_numpy, part.fed(slice(0, GRADIENT_ROWS)))
    x = x.clone().requires_grad_(True)
    with entered_vectors(model) as vectors:
        out = model(x, c).reshape(len(x), -1)
        entered = [x, *vectors] if len(vectors) == part.c.shape[1] else [x]
        by_output = (
            [_moves(column.sum(), entered) for column in out.unbind(1)[:MOST_OUTPUTS]]
            if out.requires_grad
            else []
        )
    if not by_output:
        return {}
    told = [_by_source(prepared, moves) for moves in by_output]
    shown = prepared.classes if 2 < len(told) == len(prepared.classes or ()) else None
    found: dict[str, Json] = {}
    for name in told[0]:
        each = [float(one[name]) for one in told]
        found[name] = {"gradient": float(np.mean(each))}
        if shown is not None:
            found[name]["gradient_by_class"] = dict(zip(shown, each, strict=True))
    return found


def _moves(output: Tensor, entered: list[Tensor]) -> list[Array]:
    """Mean |gradient| · standard deviation of each entry of x, and of each embedded category's vector; of
    windows [n, length, d] the gradients' sizes are summed over a window's rows."""
    found = torch.autograd.grad(output, entered, retain_graph=True, allow_unused=True)
    sizes = [
        (torch.zeros_like(value) if gradient is None else gradient).double().abs().flatten(0, -2).sum(0)
        / len(entered[0])
        * _spread(value.detach().double().flatten(0, -2))
        for gradient, value in zip(found, entered, strict=True)
    ]
    return [size.numpy() for size in sizes]


def _spread(values: Tensor) -> Tensor:
    """Standard deviation of each column; none of no columns."""
    return (values - values.mean(0)).square().mean(0).sqrt()


def _by_source(prepared: Prepared, moves: list[Array]) -> dict[str, float]:
    numbers, vectors = moves[0], moves[1:]
    return {
        name: float(sum(numbers[j] for j in place.x) + sum(vectors[k].sum() for k in place.c))
        for name, place in source_columns(prepared).items()
        if not place.c or vectors
    }
