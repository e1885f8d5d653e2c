"""Train the two shipped feature extractors on MNIST's and Fashion-MNIST's four original files: minutes on a CPU each.

    python tools/train_extractors.py mnist FOLDER      (also: fashion-mnist)

Only the first 50,000 training images are used, and of MNIST none that `mnist_5k` holds, so that no image which the
scores compare with was seen in training. Prints the accuracy on the test images and the SHA-256 of the file.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy, pad

from geovae.data.builders.idx import FILES, read_idx
from geovae.data.mnist_5k import read_all
from geovae.evaluation.classifier import Classifier

WEIGHTS = Path(__file__).parents[1] / "geovae" / "evaluation" / "weights"
EPOCHS, BATCH, LEARNING_RATE = 8, 125, 4e-3


def read(folder: Path, part: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images, uint8 (n, 1, 32, 32), and labels (n,) of the training (0) or the test (1) files."""
    files = [folder / name for name in FILES[2 * part : 2 * part + 2]]
    files = [file if file.exists() else file.with_name(f"{file.name}.gz") for file in files]
    images, labels = (torch.from_numpy(read_idx(file).copy()) for file in files)
    return pad(images[:, None], (2, 2, 2, 2)), labels.long()


def without(images: torch.Tensor, labels: torch.Tensor, others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images (n, 1, 32, 32) that are not among `others`, with their labels."""
    seen = {other.numpy().tobytes() for other in others}
    keep = torch.tensor([image.numpy().tobytes() not in seen for image in images])
    return images[keep], labels[keep]


def train(images: torch.Tensor, labels: torch.Tensor) -> Classifier:
    """Return a classifier trained with Adam, a one-cycle rate and label smoothing of 0.05."""
    torch.manual_seed(0)
    model = Classifier(10)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=EPOCHS * steps)
    for epoch in range(EPOCHS):
        total = 0.0
        for rows in torch.randperm(len(images))[: steps * BATCH].split(BATCH):
            loss = cross_entropy(model(images[rows] / 255), labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total / steps:.4f}", flush=True)
    return model.eval()


def main() -> None:
    """Train, test, and write the weights beside the code that loads them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("mnist", "fashion-mnist"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    images, labels = (x[:50_000] for x in read(arguments.folder, 0))
    if arguments.name == "mnist":
        images, labels = without(images, labels, read_all().images)
    print(f"{len(images)} training images")
    model = train(images, labels)
    # half the bytes, since a registered model carries the package; tested with the rounded weights
    half = {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    model.load_state_dict(half)
    test, test_labels = read(arguments.folder, 1)
    with torch.no_grad():
        guesses = torch.cat([model(x / 255).argmax(1) for x in test.split(500)])
    print(f"test accuracy {(guesses == test_labels).float().mean():.4f}")
    path = WEIGHTS / f"{arguments.name}-net-v1.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_file(half, path)
    print(path, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


if __name__ == "__main__":
    sys.exit(main())
