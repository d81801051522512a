"""The preparation of an earlier model out of its bundle: the inverse of ``to_manifest`` and ``arrays``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradkeel.contract.config import Prepare
from gradkeel_worker.data.categories import Encoding, marker_texts
from gradkeel_worker.data.curves import Curve, QuantileTable, YeoJohnson
from gradkeel_worker.data.errors import DataError, fault
from gradkeel_worker.data.features import scaler_of
from gradkeel_worker.data.preparation import Preparation, Source, ValueInput
from gradkeel_worker.data.scalers import TargetTransform
from gradkeel_worker.data.table import Array

_PLAIN = ("center", "scale", "fill", "lower", "upper")
_WEIGHTS, _PREPARE, _TARGET = "model.", "prepare.", "target."


@dataclass(frozen=True)
class Kept:
    """What a training that goes on from a model takes over. ``weights``: of the network, by their names."""

    preparation: Preparation
    target: TargetTransform
    task: str
    classes: tuple[str, ...] | None
    weights: Mapping[str, Array]


def kept_of(manifest: Mapping[str, Any], arrays: Mapping[str, Array], policy: Prepare) -> Kept:
    """Put together what a bundle's manifest and weights file hold. ``policy``: its config's prepare block.

    Raises:
        DataError: the bundle holds a kind of preparation that cannot be taken over.
    """
    layout, target = manifest["preparation"], manifest["target"]
    fitted = _named(arrays, _PREPARE)
    sources = tuple(_source(column) for column in manifest["columns"])
    values = tuple(ValueInput(**value) for value in layout["values"])
    preparation = Preparation(
        sources=sources,
        values=values,
        indicators=tuple(layout["indicators"]),
        encodings=tuple(_encoding(one, sources) for one in layout["categories"]),
        missing=layout["missing"],
        neighbors=None,
        curves=tuple(_curve(i, value, fitted, policy) for i, value in enumerate(values)),
        **{name: np.array(fitted[name], dtype=np.float64) for name in _PLAIN},
    )
    numbers = {name: float(array[0]) for name, array in _named(arrays, _TARGET).items()}
    transform = TargetTransform(target["transform"]["kind"], link=target["transform"]["link"], **numbers)
    classes = None if target["classes"] is None else tuple(target["classes"])
    _check_whole(preparation, transform, layout, arrays)
    return Kept(preparation, transform, manifest["task"], classes, _named(arrays, _WEIGHTS))


def _named(arrays: Mapping[str, Array], family: str) -> dict[str, Array]:
    """The arrays of one family, by the rest of their names."""
    return {name.removeprefix(family): each for name, each in arrays.items() if name.startswith(family)}


def _check_whole(
    preparation: Preparation, target: TargetTransform, layout: Any, arrays: Mapping[str, Array]
) -> None:
    """That nothing of what the bundle holds was lost."""
    made = preparation.arrays() | {f"{_TARGET}{name}": array for name, array in target.arrays().items()}
    held = {name: array for name, array in arrays.items() if not name.startswith(_WEIGHTS)}
    same = made.keys() == held.keys() and all(np.array_equal(made[name], held[name]) for name in held)
    if not same or _told(preparation.to_manifest()) != _told(layout):
        raise _unusable("holds a preparation that cannot be taken over")


def _told(layout: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not there: bundles of before do not name it."""
    return {name: value for name, value in layout.items() if value is not None}


def _unusable(what: str) -> DataError:
    return fault("conflict", f"the earlier model {what}; train anew without model_id", pointer="/model_id")


def _source(column: Mapping[str, Any]) -> Source:
    return Source(
        column["name"],
        column["type"],
        required=column["required"],
        markers=tuple(column["missing_numbers"]),
        missing_texts=tuple(column["missing_texts"]),
        integer=column["integer"],
        decimal=column["decimal"],
    )


def _encoding(category: Mapping[str, Any], sources: tuple[Source, ...]) -> Encoding:
    (source,) = (each for each in sources if each.name == category["name"])
    return Encoding(
        category["name"],
        category["kind"],
        tuple(category["levels"]),
        category["missing_code"],
        category["other"],
        category["width"],
        marker_texts(source.missing_texts + source.markers),
    )


def _curve(i: int, value: ValueInput, fitted: Mapping[str, Array], policy: Prepare) -> Curve | None:
    if f"curve.{i}.power" in fitted:
        return YeoJohnson(float(fitted[f"curve.{i}.power"][0]))
    if f"curve.{i}.at" not in fitted:
        return None
    at, below, above = (np.array(fitted[f"curve.{i}.{name}"]) for name in ("at", "below", "above"))
    output = getattr(scaler_of(value.source, policy), "output", None)
    return QuantileTable(at, below, above, output == "normal")
