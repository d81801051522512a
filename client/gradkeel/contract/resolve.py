"""From what the user submitted to the config that is run: presets filled in, every fault with its place."""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import ValidationError

from gradkeel.contract import config as c
from gradkeel.contract.errors import ConfigError, FieldError, escape_pointer
from gradkeel.contract.nearest import nearest_name
from gradkeel.contract.presets import Shape, preset_document, reasons
from gradkeel.contract.schema import StrictString, field_errors, loader_for

Json = dict[str, Any]

MAX_PARAMETERS = 50_000_000

MAX_SUGGESTIONS = 5


def resolve(submitted: Any, shape: Shape | None = None) -> c.TrainConfig:
    """Fill a submitted config from its preset and check it.

    ``shape`` is what is known of the data; without it, sizes and loss are the preset's for an unknown table
    and are decided again when the data is there. A given block merges into the preset's by key; a block of
    another kind replaces it; lists replace.

    Raises:
        ConfigError: with every fault and its JSON pointer into ``submitted``.
    """
    if not isinstance(submitted, dict):
        raise ConfigError([FieldError("", "wrong_type", "the config must be a JSON object")])
    base = preset_document(_name_of(submitted.get("preset")), shape, submitted)
    merged = merge_blocks(base, submitted)
    try:
        loaded = loader_for(c.TrainConfig).load(merged)
    except ValidationError as error:
        raise ConfigError(_in_order(field_errors(error.messages))) from error
    config = _with_one_name(loaded)
    errors = list(_cross_checks(config, submitted))
    if errors:
        raise ConfigError(errors)
    chosen = {
        pointer: reason
        for pointer, reason in reasons(base, shape).items()
        if _at(submitted, pointer) is None and _at(merged, pointer) == _at(base, pointer) is not None
    }
    return dataclasses.replace(config, chosen={**config.chosen, **chosen})


def because(config: c.TrainConfig, pointer: str, reason: str) -> c.TrainConfig:
    """The config with the reason for what the data decided at a JSON pointer."""
    return dataclasses.replace(config, chosen={**config.chosen, pointer: reason})


def _at(document: Any, pointer: str) -> Any:
    """The value at a JSON pointer of names; None where there is none."""
    for name in pointer.split("/")[1:]:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _with_one_name(config: c.TrainConfig) -> c.TrainConfig:
    """A list of one target as that target alone."""
    return dataclasses.replace(config, target=config.targets[0]) if len(config.targets) == 1 else config


def _in_order(faults: Iterable[FieldError]) -> list[FieldError]:
    """By pointer: marshmallow tells of unknown names in an order that differs from process to process."""
    return sorted(faults, key=lambda fault: fault.pointer or "")


def _name_of(preset: Any) -> str:
    return preset if isinstance(preset, str) and preset in c.PRESETS else "standard"


def merge_blocks(base: Any, given: Any) -> Any:
    """``given`` over ``base``: objects merge by key unless their kinds differ; everything else replaces."""
    if not isinstance(base, dict) or not isinstance(given, dict):
        return given
    if "kind" in given and given["kind"] != base.get("kind"):
        return given
    merged = dict(base)
    for key, value in given.items():
        merged[key] = merge_blocks(base[key], value) if key in base else value
    return merged


def to_json(config: Any) -> Any:
    """A config dataclass as the JSON document that loads to it again."""
    if dataclasses.is_dataclass(config):
        return {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, tuple | list):
        return [to_json(item) for item in config]
    if isinstance(config, Mapping):
        return {key: to_json(value) for key, value in config.items()}
    return config


# ---------------------------------------------------------------------------- checks of the config alone


def _cross_checks(config: c.TrainConfig, submitted: Json) -> Iterator[FieldError]:
    yield from _check_targets(config)
    yield from _check_labels(config)
    yield from _check_fractions(config)
    yield from _check_roles(config)
    yield from _check_optimizer(config)
    yield from _check_guards(config)
    yield from _check_loss(config)
    yield from _check_output(config)
    yield from _check_model(config)
    yield from _check_neighbors(config)
    yield from _check_windows(config)
    yield from _check_repair(config)


def target_pointers(config: c.TrainConfig) -> dict[str, str]:
    """Each target column with its JSON pointer."""
    if isinstance(config.target, str):
        return {config.target: "/target"}
    return {name: f"/target/{index}" for index, name in enumerate(config.target)}


def _check_targets(config: c.TrainConfig) -> Iterator[FieldError]:
    if not config.target:
        yield FieldError("/target", "required", "the name of the target column is needed")
    if len(config.targets) < 2:
        return
    for index, name in enumerate(config.targets):
        if not name:
            yield FieldError(f"/target/{index}", "required", "a target needs a name")
        elif name in config.targets[:index]:
            yield FieldError(f"/target/{index}", "conflict", f"{name!r} is named twice")
    if known_task(config) != "regression":
        detail = f"several targets are for regression; for {known_task(config)} train a job for each target"
        yield FieldError("/task" if config.task != "auto" else "/loss/kind", "conflict", detail)


def known_task(config: c.TrainConfig) -> str:
    """The task as far as the config alone says: ``auto`` with the loss quantile is quantile, and with several
    targets regression."""
    if config.task != "auto":
        return config.task
    if isinstance(config.loss, c.QuantileLoss):
        return "quantile"
    return "auto" if len(config.targets) == 1 else "regression"


def _check_labels(config: c.TrainConfig) -> Iterator[FieldError]:
    for name in config.labels:
        complaint = check_name(name) if name else "a label needs a name"
        if complaint:
            yield FieldError(f"/labels/{escape_pointer(name)}", "bad_text", complaint)


def _check_fractions(config: c.TrainConfig) -> Iterator[FieldError]:
    split = config.split
    if not isinstance(split, c.ColumnSplit):
        if split.validation + split.test >= 1:
            yield FieldError("/split", "out_of_range", "validation and test together must be less than 1")
    else:
        seen: dict[str, str] = {}
        for part in ("train", "validation", "test"):
            for value in getattr(split, part):
                if value in seen:
                    detail = f"the value {value!r} already stands under {seen[value]!r}"
                    yield FieldError(f"/split/{part}", "conflict", detail)
                seen[value] = part
    if isinstance(split, c.OrderedSplit) and not (split.column or config.columns.order):
        yield FieldError("/split/column", "required", "name the ordering column here or in columns.order")
    if isinstance(split, c.GroupSplit) and not (split.column or config.columns.group):
        yield FieldError("/split/column", "required", "name the grouping column here or in columns.group")
    if fold_count(split) == 0 and getattr(split, "repeats", 1) > 1:
        yield FieldError("/split/repeats", "conflict", "only folds can be repeated: give split.folds too")


def fold_count(split: c.Split) -> int:
    """How many models cross-validation trains beside the job's own; 0 for none."""
    return (getattr(split, "folds", None) or 0) * getattr(split, "repeats", 1)


def role_columns(config: c.TrainConfig) -> dict[str, str]:
    """Columns that are never features, with the JSON pointer that made them so."""
    roles = target_pointers(config) if config.target else {}
    for role in ("order", "group", "weight"):
        name = getattr(config.columns, role)
        if name is not None:
            roles.setdefault(name, f"/columns/{role}")
    column = getattr(config.split, "column", None)
    if column is not None:
        roles.setdefault(column, "/split/column")
    return roles


def _check_roles(config: c.TrainConfig) -> Iterator[FieldError]:
    roles = role_columns(config)
    for role in ("order", "group", "weight"):
        if config.target and getattr(config.columns, role) in config.targets:
            yield FieldError(f"/columns/{role}", "conflict", f"this column is {_a_target(config)}")
    for index, name in enumerate(config.columns.include or ()):
        pointer = f"/columns/include/{index}"
        if name in roles:
            meaning = _a_target(config) if name in config.targets else f"named by {roles[name]}"
            yield FieldError(pointer, "conflict", f"{name!r} is {meaning} and cannot be a feature")
        elif name in config.columns.exclude:
            yield FieldError(pointer, "conflict", f"{name!r} is also excluded")


def _a_target(config: c.TrainConfig) -> str:
    return "the target" if isinstance(config.target, str) else "a target"


def _check_optimizer(config: c.TrainConfig) -> Iterator[FieldError]:
    optimizer = config.optimizer
    if (
        isinstance(optimizer, c.SGD)
        and optimizer.nesterov
        and (not optimizer.momentum or optimizer.dampening)
    ):
        detail = "Nesterov momentum needs momentum > 0 and dampening 0"
        yield FieldError("/optimizer/nesterov", "conflict", detail)


def _check_guards(config: c.TrainConfig) -> Iterator[FieldError]:
    kinds = [guard.kind for guard in config.guards]
    for index, kind in enumerate(kinds):
        if kind == "stop_after" and (index == 0 or index + 1 < len(kinds)):
            detail = "stop_after counts what the guards before it do: name others, and stop_after last"
            yield FieldError(f"/guards/{index}", "conflict", detail)
        if kind == "rollback" and kind in kinds[:index]:
            yield FieldError(f"/guards/{index}", "conflict", "there can be one rollback; raise its max")


_LOSS_TASKS: dict[str, tuple[str, ...]] = {
    "bce": ("binary",),
    "cross_entropy": ("multiclass",),
    "focal": ("binary", "multiclass"),
    "quantile": ("quantile",),
} | dict.fromkeys(c.REGRESSION_LOSSES, ("regression", "forecast"))


def _check_loss(config: c.TrainConfig) -> Iterator[FieldError]:
    fitting, task = _LOSS_TASKS[config.loss.kind], known_task(config)
    if task not in ("auto", *fitting):
        own = [kind for kind, tasks in _LOSS_TASKS.items() if task in tasks]
        suited = " and ".join(fitting)
        detail = f"{config.loss.kind} is for {suited} tasks; for {task} use {', '.join(own)}"
        yield FieldError("/loss/kind", "conflict", detail)
    if isinstance(config.loss, c.QuantileLoss):
        yield from _check_levels(config.loss.levels)
    if isinstance(config.loss, c.Poisson) and config.prepare.target.kind not in ("auto", "none"):
        detail = (
            "the poisson loss divides the target by its training mean, and its exponential fits no other "
            "scaling; use none or auto, or another loss"
        )
        yield FieldError("/prepare/target/kind", "conflict", detail)


def _check_output(config: c.TrainConfig) -> Iterator[FieldError]:
    """What is chosen on the validation part needs one, and a task that it is for."""
    output = config.output
    asked = {"calibrate": (output.calibrate, "none", _CLASSES), "threshold": (output.threshold, "half", _TWO)}
    for name, (value, neutral, tasks) in asked.items():
        if value == neutral:
            continue
        if config.task not in ("auto", *tasks):
            detail = f"{value!r} is for {' and '.join(tasks)} tasks, not {config.task}; use {neutral!r}"
            yield FieldError(f"/output/{name}", "conflict", detail)
        elif not _validates(config.split):
            detail = f"it is chosen on the validation part, and the split leaves none; use {neutral!r}"
            yield FieldError(f"/output/{name}", "conflict", detail)


_CLASSES, _TWO = ("binary", "multiclass"), ("binary",)


def _validates(split: c.Split) -> bool:
    return bool(split.validation)


def _check_repair(config: c.TrainConfig) -> Iterator[FieldError]:
    """Repairs are compared on the validation part, and change the config that folds would have judged."""
    if not config.health.repair:
        return
    if not _validates(config.split):
        detail = "repairs are compared on the validation part, and the split leaves none; use 0"
        yield FieldError("/health/repair", "conflict", detail)
    if fold_count(config.split):
        detail = (
            "scores by folds are those of one config, and a repair changes it: repair without folds, then "
            "submit the repaired config with them"
        )
        yield FieldError("/health/repair", "conflict", detail)


def _check_levels(levels: tuple[float, ...]) -> Iterator[FieldError]:
    ascending = sorted(set(levels))
    way = f"give them ascending, each once: {json.dumps(ascending)}"
    for index, level in enumerate(levels[1:], 1):
        if level <= levels[index - 1]:
            what = "stands there already" if level in levels[:index] else "is below the level before it"
            yield FieldError(f"/loss/levels/{index}", "conflict", f"{level:g} {what}; {way}")


def _check_model(config: c.TrainConfig) -> Iterator[FieldError]:
    model = config.model
    normed = (isinstance(model, c.MLP | c.ResNet) and model.norm == "batch") or (
        isinstance(model, c.Sequential) and any(isinstance(layer, c.BatchNorm) for layer in model.layers)
    )
    if normed and config.budget.batch_size < 2:
        detail = "batch normalisation needs batches of two rows or more; or use layer normalisation"
        yield FieldError("/budget/batch_size", "conflict", detail)
    if not isinstance(model, c.Linear):
        names = layer_names(model)
        for index, name in enumerate(model.freeze):
            if name not in names and not name.startswith("embeddings."):
                detail = f"there is no layer {name!r}; layers: {', '.join(names)}"
                yield FieldError(f"/model/freeze/{index}", "unknown_name", detail)


def neighbor_spaces(block: c.Neighbors) -> dict[str, tuple[str, ...]]:
    """The columns of each space that the look-up is to measure distances in, by JSON pointer; none where it
    is off, and under auto."""
    if isinstance(block, c.NoNeighbors) or block.columns == "auto":
        return {}
    pointer = "/prepare/neighbors/columns"
    names = tuple(name for name in block.columns if isinstance(name, str))
    if names:
        return {pointer: names}
    return {f"{pointer}/{i}": tuple(space) for i, space in enumerate(block.columns)}


def _check_neighbors(config: c.TrainConfig) -> Iterator[FieldError]:
    block, roles = config.prepare.neighbors, role_columns(config)
    if isinstance(block, c.NoNeighbors):
        return
    if isinstance(config.prepare.missing, c.Propagate):
        detail = "distances need every cell, and propagate fills none; use median, or no neighbours"
        yield FieldError("/prepare/missing/kind", "conflict", detail)
    for index, k in enumerate(block.k):
        if k in block.k[:index]:
            yield FieldError(f"/prepare/neighbors/k/{index}", "conflict", f"{k} stands there already")
    if block.columns != "auto" and max(block.k) >= block.rows:
        detail = f"of {block.rows} rows {max(block.k)} others cannot be the nearest; lower k, or raise rows"
        yield FieldError("/prepare/neighbors/k", "out_of_range", detail)
    for pointer, names in neighbor_spaces(block).items():
        if not names:
            yield FieldError(pointer, "out_of_range", "a space needs a column at least")
        for index, name in enumerate(names):
            place = f"{pointer}/{index}"
            if name in roles:
                meaning = _a_target(config) if name in config.targets else f"named by {roles[name]}"
                yield FieldError(place, "conflict", f"{name!r} is {meaning} and measures no distance")
            elif name in config.columns.exclude or name not in (config.columns.include or (name,)):
                detail = f"{name!r} is no feature of this config; name features, or take it in under columns"
                yield FieldError(place, "conflict", detail)
            elif name in names[:index]:
                yield FieldError(place, "conflict", f"{name!r} is already in this space")


_FORECASTERS = "gru, lstm or tcn"


def _check_windows(config: c.TrainConfig) -> Iterator[FieldError]:
    model = config.model
    if not isinstance(model, c.Windowed):
        if config.task == "forecast":
            detail = (
                f"a forecast needs a model over windows: {_FORECASTERS}. For {model.kind}, make columns of "
                "earlier values yourself and name the task regression"
            )
            yield FieldError("/model/kind", "conflict", detail)
        return
    if config.columns.order is None:
        detail = f"{model.kind} reads windows of rows: name the column that orders them in columns.order"
        yield FieldError("/columns/order", "required", detail)
    if config.task != "forecast" and model.horizon != 1:
        detail = "a horizon is for task forecast; other tasks predict the target of a window's last row"
        yield FieldError("/model/horizon", "conflict", detail)
    if isinstance(config.split, c.RandomSplit | c.StratifiedSplit):
        detail = (
            "windows share their rows, so parts drawn at random would hold one another's rows; use an "
            "ordered split, or a group split by columns.group"
        )
        yield FieldError("/split/kind", "conflict", detail)
    if model.change_from in ("last", "season") and (complaint := no_change(config)) is not None:
        yield FieldError("/model/change_from", "conflict", f"{complaint}; use auto or none")
    yield from _check_single(config, model)
    if isinstance(config.prepare.missing, c.DropRows):
        detail = "a row left out would be a hole in its series; fill missing cells, by median say"
        yield FieldError("/prepare/missing/kind", "conflict", detail)
    if not isinstance(config.prepare.neighbors, c.NoNeighbors):
        detail = "a window's neighbours are not looked up; use none"
        yield FieldError("/prepare/neighbors/kind", "conflict", detail)
    if isinstance(config.prepare.outliers, c.Drop):
        detail = "a row left out would be a hole in its series; use keep or winsorize"
        yield FieldError("/prepare/outliers/kind", "conflict", detail)


_STRAIGHT = ("standard", "robust", "minmax", "maxabs", "none", "auto")


def no_change(config: c.TrainConfig) -> str | None:
    """Why a model over windows cannot predict changes of its target, if it cannot."""
    if config.task != "forecast":
        return "only a forecast has a past of its target to change from"
    if isinstance(config.loss, c.Poisson):
        return "under the poisson loss the network predicts logarithms"
    past = config.prepare.per_column.get(config.targets[0], config.prepare.numeric).kind
    target = config.prepare.target.kind
    if (past in _STRAIGHT and target in _STRAIGHT) or past == target == "log1p":
        return None
    return f"the target is scaled by {target} and its past by {past}, so that one is not the other's multiple"


def _check_single(config: c.TrainConfig, model: c.Windowed) -> Iterator[FieldError]:
    """What models over windows do not do: several outputs, and scores by folds."""
    if len(config.targets) > 1:
        detail = f"{model.kind} predicts one target; train a job for each"
        yield FieldError("/target", "conflict", detail)
    if known_task(config) == "quantile":
        pointer = "/task" if config.task == "quantile" else "/loss/kind"
        detail = f"{model.kind} predicts no quantiles; use another loss, and intervals around its predictions"
        yield FieldError(pointer, "conflict", detail)
    if getattr(config.split, "folds", None) is not None:
        detail = (
            f"{model.kind} is not scored by folds, for windows reach across their bounds; leave folds out: "
            "the test part is scored"
        )
        yield FieldError("/split/folds", "conflict", detail)


def layer_names(model: c.Model) -> tuple[str, ...]:
    """Names of the layers that have parameters, in forward order, as reports and ``freeze`` use them."""
    if isinstance(model, c.Linear):
        return ("output",)
    if isinstance(model, c.MLP):
        hidden = range(len(model.widths))
        return (*(f"layers.{index}" for index in hidden), "output")
    if isinstance(model, c.TabM):
        return (*(f"layers.{index}" for index in range(model.blocks)), "output")
    if isinstance(model, c.ResNet):
        last = model.blocks + (model.norm != "none")
        return (*(f"layers.{index}" for index in range(last + 1)), "output")
    if isinstance(model, c.Windowed):
        return (*(f"layers.{index}" for index in range(model.layers)), "output")
    with_parameters = (c.LinearLayer, c.BatchNorm, c.LayerNorm)
    named = [f"layers.{i}" for i, layer in enumerate(model.layers) if isinstance(layer, with_parameters)]
    return (*named, "output")


def embedding_count(embedding: c.NumericEmbedding, numbers: int) -> tuple[int, int]:
    """Parameters at most of the embedding of so many numbers, and how many inputs it makes of them."""
    if isinstance(embedding, c.PiecewiseLinear):
        return numbers * (embedding.bins + 1) * embedding.width, numbers * embedding.width
    if isinstance(embedding, c.Periodic):
        waves = 2 * embedding.frequencies
        return numbers * (embedding.frequencies + (waves + 1) * embedding.width), numbers * embedding.width
    return 0, numbers


def parameter_count(model: c.Model, inputs: int, outputs: int) -> int:
    """Weights and biases of the model, without embeddings, for so many inputs and outputs."""
    if isinstance(model, c.Linear):
        return inputs * outputs + outputs * model.bias
    if isinstance(model, c.ResNet):
        return _resnet_count(model, inputs, outputs)
    if isinstance(model, c.TabM):
        return _tabm_count(model, inputs, outputs)
    if isinstance(model, c.Windowed):
        return _windowed_count(model, inputs) + (model.width + 1) * outputs
    widths = (
        model.widths
        if isinstance(model, c.MLP)
        else tuple(layer.units for layer in model.layers if isinstance(layer, c.LinearLayer))
    )
    total = 0
    for width in (*widths, outputs):
        total += (inputs + 1) * width
        inputs = width
    return total


def _resnet_count(model: c.ResNet, inputs: int, outputs: int) -> int:
    norm = 2 * model.width * (model.norm != "none")
    block = norm + (model.width + 1) * model.hidden + (model.hidden + 1) * model.width
    return (inputs + 1) * model.width + model.blocks * block + norm + (model.width + 1) * outputs


def _tabm_count(model: c.TabM, inputs: int, outputs: int) -> int:
    width, members = model.width, model.members
    total = members * (inputs + (width + 1) * outputs) + inputs * width + (model.blocks - 1) * width**2
    if model.mini:
        return total + model.blocks * width
    return total + members * (2 * model.blocks * width + (model.blocks - 1) * width)


_GATES = {"gru": 3, "lstm": 4}


def _windowed_count(model: c.Windowed, inputs: int) -> int:
    """Parameters of the layers over windows."""
    total, width = 0, model.width
    for index in range(model.layers):
        fan_in = width if index else inputs
        if isinstance(model, c.TCN):
            skip = (fan_in + 1) * width if fan_in != width else 0
            total += (model.kernel * fan_in + 1) * width + (model.kernel * width + 1) * width + skip
        else:
            total += _GATES[model.kind] * width * (fan_in + width + 2)
    return total


# ---------------------------------------------------------------------- checks against a table's profile


@dataclass(frozen=True)
class _Profile:
    columns: dict[str, Json]
    rows: int


def _read_profile(profile: Json) -> _Profile:
    return _Profile({column["name"]: column for column in profile["columns"]}, int(profile["rows"]))


def column_type(config: c.TrainConfig, column: Json) -> str:
    """The type a column has under this config: declared by name, by ``"*"``, else as found in the file."""
    types = config.columns.types
    return str(types.get(column["name"], types.get("*", column["type"])))


def infer_task(config: c.TrainConfig, profile: Json) -> str | None:
    """The task that ``auto`` stands for on this table; None where the target is not there."""
    if known_task(config) != "auto":
        return known_task(config)
    target = _read_profile(profile).columns.get(config.targets[0])
    if target is None:
        return None
    if target.get("distinct") == 2:
        return "binary"
    return "regression" if column_type(config, target) == "numeric" else "multiclass"


def feature_columns(config: c.TrainConfig, profile: Json) -> list[str]:
    """Names of the columns that become features, in file order. Text, id and empty columns are left out."""
    roles = role_columns(config)
    chosen = config.columns.include
    names = []
    for column in profile["columns"]:
        name = column["name"]
        if name in roles or name in config.columns.exclude or (chosen is not None and name not in chosen):
            continue
        if column_type(config, column) in ("text", "id") or column.get("distinct") == 0:
            continue
        names.append(name)
    return names


def shape_of(config: c.TrainConfig, profile: Json) -> Shape:
    """What the presets need to know of a table."""
    held = _read_profile(profile)
    features = feature_columns(config, profile)
    categorical = [n for n in features if column_type(config, held.columns[n]) in ("categorical", "boolean")]
    return Shape(held.rows, len(features) - len(categorical), len(categorical), infer_task(config, profile))


def check_data(
    config: c.TrainConfig, profile: Json, max_parameters: int = MAX_PARAMETERS
) -> list[FieldError]:
    """Every fault of the config that shows once the table is known; empty when it can run."""
    held = _read_profile(profile)
    errors = list(_check_names(config, held))
    pointers = target_pointers(config)
    if pointers.keys() <= held.columns.keys():
        for name in config.targets:
            errors += _check_target(config, held.columns[name], profile, pointers[name])
        task = infer_task(config, profile)
        if task is not None and all(
            (held.columns[name].get("distinct") or 0) >= 2 for name in config.targets
        ):
            decided = dataclasses.replace(config, task=task)  # type: ignore[arg-type]
            errors += [*_check_loss(decided), *_check_output(decided)]
        errors += _check_sizes(config, held, profile, max_parameters)
        errors += _check_look_up(config, held, profile)
    return errors


MAX_NEIGHBOR_CLASSES = 20
"""Classes of a target at most whose shares among neighbours become inputs."""


def _check_look_up(config: c.TrainConfig, held: _Profile, profile: Json) -> Iterator[FieldError]:
    """What auto leaves out by itself is refused where columns are named."""
    block = config.prepare.neighbors
    if isinstance(block, c.NoNeighbors) or block.columns == "auto":
        return
    classes = held.columns[config.targets[0]].get("distinct") or 0
    if infer_task(config, profile) == "multiclass" and classes > MAX_NEIGHBOR_CLASSES:
        detail = f"{config.targets[0]!r} has {classes} classes; shares among neighbours are made of at most "
        detail += f"{MAX_NEIGHBOR_CLASSES}; set prepare.neighbors to none"
        yield FieldError("/prepare/neighbors", "conflict", detail)
    if max(block.k) >= held.rows:
        detail = f"the table has {held.rows} rows; a row can look up the others at most"
        yield FieldError("/prepare/neighbors/k", "out_of_range", detail)
    for pointer, names in neighbor_spaces(block).items():
        for index, name in enumerate(names):
            column = held.columns.get(name)
            if column is not None and (kind := column_type(config, column)) in ("text", "id"):
                detail = f"{name!r} is {kind}, which is left out and measures no distance; name other columns"
                yield FieldError(f"{pointer}/{index}", "conflict", f"{detail} or give its type")


def _neighbor_inputs(block: c.Neighbors, outputs: int) -> int:
    """Inputs at most that the look-up makes."""
    if isinstance(block, c.NoNeighbors):
        return 0
    return len(block.k) * (len(neighbor_spaces(block)) or AUTO_SPACES) * min(outputs, MAX_NEIGHBOR_CLASSES)


AUTO_SPACES = 3
"""Spaces that auto chooses at most."""


def _check_names(config: c.TrainConfig, held: _Profile) -> Iterator[FieldError]:
    known = set(held.columns)
    named = [(name, pointer) for name, pointer in role_columns(config).items()]
    named += [(name, f"/columns/include/{i}") for i, name in enumerate(config.columns.include or ())]
    named += [(name, f"/columns/exclude/{i}") for i, name in enumerate(config.columns.exclude)]
    named += [
        (name, f"{pointer}/{i}")
        for pointer, names in neighbor_spaces(config.prepare.neighbors).items()
        for i, name in enumerate(names)
    ]
    for block, pointer in (
        (config.columns.types, "/columns/types"),
        (config.columns.missing_values, "/columns/missing_values"),
        (config.prepare.per_column, "/prepare/per_column"),
    ):
        named += [(name, f"{pointer}/{escape_pointer(name)}") for name in block if name != "*"]
    shown = ", ".join(list(held.columns)[:20]) + (", …" if len(known) > 20 else "")
    unknown = [(name, pointer) for name, pointer in named if name not in known]
    for index, (name, pointer) in enumerate(unknown):
        meant = nearest_name(name, held.columns) if index < MAX_SUGGESTIONS else None
        rest = "it has" if meant is None else f"did you mean {meant!r}? It has"
        yield FieldError(pointer, "unknown_column", f"the table has no column {name!r}; {rest} {shown}")


def _check_target(config: c.TrainConfig, target: Json, profile: Json, pointer: str) -> Iterator[FieldError]:
    name, distinct = target["name"], target.get("distinct") or 0
    task = infer_task(config, profile)
    if distinct == 0:
        yield FieldError(pointer, "target_missing", f"every cell of the target {name!r} is missing")
    elif distinct == 1:
        yield FieldError(pointer, "target_constant", f"the target {name!r} has one value in every row")
    elif task == "binary" and distinct > 2:
        detail = f"a binary task needs two distinct targets; {name!r} has {distinct}"
        yield FieldError("/task", "conflict", detail)
    elif column_type(config, target) == "datetime":
        yield FieldError(pointer, "wrong_type", f"{name!r} holds dates; a date cannot be a target")
    elif task in ("regression", "quantile", "forecast") and column_type(config, target) != "numeric":
        detail = f"a {task} target must be numeric; {name!r} is {column_type(config, target)}"
        yield FieldError("/task", "conflict", detail)
    elif task in ("binary", "multiclass") and distinct > MAX_CLASSES:
        detail = f"{name!r} has {distinct} distinct values; at most {MAX_CLASSES} classes can be learnt"
        yield FieldError("/task", "conflict", detail)


MAX_CLASSES = 1000
MAX_SHOWN = 400


def _check_sizes(
    config: c.TrainConfig, held: _Profile, profile: Json, max_parameters: int
) -> Iterator[FieldError]:
    features = feature_columns(config, profile)
    if not features and config.task != "forecast":
        yield _no_features(config, profile)
    yield from _check_length(config, held.rows)
    if config.budget.batch_size > held.rows:
        detail = f"the table has {held.rows} rows; a batch cannot be larger"
        yield FieldError("/budget/batch_size", "out_of_range", detail)
    folds = getattr(config.split, "folds", None) or 0
    if folds > held.rows:
        detail = f"the table has {held.rows} rows; there cannot be more folds"
        yield FieldError("/split/folds", "out_of_range", detail)
    outputs = _outputs(config, held, infer_task(config, profile))
    numbers = max(1, len(features)) + _neighbor_inputs(config.prepare.neighbors, outputs)
    embedded, inputs = embedding_count(config.prepare.embedding, numbers)
    count = embedded + parameter_count(config.model, inputs, outputs)
    if count > max_parameters:
        detail = f"the model would have {count:,} parameters; at most {max_parameters:,} are trained"
        yield FieldError("/model", "quota", detail)


def _outputs(config: c.TrainConfig, held: _Profile, task: str | None) -> int:
    if task == "multiclass":
        return held.columns[config.targets[0]].get("distinct") or 1
    return len(config.loss.levels) if isinstance(config.loss, c.QuantileLoss) else len(config.targets)


def _check_length(config: c.TrainConfig, rows: int) -> Iterator[FieldError]:
    if not isinstance(config.model, c.Windowed):
        return
    needed = config.model.window + (config.model.horizon if config.task == "forecast" else 0)
    if needed > rows:
        what = "a window and its horizon have" if config.task == "forecast" else "a window has"
        detail = f"{what} {needed} rows, the table {rows}; use a shorter window"
        yield FieldError("/model/window", "out_of_range", detail)


def _no_features(config: c.TrainConfig, profile: Json) -> FieldError:
    """The fault, with the first cell that keeps a column of numbers from being one, where there is such."""
    apart = {*role_columns(config), *config.columns.exclude}
    wanted = config.columns.include
    for note in profile.get("findings") or ():
        name = note.get("column")
        if note.get("code") == "mixed_types" and name not in apart and (wanted is None or name in wanted):
            return _broken_cell(note)
    detail = "no feature is left; text and id columns are left out unless columns.types says otherwise"
    return FieldError("/columns", "no_features", detail)


def _broken_cell(note: Json) -> FieldError:
    name, row, line = note["column"], note.get("row"), note.get("line")
    count, texts = note["count"], [cell["cell"] for cell in note.get("cells") or ()]
    cells = "1 cell is" if count == 1 else f"{count} cells are"
    place = f"row {row}" + ("" if line is None else f", line {line}")
    way = json.dumps({"types": {name: "numeric"}, "missing_values": {name: texts}}, ensure_ascii=False)
    different: int = note.get("texts") or count
    whole = different <= len(texts) and len(way) <= MAX_SHOWN
    named = f"columns {way}" if whole else "columns.types and columns.missing_values"
    detail = (
        f"no feature is left: {name!r} is read as text, for {cells} no number, "
        f"the first {note.get('cell')!r} "
        f"in {place}. Correct the file, or read the column as numbers and the odd cells as missing: "
        f"{named}"
    )
    return FieldError("/columns", "no_features", detail, column=name, row=row, line=line)


def check_name(text: str) -> str | None:
    """Why a name for a data set cannot be kept, or None. Names never become paths."""
    try:
        StrictString().deserialize(text)
    except ValidationError as error:
        return str(error.messages[0]) if isinstance(error.messages, list) else "not a string"
    if len(text) > 200:
        return "a name has at most 200 characters"
    if re.search(r"[\x00-\x1f\x7f-\x9f]", text):
        return "a name holds no control characters"
    return None
