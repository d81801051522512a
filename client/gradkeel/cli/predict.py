"""``gradkeel predict``: through the service, or from a bundle on this machine."""

from __future__ import annotations

import contextlib
import csv
import importlib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypedDict

import click

from gradkeel.cli.access import Access, service_options
from gradkeel.cli.screen import Screen
from gradkeel.contract.ids import MODEL, is_id
from gradkeel.errors import GradkeelError, MissingExtra
from gradkeel.resources.models import SERIES_ROWS, Predictions, once_each, uncut
from gradkeel.tables import READERS, RECORDS_A_PIECE, file_kind, open_table

FORMULA = ("=", "+", "-", "@", "\t", "\r")
WARNINGS_SHOWN = 10


class Asked(TypedDict):
    """How to predict."""

    policy: str
    interval: float | None


@click.command()
@click.argument("model")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV file to write [default: standard output].",
)
@click.option(
    "--policy",
    type=click.Choice(["impute", "strict"]),
    default="impute",
    show_default=True,
    help="Missing columns and unknown categories: fill in, or refuse.",
)
@click.option(
    "--interval",
    type=click.Choice(["0.8", "0.9", "0.95"]),
    help="Prediction intervals too, that should hold this share of the targets: columns lower and upper.",
)
@service_options
def predict(
    access: Access, model: str, file: Path, out: Path | None, policy: str, interval: str | None
) -> None:
    """Predict the rows of FILE with MODEL: an id on the service, or a bundle (then without the service)."""
    screen = Screen(as_json=True)
    asked: Asked = {"policy": policy, "interval": None if interval is None else float(interval)}
    predictions = (
        _local(Path(model), file, asked) if _is_bundle(model) else _remote(access, model, file, asked)
    )
    with _target(out) as target:
        write_csv(target, predictions)
    for warning in predictions.warnings[:WARNINGS_SHOWN]:
        screen.warn(f"warning: {warning}")
    if len(predictions.warnings) > WARNINGS_SHOWN:
        screen.warn(f"… and {len(predictions.warnings) - WARNINGS_SHOWN} more warnings")
    if out is not None:
        screen.warn(f"Wrote {len(predictions)} predictions to {out}.")


def _is_bundle(model: str) -> bool:
    """An id of the service is no path; anything else must be a file that is there."""
    if Path(model).is_file():
        return True
    if is_id(model, MODEL):
        return False
    raise click.BadParameter(f"{model!r} is neither a model id (mdl_…) nor a bundle file", param_hint="MODEL")


@contextlib.contextmanager
def _target(out: Path | None) -> Iterator[IO[str]]:
    if out is None:
        yield sys.stdout
        return
    with out.open("w", encoding="utf-8", newline="") as file:
        yield file


def _remote(access: Access, model_id: str, file: Path, asked: Asked) -> Predictions:
    with access.client() as client:
        model = client.models.get(model_id)
        if file_kind(file) == "csv":
            return model.predict_csv(file, **asked)
        pieces = _pieces(file, SERIES_ROWS if model.over_windows else RECORDS_A_PIECE)
        return joined([model.predict(rows, **asked) for rows in uncut(pieces, model.over_windows)])


def _pieces(file: Path, records: int) -> Iterator[Any]:
    with open_table(file) as opened:
        yield from READERS[file_kind(file)](opened, records)


def joined(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of several pieces as one."""
    values = [value for part in parts for value in part.values]
    warnings = once_each(warning for part in parts for warning in part.warnings)
    chances = [row for part in parts for row in part.probabilities or ()]
    ranges = [row for part in parts for row in part.intervals or ()]
    places = [place for part in parts for place in part.places or ()]
    return Predictions(values, chances or None, warnings, ranges or None, places or None)


def _local(bundle: Path, file: Path, asked: Asked) -> Predictions:
    """Predict with ``gradkeel.local``; the service is not asked."""
    local = _local_module()
    try:
        model = local.load(bundle)
        pieces = _pieces(file, RECORDS_A_PIECE if model.series is None else sys.maxsize)
        return joined([_predict_locally(local, model, piece, asked) for piece in pieces])
    except local.LocalModelError as error:
        raise GradkeelError(f"{bundle}: {error}") from error


def _predict_locally(local: Any, model: Any, piece: Any, asked: Asked) -> Predictions:
    rows = local.rows_from_csv(piece, model.manifest) if isinstance(piece, bytes) else piece
    found = model.predict(rows, **asked)
    values = _listed(found.values)
    if model.outputs is not None:
        values = [dict(zip(model.outputs, row, strict=True)) for row in values]
    shares = _named(model.classes, found.probabilities)
    return Predictions(values, shares, list(found.warnings), _ranges(model, found), found.places)


def _ranges(model: Any, found: Any) -> list[dict[str, Any]] | None:
    """Bounds of each row's interval, as the service answers them."""
    if found.lower is None:
        return None
    ends = zip(_listed(found.lower), _listed(found.upper), strict=True)
    if found.lower.ndim == 1:
        return [{"lower": lower, "upper": upper} for lower, upper in ends]
    return [
        {name: {"lower": a, "upper": b} for name, a, b in zip(model.outputs, lower, upper, strict=True)}
        for lower, upper in ends
    ]


def _listed(values: Any) -> list[Any]:
    return list(values.tolist() if hasattr(values, "tolist") else values)


def _named(classes: Sequence[str] | None, probabilities: Any) -> list[dict[str, Any]] | None:
    if probabilities is None:
        return None
    return [dict(zip(classes or (), row, strict=True)) for row in _listed(probabilities)]


def _local_module() -> Any:
    try:
        return importlib.import_module("gradkeel.local")
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"predicting from a bundle needs {error.name}: pip install 'gradkeel[local]'"
        ) from error


def write_csv(target: IO[str], predictions: Predictions) -> None:
    """One line a prediction: for series what it is for, the prediction, of several targets or quantiles
    each, of classes the probabilities, and the bounds of intervals."""
    writer = csv.writer(target, lineterminator="\n")
    nothing: Sequence[Mapping[str, Any]] = [{}] * len(predictions)
    shares: Sequence[Mapping[str, Any]] = predictions.probabilities or nothing
    ranges: Sequence[Mapping[str, Any]] = predictions.intervals or nothing
    places: Sequence[Mapping[str, Any]] = predictions.places or nothing
    lines = [
        {**place, **_cells("prediction", value), **_cells("probability", chances), **_ends(ends)}
        for place, value, chances, ends in zip(places, predictions.values, shares, ranges, strict=True)
    ]
    writer.writerow([safe_cell(name) for name in (lines[0] if lines else ["prediction"])])
    writer.writerows([safe_cell(_known(cell)) for cell in line.values()] for line in lines)


def _cells(what: str, value: Any) -> dict[str, Any]:
    """One cell, or one for each name of an object."""
    if isinstance(value, Mapping):
        return {f"{what} {name}": cell for name, cell in value.items()}
    return {what: value}


def _ends(ends: Mapping[str, Any]) -> dict[str, Any]:
    """The bounds of a row, of several targets each."""
    if not ends or ("lower" in ends and not isinstance(ends["lower"], Mapping)):
        return dict(ends)
    return {f"{end} {name}": pair[end] for end in ("lower", "upper") for name, pair in ends.items()}


def _known(value: Any) -> Any:
    """A cell; nothing for a prediction that there is none of."""
    return None if isinstance(value, float) and math.isnan(value) else value


def safe_cell(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula is marked as text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
