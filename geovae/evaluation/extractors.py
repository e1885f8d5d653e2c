"""Feature extractors: networks that turn images (b, c, h, w) in [0, 1] into features (b, dims); `extract`, and a cache.

An extractor is a torch module with a `name`, which scores carry, and an `id`, which says exactly which weights it
holds: numbers of different ids do not compare, and the cache is keyed by it.
"""

import hashlib
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from geovae.checks import check_choice, check_count, import_class
from geovae.devices import fixed_convolutions, full_precision
from geovae.evaluation.classifier import FashionMnistNet, MnistNet
from geovae.evaluation.frechet import write_npz
from geovae.evaluation.inception import Inception, checked_weights, inception_weights_path
from geovae.evaluation.trained import TrainedClassifier, is_trained_name
from geovae.files import read_npz
from geovae.images import check_images, to_float

# (filters, kernel, stride, pooled grid): each stage gives its mean over every cell of the grid
STAGES = ((32, 5, 1, 1), (64, 3, 2, 1), (96, 3, 2, 2), (128, 3, 2, 1))
GAIN = 5.0  # brings the mean square of the features near 1, where KID's kernel is neither constant nor cubic


class Pixels(nn.Module):
    """The pixels themselves, (b, c*h*w)."""

    name = "pixels"
    id = "pixels"

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` (b, c, h, w) flattened."""
        return x.flatten(1)


class RandomConv(nn.Module):
    """A fixed, seeded random network that needs no download; its numbers are not FIDs.

    Four convolutions with ReLU; features (b, 608) are means of every stage over a 1x1 or 2x2 grid. Takes images (b, c,
    h, w) in [0, 1] with 1 or 3 channels (each its own first layer) of any height and width. Random networks order image
    sets about as well as trained ones where ImageNet's features do not fit (Naeem et al. 2020, arXiv 2002.09797; Lee
    2022, arXiv 2208.09218).

    The weights come from the raw bits of PCG64, whose stream is fixed for good, through exactly rounded arithmetic: the
    same bytes on every machine. Never change them, since recorded numbers depend on them: add a v2.
    """

    name = "random-conv-v1"

    def __init__(self, *, seed: int = 0) -> None:
        """Draw the weights of one member of the family, `seed` = 0, 1, 2, ..."""
        super().__init__()
        if seed < 0:
            raise ValueError(f"`seed` must not be negative, got {seed}")
        self.id = f"{self.name}-seed{seed}"
        for channels in (1, 3):
            self.register_buffer(f"first_{channels}", _filters(seed, channels, STAGES[0][0], channels, STAGES[0][1]))
        for stage in range(1, len(STAGES)):
            weights = _filters(seed, 10 + stage, STAGES[stage][0], STAGES[stage - 1][0], STAGES[stage][1])
            self.register_buffer(f"stage_{stage}", weights)
        for stage, (filters, *_) in enumerate(STAGES):
            self.register_buffer(f"bias_{stage}", torch.from_numpy(0.25 * _uniform(seed, 20 + stage, filters)).float())

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (b, 608) of images (b, c, h, w) in [0, 1]."""
        if x.shape[1] not in (1, 3):
            raise ValueError(f"{self.name} takes images with 1 or 3 channels, got {x.shape[1]}")
        weights, x, parts = self.get_buffer(f"first_{x.shape[1]}"), 2 * x - 1, []
        for stage, (_, kernel, stride, grid) in enumerate(STAGES):
            weights = self.get_buffer(f"stage_{stage}") if stage else weights
            bias = self.get_buffer(f"bias_{stage}")
            x = functional.conv2d(x, weights, bias, stride=stride, padding=kernel // 2).relu_()
            parts.append(functional.adaptive_avg_pool2d(x, grid).flatten(1))
        return torch.cat(parts, dim=1).mul_(GAIN)


class UserModule(nn.Module):
    """Any module of the user's that maps images (b, c, h, w) in [0, 1] to features (b, dims) or (b, dims, 1, 1)."""

    def __init__(
        self, *, target: str, state: str | Path | None = None, options: Mapping[str, Any] | None = None
    ) -> None:
        """Import `target` ("package.module:Class"), call it with `options`, load the state dict file `state`.

        Of the file only tensors are loaded. Without `state`, the module must build its own fixed weights.
        """
        super().__init__()
        try:
            self.network = import_class("target", target)(**(options or {}))
        except TypeError as error:  # called without what it needs
            raise ValueError(f"`target` {target!r} cannot be built: {error}") from error
        if not isinstance(self.network, nn.Module):
            raise ValueError(f"`target` {target} must make a torch.nn.Module, got {type(self.network).__name__}")
        if state is not None:
            _load_state(self.network, Path(state))
        self.name = target.rsplit(":", 1)[1]
        self.id = f"{target}-{_weights_hash(self.network)}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (b, dims) of `x`."""
        features: Tensor = self.network(x)
        return features.flatten(1) if features.ndim == 4 and features.shape[2:] == (1, 1) else features


EXTRACTORS: dict[str, type[nn.Module]] = {
    "inception": Inception,
    "mnist-net-v1": MnistNet,
    "fashion-mnist-net-v1": FashionMnistNet,
    "random-conv-v1": RandomConv,
    "pixels": Pixels,
    "module": UserModule,
}


def extractor(name: str, **options: Any) -> nn.Module:
    """Return the extractor `name` of `EXTRACTORS`, built with its `options`, in evaluation mode.

    inception: `weights`; random-conv-v1: `seed`; module: `target`, `state`, `options`; the others have none. A name
    such as `net-1a2b3c4d` is that of a classifier that was trained here before (see trained.py).
    """
    if is_trained_name(name):
        return TrainedClassifier(name).eval()
    check_choice("extractor", name, EXTRACTORS)
    return EXTRACTORS[name](**options).eval()


def choose_extractor(name: str) -> str:
    """Return the extractor that `name` stands for: `auto` is inception where its weights are found.

    This is for images of an unknown data set; one that is known may have a better one (`DataSet.extractor`).

    Raises:
        FileNotFoundError: for inception without its weights.
        ValueError: for an unknown name, one that needs more than a name, or weights that are not the published ones.
    """
    if name == "auto":
        name = "random-conv-v1" if inception_weights_path() is None else "inception"
    if is_trained_name(name):
        return name
    check_choice("extractor", name, EXTRACTORS)
    if name == "module":
        raise ValueError(
            "the extractor 'module' needs to know which: build it by `extractor('module', target='package:Class')`"
        )
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
    check_count(batch_size=batch_size)
    extractor = extractor.to(device).eval()
    batches: Any = torch.split(images, batch_size)
    if progress:
        from tqdm import tqdm

        batches = tqdm(batches, desc=str(getattr(extractor, "id", "features")), unit="batch")
    # TF32 would make a GPU's features differ from a CPU's in the third digit
    with full_precision(), fixed_convolutions():
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


def _load_state(network: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"no state dict at {path}; write one with torch.save(module.state_dict(), path)")
    try:
        # weights_only: a pickled file could execute code
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises its own, pickle's and zip's errors here
        raise ValueError(f"{path} is not a state dict of {type(network).__name__}: {error}") from error


def _weights_hash(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def _filters(seed: int, stream: int, filters: int, channels: int, kernel: int) -> Tensor:
    """Return zero-mean uniform filters (filters, channels, kernel, kernel) of variance 2 / fan-in (He et al. 2015).

    Without the mean, filters look at contrast and not at brightness, which otherwise outweighs all else.
    """
    fan_in = channels * kernel * kernel
    flat = _uniform(seed, stream, filters * fan_in).reshape(filters, fan_in)
    flat = flat - flat.sum(axis=1, keepdims=True) / fan_in  # this sum is exact in any order: see _uniform
    return torch.from_numpy(flat * math.sqrt(6.0 / fan_in)).float().reshape(filters, channels, kernel, kernel)


def _uniform(seed: int, stream: int, count: int) -> np.ndarray:
    """Return `count` float64 values in [-1, 1), multiples of 2^-23, from the raw bits of PCG64."""
    raw = np.random.PCG64(np.random.SeedSequence([1, seed, stream])).random_raw(count)
    return (raw >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1.0


def content_hash(images: Tensor) -> str:
    """Return the sha256 of `images` (n, c, h, w): type, shape and every byte."""
    check_images(images)
    # type and shape first: the same bytes can be other images
    digest = hashlib.sha256(f"{images.dtype} {tuple(images.shape)}".encode())
    for batch in torch.split(images.cpu(), 1000):
        digest.update(np.ascontiguousarray(batch.numpy()).view(np.uint8).data)
    return digest.hexdigest()


class FeatureCache:
    """A folder of features, keyed by the images' content hash and the extractor's id.

    An entry is one npz file that appears whole or not at all: several processes may fill the same folder at once (the
    last one wins, with the same content). An entry that cannot be read is made again.
    """

    def __init__(self, root: str | Path) -> None:
        """Keep entries under `root`, which need not exist yet."""
        self.root = Path(root)

    def features(self, images: Tensor, extractor: nn.Module, **options: Any) -> Tensor:
        """Return the features (n, dims) of `images`, from the cache or by `extract(images, extractor, **options)`."""
        path = self._path(images, extractor)
        found = _read_features(path, len(images))
        if found is not None:
            return found
        features = extract(images, extractor, **options)
        write_npz(path, {"features": features.numpy()})
        return features

    def _path(self, images: Tensor, extractor: nn.Module) -> Path:
        identity = getattr(extractor, "id", None)
        if not isinstance(identity, str) or not identity:
            raise ValueError("an extractor needs an `id` string that names its exact weights to be cached")
        key = hashlib.sha256(f"{content_hash(images)} {identity}".encode()).hexdigest()
        return self.root / f"{key[:32]}.features.npz"


def _read_features(path: Path, n: int) -> Tensor | None:
    try:
        features = torch.from_numpy(read_npz(path, ["features"])["features"])
        if features.ndim == 2 and len(features) == n:
            return features
        problem = f"it holds {tuple(features.shape)} for {n} images"
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        problem = str(error)
    warnings.warn(f"made the cache entry {path} again: {problem}", stacklevel=3)
    return None
