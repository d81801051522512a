"""The model card: what the bundle's README.md says."""

from typing import Any

_USAGE = """## Use

```python
from gradkeel.local import load          # pip install 'gradkeel[local]': numpy and onnxruntime, no torch

model = load("model.gradkeel")
print(model.predict({example}).values)
```

`model.onnx` runs by itself in any ONNX runtime: one input [N, 1] per column, DOUBLE for numbers and for
dates (seconds since 1970-01-01 UTC), STRING for categories; a missing number is NaN, a missing text the
empty string. `weights.safetensors` holds the weights and every fitted array of the preparation;
`manifest.json` says what each means.
"""

_OVER_WINDOWS = """The model reads windows of {length} rows of a series: give whole series, with the column
{order!r}{group}.
`model.onnx` takes one more input, `windows` [M, {length}] INT64: which of the N rows make each window, in
order.
"""

_LIMITS = """## Limits

- The model knows rows like those of its training part. Far outside their ranges it extrapolates.
- Categories it has not seen share one level; missing cells are treated as the preparation says.
- The metrics are of one split of one data set. Whether that data stands for where the model will be used,
  only you can say.
"""


def model_card(manifest: dict[str, Any], report: dict[str, Any]) -> str:
    """Markdown: data, metrics beside the baselines, verdict, how to load, limits."""
    target = manifest["target"]["name"]
    parts = (
        f"# Model of {_plain(target)}\n",
        _about(manifest),
        _metrics(manifest["metrics"] or {}),
        _health(report),
        _columns(manifest["columns"]),
        *_neighbors(manifest),
        _USAGE.replace("{example}", _example(manifest["columns"])) + _windows(manifest["windows"]),
        _LIMITS,
    )
    return "\n".join(parts)


def _windows(windows: dict[str, Any] | None) -> str:
    if windows is None:
        return ""
    group = "" if windows["group"] is None else f" and {windows['group']['name']!r}, which tells series apart"
    return (
        "\n"
        + _plain(_OVER_WINDOWS.format(length=windows["length"], order=windows["order"]["name"], group=group))
        + "\n"
    )


def _about(manifest: dict[str, Any]) -> str:
    data = manifest["dataset"]
    rows = manifest["rows"]
    lines = [
        f"- Task: {manifest['task']}",
        f"- Data: {_plain(data.get('name') or data.get('id'))}, SHA-256 `{data.get('sha256')}`",
        f"- Rows: {rows['train']} to train, {rows['validation']} to validate, {rows['test']} to test",
        f"- Model: {manifest['config']['model']['kind']}, loss {manifest['config']['loss']['kind']}",
        f"- Made {manifest['created_at']} by job {manifest['job_id']}",
    ]
    if manifest["target"]["classes"]:
        lines.insert(1, f"- Classes: {', '.join(_plain(name) for name in manifest['target']['classes'])}")
    return "\n".join(lines) + "\n"


def _metrics(metrics: dict[str, Any]) -> str:
    baselines = metrics.get("baselines") or {}
    columns = {
        "model": metrics.get("test"),
        "constant": baselines.get("constant"),
        "ridge": baselines.get("ridge"),
    }
    shown = {name: values for name, values in columns.items() if isinstance(values, dict)}
    if not shown:
        return "## Metrics\n\nThere were no test rows to measure on.\n"
    names = list(dict.fromkeys(name for values in shown.values() for name in values))
    head = [f"| metric | {' | '.join(shown)} |", "| --- |" + " --- |" * len(shown)]
    rows = [
        f"| {name} | {' | '.join(_number(values.get(name)) for values in shown.values())} |" for name in names
    ]
    return "## Metrics on the test part, beside simple baselines\n\n" + "\n".join([*head, *rows]) + "\n"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else "–"


def _health(report: dict[str, Any]) -> str:
    found = [f"- {item['severity']}: {item['rule']}" for item in report.get("findings") or []]
    summary = report.get("summary") or ""
    lines = [f"Verdict: **{report.get('verdict')}**. {_plain(summary)}", "", *found]
    return "## Gradient health\n\n" + "\n".join(lines).rstrip() + "\n\n`report.html` shows the evidence.\n"


def _columns(columns: list[dict[str, Any]]) -> str:
    head = ["| column | type | scaling |", "| --- | --- | --- |"]
    rows = [f"| {_plain(c['name'])} | {c['type']} | {c['scaling']['unit'] or '–'} |" for c in columns]
    return "## Columns\n\n" + "\n".join([*head, *rows]) + "\n"


def _neighbors(manifest: dict[str, Any]) -> list[str]:
    """What the file holds of the training data, where it holds some."""
    held = manifest["preparation"]["neighbors"]
    if held is None:
        return []
    spaces = [f"- {', '.join(map(_plain, space['columns']))}" for space in held["spaces"]]
    nearest = ", ".join(map(str, held["k"]))
    return [
        "## Training data inside\n\n"
        f"This file holds {held['rows']} rows of the training data with their targets: the model looks up "
        f"the rows nearest to the one it predicts for and takes the means of their targets ({nearest} rows) "
        "as inputs. **Whoever has the file can read them.** Give it only to those who may see the training "
        "data. Rows are near to one another by\n\n" + "\n".join(spaces) + "\n"
    ]


def _example(columns: list[dict[str, Any]]) -> str:
    cells = ", ".join(f"{c['name']!r}: {c['example']!r}" for c in columns[:3])
    more = ", …" if len(columns) > 3 else ""
    return f"[{{{cells}{more}}}]"


def _plain(text: Any) -> str:
    """Text that cannot break out of its line or cell."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")[:1000]
