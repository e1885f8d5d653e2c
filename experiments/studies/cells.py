"""What a study consists of: cells, each a model trained once on one data set with one seed, and all drawn from it."""

from dataclasses import dataclass, field
from typing import Any

from experiments.config import Config

TRAINED = ""  # the variant that a model is trained with


@dataclass(frozen=True)
class Cell:
    """One trained model and all that is drawn from it: `configs` by variant, that of the training under `TRAINED`.

    `same` names, for each variant that asks for what another one asks for already, that other one.
    """

    data: str
    model: str
    seed: int
    configs: dict[str, Config]
    same: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Data, model and seed in one word."""
        return f"{self.data}-{self.model}-{self.seed}"

    def run_name(self, variant: str) -> str:
        """The name of the run of a variant."""
        return "-".join(filter(None, (self.name, variant)))


@dataclass(frozen=True)
class Study:
    """A study in one size: its texts and cells, what of its file was used, and the command that repeats it."""

    name: str
    size: str
    title: str
    about: str
    report: str
    cells: list[Cell]
    variants: list[str]
    source: dict[str, Any] = field(default_factory=dict)
    command: str = ""

    @property
    def data(self) -> list[str]:
        """The names of the data, in their order."""
        return list(dict.fromkeys(cell.data for cell in self.cells))

    @property
    def seeds(self) -> list[int]:
        """The seeds, in their order."""
        return list(dict.fromkeys(cell.seed for cell in self.cells))
