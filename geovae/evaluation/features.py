"""Feature extractors: networks that turn images (b, c, h, w) in [0, 1] into features (b, dims), and `extract`.

An extractor is a torch module with a `name`, which scores carry, and an `id`, which says exactly which weights it
holds: numbers of different ids do not compare, and the cache is keyed by it.
"""

import hashlib
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geovae.evaluation.inception import Inception, checked_weights, inception_weights_path
from geovae.evaluation.random_conv import RandomConv
from geovae.images import check_images, to_float


class Pixels(nn.Module):
    """The pixels themselves, (b, c*h*w)."""

    name = "pixels"
    id = "pixels"

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` (b, c, h, w) flattened."""
        return x.flatten(1)


class UserModule(nn.Module):
    """Any module of the user's that maps images (b, c, h, w) in [0, 1] to features (b, dims) or (b, dims, 1, 1)."""

    def __init__(
        self, *, target: str, state: str | Path | None = None, options: Mapping[str, Any] | None = None
    ) -> None:
        """Import `target` ("package.module:Class"), call it with `options`, load the state dict file `state`.

        Of the file only tensors are loaded. Without `state`, the module must build its own fixed weights.
        """
        super().__init__()
        self.network = _import_target(target)(**(options or {}))
        if not isinstance(self.network, nn.Module):
            raise ValueError(f"`target` {target} must make a torch.nn.Module, got {type(self.network).__name__}")
        if state is not None:
            _load_state(self.network, Path(state))
        self.name = target.rsplit(":", 1)[1]
        self.id = f"{target}-{_weights_hash(self.network)}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (b, dims) of `x`."""
        features = self.network(x)
        return features.flatten(1) if features.ndim == 4 and features.shape[2:] == (1, 1) else features


EXTRACTORS: dict[str, type[nn.Module]] = {
    "inception": Inception,
    "random-conv-v1": RandomConv,
    "pixels": Pixels,
    "module": UserModule,
}


def extractor(name: str, **options: Any) -> nn.Module:
    """Return the extractor `name` of `EXTRACTORS`, built with its `options`, in evaluation mode.

    inception: `weights`; random-conv-v1: `seed`; pixels: none; module: `target`, `state`, `options`.
    """
    if name not in EXTRACTORS:
        raise ValueError(f"no extractor is called {name!r}; there are {', '.join(EXTRACTORS)}")
    return EXTRACTORS[name](**options).eval()


def choose_extractor(name: str) -> str:
    """Return the extractor for a name: `auto` is inception where its weights are found, else random-conv-v1.

    Raises:
        FileNotFoundError: for inception without its weights.
        ValueError: for an unknown name, `module`, which needs more than a name, or weights that are not the published.
    """
    if name == "auto":
        name = "random-conv-v1" if inception_weights_path() is None else "inception"
    if name not in EXTRACTORS:
        raise ValueError(f"unknown extractor {name!r}; choose from {', '.join(EXTRACTORS)}")
    if name == "module":
        raise ValueError("the extractor 'module' needs to know which module: give its class as `target` to `extractor`")
    if name == "inception":
        checked_weights()  # now, not after hours of training
    return name


def extract(
    images: Tensor,
    extractor: nn.Module,
    *,
    batch_size: int = 50,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Tensor:
    """Return the features (n, dims), float32 on the CPU, of `images` (n, c, h, w), uint8 or float in [0, 1].

    `extractor` is moved to `device`; `progress` shows a bar on stderr.
    """
    check_images(images)
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}")
    extractor = extractor.to(device).eval()
    batches: Any = images.split(batch_size)
    if progress:
        from tqdm import tqdm

        batches = tqdm(batches, desc=str(getattr(extractor, "id", "features")), unit="batch")
    # TF32 would make a GPU's features differ from a CPU's in the third digit
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        features = torch.cat([_batch(extractor, x, device) for x in batches])
    if not bool(torch.isfinite(features).all()):
        raise ValueError(f"{_id(extractor)} gave features that are NaN or infinite; is it fit for these images?")
    return features


@torch.inference_mode()
def _batch(extractor: nn.Module, images: Tensor, device: torch.device | str) -> Tensor:
    features = extractor(to_float(images.to(device)))
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(images):
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(f"{_id(extractor)} must return features of shape ({len(images)}, dims), got {got}")
    return features.float().cpu()


def _id(extractor: nn.Module) -> str:
    return str(getattr(extractor, "id", type(extractor).__name__))


def _import_target(target: str) -> Callable[..., Any]:
    module, _, attribute = target.partition(":")
    if not module or not attribute:
        raise ValueError(f"`target` must read 'package.module:Class', got {target!r}")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"`target` {target!r} cannot be imported: {error}") from error


def _load_state(network: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"no state dict at {path}; write one with torch.save(module.state_dict(), path)")
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises its own, pickle's and zip's errors here
        raise ValueError(f"{path} is not a state dict of {type(network).__name__}: {error}") from error


def _weights_hash(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]
