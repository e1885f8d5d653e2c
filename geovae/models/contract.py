"""What a model declares about itself: the names that it records, and how the contract tests train it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LOSS: Mapping[str, str] = {
    "loss": "what training minimises [squared error or nats, summed over pixels, mean over images]; lower is better"
}
"""What every model records of an epoch: name -> meaning, with the unit in brackets."""

PARTS: Mapping[str, str] = {
    **LOSS,
    "reconstruction": (
        "its reconstruction part [squared error or nats, summed over pixels, mean over images]; lower is better"
    ),
}
"""The same of a loss of several parts."""


@dataclass(frozen=True)
class Toy:
    """How the contract tests train a model on images of 8x8 pixels, and the error that they allow it.

    Args:
        options: of the model. Default weights suit images of 1024 pixels, and are too large for 64.
        overfit_options: under which the model can learn eight images of 32x32 pixels by heart.
        epochs: of the training.
        learning_rate: of the training.
        error: largest squared error of held-out images, in parts of that of the mean image.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    overfit_options: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 30
    learning_rate: float = 5e-3
    error: float = 1 / 3
