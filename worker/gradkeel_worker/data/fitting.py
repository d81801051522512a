"""From a table and a config to prepared parts. Whatever is fitted sees the training part only."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradkeel.contract import config as contract
from gradkeel.contract.config import TrainConfig
from gradkeel.contract.errors import FieldError
from gradkeel.contract.resolve import target_pointers
from gradkeel_worker.data.columns import apply_types, markers_of, number_markers
from gradkeel_worker.data.errors import DataError, fault, shown
from gradkeel_worker.data.features import constant_or_empty, fit_preparation
from gradkeel_worker.data.folds import fold_rows
from gradkeel_worker.data.kept import Kept
from gradkeel_worker.data.neighbor_choice import LOOK_UPS, Chosen, Rows, limited, nothing, references
from gradkeel_worker.data.outliers import outlying
from gradkeel_worker.data.preparation import Preparation, Source, raw_value
from gradkeel_worker.data.prepared import Part, Prepared, Singles
from gradkeel_worker.data.read import left_out, named_columns
from gradkeel_worker.data.references import NONE, Found, find_reference, in_changes
from gradkeel_worker.data.scalers import DOMAIN_EDGE, TargetTransform, TargetTransforms, fit_rate, fit_target
from gradkeel_worker.data.splits import SplitRows, as_text, split_rows
from gradkeel_worker.data.table import ID, NUMERIC, TEXT, Array, Column, Floats, Integers, Mask, Table
from gradkeel_worker.data.target import BINARY, FORECAST, NUMBERS, Target, class_order, read_target
from gradkeel_worker.data.windows import Series, Windows, lead_of, order_cells, read_series, windowed

_PARTS = ("train", "validation", "test")
_SHOWN_FAULTS = 5
_Findings = list[dict[str, Any]]


@dataclass(frozen=True)
class _Rows:
    """Positions of one part: ``table`` [n] in the table, ``target`` [n] among the rows that have a target."""

    table: Integers
    target: Integers

    def keep(self, mask: Mask) -> "_Rows":
        return _Rows(self.table[mask], self.target[mask])


@dataclass(frozen=True)
class _Cells(Mapping[str, Array]):
    """Some rows of every column, copied one column at a time as they are asked for."""

    table: Table
    rows: Integers

    def __getitem__(self, name: str) -> Array:
        values: Array = self.table.columns[name].values[self.rows]
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self.table.columns)

    def __len__(self) -> int:
        return len(self.table.columns)


@dataclass(frozen=True)
class _Outcome:
    """The target as fitted. ``y`` and ``raw``: by position among the rows that have a target."""

    transform: TargetTransform | TargetTransforms
    classes: tuple[str, ...] | None
    y: Array
    raw: Array


def prepare(table: Table, config: TrainConfig, fold: int | None = None, kept: Kept | None = None) -> Prepared:
    """Type, split, fit and transform. Raises DataError with every place found.

    ``fold``: the parts of this fold of the split's cross-validation, counted from 0, in place of the split's
    own; the test part then holds the rows that are held out. ``kept``: what was fitted for an earlier model,
    and is used as it is; nothing is fitted then.
    """
    table = apply_types(table, config)
    target = read_target(table, config)
    findings = [*table.findings, *target.findings]
    features = _features(table, config, findings) if kept is None else _same_features(table, kept)
    series = read_series(table, config, findings)
    parts = _split(table, config, target, findings, fold)
    if kept is None:
        features = _filled_columns(table, features, parts["train"], findings)
    parts = _checked_cells(table, config, features, parts, findings)
    parts = _without_outliers(table, config, features, parts, findings)
    train = None if series is None else parts["train"]  # rows without a window are seen in others' windows
    parts = _with_windows(series, config, parts, findings)
    outcome, parts = _fit_target(table, config, target, parts, findings, kept)
    preparation = (
        _fit(table, config, features, train or parts["train"], findings) if kept is None else kept.preparation
    )
    _check_domain(table, preparation, _used(table, config, parts))
    weights = _weights(table, config, parts)
    owners = _owners(table, config, parts["train"])
    looked = _look_up(table, config, preparation, outcome, parts["train"], weights["train"], owners)
    if looked is not None:
        preparation = replace(preparation, neighbors=looked.neighbors)
    every = _windows(table, config, series, preparation)
    made = {
        name: _part(
            table, preparation, outcome, rows, weights[name], owners if name == "train" else None, every
        )
        for name, rows in parts.items()
    }
    _note_overflow(made["train"], preparation, findings)
    found = _reference(config, preparation, outcome, made["train"])
    transform, reference = outcome.transform, found.reference
    if reference is not None:
        assert isinstance(transform, TargetTransform)
        reference, transform = in_changes(reference, transform)
        made = {name: _rescaled(part, transform, table) for name, part in made.items()}
    return Prepared(
        train=made["train"],
        validation=made["validation"],
        test=made["test"],
        inputs=preparation.inputs(),
        categories=preparation.categories(),
        task=target.task,
        classes=outcome.classes,
        target=transform,
        preparation=preparation,
        config=_resolved(config, target.task, transform, looked, found),
        findings=findings,
        neighbors=None if looked is None else {"message": looked.message, **looked.record},
        start=None if kept is None else kept.weights,
        reference=reference,
        series=_series_columns(table, config, parts["train"]),
    )


def _reference(config: TrainConfig, preparation: Preparation, outcome: _Outcome, train: Part) -> Found:
    if isinstance(outcome.transform, TargetTransforms) or outcome.classes is not None:
        return Found(NONE)
    return find_reference(config, preparation, outcome.transform, train)


def _rescaled(part: Part, transform: TargetTransform, table: Table) -> Part:
    """The part with its target in the transform's unit."""
    return replace(part, y=table.storage.keep(transform.forward(part.y_raw).astype(np.float32)))


def _same_features(table: Table, kept: Kept) -> list[str]:
    """The columns that the earlier model reads. Raises DataError for one that is not there, or another
    type."""
    for source in kept.preparation.sources:
        found = table.need(source.name, "/model_id").type
        if found != source.type:
            detail = f"the earlier model reads {source.name!r} as {source.type}; here it is {found}"
            raise fault("wrong_type", detail, pointer="/model_id", column=source.name)
    return [source.name for source in kept.preparation.sources]


def _features(table: Table, config: TrainConfig, findings: _Findings) -> list[str]:
    for key in ("include", "exclude"):
        for name in getattr(config.columns, key) or ():
            if name not in table.columns and key == "include" and not _noted(name, findings):
                table.need(name, f"/columns/{key}")
    apart = named_columns(config) | set(config.columns.exclude)
    listed = config.columns.include
    chosen = [name for name in table.columns if name not in apart and (listed is None or name in listed)]
    findings += [left_out(name, table.columns[name].type) for name in chosen if _is_text(table, name)]
    past = list(config.targets) if config.task == FORECAST else []
    return [name for name in chosen if not _is_text(table, name)] + past


def _noted(name: str, findings: _Findings) -> bool:
    return any(finding["column"] == name for finding in findings)


def _is_text(table: Table, name: str) -> bool:
    return table.columns[name].type in (TEXT, ID)


def _split(
    table: Table, config: TrainConfig, target: Target, findings: _Findings, fold: int | None
) -> dict[str, _Rows]:
    rows = SplitRows(table, target.kept, target.strata(), config.columns.order, config.columns.group)
    indices = split_rows(config.split, rows) if fold is None else fold_rows(config.split, rows)[fold]
    parts = {name: _Rows(target.kept[getattr(indices, name)], getattr(indices, name)) for name in _PARTS}
    if fold is not None:
        return parts
    unplaced = len(target.kept) - sum(len(part.table) for part in parts.values())
    if unplaced:
        detail = f"{unplaced} rows have another value in the split column and are left out"
        column = getattr(config.split, "column", None)
        findings.append({"code": "outside_split", "column": column, "count": unplaced, "detail": detail})
    return parts


def _used(table: Table, config: TrainConfig, parts: dict[str, _Rows]) -> Integers:
    """Positions in the table of the rows whose cells are read; windows may hold any."""
    if isinstance(config.model, contract.Windowed):
        return np.arange(len(table))
    return np.sort(np.concatenate([part.table for part in parts.values()]))


# ---------------------------------------------------------------------------------------------------- windows


def _with_windows(
    series: Series | None, config: TrainConfig, parts: dict[str, _Rows], findings: _Findings
) -> dict[str, _Rows]:
    """The rows that have a full window behind them."""
    if series is None:
        return parts
    found = windowed(series, config, {name: part.table for name, part in parts.items()}, findings)
    return {name: part.keep(found[name][1]) for name, part in parts.items()}


@dataclass(frozen=True)
class _Every:
    """The rows of all series, without windows of a part."""

    series: Series
    windows: Windows


def _windows(
    table: Table, config: TrainConfig, series: Series | None, preparation: Preparation
) -> _Every | None:
    if series is None:
        return None
    assert isinstance(config.model, contract.Windowed) and config.columns.order is not None
    rows, target, group = series.order, table.columns[config.targets[0]], config.columns.group
    x, c = preparation.transform(_Cells(table, rows), table.storage)
    known = np.full(len(rows), np.nan) if target.values.dtype == object else target.values[rows]
    windows = Windows(
        x=x,
        c=c,
        ends=rows[:0],
        length=config.model.window,
        lead=lead_of(config),
        rows=table.rows[rows],
        lines=None if table.lines is None else table.lines[rows],
        target=known,
        start=series.start,
        order=order_cells(table.columns[config.columns.order])[rows],
        group=None if group is None else as_text(table.columns[group])[rows],
    )
    return _Every(series, windows)


# ---------------------------------------------------------------------------------------------- missing cells


def _filled_columns(table: Table, features: list[str], train: _Rows, findings: _Findings) -> list[str]:
    """The features with some training cell; a policy about missing cells has no say about the others."""
    empty = [name for name in features if _absent(table.columns[name])[train.table].all()]
    findings += [constant_or_empty(name, observed=False) for name in empty]
    return [name for name in features if name not in empty]


def _checked_cells(
    table: Table, config: TrainConfig, features: list[str], parts: dict[str, _Rows], findings: _Findings
) -> dict[str, _Rows]:
    """Note infinities, then refuse missing cells or drop their rows where the policy says so."""
    policy = config.prepare.missing.kind
    used = _used(table, config, parts)
    _note_infinite(table, features, used, policy, findings)
    if policy == "refuse":
        _refuse(table, features, used)
    if policy == "drop_rows":
        return _drop(table, features, parts, findings)
    return parts


def _absent(column: Column) -> Mask:
    """Missing cells, infinities counted, [n]."""
    if column.values.dtype == object:
        return column.missing()
    return ~np.isfinite(column.values)


def _note_infinite(
    table: Table, features: list[str], used: Integers, policy: str, findings: _Findings
) -> None:
    treated = "pass through" if policy == "propagate" else "count as missing"
    for name in features:
        column = table.columns[name]
        if column.values.dtype == object:
            continue
        cells = np.flatnonzero(np.isinf(column.values[used]))
        if len(cells):
            place = table.place(int(used[cells[0]]))
            detail = f"{len(cells)} infinite cells {treated}"
            findings.append(
                {"code": "infinite_values", "column": name, "count": len(cells), "detail": detail} | place
            )


def _refuse(table: Table, features: list[str], used: Integers) -> None:
    faults: list[FieldError] = []
    for name in features:
        cells = used[_absent(table.columns[name])[used]]
        detail = f"the cell is missing, one of {len(cells)} in the column, and prepare.missing refuses that"
        faults += [
            table.cell_fault(name, int(index), "missing_cell", detail, "/prepare/missing")
            for index in np.sort(cells)[:_SHOWN_FAULTS]
        ]
    if faults:
        raise DataError(faults)


def _drop(
    table: Table, features: list[str], parts: dict[str, _Rows], findings: _Findings
) -> dict[str, _Rows]:
    incomplete = np.zeros(len(table), dtype=bool)
    for name in features:
        incomplete |= _absent(table.columns[name])
    kept = {name: part.keep(~incomplete[part.table]) for name, part in parts.items()}
    count = sum(len(parts[name].table) - len(kept[name].table) for name in parts)
    if count:
        detail = f"{count} rows with a missing feature are left out"
        findings.append({"code": "dropped_rows", "column": None, "count": count, "detail": detail})
    if len(kept["train"].table) == 0:
        raise fault("too_few_rows", "no training row is complete", pointer="/prepare/missing")
    return kept


# --------------------------------------------------------------------------------------------------- outliers


def _without_outliers(
    table: Table, config: TrainConfig, features: list[str], parts: dict[str, _Rows], findings: _Findings
) -> dict[str, _Rows]:
    """The parts, where the policy drops outlying rows without those of the training part."""
    policy = config.prepare.outliers
    if not isinstance(policy, contract.Drop):
        return parts
    train = parts["train"]
    far = np.zeros(len(train.table), dtype=bool)
    for name in features:
        if table.columns[name].type == NUMERIC:
            beyond = outlying(table.columns[name].values[train.table], policy.robust_z)
            findings += _outlying_cells(table, name, train.table[beyond], policy.robust_z)
            far |= beyond
    if far.all():
        raise fault("too_few_rows", "every training row holds an outlying cell", pointer="/prepare/outliers")
    if far.any():
        detail = f"{int(far.sum())} training rows with an outlying cell are left out"
        findings.append({"code": "outlier_rows", "column": None, "count": int(far.sum()), "detail": detail})
    return parts | {"train": train.keep(~far)}


def _outlying_cells(table: Table, name: str, rows: Integers, limit: float) -> _Findings:
    if not len(rows):
        return []
    detail = f"{len(rows)} training cells lie more than {limit:g} robust standard deviations from the median"
    found = {"code": "outlying_cells", "column": name, "count": len(rows), "detail": detail}
    return [found | table.place(int(rows.min()))]


# ----------------------------------------------------------------------------------------------------- target


def _fit_target(
    table: Table,
    config: TrainConfig,
    target: Target,
    parts: dict[str, _Rows],
    findings: _Findings,
    kept: Kept | None,
) -> tuple[_Outcome, dict[str, _Rows]]:
    if target.task in NUMBERS:
        return _fit_numbers(table, config, target, parts, kept), parts
    return _fit_classes(config, target, parts, findings, kept)


def _fit_numbers(
    table: Table, config: TrainConfig, target: Target, parts: dict[str, _Rows], kept: Kept | None
) -> _Outcome:
    """Each target scaled on its own; the raw values and the scaled ones [n], [n, targets] of several."""
    columns = [target.values] if target.values.ndim == 1 else list(target.values.T)
    fitted = [
        _fit_number(table, config, _OneTarget(name, pointer, target.kept, values), parts, kept)
        for (name, pointer), values in zip(target_pointers(config).items(), columns, strict=True)
    ]
    transform = fitted[0] if len(fitted) == 1 else TargetTransforms(tuple(fitted))
    return _Outcome(transform, None, transform.forward(target.values).astype(np.float32), target.values)


@dataclass(frozen=True)
class _OneTarget:
    """A numeric target: its ``values`` [n] at the positions ``kept`` [n] of the table."""

    name: str
    pointer: str
    kept: Integers
    values: Floats


def _fit_number(
    table: Table, config: TrainConfig, target: _OneTarget, parts: dict[str, _Rows], kept: Kept | None
) -> TargetTransform:
    values = target.values[parts["train"].target]
    if np.ptp(values) == 0:
        detail = f"every training row has the target {values[0]:g}"
        raise fault("target_constant", detail, pointer=target.pointer, column=target.name)
    used = np.sort(np.concatenate([part.target for part in parts.values()]))
    if isinstance(config.loss, contract.Poisson):
        complaint = "is no target for the poisson loss: it must be 0 or more"
        _refuse_targets(table, target, used[target.values[used] < 0], complaint, "/loss/kind")
        transform = fit_rate(values)
    else:
        transform = fit_target(config.prepare.target.kind, values)
    if kept is not None:
        transform = kept.target
    if transform.kind == "log1p":
        complaint = "has no log1p: values must be above −1"
        bad = used[target.values[used] <= DOMAIN_EDGE]
        _refuse_targets(table, target, bad, complaint, "/prepare/target")
    return transform


def _refuse_targets(table: Table, target: _OneTarget, bad: Integers, complaint: str, pointer: str) -> None:
    faults = [
        table.cell_fault(
            target.name,
            int(target.kept[index]),
            "outside_domain",
            f"{shown(target.values[index])} {complaint}",
            pointer,
        )
        for index in bad[:_SHOWN_FAULTS]
    ]
    if faults:
        raise DataError(faults)


def _fit_classes(
    config: TrainConfig, target: Target, parts: dict[str, _Rows], findings: _Findings, kept: Kept | None
) -> tuple[_Outcome, dict[str, _Rows]]:
    name = config.targets[0]
    classes = class_order(target.values[parts["train"].target], target.task, name)
    classes = classes if kept is None else _same_classes(classes, kept, config)
    codes = {name: i for i, name in enumerate(classes)}
    raw = np.array([codes.get(value, -1) for value in target.values], dtype=np.int64)
    known = {name: part.keep(raw[part.target] >= 0) for name, part in parts.items()}
    unseen = sum(len(parts[name].table) - len(known[name].table) for name in parts)
    if unseen:
        detail = f"{unseen} rows outside the training part are of classes that it lacks, and are left out"
        findings.append({"code": "unseen_class", "column": name, "count": unseen, "detail": detail})
    y = raw.astype(np.float32) if target.task == BINARY else raw
    return _Outcome(TargetTransform("none"), classes, y, raw), known


def _same_classes(found: tuple[str, ...], kept: Kept, config: TrainConfig) -> tuple[str, ...]:
    """The earlier model's classes. Raises DataError for others in the training part."""
    known = kept.classes or ()
    others = [shown(name) for name in found if name not in known]
    if others:
        detail = (
            f"the earlier model knows the classes {', '.join(map(shown, known))}, "
            f"and not {', '.join(others)}; leave those rows out, or train anew without model_id"
        )
        raise fault("unknown_class", detail, pointer="/model_id", column=config.targets[0])
    return known


# --------------------------------------------------------------------------------------------------- features


def _fit(
    table: Table, config: TrainConfig, features: list[str], train: _Rows, findings: _Findings
) -> Preparation:
    sources = [_source(table.columns[name], config, train) for name in features]
    preparation = fit_preparation(sources, _Cells(table, train.table), config.prepare, findings)
    if not preparation.inputs() and not preparation.categories():
        raise fault("no_features", "no column is left to learn from", pointer="/columns")
    return preparation


def _source(column: Column, config: TrainConfig, train: _Rows) -> Source:
    markers = markers_of(config, column.name)
    return Source(
        column.name,
        column.type,
        required=not _absent(column)[train.table].any(),
        markers=number_markers(markers, column.decimal),
        missing_texts=tuple(marker for marker in markers if isinstance(marker, str)),
        integer=column.integer,
        decimal=column.decimal,
    )


def _series_columns(table: Table, config: TrainConfig, train: _Rows) -> dict[str, Source]:
    if not isinstance(config.model, contract.Windowed):
        return {}
    named = {role: getattr(config.columns, role) for role in ("order", "group")}
    return {
        role: _source(table.columns[name], config, train) for role, name in named.items() if name is not None
    }


def _check_domain(table: Table, preparation: Preparation, used: Integers) -> None:
    """Refuse cells that log1p has no value for, in any row that is read."""
    faults: list[FieldError] = []
    types = {source.name: source.type for source in preparation.sources}
    for i in np.flatnonzero(preparation.scaler_mask("log1p")):
        value = preparation.values[i]
        raw = raw_value(value.part, types[value.source], table.columns[value.source].values[used], None)
        limited = np.clip(raw, preparation.lower[i], preparation.upper[i])
        faults += [
            table.cell_fault(value.source, int(used[j]), "outside_domain", _no_log(raw[j]), "/prepare")
            for j in np.flatnonzero(limited <= DOMAIN_EDGE)[:_SHOWN_FAULTS]
        ]
        if preparation.fill[i] <= DOMAIN_EDGE:
            detail = f"the filling {_no_log(preparation.fill[i])}"
            faults.append(FieldError("/prepare/missing", "outside_domain", detail, column=value.source))
    if faults:
        raise DataError(faults)


def _no_log(value: float) -> str:
    return f"{value:g} has no log1p: values must be above −1"


def _note_overflow(train: Part, preparation: Preparation, findings: _Findings) -> None:
    if preparation.missing == "propagate":
        return
    counts = train.nonfinite_by_column()
    for j in np.flatnonzero(counts):
        item, count = preparation.inputs()[j], int(counts[j])
        detail = f"{count} values of {item.name} are too large for float32 as they are fed"
        findings.append({"code": "float32_overflow", "column": item.source, "count": count, "detail": detail})


# ---------------------------------------------------------------------------------------------- the whole par


def _weights(table: Table, config: TrainConfig, parts: dict[str, _Rows]) -> Mapping[str, Singles | None]:
    """Row weights of each part, scaled so that the training part's mean is 1."""
    name = config.columns.weight
    if name is None:
        return dict.fromkeys(parts)
    column = table.need(name, "/columns/weight")
    if column.type != NUMERIC:
        detail = f"weights must be numbers; {name!r} is {column.type}"
        raise fault("wrong_type", detail, pointer="/columns/weight", column=name)
    _check_weights(table, column, np.sort(np.concatenate([part.table for part in parts.values()])))
    mean = float(column.values[parts["train"].table].mean())
    if mean == 0:
        raise fault(
            "weights_zero", "every training row weighs nothing", pointer="/columns/weight", column=name
        )
    return {key: (column.values[part.table] / mean).astype(np.float32) for key, part in parts.items()}


def _check_weights(table: Table, column: Column, used: Integers) -> None:
    values = column.values[used]
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    faults = [
        table.cell_fault(
            column.name,
            int(used[index]),
            "bad_weight",
            f"{shown(values[index])} is no weight: it must be a number of 0 or more",
            "/columns/weight",
        )
        for index in bad[:_SHOWN_FAULTS]
    ]
    if faults:
        raise DataError(faults)


def _owners(table: Table, config: TrainConfig, train: _Rows) -> Integers:
    """Whom each training row belongs to: to itself, or to its group where groups stay in one part."""
    if not isinstance(config.split, contract.GroupSplit):
        return np.arange(len(train.table))
    column = table.columns[config.split.column or config.columns.group or ""]
    _, groups = np.unique(column.values[train.table].astype(str), return_inverse=True)
    return np.asarray(groups, dtype=np.int64)


def _look_up(
    table: Table,
    config: TrainConfig,
    preparation: Preparation,
    outcome: _Outcome,
    train: _Rows,
    weight: Singles | None,
    owners: Integers,
) -> Chosen | None:
    """The fitted look-up of neighbours; None where the config asks for none."""
    block = config.prepare.neighbors
    if (fit := LOOK_UPS[block.kind]) is None:
        return None
    if isinstance(config.split, contract.OrderedSplit) and getattr(block, "columns", None) == "auto":
        return nothing(
            {}, "the split goes by order, and training rows would look up later ones; name columns"
        )
    held = references(block, len(train.table), weight, config.seed)
    cells, y = _Cells(table, train.table[held]), outcome.y[train.target[held]]
    if outcome.classes is None:
        columns = y.reshape(len(y), -1).T
        names, targets = list(config.targets), np.stack([limited(column) for column in columns], axis=1)
    else:
        first = 1 if len(outcome.classes) == 2 else 0
        names = [f"{config.target}={name}" for name in outcome.classes[first:]]
        targets = (y[:, None] == np.arange(first, len(outcome.classes))).astype(np.float32)
    rows = Rows(
        x=preparation.transform(cells)[0][:, : len(preparation.values)],
        codes={encoding.name: encoding.codes(cells[encoding.name]) for encoding in preparation.encodings},
        targets=targets,
        names=tuple(names),
        target=config.target_text,
        weights=None if weight is None else weight[held],
        owners=owners[held],
    )
    return fit(block, preparation, rows, config.seed)


def _part(
    table: Table,
    preparation: Preparation,
    outcome: _Outcome,
    rows: _Rows,
    weight: Singles | None,
    owners: Integers | None,
    every: _Every | None,
) -> Part:
    keep = table.storage.keep
    windows = None if every is None else _own_windows(every, rows)
    if windows is None:
        x, c = preparation.transform(_Cells(table, rows.table), table.storage, owners)
    else:
        x, c = keep(windows.x[windows.ends]), keep(windows.c[windows.ends])
    return Part(
        x=x,
        c=c,
        y=keep(outcome.y[rows.target]),
        weight=None if weight is None else keep(weight),
        rows=keep(table.rows[rows.table]),
        lines=None if table.lines is None else keep(table.lines[rows.table]),
        y_raw=keep(outcome.raw[rows.target]),
        windows=windows,
    )


def _own_windows(every: _Every, rows: _Rows) -> Windows:
    ends, _ = every.series.ends(rows.table, every.windows.length, every.windows.lead)
    return replace(every.windows, ends=ends)


def _resolved(
    config: TrainConfig,
    task: Any,
    transform: TargetTransform | TargetTransforms,
    looked: Chosen | None,
    found: Found,
) -> TrainConfig:
    target = contract.TARGET_SCALERS[transform.kind]()
    block = None if looked is None else looked.block
    neighbors = block or contract.NoNeighbors()
    task = config.task if config.task == FORECAST else task
    prepared = replace(config.prepare, target=target, neighbors=neighbors)
    model: Any = config.model
    if isinstance(model, contract.Windowed):
        kind: Any = found.kind
        model = replace(model, change_from=kind)
    chosen = {**config.chosen, **({"/model/change_from": found.reason} if found.reason else {})}
    return replace(config, task=task, prepare=prepared, model=model, chosen=chosen)
