"""The pages over HTTP: who gets in, what a form needs, and that data never becomes markup."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import pytest
from flask import Flask

from gradkeel.contract.ids import new_id
from gradkeel.contract.states import Scope
from gradkeel_service.origins import COOKIE
from gradkeel_service.ui.routes import OPEN, PAGES
from service.conftest import Service, assert_problem, running_service
from service.things import things_of_own

HTML = "text/html; charset=utf-8"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
MODEL: dict[str, Any] = {"target": "price", "task": "regression", "columns": [], "digests": {}}


def browser(service: Service, **headers: str) -> httpx.Client:
    """A client that asks for pages and says where its forms come from, as browsers do."""
    said = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Origin": service.url} | headers
    return httpx.Client(base_url=service.url, headers=said, timeout=30)


def sign_in(client: httpx.Client, key: str, **fields: str) -> httpx.Response:
    return client.post("/ui/sign-in", data={"key": key, **fields})


@pytest.fixture
def visitor(service: Service) -> Iterator[httpx.Client]:
    """Someone who has not signed in."""
    with browser(service) as client:
        yield client


@pytest.fixture
def person(service: Service) -> Iterator[httpx.Client]:
    """Someone signed in with a key of all scopes."""
    with browser(service) as client:
        assert sign_in(client, service.admin).status_code == 303
        yield client


@contextlib.contextmanager
def signed_in(service: Service, *scopes: Scope) -> Iterator[httpx.Client]:
    """Someone signed in with a key of these scopes."""
    with browser(service) as client:
        assert sign_in(client, service.records.create_key(service.project, scopes)[1]).status_code == 303
        yield client


# ------------------------------------------------------------------------------------------------ sessions


def test_the_session_cookie_is_of_the_strict_kind(service: Service, visitor: httpx.Client) -> None:
    answer = sign_in(visitor, service.admin)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/ui/jobs")
    cookie = answer.headers["Set-Cookie"]
    parts = {part.strip().lower() for part in cookie.split(";")}
    assert {"httponly", "samesite=strict", "path=/ui"} <= parts
    assert "secure" not in parts  # over plain HTTP on this machine a browser would drop it
    assert service.admin.partition(".")[2] not in cookie
    assert visitor.get("/ui/jobs").status_code == 200


def test_the_cookie_is_secure_where_the_address_is() -> None:
    with running_service(
        GRADKEEL_PUBLIC_URL="https://gradkeel.example", GRADKEEL_TRUSTED_HOSTS="gradkeel.example"
    ) as served:
        said = {"Host": "gradkeel.example", "Origin": "https://gradkeel.example"}
        with browser(served, **said) as client:
            assert "; Secure" in sign_in(client, served.admin).headers["Set-Cookie"]
        with browser(served, **said | {"Origin": "https://gradkeel.example.evil"}) as client:
            assert_problem(sign_in(client, served.admin), 403, "foreign_origin")


def test_a_wrong_key_opens_nothing(service: Service, visitor: httpx.Client) -> None:
    for key in ("", "nonsense", service.admin[:-1] + "!", "key_" + "0" * 22 + "." + "a" * 43):
        answer = sign_in(visitor, key)
        assert (answer.status_code, answer.headers["Content-Type"]) == (401, HTML)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert "Set-Cookie" not in answer.headers
        assert "nonsense" not in answer.text


def test_signing_out_ends_the_session_itself(service: Service, person: httpx.Client) -> None:
    token = person.cookies[COOKIE]
    answer = person.post("/ui/sign-out")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/ui/sign-in")
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    with browser(service, Cookie=f"{COOKIE}={token}") as thief:
        assert thief.get("/ui/jobs").status_code == 303


def test_a_revoked_key_ends_its_sessions_at_once(service: Service) -> None:
    row, key = service.records.create_key(service.project, [Scope.READ])
    with browser(service) as client:
        sign_in(client, key)
        assert client.get("/ui/jobs").status_code == 200
        service.records.revoke_key(service.project, row.id)
        assert client.get("/ui/jobs").headers["Location"].startswith("/ui/sign-in")


def test_the_way_back_leads_to_our_own_pages_only(service: Service, visitor: httpx.Client) -> None:
    asked = visitor.get("/ui/jobs?state=failed&label=a")
    assert asked.headers["Location"] == "/ui/sign-in?next=%2Fui%2Fjobs%3Fstate%3Dfailed%26label%3Da"
    assert 'value="/ui/jobs?state=failed&amp;label=a"' in visitor.get(asked.headers["Location"]).text
    assert sign_in(visitor, service.admin, next="/ui/keys").headers["Location"] == "/ui/keys"
    for away in (
        "//evil.example",
        "https://evil.example",
        "/v1/jobs",
        "/ui/../docs",
        "/ui\\evil",
        "/ui/x\ny",
    ):
        assert sign_in(visitor, service.admin, next=away).headers["Location"] == "/ui/jobs"


def test_the_cookie_opens_the_pages_and_nothing_else(person: httpx.Client) -> None:
    token = person.cookies[COOKIE]
    for path in ("/v1/jobs", "/v1/keys", "/v1/usage"):
        answer = person.get(path, headers={"Cookie": f"{COOKIE}={token}"})
        assert_problem(answer, 401, "unauthorized")
    answer = person.get("/v1/jobs", headers={"Authorization": f"Bearer {token}"})
    assert_problem(answer, 401, "unauthorized")


def test_a_key_in_a_header_opens_no_page(service: Service, visitor: httpx.Client) -> None:
    answer = visitor.get("/ui/jobs", headers={"Authorization": f"Bearer {service.admin}"})
    assert answer.status_code == 303


# ------------------------------------------------------------------------------------- every page there is


def address(rule: str, ids: dict[str, str]) -> str:
    return "/ui" + re.sub(r"<(\w+)>", lambda found: ids[found[1]], rule)


@pytest.fixture(scope="module")
def own(service: Service) -> dict[str, str]:
    """Something of the project's own for every place in an address."""
    return things_of_own(service) | {"file": "predictions.csv", "form": "bundle"}


def test_the_table_holds_every_page(app: Flask) -> None:
    served = {
        (method, rule.rule.removeprefix("/ui"))
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("ui.")
        for method in set(rule.methods or ()) - {"HEAD", "OPTIONS"}
    }
    assert served == {(method, rule) for method, rule, *_ in (*OPEN, *PAGES)}


def test_every_page_needs_a_session(visitor: httpx.Client, own: dict[str, str]) -> None:
    for method, rule, *_ in PAGES:
        for cookie in ({}, {"Cookie": f"{COOKIE}=ses_{'a' * 43}"}, {"Cookie": f"{COOKIE}=\"'"}):
            answer = visitor.request(method, address(rule, own), headers=cookie)
            assert answer.status_code == 303, (method, rule)
            assert answer.headers["Location"].startswith("/ui/sign-in")


def test_every_page_needs_its_scope(service: Service, own: dict[str, str]) -> None:
    for method, rule, _, scope in PAGES:
        if scope is None:
            continue
        with signed_in(service, *(other for other in Scope if other != scope)) as client:
            answer = client.request(method, address(rule, own))
        assert (answer.status_code, answer.headers["Content-Type"]) == (403, HTML), (method, rule)
        assert "insufficient_scope" in answer.headers["WWW-Authenticate"]


def test_nothing_of_another_project_is_shown(service: Service, own: dict[str, str]) -> None:
    tried = 0
    with browser(service) as stranger:
        sign_in(stranger, service.stranger)
        for method, rule, *_ in PAGES:
            answer = stranger.request(method, address(rule, own))
            for place in ("job_id", "dataset_id", "model_id", "batch_id"):
                assert own[place] not in answer.text or own[place] in str(answer.url)
            if "_id>" in rule:
                tried += 1
                assert answer.status_code == 404, (method, rule)
            if rule == "/sign-out":
                sign_in(stranger, service.stranger)
    assert tried >= 10


def test_a_form_needs_its_origin(service: Service, own: dict[str, str]) -> None:
    wrong: list[dict[str, str]] = [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": service.url.replace("127.0.0.1", "localhost")},
        {"Origin": service.url + "1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {},
    ]
    with signed_in(service, *Scope) as client:
        del client.headers["Origin"]
        for method, rule, *_ in (*OPEN, *PAGES):
            if method == "POST":
                for said in wrong:
                    answer = client.post(address(rule, own), headers=said)
                    assert_problem(answer, 403, "foreign_origin")
        assert client.get("/ui/jobs").status_code == 200
        assert client.post("/ui/sign-out", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303


def test_the_api_refuses_a_cookie_from_elsewhere_and_takes_keys_from_anywhere(
    service: Service, person: httpx.Client
) -> None:
    cookie = {"Cookie": f"{COOKIE}={person.cookies[COOKIE]}"}
    key = {"Authorization": f"Bearer {service.admin}"}
    foreign = {"Origin": "https://evil.example"}
    body = {"scopes": ["read"]}
    assert_problem(person.post("/v1/keys", json=body, headers=cookie | foreign), 403, "foreign_origin")
    assert person.post("/v1/keys", json=body, headers=key | foreign).status_code == 201
    answer = person.get("/v1/jobs", headers=key | foreign)
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_every_page_is_guarded_by_its_headers(person: httpx.Client, own: dict[str, str]) -> None:
    for method, rule, *_ in (*OPEN, *PAGES):
        if method != "GET" or rule.endswith(("/events", "/<name>")):
            continue
        answer = person.get(address(rule, own))
        assert answer.headers["X-Content-Type-Options"] == "nosniff", rule
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"], rule
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        if answer.headers["Content-Type"] == HTML and answer.status_code == 200:
            assert answer.headers["Cache-Control"] == "no-store", rule
            assert "unsafe" not in answer.headers["Content-Security-Policy"]
            if not rule.endswith("/report"):
                assert answer.headers["Content-Security-Policy"].startswith("default-src 'self';")
                assert answer.headers["Referrer-Policy"] == "same-origin"
                assert not re.search(
                    r"<script(?! src=\"/ui/assets/)|<style|\son\w+=|\sstyle=", answer.text
                ), rule


# --------------------------------------------------------------------------------------------- what they do


def test_data_never_becomes_markup(service: Service) -> None:
    project = service.records.project_named(HOSTILE)
    _, key = service.records.create_key(project, list(Scope), name=HOSTILE)
    dataset = service.records.create_dataset(project, HOSTILE, service.objects.put_bytes(b"x"), 1)
    held = service.records.claim_dataset(dataset.id, "test")
    assert held is not None
    column = {"name": HOSTILE, "type": "text", "missing": 0, "distinct": 1, "examples": [HOSTILE]}
    profile = {
        "rows": 1,
        "columns": [column],
        "findings": [{"code": HOSTILE, "column": HOSTILE, "detail": HOSTILE}],
    }
    service.records.finish_dataset(dataset.id, held.fence, "0" * 64, profile, 1, [])
    config = {"dataset_id": dataset.id, "target": HOSTILE}
    job = service.records.create_job(project, dataset.id, config, config, labels={HOSTILE: HOSTILE})
    run = service.records.claim_job(job.id, "test")
    assert run is not None
    error = {"code": "bad_data", "message": HOSTILE, "where": {HOSTILE: HOSTILE}}
    model = MODEL | {"target": HOSTILE, "task": HOSTILE}
    service.records.finish_job(job.id, run.fence, "failed", error=error, model=model, verdict="diverged")
    with browser(service) as client:
        sign_in(client, key)
        for path in (
            "jobs",
            f"jobs/{job.id}",
            "datasets",
            f"datasets/{dataset.id}",
            "models",
            "keys",
            "usage",
        ):
            page = client.get(f"/ui/{path}")
            assert page.status_code == 200, page.text
            assert "&lt;script&gt;" in page.text, path
            assert "<script>" not in page.text, path
            assert "<img" not in page.text, path
        page = client.get("/ui/jobs", params={"label": HOSTILE})
        assert "<script>" not in page.text
        assert "<script>" not in client.get("/ui/jobs/<script>alert(1)").text


def test_jobs_are_listed_filtered_and_paged(service: Service) -> None:
    project = service.records.project_named("listed")
    _, key = service.records.create_key(project, [Scope.READ])
    dataset = service.records.create_dataset(project, "houses.csv", "0" * 64, 1)
    config = {"target": "price"}
    made = [
        service.records.create_job(project, dataset.id, config, config, labels={"n": str(n)}).id
        for n in range(27)
    ]
    with browser(service) as client:
        sign_in(client, key)
        first = client.get("/ui/jobs").text
        assert [job for job in made if job in first] == made[2:]
        onward = re.search(r'href="(/ui/jobs\?[^"]*)">Next page', first)
        assert onward is not None
        second = client.get(onward[1].replace("&amp;", "&")).text
        assert [job for job in made if job in second] == made[:2]
        one = client.get("/ui/jobs", params={"label": "n=5"}).text
        assert [job for job in made if job in one] == [made[5]]
        assert made[0] not in client.get("/ui/jobs", params={"state": "failed"}).text
        assert client.get("/ui/jobs", params={"after": "junk"}).status_code == 422
        assert client.get("/ui/jobs", params={"label": "\0"}).status_code == 200


def test_a_job_is_shown_cancelled_and_run_again(service: Service, person: httpx.Client) -> None:
    job = service.job(team="a")
    shown = person.get(f"/ui/jobs/{job.id}")
    assert "Cancel the job" in shown.text
    assert "team=a" in shown.text
    answer = person.post(f"/ui/jobs/{job.id}/cancel")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/ui/jobs/{job.id}")
    assert service.records.get_job(service.project, job.id).state == "cancelled"
    form = form_of(person, job.id)
    again = person.post(f"/ui/jobs/{job.id}/retry", data=form)
    retried = again.headers["Location"].removeprefix("/ui/jobs/")
    assert service.records.get_job(service.project, retried).retry_of == job.id
    assert person.post(f"/ui/jobs/{retried}/retry", data=form).status_code == 409
    person.post(f"/ui/jobs/{retried}/cancel")


def form_of(person: httpx.Client, job_id: str) -> dict[str, str]:
    """The hidden fields of the button "Run it again"."""
    mark = re.search(r'name="once" value="([^"]*)"', person.get(f"/ui/jobs/{job_id}").text)
    assert mark is not None
    return {"once": mark[1]}


def test_a_button_pressed_twice_makes_one_job(service: Service, person: httpx.Client) -> None:
    job = service.job()
    person.post(f"/ui/jobs/{job.id}/cancel")
    form, later = form_of(person, job.id), form_of(person, job.id)
    with ThreadPoolExecutor(4) as threads:
        presses = [threads.submit(person.post, f"/ui/jobs/{job.id}/retry", data=form) for _ in range(4)]
        places = {press.result().headers["Location"] for press in presses}
    assert len(places) == 1
    another = person.post(f"/ui/jobs/{job.id}/retry", data=later)
    assert another.headers["Location"] not in places
    for place in (*places, another.headers["Location"]):
        assert person.post(f"{place}/cancel").status_code == 303
    assert person.post(f"/ui/jobs/{job.id}/retry").status_code == 422


def test_an_ended_job_hands_out_its_files(
    service: Service, person: httpx.Client, own: dict[str, str]
) -> None:
    page = person.get(f"/ui/jobs/{own['job_id']}").text
    links = re.findall(r'href="(/ui/(?:jobs|models)/[^"]*/files/[^"]*)"', page)
    assert len(links) == 7
    for link in links:
        answer = person.get(link)
        assert answer.status_code == 200, link
        assert answer.headers["Content-Disposition"].startswith("attachment")
    report = person.get(f"/ui/jobs/{own['job_id']}/report")
    assert "All went well." in report.text
    for path in (
        f"jobs/{own['job_id']}/files/other",
        f"models/{own['model_id']}/files/onnx",
        "jobs/x",
        "models/x/files/onnx",
    ):
        assert person.get(f"/ui/{path}").status_code == 404


def test_who_may_only_read_sees_no_buttons(service: Service) -> None:
    job = service.job()
    with signed_in(service, Scope.READ) as client:
        page = client.get(f"/ui/jobs/{job.id}").text
        assert "Cancel the job" not in page
        assert "/ui/keys" not in page
        assert client.post(f"/ui/jobs/{job.id}/cancel").status_code == 403
    service.records.request_cancel(service.project, job.id)


def test_keys_are_made_rotated_and_revoked(service: Service, person: httpx.Client) -> None:
    made = person.post("/ui/keys", data={"name": "from the page", "scope": ["read", "submit"], "days": "30"})
    found = re.search(r"(key_\w{22})\.[\w-]{43}", made.text)
    assert found is not None
    assert made.headers["Cache-Control"] == "no-store"
    row = service.records.get_key(service.project, found[1])
    assert (row.name, row.scopes) == ("from the page", ("read", "submit"))
    assert row.expires_at is not None
    assert found[0] not in person.get("/ui/keys").text
    with service.client(found[0]) as client:
        assert client.get("/v1/jobs").status_code == 200
    assert person.post(f"/ui/keys/{row.id}/rotate").status_code == 200
    assert person.post(f"/ui/keys/{row.id}/revoke").headers["Location"] == "/ui/keys"
    assert service.records.get_key(service.project, row.id).revoked_at is not None
    for data in ({}, {"scope": "root"}, {"scope": "read", "days": "x"}, {"scope": "read", "name": "a\nb"}):
        assert person.post("/ui/keys", data=data).status_code == 422
    assert person.post(f"/ui/keys/{new_id('key')}/revoke").status_code == 404


def test_bad_forms_are_refused(person: httpx.Client) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for body, headers, status in [
        (b'{"key": "x"}', {"Content-Type": "application/json"}, 415),
        (b"key=%ff", form, 400),
        (b"&".join([b"a=b"] * 100), form, 400),
        (b"key=%00", form, 400),
        (b"key=" + b"a" * 70_000, form, 413),
    ]:
        assert person.post("/ui/sign-in", content=body, headers=headers).status_code == status


def test_errors_are_pages_for_people_and_documents_for_programs(person: httpx.Client) -> None:
    assert person.get("/ui/jobs/nothing").headers["Content-Type"] == HTML
    answer = person.get("/ui/jobs/nothing", headers={"Accept": "application/json"})
    assert_problem(answer, 404, "not_found")
    assert_problem(person.get("/ui/nothing"), 404, "not_found")
