"""Uploads, their refusal, and what is shown of a data set."""

from __future__ import annotations

import base64
import gzip
import hashlib
import threading

import httpx2 as httpx
import numpy as np
import pyarrow
import pytest

from gradkeel.contract.problems import Problem
from service.conftest import COLUMNS, TABLE, Service, assert_problem


def objects_in(service: Service) -> set[str]:
    return {digest for digest, _ in service.objects.list()}


def test_a_raw_upload_is_stored_bit_for_bit(service: Service, client: httpx.Client) -> None:
    body = TABLE.encode() + b"9,A,1\n"
    answer = client.post("/v1/datasets?name=housing.csv", content=body)
    assert answer.status_code == 201
    document = answer.json()
    assert document["name"] == "housing.csv"
    assert document["sha256"] == hashlib.sha256(body).hexdigest()
    assert document["bytes"] == len(body)
    assert document["state"] == "ingesting"
    assert answer.headers["Location"] == f"/v1/datasets/{document['id']}"
    assert service.objects.read(document["sha256"]) == body


def test_a_form_upload_takes_its_name_from_the_file(service: Service, client: httpx.Client) -> None:
    body = TABLE.encode()
    answer = client.post("/v1/datasets", files={"file": ("my table.csv", body, "text/csv")})
    assert answer.status_code == 201, answer.text
    assert answer.json()["name"] == "my table.csv"
    assert service.objects.read(answer.json()["sha256"]) == body


def test_a_chunked_upload_needs_no_length(client: httpx.Client) -> None:
    answer = client.post("/v1/datasets", content=iter([b"a,b\n", b"1,2\n"]))
    assert answer.status_code == 201
    assert answer.json()["bytes"] == 8


def test_read_options_are_kept(service: Service, client: httpx.Client) -> None:
    answer = client.post(
        "/v1/datasets?delimiter=%3B&decimal=,&encoding=latin-1&header=false", content=b"1;2\n"
    )
    row = service.records.get_dataset(service.project, answer.json()["id"])
    assert row.options == {"delimiter": ";", "decimal": ",", "encoding": "latin-1", "header": False}


def test_a_name_never_becomes_a_path(client: httpx.Client) -> None:
    answer = client.post("/v1/datasets?name=../../x", content=b"a\n1\n")
    assert answer.status_code == 201
    assert answer.json()["name"] == "../../x"


def test_the_digest_is_checked(service: Service, client: httpx.Client) -> None:
    body = b"digest,checked\n1,2\n"
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    good = client.post("/v1/datasets", content=body, headers={"Repr-Digest": f"sha-256=:{digest}:"})
    assert good.status_code == 201
    before = objects_in(service)
    bad = client.post("/v1/datasets", content=body + b"3,4\n", headers={"Repr-Digest": f"sha-256=:{digest}:"})
    assert_problem(bad, 400, "digest_mismatch")
    assert objects_in(service) == before
    malformed = client.post("/v1/datasets", content=body, headers={"Repr-Digest": "sha-256=nonsense"})
    assert_problem(malformed, 400, "bad_request")


def _zstd(inside: bytes) -> bytes:
    return pyarrow.compress(inside, codec="zstd", asbytes=True)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(gzip.compress(TABLE.encode()), id="gzip"),
        pytest.param(_zstd(TABLE.encode()), id="zstd"),
        pytest.param(
            gzip.compress(
                np.random.default_rng(0).random(40_000).astype(str).tobytes()[:0] + TABLE.encode() * 900
            ),
            id="long gzip",
        ),
        pytest.param("a;b\nä;ö\n".encode("utf-16"), id="utf-16 with a mark"),
        pytest.param(b"PAR1....PAR1", id="parquet by its mark"),
    ],
)
def test_tables_of_every_form_are_let_in(client: httpx.Client, body: bytes) -> None:
    assert client.post("/v1/datasets", content=body).status_code == 201


def test_wait_answers_when_the_data_has_been_read(service: Service, client: httpx.Client) -> None:
    dataset_id = client.post("/v1/datasets", content=TABLE.encode()).json()["id"]
    answers: list[httpx.Response] = []
    with service.client() as other:
        thread = threading.Thread(
            target=lambda: answers.append(other.get(f"/v1/datasets/{dataset_id}?wait=20"))
        )
        thread.start()
        claimed = service.records.claim_dataset(dataset_id, "test")
        assert claimed is not None
        service.records.finish_dataset(
            dataset_id, claimed.fence, service.parquet(), {"rows": 40, "columns": COLUMNS}, 40, COLUMNS
        )
        thread.join()
    assert answers[0].json()["state"] == "ready"
    assert answers[0].json()["columns"][1] == {"name": "zone", "type": "categorical", "missing": 0}


def test_preview_and_profile(service: Service, client: httpx.Client) -> None:
    row = service.ready_dataset()
    preview = client.get(f"/v1/datasets/{row.id}/preview?rows=2").json()
    assert preview == {
        "columns": ["rooms", "zone", "price"],
        "rows": [[0, "A", 100], [1, "B", 103]],
        "lines": [2, 3],
    }
    assert client.get(f"/v1/datasets/{row.id}/profile").json()["rows"] == 40


def test_a_rejected_data_set_says_why(service: Service, client: httpx.Client) -> None:
    dataset_id = client.post("/v1/datasets", content=b"a,b\n1\n").json()["id"]
    assert_problem(client.get(f"/v1/datasets/{dataset_id}/profile"), 409, "conflict")
    claimed = service.records.claim_dataset(dataset_id, "test")
    assert claimed is not None
    service.records.reject_dataset(dataset_id, claimed.fence, Problem("bad_data", "row 0 has one cell"))
    assert client.get(f"/v1/datasets/{dataset_id}").json()["error"]["detail"] == "row 0 has one cell"
    assert_problem(client.get(f"/v1/datasets/{dataset_id}/preview"), 409, "dataset_rejected")
    job = client.post("/v1/jobs", json={"dataset_id": dataset_id, "target": "a"})
    assert_problem(job, 409, "dataset_rejected")


def test_by_digest_spares_sending_again(service: Service, client: httpx.Client) -> None:
    row = service.ready_dataset()
    assert client.head(f"/v1/datasets/by-digest/{row.sha256}").status_code == 200
    assert client.head(f"/v1/datasets/by-digest/{'0' * 64}").status_code == 404
    with service.client(service.stranger) as stranger:
        assert stranger.head(f"/v1/datasets/by-digest/{row.sha256}").status_code == 404


def test_delete_waits_for_the_jobs_that_need_it(service: Service, client: httpx.Client) -> None:
    job = service.job()
    assert_problem(client.delete(f"/v1/datasets/{job.dataset_id}"), 409, "in_use")
    client.post(f"/v1/jobs/{job.id}/cancel")
    assert client.delete(f"/v1/datasets/{job.dataset_id}").status_code == 204
    assert_problem(client.get(f"/v1/datasets/{job.dataset_id}"), 404, "not_found")
