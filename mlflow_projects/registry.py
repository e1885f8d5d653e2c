"""Model files in MLflow: fetch one by its URI, log one as a pyfunc model, register it and move the alias."""

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.judge import Result
from geovae.checkpoint import load

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

NAME = "geovae"
CHAMPION = "champion"
CODE = Path(__file__).parent / "registered_model.py"
PACKAGE = Path(__file__).parents[1] / "geovae"
NEEDED = ("mlflow", "numpy", "pillow", "safetensors", "scikit-learn", "scipy", "torch")


def fetch_model(uri: str) -> Path:
    """Return a local path of the model file that `uri` names.

    `uri` is a file, `models:/geovae@champion`, `models:/geovae/3`, `runs:/RUN_ID` or a run id.

    Raises:
        FileNotFoundError: if there is none.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    if Path(uri).is_file():
        return Path(uri)
    if re.fullmatch(r"[0-9a-f]{32}", uri):
        uri = f"runs:/{uri}"
    if not uri.startswith(("runs:/", "models:/")):
        raise FileNotFoundError(f"no model at {uri!r}: give a file, models:/{NAME}@{CHAMPION}, or runs:/RUN_ID")
    where = f"{uri.rstrip('/')}/model/model.safetensors" if uri.startswith("runs:/") else uri
    try:
        path = Path(mlflow.artifacts.download_artifacts(where))
        return path if path.is_file() else next(path.rglob("*.safetensors"))
    except (MlflowException, OSError, StopIteration) as error:
        raise FileNotFoundError(f"no model at {uri}: {' '.join(str(error).split())}") from error


def register(result: Result, name: str = NAME) -> "ModelVersion":
    """Log a run's model file as a pyfunc model without pickle, register it as `name`, return the version.

    The version's tags say how it was judged: `headline`, `score`, `digest` (of the data) and `n`.
    """
    import mlflow

    meta = load(result.model_file)[1]
    scores = result.val_scores[result.best_sampler]
    with mlflow.start_run(run_id=result.run_id):
        info = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(CODE),
            artifacts={"model": str(result.model_file)},
            code_paths=[str(PACKAGE)],
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in NEEDED],
            signature=_signature(meta),
        )
    judged = {
        "headline": result.headline,
        "score": f"{scores[result.headline]:.6g}",
        "sampler": result.best_sampler,
        "model": meta["model"],
        "digest": meta["digest"],
        "n": f"{scores['n']:.0f}",
    }
    return mlflow.register_model(info.model_uri, name, tags=judged)


def promote_if_better(candidate: "ModelVersion") -> str:
    """Give `candidate` the alias `champion` unless a champion judged in the same way is better; say what was done."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    try:
        champion = client.get_model_version_by_alias(candidate.name, CHAMPION)
    except MlflowException:
        champion = None
    if champion is not None and _beats(champion.tags, candidate.tags):
        return (
            f"version {champion.version} stays {CHAMPION}: {champion.tags['headline']} {champion.tags['score']} "
            f"against {candidate.tags['score']}"
        )
    client.set_registered_model_alias(candidate.name, CHAMPION, candidate.version)
    return f"it is the {CHAMPION} now: models:/{candidate.name}@{CHAMPION}"


def _beats(champion: Mapping[str, str], candidate: Mapping[str, str]) -> bool:
    """Return whether both were judged alike and the champion's score is strictly lower."""
    alike = all(champion.get(key) == candidate.get(key) for key in ("headline", "digest", "n"))
    return alike and float(champion["score"]) < float(candidate["score"])


def _signature(meta: Mapping[str, Any]) -> Any:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    channels, height, width = meta["image_shape"]
    params = [
        ParamSpec("n", DataType.long, 16),
        ParamSpec("sampler", DataType.string, meta["best_sampler"]),
        ParamSpec("seed", DataType.long, 0),
    ]
    images = TensorSpec(np.dtype("uint8"), (-1, height, width, channels))
    return ModelSignature(outputs=Schema([images]), params=ParamSchema(params))
