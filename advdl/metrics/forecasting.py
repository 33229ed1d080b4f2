"""Forecasts against what came, and the methods that cost nothing. Axes: B windows, T values of
history, H steps ahead."""

from collections.abc import Callable, Mapping

import flax.struct
import numpy as np

from advdl.metrics.base import Mean
from advdl.metrics.sequence import ByStep


@flax.struct.dataclass
class RootMean(Mean):
    """The root of a mean of squares."""

    def compute(self) -> float:
        """On the host; NaN where nothing was counted."""
        return float(np.sqrt(super().compute()))


@flax.struct.dataclass
class RootByStep(ByStep):
    """The root of a mean of squares for every step."""

    def compute(self) -> np.ndarray:
        """(T,) float64 on the host; NaN where nothing was counted."""
        return np.sqrt(super().compute())


def persistence(history_BT: np.ndarray, horizon: int, season: int = 1) -> np.ndarray:
    """(B, H): the last value, for every step ahead."""
    return np.repeat(history_BT[:, -1:], horizon, 1)


def seasonal_naive(history_BT: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """(B, H): the value one season before, of the last season that is known. Raises ValueError for
    a shorter history."""
    if history_BT.shape[1] < season:
        raise ValueError(
            f"a history of {history_BT.shape[1]} values does not hold a season of {season}"
        )
    return history_BT[:, history_BT.shape[1] - season + np.arange(horizon) % season]


def seasonal_drift(history_BT: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """(B, H): the same, and for every season ahead the change over the last one; `seasonal_naive`
    where no value is known a season before the last."""
    naive = seasonal_naive(history_BT, horizon, season)
    if history_BT.shape[1] <= season:
        return naive
    change = history_BT[:, -1:] - history_BT[:, -1 - season : -season]
    return naive + change * (1 + np.arange(horizon) // season)[None]


BASELINES: Mapping[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "persistence": persistence,
    "seasonal-naive": seasonal_naive,
    "seasonal-naive with drift": seasonal_drift,
}


def horizon_errors(mae_H: np.ndarray, rmse_H: np.ndarray, scale: float) -> dict[str, float]:
    """`mae_first_step`, `rmse_first_step` and `mase_first_step`, and where there are several steps
    ahead the same of `last_step` and of `all_steps`.

    mae_H, rmse_H: errors by steps ahead. scale: the mean absolute error of seasonal-naive over the
    training values, by which the mean absolute scaled error is scaled (Hyndman & Koehler 2006, for
    seasonal series).
    """
    columns = {"first_step": slice(1), "last_step": slice(-1, None), "all_steps": slice(None)}
    found = {}
    for column, steps in columns.items() if len(mae_H) > 1 else [("first_step", slice(1))]:
        found[f"mae_{column}"] = mae = float(np.mean(mae_H[steps]))
        found[f"rmse_{column}"] = float(np.sqrt(np.mean(np.square(rmse_H[steps]))))
        found[f"mase_{column}"] = mae / scale if scale else float("nan")
    return found


def error_quantiles(error_NH: np.ndarray, share: float) -> np.ndarray:
    """(2, H): between these lie the middle `share` of the errors of every step ahead. Added to a
    forecast they make an interval that holds as long as the errors are like these."""
    return np.quantile(error_NH, [0.5 - share / 2, 0.5 + share / 2], axis=0)


def skill(error: float, reference: float) -> float:
    """1 - MSE / MSE of the reference, from root mean square errors: 1 is perfect, 0 no better,
    below 0 worse; NaN where the reference is perfect."""
    return 1 - (error / reference) ** 2 if reference > 0 else float("nan")
