"""Small classifiers of two classes, as a measure of how well the classes can be distinguished in images."""

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from geovae.images import to_float

FILTERS = (16, 32, 64)


def build_conv(channels: int, seed: int) -> nn.Module:
    """Return a network from images (b, c, h, w) of any size to logits (b, 2); its weights are drawn from `seed`."""
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):  # torch's initialisers take no generator
        torch.default_generator.manual_seed(seed)
        for filters in FILTERS:
            layers += [nn.Conv2d(channels, filters, 3, 2, 1), nn.BatchNorm2d(filters), nn.ReLU()]
            channels = filters
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d((4, 4)), nn.Flatten(), nn.Linear(16 * channels, 2))


def train_conv(
    images: Tensor,
    labels: Tensor,
    *,
    steps: int = 300,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-2,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Train on images (n, c, h, w), uint8, and labels (n,) of 0 and 1; each batch holds equally many of both classes.

    The number of steps does not depend on n: more images mean more variety, not more training.
    """
    classes = _rows_of_classes(labels)
    network = build_conv(images.shape[1], seed).to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = Generator().manual_seed(seed)
    target = torch.arange(2, device=device).repeat_interleave(batch_size // 2)
    for _ in range(steps):
        rows = [r[torch.randint(len(r), (batch_size // 2,), generator=generator)] for r in classes]
        loss = cross_entropy(network(to_float(images[torch.cat(rows)].to(device))), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def train_linear(images: Tensor, labels: Tensor, *, penalty: float = 1.0) -> nn.Module:
    """Return a logistic regression on the pixels of images (n, c, h, w), uint8, as a network like that of `train_conv`.

    Half `penalty` times the squared length of the weights is added to the sum of the losses, in which both classes have
    the same weight; pixels are centred and divided by one common scale. Few images suffice, and the solution is unique:
    no seed, no number of steps.
    """
    from sklearn.linear_model import LogisticRegression

    _rows_of_classes(labels)
    pixels = to_float(images).flatten(1).double()
    mean, scale = pixels.mean(0), pixels.std(0).square().mean().sqrt()
    model = LogisticRegression(C=1 / penalty, class_weight="balanced", max_iter=1000)
    model.fit(((pixels - mean) / scale).numpy(), labels.numpy())
    layer = nn.Linear(pixels.shape[1], 2)
    with torch.no_grad():
        # back to unscaled pixels; the logit of class 0 is 0, so the softmax of both is the logistic function
        weight = torch.from_numpy(model.coef_[0]) / scale
        layer.weight.copy_(torch.stack([torch.zeros_like(weight), weight]))
        layer.bias.copy_(torch.tensor([0.0, float(model.intercept_[0] - weight @ mean)]))
    return nn.Sequential(nn.Flatten(), layer).eval()


def _rows_of_classes(labels: Tensor) -> list[Tensor]:
    classes = [torch.nonzero(labels == value).flatten() for value in (0, 1)]
    if not all(len(rows) for rows in classes):
        raise ValueError(f"a classifier needs images of both classes, got {[len(rows) for rows in classes]}")
    return classes


@torch.no_grad()
def predict(network: nn.Module, images: Tensor) -> Tensor:
    """Return the probability (n,) of class 1 for images (n, c, h, w), uint8."""
    device = next(network.parameters()).device
    # in parts, which bound the memory
    return torch.cat([network(to_float(x.to(device))).softmax(1)[:, 1].cpu() for x in torch.split(images, 200)])


def score_classifier(probability: Tensor, labels: Tensor) -> dict[str, float]:
    """Return sensitivity (of class 1), specificity, and their mean, the balanced accuracy."""
    positive = probability > 0.5
    sensitivity = float(positive[labels == 1].double().mean())
    specificity = float((~positive)[labels == 0].double().mean())
    both = (sensitivity + specificity) / 2
    return {"balanced_accuracy": both, "sensitivity": sensitivity, "specificity": specificity}
