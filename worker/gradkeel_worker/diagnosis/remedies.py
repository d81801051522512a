"""Changes of the config that a finding may propose, as merge patches against the submitted config."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from gradkeel.contract import config as contract
from gradkeel.contract.errors import ConfigError
from gradkeel.contract.patch import combine, merge_patch, replace_block, set_value
from gradkeel.contract.resolve import layer_names, resolve, to_json
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.course import finite_median

Json = dict[str, Any]

WANTED_RATIO = 1e-3
"""Update ratio aimed at: a rule of thumb, not a target."""
_FIRST_RATIO = 5e-3
"""Update ratio of the very first step that a lowered learning rate may have."""
_WINSORIZED = 0.005
"""Share that winsorize cuts at either end unless told otherwise."""
_PATIENCE = 16
"""Epochs of patience where there was none: what a config without a preset's own has."""
_LARGEST_BATCH = 1_048_576


def is_accepted(submitted: Json, patch: Json) -> bool:
    """Whether the submitted config with the patch merged in is one that ``POST /jobs`` accepts."""
    if submitted.get("model_id") is not None and {"model", "prepare", "columns"} & patch.keys():
        return False  # an earlier model's weights go with its own
    try:
        resolve(merge_patch(submitted, patch))
    except ConfigError:
        return False
    return True


def one_digit(value: float) -> float:
    """The largest number with one significant digit that is not above ``value``."""
    exponent = math.floor(math.log10(value))
    # The small addend keeps 0.003 from becoming 0.002 when its floating-point quotient is 2.9999….
    return float(f"{math.floor(value / 10.0**exponent + 1e-9)}e{exponent}")


# --------------------------------------------------------------------------------------------- learning rate


def set_lr(lr: float) -> Json:
    return set_value(("optimizer", "lr"), lr)


def lr_once_scaled(case: Case) -> float:
    """A quarter of the limit measured at the start with scaled inputs, no more than ten times the customary
    rate, for a limit at the start is local; that one where no limit was measured.

    How far the first step went says nothing here: that was with inputs as they stand in the file.
    """
    if case.stable_lr is None:
        return one_digit(case.customary_lr)
    return one_digit(min(case.stable_lr / 4, 10 * case.customary_lr))


def calmer_lr(case: Case) -> float:
    """At most a tenth of the learning rate, lower where a measured limit or, without one, the first step
    asks for it.
    """
    lr = case.config.optimizer.lr
    candidates = [lr / 10]
    first = case.course.first_ratio
    if case.stable_lr is not None:
        candidates.append(lr_once_scaled(case))
    elif first is not None and first > 0:
        candidates.append(lr * _FIRST_RATIO / first)
    if case.stable_lr is None and lr > 10 * case.customary_lr:
        candidates.append(case.customary_lr)
    candidates += [place["local_stability_limit"] / 4 for place in case.curvature.above_limit.values()]
    return one_digit(max(min(candidates), lr * 1e-7, 1e-12))


def bolder_lr(case: Case) -> float:
    """At least ten times the learning rate, up to what a measured limit allows. Without one: for optimizers
    that divide by the gradient's size, which suit most tables at one rate, the customary rate; else that
    whose update ratio would be WANTED_RATIO, never above the customary one.
    """
    lr, ratio = case.config.optimizer.lr, case.typical_ratio or case.estimated_ratio
    if case.adaptive or case.stable_lr is not None:
        return one_digit(max(lr_once_scaled(case), lr * 10))
    factor = float(np.clip(WANTED_RATIO / ratio, 10, 1e5)) if ratio else 100.0
    return one_digit(max(min(lr * factor, case.customary_lr), lr * 10))


# ------------------------------------------------------------------------------------------------ preparation


def scale_inputs(case: Case, columns: Iterable[str]) -> Json:
    """Standard scaling of the given columns, and of all numeric ones where the config scales none."""
    prepare, submitted = case.config.prepare, case.evidence.submitted
    patches: list[Json] = []
    unscaled = isinstance(prepare.numeric, contract.NoScaling)
    if unscaled:
        patches.append(replace_block(submitted, ("prepare", "numeric"), {"kind": "standard"}))
    for name in columns:
        scaler = prepare.per_column.get(name, prepare.numeric)
        if name in prepare.per_column or not unscaled:
            kind = "signed_log1p" if isinstance(scaler, contract.Standard) else "standard"
            patches.append(replace_block(submitted, ("prepare", "per_column", name), {"kind": kind}))
    return combine(*patches)


def target_kind(case: Case) -> str:
    """standard, or robust where outlying targets would set the standard deviation."""
    target = case.feed.target if case.feed is not None else None
    return "robust" if target is not None and target.heavy else "standard"


def scale_target(case: Case, kind: str | None = None) -> Json:
    """Another scaling of the target, and a loss that takes it where the config's own is for none."""
    chosen = {"kind": kind or target_kind(case)}
    patch = replace_block(case.evidence.submitted, ("prepare", "target"), chosen)
    return combine(huber(case), patch) if isinstance(case.config.loss, contract.Poisson) else patch


def winsorize(case: Case) -> Json:
    """Limits beyond the usual 0.5 % where more than that lies far out in one column."""
    share = case.measured.outliers
    block: Json = {"kind": "winsorize"}
    if share is not None and share.largest_share > _WINSORIZED:
        cut = min(0.1, float(f"{1.5 * share.largest_share:.2g}"))
        block |= {"lower": cut, "upper": round(1 - cut, 6)}
    return replace_block(case.evidence.submitted, ("prepare", "outliers"), block)


def fill_missing(case: Case) -> Json:
    return replace_block(
        case.evidence.submitted, ("prepare", "missing"), {"kind": "median", "indicator": True}
    )


def exclude(case: Case, names: Iterable[str]) -> Json:
    """Leave columns out. A column that ``include`` names is taken from there; lists replace."""
    columns, dropped = case.config.columns, list(dict.fromkeys(names))
    if columns.include is not None:
        kept = [name for name in columns.include if name not in dropped]
        return set_value(("columns", "include"), kept) if kept else {}
    return set_value(("columns", "exclude"), list(dict.fromkeys([*columns.exclude, *dropped])))


# ---------------------------------------------------------------------------------------- loss, clips, model


def huber(case: Case) -> Json:
    return replace_block(case.evidence.submitted, ("loss",), {"kind": "huber", "delta": 1.0})


def mse(case: Case) -> Json:
    """The squared error, with the target scaled, and not bent."""
    submitted, target = case.evidence.submitted, case.config.prepare.target.kind
    loss = replace_block(submitted, ("loss",), {"kind": "mse"})
    if target not in ("none", "log1p", "power"):
        return loss
    return combine(loss, replace_block(submitted, ("prepare", "target"), {"kind": target_kind(case)}))


def poisson(case: Case) -> Json:
    """The poisson loss, which scales the target its own way."""
    submitted = case.evidence.submitted
    loss = replace_block(submitted, ("loss",), {"kind": "poisson"})
    return combine(loss, replace_block(submitted, ("prepare", "target"), {"kind": "none"}))


def takes_poisson(case: Case) -> bool:
    """Whether the one target has no negative value, and the config takes the poisson loss."""
    prepared = case.evidence.prepared
    if prepared is None or len(case.config.targets) > 1 or not float(prepared.train.y_raw.min()) >= 0:
        return False
    return is_accepted(case.evidence.submitted, poisson(case))


def train_longer(case: Case) -> Json:
    """AdamW, whose steps do not depend on the gradient's size, for twice the epochs, and 100 at least."""
    submitted = case.evidence.submitted
    optimizer = replace_block(submitted, ("optimizer",), {"kind": "adamw", "lr": 0.001})
    epochs = max(2 * case.config.budget.epochs, 100)
    return combine(optimizer, {"budget": {"epochs": min(epochs, 1_000_000)}})


def larger_batch(case: Case) -> Json:
    """Four times the batch, as far as there are rows; nothing where a batch has them all."""
    size, prepared = case.config.budget.batch_size, case.evidence.prepared
    wanted = min(4 * size, len(prepared.train.rows)) if prepared is not None else 4 * size
    return set_value(("budget", "batch_size"), wanted) if size < wanted <= _LARGEST_BATCH else {}


def has_norm_clip(case: Case) -> bool:
    return any(isinstance(clip, contract.NormClip | contract.Normalize) for clip in case.config.clips)


def norm_clip(case: Case, max_norm: float = 1.0) -> Json:
    """A norm clip in the place of the first one there is, else after the other clips. Lists replace."""
    clips = [to_json(clip) for clip in case.config.clips]
    fresh = {"kind": "norm", "max_norm": max_norm}
    place = next((i for i, clip in enumerate(clips) if clip["kind"] in ("norm", "normalize")), None)
    if place is None:
        return {"clips": [*clips, fresh]}
    return {"clips": [*clips[:place], fresh, *clips[place + 1 :]]}


def linear_model(case: Case) -> Json:
    """Nothing for a model over windows: a linear one reads single rows, which may not be ordered at all."""
    if isinstance(case.config.model, contract.Windowed):
        return {}
    return replace_block(case.evidence.submitted, ("model",), {"kind": "linear"})


def relu_and_he(case: Case) -> Json:
    """relu with he initialisation, and layer normalisation in nets of five hidden layers or more."""
    model = case.config.model
    init = he(case)
    if isinstance(model, contract.MLP | contract.ResNet | contract.TabM):
        changed: Json = {"kind": model.kind, "activation": "relu"}
        if not isinstance(model, contract.TabM) and len(layer_names(model)) > 5 and model.norm == "none":
            changed["norm"] = "layer"
        return combine({"model": changed}, init)
    if isinstance(model, contract.Sequential):
        return combine({"model": {"kind": "sequential", "layers": _with_relu(model)}}, init)
    return init


def _with_relu(model: contract.Sequential) -> list[Json]:
    """The layers with relu for every saturating activation, layer normalisation after each linear layer of a
    deep net.
    """
    linear = sum(isinstance(layer, contract.LinearLayer) for layer in model.layers)
    normed = any(isinstance(layer, contract.LayerNorm | contract.BatchNorm) for layer in model.layers)
    layers: list[Json] = []
    for layer in model.layers:
        saturating = isinstance(layer, contract.Sigmoid | contract.Tanh)
        layers.append({"kind": "relu"} if saturating else to_json(layer))
        if isinstance(layer, contract.LinearLayer) and linear >= 5 and not normed:
            layers.append({"kind": "layer_norm"})
    return layers


def leaky_relu(case: Case) -> Json:
    """leaky_relu for relu, with biases from 0 and, where weights started at a size of their own, he."""
    model = case.config.model
    bias = zero_bias(case) if model.bias_init < 0 else {}
    start = combine(bias, he(case) if has_odd_init(case) else {})
    if isinstance(model, contract.Sequential):
        layers = [
            {"kind": "leaky_relu"} if isinstance(layer, contract.ReLU) else to_json(layer)
            for layer in model.layers
        ]
        return combine({"model": {"kind": "sequential", "layers": layers}}, start)
    if isinstance(model, contract.MLP | contract.ResNet | contract.TabM):
        return combine({"model": {"kind": model.kind, "activation": "leaky_relu"}}, start)
    return {}


def has_odd_init(case: Case) -> bool:
    """Whether the weights start at a size that does not depend on the layers' widths."""
    return isinstance(case.config.model.init, contract.Normal | contract.ConstantInit)


def he(case: Case) -> Json:
    return replace_block(case.evidence.submitted, ("model", "init"), {"kind": "he"})


def zero_bias(case: Case) -> Json:
    """Biases start at 0."""
    return {"model": {"kind": case.config.model.kind, "bias_init": 0.0}}


def hold_back(case: Case) -> Json:
    """Patience, ten times the weight decay (0.001 to 0.1), and dropout where the model has it."""
    held, model = case.config.optimizer.weight_decay, case.config.model
    decay = float(f"{np.clip(10 * held, 1e-3, max(held, 0.1)):.3g}")
    patches = [set_value(("optimizer", "weight_decay"), decay)]
    if not case.config.budget.patience:
        patches.append(set_value(("budget", "patience"), _PATIENCE))
    if isinstance(model, contract.MLP | contract.ResNet | contract.TabM):
        dropout = max(model.dropout, min(0.5, 2 * model.dropout or 0.2))
        patches.append({"model": {"kind": model.kind, "dropout": dropout}})
    return combine(*patches)


# ------------------------------------------------------------------------------------- compositions


def stabilise(case: Case, *patches: Json) -> Json:
    """The patches, with huber for a squared error and a norm clip where there is none."""
    more: list[Json] = []
    if isinstance(case.config.loss, contract.MSE) and not case.evidence.custom_loss:
        more.append(huber(case))
    if not has_norm_clip(case):
        more.append(norm_clip(case))
    return combine(*patches, *more)


def scale_all(case: Case) -> Json:
    """Scale what is fed unscaled: inputs and, as scaling one alone only moves the trouble, the target with
    them.
    """
    feed = case.feed
    if feed is None:
        return {}
    patches: list[Json] = []
    large = {column.source for column in feed.columns if column.rms > 10 or column.rms_over_median > 100}
    if large:
        patches.append(scale_inputs(case, sorted(large)))
    if (feed.target is not None and not 0.1 <= feed.target.std <= 10) or _target_off_center(case):
        patches.append(scale_target(case))
    return combine(*patches)


def mend_scales(case: Case) -> Json:
    """Scale what is fed unscaled, and stabilise; with a lower learning rate where scaling would not be
    enough.
    """
    calmer = set_lr(lr_once_scaled(case)) if case.blown_up and case.lr_excess > 1 else {}
    return stabilise(case, scale_all(case), calmer)


def _target_off_center(case: Case) -> bool:
    """A raw target far from 0 is a first error as large as its mean."""
    target = case.feed.target if case.feed is not None else None
    return target is not None and target.rms > 10


def norm_percentile(case: Case, percent: float = 90.0) -> float:
    """Percentile of the norms before clips and before anything blew up; 1 where nothing was read."""
    explosion = case.explosion
    before = case.course.norms[case.course.settled : explosion.index if explosion else None]
    if finite_median(before) in (None, 0.0):
        before = case.course.norms[:1]
    if not len(before) or not before.max() > 0:
        return 1.0
    return float(f"{np.percentile(before, percent):.2g}")
