"""Readings: what a training run measured, step by step, as plain numpy arrays.

This module needs numpy alone, so that a report can be built from persisted readings without torch.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Sparse = tuple[NDArray[np.int64], NDArray[np.float32], tuple[str, ...]]


def _floats() -> Floats:
    return np.zeros(0, np.float64)


def _integers() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


def _layered() -> NDArray[np.float32]:
    return np.zeros((0, 0), np.float32)


@dataclass
class Readings:
    """Measurements of one run. Arrays have one entry per optimizer step ``s`` unless said otherwise.

    Non-finite values are kept as they were measured. ``L`` is the number of trainable layers. In the economy
    tier, the arrays with a layer axis have shape [0, L].
    """

    steps: NDArray[np.int64] = field(default_factory=_integers)
    """0-based step numbers, [s]."""
    epoch: NDArray[np.int64] = field(default_factory=_integers)
    """0-based epoch of each step, [s]."""
    loss: Floats = field(default_factory=_floats)
    """Loss of the step's batch, before the step, [s]."""
    lr: Floats = field(default_factory=_floats)
    """Learning rate used, warm-up and schedule included, [s]."""
    global_norm: Floats = field(default_factory=_floats)
    """Euclidean norm of the whole gradient before clips, [s]."""
    clipped_norm: Floats = field(default_factory=_floats)
    """The same after all clips, [s]."""
    clip_coefficient: Floats = field(default_factory=_floats)
    """clipped_norm / global_norm; 1 where no clip changed anything, [s]."""
    nonfinite: NDArray[np.int64] = field(default_factory=_integers)
    """Number of NaN or infinite entries in the gradient, [s]."""
    cosine: Floats = field(default_factory=_floats)
    """Full tier: cosine between the gradient before clips and that of the step before, [s]; NaN where there
    is none. Of other tiers [0]."""
    skipped: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    """True where the optimizer step was not taken, [s]."""
    layers: tuple[str, ...] = ()
    """Names of the trainable layers in forward order, L of them, such as "layers.0" and "output"."""
    layer_sizes: tuple[int, ...] = ()
    """Number of trainable entries of each layer (norm / sqrt(size) is the size-normalised norm)."""
    layer_norm: NDArray[np.float32] = field(default_factory=_layered)
    """Gradient norm of each layer before clips, [s, L]."""
    weight_norm: NDArray[np.float32] = field(default_factory=_layered)
    """Norm of each layer's weight matrices (biases left out) after the step, [s, L]."""
    update_ratio: NDArray[np.float32] = field(default_factory=_layered)
    """‖change of the weight matrices by this step‖ / ‖weight matrices after it‖, [s, L]."""
    sparse: dict[str, Sparse] = field(default_factory=dict)
    """Series measured at some steps: name → (steps [m], values [m, K], K names). By layer: zero_fraction,
    activation_mean, activation_std, dead_fraction, saturated_fraction. In the full tier also gradient_noise,
    noise_scale, input_gradient (by column), gradient_histogram/LAYER and weight_histogram/LAYER (by bin),
    lambda_max, gauss_newton_lambda_max, preconditioned_lambda_max, hessian_trace, hessian_density (by
    bin)."""
    notes: list[str] = field(default_factory=list)
    """What could not be measured, and why."""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """One entry per finished epoch: epoch, step, train_loss, validation_loss, global_norm, lr, metric …"""
    clipping: list[dict[str, Any]] = field(default_factory=list)
    """One entry per clip in order: kind, limit, fired (bool [s]), coefficients (float64 [s])."""
    interventions: list[dict[str, Any]] = field(default_factory=list)
    """Actions taken by guards: step, action, reason, effect."""
    nonfinite_event: dict[str, Any] | None = None
    """The first NaN or infinity: step, epoch, what (input, target, weight, activation, loss, gradient), kind
    (nan, inf, -inf), layer, operation, producer, largest_input, rows (record indexes in the uploaded file),
    batch_index, columns (names of bad inputs, or None)."""
    initial: dict[str, Any] = field(default_factory=dict)
    """State before the first step: loss of the first batch, activation_std by layer."""
    best_epoch: int | None = None
    """Epoch whose weights are returned; None while there is no usable checkpoint."""
    stopped_by: str | None = None
    """Why training ended: epochs, patience, max_seconds, cancelled, deadline, diverged, or critical where a
    critical finding ended it for a repair; None before."""
    repairs: list[dict[str, Any]] = field(default_factory=list)
    """The repairs tried up to now, as the report lists them; the last one may still be under way."""
    seconds_monitoring: float = 0.0
    """Estimated wall time spent on probes (sampled, see ``Monitor``)."""
    seconds_by_probe: dict[str, float] = field(default_factory=dict)
    """The same by probe."""
    seconds_training: float = 0.0
    """Wall time of the whole fit, validation and probes included."""

    def to_bytes(self) -> bytes:
        """Serialise to one uncompressed ``.npz`` archive without pickled objects."""
        arrays: dict[str, NDArray[Any]] = {}
        notes: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, np.ndarray):
                arrays[entry.name] = value
            elif entry.name not in ("sparse", "clipping"):
                notes[entry.name] = value
        notes["sparse"] = {name: list(names) for name, (_, _, names) in self.sparse.items()}
        for name, (steps, values, _) in self.sparse.items():
            arrays[f"sparse/{name}/steps"], arrays[f"sparse/{name}/values"] = steps, values
        notes["clipping"] = [
            _split_arrays(clip, f"clipping/{i}", arrays) for i, clip in enumerate(self.clipping)
        ]
        arrays["notes"] = np.frombuffer(json.dumps(notes, default=_plain).encode(), np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Readings:
        """Inverse of ``to_bytes``. Raises ValueError or KeyError on bytes that are not such an archive."""
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = dict(archive.items())
        notes = json.loads(arrays.pop("notes").tobytes())
        sparse = {
            name: (arrays.pop(f"sparse/{name}/steps"), arrays.pop(f"sparse/{name}/values"), tuple(names))
            for name, names in notes.pop("sparse").items()
        }
        clipping = [
            _join_arrays(clip, f"clipping/{i}", arrays) for i, clip in enumerate(notes.pop("clipping"))
        ]
        for name in ("layers", "layer_sizes"):
            notes[name] = tuple(notes[name])
        return cls(sparse=sparse, clipping=clipping, **notes, **arrays)


def _split_arrays(entry: dict[str, Any], prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Move the arrays of ``entry`` to ``arrays``; return the rest."""
    arrays.update({f"{prefix}/{key}": value for key, value in entry.items() if isinstance(value, np.ndarray)})
    return {key: value for key, value in entry.items() if not isinstance(value, np.ndarray)}


def _join_arrays(entry: dict[str, Any], prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    names = [name for name in arrays if name.startswith(prefix + "/")]
    return entry | {name.removeprefix(prefix + "/"): arrays.pop(name) for name in names}


def _plain(value: Any) -> Any:
    """JSON form of numpy scalars and arrays inside the notes."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"cannot serialise {type(value).__name__}")
