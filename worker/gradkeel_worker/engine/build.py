"""From config and prepared data to the objects of a run. The only reader of the tables of parts."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gradkeel.contract import config as contract
from gradkeel.contract.config import TrainConfig
from gradkeel.contract.errors import ConfigError, FieldError
from gradkeel_worker.data import Part, Prepared
from gradkeel_worker.diagnosis.importance import source_columns
from gradkeel_worker.diagnosis.pinball import pinball_losses
from gradkeel_worker.engine.averaging import Averaged
from gradkeel_worker.engine.batches import Batches, Taken, Tensors
from gradkeel_worker.engine.checkpoint import bond
from gradkeel_worker.engine.keeper import Keeper
from gradkeel_worker.engine.last_good import LastGood
from gradkeel_worker.engine.monitor import Monitor
from gradkeel_worker.engine.objective import Objective, as_model, takes_weight
from gradkeel_worker.engine.parameters import Parameters, flatten
from gradkeel_worker.engine.precision import PRECISIONS
from gradkeel_worker.engine.run import Hooks, Run
from gradkeel_worker.engine.view import StepView
from gradkeel_worker.losses import LOSSES, OwnLossOfMembers
from gradkeel_worker.models import MODELS, NUMERIC_EMBEDDINGS, Ensemble, Inputs, Network
from gradkeel_worker.models.ensemble import Link
from gradkeel_worker.models.numeric import NumericEmbedding
from gradkeel_worker.models.sequence import SequenceNetwork
from gradkeel_worker.optimizers import OPTIMIZERS, Optimizer
from gradkeel_worker.probes import PROBES, of_tier
from gradkeel_worker.probes.work import Work
from gradkeel_worker.schedules import SCHEDULES
from gradkeel_worker.stabilizers import CLIPS, GUARDS
from gradkeel_worker.stabilizers.clips import LIMITS
from gradkeel_worker.stabilizers.guards import NEEDS

SIDE_ROWS = 128
"""Rows of the fixed batch that probes run passes of their own over."""

_LOSSES_OF_TASK = {
    "regression": contract.REGRESSION_LOSSES,
    "binary": ("bce", "focal"),
    "multiclass": ("cross_entropy", "focal"),
    "quantile": ("quantile",),
    "forecast": contract.REGRESSION_LOSSES,
}


def build(
    prepared: Prepared,
    config: TrainConfig,
    *,
    loss: Callable[..., Tensor] | None = None,
    model: nn.Module | None = None,
    hooks: Hooks | None = None,
    probes: tuple[str, ...] | None = None,
) -> Run:
    """Build a run. torch's generator is seeded with ``config.seed`` here, for initialisation and dropout.

    ``loss`` and ``model`` replace the config's. ``probes``: names instead of the tier's.

    Raises:
        ConfigError: a loss for another task, too few rows, no such device.
        ValueError: the caller's own model or loss does not suit the data.
    """
    torch.manual_seed(config.seed)
    device = choose_device(config.device)
    module = build_model(prepared, config) if model is None else _own(model, prepared)
    module = module.to(device)
    function = build_loss(prepared, config, loss)
    if isinstance(function, nn.Module):
        function = function.to(device)
    train = Tensors.of(prepared.train, device)
    smallest = _smallest_batch(module, config)
    if len(train.y) < smallest:
        raise _refusal("/split", "too_few_rows", f"{len(train.y)} training rows are too few for this model")
    batches = Batches(train, config.budget.batch_size, config.seed, smallest)
    parameters = flatten(module)
    optimizer: Optimizer = OPTIMIZERS[config.optimizer.kind](
        config.optimizer, parameters.values, parameters.gradient
    )
    if config.budget.ema is not None:
        optimizer = Averaged(optimizer, parameters.values, config.budget.ema)
    view = StepView(
        module,
        parameters,
        _side_batch(train, config.seed),
        objective=Objective(module, function),
        columns={name: (place.x, place.c) for name, place in source_columns(prepared).items()},
        optimizer=optimizer,
        seed=config.seed,
    )
    goes_back = any(isinstance(guard, contract.Rollback) for guard in config.guards)
    steps = config.budget.epochs * len(batches)
    precision = PRECISIONS[config.precision](device)
    validated = len(prepared.validation.y) > 0
    monitor = Monitor(
        view,
        _needed(config, of_tier(config.health.tier) if probes is None else probes),
        Work(steps, batches.sizes[0], SIDE_ROWS, parameters.values.numel(), len(parameters.layers)),
        [(clip.kind, LIMITS[clip.kind](clip)) for clip in config.clips],
    )
    return Run(
        model=module,
        objective=Objective(module, function, precision.forward),
        precision=precision,
        parameters=parameters,
        optimizer=optimizer,
        schedule=SCHEDULES[config.schedule.kind](config.schedule, steps),
        lr=config.optimizer.lr,
        clips=[CLIPS[clip.kind](clip) for clip in config.clips],
        guards=[GUARDS[guard.kind](guard) for guard in config.guards],
        monitor=monitor,
        readings=monitor.readings(),
        view=view,
        batches=batches,
        validation=Tensors.of(prepared.validation, device) if validated else None,
        usable=usable_rows(prepared.validation),
        rows=prepared.train.rows,
        input_names=[item.name for item in prepared.inputs],
        score=_score(prepared),
        keeper=Keeper(module, parameters, validated=validated),
        last_good=LastGood(module, parameters, optimizer) if goes_back else None,
        budget=config.budget,
        device=device,
        belongs=lambda: bond(prepared, config, _names(parameters, model, loss)),
        judged_weights=optimizer.in_place if isinstance(optimizer, Averaged) else nullcontext,
        hooks=hooks or Hooks(),
    )


def build_model(prepared: Prepared, config: TrainConfig) -> Network:
    """The config's model for the prepared columns, with what ``freeze`` names frozen."""
    categories = tuple((len(category.levels) + 1, category.width) for category in prepared.categories)
    embedding = _numeric_embedding(prepared, config)
    inputs = Inputs(prepared.train.x.shape[1], categories, embedding)
    network = MODELS[config.model.kind](config.model, inputs, prepared.outputs)
    if isinstance(network, Ensemble):
        network.link = _link(prepared)
    if isinstance(network, SequenceNetwork) and prepared.reference is not None:
        network.change_from(prepared.reference)
    if prepared.start is not None:
        _begin_with(network, prepared.start)
    _freeze(network, getattr(config.model, "freeze", ()))
    return network


def _begin_with(network: Network, start: Mapping[str, NDArray[Any]]) -> None:
    """Give the network the weights of an earlier one."""
    weights = {name: torch.from_numpy(np.array(array)) for name, array in start.items()}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        detail = f"the weights of the earlier model do not fit: {error}; train anew without model_id"
        raise _refusal("/model_id", "conflict", detail) from error


def _link(prepared: Prepared) -> Link:
    """What the outputs are, for a mean over several models."""
    links: dict[str, Link] = {"binary": "logit", "multiclass": "softmax"}
    return links.get(prepared.task, "log" if prepared.target.link == "log" else "identity")


def _numeric_embedding(prepared: Prepared, config: TrainConfig) -> NumericEmbedding | None:
    """The embedding of the columns of x that are numbers; they stand before indicators and one-hot ones."""
    columns = prepared.preparation.numbers
    if not columns:
        return None
    block, train = config.prepare.embedding, prepared.train
    if prepared.start is not None and isinstance(block, contract.PiecewiseLinear):
        return _blank_bins(block, columns, prepared.start["numeric.weight"].shape[1])
    return NUMERIC_EMBEDDINGS[block.kind](block, train.x[:, :columns], train.y)


def _blank_bins(block: contract.PiecewiseLinear, columns: int, bins: int) -> NumericEmbedding | None:
    """An embedding of so many bins, whose edges the weights of an earlier model bring."""
    ramp = np.repeat(np.arange(bins + 1, dtype=np.float32)[:, None], columns, axis=1)
    evenly = dataclasses.replace(block, bins=bins, by="quantiles")
    return NUMERIC_EMBEDDINGS[block.kind](evenly, ramp, ramp[:, 0])


def build_loss(
    prepared: Prepared, config: TrainConfig, loss: Callable[..., Tensor] | None = None
) -> Callable[..., Tensor]:
    """The config's loss (ConfigError where it does not suit the task) or the caller's own (ValueError where
    the data has row weights and it takes none)."""
    if loss is not None:
        if prepared.train.weight is not None and not takes_weight(loss):
            raise ValueError("the data has row weights, but the given loss takes no parameter called weight")
        return OwnLossOfMembers(loss) if isinstance(config.model, contract.TabM) else loss
    suitable = _LOSSES_OF_TASK[prepared.task]
    if config.loss.kind not in suitable:
        detail = f"a {prepared.task} task cannot use {config.loss.kind}; use {' or '.join(suitable)}"
        raise _refusal("/loss/kind", "conflict", detail)
    if (config.loss.kind == "poisson") != (prepared.target.link == "log") and prepared.classes is None:
        raise ValueError("the data was prepared for another loss: poisson has the target scaled its own way")
    counts: list[int] = []
    if prepared.task == "multiclass":
        counts = np.bincount(prepared.train.y, minlength=len(prepared.classes or ())).tolist()
    return LOSSES[config.loss.kind](config.loss, counts)


def choose_device(name: str) -> torch.device:
    """ "auto": an accelerator where there is one. Raises ConfigError for cuda without one."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise _refusal(
            "/device", "conflict", 'torch finds no CUDA device on this worker; use "auto" or "cpu"'
        )
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def usable_rows(part: Part) -> NDArray[np.bool_] | None:
    """Rows with finite inputs alone, [n]; None where all are. Others occur under missing: propagate."""
    finite = part.finite_rows()
    return None if finite.all() else finite


def _names(parameters: Parameters, *own: Any) -> str:
    """The layers with their sizes, and what the caller's own model and loss are called."""
    called = [
        None if each is None else getattr(each, "__qualname__", type(each).__qualname__) for each in own
    ]
    return repr(([(layer.name, layer.size) for layer in parameters.layers], called))


def _own(model: nn.Module, prepared: Prepared) -> nn.Module:
    """The caller's model, copied: training does not change the module that was passed in."""
    return as_model(copy.deepcopy(model), categories=len(prepared.categories))


def _freeze(network: Network, names: tuple[str, ...]) -> None:
    known = network.layer_names()
    unknown = [name for name in names if name not in known]
    if unknown:
        detail = f"there is no layer {', '.join(unknown)}; layers: {', '.join(known)}"
        raise _refusal("/model/freeze", "unknown_name", detail)
    if set(known) <= set(names):
        raise _refusal("/model/freeze", "conflict", "every layer is frozen: there is nothing to train")
    for name, parameter in network.named_parameters():
        if network.layer_of(name) in names:
            parameter.requires_grad_(False)


def _smallest_batch(model: nn.Module, config: TrainConfig) -> int:
    """Batch norm cannot take a single row in training."""
    if not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules()):
        return 1
    if config.budget.batch_size < 2:
        detail = "batch normalisation needs batches of two rows or more; or use layer normalisation"
        raise _refusal("/budget/batch_size", "conflict", detail)
    return 2


def _refusal(pointer: str, code: str, detail: str) -> ConfigError:
    return ConfigError([FieldError(pointer, code, detail)])


def _needed(config: TrainConfig, chosen: tuple[str, ...]) -> tuple[str, ...]:
    """The chosen probes, those that they need, and those that guards need, in the table's order."""
    wanted = {*chosen, *(needed for name in chosen for needed in PROBES[name].needs)}
    wanted |= {needed for guard in config.guards for needed in NEEDS[guard.kind]}
    return tuple(name for name in PROBES if name in wanted)


def _side_batch(train: Tensors, seed: int) -> Taken:
    """A fixed choice of training rows, drawn from a generator of its own."""
    chosen = np.random.default_rng((seed, SIDE_ROWS)).permutation(len(train.y))[:SIDE_ROWS]
    return train.take(torch.from_numpy(np.sort(chosen)).to(train.x.device))


def _score(prepared: Prepared) -> Callable[[NDArray[np.float64]], dict[str, float]]:
    """The metric shown after each epoch, in target units: rmse, of several targets their mean, or the pinball
    loss; accuracy of classes."""
    actual = prepared.validation.y_raw
    finite: Any = usable_rows(prepared.validation)
    kept = slice(None) if finite is None else finite

    def rmse(outputs: NDArray[np.float64]) -> dict[str, float]:
        error = prepared.in_target_units(outputs[kept]) - actual[kept]
        return {"rmse": float(np.mean(np.sqrt(np.mean(error**2, axis=0))))}

    def pinball(outputs: NDArray[np.float64]) -> dict[str, float]:
        predicted = prepared.in_target_units(outputs[kept])
        return {"pinball": float(pinball_losses(actual[kept], predicted, prepared.levels).mean())}

    def accuracy(outputs: NDArray[np.float64]) -> dict[str, float]:
        predicted = outputs[kept, 0] > 0 if outputs.shape[1] == 1 else outputs[kept].argmax(1)
        return {"accuracy": float(np.mean(predicted == actual[kept]))}

    return {"regression": rmse, "quantile": pinball}.get(prepared.task, accuracy)
