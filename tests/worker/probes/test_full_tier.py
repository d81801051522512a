"""What the full tier's probes report, against naive computations in float64."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gradkeel_worker.engine.batches import Batch
from gradkeel_worker.engine.build import build
from gradkeel_worker.engine.run import Run
from gradkeel_worker.engine.trainer import fit
from gradkeel_worker.models.ensemble import Ensemble
from gradkeel_worker.probes import noise, spread
from gradkeel_worker.probes.columns import input_gradient
from gradkeel_worker.probes.direction import cosine
from gradkeel_worker.probes.noise import PARTS, gradient_noise
from gradkeel_worker.probes.work import Due, Work

from ..engine.cases import categories, diabetes, prepared, series

Doubles = NDArray[np.float64]
Json = dict[str, Any]

DROPOUT: Json = {"kind": "mlp", "widths": [6, 5], "dropout": 0.4, "norm": "batch", "activation": "tanh"}
TABM: Json = {"kind": "tabm", "members": 3, "blocks": 2, "width": 6, "dropout": 0.2}
GRU: Json = {"kind": "gru", "width": 5, "window": 4}


def _run(table: Any = None, **changes: Any) -> Run:
    data = prepared(table, **{"budget": {"epochs": 1, "batch_size": 40, "patience": 0}} | changes)
    return build(data, data.config)


def _gru() -> Run:
    return _run(series(), model=GRU, columns={"order": "t", "group": "g"})


def _twin(run: Run) -> nn.Module:
    """The run's model in float64, as it is judged: dropout off, members with a loss each."""
    twin = copy.deepcopy(run.model).double().eval()
    if isinstance(twin, Ensemble):
        twin.apart = True
    return twin


def _wide(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


def _gradient(run: Run, batch: Any) -> Doubles:
    """The gradient of a batch's loss, parameter by parameter."""
    twin = _twin(run)
    run.objective.loss(twin(batch.x.double(), batch.c), _wide(batch.y)).backward()
    return np.concatenate([p.grad.flatten().numpy() for p in twin.parameters() if p.grad is not None])


# ---------------------------------------------------------------------------------------------- direction


def _angles(run: Run, gradients: list[Tensor]) -> list[float]:
    found = []
    with np.errstate(all="ignore"):  # as in the training loop
        for gradient in gradients:
            run.parameters.zero_gradient()
            run.parameters.gradient.copy_(gradient)
            run.view.global_norm = run.parameters.norm()
            found.append(float(cosine(run.view)))
    return found


@pytest.mark.parametrize("size", [1.0, 1e-30, 1e25])
def test_the_angle_between_gradients_of_any_size(size: float) -> None:
    run, draw = _run(), np.random.default_rng(0)
    vectors = size * draw.normal(size=(3, run.parameters.values.numel()))
    first, second, third = (each / np.linalg.norm(each) for each in vectors)
    found = _angles(run, [torch.from_numpy(each) for each in vectors])
    assert math.isnan(found[0])
    # float32 products of some hundred entries
    assert found[1:] == pytest.approx([first @ second, second @ third], abs=2e-6)


def test_a_gradient_that_is_not_finite_or_zero_is_passed_over() -> None:
    run = _run()
    one = torch.randn(run.parameters.values.numel(), generator=torch.Generator().manual_seed(0))
    bad = one.clone()
    bad[3] = math.nan
    found = _angles(run, [one, bad, 0 * one, -one, -one])
    assert [math.isnan(each) for each in found] == [True, True, True, False, False]
    assert found[3:] == pytest.approx([-1, 1], abs=1e-6)


def test_the_angle_between_the_gradients_of_two_steps() -> None:
    budget = {"epochs": 2, "batch_size": 442, "patience": 0}
    run = _run(
        budget=budget,
        health={"tier": "full"},
        optimizer={"kind": "sgd", "lr": 0.1},
        clips=[],
        split={"kind": "random", "validation": 0, "test": 0},
    )
    batch, start = next(run.batches.epoch(0)), copy.deepcopy(run.model)
    before = _gradient(run, batch)
    with torch.no_grad():
        taken = torch.from_numpy(before)
        for parameter in start.parameters():
            parameter -= 0.1 * taken[: parameter.numel()].view(parameter.shape).float()
            taken = taken[parameter.numel() :]
    fit(run)
    run.model = start
    after = _gradient(run, batch)
    expected = before @ after / np.linalg.norm(before) / np.linalg.norm(after)
    assert run.readings.cosine[1] == pytest.approx(expected, abs=1e-4)


# -------------------------------------------------------------------------------------------------- noise


def _noise_of(run: Run, batch: Batch) -> Doubles:
    run.view.memory.clear()
    run.view.batch = batch
    return gradient_noise(run.view)["gradient_noise"][1].numpy()


def _estimates(run: Run, parts: list[Batch]) -> Doubles:
    """Appendix A.1 of McCandlish et al. 2018, by its own formulas."""
    gradients = [_gradient(run, part) for part in parts]
    small, big = len(parts[0].y), len(parts[0].y) * len(parts)
    square_small = np.mean([g @ g for g in gradients])
    mean = np.mean(gradients, axis=0)
    square_big = mean @ mean
    squared_norm = (big * square_big - small * square_small) / (big - small)
    return np.array([squared_norm, (square_small - square_big) / (1 / small - 1 / big)])


@pytest.mark.parametrize(
    "make",
    [
        lambda: _run(model=DROPOUT),
        lambda: _run(model=TABM),
        lambda: _run(categories()),
        _gru,
        lambda: _run(budget={"epochs": 1, "batch_size": 5, "patience": 0}),
    ],
)
def test_noise_against_gradients_of_the_parts_one_by_one(make: Any) -> None:
    run = make()
    batch = next(run.batches.epoch(0))
    parts = min(PARTS, len(batch.y))
    size = len(batch.y) // parts
    rows = [slice(k * size, (k + 1) * size) for k in range(parts)]
    pieces = [batch._replace(x=batch.x[r], c=batch.c[r], y=batch.y[r]) for r in rows]
    # float32 gradients, and their squares are taken from each other
    np.testing.assert_allclose(_noise_of(run, batch), _estimates(run, pieces), rtol=1e-3, atol=1e-6)


def test_a_part_that_is_not_finite_is_left_out() -> None:
    run = _run()
    batch = next(run.batches.epoch(0))
    spoilt = batch._replace(x=batch.x.clone())
    spoilt.x[7, 2] = math.nan  # in the second of the parts, of five rows each
    pieces = [
        batch._replace(x=batch.x[k : k + 5], c=batch.c[k : k + 5], y=batch.y[k : k + 5])
        for k in range(0, 40, 5)
        if k != 5
    ]
    np.testing.assert_allclose(_noise_of(run, spoilt), _estimates(run, pieces), rtol=1e-3, atol=1e-6)
    spoilt.x[:] = math.nan
    assert np.isnan(_noise_of(run, spoilt)).all()


def test_noise_is_estimated_without_bias() -> None:
    """Of a linear model, whose gradients' covariance over all rows is known."""
    run = _run(model={"kind": "linear"}, loss={"kind": "mse"})
    rows = next(build(run_data := prepared(model={"kind": "linear"}), run_data.config).batches.epoch(0))
    each = [rows._replace(x=rows.x[i : i + 1], c=rows.c[i : i + 1], y=rows.y[i : i + 1]) for i in range(64)]
    gradients = np.array([_gradient(run, one) for one in each])
    trace, mean = gradients.var(axis=0).sum(), gradients.mean(axis=0)
    draw, found = np.random.default_rng(0), []
    for _ in range(200):
        some = torch.from_numpy(draw.integers(0, 64, 16))
        found.append(_noise_of(run, rows._replace(x=rows.x[some], c=rows.c[some], y=rows.y[some])))
    means, errors = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(len(found))
    # four standard errors of the mean over the draws, themselves a small part of what is estimated
    assert np.all(np.abs(means - [mean @ mean, trace]) < 4 * errors)
    assert errors[1] < 0.15 * trace
    assert errors[0] < 0.15 * (mean @ mean)


def test_the_noise_scale_is_the_ratio_of_the_means_over_the_latest_measurements() -> None:
    run = _run()
    batches = [batch for epoch in range(4) for batch in run.batches.epoch(epoch) if len(batch.y) == 40]
    pairs, scales = [], []
    for batch in batches:
        run.view.batch = batch
        found = gradient_noise(run.view)
        pairs.append(found["gradient_noise"][1].numpy())
        scales.append(float(found["noise_scale"][1]))
    assert len(pairs) > noise.LATEST
    for i, scale in enumerate(scales):
        squared_norm, trace = np.mean(pairs[max(0, i - noise.LATEST + 1) : i + 1], axis=0)
        if squared_norm > 0:
            assert scale == pytest.approx(trace / squared_norm, rel=1e-9)
        else:
            assert math.isnan(scale)


def test_a_single_row_has_no_noise_to_tell() -> None:
    run = _run()
    batch = next(run.batches.epoch(0))
    run.view.batch = batch._replace(x=batch.x[:1], c=batch.c[:1], y=batch.y[:1])
    assert gradient_noise(run.view) == {}


# ------------------------------------------------------------------------------------------------- spread


def _bin_of(value: float) -> str:
    if not math.isfinite(value):
        return "nonfinite"
    if value == 0:
        return "zero"
    lower = [power for power in range(-12, 5) if abs(value) >= np.float32(10.0**power)]
    if not lower:
        return "<1e-12"
    return ">=1e4" if lower[-1] == 4 else f"1e{lower[-1]}"


@pytest.mark.parametrize("which", ["gradient", "weight"])
def test_histograms_count_every_entry_once(which: str) -> None:
    run, draw = _run(), np.random.default_rng(0)
    flat = run.parameters.gradient if which == "gradient" else run.parameters.values
    values = (draw.choice([-1, 1], len(flat)) * 10.0 ** draw.uniform(-16, 8, len(flat))).astype(np.float32)
    values[:9] = [0, -0.0, math.nan, math.inf, -math.inf, 1e-12, 1e4, 1e-40, 0.1]
    with torch.no_grad():
        flat.copy_(torch.from_numpy(values))
    look = getattr(spread, f"{which}_histogram")(run.view)
    assert list(look) == [f"{which}_histogram/{layer.name}" for layer in run.parameters.layers]
    for layer in run.parameters.layers:
        names, counts = look[f"{which}_histogram/{layer.name}"]
        own = [_bin_of(float(value)) for value in values[layer.start : layer.stop]]
        assert names == spread.BINS
        assert counts.tolist() == [own.count(name) for name in names]
        assert counts.sum() == layer.size


# ------------------------------------------------------------------------------------------------ columns


def _pull(run: Run, spoilt: int | None = None) -> dict[str, float]:
    """Row by row: |∂loss of the row/∂x| of each input, times its deviation, by column of the file."""
    side, twin = run.view.side, _twin(run)
    assert side is not None
    kept = [i for i in range(len(side.y)) if i != spoilt]
    x, c, y = side.x[kept].double(), side.c[kept], _wide(side.y[kept])
    tables = list(getattr(twin, "embeddings", []))
    sizes: list[list[Tensor]] = []
    for i in range(len(kept)):
        vectors: list[Tensor] = []
        hooks = [t.register_forward_hook(lambda m, a, out, v=vectors: v.append(out)) for t in tables]
        row = x[i : i + 1].clone().requires_grad_(True)
        loss = run.objective.loss(twin(row, c[i : i + 1]), y[i : i + 1])
        found = torch.autograd.grad(loss, [row, *vectors], allow_unused=True)
        sizes.append([g.abs().reshape(-1, g.shape[-1]).sum(0) for g in found if g is not None])
        for hook in hooks:
            hook.remove()
    entered = [x, *(t(c[..., k]).detach() for k, t in enumerate(tables))]
    spreads = [e.reshape(-1, e.shape[-1]).std(0, correction=0) for e in entered]
    moved = [torch.stack([one[k] for one in sizes]).mean(0) * spreads[k] for k in range(len(entered))]
    return {
        name: float(sum(moved[0][j] for j in xs)) + float(sum(moved[1 + k].sum() for k in cs))
        for name, (xs, cs) in run.view.columns.items()
    }


@pytest.mark.parametrize(
    "make",
    [
        lambda: _run(model=DROPOUT),
        lambda: _run(model=TABM),
        lambda: _run(categories()),
        lambda: _run(categories(), prepare={"categorical": {"kind": "onehot"}}),
        lambda: _run(prepare={"embedding": {"kind": "periodic", "frequencies": 4, "width": 3}}),
        _gru,
    ],
)
def test_the_pull_of_columns_against_rows_one_by_one(make: Any) -> None:
    run = make()
    names, values = input_gradient(run.view)["input_gradient"]
    expected = _pull(run)
    assert names == tuple(expected)
    np.testing.assert_allclose(values, list(expected.values()), rtol=2e-4, atol=1e-7)


def test_one_bad_row_does_not_hide_the_pull_of_the_others() -> None:
    run = _run()
    assert run.view.side is not None
    run.view.side.x[5, 3] = math.nan
    _, values = input_gradient(run.view)["input_gradient"]
    names = list(run.view.columns)
    bad = names.index("bp")
    expected = np.array(list(_pull(run, spoilt=5).values()))
    # the spread of the other inputs is that of all rows: a percent or so from that of all but one
    found = values.numpy()
    np.testing.assert_allclose(np.delete(found, bad), np.delete(expected, bad), rtol=0.05)
    assert np.isfinite(found[bad])


# --------------------------------------------------------------------------------------------------- work


@pytest.mark.parametrize("steps", [1, 9, 250, 8_000, 1_000_000])
@pytest.mark.parametrize("cost", [0.01, 1.0, 30.0, 1e4])
def test_what_a_probe_takes_stays_within_its_share(steps: int, cost: float) -> None:
    work = Work(steps, 256, 128, 135_000, 4)
    call = cost * work.step
    due = work.affords(call, 0.05)
    most = max(0.05 * steps * work.step, 5e8)
    if due is None:
        assert call > most
        return
    asked = [step for step in range(min(steps, 50_000)) if due.at(step)]
    assert asked[0] == 0
    assert len(asked) * call <= most
    assert len(asked) <= 200
    assert due.every >= work.regularly().every


def test_what_needs_some_steps_taken_is_not_asked_at_the_first() -> None:
    work = Work(500, 32, 128, 1000, 3)
    due = work.affords(1e6, 0.05, settled=True)
    assert due == Due(25, 50)
    assert [step for step in range(500) if due.at(step)][:2] == [25, 75]


def test_the_steps_at_which_series_are_taken_are_kept_with_the_run() -> None:
    run = _run(health={"tier": "full"})
    other = _run(diabetes(), budget={"epochs": 900, "batch_size": 40, "patience": 0}, health={"tier": "full"})
    kept = run.monitor.state()["schedule"]
    assert kept != other.monitor.state()["schedule"]
    assert kept["gradient_noise"] == [0, 5]
