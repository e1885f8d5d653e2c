"""How images become numbers: the networks whose features are compared, and the scores of two feature matrices."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from geovae.checks import check_choice, check_count
from geovae.evaluation.extractors import EXTRACTORS, FeatureCache, extract
from geovae.evaluation.extractors import extractor as build_extractor
from geovae.evaluation.score import Numbers, subset
from geovae.evaluation.scores import SCORES
from geovae.neighbours import Matrix

DEFAULT_SCORES = ("frechet", "kid", "prd", "precision_recall")
RANDOM_SEEDS = (0, 1, 2)  # of the networks that "random-conv-v1" stands for


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
