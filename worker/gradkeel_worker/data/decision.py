"""From the probabilities of a model to those that are told, and from these to a class."""

from dataclasses import dataclass

import numpy as np

from gradkeel_worker.data.table import Array, Integers


@dataclass(frozen=True)
class Decision:
    """What the validation part decided about a classifier's answers.

    ``temperature`` T > 0: class k is given p_kᵀ' / Σ p_jᵀ', T' = 1/T, which is what dividing the logits by T
    gives (Guo et al. 2017). ``threshold``: the second of two classes is named where its probability is above;
    None: the likelier class is.
    """

    temperature: float | None = None
    threshold: float | None = None

    def probabilities(self, given: Array) -> Array:
        """The probabilities that are told, float64 [n, classes], of the model's own."""
        return given if self.temperature is None else tempered(given, self.temperature)

    def classes(self, told: Array) -> Integers:
        """The class that is named for each row, [n], by the probabilities that are told."""
        if self.threshold is None:
            return np.asarray(told.argmax(axis=1))
        return (told[:, 1] > self.threshold).astype(np.int64)


def tempered(probabilities: Array, temperature: float) -> Array:
    """softmax(log p / T): flatter above T = 1, sharper below; [n, classes]."""
    raised = np.asarray(probabilities, np.float64) ** (1.0 / temperature)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
