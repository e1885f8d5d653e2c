"""A classifier trained on demand on a labelled training split: an extractor for data that no shipped one fits.

Its name holds a hash of the training images, the labels and the recipe, such as `net-1a2b3c4d`: scores by the features
of different ones have different names. The weights are kept in torch's cache, beside Inception's, and made again where
they are missing. Validation and test images are never given to it.
"""

import hashlib
import re
import warnings
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate, pad

from geovae.evaluation.classifier import Classifier, ClassifierFeatures
from geovae.evaluation.inception import weights_folder
from geovae.files import atomic_path
from geovae.images import to_float

RECIPE = "v1"  # part of the name: another way of training must give another
BATCH, LEARNING_RATE, SMOOTHING = 100, 4e-3, 0.05
WIDTH = 16  # half of the shipped ones': trained while a user waits
STEPS = (100, 1000)  # of the optimiser: at least, at most
PASSES = 12  # over the images, within these limits
SIZES = (16, 64)  # height and width of what the network sees
LEAST = 10  # images of each of two classes
PATTERN = re.compile(r"net-[0-9a-f]{8}")


class TrainedClassifier(ClassifierFeatures):
    """A classifier from the cache. Takes images (b, c, h, w) as in training; large ones are averaged down to 64x64."""

    def __init__(self, name: str) -> None:
        """Read the weights of `name`.

        Raises:
            FileNotFoundError: if they are not in the cache.
            ValueError: if the file is damaged.
        """
        from safetensors.torch import load

        super().__init__()
        path = weights_path(name)
        if not path.is_file():
            raise FileNotFoundError(
                f"no weights of the extractor {name} at {path}: give the data that it was trained on"
            )
        content = path.read_bytes()
        try:
            state = load(content)
            self.network = Classifier(len(state["head.bias"]), state["convolutions.0.weight"].shape[1], WIDTH)
            self.network.load_state_dict(state)
        except Exception as error:  # safetensors raises its own type, torch RuntimeError
            raise ValueError(f"{path} is damaged: delete it, and it is made again ({error})") from error
        self.name, self.id = name, f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (b, 128) of images (b, c, h, w) in [0, 1]."""
        channels = self.network.convolutions[0].in_channels
        if x.shape[1] != channels:
            raise ValueError(f"{self.name} takes images of {channels} channels, got {x.shape[1]}")
        return super().forward(_resize(x))


def is_trained_name(name: str) -> bool:
    """Return whether `name` is one of a classifier that was trained on demand."""
    return PATTERN.fullmatch(name) is not None


def trained_name(images: Tensor, labels: Tensor | None) -> str | None:
    """Return the name of the classifier of images (n, c, h, w), uint8, and labels (n,); None where they do not do.

    Rows with a negative label count as unlabelled. At least two classes must have 10 images each.
    """
    if labels is None or int((torch.unique(labels[labels >= 0], return_counts=True)[1] >= LEAST).sum()) < 2:
        return None
    digest = hashlib.sha256(f"{RECIPE} {tuple(images.shape)} {images.dtype}".encode())
    digest.update(images.cpu().contiguous().numpy().data)
    digest.update(labels.cpu().contiguous().numpy().data)
    return f"net-{digest.hexdigest()[:8]}"


def weights_path(name: str) -> Path:
    """Return where the weights of the classifier `name` are kept."""
    return weights_folder() / f"{name}.safetensors"


def trained_classifier(images: Tensor, labels: Tensor | None) -> TrainedClassifier:
    """Return the classifier of images (n, c, h, w), uint8, and labels (n,), from the cache or trained now.

    Raises:
        ValueError: if the labels do not do.
    """
    from safetensors.torch import save_file

    name = trained_name(images, labels)
    if name is None or labels is None:
        raise ValueError(f"`labels` must name at least two classes of {LEAST} images each to train a classifier on")
    try:
        return TrainedClassifier(name)
    except FileNotFoundError:
        pass
    except ValueError as error:
        warnings.warn(f"trained an extractor again: {error}", stacklevel=2)
        weights_path(name).unlink(missing_ok=True)
    known = labels >= 0
    # half the bytes, and what is used now is what is read later
    state = {key: x.half() if x.is_floating_point() else x for key, x in train(images[known], labels[known]).items()}
    if not weights_path(name).is_file():  # of several processes that train the same one, the first to finish counts
        with atomic_path(weights_path(name)) as temporary:
            save_file(state, temporary)
    return TrainedClassifier(name)


def train(images: Tensor, labels: Tensor, *, seed: int = 0) -> dict[str, Tensor]:
    """Return the weights of a classifier of images (n, c, h, w), uint8, and labels (n,), whole numbers.

    AdamW with a one-cycle rate, smoothed labels, and random shifts by up to a sixteenth of the size. The network's
    classes are the ranks of the labels.
    """
    images, targets = _resize(to_float(images)), torch.unique(labels, return_inverse=True)[1]
    with torch.random.fork_rng(devices=[]):  # torch's initialisers know no generator argument
        torch.default_generator.manual_seed(seed)
        network = Classifier(int(targets.max()) + 1, images.shape[1], WIDTH).train()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    steps = min(max(PASSES * len(images) // BATCH, STEPS[0]), STEPS[1])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(images), (BATCH,), generator=generator)
        loss = cross_entropy(network(_shift(images[rows], generator)), targets[rows], label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return {name: value.contiguous() for name, value in network.state_dict().items()}  # as files hold them


def _resize(images: Tensor) -> Tensor:
    """Return images (n, c, h, w) with height and width within `SIZES`, by averages over areas."""
    low, high = SIZES
    size = [min(max(side, low), high) for side in images.shape[2:]]
    return images if size == list(images.shape[2:]) else interpolate(images, size=size, mode="area")


def _shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return a batch moved by one random offset, filled with what lies at its rim."""
    h, w = images.shape[2:]
    reach = max(h, w) // 16
    top, left = torch.randint(2 * reach + 1, (2,), generator=generator).tolist()
    return pad(images, (reach,) * 4, mode="replicate")[:, :, top : top + h, left : left + w]
