"""Do scores rank samplers as class shares, kernel distance and coverage do? A classifier against random features.

    python benchmarks/score_ranks.py MODEL

`MODEL` is a model file that was trained on `mnist_5k`. A dozen samplers of its codes, good and bad, draw 1,000 images
each; they are scored against the 1,000 test images. Prints the scores and Spearman's rank correlations.
"""

import sys
import warnings
from pathlib import Path

import torch
from scipy.stats import spearmanr
from torch import Tensor

from experiments.tables import as_markdown
from geovae.evaluation import extract, extractor, frechet, kid, precision_recall
from geovae.evaluation.classifier import ClassifierFeatures, class_shares
from geovae.neighbours import code_novelty, squared_distances
from geovae.samplers import SAMPLERS
from geovae.saved_model import SavedModel, load_model

N = 1000
NET, RANDOM = "mnist-net-v1", "random-conv-v1"
COLUMNS = {  # title -> (extractor, number); a higher coverage is better, the others are better lower
    "FD net": (NET, f"fd_{NET}"),
    "FD random": (RANDOM, f"fd_{RANDOM}"),
    "KID net": (NET, f"kid_{NET}"),
    "KID random": (RANDOM, f"kid_{RANDOM}"),
    "coverage net": (NET, "coverage"),
    "class shares": (NET, "class_share_distance"),
    "code novelty": (NET, "code_novelty"),
}


def draws(saved: SavedModel) -> dict[str, Tensor]:
    """Return latents (n, d) by the name of what drew them."""
    codes, generator = saved.codes.mu, torch.Generator().manual_seed(0)
    found = {"prior": saved.sampler("prior").sample(N, generator)}
    for k in (1, 3, 10, 30, 100):
        sampler = SAMPLERS["mixture"](n_components=k).fit(saved.codes)
        found[f"mixture of {k}"] = sampler.sample(N, generator)
    for scale in (0.3, 0.8, 1.6, 2.5):
        found[f"local noise x {scale}"] = around(codes, scale, generator)
    assert saved.labels is not None
    ones = codes[saved.labels == 1]
    found["ones only"] = around(ones, 0.8, generator)
    found["two classes only"] = around(codes[saved.labels < 2], 0.8, generator)
    return found


def around(codes: Tensor, scale: float, generator: torch.Generator, m: int = 20) -> Tensor:
    """Return N codes, each moved within the span of its `m` nearest neighbours (Vincent & Bengio 2002)."""
    centres = codes[torch.randint(len(codes), (N,), generator=generator)]
    near = codes[squared_distances(centres, codes).topk(m + 1, largest=False).indices[:, 1:]]
    weights = torch.randn(N, m, 1, generator=generator) * scale / m**0.5
    return centres + (weights * (near - centres[:, None])).sum(dim=1)


def main(path: Path) -> None:
    """Score, and print both tables."""
    saved = load_model(path)
    splits = saved.splits()
    assert splits.test is not None
    real, held_out = splits.test.images, saved.encode(splits.test.images).mu
    networks = {name: extractor(name) for name in (NET, RANDOM)}
    reference = {name: extract(real, network) for name, network in networks.items()}
    numbers: dict[str, list[float]] = {}
    for name, z in draws(saved).items():
        images, values = saved.decode(z), {}
        for key, network in networks.items():
            pair = {"real": reference[key], "fake": extract(images, network)}
            values[key] = {f"fd_{key}": frechet(**pair)["frechet"], f"kid_{key}": kid(**pair)["kid"]}
            if isinstance(network, ClassifierFeatures):
                values[key] |= precision_recall(**pair) | class_shares(network, pair["real"], pair["fake"])
                values[key]["code_novelty"] = code_novelty(z.float(), saved.codes.mu, held_out)
        numbers[name] = [values[key][column] for key, column in COLUMNS.values()]
    print(as_markdown(["sampler", *COLUMNS], [[name, *row] for name, row in numbers.items()]))
    columns = dict(zip(COLUMNS, zip(*numbers.values(), strict=True), strict=True))
    judged = ("FD net", "FD random", "KID random")
    against = ("KID net", "coverage net", "class shares")
    rows = [[a, *(float(spearmanr(columns[a], columns[b]).statistic) for b in against)] for a in judged]
    print(as_markdown(["rank correlation", *against], rows))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
