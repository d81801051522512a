"""Readings survive their round trip through bytes, non-finite values included."""

import numpy as np

from gradkeel_worker.engine.readings import Readings


def test_round_trip_keeps_every_field() -> None:
    readings = Readings(
        steps=np.arange(3),
        loss=np.array([1.0, np.nan, np.inf]),
        skipped=np.array([False, True, True]),
        layers=("layers.0", "output"),
        layer_sizes=(6, 3),
        layer_norm=np.ones((3, 2), np.float32),
        sparse={"dead_fraction": (np.array([0, 2]), np.zeros((2, 1), np.float32), ("layers.0",))},
        clipping=[{"kind": "norm", "limit": 1.0, "fired": np.array([True, False, False])}],
        interventions=[
            {"step": np.int64(1), "action": "skip", "reason": "loss is NaN", "effect": "no update"}
        ],
        nonfinite_event={"step": 1, "what": "loss", "rows": np.array([4, 5])},
        initial={"loss": 1.0},
        best_epoch=0,
    )
    again = Readings.from_bytes(readings.to_bytes())
    np.testing.assert_array_equal(again.loss, readings.loss)
    np.testing.assert_array_equal(again.layer_norm, readings.layer_norm)
    assert again.layers == ("layers.0", "output") and again.layer_sizes == (6, 3)
    assert again.sparse["dead_fraction"][2] == ("layers.0",)
    np.testing.assert_array_equal(again.clipping[0]["fired"], [True, False, False])
    assert again.clipping[0]["kind"] == "norm"
    assert again.interventions[0]["step"] == 1
    assert again.nonfinite_event == {"step": 1, "what": "loss", "rows": [4, 5]}
    assert again.best_epoch == 0 and again.stopped_by is None
