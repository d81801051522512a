"""The first NaN or infinity of a run: looked for once, where it happened, with the weights of the moment."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch

from gradkeel_worker.diagnosis.evidence import Origin
from gradkeel_worker.diagnosis.provenance import trace_nonfinite
from gradkeel_worker.engine.batches import Batch
from gradkeel_worker.engine.objective import AlignedLoss
from gradkeel_worker.engine.precision import Float32
from gradkeel_worker.engine.run import Run
from gradkeel_worker.losses import Loss
from gradkeel_worker.probes.quiet import quiet

_MAX_ROWS = 1000


def note_nonfinite(run: Run) -> None:
    """Record the first non-finite event of ``run`` from its present step; of later ones the readings tell."""
    batch = run.view.batch
    if run.nonfinite_event is not None or batch is None:
        return
    order = run.batches.order(run.view.epoch)
    run.nonfinite_batch = order[batch.first : batch.first + len(batch.y)]
    found = _bad_inputs(run, batch) or _bad_operation(run, batch)
    culprits = found.pop("positions")
    run.nonfinite_event = {
        "step": run.view.step,
        "epoch": run.view.epoch,
        "what": "gradient",
        "layer": None,
        "operation": None,
        "columns": None,
        **found,
        "rows": run.rows[run.nonfinite_batch[culprits]][:_MAX_ROWS].tolist(),
        "batch_index": run.view.step % len(run.batches),
    }


def _bad_inputs(run: Run, batch: Batch) -> dict[str, Any] | None:
    bad = ~torch.isfinite(batch.x)
    if bad.any():
        columns = [run.input_names[i] for i in bad.flatten(0, -2).any(0).nonzero().flatten().tolist()]
        return {
            "what": "input",
            "columns": columns,
            "positions": bad.flatten(1).any(1).nonzero().flatten().cpu().numpy(),
        }
    bad_target = ~torch.isfinite(batch.y.reshape(len(batch.y), -1)).all(1)
    if bad_target.any():
        return {"what": "target", "positions": bad_target.nonzero().flatten().cpu().numpy()}
    return None


def _bad_operation(run: Run, batch: Batch) -> dict[str, Any]:
    """Repeat the step's forward and backward pass beside it; where the matrix products are in fewer bits, in
    float32 too, which tells whether it was the bits.
    """
    origin = _traced(run, batch, run.precision.forward)
    reduced = type(run.precision) is not Float32
    enough = {"finite_in_float32": _traced(run, batch, contextlib.nullcontext()) is None} if reduced else {}
    with quiet(run.model), torch.no_grad(), run.precision.forward:
        positions = _bad_rows(run, batch)
    if origin is None:
        return {"positions": positions}
    named = ("what", "kind", "operation", "producer", "largest_input")
    layer = None if origin.layer is None else _layer_name(run, origin.layer)
    return {name: getattr(origin, name) for name in named} | enough | {"layer": layer, "positions": positions}


def _traced(run: Run, batch: Batch, form: AbstractContextManager[Any]) -> Origin | None:
    with quiet(run.model, evaluate=False), form:
        return trace_nonfinite(run.model, AlignedLoss(run.objective.loss), batch.x, batch.c, batch.y)


def _layer_name(run: Run, module: str) -> str:
    """The layer, as the readings call it, that a module such as "layers.0.linear" belongs to."""
    return next((name for name in run.readings.layers if f"{module}.".startswith(f"{name}.")), module)


def _bad_rows(run: Run, batch: Batch) -> Any:
    """Rows whose own output or loss is not finite; all of them where no single one is to blame."""
    prediction = run.model(batch.x, batch.c).float().reshape(len(batch.y), -1)
    finite = torch.isfinite(prediction).all(1)
    if isinstance(run.objective.loss, Loss):
        finite &= torch.isfinite(run.objective.loss.each(prediction, batch.y))
    culprits = (~finite).nonzero().flatten().cpu().numpy()
    return culprits if len(culprits) else slice(None)
