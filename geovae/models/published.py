"""Read trained models of the paper's published code: `best_model.pt`, a pickled dict of `state_dict` and `args`.

Only tensors, plain containers and the fields of the configuration objects are read: every class the file names becomes
an empty stand-in, so that no code of the file, or of a module called `config`, ever runs.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geovae.checks import shown
from geovae.models import build_model
from geovae.models.networks import ImageShape

# the published attribute, by network family, and where its parameters live here
CONV_NAMES = {"fc21": "encoder.heads.0", "fc22": "encoder.heads.1", "fc3": "decoder.body.0"}
MLP_NAMES = {
    "fc1": "encoder.body.1",
    "fc11": "encoder.body.3",
    "fc21": "encoder.heads.0",
    "fc22": "encoder.heads.1",
    "fc3": "decoder.body.0",
    "fc33": "decoder.body.2",
    "fc4": "decoder.body.4",
}
FIRST_DECONV = 2  # our decoder counts its linear and its unflatten layer
CONV_BY_DATA = {"mnist": "conv32", "cifar": "conv32", "celeba": "conv64", "oasis": "conv_oasis"}
LARGEST = 1 << 28  # pixels of an image
MODELS_READ = {"VAE": "vae", "AE": "ae"}


class Published(NamedTuple):
    """The content of a published file: a model's name, image shape, options, and its weights under our names."""

    name: str
    image_shape: ImageShape
    options: dict[str, Any]
    weights: dict[str, Tensor]


def read_published(path: Path | str) -> Published:
    """Read a `best_model.pt` of the published code.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds anything but tensors and configuration fields, or a model that is not read.
    """
    content = _load_restricted(Path(path))
    if not isinstance(content, dict) or not {"state_dict", "args"} <= content.keys():
        raise ValueError(f"{path} must hold a dict with `state_dict` and `args`, as the published code writes it")
    found = content["args"]
    args: dict[str, Any] = dict(found if isinstance(found, dict) else getattr(found, "__dict__", {}))
    state = content["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise ValueError(f"{path} must hold tensors by name as its `state_dict`")
    _check_numbers(path, args)
    published_name = args.get("model_name", "VAE")
    if not isinstance(published_name, str) or published_name not in MODELS_READ:
        raise ValueError(f"{path} holds a {str(published_name)[:50]}; only {' and '.join(MODELS_READ)} are read")
    name = MODELS_READ[published_name]
    convolutional = any(key.startswith("conv.") for key in state)
    network = CONV_BY_DATA.get(str(args.get("dataset"))) if convolutional else "mlp"
    if network is None:
        raise ValueError(f"{path}: no network is known for convolutions on data set {args.get('dataset')!r}")
    if "fc21.bias" not in state or state["fc21.bias"].ndim != 1:
        raise ValueError(f"{path} holds no fc21.bias in its `state_dict`, the bias of the layer that gives mu")
    options: dict[str, Any] = {"latent_dim": len(state["fc21.bias"]), "network": network}
    if name == "vae":
        options["beta"] = float(args.get("beta", 1.0))
    published = Published(name, _image_shape(args, state), options, _rename(state, convolutional, name))
    _check_weights(path, published)
    return published


def _check_numbers(path: Path | str, args: dict[str, Any]) -> None:
    """Raise a ValueError unless the numbers of the configuration that are used are numbers."""
    for name, low in (("input_dim", 0), ("n_channels", 1), ("beta", 0)):
        value = args.get(name) or low
        if not isinstance(value, int | float) or not low <= value <= LARGEST:
            raise ValueError(
                f"{path}: `{name}` of its `args` must be a number from {low} to {LARGEST}, got {shown(value)}"
            )


def _check_weights(path: Path | str, published: Published) -> None:
    with torch.device("meta"):  # shapes alone: no memory and no random numbers
        model: Any = build_model(published.name, published.image_shape, **published.options)
    needed = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in published.weights.items()}
    wrong = next((key for key in {**needed, **found} if needed.get(key) != found.get(key)), None)
    if wrong is not None:
        raise ValueError(
            f"{path} holds a model of another architecture than {published.options['network']} for images "
            f"{published.image_shape}: {wrong} is {found.get(wrong, 'missing')}, "
            f"expected {needed.get(wrong, 'nothing')}"
        )


def _load_restricted(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"no published model at {path}: expected a best_model.pt")
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception as error:  # torch raises zip's and its own errors here
        raise ValueError(f"{path} cannot be read as a published model: {_short(error)}") from error
    foreign = [name for name in named if not re.fullmatch(r"config\.\w+", name)]
    if foreign:
        raise ValueError(f"{path} names {foreign[0]}, which a trained model does not need: it is not read")
    stand_ins: Any = [(type(name.partition(".")[2], (), {}), name) for name in named]
    try:
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # and pickle's
        raise ValueError(f"{path} cannot be read as a published model: {_short(error)}") from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _rename(state: dict[str, Tensor], convolutional: bool, name: str) -> dict[str, Tensor]:
    weights = {}
    for key, value in state.items():
        module, _, rest = key.partition(".")
        if module == "conv":
            weights[f"encoder.body.{rest}"] = value
        elif module == "deconv":
            layer, _, parameter = rest.partition(".")
            if not layer.isdecimal():
                raise ValueError(f"its `state_dict` names {shown(key)}, which is no layer")
            weights[f"decoder.body.{int(layer) + FIRST_DECONV}.{parameter}"] = value
        elif module in (names := CONV_NAMES if convolutional else MLP_NAMES) and not (
            module == "fc22" and name == "ae"
        ):
            weights[f"{names[module]}.{rest}"] = value
    return weights


def _image_shape(args: dict[str, Any], state: dict[str, Tensor]) -> ImageShape:
    """`input_dim` counts pixels of one channel: 1024, 4096, or 36608 for the brains of 208 x 176."""
    pixels = int(args.get("input_dim") or 0)
    channels = int(args.get("n_channels") or 1)
    if args.get("dataset") == "oasis":  # the only images that are not square
        return channels, 208, 176
    side = round(pixels**0.5)
    if side * side != pixels or not pixels:
        raise ValueError(f"`input_dim` {pixels} is not the number of pixels of a square image")
    return channels, side, side
