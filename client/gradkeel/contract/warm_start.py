"""Going on from an earlier model: a config that names ``model_id`` takes that model's own blocks over.

The weights mean something only beside the preparation and the model block that they were trained with. What
is submitted is therefore completed from the earlier job's resolved config, before anything else reads it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gradkeel.contract.errors import ConfigError, FieldError, escape_pointer
from gradkeel.contract.presets import OVER_WINDOWS
from gradkeel.contract.resolve import merge_blocks

Json = dict[str, Any]

FREE = ("freeze", "dropout", "init", "bias_init")
"""Keys of the model block that may differ: none of them is in the weights."""
_CODE = "conflict"
_ANEW = "training does not go on from such a model yet: train anew without model_id"


def completed(submitted: Json, model_id: str, config: Json, features: Sequence[Mapping[str, Any]]) -> Json:
    """``submitted`` with the blocks that go with the model's weights: model, prepare, loss, task, target and
    columns.

    ``config``: resolved, of the job that made the model. ``features``: name and type of each of its columns.

    Raises:
        ConfigError: with a pointer to each thing that is given and differs.
    """
    types = {str(feature["name"]): str(feature["type"]) for feature in features}
    own = _own_blocks(config, types)
    faults = list(_faults(submitted, model_id, own, types))
    if faults:
        raise ConfigError(faults)
    columns = {**_mapping(submitted.get("columns")), **_columns(own["columns"], submitted)}
    model = merge_blocks(own["model"], submitted.get("model") or {})
    given = {"task": own["task"], "prepare": own["prepare"], "model": model, "columns": columns}
    return {"target": own["target"], "loss": own["loss"], **submitted, **given}


def missing_features(model_id: str, features: Sequence[Mapping[str, Any]], profile: Json) -> list[FieldError]:
    """A fault for each column that the model reads and the table lacks."""
    held = {column["name"] for column in profile["columns"]}
    names = [str(feature["name"]) for feature in features if feature["name"] not in held]
    return [
        FieldError(
            "/model_id",
            "unknown_column",
            f"the model {model_id} reads the column {name!r}, which the table lacks",
            column=name,
        )
        for name in names
    ]


def _own_blocks(config: Json, types: Mapping[str, str]) -> Json:
    """The blocks of the earlier config, without what concerns columns that the model does not read."""
    prepare, columns, target = config["prepare"], config["columns"], config["target"]
    targets = {target} if isinstance(target, str) else set(target)
    read = {*types, *targets, "*"}
    model = config["model"]
    return {
        "target": target,
        "task": config["task"],
        "loss": config["loss"],
        "model": model | ({"freeze": []} if "freeze" in model else {}),
        "prepare": prepare | {"per_column": _only(prepare["per_column"], types)},
        "columns": {
            "include": list(types),
            "types": {**_only(columns["types"], targets), **types},
            "missing_values": _only(columns["missing_values"], read),
        },
    }


def _columns(own: Json, submitted: Json) -> Json:
    """The columns block's own keys; types and markers of columns beside the features may be added."""
    given = _mapping(submitted.get("columns"))
    added = {name: _mapping(given.get(name)) for name in ("types", "missing_values")}
    return {"include": own["include"], **{name: {**more, **own[name]} for name, more in added.items()}}


def _faults(submitted: Json, model_id: str, own: Json, types: Mapping[str, str]) -> Iterator[FieldError]:
    the_model = f"the model {model_id}"
    if own["model"]["kind"] in OVER_WINDOWS:
        detail = (
            f"{the_model} reads windows of series: nothing goes on from such; train anew without model_id"
        )
        yield FieldError("/model_id", _CODE, detail)
    elif own["task"] not in ("regression", "binary", "multiclass"):
        yield FieldError("/model_id", _CODE, f"{the_model} is for {own['task']}; {_ANEW}")
    if not isinstance(own["target"], str):
        detail = f"{the_model} predicts several targets; {_ANEW}"
        yield FieldError("/model_id", _CODE, detail)
    if own["prepare"].get("neighbors", {"kind": "none"})["kind"] != "none":
        detail = f"{the_model} looks up neighbours in its own training rows; {_ANEW}"
        yield FieldError("/model_id", _CODE, detail)
    if _mapping(submitted.get("split")).get("folds") is not None:
        detail = f"{the_model} may have learnt from the rows of a fold: leave folds or model_id out"
        yield FieldError("/split/folds", _CODE, detail)
    if submitted.get("task", "auto") not in ("auto", own["task"]):
        yield FieldError("/task", _CODE, f"{the_model} is for {own['task']}; leave task out")
    yield from _model_faults(_mapping(submitted.get("model")), own["model"], the_model)
    yield from _prepare_faults(_mapping(submitted.get("prepare")), own["prepare"], the_model)
    yield from _loss_faults(_mapping(submitted.get("loss")), own["loss"], the_model)
    yield from _column_faults(_mapping(submitted.get("columns")), own["columns"], types, the_model)


def _model_faults(given: Json, own: Json, the_model: str) -> Iterator[FieldError]:
    if given.get("kind", own["kind"]) != own["kind"]:
        yield FieldError("/model/kind", _CODE, f"{the_model} is {own['kind']}; {_way('model')}")
        return
    for key in given:
        if key in own and key not in FREE and given[key] != own[key]:
            detail = f"{the_model} has {key} {own[key]!r}; {_way(key)}"
            yield FieldError(f"/model/{key}", _CODE, detail)


def _prepare_faults(given: Json, own: Json, the_model: str) -> Iterator[FieldError]:
    for key, block in given.items():
        if key == "target" and _mapping(block).get("kind") == "auto":
            continue
        if key in own and merge_blocks(own[key], block) != own[key]:
            detail = f"{the_model} keeps its own preparation, with another {key}; {_way(key)}"
            yield FieldError(f"/prepare/{key}", _CODE, detail)


def _loss_faults(given: Json, own: Json, the_model: str) -> Iterator[FieldError]:
    kinds = {given.get("kind", own["kind"]), own["kind"]}
    if len(kinds) == 2 and "poisson" in kinds:
        detail = f"{the_model} was trained with {own['kind']}: poisson has outputs on another scale"
        yield FieldError("/loss/kind", _CODE, detail)


def _column_faults(given: Json, own: Json, types: Mapping[str, str], the_model: str) -> Iterator[FieldError]:
    include = given.get("include")
    if isinstance(include, list) and set(map(str, include)) != set(types):
        detail = f"{the_model} reads {', '.join(types)}; {_way('include')}"
        yield FieldError("/columns/include", _CODE, detail)
    excluded = [name for name in given.get("exclude") or () if name in types]
    if excluded:
        yield FieldError("/columns/exclude", _CODE, f"{the_model} reads {', '.join(excluded)}")
    for name, kind in _mapping(given.get("types")).items():
        if types.get(name, kind) != kind:
            pointer = f"/columns/types/{escape_pointer(name)}"
            yield FieldError(pointer, _CODE, f"{the_model} reads {name!r} as {types[name]}")
    for name, markers in _mapping(given.get("missing_values")).items():
        if (name in types or name == "*") and markers != own["missing_values"].get(name):
            pointer = f"/columns/missing_values/{escape_pointer(name)}"
            yield FieldError(pointer, _CODE, f"{the_model} has markers of its own; {_way(name)}")


def _way(key: str) -> str:
    return f"leave {key} out, or train anew without model_id"


def _only(values: Mapping[str, Any], names: Any) -> Json:
    return {name: value for name, value in values.items() if name in names}


def _mapping(value: Any) -> Json:
    """``value`` where it is an object; whatever else it is, the schema complains of it."""
    return value if isinstance(value, dict) else {}
