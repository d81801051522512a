"""Models and their predictions, through a bundle that the worker's own code trained and wrote."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from client.local.conftest import TYPES, make_bundle, make_columns
from gradkeel.local import load
from service.conftest import Service, assert_problem

RECORD: dict[str, Any] = {"size": 5.5, "count": 3, "zone": "a", "zip": "11", "when": 1e8, "flag": "yes"}


def stored(service: Service, path: Path, task: str, classes: list[str] | None = None) -> str:
    digest = service.objects.put_file(path)
    columns = [{"name": name, "type": "numeric", "required": True} for name in RECORD]
    model = {
        "target": "y",
        "task": task,
        "columns": columns,
        "classes": classes,
        "digests": {"bundle": f"sha256:{digest}"},
    }
    return str(service.ended_job(model).model_id)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("m") / "m.gradkeel", make_columns(), **TYPES)


@pytest.fixture(scope="module")
def model_id(service: Service, bundle: Path) -> str:
    return stored(service, bundle, "regression")


@pytest.fixture(scope="module")
def binary_id(service: Service, tmp_path_factory: pytest.TempPathFactory) -> str:
    columns = make_columns() | {
        "y": np.random.default_rng(1).choice(np.array(["=no", "yes"], dtype=object), 120)
    }
    path = make_bundle(tmp_path_factory.mktemp("b") / "b.gradkeel", columns, loss={"kind": "bce"}, **TYPES)
    return stored(service, path, "binary", ["=no", "yes"])


def predict(client: httpx.Client, model_id: str, query: str = "", **kwargs: Any) -> httpx.Response:
    return client.post(f"/v1/models/{model_id}/predict{query}", **kwargs)


def test_a_model_and_its_job(client: httpx.Client, model_id: str) -> None:
    document = client.get(f"/v1/models/{model_id}").json()
    assert client.get(f"/v1/jobs/{document['job_id']}").json()["model_id"] == model_id
    assert model_id in [model["id"] for model in client.get("/v1/models").json()["data"]]


def test_a_model_that_looks_up_neighbours_predicts_one_row_and_thousands_alike(
    client: httpx.Client, service: Service, tmp_path: Path
) -> None:
    columns = make_columns()
    neighbors = {"kind": "means", "columns": ["size", "zone"], "k": [2, 7]}
    path = make_bundle(tmp_path / "n.gradkeel", columns, prepare={"neighbors": neighbors}, **TYPES)
    model_id = stored(service, path, "regression")
    sizes = np.linspace(0, 10, 5000).tolist()
    records = [RECORD | {"size": size} for size in sizes]
    whole = predict(client, model_id, json={"records": records}).json()["predictions"]
    assert whole == load(path).predict(records).values.tolist()
    for row in (0, 2222, 4999):
        (alone,) = predict(client, model_id, json={"records": [records[row]]}).json()["predictions"]
        # the same rows are looked up; float32 products of matrices differ by the size of the batch
        assert alone == pytest.approx(whole[row], rel=1e-5, abs=1e-6)


def test_every_form_of_body_predicts_the_same(client: httpx.Client, model_id: str, bundle: Path) -> None:
    records = [RECORD, RECORD | {"size": None, "zone": "b"}]
    expected = load(bundle).predict(records).values.tolist()
    as_records = predict(client, model_id, json={"records": records})
    assert as_records.status_code == 200, as_records.text
    assert as_records.json()["model_id"] == model_id
    assert as_records.json()["predictions"] == expected
    columns = {name: [record[name] for record in records] for name in RECORD}
    assert predict(client, model_id, json={"columns": columns}).json()["predictions"] == expected
    target = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), target)
    headers = {"Content-Type": "application/vnd.apache.parquet"}
    answer = predict(client, model_id, content=target.getvalue(), headers=headers)
    assert answer.json()["predictions"] == expected
    text = io.StringIO()
    writer = csv.DictWriter(text, list(RECORD))
    writer.writeheader()
    writer.writerows(records)
    answer = predict(client, model_id, content=text.getvalue(), headers={"Content-Type": "text/csv"})
    assert answer.json()["predictions"] == expected
    for encoding, kind in (("utf-16", ""), ("utf-16-le", "; charset=UTF-16LE"), ("utf-8", "; charset=utf-8")):
        sent = text.getvalue().encode(encoding)
        answer = predict(client, model_id, content=sent, headers={"Content-Type": f"text/csv{kind}"})
        assert answer.json().get("predictions") == expected, answer.text


@pytest.mark.parametrize(
    ("charset", "status", "code"),
    [
        ("utf-16", 422, "invalid"),
        ("ascii", 422, "invalid"),
        ("punycode", 415, "unsupported_media_type"),
        ("zlib", 415, "unsupported_media_type"),
        ("klingon", 415, "unsupported_media_type"),
    ],
)
def test_a_charset_that_is_wrong_or_unknown(
    client: httpx.Client, model_id: str, charset: str, status: int, code: str
) -> None:
    headers = {"Content-Type": f"text/csv; charset={charset}"}
    assert_problem(predict(client, model_id, content="Größe\n1\n2".encode(), headers=headers), status, code)


def test_classes_and_their_probabilities(client: httpx.Client, binary_id: str) -> None:
    document = predict(client, binary_id, json={"records": [RECORD, RECORD]}).json()
    assert document["predictions"][0] in ("=no", "yes")
    assert document["probabilities"][0].keys() == {"=no", "yes"}
    assert sum(document["probabilities"][0].values()) == pytest.approx(1, abs=1e-6)


def test_csv_answers_escape_formulas(client: httpx.Client, binary_id: str) -> None:
    answer = predict(client, binary_id, json={"records": [RECORD]}, headers={"Accept": "text/csv"})
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert rows[0] == ["prediction", "probability =no", "probability yes"]
    assert rows[1][0] in ("'=no", "yes")


def test_policies(client: httpx.Client, model_id: str) -> None:
    lacking = {name: value for name, value in RECORD.items() if name != "zone"}
    imputed = predict(client, model_id, json={"records": [lacking]})
    assert imputed.status_code == 200
    assert "zone" in str(imputed.json()["warnings"])
    strict = predict(client, model_id, "?policy=strict", json={"records": [lacking]})
    assert assert_problem(strict, 422, "invalid")["errors"][0]["column"] == "zone"


def test_a_mistyped_column_is_warned_of(client: httpx.Client, model_id: str) -> None:
    expected = "column 'sizze' was not in the training table and is not used; did you mean 'size'?"
    mistyped = {("sizze" if name == "size" else name): value for name, value in RECORD.items()}
    asked = predict(client, model_id, json={"records": [mistyped | {"y": 1}]})
    assert asked.json()["warnings"][0] == expected
    text = ",".join(mistyped) + ",y\n" + ",".join(map(str, mistyped.values())) + ",1\n"
    for content in (text, text.replace(",", ";")):
        asked = predict(client, model_id, content=content, headers={"Content-Type": "text/csv"})
        assert asked.json()["warnings"][0] == expected


def test_a_cell_that_cannot_be_used_is_named(client: httpx.Client, model_id: str) -> None:
    answer = predict(client, model_id, json={"records": [RECORD, RECORD | {"size": "wide"}]})
    error = assert_problem(answer, 422, "invalid")["errors"][0]
    assert (error["column"], error["row"]) == ("size", 1)


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", {"Content-Type": "application/json"}, 422, "invalid"),
        (b"[1]", {"Content-Type": "application/json"}, 422, "invalid"),
        (b'{"records": []}', {"Content-Type": "application/json"}, 422, "invalid"),
        (b'{"records": [[1]]}', {"Content-Type": "application/json"}, 422, "invalid"),
        (b'{"records": [{"size": {"a": 1}}]}', {"Content-Type": "application/json"}, 422, "invalid"),
        (
            b'{"columns": {"size": [1], "count": [1, 2]}}',
            {"Content-Type": "application/json"},
            422,
            "invalid",
        ),
        (b'{"rows": [1]}', {"Content-Type": "application/json"}, 422, "invalid"),
        (b"PAR1 nonsense PAR1", {"Content-Type": "application/vnd.apache.parquet"}, 422, "invalid"),
        (b"\xff\xfe\n", {"Content-Type": "text/csv"}, 422, "invalid"),
        (b"x", {"Content-Type": "image/png"}, 415, "unsupported_media_type"),
        (b"x", {"Accept": "image/png"}, 406, "not_acceptable"),
        (b"x" * 2_000_001, {"Content-Type": "text/csv"}, 413, "too_large"),
    ],
)
def test_bad_bodies(
    client: httpx.Client, model_id: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    assert_problem(predict(client, model_id, content=body, headers=headers), status, code)


def test_a_deleted_model_is_gone_and_its_job_stays(
    service: Service, client: httpx.Client, bundle: Path
) -> None:
    model_id = stored(service, bundle, "regression")
    job_id = client.get(f"/v1/models/{model_id}").json()["job_id"]
    assert client.delete(f"/v1/models/{model_id}").status_code == 204
    assert_problem(client.get(f"/v1/models/{model_id}"), 404, "not_found")
    assert client.get(f"/v1/jobs/{job_id}").json()["model_id"] is None


SEVERAL = {
    "targets": ({"target": ["y", "=size"]}, "regression", ["y", "=size"]),
    "quantiles": ({"loss": {"kind": "quantile", "levels": [0.1, 0.9]}}, "quantile", ["0.1", "0.9"]),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_several_outputs_are_named(client: httpx.Client, service: Service, tmp_path: Path, kind: str) -> None:
    config, task, names = SEVERAL[kind]
    columns = make_columns() | {"=size": np.random.default_rng(2).normal(size=120)}
    path = make_bundle(tmp_path / "m.gradkeel", columns, **(TYPES | config))
    several_id = stored(service, path, task)
    record = RECORD | ({"=size": 0.5} if kind == "quantiles" else {})
    expected = load(path).predict([record, record | {"size": None}]).values.tolist()
    answer = predict(client, several_id, json={"records": [record, record | {"size": None}]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == [dict(zip(names, row, strict=True)) for row in expected]
    assert "probabilities" not in answer.json()
    text = predict(client, several_id, json={"records": [record]}, headers={"Accept": "text/csv"}).text
    lines = list(csv.reader(io.StringIO(text)))
    assert lines[0] == [f"prediction {name}" for name in names]
    assert [float(cell) for cell in lines[1]] == expected[0]
    ranges = predict(client, several_id, "?interval=0.8", json={"records": [record]}).json()["intervals"]
    found = load(path).predict([record], interval=0.8)
    assert found.lower is not None
    first = ranges[0]["y"] if kind == "targets" else ranges[0]
    assert first["lower"] == found.lower.ravel()[0]
    refused = predict(client, several_id, "?interval=0.5", json={"records": [record]})
    assert_problem(refused, 422, "invalid")
    assert refused.json()["errors"][0]["code"] == "no_interval"
    beyond = predict(client, several_id, "?interval=95", json={"records": [record]})
    assert_problem(beyond, 422, "invalid")
    assert "give 0.8, 0.9 or 0.95" in beyond.json()["errors"][0]["detail"]


@pytest.fixture(scope="module")
def forecast_id(service: Service, tmp_path_factory: pytest.TempPathFactory) -> str:
    t = np.arange(60)
    data = {"t": t, "y": np.sin(t / 3.0)}
    path = make_bundle(
        tmp_path_factory.mktemp("f") / "f.gradkeel",
        data,
        task="forecast",
        columns={"order": "t"},
        split={"kind": "ordered"},
        model={"kind": "gru", "width": 3, "window": 4, "horizon": 2},
    )
    return stored(service, path, "forecast")


def test_a_forecast_says_what_each_prediction_is_for(client: httpx.Client, forecast_id: str) -> None:
    t = list(range(8))
    columns = {"t": t, "y": [0.1 * each for each in t]}
    document = predict(client, forecast_id, json={"columns": columns}).json()
    assert document["predictions"][:5] == [None] * 5 and len(document["predictions"]) == 10
    assert document["places"][5] == {"row": 5, "order": 5, "step": 0}
    assert document["places"][9] == {"row": None, "order": 7, "step": 2}
    ranges = predict(client, forecast_id, "?interval=0.8", json={"columns": columns}).json()["intervals"]
    assert ranges[0] == {"lower": None, "upper": None} and ranges[9]["lower"] < document["predictions"][9]
    text = "\n".join(["t,y", *(f"{a},{b}" for a, b in zip(*columns.values(), strict=True))])
    sent = {"Content-Type": "text/csv", "Accept": "text/csv"}
    rows = list(csv.reader(io.StringIO(predict(client, forecast_id, content=text, headers=sent).text)))
    assert rows[0] == ["row", "order", "step", "prediction"]
    assert rows[1][3] == "" and [row[:3] for row in rows[-2:]] == [["", "7", "1"], ["", "7", "2"]]
    assert float(rows[-1][3]) == pytest.approx(document["predictions"][-1], rel=1e-6)


def test_rows_too_few_for_a_window(client: httpx.Client, forecast_id: str) -> None:
    answer = predict(client, forecast_id, json={"columns": {"t": [1, 2], "y": [0.0, 0.1]}})
    assert_problem(answer, 422, "invalid")
    assert "needs 4 rows of one series" in answer.text
