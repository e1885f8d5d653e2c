"""Samplers of the latent space on the same codes: ours, scikit-learn's and pythae's; seconds and quality.

    PYTHONPATH=. python benchmarks/samplers_on_codes.py MODEL.safetensors [--threads 2] [--repeats 3] [--only NAME ...]
    PYTHONPATH=. python benchmarks/samplers_on_codes.py --synthetic 60000 [--threads 2] [--repeats 3]

MODEL is the model file of a run on a data set with labels; that of an `adopt` run is a model of pythae, from which both
pythae's samplers and ours then draw. Each sampler is fitted on its training codes and draws
10,000 latents; 1,000 of them are decoded by the one decoder and scored against the test images with the data set's
classifier. pythae's samplers get an identity in place of encoder and decoder: they see the codes and nothing else.
Without a model, codes of a mixture of 200 Gaussians in 16 dimensions are timed alone. Processor seconds of all threads,
which other programs on the machine change little, median (lowest to highest). Prints a table and writes nothing.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from experiments.extractor import resolve_extractor
from experiments.judge import score_samples
from experiments.run import load_data
from geovae.codes import Codes
from geovae.evaluation import Scorer
from geovae.samplers import SAMPLERS
from geovae.saved_model import load_model
from geovae.tracking import NullTracker

DRAWS, SCORED = 10_000, 1000
Draw = Callable[[], Tensor]
Fit = Callable[[Codes], Draw]


def ours(name: str, **options: Any) -> Fit:
    """Return one of geovae's samplers."""

    def fit(codes: Codes) -> Draw:
        sampler = SAMPLERS[name](**options).fit(codes)
        return lambda: sampler.sample(DRAWS, Generator().manual_seed(0))

    return fit


def from_sklearn(build: Callable[[], Any]) -> Fit:
    """Return a density of scikit-learn's."""

    def fit(codes: Codes) -> Draw:
        model = build().fit(codes.mu.double().numpy())

        def draw() -> Tensor:
            drawn = model.sample(DRAWS)
            points = drawn[0] if isinstance(drawn, tuple) else drawn
            return torch.from_numpy(points[torch.randperm(DRAWS).numpy()]).float()

        return draw

    return fit


def identity(low: Tensor) -> Any:
    """Return what pythae's samplers ask of a VAE, with latents, less their lowest values `low` (d,), as images."""
    from pythae.models import VAE
    from pythae.models.base.base_utils import ModelOutput

    class Identity(VAE):  # the two-stage VAE's sampler refuses other classes
        def __init__(self) -> None:
            nn.Module.__init__(self)
            d = len(low)
            self.device, self.latent_dim, self.input_dim = "cpu", d, (d,)
            self.model_config = argparse.Namespace(latent_dim=d, input_dim=(d,))
            self.decoder = lambda z: ModelOutput(reconstruction=z)

        def forward(self, inputs: Any) -> Any:  # codes with next to no variance
            z = inputs["data"] + low
            return ModelOutput(z=z, mu=z, log_var=torch.full_like(z, -20.0))

    return Identity()


def from_pythae(name: str, **options: Any) -> Fit:
    """Return a sampler of pythae's, by the beginning of its class's name."""

    def fit(codes: Codes) -> Draw:
        from pythae import samplers
        from pythae.trainers import BaseTrainerConfig

        config = getattr(samplers, f"{name}SamplerConfig")(**options)
        held_out = codes.mu if codes.held_out is None else codes.held_out
        low = torch.minimum(codes.mu.min(0).values, held_out.min(0).values)  # pythae refuses "images" below 0
        sampler = getattr(samplers, f"{name}Sampler")(identity(low), config)
        if name == "GaussianMixture":
            sampler.fit(codes.mu - low)
        else:
            training = BaseTrainerConfig(
                output_dir="/tmp/pythae-samplers", num_epochs=50, per_device_train_batch_size=256, no_cuda=True
            )
            sampler.fit(codes.mu - low, eval_data=held_out - low, training_config=training)
        mixed = torch.randperm(DRAWS)  # a mixture's draws come component by component, and only the first are scored
        settings = {"batch_size": DRAWS, "return_gen": True, "save_sampler_config": False}
        return lambda: sampler.sample(DRAWS, **settings).float()[mixed]

    return fit


def candidates(components: int) -> dict[str, Fit]:
    """Return all samplers by name; `components` are those that `fine_mixture` finds."""
    from sklearn.mixture import GaussianMixture
    from sklearn.neighbors import KernelDensity

    return {
        "fine_mixture": ours("fine_mixture"),
        "local": ours("local"),
        "mixture": ours("mixture"),
        "riemannian, published": ours("riemannian"),
        "prior": ours("prior"),
        "scikit-learn GaussianMixture, 10": from_sklearn(lambda: GaussianMixture(10, random_state=0)),
        f"scikit-learn GaussianMixture, {components}": from_sklearn(
            lambda: GaussianMixture(components, random_state=0, reg_covar=1e-4)
        ),
        "scikit-learn KernelDensity, scott": from_sklearn(lambda: KernelDensity(bandwidth="scott")),
        "pythae GaussianMixture, 10": from_pythae("GaussianMixture", n_components=10),
        "pythae MAF": from_pythae("MAF"),
        "pythae IAF": from_pythae("IAF"),
        "pythae TwoStageVAE": from_pythae("TwoStageVAE"),
    }


def synthetic(n: int) -> Codes:
    """Return n codes of 200 Gaussians in 16 dimensions, and a tenth as many held-out ones."""
    generator = Generator().manual_seed(0)
    spread, centres = (torch.randn(*shape, generator=generator) for shape in ((200, 16, 16), (200, 16)))

    def draw(n: int) -> Tensor:
        which = torch.randint(200, (n,), generator=generator)
        noise = torch.randn(n, 16, generator=generator)
        return 2 * centres[which] + 0.3 * torch.einsum("nij,nj->ni", spread[which], noise)

    return Codes(draw(n), torch.full((n, 16), -4.0), held_out=draw(n // 10))


def measured(action: Callable[[], Any], repeats: int) -> tuple[Any, str]:
    """Return the last result, and the median and range of the seconds."""
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        result = action()
        seconds.append(time.process_time() - started)
    return result, f"{statistics.median(seconds):.3g} ({min(seconds):.3g} to {max(seconds):.3g})"


def rows(codes: Codes, options: argparse.Namespace) -> Iterator[tuple[str, Tensor, str, str]]:
    """Yield each sampler's name, latents, seconds of the fit, and seconds of 10,000 draws."""
    _, info = SAMPLERS["fine_mixture"]().fit(codes).sample(2, Generator(), return_info=True)
    for name, fit in candidates(int(info.scalars()["n_components"])).items():
        if options.only and not any(part in name for part in options.only):
            continue
        try:
            draw, fitting = measured(lambda fit=fit: fit(codes), 1 if "pythae" in name else options.repeats)
            z, drawing = measured(draw, options.repeats)
        except ImportError as error:
            print(f"{name}: left out ({error})")
            continue
        yield name, z, fitting, drawing


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--synthetic", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    if options.model is None:
        print(f"| sampler | fit, s | {DRAWS:,} draws, s |\n|---|---|---|")
        for name, _, fitting, drawing in rows(synthetic(options.synthetic or 60_000), options):
            print(f"| {name} | {fitting} | {drawing} |", flush=True)
        return
    saved = load_model(options.model)
    splits = load_data(saved.meta["data"])
    scorer = Scorer(resolve_extractor("auto", saved.meta["data"]), ["frechet", "kid", "precision_recall"])
    scorers = {"score": scorer, "val_score": Scorer(scorer.extractor, ["frechet"])}
    print(f"{len(saved.codes.mu):,} codes, d = {saved.codes.mu.shape[1]}")
    print(f"| sampler | fit, s | {DRAWS:,} draws, s | {scorer.name} | x decoded | coverage | class shares | novelty |")
    print("|---|---|---|---|---|---|---|---|")
    for name, z, fitting, drawing in rows(saved.codes, options):
        found = score_samples(saved, {name: z[:SCORED].to(saved.codes.mu)}, splits, scorers, NullTracker())
        values = found["score"][name]
        shown = (f"fd_{scorer.name}", "decoded_ratio", "coverage", "class_share_distance", "code_novelty")
        print(f"| {name} | {fitting} | {drawing} | " + " | ".join(f"{values[k]:.3g}" for k in shown) + " |", flush=True)


if __name__ == "__main__":
    main()
