"""Predictions: bodies of several forms in, one predictor (`gradkeel.local`), JSON or CSV out."""

import codecs
import csv
import importlib
import io
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flask import Response, request

from gradkeel_service.bodies import media_type, parse_object
from gradkeel_service.conditional import json_response
from gradkeel_service.errors import Refusal, invalid
from gradkeel_service.plain_csv import plain_columns
from gradkeel_service.predictors import local

if TYPE_CHECKING:
    from gradkeel.local import Model, Predictions

MAX_ROWS = 200_000

ANSWERS = ("application/json", "text/csv")
JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"

BODY = {
    JSON: {"schema": {"$ref": "#/components/schemas/PredictRequest"}},
    CSV: {"schema": {"type": "string"}},
    PARQUET: {"schema": {"type": "string", "format": "binary"}},
}

_CHARSETS = re.compile(r"ascii|utf-(8|16|32)(-[lb]e)?|iso8859-\d+|cp12\d\d|koi8-r|gb18030|shift_jis")
"""Names as codecs gives them, of encodings whose decoding takes no longer than their text."""

_PLAIN = frozenset({str, int, float, bool, type(None)})
"""Types of a cell that came as JSON."""

Rows = Any
"""What `Model.predict` takes: a list of records or a dict of columns."""


def answer(
    model_id: str, model: "Model", body: bytes, form: str, policy: str, interval: float | None = None
) -> Response:
    """The predictions for the rows in ``body``; 422 naming the column where a row cannot be used, or the
    ``interval`` that the model has not."""
    try:
        rows = _read_rows(model, body)
        result = model.predict(rows, policy=policy, interval=interval)
    except local().NoInterval as error:
        raise invalid("/interval", "no_interval", str(error)) from error
    except local().LocalModelError as error:
        raise _refused(error) from error
    return _csv(model, result) if form == CSV else _json(model_id, model, result)


def _refused(error: Exception) -> Refusal:
    column, row = getattr(error, "column", None), getattr(error, "row", None)
    refusal = invalid("" if column is None else f"/{column}", _code(error), str(error))
    fault = refusal.errors[0]
    refusal.errors = (type(fault)(fault.pointer, fault.code, fault.detail, column=column, row=row),)
    return refusal


def _code(error: Exception) -> str:
    """The error's class as a code: ``BadValue`` → ``bad_value``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower()


# ----------------------------------------------------------------------------------------------- rows in


def _read_rows(model: "Model", body: bytes) -> Rows:
    kind = media_type()
    if kind == JSON:
        return _json_rows(parse_object(body))
    if kind == CSV:
        body = _as_utf8(body)
        rows = _csv_rows(model, body)
    elif kind == PARQUET:
        rows = _parquet_rows(body)
    else:
        raise Refusal("unsupported_media_type", f"send rows as {JSON}, {CSV} or {PARQUET}")
    _check_count(len(next(iter(rows.values()), ())) if isinstance(rows, dict) else len(rows))
    return rows


def _csv_rows(model: "Model", body: bytes) -> Rows:
    plain = plain_columns(body, model.columns, model.known) if model.series is None else None
    return plain or local().rows_from_csv(body, model.manifest)


def _as_utf8(body: bytes) -> bytes:
    """CSV in the charset that the request names; without one the text itself has to tell."""
    charset = request.mimetype_params.get("charset")
    if charset is None:
        return body
    try:
        encoding = codecs.lookup(charset).name
        if not _CHARSETS.fullmatch(encoding):
            raise LookupError
        return body if encoding == "utf-8" else body.decode(encoding).removeprefix("\ufeff").encode()
    except UnicodeError as error:
        raise invalid("", "encoding", f"the body is not in {encoding}, as its Content-Type says") from error
    except (LookupError, ValueError) as error:
        raise Refusal(
            "unsupported_media_type", f"{charset[:40]!r} is no charset that is read here"
        ) from error


def _json_rows(document: dict[str, Any]) -> Rows:
    if set(document) == {"records"}:
        return _records(document["records"])
    if set(document) == {"columns"}:
        return _columns(document["columns"])
    raise invalid("", "form", 'send {"records": [{column: value}]} or {"columns": {column: [value]}}')


def _records(records: Any) -> Rows:
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise invalid("/records", "type", "records must be a list of objects")
    _check_count(len(records))
    for index, record in enumerate(records):
        _check_cells(record.items(), f"/records/{index}")
    return records


def _columns(columns: Any) -> Rows:
    if not isinstance(columns, dict) or not all(isinstance(cells, list) for cells in columns.values()):
        raise invalid("/columns", "type", "columns must be an object of lists")
    lengths = {len(cells) for cells in columns.values()}
    if len(lengths) > 1:
        raise invalid("/columns", "length", "every column must hold as many cells as the others")
    _check_count(next(iter(lengths), 0))
    for name, cells in columns.items():
        if not _PLAIN.issuperset(map(type, cells)):
            _check_cells(enumerate(cells), f"/columns/{name}")
    return columns


def _check_cells(cells: Any, place: str) -> None:
    for key, cell in cells:
        if isinstance(cell, dict | list):
            raise invalid(f"{place}/{key}", "type", "a cell must be a number, a string, true, false or null")


def _check_count(rows: int) -> None:
    if rows == 0:
        raise invalid("", "empty", "there are no rows to predict")
    if rows > MAX_ROWS:
        raise Refusal("too_large", f"{rows} rows; at most {MAX_ROWS} are predicted at a time")


def _parquet_rows(body: bytes) -> Rows:
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    try:
        with parquet.ParquetFile(io.BytesIO(body)) as file:
            _check_count(file.metadata.num_rows)
            table = file.read()
        table.validate(full=True)
    except (arrow.ArrowException, OSError) as error:
        raise invalid("", "parquet", f"the Parquet file cannot be read: {str(error)[:200]}") from error
    return table.to_pydict()


# --------------------------------------------------------------------------------------------- answers out


def _listed(values: Any) -> list[Any]:
    """An array as lists; null for what JSON has no number for (the model warns of it)."""
    return [_finite(value) for value in values.tolist()]


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json(model_id: str, model: "Model", result: "Predictions") -> Response:
    values = _listed(result.values)
    if model.outputs is not None:
        values = [dict(zip(model.outputs, row, strict=True)) for row in values]
    document: dict[str, Any] = {"model_id": model_id, "predictions": values}
    if result.probabilities is not None:
        names = model.classes or ()
        document["probabilities"] = [
            dict(zip(names, row, strict=True)) for row in _listed(result.probabilities)
        ]
    if (ranges := _ranges(model, result)) is not None:
        document["intervals"] = ranges
    if result.places is not None:
        document["places"] = result.places
    document["warnings"] = list(result.warnings)
    return json_response(document)


def _ranges(model: "Model", result: "Predictions") -> list[dict[str, Any]] | None:
    """Lower and upper bound of each row, of several targets by name; None where none were asked for."""
    if result.lower is None or result.upper is None:
        return None
    ends = zip(_listed(result.lower), _listed(result.upper), strict=True)
    if result.lower.ndim == 1:
        return [{"lower": lower, "upper": upper} for lower, upper in ends]
    names = model.outputs or ()
    return [
        {name: {"lower": low, "upper": high} for name, low, high in zip(names, lower, upper, strict=True)}
        for lower, upper in ends
    ]


def _csv(model: "Model", result: "Predictions") -> Response:
    columns = _places_of(result)
    columns |= _cells_of("prediction", result.values, model.outputs)
    if result.probabilities is not None:
        columns |= _cells_of("probability", result.probabilities, model.classes)
    if result.lower is not None and result.upper is not None:
        several = model.outputs if result.lower.ndim > 1 else None
        columns |= _cells_of("lower", result.lower, several) | _cells_of("upper", result.upper, several)
    if list(columns) == ["prediction"] and model.classes is None:
        values = columns["prediction"]
        text = "".join(["prediction\n", *("\n" if value is None else f"{value!r}\n" for value in values)])
    else:
        text = _lines(list(columns), list(zip(*columns.values(), strict=True)))
    return Response(text, content_type="text/csv; charset=utf-8")


def _places_of(result: "Predictions") -> dict[str, list[Any]]:
    """What each prediction is for, of models over windows, as columns of CSV."""
    places = result.places or []
    return {name: [place[name] for place in places] for name in (places[0] if places else ())}


def _cells_of(what: str, values: Any, names: Sequence[str] | None) -> dict[str, list[Any]]:
    """``values`` [n] as one column of CSV, or [n, names] as one column a name."""
    if names is None:
        return {what: _listed(values)}
    return {f"{what} {name}": _listed(values[:, index]) for index, name in enumerate(names)}


def _lines(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([_cell(name) for name in names])
    writer.writerows([_cell(value) for value in row] for row in rows)
    return target.getvalue()


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula is marked as text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" else value
