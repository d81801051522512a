"""Checkpoints: the whole state of a run as bytes, from which it goes on as if it had never stopped.

A checkpoint is a safetensors file. Arrays are in it as they are; everything else is one JSON text among them.
Its header names the format and what the checkpoint belongs to: a digest of the config, the prepared data, the
model's layers and the versions of the code. Numpy needs no state here: whatever is drawn with it comes from a
generator made from the seed on the spot.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradkeel.contract.config import TrainConfig
from gradkeel.contract.resolve import to_json

if TYPE_CHECKING:
    from gradkeel_worker.data import Part, Prepared
    from gradkeel_worker.engine.run import Run

FORMAT = "gradkeel-checkpoint-1"
"""Another number for whatever makes older checkpoints unusable."""

_TYPES = {
    "float32": "F32",
    "float64": "F64",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
_NAMES = {short: name for name, short in _TYPES.items()}
_TREE = "state"
_ARRAY = "$array"
_PRECISION = "precision"


class UnusableCheckpoint(ValueError):
    """The bytes are no checkpoint, or not one of this run; says why."""


@dataclass(frozen=True)
class Checkpoint:
    """State before ``step``, in ``epoch``, after ``seconds`` of training.

    On the CPU its arrays are the run's own: write it or copy it before the run takes its next step.
    """

    step: int
    epoch: int
    seconds: float
    head: bytes
    arrays: tuple[NDArray[Any], ...]

    def chunks(self) -> Iterator[memoryview]:
        """Its bytes, piece by piece and without a copy."""
        yield memoryview(self.head)
        for each in self.arrays:
            yield each.reshape(-1).view(np.uint8).data

    def to_bytes(self) -> bytes:
        return b"".join(self.chunks())


def checkpoint_of(run: Run) -> Checkpoint:
    """The checkpoint of a run between two steps."""
    arrays: dict[str, NDArray[Any]] = {}
    state = _packed(_state(run), "", arrays)
    arrays[_TREE] = np.frombuffer(json.dumps(state).encode(), np.uint8)
    arrays = dict(sorted(arrays.items(), key=lambda entry: -entry[1].itemsize))  # each begins aligned
    epoch, _ = run.position
    return Checkpoint(run.step, epoch, run.seconds, _head(run, arrays), tuple(arrays.values()))


def resume(run: Run, data: bytes | bytearray) -> None:
    """Have a freshly built run go on from a checkpoint. A bytearray is read without a copy.

    Raises:
        UnusableCheckpoint: the run must be built anew.
    """
    try:
        arrays = _read(data if isinstance(data, bytearray) else bytearray(data), run)
        state = _unpacked(json.loads(arrays[_TREE].tobytes()), arrays)
        with np.errstate(all="ignore"):  # as in the training loop: what overflows is measured
            _load(run, state)
    except UnusableCheckpoint:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UnusableCheckpoint(f"it does not fit: {type(error).__name__}: {error}") from error


def chosen_precision(data: bytes | bytearray) -> dict[str, Any] | None:
    """What a checkpoint's training had measured to choose its precision; None where nothing was chosen."""
    try:
        entries, _ = _entries(data)
        found: dict[str, Any] | None = json.loads(entries["__metadata__"].get(_PRECISION, "null"))
    except (UnusableCheckpoint, KeyError, TypeError, ValueError, AttributeError):
        return None
    return found


def folds_through(data: bytes | bytearray) -> int:
    """How many folds of a cross-validation were through when a checkpoint was made; 0 also for bytes that are
    none. Whether it is a checkpoint of this training is ``resume``'s to say."""
    try:
        arrays = _arrays(data if isinstance(data, bytearray) else bytearray(data))[1]
        folds = json.loads(arrays[_TREE].tobytes())["folds"]
        return 0 if folds is None else len(folds["done"])
    except (UnusableCheckpoint, AttributeError, KeyError, TypeError, ValueError):
        return 0


def repairs_of(data: bytes | bytearray) -> dict[str, Any] | None:
    """The state of the repairs when a checkpoint was made; None where there are none, also for bytes that are
    no checkpoint. Whether it is one of this training is ``resume``'s to say."""
    try:
        arrays = _arrays(data if isinstance(data, bytearray) else bytearray(data))[1]
        state = json.loads(arrays[_TREE].tobytes()).get("repairs")
        return None if state is None else _unpacked(state, arrays)
    except (UnusableCheckpoint, AttributeError, KeyError, TypeError, ValueError):
        return None


def bond(prepared: Prepared, config: TrainConfig, own: str = "") -> str:
    """What a checkpoint has to belong to, as a digest. ``own``: names the caller's own model and loss."""
    digest = hashlib.blake2b(digest_size=32)
    versions = [importlib.metadata.version(name) for name in ("gradkeel", "torch", "numpy")]
    digest.update(json.dumps([FORMAT, versions, to_json(config), own], sort_keys=True).encode())
    for part in (prepared.train, prepared.validation):
        _digest_part(part, digest)
    return digest.hexdigest()


def _digest_part(part: Part, digest: Any) -> None:
    windows = () if part.windows is None else (part.windows.x, part.windows.c, part.windows.ends)
    for array in (part.x, part.c, part.y, part.weight, *windows):
        if array is not None:
            digest.update(repr((array.dtype.str, array.shape)).encode())
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


# ------------------------------------------------------------------------------------------ state of a run


def _state(run: Run) -> dict[str, Any]:
    return {
        "step": run.step,
        "seconds": run.seconds,
        "loss_sum": run.loss_sum,
        "losses": run.losses,
        "ending": run.ending,
        "epochs": run.epochs,
        "resumed_at": run.resumed_at,
        "nonfinite_event": run.nonfinite_event,
        "nonfinite_batch": run.nonfinite_batch,
        "values": run.parameters.values,
        "buffers": list(run.model.buffers()),
        "precision": run.precision.state(),
        "optimizer": run.optimizer.state(),
        "schedule": run.schedule.state(),
        "lr": run.lr,
        "clips": [clip.state() for clip in run.clips],
        "guards": [guard.state() for guard in run.guards],
        "last_good": None if run.last_good is None else run.last_good.state(),
        "keeper": run.keeper.state(),
        "monitor": run.monitor.state(),
        "view": run.view.state(),
        "folds": None if run.folds is None else run.folds.state(),
        "arms": run.arms,
        "repairs": None if run.repairs is None else run.repairs.state(),
        "random": torch.get_rng_state(),
        "random_device": torch.cuda.get_rng_state(run.device) if run.device.type == "cuda" else None,
    }


def _load(run: Run, state: dict[str, Any]) -> None:
    run.step, run.seconds_before, run.started = state["step"], state["seconds"], time.monotonic()
    run.loss_sum, run.losses, run.ending = state["loss_sum"], state["losses"], state["ending"]
    run.epochs, run.resumed_at = state["epochs"], [*state["resumed_at"], state["step"]]
    batch = state["nonfinite_batch"]
    run.nonfinite_event, run.nonfinite_batch = (
        state["nonfinite_event"],
        None if batch is None else batch.copy(),
    )
    with torch.no_grad():
        run.parameters.values.copy_(torch.as_tensor(state["values"]))
        for buffer, values in zip(run.model.buffers(), state["buffers"], strict=True):
            buffer.copy_(torch.as_tensor(values))
    run.precision.load(state["precision"])
    run.optimizer.load(state["optimizer"])
    run.schedule.load(state["schedule"])
    run.lr = state["lr"]
    for clip, kept in zip(run.clips, state["clips"], strict=True):
        clip.load(kept)
    for guard, kept in zip(run.guards, state["guards"], strict=True):
        guard.load(kept)
    if run.last_good is not None:
        run.last_good.load(state["last_good"])
    if run.folds is not None:
        run.folds.load(state["folds"])
    run.arms = state["arms"]
    if run.repairs is not None:
        run.repairs.load(state["repairs"])
    run.keeper.load(state["keeper"])
    run.view.load(state["view"])
    run.monitor.load(state["monitor"], run.view)
    run.readings = run.monitor.readings()
    torch.set_rng_state(torch.as_tensor(state["random"]))
    if state["random_device"] is not None and run.device.type == "cuda":
        torch.cuda.set_rng_state(torch.as_tensor(state["random_device"]), run.device)


# -------------------------------------------------------------------------------------------------- bytes


def _packed(value: Any, name: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """``value`` as JSON, its arrays and tensors moved to ``arrays``."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        arrays[name] = np.asarray(value, order="C")
        return {_ARRAY: name}
    if isinstance(value, dict):
        return {key: _packed(item, f"{name}/{key}", arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(item, f"{name}/{i}", arrays) for i, item in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value


def _unpacked(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """Inverse of ``_packed``. The arrays are views of all the bytes: whoever keeps one copies it."""
    if isinstance(value, dict):
        if _ARRAY in value:
            return arrays[value[_ARRAY]]
        return {key: _unpacked(item, arrays) for key, item in value.items()}
    return [_unpacked(item, arrays) for item in value] if isinstance(value, list) else value


def _head(run: Run, arrays: dict[str, NDArray[Any]]) -> bytes:
    """The length and the JSON header that a safetensors file begins with."""
    about = {"format": FORMAT, "bond": run.bond, "step": str(run.step)}
    if run.chosen_precision is not None:
        about[_PRECISION] = json.dumps(run.chosen_precision)
    entries: dict[str, Any] = {"__metadata__": about}
    stop = 0
    for name, array in arrays.items():
        start, stop = stop, stop + array.nbytes
        entries[name] = {
            "dtype": _TYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, stop],
        }
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _read(data: bytearray, run: Run) -> dict[str, NDArray[Any]]:
    """The arrays of a checkpoint of ``run``, as views of its bytes."""
    about, arrays = _arrays(data)
    if about.get("bond") != run.bond:
        raise UnusableCheckpoint("it belongs to another config, other data or another version")
    return arrays


def _arrays(data: bytearray) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What a checkpoint says of itself, and its arrays as views of its bytes."""
    entries, begin = _entries(data)
    about = entries.pop("__metadata__", {})
    if about.get("format") != FORMAT:
        raise UnusableCheckpoint(f"its format is {str(about.get('format'))[:40]!r}, not {FORMAT!r}")
    return about, {name: _view(data, begin, entry) for name, entry in entries.items()}


def _entries(data: bytes | bytearray) -> tuple[dict[str, Any], int]:
    """The header, and where the arrays begin."""
    begin = 8 + int.from_bytes(data[:8], "little")
    if not 8 < begin <= len(data):
        raise UnusableCheckpoint("it is torn, or none at all")
    return json.loads(data[8:begin]), begin


def _view(data: bytearray, begin: int, entry: dict[str, Any]) -> NDArray[Any]:
    start, stop = (begin + offset for offset in entry["data_offsets"])
    if not begin <= start <= stop <= len(data):
        raise UnusableCheckpoint("it is torn")
    return np.frombuffer(memoryview(data)[start:stop], _NAMES[entry["dtype"]]).reshape(entry["shape"])
