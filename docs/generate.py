"""Write the generated pages under docs/ from the tables in the code; a test checks that they are current."""

import contextlib
import dataclasses
import json
import re
import sys
import tempfile
import tomllib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from flask import Flask

from gradkeel.contract import config as c
from gradkeel.contract.options import MISSING, Option, about
from gradkeel.contract.problems import PROBLEMS
from gradkeel.contract.report import REPORT_SCHEMA, RULES
from gradkeel.contract.resolve import to_json
from gradkeel.contract.schema import bounds
from gradkeel.contract.strict_json import MAX_DEPTH
from gradkeel_service.app import create_app
from gradkeel_service.auth import OPEN, needed_scope
from gradkeel_service.documents import COMPONENTS
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


_API_HEAD = """\
# REST API

Written from the description that the service itself serves at `/openapi.json`; `/docs` shows that one to
click through. The examples take `$URL` (such as `http://127.0.0.1:8080`) and `$KEY` from the environment.

- **Keys.** Everything under `/v1` wants `Authorization: Bearer <key>`, but for what is marked open. A key
  holds scopes (`read`, `submit`, `admin`) and belongs to a project; what other projects have is 404.
- **Errors** are problem documents; [errors.md](errors.md) lists every code with its status and what to do.
  Any operation may answer 400, 401, 403, 404, 405, 406, 422, 429 and 503; those that take a body also 408,
  411, 413 and 415.
- **Headers.** Every answer has `X-Request-Id`. 401 and 403 come with `WWW-Authenticate`; 429 and 503 with
  `Retry-After`. A GET has an `ETag` and answers 304 to `If-None-Match`; files also take `Range`.
- **Repeating.** A POST takes an `Idempotency-Key`: the same key and body are answered as before, with
  `Idempotent-Replayed: true`. Not so `POST /v1/keys` and `predict`.
- **Lists** come in pages of `limit`; hand `next_cursor` back as `after`.
"""


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


def api_page() -> str:
    """Every operation: scope, parameters, bodies, answers, an example; then the documents they exchange."""
    with _application() as app:
        document = _description(app)
        scopes = {(rule, method): scope for rule, method, scope in _scopes(app)}
    lines = [_API_HEAD]
    for tag in document["tags"]:
        lines += [f"## {tag['name']}", "", tag.get("description", ""), ""]
        for path, item in document["paths"].items():
            for method, operation in item.items():
                if method != "parameters" and tag["name"] in operation["tags"]:
                    lines += _operation(path, method, item, operation, scopes[path, method])
    lines += ["## Documents", "", "Fields that a newer version adds may be there as well.", ""]
    for name, schema in document["components"]["schemas"].items():
        if name in COMPONENTS:
            lines += _document(name, schema)
    return "\n".join(lines).rstrip() + "\n"


def _scopes(app: Flask) -> Iterator[tuple[str, str, str]]:
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for method in rule.methods or ():
            scope = "open" if rule.endpoint in OPEN else str(needed_scope(rule.endpoint, method))
            yield path, method.lower(), scope


def _operation(path: str, method: str, item: Any, operation: Any, scope: str) -> Iterator[str]:
    yield from (f"### `{method.upper()} {path}`", "", operation["summary"])
    if text := operation.get("description"):
        yield text
    yield from ("", f"Scope: {scope}." if scope != "open" else "Open: needs no key.", "")
    given = [p for p in [*item.get("parameters", []), *operation.get("parameters", [])] if p["in"] != "path"]
    if given:
        yield from ("| parameter | type | meaning |", "| --- | --- | --- |", *map(_parameter, given), "")
    yield from ("| answer | body | meaning |", "| --- | --- | --- |")
    for status, answer in operation["responses"].items():
        if str(status).startswith("2"):
            yield f"| {status} | {_bodies(answer.get('content', {}))} | {answer['description']} |"
    if body := operation.get("requestBody"):
        yield from ("", f"Body: {_bodies(body['content'])}.")
    yield from ("", "```sh", _curl(path, method, operation, scope), "```", "")


def _parameter(parameter: Any) -> str:
    name = f"`{parameter['name']}`" + (" (header)" if parameter["in"] == "header" else "")
    needed = ", required" if parameter.get("required") else ""
    meaning = parameter.get("description", "")
    kind = _schema_type(parameter["schema"]).replace(" or null", "")
    return f"| {name} | {kind}{needed} | {meaning} |".replace("\n", " ")


def _bodies(content: Any) -> str:
    """``[Job](#job)`` for JSON of a known form, the media type itself for other bodies."""
    shown = []
    for media_type, described in content.items():
        schema = described.get("schema", {})
        shown.append(_schema_type(schema) if "$ref" in schema else f"`{media_type}`")
    return ", ".join(dict.fromkeys(shown)) or "none"


def _schema_type(schema: Any) -> str:
    if name := schema.get("$ref", "").rpartition("/")[2]:
        return f"[{name}](#{name.lower()})" if name in COMPONENTS else f"[{name}](config.md)"
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(map(_schema_type, choices))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"] if value is not None)
    named = schema.get("type", "anything")
    if named == "array":
        return "list of " + _schema_type(schema.get("items", {}))
    if isinstance(named, list):
        return " or ".join(named)
    return f"{named} ({schema['format']})" if "format" in schema else str(named)


def _document(name: str, schema: Any) -> Iterator[str]:
    yield from (f"### {name}", "")
    if text := schema.get("description"):
        yield from (text, "")
    if schema.get("properties"):
        yield from ("| field | type | meaning |", "| --- | --- | --- |")
        for field, described in schema["properties"].items():
            yield f"| `{field}` | {_schema_type(described)} | {described.get('description', '')} |"
        yield ""
    elif not text:
        yield from (f"{_schema_type(schema).capitalize()}.", "")


def _curl(path: str, method: str, operation: Any, scope: str) -> str:
    address = re.sub(r"\{(\w+)\}", lambda found: "$" + found[1].upper(), path)
    words = ["curl", "--head" if method == "head" else f"-X {method.upper()}" if method != "get" else ""]
    words += [f'"$URL{address}"', '-H "Authorization: Bearer $KEY"' if scope != "open" else ""]
    needed = [p for p in operation.get("parameters", []) if p["in"] == "header" and p.get("required")]
    words += [f"-H '{p['name']}: {_example(p['schema'])}'" for p in needed]
    content = operation.get("requestBody", {}).get("content", {})
    media_type = next((name for name in content if "example" in content[name]), next(iter(content), None))
    if media_type is not None:
        words += [f"-H 'Content-Type: {media_type}'", _curl_body(content[media_type].get("example"))]
    return " \\\n  ".join(filter(None, [" ".join(filter(None, words[:3])), *words[3:]]))


def _example(schema: Any) -> Any:
    return schema["enum"][0] if "enum" in schema else schema.get("minimum", 0)


def _curl_body(example: Any) -> str:
    if example is None:
        return "--data-binary @FILE"
    if isinstance(example, str):
        return f"--data-binary $'{example}'".replace("\n", "\\n")
    return f"-d '{json.dumps(example)}'"


def openapi() -> str:
    """The OpenAPI document, as it is served."""
    with _application() as app:
        return json.dumps(_description(app), indent=1, sort_keys=True) + "\n"


@contextlib.contextmanager
def _application() -> Iterator[Flask]:
    with tempfile.TemporaryDirectory() as folder:
        yield create_app(Settings.load({}, data=Path(folder)))


def _description(app: Flask) -> Any:
    return app.test_client().get("/openapi.json", headers={"Host": "localhost"}).get_json()


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
    "api.md": api_page,
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
