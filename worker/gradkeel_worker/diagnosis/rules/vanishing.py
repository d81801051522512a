"""Gradients that die out on their way to the first layers."""

from __future__ import annotations

from itertools import takewhile

from gradkeel.contract import config as contract
from gradkeel.contract.patch import set_value
from gradkeel.contract.resolve import layer_names
from gradkeel.contract.states import Family, Severity
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.course import finite_median
from gradkeel_worker.diagnosis.finding import Finding, Remedy
from gradkeel_worker.diagnosis.units import affected_units
from gradkeel_worker.diagnosis.words import finite, listed, number, plural

VANISHED = 1e-3
_BEHIND = "clearly worse than a linear model"
_TINY_UPDATE = 1e-6
_SATURATING = ("sigmoid", "tanh")


def vanishing_gradient(case: Case) -> list[Finding]:
    """First over last layer's size-normalised norm < 1e-3 and no gain over the best constant, or less than a
    linear model has; or a first layer that is frozen at weights nobody trained.
    """
    if frozen := _frozen(case):
        return [_frozen_layers(case, frozen)]
    found = case.course.layer_ratio
    if found is None or case.blown_up:
        return []
    ratio, first, last = found
    still = _stands_still(case, first, last)
    behind = ratio < VANISHED and case.behind_linear
    if not (ratio < VANISHED or still) or not (case.useless or behind):
        return []
    names = case.evidence.readings.layers
    patch = remedies.relu_and_he(case)
    return [
        Finding(
            rule="vanishing_gradient",
            family=Family.GRADIENT,
            severity=Severity.CRITICAL if case.useless else Severity.WARNING,
            confidence="high" if ratio < VANISHED / 10 else "medium",
            explanation=(
                f"{_seen(ratio, names[first])}, and the model did "
                f"{'no better than a constant' if case.useless else _BEHIND}. "
                f"Most likely cause: {_cause(case)}."
            ),
            remedy=Remedy(_advice(case), patch),
            evidence={
                "first_over_last_layer": ratio,
                "threshold": VANISHED,
                "update_ratio_first_layer": finite(_layer_update(case, first)),
                "update_ratio_last_layer": finite(_layer_update(case, last)),
                "layers": len(names),
                "activations": ", ".join(activations(case)) or None,
                "loss_of_best_constant": finite(case.constant_loss),
                "series": "layers",
            },
            where={"layer": names[first], "phase": "train"},
            also_consistent_with=(
                "inputs that carry no signal for this target",
                "an initialisation that is too small",
            ),
        )
    ]


def _seen(ratio: float, first: str) -> str:
    if ratio == 0:
        return f"No gradient reaches the first layer ({first})"
    size = f"{number(ratio)} of the last layer's, per weight"
    return f"The gradient that reaches the first layer ({first}) is {size}"


def _frozen(case: Case) -> list[str]:
    """The first hidden layers that are frozen at their random initial weights: no earlier model's."""
    frozen = getattr(case.config.model, "freeze", ())
    if not frozen or case.evidence.submitted.get("model_id") is not None:
        return []
    return list(takewhile(frozen.__contains__, layer_names(case.config.model)))


def _frozen_layers(case: Case, frozen: list[str]) -> Finding:
    return Finding(
        rule="vanishing_gradient",
        family=Family.GRADIENT,
        severity=Severity.CRITICAL if case.useless and case.linear_finds_more else Severity.WARNING,
        confidence="high",
        explanation=(
            f"No gradient reaches {listed(frozen)}: the config freezes "
            f"{'them' if len(frozen) > 1 else 'it'}, and no earlier model's weights were taken over, so that "
            "the rest of the net has to do with random features. Most likely cause: a frozen layer that was "
            "meant to be trained."
        ),
        remedy=Remedy("Train every layer.", set_value(("model", "freeze"), [])),
        evidence={"frozen_layers": len(frozen), "layers": len(layer_names(case.config.model))},
        where={"layer": frozen[0], "phase": "train"},
        also_consistent_with=("random features that are meant to stay as they are",),
    )


def _layer_update(case: Case, layer: int) -> float | None:
    ratios = case.course.ratios
    if not ratios.size:
        return None
    return finite_median(ratios[case.course.settled :, layer])


def _stands_still(case: Case, first: int, last: int) -> bool:
    """SGD: the first layer's update ratio < 1e-6 while the last layer moves (Adam would hide it)."""
    if case.adaptive:
        return False
    begin, end = _layer_update(case, first), _layer_update(case, last)
    return begin is not None and end is not None and begin < _TINY_UPDATE and end > 100 * _TINY_UPDATE


def activations(case: Case) -> list[str]:
    """The kinds of activation of the hidden layers, each once."""
    model = case.config.model
    if isinstance(model, contract.MLP | contract.ResNet | contract.TabM):
        return [model.activation]
    if isinstance(model, contract.Sequential):
        others = ("linear", "dropout", "batch_norm", "layer_norm")
        return list(dict.fromkeys(layer.kind for layer in model.layers if layer.kind not in others))
    return []


def _cause(case: Case) -> str:
    dead = affected_units(case.evidence.readings, "dead_fraction")
    if dead:
        places = listed([name for name, _, _ in dead])
        return f"units that put out 0 on every row that was looked at, in {places}"
    saturating = [name for name in activations(case) if name in _SATURATING]
    depth = len(case.evidence.readings.layers)
    if saturating:
        return (
            f"{' and '.join(saturating)} in {plural(max(1, depth - 1), 'layer')}: each passes on only a "
            "fraction of the gradient"
        )
    if not isinstance(case.config.model, contract.Linear) and case.config.model.init.kind in (
        "normal",
        "constant",
    ):
        return (
            f"the initialisation ({case.config.model.init.kind}), which starts the weights too small for "
            "this depth"
        )
    return f"a depth of {plural(depth, 'layer')}, of which each passes on less"


def _advice(case: Case) -> str:
    deep = len(case.evidence.readings.layers) >= 6
    return "Use relu with he initialisation" + (", and layer normalisation for this depth." if deep else ".")
