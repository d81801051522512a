"""The gradient check: right backwards pass, wrong ones are caught, kinks and dead paths are told apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradkeel_worker.diagnosis.gradient_check import STEPS, check_gradients


def _batch(rows: int = 32, columns: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, columns, generator=generator)
    return x, torch.zeros(rows, 0, dtype=torch.int64), torch.randn(rows, 1, generator=generator)


class _Net(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.net(x)


def _net(activation: type[nn.Module] = nn.ReLU, **options: Any) -> _Net:
    torch.manual_seed(0)
    return _Net(nn.Linear(5, 16), activation(), nn.Dropout(0.5), nn.Linear(16, 1))


class _Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, prediction: Tensor, target: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(prediction, target)
        ctx.factor = factor
        return ((prediction - target) ** 2).mean()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        prediction, target = ctx.saved_tensors
        return ctx.factor * grads[0] * 2 * (prediction - target) / prediction.numel(), None, None


class WrongLoss(nn.Module):
    """A squared error whose backward is off by a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return _Wrong.apply(prediction, target, self.factor)


def _statuses(result: Any) -> set[str]:
    return {outcome["status"] for outcome in result["parameters"].values()}


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SELU])
@pytest.mark.parametrize("loss", [nn.functional.huber_loss, nn.functional.mse_loss, nn.functional.l1_loss])
def test_right_backwards_pass(activation: type[nn.Module], loss: Any) -> None:
    result = check_gradients(_net(activation), loss, *_batch())
    assert _statuses(result) == {"pass"}
    assert max(p["relative_error"] for p in result["parameters"].values()) < 1e-5


@pytest.mark.parametrize("factor", [1.01, 0.99, -1.0, 1.0001])
def test_a_backward_that_is_slightly_off_is_caught_in_every_parameter(factor: float) -> None:
    result = check_gradients(_net(), WrongLoss(factor), *_batch())
    assert _statuses(result) == {"fail"}
    for outcome in result["parameters"].values():
        expected = abs(factor - 1) / max(abs(factor), 1)
        assert outcome["relative_error"] == pytest.approx(expected, rel=0.05)


def test_a_right_custom_backward_passes() -> None:
    assert _statuses(check_gradients(_net(), WrongLoss(1.0), *_batch())) == {"pass"}


class _WrongLayer(nn.Module):
    """A linear layer whose weights get 1.01 times their gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, 16), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        inflated = self.weight * 1.01 - (self.weight * 0.01).detach()
        return x @ inflated.T


def test_the_layer_with_the_wrong_backward_is_named() -> None:
    torch.manual_seed(0)
    model = _Net(nn.Linear(5, 16), nn.Tanh(), _WrongLayer())
    result = check_gradients(model, nn.functional.mse_loss, *_batch())
    failed = [name for name, outcome in result["parameters"].items() if outcome["status"] == "fail"]
    assert failed == ["net.2.weight"]


def test_a_kink_at_the_point_itself_is_reported_and_not_failed() -> None:
    model = _Net(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1))
    nn.init.zeros_(model.net[0].weight)  # every unit stands exactly on relu's kink
    nn.init.zeros_(model.net[0].bias)
    result = check_gradients(model, nn.functional.mse_loss, *_batch())
    assert result["parameters"]["net.0.bias"]["status"] == "kink"
    assert "fail" not in _statuses(result)


def test_a_path_without_gradient_is_dead_and_not_passed() -> None:
    model = _Net(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1))
    nn.init.constant_(model.net[0].bias, -100.0)
    result = check_gradients(model, nn.functional.mse_loss, *_batch())
    assert result["parameters"]["net.0.weight"]["status"] == "dead"
    assert result["parameters"]["net.2.bias"]["status"] == "pass"


def test_batch_norm_is_checked_as_it_trains() -> None:
    torch.manual_seed(0)
    model = _Net(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))
    result = check_gradients(model, nn.functional.mse_loss, *_batch())
    assert "fail" not in _statuses(result)
    # The bias before batch norm has no effect at all: a dead path.
    assert result["parameters"]["net.0.bias"]["status"] in ("dead", "kink")


def test_nothing_of_the_model_or_the_random_state_changes() -> None:
    model = _net().train()
    weights = [p.detach().clone() for p in model.parameters()]
    state = torch.get_rng_state()
    check_gradients(model, nn.functional.mse_loss, *_batch())
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert model.training


def test_a_random_loss_is_refused() -> None:
    def noisy(prediction: Tensor, target: Tensor) -> Tensor:
        return ((prediction - target) ** 2).mean() + torch.randn(()).double()

    with pytest.raises(ValueError, match="changes from one evaluation to the next"):
        check_gradients(_net(), noisy, *_batch())


def test_the_sweep_shows_the_u_curve() -> None:
    sweep = check_gradients(_net(nn.Tanh), nn.functional.mse_loss, *_batch())["h_sweep"]
    assert [point["h"] for point in sweep] == list(STEPS)
    central = [point["central"] for point in sweep]
    assert min(central) < central[0]
    assert min(central) < central[-1]
    # Central differences are more exact than forward ones at their best.
    assert min(central) < min(point["forward"] for point in sweep)


def test_classes_and_weights_of_classes() -> None:
    torch.manual_seed(0)
    model = _Net(nn.Linear(5, 16), nn.GELU(), nn.Linear(16, 3))
    x, c, _ = _batch()
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5]), label_smoothing=0.1)
    assert _statuses(check_gradients(model, loss, x, c, torch.arange(32) % 3)) == {"pass"}


def _deep(activation: type[nn.Module], std: float) -> _Net:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for width in (5, *[16] * 7):
        layers += [nn.Linear(width, 16), activation()]
    net = _Net(*layers, nn.Linear(16, 1))
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=std) if parameter.ndim > 1 else nn.init.zeros_(parameter)
    return net


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.SiLU])
@pytest.mark.parametrize("std", [1e-2, 3e-2, 1e-1])
def test_gradients_too_small_to_measure_are_no_mismatch(activation: type[nn.Module], std: float) -> None:
    result = check_gradients(_deep(activation, std), nn.functional.mse_loss, *_batch())
    assert "fail" not in _statuses(result)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.SiLU])
@pytest.mark.parametrize("factor", [0.99, 1.01, -1.0])
def test_a_wrong_backward_is_caught_at_any_depth(activation: type[nn.Module], factor: float) -> None:
    for depth in (1, 3, 6):
        torch.manual_seed(depth)
        layers: list[nn.Module] = []
        for width in (5, *[32] * (depth - 1)):
            layers += [nn.Linear(width, 32), activation()]
        result = check_gradients(_Net(*layers, nn.Linear(32, 1)), WrongLoss(factor), *_batch(64))
        assert _statuses(result) == {"fail"}


def _log_of_a_margin(model: _Net, margin: float) -> Any:
    """A loss of log(prediction − least prediction + margin): a larger step leaves its domain."""
    x, c, y = _batch()
    least = float(model.double().eval()(x.double(), c).min().detach())
    model.float().train()
    return lambda prediction, target: (prediction - least + margin).log().mean(), (x, c, y)


def test_steps_that_leave_the_domain_of_a_logarithm_tell_of_no_mismatch() -> None:
    model = _Net(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
    loss, batch = _log_of_a_margin(model, 1e-3)
    assert "fail" not in _statuses(check_gradients(model, loss, *batch))


def test_autograd_that_gives_nan_where_the_loss_is_finite_fails() -> None:
    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        zero = (prediction - prediction).abs()
        return (prediction**2).mean() + torch.where(zero > 0, zero.sqrt(), 0 * zero).mean()

    assert "fail" in _statuses(check_gradients(_net(nn.Tanh), loss, *_batch()))


def test_a_loss_too_steep_for_any_step_is_not_judged() -> None:
    model = _Net(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
    steep = check_gradients(model, lambda prediction, target: (1e11 * prediction).cos().mean(), *_batch())
    assert "fail" not in _statuses(steep)
