"""Rules on readings made by hand: one firing and one near miss each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradkeel.contract.patch import merge_patch
from gradkeel.contract.report import RULES as CONTRACT_RULES
from gradkeel.contract.resolve import resolve
from gradkeel.contract.states import Severity
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.course import Course
from gradkeel_worker.diagnosis.evidence import Evaluation, Evidence
from gradkeel_worker.diagnosis.feed import robust_z
from gradkeel_worker.diagnosis.rules import RULES
from gradkeel_worker.diagnosis.series import MAX_POINTS, series_of
from gradkeel_worker.engine.readings import Readings
from worker.diagnosis.runs import ADAMW, SGD

STEPS = 200


def readings(steps: int = STEPS, **changed: Any) -> Readings:
    """A calm run of two layers; ``changed`` replaces arrays."""
    rng = np.random.default_rng(0)
    calm = Readings(
        steps=np.arange(steps),
        epoch=np.arange(steps) // 5,
        loss=np.linspace(1.0, 0.3, steps),
        lr=np.full(steps, 0.01),
        global_norm=np.exp(rng.normal(0, 0.1, steps)),
        clipped_norm=np.ones(steps),
        clip_coefficient=np.ones(steps),
        nonfinite=np.zeros(steps, np.int64),
        skipped=np.zeros(steps, np.bool_),
        layers=("layers.0", "output"),
        layer_sizes=(640, 65),
        layer_norm=np.ones((steps, 2), np.float32),
        weight_norm=np.ones((steps, 2), np.float32),
        update_ratio=np.full((steps, 2), 1e-3, np.float32),
    )
    return replace(calm, **changed)


def case(given: Readings, config: Any = SGD, **evidence: Any) -> Case:
    return Case(Evidence(config=resolve(config), submitted=config, readings=given, **evidence))


def fires(rule: str, given: Readings, config: Any = SGD, **evidence: Any) -> bool:
    return bool(RULES[rule](case(given, config, **evidence)))


def test_each_finding_has_its_rules_name_and_family() -> None:
    everything = readings(
        loss=np.concatenate([[1.0, 1e3], np.full(STEPS - 2, np.nan)]),
        nonfinite=np.full(STEPS, 3),
        clipping=[
            {"kind": "norm", "limit": 1.0, "fired": np.ones(STEPS, bool), "coefficients": np.ones(STEPS)}
        ],
    )
    given = case(everything, status="diverged")
    for name, rule in RULES.items():
        for finding in rule(given):
            assert (finding.rule, finding.family) == (name, CONTRACT_RULES[name])


def test_a_calm_run_has_no_findings() -> None:
    given = case(readings())
    assert [f for rule in RULES.values() for f in rule(given)] == []


@pytest.mark.parametrize(("factor", "expected"), [(120.0, "early_norm"), (60.0, None)])
def test_growth_in_the_first_steps(factor: float, expected: str | None) -> None:
    norms = readings().global_norm.copy()
    norms[0], norms[5] = 1.0, factor
    explosion = Course(readings(global_norm=norms)).explosion
    assert (explosion.sign if explosion else None) == expected


@pytest.mark.parametrize(("after", "expected"), [(0.3, None), (5.0, "early_loss")])
def test_a_first_batch_that_happens_to_fit_is_no_growth(after: float, expected: str | None) -> None:
    losses = np.full(STEPS, after)
    losses[0] = 1e-3
    explosion = Course(readings(loss=losses), best_constant=0.5).explosion
    assert (explosion.sign if explosion else None) == expected


@pytest.mark.parametrize(("factor", "fired"), [(15.0, True), (6.0, False)])
def test_growth_beyond_the_running_median(factor: float, fired: bool) -> None:
    norms, losses = readings().global_norm.copy(), np.ones(STEPS)
    norms[120:] = factor * np.linspace(1, 3, 80)
    losses[120:] = np.linspace(3, 9, 80)
    if not fired:
        norms[120:] = factor
    explosion = Course(readings(global_norm=norms, loss=losses)).explosion
    assert (explosion is not None) == fired
    if explosion is not None:
        assert 118 <= explosion.index <= 130


def test_a_single_spike_is_no_explosion() -> None:
    norms = readings().global_norm.copy()
    norms[100] = 80.0
    assert Course(readings(global_norm=norms)).explosion is None


@pytest.mark.parametrize(("earlier", "fired"), [(5.0, False), (0.01, True)])
def test_near_a_perfect_fit_norms_as_large_as_earlier_ones_are_no_explosion(
    earlier: float, fired: bool
) -> None:
    norms, losses = np.full(STEPS, 0.01), np.full(STEPS, 1e-4)
    norms[90] = earlier
    norms[130:133], losses[130:133] = (1.0, 2.0, 3.0), 0.2
    explosion = Course(readings(global_norm=norms, loss=losses), best_constant=0.7).explosion
    assert (explosion is not None and explosion.sign == "running_median") == fired


def test_an_excess_over_the_constant_that_doubles_five_times() -> None:
    losses = 1 + 0.2 * np.exp(np.linspace(0, 12, STEPS))
    assert Course(readings(loss=losses), best_constant=1.0).explosion is not None
    assert Course(readings(loss=1 + 0.2 * np.linspace(1, 3, STEPS)), best_constant=1.0).explosion is None


@pytest.mark.parametrize(("share", "fired"), [(0.35, True), (0.25, False)])
def test_clips_that_fire_often(share: float, fired: bool) -> None:
    hits = np.arange(STEPS) % 100 < 100 * share
    clip = {"kind": "norm", "limit": 1.0, "fired": hits, "coefficients": np.where(hits, 0.5, 1.0)}
    found = RULES["clipping_dominates"](case(readings(clipping=[clip])))
    assert bool(found) == fired
    adaptive = RULES["clipping_dominates"](case(readings(clipping=[clip]), ADAMW))
    assert [f.severity for f in adaptive] == [Severity.INFO] * fired


@pytest.mark.parametrize(("kept", "severity"), [(0.45, Severity.WARNING), (0.55, Severity.INFO)])
def test_clips_are_judged_by_what_they_took(kept: float, severity: Severity) -> None:
    clip = {"kind": "norm", "limit": 1.0, "fired": np.ones(STEPS, bool), "coefficients": np.full(STEPS, kept)}
    (finding,) = RULES["clipping_dominates"](case(readings(clipping=[clip])))
    assert finding.severity is severity
    assert finding.evidence["kept_length"] == pytest.approx(kept)


@pytest.mark.parametrize(
    ("ratio", "high", "low"), [(0.2, True, False), (1e-3, False, False), (1e-6, False, True)]
)
def test_update_ratios(ratio: float, high: bool, low: bool) -> None:
    given = readings(update_ratio=np.full((STEPS, 2), ratio, np.float32))
    assert fires("lr_too_high", given) == high
    assert fires("lr_too_low", given) == low


def test_small_steps_of_a_run_that_converges_are_no_fault() -> None:
    given = readings(
        update_ratio=np.full((STEPS, 2), 1e-6, np.float32), global_norm=np.geomspace(1, 1e-3, STEPS)
    )
    assert not fires("lr_too_low", given)


@pytest.mark.parametrize(("share", "fired"), [(0.6, True), (0.4, False)])
@pytest.mark.parametrize(
    ("rule", "series"), [("dead_units", "dead_fraction"), ("saturated_activation", "saturated_fraction")]
)
def test_units_that_no_longer_react(share: float, fired: bool, rule: str, series: str) -> None:
    values = np.full((6, 1), share, np.float32)
    given = readings(sparse={series: (np.arange(6) * 10, values, ("layers.0",))})
    assert fires(rule, given) == fired
    twice = np.array([[0.1], [0.6], [0.6], [0.1], [0.6], [0.6]], np.float32)
    assert not fires(rule, readings(sparse={series: (np.arange(6) * 10, twice, ("layers.0",))}))


def test_a_failed_gradient_check_names_the_parameter() -> None:
    outcome = {"relative_error": 0.01, "absolute_error": 0.1, "h": 1e-4, "status": "fail"}
    given = case(readings())
    check = {"parameters": {"output.weight": outcome, "output.bias": outcome | {"status": "pass"}}}
    given.__dict__["measured"] = replace(given.measured, gradient_check=check)
    (finding,) = RULES["gradient_mismatch"](given)
    assert (finding.where["parameter"], finding.where["layer"]) == ("output.weight", "output")


def test_skipped_steps_are_a_warning_and_a_lost_run_is_critical() -> None:
    counts = np.zeros(STEPS, np.int64)
    counts[[50, 100]] = 7
    given = readings(nonfinite=counts, skipped=counts > 0)
    (kept,) = RULES["non_finite"](case(given, model=object()))
    assert kept.severity is Severity.WARNING
    assert kept.where["step"] == 50
    (lost,) = RULES["non_finite"](case(given, status="diverged"))
    assert lost.severity is Severity.CRITICAL


def test_robust_z_falls_back_where_most_values_are_equal() -> None:
    mostly = np.zeros(100)
    mostly[:5] = [1, 2, 3, 4, 1000]
    z = robust_z(mostly)
    assert np.isfinite(z).all()
    assert z[4] > 8
    assert z[50] == 0
    assert (robust_z(np.zeros(10)) == 0).all()


def test_down_sampling_keeps_the_extremes_and_lists_what_is_not_finite() -> None:
    steps = 60_000
    norms, losses = np.ones(steps), np.ones(steps)
    norms[31_234], norms[40_001], losses[777] = 1e6, 1e-6, np.nan
    series = series_of(readings(steps, global_norm=norms, loss=losses))
    assert len(series["steps"]) <= MAX_POINTS
    assert {31_234, 40_001, 777, 0, steps - 1} <= set(series["steps"])
    assert series["loss"][series["steps"].index(777)] is None
    assert series["nonfinite"] == [{"series": "loss", "step": 777, "kind": "nan"}]
    assert series["norm_z"][series["steps"].index(31_234)] is None  # the steps before were all alike
    assert len(series["layers"]["output"]["norm"]) == len(series["steps"])


def test_ups_and_downs_of_a_good_fit_are_no_explosion() -> None:
    norms, losses = readings().global_norm.copy(), np.full(STEPS, 1e-3)
    norms[120:] = 15 * np.linspace(1, 3, 80)
    losses[120:] = 5e-3
    assert Course(readings(global_norm=norms, loss=losses), best_constant=1.0).explosion is None
    losses[120:] = 0.5
    assert Course(readings(global_norm=norms, loss=losses), best_constant=1.0).explosion is not None


@pytest.mark.parametrize(("at_sigmas", "kind"), [(6.0, "norm"), (-3.0, "loss")])
def test_z_scores_are_told_against_the_steps_before(at_sigmas: float, kind: str) -> None:
    values = np.random.default_rng(0).normal(10, 2, STEPS)
    values[50] = np.nan
    before = values[STEPS - 1 - 128 : STEPS - 1]
    before = before[np.isfinite(before)]
    values[-1] = before.mean() + at_sigmas * before.std()
    series = series_of(readings(**{"loss" if kind == "loss" else "global_norm": values}))
    assert series[f"{kind}_z"][-1] == pytest.approx(at_sigmas, rel=1e-5)
    assert series[f"{kind}_z"][50 if kind == "loss" else 3] is None


def test_the_ratio_of_first_to_last_layer_is_by_size() -> None:
    norms = np.tile(np.float32([np.sqrt(640) * 1e-3, np.sqrt(65)]), (STEPS, 1))
    assert series_of(readings(layer_norm=norms))["first_to_last_layer"] == pytest.approx([1e-3] * STEPS)
    assert set(series_of(readings(layer_norm=norms[:0]))["first_to_last_layer"]) == {None}


def test_layers_without_a_finite_norm_are_listed() -> None:
    norms = np.ones((STEPS, 2), np.float32)
    norms[7, 1] = np.inf
    places = series_of(readings(layer_norm=norms))["nonfinite"]
    assert places == [{"series": "layers.output.norm", "step": 7, "kind": "inf"}]


@pytest.mark.parametrize(("spread", "alike"), [(1e-3, True), (0.05, False)])
@pytest.mark.parametrize("classes", [False, True])
def test_predictions_that_hardly_vary_are_one_constant(spread: float, alike: bool, classes: bool) -> None:
    rng = np.random.default_rng(0)
    told = 0.5 + spread * rng.normal(size=100)
    actual = rng.choice(["a", "b"], 100) if classes else rng.normal(size=100)
    predictions = {"actual": actual, "prediction": told}
    if classes:
        predictions["probabilities"] = np.stack([told, 1 - told], axis=1)
    given = case(readings(), evaluation=Evaluation(predictions=predictions))
    assert given.answers_alike == alike


@pytest.mark.parametrize(("ratio", "fired"), [(12.0, True), (8.0, False)])
def test_a_noise_scale_far_above_the_batch_is_told(ratio: float, fired: bool) -> None:
    steps, values = np.arange(6) * 10, np.full((6, 1), 64 * ratio, np.float32)
    values[2] = np.nan
    given = readings(sparse={"noise_scale": (steps, values, ("noise_scale",))})
    assert [f.severity for f in RULES["noisy_gradient"](case(given))] == [Severity.INFO] * fired
    assert [f.evidence["checks"] for f in RULES["noisy_gradient"](case(given))] == [5] * fired


def test_noise_without_a_signal_is_told_too() -> None:
    steps, none = np.arange(6) * 10, np.full((6, 1), np.nan, np.float32)
    parts = np.tile(np.float32([-1e-3, 2.0]), (6, 1))
    sparse = {
        "noise_scale": (steps, none, ("noise_scale",)),
        "gradient_noise": (steps, parts, ("squared_norm", "trace")),
    }
    (finding,) = RULES["noisy_gradient"](case(readings(sparse=sparse)))
    assert finding.evidence["checks_without_a_signal"] == 6
    assert "could not be told from its noise" in finding.explanation


@pytest.mark.parametrize(("scale", "fired"), [(1000.0, True), (200.0, False)])
def test_without_parts_the_angles_between_gradients_tell_the_noise(scale: float, fired: bool) -> None:
    """Cosines of gradients drawn with a known noise scale: |G| = 1, 200 entries, batches of 64 rows."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(1001, 200)) * np.sqrt(scale / 64 / 200)
    drawn = noise + np.eye(200)[0]
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    found = RULES["noisy_gradient"](case(readings(1000, cosine=(drawn[1:] * drawn[:-1]).sum(axis=1))))
    assert bool(found) == fired
    for finding in found:  # the two standard errors on top make it the lower end of what fits
        assert 0.7 * scale < finding.evidence["noise_scale"] < 1.05 * scale


@pytest.mark.parametrize(("std", "fired"), [(0.05, True), (0.2, False), (20.0, True), (5.0, False)])
def test_activations_that_start_too_small_or_too_large(std: float, fired: bool) -> None:
    given = readings(initial={"activation_std": {"layers.0": std, "output": 0.01}})
    found = RULES["poor_initialisation"](case(given))
    assert [f.where["layer"] for f in found] == ["layers.0"] * fired


@pytest.mark.parametrize(("excess", "fired"), [(2.5, True), (1.8, False)])
def test_a_first_loss_far_above_the_best_constants(excess: float, fired: bool) -> None:
    given = case(readings())
    given.__dict__.update(constant_loss=0.4, measured=replace(given.measured, initial_loss=0.4 * excess))
    assert bool(RULES["poor_initialisation"](given)) == fired


def _epochs(validation: Any, training: Any) -> list[dict[str, Any]]:
    pairs = zip(validation, training, strict=True)
    return [{"epoch": i, "validation_loss": v, "train_loss": t} for i, (v, t) in enumerate(pairs)]


@pytest.mark.parametrize(("size", "fired"), [(0.15, True), (0.08, False)])
@pytest.mark.parametrize("training", [True, False])
def test_a_loss_that_swings(size: float, fired: bool, training: bool) -> None:
    swinging = 1 + size * (np.arange(20) % 2)
    given = case(readings(epochs=_epochs(swinging, swinging if training else np.linspace(1, 0.5, 20))))
    given.__dict__["constant_loss"] = 1.0
    found = RULES["oscillation"](given)
    assert [f.confidence for f in found] == ["medium" if training else "low"] * fired
    assert [f.severity for f in found] == [Severity.INFO] * fired  # no more than a quarter


@pytest.mark.parametrize(("lasted", "severity"), [(1, Severity.INFO), (8, Severity.WARNING)])
def test_a_leap_of_the_loss_is_judged_by_how_long_it_lasts(lasted: int, severity: Severity) -> None:
    losses = 0.5 + 0.01 * np.random.default_rng(0).normal(size=STEPS)
    losses[150 : 150 + lasted] = 3.0
    given = case(readings(loss=losses))
    given.__dict__["constant_loss"] = 1.0
    (finding,) = RULES["spike"](given)
    assert (finding.where["step"], finding.severity) == (150, severity)
    assert finding.evidence["steps_until_down"] == lasted


@pytest.mark.parametrize(("end", "fired"), [(1.2, True), (0.5, False)])
def test_a_loss_that_stays_where_it_began(end: float, fired: bool) -> None:
    losses = np.linspace(1.2, end, STEPS) + 0.05 * np.random.default_rng(0).normal(size=STEPS)
    given = case(readings(loss=losses))
    given.__dict__["constant_loss"] = 1.0
    assert bool(RULES["loss_not_decreasing"](given)) == fired


@pytest.mark.parametrize(("first", "expected"), [(1.0, "lr"), (0.02, None)])
def test_units_that_an_early_leap_killed_are_laid_to_the_learning_rate(
    first: float, expected: str | None
) -> None:
    ratios = np.full((STEPS, 2), 1e-12, np.float32)
    ratios[0] = first
    dead = (np.arange(0, STEPS, 40), np.array([[0.0], [1.0], [1.0], [1.0], [1.0]]), ("layers.0",))
    config = merge_patch(SGD, {"optimizer": {"lr": 3.0}})
    given = case(readings(update_ratio=ratios, sparse={"dead_fraction": dead}), config)
    assert given.cause == expected
    assert fires("lr_too_high", given.evidence.readings, config) == (expected == "lr")


@pytest.mark.parametrize(("batch_size", "fired"), [(64, True), (1, False)])
def test_large_norms_of_a_few_rows_in_a_row_are_no_explosion(batch_size: int, fired: bool) -> None:
    norms, losses = np.full(STEPS, 0.1), np.full(STEPS, 0.3)
    norms[100:104], losses[100:104] = (2.0, 3.0, 4.0, 5.0), 2.0
    course = Course(readings(global_norm=norms, loss=losses), best_constant=0.7, batch_size=batch_size)
    assert (course.explosion is not None) == fired


def test_a_clip_that_took_little_stays_information_beside_a_broken_cell() -> None:
    losses = np.linspace(1.0, 0.3, STEPS)
    losses[100] = np.nan
    fired = {"kind": "norm", "limit": 1.0, "fired": np.ones(STEPS, bool), "coefficients": np.full(STEPS, 0.9)}
    given = case(readings(loss=losses, clipping=[fired]))
    assert [f.severity for f in RULES["clipping_dominates"](given)] == [Severity.INFO]
