"""What is asked of the cluster, and why it may have no result; importable without Ray, which takes seconds to load."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from experiments.config import Config


@dataclass(frozen=True)
class Task:
    """One run: a resolved configuration with its place and tags.

    `model_file` is a trained model to draw from and to judge; without it one is trained. `folder` is the run's folder
    below the storage, by default its name; a run resumes from a checkpoint that it finds there. `tags` are added to the
    run's.
    """

    config: Config
    model_file: str | None = None
    folder: str = ""
    tags: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """Why a run has no result."""

    state: str
    reason: str
