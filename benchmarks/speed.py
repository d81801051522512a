"""Time of a training step, side by side in one run: ``python benchmarks/speed.py`` (or ``make bench-speed``).

The contestants: a plain loop (DataLoader, clip_grad_norm_, Adam), a tuned one (permutation and slices, fused
Adam) in float32 and by autocast in bf16, scikit-learn's MLPRegressor, this engine with probes off and in each
health tier, the engine in bf16, and the matrix products of a step alone. All train the same network on the
same data with the same batch size for full epochs, in turns, several rounds. A ratio is taken within each
round, where all meet the same machine; shown are the median of the rounds' ratios and the outermost of them.
scikit-learn does not clip, and the engine's guard, progress and checkpoints are included.

Options: --rounds, --threads 1 2, --epochs, --data california_housing.csv for real rows in the second work,
--clock cpu for the processor's time instead of the wall's, which other work on the machine changes less.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from sklearn.neural_network import MLPRegressor
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from gradkeel.contract.config import TrainConfig
from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Prepared, Table, prepare
from gradkeel_worker.engine.build import build
from gradkeel_worker.engine.trainer import fit
from gradkeel_worker.probes import TIERS, of_tier

OFF, TUNED, SKLEARN = "engine, probes off", "tuned loop", "sklearn MLP"
ENGINE: dict[str, tuple[tuple[str, ...], str]] = {
    OFF: ((), "float32"),
    **{f"engine, {tier}": (of_tier(tier), "float32") for tier in TIERS},
    "engine, standard, bf16": (of_tier("standard"), "bf16"),
}
"""Probes and precision of each of the engine's entries."""


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclasses.dataclass(frozen=True)
class Work:
    """Prepared arrays x [n, d], y [n] and what is trained on them."""

    name: str
    x: np.ndarray[Any, np.dtype[np.float32]]
    y: np.ndarray[Any, np.dtype[np.float32]]
    widths: tuple[int, ...]
    batch: int
    epochs: int

    @property
    def steps(self) -> int:
        return self.epochs * -(-len(self.x) // self.batch)


def network(work: Work) -> nn.Sequential:
    """The plain torch network of a work, seeded."""
    torch.manual_seed(0)
    widths, layers = (work.x.shape[1], *work.widths), []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1))


def plain_loop(work: Work) -> Callable[[], None]:
    """The loop of tutorials."""
    model = network(work)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = TensorDataset(torch.from_numpy(work.x), torch.from_numpy(work.y).unsqueeze(1))
    loader = DataLoader(data, batch_size=work.batch, shuffle=True)

    def run() -> None:
        for _ in range(work.epochs):
            for x, y in loader:
                optimizer.zero_grad()
                loss = functional.mse_loss(model(x), y)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()

    return run


def tuned_loop(work: Work, *, half: bool = False) -> Callable[[], None]:
    """The same with what torch offers: slices of one permutation, fused Adam, fused clipping; ``half``: the
    forward pass by autocast to bf16."""
    model = network(work)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    x, y = torch.from_numpy(work.x), torch.from_numpy(work.y).unsqueeze(1)

    def run() -> None:
        for _ in range(work.epochs):
            order = torch.randperm(len(x))
            xs, ys = x[order], y[order]
            for start in range(0, len(x), work.batch):
                optimizer.zero_grad(set_to_none=True)
                batch = slice(start, start + work.batch)
                with torch.autocast("cpu", torch.bfloat16, enabled=half, cache_enabled=False):
                    output = model(xs[batch])
                loss = functional.mse_loss(output.float(), ys[batch])
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
                optimizer.step()

    return run


def scikit_learn(work: Work) -> Callable[[], None]:
    """MLPRegressor's Adam, without clipping and early stopping."""
    model = MLPRegressor(
        hidden_layer_sizes=work.widths,
        batch_size=work.batch,
        max_iter=work.epochs,
        learning_rate_init=1e-3,
        n_iter_no_change=10**6,
    )

    def run() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that it has not converged
            model.fit(work.x, work.y)

    return run


def products_alone(work: Work) -> Callable[[], None]:
    """The matrix products of as many steps, forward and backward, into memory that is there already."""
    widths = (work.x.shape[1], *work.widths, 1)
    inputs = [torch.randn(work.batch, width) for width in widths]
    weights = [torch.randn(fan_in, fan_out) for fan_in, fan_out in pairwise(widths)]
    gradients = [torch.empty_like(weight) for weight in weights]
    outputs, backs = [torch.empty_like(each) for each in inputs], [torch.empty_like(each) for each in inputs]

    def run() -> None:
        for _ in range(work.steps):
            for i, weight in enumerate(weights):
                torch.mm(inputs[i], weight, out=outputs[i + 1])
            for i, weight in reversed([*enumerate(weights)]):
                torch.mm(inputs[i].t(), inputs[i + 1], out=gradients[i])
                if i:
                    torch.mm(inputs[i + 1], weight.t(), out=backs[i])

    return run


def engine(work: Work, probes: tuple[str, ...], precision: str) -> Callable[[], None]:
    """This engine's fit, built anew for every round."""
    prepared, config = _prepared(work, precision)

    def run() -> None:
        fit(build(prepared, config, probes=probes))

    return run


def _prepared(work: Work, precision: str) -> tuple[Prepared, TrainConfig]:
    columns = {f"x{i}": work.x[:, i].astype(np.float64) for i in range(work.x.shape[1])}
    submitted = {
        "target": "y",
        "preset": "custom",
        "split": {"kind": "random", "validation": 0, "test": 0},
        "prepare": {"target": {"kind": "none"}, "numeric": {"kind": "none"}},
        "model": {"kind": "mlp", "widths": list(work.widths)},
        "loss": {"kind": "mse"},
        "optimizer": {"kind": "adam", "lr": 1e-3},
        "clips": [{"kind": "norm", "max_norm": 1.0}],
        "budget": {"epochs": work.epochs, "batch_size": work.batch},
        "device": "cpu",
        "precision": precision,
    }
    prepared = prepare(Table.from_arrays(columns | {"y": work.y.astype(np.float64)}), resolve(submitted))
    return prepared, prepared.config


def works(epochs_scale: float, data: Path | None) -> list[Work]:
    """The cases that the speed to reach is stated for."""
    small = load_diabetes()
    x = (small.data / small.data.std(0)).astype(np.float32)
    y = ((small.target - small.target.mean()) / small.target.std()).astype(np.float32)
    large_x, large_y = _generated(20640, 8) if data is None else _read(data)
    return [
        Work("442×10, 64-64, batch 32", x, y, (64, 64), 32, max(1, round(60 * epochs_scale))),
        Work(
            "20640×8, 256-256-256, batch 256",
            large_x,
            large_y,
            (256, 256, 256),
            256,
            max(1, round(5 * epochs_scale)),
        ),
        Work(
            "100000×54, 512-512, batch 1024",
            *_generated(100_000, 54),
            (512, 512),
            1024,
            max(1, round(epochs_scale)),
        ),
    ]


def _generated(rows: int, columns: int) -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((rows, columns)).astype(np.float32)
    y = np.sin(x[:, 0]) + x[:, 1] * x[:, 2] + 0.1 * generator.standard_normal(rows).astype(np.float32)
    return x, y.astype(np.float32)


def _read(path: Path) -> tuple[Any, Any]:
    """Numeric columns of a CSV, standardised, rows with gaps dropped; the last one is the target."""
    with path.open(newline="") as file:
        cells = list(csv.reader(file))[1:]
    table = np.array([[_number(cell) for cell in row] for row in cells])
    table = table[:, ~np.isnan(table).all(0)]
    table = table[~np.isnan(table).any(1)]
    table = ((table - table.mean(0)) / table.std(0)).astype(np.float32)
    return np.ascontiguousarray(table[:, :-1]), np.ascontiguousarray(table[:, -1])


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def measure(
    work: Work, rounds: int, clock: Callable[[], float]
) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Microseconds a step of each contestant in each round, [rounds], after one that warms up."""
    contestants: dict[str, Callable[[], None]] = {
        "plain loop": plain_loop(work),
        TUNED: tuned_loop(work),
        "tuned loop, bf16": tuned_loop(work, half=True),
        SKLEARN: scikit_learn(work),
        **{name: engine(work, *entry) for name, entry in ENGINE.items()},
        "matrix products alone": products_alone(work),
    }
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, run in contestants.items():
            start = clock()
            run()
            if turn:
                taken[name].append((clock() - start) / work.steps * 1e6)
    return {name: np.array(each) for name, each in taken.items()}


def show(work: Work, threads: int, taken: dict[str, np.ndarray[Any, np.dtype[np.float64]]]) -> None:
    print(f"\n{work.name}, {threads} thread{'s' if threads > 1 else ''}, {work.steps} steps a round")
    heads = f"{'µs a step':>9} {'best':>7} {'÷ tuned':>8} {'from–to':>11} {'÷ sklearn':>10} {'÷ off':>7}"
    print(f"  {'':24} {heads}")
    for name, micros in taken.items():
        ratios = micros / taken[TUNED]
        spread = f"{ratios.min():.2f}–{ratios.max():.2f}"
        others = [float(np.median(micros / taken[peer])) for peer in (SKLEARN, OFF)]
        print(
            f"  {name:24} {np.median(micros):9.0f} {micros.min():7.0f} {np.median(ratios):8.2f} {spread:>11} "
            f"{others[0]:10.2f} {others[1]:7.3f}",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count (default 7)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts (default 1 2)")
    parser.add_argument(
        "--epochs", type=float, default=1.0, help="factor on the epochs of a round (default 1)"
    )
    parser.add_argument(
        "--data", type=Path, help="CSV for the second work; its last numeric column is the target"
    )
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="whose time counts (default wall)")
    options = parser.parse_args(arguments)
    for threads in options.threads:
        torch.set_num_threads(threads)
        with threadpool_limits(threads):
            for work in works(options.epochs, options.data):
                show(work, threads, measure(work, options.rounds, CLOCKS[options.clock]))


if __name__ == "__main__":
    main()
