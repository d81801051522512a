"""What watching costs: ``python benchmarks/health.py`` (or ``make bench-health``).

The same network on the same data with the same batch size, in turns, several rounds: this engine with
probes off and in each health tier; and Lightning's trainer, bare and with its own gradient-norm logging
(``grad_norm`` in ``on_before_optimizer_step``, logged at every step to memory). Each is compared with its own
unwatched loop, within each round, where both meet the same machine; shown are the median of the rounds'
ratios and the outermost of them. Promised at 20640×8: economy ≤ 1.02, standard ≤ 1.05, full ≤ 1.5.

Options: --rounds, --epochs (a factor), --clock cpu for the processor's time instead of the wall's, which
other work on the machine changes less.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch.nn import functional

from gradkeel_worker.probes import TIERS, of_tier
from speed import CLOCKS, Work, engine, network, works

OFF, BARE = "engine, probes off", "Lightning, nothing logged"
LOGGED = "Lightning, gradient norms logged"
PROMISED = {"economy": 1.02, "standard": 1.05, "full": 1.5}
EPOCHS = {"442×10, 64-64, batch 32": 60, "20640×8, 256-256-256, batch 256": 20}
"""Works that are measured, and epochs of a round: enough steps for what is measured at a few of them."""


def lightning_loop(work: Work, *, logged: bool) -> Callable[[], None]:
    """Lightning's trainer on the same network: Adam, norm clip, no checkpoints, no progress bar."""
    import lightning  # noqa: PLC0415 — of the bench extra alone, and slow to load
    from lightning.pytorch.loggers.logger import DummyLogger  # noqa: PLC0415
    from lightning.pytorch.utilities import grad_norm  # noqa: PLC0415

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network(work)

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            x, y = batch
            return functional.mse_loss(self.net(x), y)

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            if logged:
                self.log_dict(grad_norm(self, norm_type=2))

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    data = torch.utils.data.TensorDataset(torch.from_numpy(work.x), torch.from_numpy(work.y).unsqueeze(1))

    def run() -> None:
        loader = torch.utils.data.DataLoader(data, batch_size=work.batch, shuffle=True)
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=work.epochs,
            gradient_clip_val=1.0,
            logger=DummyLogger(),
            log_every_n_steps=1,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it would rather have more workers for the loader
            trainer.fit(Module(), loader)

    return run


def contestants(work: Work) -> dict[str, tuple[Callable[[], None], str]]:
    """Name → what runs a round, and the unwatched loop that it is compared with."""
    watched = {f"engine, {tier}": (engine(work, of_tier(tier), "float32"), OFF) for tier in TIERS}
    return {
        OFF: (engine(work, (), "float32"), OFF),
        **watched,
        BARE: (lightning_loop(work, logged=False), BARE),
        LOGGED: (lightning_loop(work, logged=True), BARE),
    }


def measure(
    work: Work, rounds: int, clock: Callable[[], float]
) -> dict[str, tuple[np.ndarray[Any, np.dtype[np.float64]], str]]:
    """Microseconds a step of each in each round, [rounds], after one that warms up; and its unwatched
    loop."""
    ways = contestants(work)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, (run, _) in ways.items():
            start = clock()
            run()
            if turn:
                taken[name].append((clock() - start) / work.steps * 1e6)
    return {name: (np.array(taken[name]), base) for name, (_, base) in ways.items()}


def show(work: Work, taken: dict[str, tuple[np.ndarray[Any, np.dtype[np.float64]], str]]) -> None:
    print(f"\n{work.name}, 1 thread, {work.steps} steps a round")
    print(f"  {'':34} {'µs a step':>9} {'÷ unwatched':>12} {'from–to':>11}   promised")
    for name, (micros, base) in taken.items():
        ratios = micros / taken[base][0]
        spread = f"{ratios.min():.2f}–{ratios.max():.2f}"
        promise = PROMISED.get(name.rpartition(" ")[2]) if "20640" in work.name else None
        told = "" if promise is None else f"≤ {promise:.2f}"
        print(
            f"  {name:34} {np.median(micros):9.0f} {np.median(ratios):12.3f} {spread:>11}   {told}".rstrip(),
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count (default 7)")
    parser.add_argument(
        "--epochs", type=float, default=1.0, help="factor on the epochs of a round (default 1)"
    )
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="whose time counts (default wall)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with threadpool_limits(1):
        for work in works(1.0, None):
            if work.name in EPOCHS:
                epochs = max(1, round(EPOCHS[work.name] * options.epochs))
                chosen = replace(work, epochs=epochs)
                show(chosen, measure(chosen, options.rounds, CLOCKS[options.clock]))


if __name__ == "__main__":
    main()
