"""``/v1/models``."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, overload

from gradkeel import display
from gradkeel.contract.states import Verdict
from gradkeel.documents import Document, Field, flag, many, mapping, moment, optional, text, texts
from gradkeel.errors import GradkeelError
from gradkeel.rows import ROWS_A_REQUEST, bodies
from gradkeel.sansio import flows
from gradkeel.sansio.commands import Flow, Request
from gradkeel.sansio.retry import RetryPolicy
from gradkeel.sinks import file_sink
from gradkeel.tables import csv_pieces, open_table

if TYPE_CHECKING:
    from gradkeel.client import AsyncClient, Client

Json = dict[str, Any]
MODELS = "/models"
SUFFIXES = {"bundle": ".gradkeel", "safetensors": ".safetensors", "onnx": ".onnx"}


class InputColumn(Document):
    """A column that the model reads. ``role``: order or group, of a column that makes series of the rows;
    else None."""

    name = Field(text)
    type = Field(text)
    required = Field(flag)
    role = Field(optional(text))


class ModelData(Document):
    """What the service says about a model. ``classes`` are sorted; the second of two is the positive one."""

    id = Field(text)
    job_id = Field(text)
    target = Field(text)
    task = Field(text)
    columns = Field(many(InputColumn))
    classes = Field(optional(texts))
    metrics = Field(mapping)
    verdict = Field(optional(Verdict))
    digests = Field(mapping)
    created_at = Field(moment)

    @property
    def over_windows(self) -> bool:
        """Whether it reads windows of series: all rows of a series then have to be given together."""
        return any(column.role == "order" for column in self.columns)

    def _csv_flow(self, file: IO[bytes], asked: Json, policy: RetryPolicy) -> Flow[Predictions]:
        pieces = csv_pieces(file, SERIES_ROWS) if self.over_windows else csv_pieces(file)
        return predict_csv_flow(self.id, pieces, asked, policy, self.over_windows)

    def _html(self) -> str:
        about = [
            ("target", self.target),
            ("task", self.task),
            ("classes", ", ".join(self.classes or ())),
            ("job", self.job_id),
        ]
        columns = [(column.name, column.type, "yes" if column.required else "no") for column in self.columns]
        parts = [display.facts(about), display.metrics(self.metrics)]
        listed = display.table(["column", "type", "required"], columns)
        return display.card(self._title(), (self.verdict,), *parts, listed)


class Predictions(Sequence[Any]):
    """Predictions in the order of the rows: numbers in target units, or classes with their probabilities.

    Of several targets or quantiles each is a dict, from the target's name or the level to its number.
    ``intervals`` holds a dict of ``lower`` and ``upper`` a row (of several targets by name) where they were
    asked for.

    Of a model over windows, None where a row has no full window behind it; where it forecasts, the steps
    after the last row of each series follow. ``places`` then says what each one is for: row, order, group
    and step.
    """

    def __init__(
        self,
        values: Sequence[Any],
        probabilities: Sequence[Json] | None,
        warnings: Sequence[Any],
        intervals: Sequence[Json] | None = None,
        places: Sequence[Json] | None = None,
    ) -> None:
        self.places = None if places is None else tuple(places)
        self.values = tuple(values)
        self.probabilities = None if probabilities is None else tuple(probabilities)
        self.warnings = tuple(warnings)
        self.intervals = None if intervals is None else tuple(intervals)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Any, ...]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self.values[index]

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        shown = ", ".join(repr(value) for value in self.values[:5])
        return f"<Predictions of {len(self)} rows: {shown}{', …' if len(self) > 5 else ''}>"


def _asked(policy: str | None, interval: float | None) -> Json:
    return {"policy": policy, "interval": interval}


def path_of(model_id: str, *rest: str) -> str:
    return "/".join([MODELS, flows.segment(model_id), *rest])


SERIES_ROWS = 200_000
"""Rows of one request whose series must not be cut; the service takes no more."""


def uncut(pieces: Iterable[Any], over_windows: bool) -> Iterator[Any]:
    """The pieces; of rows in series there may be one alone."""
    for number, piece in enumerate(pieces):
        if number and over_windows:
            raise GradkeelError(
                f"at most {SERIES_ROWS:,} rows of series are predicted at a time: give some of the series, "
                "or use gradkeel.local"
            )
        yield piece


def predict_flow(
    model_id: str, rows: Any, asked: Json, policy: RetryPolicy, over_windows: bool = False
) -> Flow[Predictions]:
    """Predict as many rows as are given, some thousand a request; rows of series in one."""
    parts = []
    at_once = SERIES_ROWS if over_windows else ROWS_A_REQUEST
    for body in list(uncut(bodies(rows, at_once), over_windows)) if over_windows else bodies(rows):
        request = predict_request(model_id, flows.encode(body), "application/json", asked)
        parts.append((yield from flows.document_of(request, policy)))
    return joined(parts)


def predict_csv_flow(
    model_id: str, pieces: Iterable[bytes], asked: Json, policy: RetryPolicy, over_windows: bool = False
) -> Flow[Predictions]:
    """Predict CSV text as it stands, each piece with its header; cells are read with the model's types."""
    parts = []
    for piece in list(uncut(pieces, over_windows)) if over_windows else pieces:
        request = predict_request(model_id, piece, "text/csv", asked)
        parts.append((yield from flows.document_of(request, policy)))
    return joined(parts)


def predict_request(model_id: str, content: bytes, media_type: str, asked: Json) -> Request:
    """``asked``: policy and interval, as far as they are given.

    Predicting changes nothing on the service, so it needs no ``Idempotency-Key`` to be tried again.
    """
    headers = {"Content-Type": media_type, "Accept": "application/json"}
    params = flows.query(asked)
    return Request("POST", path_of(model_id, "predict"), params=params, headers=headers, content=content)


def joined(parts: Sequence[Json]) -> Predictions:
    values = [value for part in parts for value in part["predictions"]]
    warnings = once_each(warning for part in parts for warning in part.get("warnings") or [])
    places = [place for part in parts for place in part.get("places") or []] or None
    ranges = _rows(parts, "intervals")
    return Predictions(values, _rows(parts, "probabilities"), warnings, ranges, places)


def _rows(parts: Sequence[Json], name: str) -> list[Json] | None:
    """What every part holds for each of its rows; None where one does not."""
    if any(part.get(name) is None for part in parts):
        return None
    return [row for part in parts for row in part[name]]


def once_each(warnings: Iterable[Any]) -> list[Any]:
    """Warnings of several requests without repetition."""
    return list({str(warning): warning for warning in warnings}.values())


def expected_digest(document: Mapping[str, Any], form: str) -> str | None:
    """The sha256 (hex) that the model's document names for an artefact, if it does."""
    named = document.get("digests", {}).get(form)
    return str(named).removeprefix("sha256:") if named else None


def download_target(path: str | Path | None, model_id: str, form: str) -> Path:
    """The file to write: the path given, a file in the folder given, or one named after the model.

    A path that ends with a slash is a folder, which is made where it is missing.
    """
    if form not in SUFFIXES:
        raise ValueError(f"there is no format {form!r}; choose from {', '.join(SUFFIXES)}")
    name = "model.gradkeel" if form == "bundle" else f"{model_id}{SUFFIXES[form]}"
    target = Path(path) if path is not None else Path(name)
    if isinstance(path, str) and path.endswith(("/", os.sep)):
        target.mkdir(parents=True, exist_ok=True)
    return target / name if target.is_dir() else target


class Model(ModelData):
    """A model on the service."""

    __slots__ = ("_client",)

    def __init__(self, raw: Mapping[str, Any], client: Client) -> None:
        super().__init__(raw)
        self._client = client

    def predict(self, rows: Any, *, policy: str | None = None, interval: float | None = None) -> Predictions:
        """Predict a data frame, an Arrow table, a dict of columns, or a list of records.

        ``policy``: ``impute`` fills missing columns and unknown categories, ``strict`` refuses them
        (``UnprocessableError`` naming the column). ``interval``: 0.8, 0.9 or 0.95 for prediction intervals
        that should hold that share of the targets.
        """
        asked = _asked(policy, interval)
        return self._client.run(predict_flow(self.id, rows, asked, self._client.policy, self.over_windows))

    def predict_csv(
        self, path: str | Path, *, policy: str | None = None, interval: float | None = None
    ) -> Predictions:
        """Predict a CSV file (plain or gzip) as it stands: cells are read by the model's own column types."""
        with open_table(Path(path)) as file:
            flow = self._csv_flow(file, _asked(policy, interval), self._client.policy)
            return self._client.run(flow)

    def download(self, path: str | Path | None = None, *, format: str = "bundle") -> Path:
        """Save the bundle (or its ``safetensors`` or ``onnx``), digest verified; returns the file's path."""
        target = download_target(path, self.id, format)
        url, params = path_of(self.id, "artifact"), {"format": format}
        with file_sink(target) as sink:
            expected = expected_digest(self.raw, format)
            self._client.run(flows.download(url, params, self._client.policy, sink, expected))
        return target

    def delete(self) -> None:
        self._client.run(flows.nothing_of(flows.delete(path_of(self.id)), self._client.policy))


class Models:
    """``client.models``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def _bind(self, raw: Json) -> Model:
        return Model(raw, self._client)

    def get(self, model_id: str) -> Model:
        request = flows.get(path_of(model_id))
        return self._bind(self._client.run(flows.document_of(request, self._client.policy)))

    def list(self, *, limit: int | None = None, order: str | None = None) -> Iterator[Model]:
        """Every model, page after page (``limit`` a page)."""
        params = {"limit": limit, "order": order}
        return self._client.iterate(flows.pages(MODELS, params, self._client.policy, self._bind))

    def delete(self, model_id: str) -> None:
        self._client.run(flows.nothing_of(flows.delete(path_of(model_id)), self._client.policy))


class AsyncModel(ModelData):
    """A model on the service, for asyncio. See ``Model``."""

    __slots__ = ("_client",)

    def __init__(self, raw: Mapping[str, Any], client: AsyncClient) -> None:
        super().__init__(raw)
        self._client = client

    async def predict(
        self, rows: Any, *, policy: str | None = None, interval: float | None = None
    ) -> Predictions:
        """See ``Model.predict``."""
        return await self._client.run(
            predict_flow(self.id, rows, _asked(policy, interval), self._client.policy, self.over_windows)
        )

    async def predict_csv(
        self, path: str | Path, *, policy: str | None = None, interval: float | None = None
    ) -> Predictions:
        """See ``Model.predict_csv``."""
        with open_table(Path(path)) as file:
            flow = self._csv_flow(file, _asked(policy, interval), self._client.policy)
            return await self._client.run(flow)

    async def download(self, path: str | Path | None = None, *, format: str = "bundle") -> Path:
        """See ``Model.download``."""
        target = download_target(path, self.id, format)
        url, params = path_of(self.id, "artifact"), {"format": format}
        with file_sink(target) as sink:
            expected = expected_digest(self.raw, format)
            await self._client.run(flows.download(url, params, self._client.policy, sink, expected))
        return target

    async def delete(self) -> None:
        await self._client.run(flows.nothing_of(flows.delete(path_of(self.id)), self._client.policy))


class AsyncModels:
    """``client.models`` of ``AsyncClient``. See ``Models``."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def _bind(self, raw: Json) -> AsyncModel:
        return AsyncModel(raw, self._client)

    async def get(self, model_id: str) -> AsyncModel:
        request = flows.get(path_of(model_id))
        return self._bind(await self._client.run(flows.document_of(request, self._client.policy)))

    def list(self, *, limit: int | None = None, order: str | None = None) -> AsyncIterator[AsyncModel]:
        """See ``Models.list``."""
        params = {"limit": limit, "order": order}
        return self._client.iterate(flows.pages(MODELS, params, self._client.policy, self._bind))

    async def delete(self, model_id: str) -> None:
        await self._client.run(flows.nothing_of(flows.delete(path_of(model_id)), self._client.policy))
