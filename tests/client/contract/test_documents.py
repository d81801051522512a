"""The served schemas, the reports and the tables agree with what is accepted."""

import dataclasses
import re
from typing import Any

import jsonschema
import pytest

from gradkeel.contract import config as c
from gradkeel.contract import ids
from gradkeel.contract.json_schema import config_schema
from gradkeel.contract.options import about
from gradkeel.contract.problems import PROBLEMS, Problem
from gradkeel.contract.report import REPORT_SCHEMA, empty_report
from gradkeel.contract.resolve import check_name, resolve, to_json

TABLES = {
    name: table
    for name, table in vars(c).items()
    if name.isupper() and isinstance(table, dict) and all(isinstance(kind, type) for kind in table.values())
}


@pytest.mark.parametrize("name", TABLES)
def test_a_kind_is_named_alike_in_its_table_and_its_class(name: str) -> None:
    assert {kind: cls().kind for kind, cls in TABLES[name].items()} == {kind: kind for kind in TABLES[name]}


@pytest.mark.parametrize(
    "cls", [*{cls for table in TABLES.values() for cls in table.values()}, c.TrainConfig]
)
def test_every_option_is_documented(cls: Any) -> None:
    assert cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}(")
    for field in dataclasses.fields(cls):
        assert about(field).doc.endswith((".", "1]", ")")), f"{cls.__name__}.{field.name}"


def test_the_config_schema_accepts_what_is_accepted() -> None:
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for preset in c.PRESETS:
        jsonschema.validate(to_json(resolve({"target": "y", "preset": preset})), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"target": "y", "optimizer": {"kind": "sgd", "lr": 0}}, schema)


def test_an_empty_report_has_every_key() -> None:
    jsonschema.Draft202012Validator.check_schema(REPORT_SCHEMA)
    jsonschema.validate(empty_report(), REPORT_SCHEMA)
    assert set(empty_report()) == set(REPORT_SCHEMA["properties"]) == set(REPORT_SCHEMA["required"])


def test_a_problem_says_what_and_where() -> None:
    document = Problem(
        "not_found", "there is no job 'x'", instance="/v1/jobs/x", request_id="req_1"
    ).to_json()
    assert document["type"] == "urn:gradkeel:problem:not_found" and document["status"] == 404
    assert all(400 <= kind.status < 600 and kind.advice.endswith(".") for kind in PROBLEMS.values())


def test_ids_are_told_apart() -> None:
    made = {ids.new_id("job") for _ in range(1000)}
    assert len(made) == 1000 and all(ids.is_id(one, "job") for one in made)
    assert not ids.is_id("job_../../x", "job") and not ids.is_id(next(iter(made)), "ds")
    assert re.fullmatch(r"job_[0-9a-zA-Z]{22}", next(iter(made)))


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("housing.csv", True),
        ("../../x", True),
        ("a\nb", False),
        ("a\x00", False),
        ("x" * 201, False),
        ("é" * 200, True),
    ],
)
def test_names_of_data_sets(name: str, kept: bool) -> None:
    assert (check_name(name) is None) is kept
