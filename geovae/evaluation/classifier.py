"""Small classifiers as feature extractors: their features see what the labels of a data set are about.

Features of a random network see noise and blur, but not a digit that is half a 4 and half a 9: they cannot rank
samplers. A classifier's can. `fd_mnist-net-v1` is a Frechet distance but not FID. The shipped weights are made by
`tools/train_extractors.py` and never change, since recorded numbers depend on them: another network is a v2.
"""

import hashlib
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from geovae.evaluation.score import Number, Numbers
from geovae.images import to_float


class Classifier(nn.Module):
    """Four 3x3 convolutions of 32 to 96 filters, pooled to 4x4, one hidden layer of 256 features, one linear layer.

    Args:
        n_classes: number of classes.
        channels: of the images, which may have any height and width from 4 on.
        width: filters of the first convolution; all other widths are in proportion to it.
    """

    def __init__(self, n_classes: int, channels: int = 1, width: int = 32) -> None:
        """Build the layers."""
        super().__init__()
        widths = (channels, width, width * 3 // 2, width * 2, width * 3)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
        self.hidden = nn.Linear(widths[-1] * 16, width * 8)
        self.head = nn.Linear(width * 8, n_classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on a CPU

    def features(self, x: Tensor) -> Tensor:
        """Return the hidden layer (b, 8 * width) after its ReLU, for images (b, c, h, w) in [0, 1]."""
        x = 2 * x - 1
        for stage, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = norm(convolution(x)).relu()
            if stage < 2:
                x = functional.max_pool2d(x, 2)
        return functional.relu(self.hidden(functional.adaptive_avg_pool2d(x, 4).flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (b, n_classes) of images (b, c, h, w) in [0, 1]."""
        logits: Tensor = self.head(self.features(x))
        return logits


class ClassifierFeatures(nn.Module):
    """The hidden layer of a classifier as an extractor; `classes` reads the predicted class off the same features.

    Attributes:
        name: of the extractor.
        id: the name and a hash of the weights.
        network: the classifier.
    """

    name: str
    id: str
    network: Classifier

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (b, dims) of images (b, c, h, w) in [0, 1]."""
        return self.network.features(x)

    @torch.inference_mode()
    def classes(self, features: Tensor) -> Tensor:
        """Return the class (n,), int64 on the CPU, that the classifier's last layer makes of features (n, dims)."""
        head = self.network.head
        guesses: Tensor = head(features.to(head.weight)).argmax(1).cpu()
        return guesses

    def classify(self, images: Tensor) -> Tensor:
        """Return the class (n,) of each image, uint8 or float (n, c, h, w)."""
        return self.classes(self(to_float(images)))


class ShippedClassifier(ClassifierFeatures):
    """A classifier of 10 classes whose weights come with the package. Takes gray images, of 32x32 as in training."""

    sha256: str

    def __init__(self) -> None:
        """Load the weights.

        Raises:
            ValueError: if the file is not the published one.
        """
        from safetensors.torch import load

        super().__init__()
        path = Path(__file__).parent / "weights" / f"{self.name}.safetensors"
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise ValueError(f"{path} is damaged: its SHA-256 is not {self.sha256[:12]}...; install geovae again")
        self.network = Classifier(10)
        self.network.load_state_dict(load(content))
        self.id = f"{self.name}-{self.sha256[:12]}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (b, 256) of gray images (b, 1, h, w) in [0, 1]."""
        if x.shape[1] != 1:
            raise ValueError(f"{self.name} takes gray images, got {x.shape[1]} channels")
        return super().forward(x)


class MnistNet(ShippedClassifier):
    """Trained on 45,000 MNIST images, none of them in `mnist_5k`: 99.5 % of the test images are classified rightly."""

    name = "mnist-net-v1"
    sha256 = "0dbcc22b6450b00438288656f1620f18ad241b5f24eebc1be0a09d6ce36c5693"


class FashionMnistNet(ShippedClassifier):
    """Trained on the first 50,000 images of Fashion-MNIST: 93 % of the test images are classified rightly."""

    name = "fashion-mnist-net-v1"
    sha256 = "1b9f00beb23c9c4a17ccb0854a24ca8ecea4cc8dda52f9c142c5cbcdca6f13ba"


CLASS_SHARES = {
    "class_share_distance": Number(
        "part of the samples that would have to change class to match the real shares", "part of 1", "lower", equal=0.0
    )
}


def class_shares(classifier: ClassifierFeatures, real: Tensor, fake: Tensor) -> Numbers:
    """Return {"class_share_distance"} of the classifier's features of real images (n, dims) and samples (m, dims).

    The total variation distance, half the sum of |p - q|, is the part of the samples that would have to change class: 0
    for the real shares, near 1 for a sampler that draws one class only. For small n even real images are above 0; their
    own row says how much.
    """
    n_classes = classifier.network.head.out_features
    p, q = (torch.bincount(classifier.classes(x), minlength=n_classes).double() / len(x) for x in (real, fake))
    return {"class_share_distance": float((p - q).abs().sum() / 2)}
