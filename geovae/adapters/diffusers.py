"""diffusers' `AutoencoderKL`: images in [-1, 1], latents (c, h, w) with a variance for each element."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from geovae.adapters.adapter import Adapter


def from_diffusers(vae: nn.Module) -> Adapter:
    """Return an adapter of an `AutoencoderKL`; d is the number of all elements of the latents.

    The latents are the encoder's own: a pipeline's `scaling_factor` is not applied.
    """

    def encode(x: Tensor) -> Any:
        posterior = vae.encode(2 * x - 1).latent_dist  # type: ignore[operator]
        return posterior.mean, posterior.logvar

    def decode(z: Tensor) -> Tensor:
        return vae.decode(z).sample / 2 + 0.5  # type: ignore[operator]

    return Adapter(encode, decode, vae)


def load_diffusers(folder: Path | str) -> Adapter:
    """Return an adapter of the `AutoencoderKL` in a folder that `save_pretrained` wrote, with safetensors.

    Raises:
        FileNotFoundError: if the folder lacks `config.json` or a file of safetensors. Nothing is fetched or unpickled.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise FileNotFoundError(
            f"{folder} is no folder of an AutoencoderKL: expected config.json and *.safetensors, as "
            "`vae.save_pretrained(folder)` writes them"
        )
    return from_diffusers(autoencoder_kl().from_pretrained(str(folder), use_safetensors=True, local_files_only=True))


def build_diffusers(config: Mapping[str, Any]) -> Adapter:
    """Return an adapter of the `AutoencoderKL` that a `config.json` describes, with random weights."""
    return from_diffusers(autoencoder_kl().from_config(dict(config)).eval())


def autoencoder_kl() -> Any:
    """Return the class `AutoencoderKL`, also beside a torchvision that was built for another torch.

    diffusers needs none for it, but fails with one that is found and does not load.
    """
    from diffusers.utils import import_utils

    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):  # of operators that its library, not loaded, does not register
        import_utils._torchvision_available = False  # found, says diffusers, which looks for the folder alone
    from diffusers import AutoencoderKL

    return AutoencoderKL
