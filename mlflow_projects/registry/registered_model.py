"""The registered model as code: MLflow executes this file to load it; weights and codes are one safetensors file.

`predict(None, params={"mode": "draw", "n": 16, "sampler": "riemannian", "seed": 0})` returns uint8 images (n, h, w, c).
The other modes take an input: `encode` and `reconstruct` images, `decode` latents, `interpolate` two of either. A
version carries a copy of this file and of the package `geovae`, and nothing else of the project.
"""

import base64
import binascii
import io
import json
import logging
import math
import sys
from functools import lru_cache
from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel
from torch import Tensor

from geovae.checks import check_choice
from geovae.codes import Codes
from geovae.geometry import interpolate, straight, volume_paths
from geovae.geometry.curves import resample
from geovae.images import as_pictures, image_grid
from geovae.samplers import SAMPLERS, Sampler
from geovae.saved_model import SavedModel, load_model

MODES = ("draw", "encode", "decode", "reconstruct", "interpolate")
FORMATS = ("array", "png")
DEFAULTS: dict[str, Any] = {"mode": "draw", "n": 16, "sampler": "", "seed": 0, "labels": [], "format": "array"}
MAX_IMAGES = 10_000
MAX_VALUES = 2**26  # of all images of one answer: 64 MiB
MAX_FITTED = 16  # samplers kept in memory
# samplers that draw around codes: fitted on a class, they draw that class
FROM_CODES = ("mixture", "fine_mixture", "local", "riemannian")


SERVER = "mlflow.pyfunc.scoring_server.app"  # the module of MLflow's server, which loads the model
LETTERS = 300  # of an error that clients see


class BadRequest(MlflowException):
    """A request that cannot be answered: over HTTP a 400 with this one sentence."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, error_code=INVALID_PARAMETER_VALUE)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse a new message: MLflow's server would put the whole request in front of it."""
        if name != "message" or not hasattr(self, "message"):
            super().__setattr__(name, value)


class GenerativeModel(PythonModel):
    """Draws from a trained autoencoder with any of its samplers, encodes, decodes, reconstructs, interpolates."""

    def load_context(self, context: Any) -> None:
        """Read the model file that was logged beside this code."""
        if SERVER in sys.modules:  # nobody else's MLflow is changed
            MlflowException.serialize_as_json = _in_a_sentence  # type: ignore[method-assign]
        self.saved: SavedModel = load_model(context.artifacts["model"])
        first, *rest = self.saved.meta["image_shape"]
        self.volumes = first not in (1, 3)
        self.shape = (first, *rest) if self.volumes else (*rest, first)  # of one volume (x, y, z) or image (h, w, c)
        self.limit = max(1, min(MAX_IMAGES, MAX_VALUES // math.prod(self.shape)))
        self.sampler = lru_cache(MAX_FITTED)(self._fit)

    @torch.no_grad()
    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> Any:
        """Return images (n, h, w, c), uint8 or as base64 PNG files, or for `encode` latents (n, d), float32.

        Raises:
            BadRequest: in one sentence, for a value out of its range or an input that the mode cannot take.
        """
        try:
            given: Any = model_input  # MLflow makes a table of some requests
            given = given.to_numpy() if hasattr(given, "to_numpy") else given
            return self._answer(given, DEFAULTS | (params or {}))
        except (ValueError, TypeError) as error:
            raise BadRequest(str(error)) from None

    def _answer(self, given: Any, params: dict[str, Any]) -> Any:
        mode, form = str(params["mode"]), str(params["format"])
        check_choice("mode", mode, MODES)
        check_choice("format", form, FORMATS)
        if mode == "draw":
            labels = tuple(map(int, params["labels"]))
            z = self._draw(int(params["n"]), str(params["sampler"]), int(params["seed"]), labels)
        elif mode == "decode":
            z = self._latents(given)
        elif mode == "interpolate":
            z = self._curve(given, int(params["n"]))
        else:
            z = self.saved.encode(self._images(given)).mu
        return z.numpy() if mode == "encode" else self._pictures(z, form)

    def _pictures(self, z: Tensor, form: str) -> Any:
        """Decode latents (n, d) into uint8 (n, h, w, c) or base64 PNG files, of a volume into its middle planes."""
        images = self.saved.decode(z)
        if form == "png":
            return [_png(x) for x in as_pictures(images)]
        return (images if self.volumes else images.movedim(1, -1)).contiguous().numpy()

    def _draw(self, n: int, name: str, seed: int, labels: tuple[int, ...]) -> Tensor:
        self._check_count(n)
        if not 0 <= seed < 2**63:
            raise ValueError(f"`seed` must be at least 0, got {seed}")
        sampler = self.sampler(name or self.saved.meta["best_sampler"], tuple(sorted(set(labels))))
        return sampler.sample(n, torch.Generator().manual_seed(seed))

    def _fit(self, name: str, labels: tuple[int, ...]) -> Sampler:
        """Return the sampler, fitted on the codes of `labels`."""
        check_choice("sampler", name, SAMPLERS)
        codes = self._codes_of(labels, name) if labels else self.saved.codes
        return self.saved.sampler(name, codes=codes)

    def _codes_of(self, labels: tuple[int, ...], sampler: str) -> Codes:
        codes = self.saved.codes
        if codes.labels is None:
            raise ValueError("this model was trained on data without labels: leave `labels` empty")
        if sampler not in FROM_CODES:
            raise ValueError(f"the {sampler} sampler knows no labels; choose from {', '.join(FROM_CODES)}")
        known = torch.unique(codes.labels).tolist()
        unknown = sorted(set(labels) - set(known))
        if unknown:
            raise ValueError(f"no training image has the label {unknown[0]}; choose from {', '.join(map(str, known))}")
        rows = torch.isin(codes.labels, torch.tensor(labels))
        return Codes(codes.mu[rows], None if codes.log_var is None else codes.log_var[rows], labels=codes.labels[rows])

    def _check_count(self, n: int) -> None:
        if not 1 <= n <= self.limit:
            raise ValueError(f"`n` must lie between 1 and {self.limit}, got {n}")

    def _curve(self, given: Any, n: int) -> Tensor:
        """Return n latents on the curve of Eq. 12 between two ends, without a metric on a straight line."""
        self._check_count(n)
        if n < 2:
            raise ValueError(f"`n` must be at least 2 to interpolate, got {n}")
        latents = given is not None and np.ndim(given) == 2 and not _is_text(given)
        ends = self._latents(given) if latents else self.saved.encode(self._images(given)).mu
        if len(ends) != 2:
            raise ValueError(f"`interpolate` takes two images or two latents, got {len(ends)}")
        start, end = ends[:1], ends[1:]
        if self.saved.codes.log_var is None:
            return straight(start, end, n)[0]
        sampler: Any = self.sampler("riemannian", ())
        metric = sampler.metric  # float64 where posteriors are narrow compared with the codes
        start, end = start.to(metric.dtype), end.to(metric.dtype)
        along = volume_paths(metric, metric.centroids, start, end)
        with torch.enable_grad():
            curves = interpolate(metric, start, end, initial=along, n_points=max(n, 50))
        curve: Tensor = resample(curves.detach(), n)[0]
        return curve.to(ends.dtype)

    def _latents(self, given: Any) -> Tensor:
        d = self.saved.codes.mu.shape[1]
        array = _array(given, f"latents of shape (n, {d})")
        if array.ndim != 2 or array.shape[1] != d:
            raise ValueError(f"expected latents of shape (n, {d}), got {array.shape}")
        self._check_rows(len(array))
        latents = torch.from_numpy(array.astype(np.float32))
        if not latents.isfinite().all():
            raise ValueError("latents must be finite numbers")
        return latents

    def _images(self, given: Any) -> Tensor:
        """Return images (n, c, h, w), uint8, from an array (n, h, w, c) or a list of base64 PNG files."""
        shape = self.shape
        files = "" if self.volumes else ", or base64 PNG files"
        wanted = f"images of shape (n, {', '.join(map(str, shape))}) with whole numbers 0 to 255{files}"
        if _is_text(given) and not self.volumes:
            self._check_rows(len(given))
            given = np.stack([_read_png(text, shape) for text in given])
        array = _array(given, wanted)
        if array.ndim == len(shape) and shape[-1] == 1:
            array = array[..., None]
        if array.shape[1:] != shape:
            raise ValueError(f"expected {wanted}, got an array of shape {array.shape}")
        self._check_rows(len(array))
        if array.min() < 0 or array.max() > 255 or (array != np.round(array)).any():
            raise ValueError(f"expected {wanted}, got values between {array.min():g} and {array.max():g}")
        return torch.from_numpy(array.astype(np.uint8) if self.volumes else np.moveaxis(array.astype(np.uint8), -1, 1))

    def _check_rows(self, n: int) -> None:
        if not 1 <= n <= self.limit:
            raise ValueError(f"a request may hold between 1 and {self.limit} inputs, got {n}")


def _in_a_sentence(error: MlflowException) -> str:
    """Return an error as JSON for clients: MLflow's server would send its stack trace, and the whole request back."""
    if trace := error.json_kwargs.get("stack_trace"):
        logging.getLogger(__name__).warning(trace)
    sentence = " ".join(str(error.message).split())
    shown = sentence if len(sentence) <= LETTERS else f"{sentence[: LETTERS - 4]} ..."
    return json.dumps({"error_code": error.error_code, "message": shown})


def _is_text(given: Any) -> bool:
    return isinstance(given, list | np.ndarray) and len(given) > 0 and isinstance(given[0], str)


def _array(given: Any, wanted: str) -> np.ndarray:
    """Return an array of numbers, or raise an error that describes the expected input."""
    if given is None or np.size(np.asarray(given, dtype=object)) == 0:
        raise ValueError(f"this mode needs an input: {wanted}")
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"expected {wanted}, got something that is not an array of numbers") from None


def _png(image: Tensor) -> str:
    """Return one image (c, h, w), uint8, as a PNG file in base64."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image_grid(image[None], padding=0)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _read_png(text: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return an image (h, w, c), uint8; its size is checked before it is decompressed."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as image:
            if image.size != (shape[1], shape[0]):
                raise ValueError(
                    f"expected images of {shape[1]} x {shape[0]} pixels, got {image.width} x {image.height}"
                )
            return np.asarray(image.convert("L" if shape[2] == 1 else "RGB")).reshape(shape)
    except (binascii.Error, Image.DecompressionBombError, OSError, TypeError, SyntaxError) as error:
        raise ValueError("an image of the request is not a PNG file in base64") from error


mlflow.models.set_model(GenerativeModel())
