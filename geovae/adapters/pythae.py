"""pythae's models, from the folder that `model.save` wrote; built from its JSON, weights read without unpickling."""

from collections.abc import Mapping
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from geovae.adapters.adapter import Adapter
from geovae.adapters.weights import load_weights, read_json

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


def load_pythae(folder: Path | str, **parts: Any) -> Adapter:
    """Return an adapter of the model in a folder of pythae's: `model_config.json` and `model.pt`.

    Args:
        folder: that `model.save` or pythae's trainer (`final_model`) wrote.
        **parts: `encoder`, `decoder` and `metric`, where the model has an architecture of its own, as modules or as
            classes, see `build_pythae`. pythae stores these pickled, and unpickling runs whatever a file says: they are
            built again, and the stored weights are loaded into them.

    Raises:
        FileNotFoundError: if the folder lacks one of the two files.
        ValueError: for a model whose latents are no Euclidean codes, a missing part, or weights that do not fit.
    """
    adapter = build_pythae(read_config(folder), **parts)
    load_weights(adapter.module, Path(folder) / "model.pt")  # type: ignore[type-var]
    return adapter


def read_config(folder: Path | str) -> dict[str, Any]:
    """Return the `model_config.json` of a folder of pythae's.

    Raises:
        FileNotFoundError: if the folder lacks it, or `model.pt`.
        ValueError: if it is no JSON mapping.
    """
    folder = Path(folder)
    for name in ("model_config.json", "model.pt"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no folder of a pythae model: it has no {name}")
    return read_json(folder / "model_config.json")


def build_pythae(config: Mapping[str, Any], **parts: Any) -> Adapter:
    """Return an adapter of the model that `config` describes, with random weights.

    Args:
        config: the content of `model_config.json`.
        **parts: modules, or classes that are called with the configuration, or with nothing if they take nothing.

    Raises:
        ValueError: as `load_pythae`.
    """
    name = _check_name(str(config.get("name", "")).removesuffix("Config").rstrip("_"))
    for part in PARTS:
        if not config.get(f"uses_default_{part}", True) and part not in parts:
            raise ValueError(
                f"the {part} of this {name} is a class of its own, pickled as {part}.pkl, which is not unpickled, "
                f"since that runs whatever the file says; build it and pass `{part}=`: it gets the stored weights"
            )
    models = import_module("pythae.models")
    fields = {key: value for key, value in config.items() if key != "name"}
    model_config = getattr(models, str(config["name"])).from_dict(fields)
    built = {part: _instance(value, model_config) for part, value in parts.items()}
    return from_pythae(getattr(models, name)(model_config, **built).eval())


def _instance(part: Any, config: Any) -> nn.Module:
    if not isinstance(part, type):
        return part
    required = [p for p in signature(part).parameters.values() if p.default is p.empty]
    return part(config) if required else part()


def _check_name(name: str) -> str:
    if name in REFUSED:
        raise ValueError(f"pythae's {name} cannot be sampled here: {REFUSED[name]}; usable are {', '.join(USABLE)}")
    if name not in USABLE:
        raise ValueError(f"pythae's models that can be sampled are {', '.join(USABLE)}, got {name!r}")
    return name
