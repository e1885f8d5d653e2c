"""Shares of classes among samples against those among real images, as a classifier sees both.

The total variation distance, half the sum of |p - q|, is the part of the samples that would have to change class: 0 for
the real shares, near 1 for a sampler that draws one class only. For small n even real images are above 0; their own row
says how much.
"""

import torch
from torch import Tensor

from geovae.evaluation.classifier import ClassifierFeatures
from geovae.evaluation.score import Number, Numbers

CLASS_SHARES = {
    "class_share_distance": Number(
        "part of the samples that would have to change class to match the real shares", "part of 1", "lower", equal=0.0
    )
}


def class_shares(classifier: ClassifierFeatures, real: Tensor, fake: Tensor) -> Numbers:
    """Return {"class_share_distance"} of the classifier's features of real images (n, dims) and samples (m, dims)."""
    n_classes = classifier.network.head.out_features
    p, q = (torch.bincount(classifier.classes(x), minlength=n_classes).double() / len(x) for x in (real, fake))
    return {"class_share_distance": float((p - q).abs().sum() / 2)}
