"""A case: evidence with what follows from it, worked out once and shared by all rules."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gradkeel.contract import config as contract
from gradkeel_worker.curvature.limits import local_stability_limit
from gradkeel_worker.diagnosis.best_constant import best_constant_loss
from gradkeel_worker.diagnosis.course import Course, Explosion, finite_median
from gradkeel_worker.diagnosis.evidence import Evidence, Origin
from gradkeel_worker.diagnosis.feed import Feed, feed_of
from gradkeel_worker.diagnosis.gain import Gain, gains
from gradkeel_worker.diagnosis.measured import CurvatureStudy, Measured, Start
from gradkeel_worker.diagnosis.single_column import Alone, judge_columns
from gradkeel_worker.diagnosis.units import affected_units

INFLATED = 10.0
"""Factor on the first layer's gradient, or RMS of the target as fed, above which scale is a suspect."""

CLIPS_DOMINATE = 0.30
"""Share of clipped steps above which, under SGD, the clip sets the length of the steps."""
_FEWEST_STEPS = 5
_SHORT = 1e-4
"""Update ratio of steps that hardly move the weights."""
_ALIKE = 0.01
"""Spread of the predictions over that of the targets below which they are one constant."""

ADAPTIVE = ("adam", "adamw", "nadam", "radam", "rmsprop", "adagrad")


@dataclass(frozen=True)
class Case:
    """What the rules read. Everything derived is computed on first use."""

    evidence: Evidence

    @property
    def config(self) -> contract.TrainConfig:
        return self.evidence.config

    @property
    def adaptive(self) -> bool:
        """Whether the optimizer divides by the gradient's size, so that a constant factor hardly matters."""
        return self.config.optimizer.kind in ADAPTIVE

    @property
    def task(self) -> str:
        prepared = self.evidence.prepared
        return prepared.task if prepared is not None else self.config.task

    @cached_property
    def course(self) -> Course:
        return Course(
            self.evidence.readings,
            self.config.schedule.warmup_steps,
            self.constant_loss,
            self.config.budget.batch_size,
        )

    @cached_property
    def feed(self) -> Feed | None:
        prepared = self.evidence.prepared
        return feed_of(prepared) if prepared is not None and len(prepared.train.rows) else None

    @cached_property
    def constant_loss(self) -> float | None:
        """Training loss of the best constant, of a forecast of changes the best constant change; None for a
        caller's own loss."""
        prepared = self.evidence.prepared
        if prepared is None or self.evidence.custom_loss:
            return None
        return best_constant_loss(self.config.loss, prepared.aims(), len(prepared.classes or (0, 1)))

    @cached_property
    def measured(self) -> Measured:
        if self.evidence.prepared is None or self.evidence.loss_fn is None:
            return Measured(origin=_event_origin(self.evidence))
        # torch is loaded only where there is a model: processes that build partial reports never hold it.
        examination = importlib.import_module("gradkeel_worker.diagnosis.examination")
        measured: Measured = examination.examine(self.evidence, look_at_start=self.blown_up or self._crawls)
        return measured

    @property
    def _crawls(self) -> bool:
        """Whether steps were so short that a limit is wanted up to which they may be longer."""
        ratio = self.typical_ratio
        return not self.adaptive and ratio is not None and ratio < _SHORT

    @cached_property
    def curvature(self) -> CurvatureStudy:
        """What ``health.curvature`` found; empty where it was not asked for or could not be measured."""
        if not self.config.health.curvature:
            return CurvatureStudy()
        if self.evidence.prepared is None:
            return CurvatureStudy(notes=("curvature: not measured, no weights are left",))
        module = importlib.import_module("gradkeel_worker.diagnosis.curvature")
        found: CurvatureStudy = module.study(self.evidence)
        return found

    @property
    def start(self) -> Start | None:
        return self.measured.start

    @property
    def origin(self) -> Origin | None:
        return self.measured.origin

    @cached_property
    def gains(self) -> dict[str, dict[str, Gain]]:
        """Gain over each baseline by metric, with its interval: baseline → metric → Gain."""
        evaluation = self.evidence.evaluation
        return gains(evaluation.errors) if evaluation is not None else {}

    @cached_property
    def held_out_gains(self) -> dict[str, dict[str, Gain]]:
        """The same over validation and test part together."""
        evaluation = self.evidence.evaluation
        return gains(evaluation.held_out) if evaluation is not None else {}

    @cached_property
    def alone(self) -> list[Alone]:
        """What each column alone tells of the target, best first."""
        prepared = self.evidence.prepared
        return [] if prepared is None else judge_columns(prepared, self.config.seed)

    # ------------------------------------------------------------------------------- what became of the run

    @property
    def explosion(self) -> Explosion | None:
        return self.course.explosion

    @property
    def blown_up(self) -> bool:
        return self.course.explosion is not None or self.course.first_bad is not None or self.lost

    @property
    def lost(self) -> bool:
        """Whether training was lost: it diverged."""
        return self.evidence.status == "diverged"

    @cached_property
    def useless(self) -> bool | None:
        """Whether the result cannot be told from the best constant; None when unknown.

        On validation and test part together: no metric is better beyond chance, and none by 5 % or more. Or
        it gives every row the same answer: another constant may lie nearer to these rows by chance.
        """
        over_constant = self.held_out_gains.get("constant")
        if over_constant:
            return self.answers_alike or not any(
                gain.certain or gain.relative >= 0.05 for gain in over_constant.values()
            )
        return None if self.learnt is None else not self.learnt

    @cached_property
    def answers_alike(self) -> bool:
        """Whether the predictions of the test part vary by less than a hundredth of what they are to tell."""
        evaluation = self.evidence.evaluation
        told = evaluation.predictions if evaluation is not None else {}
        if self.task == "quantile" or len(told.get("actual", ())) < _FEWEST_STEPS:
            return False
        if "probabilities" in told:
            _, counts = np.unique(told["actual"].astype(str), return_counts=True)
            spread = float(np.sqrt(np.max(counts / counts.sum() * (1 - counts / counts.sum()))))
            return float(told["probabilities"].std(axis=0).max()) < _ALIKE * spread
        spreads = told["actual"].std(axis=0), told["prediction"].std(axis=0)
        return bool(np.all(spreads[1] < _ALIKE * spreads[0]))

    @property
    def behind_linear(self) -> bool:
        """Whether the linear model is better on held-out rows beyond chance."""
        over_ridge = self.held_out_gains.get("ridge") or {}
        return bool(over_ridge) and next(iter(over_ridge.values())).high < 0

    @cached_property
    def learnt(self) -> bool | None:
        """Whether the training loss got clearly (3 %) below that of the best constant; None when unknown."""
        if self.constant_loss is None or not self.course.sound:
            return None
        # At best over stretches, not at the end: a run may learn and blow up afterwards.
        _, blocks = self.course.blocks(self.course.losses)
        lowest = float(blocks.min()) if self.course.sound >= 20 else float(np.median(self.course.losses))
        return lowest < 0.97 * self.constant_loss

    # ---------------------------------------------------------------------------------------- the cause

    @cached_property
    def cause(self) -> str | None:
        """Most likely cause of an explosion or a non-finite value: data_cell, domain, inputs, target,
        init, outliers, precision, lr.

        Where nothing blew up: inputs, target or lr if the run was strained and one of them explains it.
        """
        if self.origin is not None and self.origin.what in ("input", "target"):
            return "data_cell"
        if (
            self.origin is not None
            and self.origin.operation
            and "outside its domain" in self.origin.operation
        ):
            return "domain"
        if not self.blown_up:
            return self._strain_cause()
        if self.course.first_bad == 0:
            return self._cause_before_any_step()
        if self.bits_too_few and self.explosion is None:
            return self._scale_cause() or "precision"
        if (scale := self._scale_cause()) is not None:
            return scale
        if self.starts_far_off and self.config.optimizer.lr <= 10 * self.customary_lr:
            return "init"
        return "outliers" if self.outliers_pull and not self.lr_is_high else "lr"

    def _cause_before_any_step(self) -> str | None:
        """What makes the first numbers too large: no step was taken, so it is not the learning rate."""
        feed = self.feed
        target = feed.target.rms if feed is not None and feed.target is not None else 0.0
        inputs = feed.inflation if feed is not None else 0.0
        if max(inputs, target) > INFLATED:
            return "inputs" if inputs >= target else "target"
        return "precision" if self.bits_too_few else None

    @property
    def bits_too_few(self) -> bool:
        """Whether the first non-finite step, repeated in float32, was finite."""
        return bool((self.evidence.readings.nonfinite_event or {}).get("finite_in_float32"))

    def _scale_cause(self) -> str | None:
        inputs, target = self.inputs_excess, self.target_excess
        if max(inputs, target) <= INFLATED or self.lr_excess >= max(inputs, target):
            return None
        if inputs < target:
            return "target"
        return "outliers" if self.outliers_pull and self.inputs_sound else "inputs"

    @property
    def inputs_sound(self) -> bool:
        """Whether the inputs are of a size that suits, but for their outliers."""
        return self.feed is not None and self.feed.core_inflation <= INFLATED

    def _strain_cause(self) -> str | None:
        if not self.strained:
            return None
        if (scale := self._strained_by_scale()) is not None:
            return scale
        if self.lr_is_high and (self.course.leaps or (self.lost_units and self.course.leapt)):
            return "lr"
        return "outliers" if self._strained_by_outliers() else None

    def _strained_by_outliers(self) -> bool:
        """Outlying rows that pull hardest where steps were clipped, or that set the unit of a lost target."""
        return self.outliers_pull if not self.useless else self.outliers_pull or self.target_stretched

    @property
    def target_stretched(self) -> bool:
        """Whether a few outlying targets set the unit in which all of them are learnt."""
        feed = self.feed
        scaled = isinstance(self.config.prepare.target, contract.TargetStandard)
        return scaled and feed is not None and feed.target is not None and feed.target.stretched

    def _strained_by_scale(self) -> str | None:
        feed, prepare = self.feed, self.config.prepare
        if feed is None:
            return None
        target = feed.target.rms if feed.target is not None and prepare.target.kind == "none" else 0.0
        unscaled = [c for c in feed.columns if self.scaler_of(c.source).kind == "none"]
        inputs = float(np.sqrt(sum(c.rms**2 for c in unscaled) / max(len(feed.columns), 1)))
        if max(inputs, target) <= INFLATED:
            return None
        return "inputs" if inputs >= target else "target"

    def scaler_of(self, column: str) -> contract.NumericScaler:
        """The scaling of a numeric column."""
        prepare = self.config.prepare
        return prepare.per_column.get(column, prepare.numeric)

    @property
    def strained(self) -> bool:
        """Signs of trouble short of an explosion: clips on most steps, units gone, or nothing learnt."""
        clipped = not self.adaptive and self.clipped_share > CLIPS_DOMINATE
        return clipped or self.lost_units or self.useless is True

    @cached_property
    def lost_units(self) -> bool:
        """Whether most units of a layer were dead or saturated for long."""
        return any(
            affected_units(self.evidence.readings, series)
            for series in ("dead_fraction", "saturated_fraction")
        )

    @cached_property
    def clipped_share(self) -> float:
        """Largest share of the steps after warm-up that one clip changed; normalising counts for none."""
        return max(
            (self.fired_share(c) for c in self.evidence.readings.clipping if c["kind"] != "normalize"),
            default=0.0,
        )

    def fired_share(self, clip: dict[str, Any]) -> float:
        """Share of the sound steps after warm-up that the clip changed; 0 where there were too few to
        tell.
        """
        fired = np.asarray(clip.get("fired", ()), bool)[self.course.settled : self.course.sound]
        return float(fired.mean()) if len(fired) >= _FEWEST_STEPS else 0.0

    @property
    def starved(self) -> bool:
        """SGD: whether clips leave less than a tenth of a typical gradient."""
        kept = self.evidence.readings.clip_coefficient[self.course.settled : self.course.sound]
        return not self.adaptive and len(kept) > 0 and float(np.median(kept)) < 0.1

    @cached_property
    def linear_finds_more(self) -> bool:
        """Whether the linear model is clearly better than the constant on the same rows."""
        evaluation = self.evidence.evaluation
        if evaluation is None:
            return False
        errors = next(iter(evaluation.errors.values()))
        return float(errors["ridge"].mean()) < 0.95 * float(errors["constant"].mean())

    @property
    def starts_far_off(self) -> bool:
        """Whether weights of a size of their own gave a first loss ten times that of the best constant."""
        odd = isinstance(self.config.model.init, contract.Normal | contract.ConstantInit)
        if not odd or self.constant_loss is None or not self.course.sound:
            return False
        return float(self.course.losses[0]) > 10 * self.constant_loss

    @property
    def starts_alike(self) -> bool:
        """Whether all units of a layer start with the same weights, and so stay alike."""
        model = self.config.model
        return isinstance(model.init, contract.ConstantInit) and not isinstance(model, contract.Linear)

    @property
    def outliers_pull(self) -> bool:
        share = self.measured.outliers
        return share is not None and share.share > 0.5

    @cached_property
    def inputs_excess(self) -> float:
        """How much the size of the inputs shrinks the largest stable step: their curvature over that of
        scaled ones.

        Without a measurement on the model, the mean square of the columns as fed; for optimizers that divide
        by the
        gradient's size, its root.
        """
        start = self.start
        if start is not None and start.curvature_as_fed and start.curvature_scaled_inputs:
            excess = start.curvature_as_fed / start.curvature_scaled_inputs
        elif self.feed is not None:
            excess = self.feed.inflation**2
        else:
            return 1.0
        return float(np.sqrt(excess)) if self.adaptive else excess

    @cached_property
    def target_excess(self) -> float:
        """How much larger the first gradient is for the target as fed; 1 where the loss bounds it."""
        if self.feed is None or self.feed.target is None or self.adaptive:
            return 1.0
        start = self.start
        if start is not None and start.gradient_scaled_inputs and start.gradient_scaled_both:
            return start.gradient_scaled_inputs / start.gradient_scaled_both
        return self.feed.target.rms if self.config.loss.kind in ("mse", "poisson") else 1.0

    @cached_property
    def stable_lr(self) -> float | None:
        """2(1+β)/λ at the initial weights with inputs scaled, for SGD; None for other optimizers or
        unmeasured.
        """
        start, optimizer = self.start, self.config.optimizer
        if start is None or not start.curvature_scaled_inputs or not isinstance(optimizer, contract.SGD):
            return None
        return local_stability_limit(optimizer, start.curvature_scaled_inputs)

    @property
    def customary_lr(self) -> float:
        """A learning rate that is widely used with this optimizer on scaled data; a rule of thumb."""
        optimizer = self.config.optimizer
        if isinstance(optimizer, contract.SGD):
            return 0.01 * (1 - optimizer.momentum) if optimizer.momentum else 0.01
        return 0.01 if optimizer.kind == "adagrad" else 0.001

    @property
    def lr_excess(self) -> float:
        """Learning rate over the stable one on scaled inputs (SGD), else over the customary one."""
        return self.config.optimizer.lr / (self.stable_lr or 10 * self.customary_lr)

    @property
    def lr_is_high(self) -> bool:
        return self.lr_excess > 1

    @cached_property
    def typical_ratio(self) -> float | None:
        return self.course.typical_ratio()

    @cached_property
    def estimated_ratio(self) -> float | None:
        """Update ratio of the whole net where none was read (economy tier): length of a typical step over the
        weights as they started. None where those are unknown.

        Optimizers that divide by the gradient's size move no entry by much more than the learning rate.
        """
        weights, readings, optimizer = (
            self.measured.weight_norm,
            self.evidence.readings,
            self.config.optimizer,
        )
        chosen = slice(self.course.settled, self.course.sound)
        if not weights or not len(readings.lr[chosen]):
            return None
        if isinstance(optimizer, contract.SGD):
            step = finite_median(readings.lr[chosen] * readings.clipped_norm[chosen])
            return None if step is None else step / (1 - optimizer.momentum) / weights
        reach = np.sqrt(sum(readings.layer_sizes))
        return float(np.median(readings.lr[chosen]) * reach / weights)

    @cached_property
    def typical_norm(self) -> float | None:
        return finite_median(self.course.norms[self.course.settled :])


def _event_origin(evidence: Evidence) -> Origin | None:
    """The origin as far as the readings alone tell."""
    event: dict[str, Any] | None = evidence.readings.nonfinite_event
    if event is None:
        return None
    rows, columns = event.get("rows") or [None], event.get("columns") or [None]
    is_input = event.get("what") == "input"
    return Origin(
        what=str(event.get("what") or "gradient"),
        kind=str(event.get("kind") or "nan"),
        layer=event.get("layer"),
        operation=event.get("operation"),
        row=rows[0] if is_input and len(rows) == 1 else None,
        column=columns[0] if is_input else None,
    )
