"""Model files in MLflow: fetch one by its URI, log one as a pyfunc model with its scores, register it with a card."""

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib import import_module
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.tables import for_ui
from geovae.adapters import KINDS, class_names
from geovae.saved_model import SavedModel, load_model
from geovae.tracking import EXTERNAL, log_model
from mlflow_projects.registry.card import card
from mlflow_projects.registry.evidence import Evidence

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

NAME = "geovae"
CHAMPION, PREVIOUS = "champion", "previous"
CODE = Path(__file__).parent / "registered_model.py"
PACKAGE = Path(__file__).parents[2] / "geovae"
NEEDED = ("mlflow", "numpy", "pillow", "safetensors", "scikit-learn", "scipy", "torch")


def fetch_model(uri: str) -> Path:
    """Return the local path of a model file, downloaded if necessary.

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
        with quiet():
            path = Path(mlflow.artifacts.download_artifacts(where))
        # by name: the copy of the package beside it has weights of its own
        return path if path.is_file() else next(path.rglob("model.safetensors"))
    except (MlflowException, OSError, StopIteration) as error:
        raise FileNotFoundError(f"no model at {uri}: {' '.join(str(error).split())}") from error


def register(run_id: str, evidence: Evidence, name: str = NAME) -> "ModelVersion":
    """Upload a run's model file to the run's logged model, and register it; return the version.

    The version's tags are the `evidence`, its description is the card.
    """
    import mlflow

    client = mlflow.MlflowClient()
    run = client.get_run(run_id)
    file = fetch_model(f"runs:/{run_id}")
    saved = load_model(file)
    model_id = log_model(client, run_id, name, _scores_of_model(run.data.metrics))
    if EXTERNAL in client.get_logged_model(model_id).tags:
        _upload(model_id, file, saved)
    text = for_ui(card(saved.meta, run, evidence))
    _make_registered_model(client, name)
    with quiet():  # its messages would repeat those of the caller
        made = mlflow.register_model(f"models:/{model_id}", name, tags=evidence.tags())
    client.update_model_version(name, made.version, description=text)
    return client.get_model_version(name, made.version)


def _upload(model_id: str, file: Path, saved: SavedModel) -> None:
    """Give a logged model its files: a pyfunc model, as code and without pickle."""
    import mlflow

    packages, code = _foreign_code(saved.meta)
    with quiet():
        mlflow.pyfunc.log_model(
            model_id=model_id,
            python_model=str(CODE),
            artifacts={"model": str(file)},
            code_paths=[str(PACKAGE), *map(str, code)],
            # without this, MLflow would start a process to find out what the code imports
            pip_requirements=[f"{package}=={version(package).partition('+')[0]}" for package in (*NEEDED, *packages)],
            signature=_signature(saved),
            input_example=_example(saved),
        )


def _foreign_code(meta: Mapping[str, Any]) -> tuple[list[str], list[Path]]:
    """Return the packages, and the files and folders, that build a model from elsewhere; nothing for one of ours."""
    if meta["model"] not in KINDS:
        return [], []
    packages = [meta["model"]] if meta["model"] != "weights" else []
    code: list[Path] = []
    names = {target.partition(":")[0].partition(".")[0] for target in class_names(meta["options"])}
    for name in sorted(names):
        if name in (installed := packages_distributions()):
            packages.append(installed[name][0])
        else:  # a file or folder of the user's own
            module = import_module(name)
            code += map(Path, getattr(module, "__path__", None) or [str(module.__file__)])
    return list(dict.fromkeys(packages)), code


def _make_registered_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    about = (
        "Autoencoders that draw images from their latent geometry. The alias `champion` is the best version so far, "
        "`previous` the one before it; the description of a version is its card."
    )
    # created first: `register_model` would create it without a description
    try:
        client.create_registered_model(name, description=about)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _scores_of_model(metrics: Mapping[str, float]) -> dict[str, str]:
    """Return the split, test or val, that each score of the model was measured against."""
    test = {key: "test" for key in metrics if re.fullmatch(r"score/(?!real_)[^/]+", key)}
    return test | {key: "val" for key in metrics if key.startswith("best/") and key != "best/epoch"}


def _signature(saved: SavedModel) -> Any:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    params = [
        ParamSpec("mode", DataType.string, "draw"),
        ParamSpec("n", DataType.long, 16),
        ParamSpec("sampler", DataType.string, saved.meta["best_sampler"]),
        ParamSpec("seed", DataType.long, 0),
        ParamSpec("format", DataType.string, "array"),
    ]
    if saved.codes.labels is not None:
        params.append(ParamSpec("labels", DataType.long, [], (-1,)))
    images = TensorSpec(np.dtype("uint8"), (-1, *outside(saved.meta["image_shape"])))
    return ModelSignature(outputs=Schema([images]), params=ParamSchema(params))


def outside(image_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of one image for users: (h, w, c), or (x, y, z) for a volume."""
    first, *rest = image_shape
    return (*rest, first) if first in (1, 3) else (first, *rest)


def _example(saved: SavedModel) -> tuple[Any, dict[str, Any]]:
    """Return an example request for the registry's page: reconstruct two decoded images as PNG files."""
    images = saved.decode(saved.codes.mu[:2])
    arrays = images.movedim(1, -1) if images.shape[1] in (1, 3) else images
    return arrays.numpy(), {"mode": "reconstruct", "format": "png"}


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress MLflow's progress bars, messages and warnings about models: all of them are on stderr."""
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
