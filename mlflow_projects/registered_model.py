"""The registered model as code: MLflow runs this file to load it; its weights and codes are one safetensors file.

`predict(None, params={"n": 16, "sampler": "riemannian", "seed": 0})` gives uint8 images (n, h, w, c).
"""

from typing import Any

import mlflow
import torch
from mlflow.pyfunc import PythonModel

from geovae.checkpoint import SavedModel, load_model
from geovae.images import to_uint8
from geovae.samplers import SAMPLERS

MAX_IMAGES = 10_000


class GenerativeModel(PythonModel):
    """Draws images from a trained autoencoder with any of its samplers."""

    def load_context(self, context: Any) -> None:
        """Read the model file that was logged beside this code."""
        self.saved: SavedModel = load_model(context.artifacts["model"])
        self.fitted: dict[str, Any] = {}

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow reads the hints
        """Return images (n, h, w, c), uint8; the input is not used, all is said by `params`.

        Raises:
            ValueError: for `n` outside 1 to 10,000 or a sampler that this model does not have.
        """
        said: dict[str, Any] = {"n": 16, "sampler": "", "seed": 0} | (params or {})
        n, seed = int(said["n"]), int(said["seed"])
        if not 1 <= n <= MAX_IMAGES:
            raise ValueError(f"`n` must lie between 1 and {MAX_IMAGES}, got {n}")
        z = self._sampler(str(said["sampler"])).sample(n, torch.Generator().manual_seed(seed))
        with torch.no_grad():
            images = torch.cat([to_uint8(self.saved.model.decode(batch)) for batch in z.split(500)])
        return images.permute(0, 2, 3, 1).contiguous().numpy()

    def _sampler(self, name: str) -> Any:
        name = name or self.saved.meta["best_sampler"]
        if name not in SAMPLERS:
            raise ValueError(f"unknown sampler {name!r}; choose from {', '.join(SAMPLERS)}")
        if name not in self.fitted:
            options = self.saved.meta["sampler"].get(name, {})
            self.fitted[name] = SAMPLERS[name](**options).fit(self.saved.codes)
        return self.fitted[name]


mlflow.models.set_model(GenerativeModel())
