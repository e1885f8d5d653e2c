"""pythae's models, from the folder that `model.save` wrote; built from its JSON, weights read without unpickling."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from geovae.adapters.adapter import Adapter
from geovae.adapters.weights import load_weights

USABLE = (
    *("AE", "VAE", "BetaVAE", "BetaTCVAE", "DisentangledBetaVAE", "FactorVAE", "INFOVAE_MMD", "MSSSIM_VAE", "VAEGAN"),
    *("IWAE", "MIWAE", "PIWAE", "CIWAE", "VAMP", "HVAE", "RHVAE", "Adversarial_AE", "WAE_MMD", "RAE_GP", "RAE_L2"),
)
REFUSED = {
    "VQVAE": "its latents are entries of a table",
    "SVAE": "its latents lie on a sphere",
    "PoincareVAE": "its latents lie in a hyperbolic space",
    "VAE_IAF": "its decoder takes latents that have passed a flow",
    "VAE_LinNF": "its decoder takes latents that have passed a flow",
}
PARTS = ("encoder", "decoder", "metric")


def from_pythae(model: nn.Module) -> Adapter:
    """Return an adapter of a model of pythae's in memory; it must be one of `USABLE`.

    Raises:
        ValueError: for a model whose latents are no Euclidean codes.
    """
    _check_name(type(model).__name__)

    def encode(x: Tensor) -> Any:
        output = model.encoder(x)  # type: ignore[operator]
        return output["embedding"], output.get("log_covariance")

    def decode(z: Tensor) -> Tensor:
        return model.decoder(z)["reconstruction"]  # type: ignore[operator]

    return Adapter(encode, decode, model)


def load_pythae(folder: Path | str, **parts: nn.Module) -> Adapter:
    """Return an adapter of the model in a folder of pythae's: `model_config.json` and `model.pt`.

    Args:
        folder: that `model.save` or pythae's trainer (`final_model`) wrote.
        **parts: `encoder`, `decoder` and `metric`, where the model has an architecture of its own. pythae stores these
            pickled, and unpickling runs whatever a file says: build them, and they get the stored weights.

    Raises:
        FileNotFoundError: if the folder lacks one of the two files.
        ValueError: for a model whose latents are no Euclidean codes, a missing part, or weights that do not fit.
    """
    folder = Path(folder)
    for name in ("model_config.json", "model.pt"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no folder of a pythae model: it has no {name}")
    try:
        config = json.loads((folder / "model_config.json").read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{folder / 'model_config.json'} is not JSON") from error
    if not isinstance(config, dict):
        raise ValueError(f"{folder / 'model_config.json'} must hold a mapping")
    name = _check_name(str(config.get("name", "")).removesuffix("Config").rstrip("_"))
    for part in PARTS:
        if not config.get(f"uses_default_{part}", True) and part not in parts:
            raise ValueError(
                f"the {part} of {folder} is a class of its own, stored pickled as {part}.pkl, which is not unpickled, "
                f"since that runs whatever the file says; build it and pass `{part}=`: it gets the stored weights"
            )
    from pythae import models  # asks for torch alone up to here
    from pythae.models.auto_model import AutoConfig

    model = getattr(models, name)(AutoConfig.from_json_file(str(folder / "model_config.json")), **parts)
    return from_pythae(load_weights(model, folder / "model.pt"))


def _check_name(name: str) -> str:
    if name in REFUSED:
        raise ValueError(f"pythae's {name} cannot be sampled here: {REFUSED[name]}; usable are {', '.join(USABLE)}")
    if name not in USABLE:
        raise ValueError(f"pythae's models that can be sampled are {', '.join(USABLE)}, got {name!r}")
    return name
