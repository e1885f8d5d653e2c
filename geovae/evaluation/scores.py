"""The registry of scores, what the numbers of an evaluation mean, and how images become such numbers (`Scorer`).

To add a score: one file with a function that `score` decorates (see score.py), and one line in `SCORES`.
"""

import functools
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from geovae.checks import check_choice, check_count
from geovae.evaluation.classifier import CLASS_SHARES
from geovae.evaluation.extractors import EXTRACTORS, FeatureCache, extract
from geovae.evaluation.extractors import extractor as build_extractor
from geovae.evaluation.frechet import frechet
from geovae.evaluation.kid import kid
from geovae.evaluation.neighbour_scores import MEMORISATION, neighbours, precision_recall
from geovae.evaluation.prd import prd
from geovae.evaluation.score import Number, Numbers, Score, subset
from geovae.neighbours import Matrix

SCORES: dict[str, Score] = {
    "frechet": frechet,
    "kid": kid,
    "prd": prd,
    "precision_recall": precision_recall,
    "neighbours": neighbours,
}
DEFAULT_SCORES = ("frechet", "kid", "prd", "precision_recall")
RANDOM_SEEDS = (0, 1, 2)  # of the networks that "random-conv-v1" stands for
LEAST_NOVELTY = 0.95  # a sampler whose `code_novelty` is below copies: it never leads a table
WEAK = ("random-conv-v1", "pixels")  # extractors that see noise and blur, and cannot rank samplers of real data
OTHERS = {
    "code_novelty": Number(
        "median distance of the latents to the nearest training code, over that of held-out codes: 1 is as new as real "
        "data, below .95 the sampler copies"
    ),
    "decoded_ratio": Number(
        "Frechet distance over that of decoded held-out codes at one n: 1 is a perfect sampler for this decoder",
        "-",
        "lower",
        equal=1.0,
    ),
    "n": Number("samples scored", "count"),
    "reference_n": Number("real images that they were scored against", "count"),
    "n_features": Number(
        "features of the extractor: with fewer samples or real images the distance is biased", "count"
    ),
}


def headline(extractor: str) -> str:
    """Return the name of the score by which runs are ranked: the Frechet distance of this extractor's features.

    `fid` and `kid` are reserved for Inception's features: with another extractor, its name is part of the number's.

    Raises:
        ValueError: for `auto`, which only the data set decides.
    """
    if extractor == "auto":
        raise ValueError("`extractor` auto needs the data set, which is not found here: give the extractor's name")
    return frechet.numbers["frechet"].recorded_name("frechet", extractor)


def recorded_numbers() -> dict[str, Number]:
    """Return every number that an evaluation records by its name; `<extractor>` and `<space>` stand for any word."""
    found: dict[str, Number] = {}
    for score in SCORES.values():
        for key, number in score.numbers.items():
            found |= {number.recorded_name(key, extractor): number for extractor in ("inception", "<extractor>")}
    return found | CLASS_SHARES | MEMORISATION | OTHERS


def is_weak(name: str) -> bool:
    """Return whether an extractor, or the headline score of one, cannot rank samplers of real data."""
    return name.removeprefix("fd_") in WEAK


def is_biased(values: Mapping[str, float]) -> bool:
    """Return whether the Frechet distance among the numbers of an evaluation is from fewer rows than features."""
    n = min(values.get("n", math.inf), values.get("reference_n", math.inf))
    return n < values.get("n_features", 0.0)


def copies(values: Mapping[str, float]) -> bool:
    """Return whether the samples of an evaluation stay nearer to the training codes than new data would."""
    return values.get("code_novelty", math.inf) < LEAST_NOVELTY


def better(name: str) -> str:
    """Return `lower` or `higher`, or an empty string where a recorded metric such as `score/n` does not judge."""
    name = name.rpartition("/")[2]
    patterns = {re.sub(r"<\w+>", r"[\\w.-]+?", re.escape(key)): number for key, number in recorded_numbers().items()}
    # several match `kid_pixels_stderr`: the longest is the most specific
    matching = [pattern for pattern in patterns if re.fullmatch(pattern, name)]
    return patterns[max(matching, key=len)].better if matching else ""


@dataclass(frozen=True)
class Scorer:
    """How images become numbers: which features, which scores, and where to compute and cache.

    Args:
        extractor: a name of `EXTRACTORS`, a network, or several networks of one `name`. "random-conv-v1" stands for
            three networks: values are means over them, and `<name>_sd` their standard deviation.
        scores: names of `SCORES`.
        seed: of all subsamples.
        batch_size: of the extractor.
        device: of the extractor and the scores.
        cache: of features, for sets that are scored several times.
        progress: show a bar on stderr.
    """

    extractor: str | nn.Module | Sequence[nn.Module] = "random-conv-v1"
    scores: Sequence[str] = DEFAULT_SCORES
    seed: int = 0
    batch_size: int = 50
    device: torch.device | str = "cpu"
    cache: FeatureCache | None = None
    progress: bool = False
    _known: dict[tuple[str, str], Numbers] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the names, and build the networks: now, not after the samples were drawn."""
        if isinstance(self.scores, str):
            raise ValueError(f"`scores` must be a list of names, got {self.scores!r}")
        for name in self.scores:
            check_choice("scores", name, SCORES)
        check_count(batch_size=self.batch_size)
        _ = self.networks

    @functools.cached_property
    def networks(self) -> list[nn.Module]:
        """The extractor's networks, all of one `name`."""
        if isinstance(self.extractor, str):
            seeds = RANDOM_SEEDS if self.extractor == "random-conv-v1" else ()
            return [build_extractor(self.extractor, seed=seed) for seed in seeds] or [build_extractor(self.extractor)]
        networks = [self.extractor] if isinstance(self.extractor, nn.Module) else list(self.extractor)
        names = {str(getattr(network, "name", "")) for network in networks}
        if len(names) != 1 or not all(names) or not all(hasattr(network, "id") for network in networks):
            raise ValueError(
                f"`extractor` needs networks of one `name`, each with an `id`, got the names {sorted(names)}"
            )
        # nobody else's features may be recorded as `fid`
        for network in networks:
            if network.name in EXTRACTORS and not isinstance(network, EXTRACTORS[str(network.name)]):
                raise ValueError(f"the extractor name {network.name!r} is taken; give the network another `name`")
        return networks

    @property
    def least_images(self) -> int:
        """How many images each set needs: spread and the row of real images are from halves."""
        return 2 * least_rows(self.scores)

    @property
    def name(self) -> str:
        """The extractor's name."""
        return str(self.networks[0].name)

    def features(self, images: Tensor, network: nn.Module) -> Tensor:
        """Return the features (n, dims) of images on the scorer's device, from the cache where there is one."""
        compute = extract if self.cache is None else self.cache.features
        options: dict[str, Any] = {"batch_size": self.batch_size, "device": self.device, "progress": self.progress}
        return compute(images, network, **options).to(self.device)

    def score(self, *, real: Matrix, fake: Matrix) -> Numbers:
        """Return all scores of feature matrices `real` (n, dims) and `fake` (m, dims), by recorded name.

        Scores that are not `any_n` get as many rows of the larger set, drawn at random, as the smaller one has. The
        same pair is scored once: the rows of real images are the same for every sampler.
        """
        real, fake = torch.as_tensor(real), torch.as_tensor(fake)
        key = _hash(real), _hash(fake)
        if key not in self._known:
            n = min(len(real), len(fake))
            equal = {"real": subset(real, n, self.seed), "fake": subset(fake, n, self.seed + 1)}
            found: Numbers = {}
            for name in self.scores:
                score = SCORES[name]
                numbers = score(real=real, fake=fake) if score.any_n else score(**equal)
                found |= {score.numbers[k].recorded_name(k, self.name): value for k, value in numbers.items()}
            self._known[key] = found
        return dict(self._known[key])


def least_rows(scores: Sequence[str]) -> int:
    """Return how many images a set must have for `scores`, names in `SCORES`."""
    return max((SCORES[name].least_rows for name in scores), default=1)


def _hash(features: Tensor) -> str:
    return hashlib.sha256(features.cpu().contiguous().numpy().data).hexdigest()
