"""Write the generated pages under docs/ from the tables in the code; a test checks that they are current."""

import dataclasses
import json
import sys
import tempfile
import tomllib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from gradkeel.contract import config as c
from gradkeel.contract.options import MISSING, Option, about
from gradkeel.contract.problems import PROBLEMS
from gradkeel.contract.report import REPORT_SCHEMA, RULES
from gradkeel.contract.resolve import to_json
from gradkeel.contract.schema import bounds
from gradkeel.contract.strict_json import MAX_DEPTH
from gradkeel_service.app import create_app
from gradkeel_store.settings import SETTINGS, Settings
from gradkeel_worker.diagnosis.rules import RULES as DIAGNOSIS

FOLDER = Path(__file__).parent

_CONFIG_HEAD = """\
# Training config

Every option may be left out except `target` (and `dataset_id` over HTTP). A preset fills what is not given; a
given block merges into the preset's by key, a block of another `kind` replaces it, lists replace.
`POST /v1/jobs?validate_only=true` answers with the resolved config. Unknown keys are refused.
"""

_RULES_HEAD = """\
# Rules of the diagnosis

A rule reads what was measured and gives findings, each with evidence, a place, a confidence and, where a
change of the config helps, a JSON merge patch that `POST /v1/jobs` accepts. Only the gradient family sets the
verdict; a finding of the data family stands first where the evidence makes it the cause.

| rule | family | fires on |
| --- | --- | --- |"""

_ERRORS_HEAD = f"""\
# Errors

Every error is `application/problem+json` (RFC 9457) with `type, title, status, detail, instance, request_id`
and `errors`: a list of places, each with a `code`, a `detail` and a JSON `pointer` into the request, or
`column`, `row` (0-based record) and `line` (1-based in the file) for data. `type` is `urn:gradkeel:problem:`
and the code below. JSON is read strictly, to a depth of {MAX_DEPTH}.

| status | code | title | what to do |
| --- | --- | --- | --- |"""


def config_page() -> str:
    """The config reference: every option with meaning, type, default and range."""
    lines = [_CONFIG_HEAD]
    seen: set[type] = set()
    lines += _class_section(c.TrainConfig, "The whole", seen, level=2)
    return "\n".join(lines) + "\n"


def _class_section(cls: type, title: str, seen: set[type], level: int) -> Iterator[str]:
    seen.add(cls)
    hints = typing.get_type_hints(cls)
    yield from ("#" * level + f" {title}", "", (cls.__doc__ or "").strip(), "")
    fields = [field for field in dataclasses.fields(cls) if field.name != "kind"]
    if fields:
        yield from ("| option | type | default | range | meaning |", "| --- | --- | --- | --- | --- |")
        for field in fields:
            yield _row(field.name, hints[field.name], field, about(field))
        yield ""
    for field in fields:
        yield from _below(field.name, hints[field.name], about(field), seen, level)


def _below(name: str, hint: Any, declared: Option, seen: set[type], level: int) -> Iterator[str]:
    if declared.kinds is not None:
        fresh = [(kind, cls) for kind, cls in declared.kinds.items() if cls not in seen]
        for kind, cls in fresh:
            yield from _class_section(cls, f"{name}: `{kind}`", seen, level + 1)
    elif dataclasses.is_dataclass(hint) and hint not in seen:
        yield from _class_section(typing.cast(type, hint), name, seen, level + 1)


def _row(name: str, hint: Any, field: "dataclasses.Field[Any]", declared: Option) -> str:
    unit = f" ({declared.unit})" if declared.unit else ""
    limits = bounds(declared) if declared.neutral is None else "not built yet: only the default"
    cells = (f"`{name}`", _type_name(hint, declared), _default(field), limits, declared.doc + unit)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(field: "dataclasses.Field[Any]") -> str:
    if field.default is MISSING:
        return "`{}`"
    value = to_json(field.default)
    if isinstance(value, dict):
        return f"`{value['kind']}`" if "kind" in value else "see below"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "`[" + ", ".join(item["kind"] for item in value) + "]`"
    words = {None: "null", True: "true", False: "false"}
    return f"`{words[value]}`" if value is None or isinstance(value, bool) else f"`{value}`"


def _type_name(hint: Any, declared: Option) -> str:
    if declared.kinds is not None:
        name = "block of kind " + ", ".join(f"`{kind}`" for kind in declared.kinds)
        many = {tuple: "list of: ", typing.get_origin(Mapping[str, str]): "by column: "}
        return many.get(get_origin(hint), "") + name
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        return "list of " + _type_name(arguments[0], declared)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_type_name(argument, declared) for argument in arguments)
    if origin is typing.get_origin(Mapping[str, str]):
        return "object of " + _type_name(arguments[1], declared)
    names = {int: "integer", float: "number", str: "string", bool: "boolean", types.NoneType: "null"}
    return names.get(hint, "object")


def errors_page() -> str:
    """Every problem document: status, code, title, what to do."""
    lines = [_ERRORS_HEAD]
    rows = sorted(PROBLEMS.items(), key=lambda row: (row[1].status, row[0]))
    lines += [f"| {kind.status} | `{code}` | {kind.title} | {kind.advice} |" for code, kind in rows]
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """Every setting: environment variable, default, meaning."""
    lines = [
        "# Settings",
        "",
        "Read from the environment by `gradkeel up`, the HTTP server and the worker.",
        "",
        "| variable | default | meaning |",
        "| --- | --- | --- |",
    ]
    lines += [f"| `{setting.env}` | {_shown(setting.default)} | {setting.help} |" for setting in SETTINGS]
    return "\n".join(lines) + "\n"


def _shown(default: Any) -> str:
    return "" if default is None or callable(default) else f"`{default}`"


def rules_page() -> str:
    """Every rule of the diagnosis: family and what it fires on."""
    lines = [_RULES_HEAD]
    for name, rule in DIAGNOSIS.items():
        meaning = " ".join((rule.__doc__ or "").split())
        lines.append(f"| `{name}` | {RULES[name]} | {meaning} |")
    return "\n".join(lines) + "\n"


def report_schema() -> str:
    """The JSON Schema of the report, as it is served."""
    return json.dumps(REPORT_SCHEMA, indent=1) + "\n"


def openapi() -> str:
    """The OpenAPI document, as it is served."""
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings.load({}, data=Path(folder)))
        document = app.test_client().get("/openapi.json", headers={"Host": "localhost"}).get_json()
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def reliability_page() -> str:
    """reliability.md with its table of faults written anew; the words around it are written by hand."""
    head, mark, rest = (FOLDER / "reliability.md").read_text(encoding="utf-8").partition("<!-- faults")
    comment = mark + rest.partition("\n")[0]
    tail = rest[rest.index("<!-- end of faults -->") :]
    return head + "\n".join([comment, *_fault_rows(), ""]) + tail


def _fault_rows() -> Iterator[str]:
    document = tomllib.loads((FOLDER / "faults.toml").read_text(encoding="utf-8"))
    yield from ("| fault | what users see | how it recovers | tests |", "| --- | --- | --- | --- |")
    for row in document["fault"]:
        tests = ", ".join(f"[{test.split('::')[1]}](../{test.split('::')[0]})" for test in row["tests"])
        yield f"| {row['fault']} | {row['seen']} | {row['recovers']} | {tests} |"


PAGES: dict[str, Callable[[], str]] = {
    "config.md": config_page,
    "errors.md": errors_page,
    "settings.md": settings_page,
    "rules.md": rules_page,
    "report.schema.json": report_schema,
    "openapi.json": openapi,
    "reliability.md": reliability_page,
}


def main() -> int:
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
        print(f"wrote docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
