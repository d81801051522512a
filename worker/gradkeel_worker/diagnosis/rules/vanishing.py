"""Gradients that die out on their way to the first layers."""

from __future__ import annotations

from gradkeel.contract import config as contract
from gradkeel.contract.states import Family, Severity
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.course import finite_median
from gradkeel_worker.diagnosis.finding import Finding, Remedy
from gradkeel_worker.diagnosis.units import affected_units
from gradkeel_worker.diagnosis.words import finite, listed, number, plural

VANISHED = 1e-3
_TINY_UPDATE = 1e-6
_SATURATING = ("sigmoid", "tanh")


def vanishing_gradient(case: Case) -> list[Finding]:
    """First over last layer's size-normalised norm < 1e-3 and no gain over the best constant."""
    found = case.course.layer_ratio
    if found is None or case.blown_up:
        return []
    ratio, first, last = found
    still = _stands_still(case, first, last)
    if not (ratio < VANISHED or still) or case.useless is False or case.useless is None:
        return []
    names = case.evidence.readings.layers
    patch = remedies.relu_and_he(case)
    return [
        Finding(
            rule="vanishing_gradient",
            family=Family.GRADIENT,
            severity=Severity.CRITICAL,
            confidence="high" if ratio < VANISHED / 10 else "medium",
            explanation=(
                f"{_seen(ratio, names[first])}, and the model did no better than a constant. "
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
