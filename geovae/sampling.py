"""`geovae.sample`: images from any autoencoder, or latents from codes, in one call."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from geovae.adapters.adapter import adapt, evaluating
from geovae.checks import check_choice
from geovae.codes import Codes, encode_images
from geovae.images import check_images, to_uint8
from geovae.samplers import SAMPLERS, Sampler, fit_sampler

BATCH = 100  # latents decoded at once
LARGEST_MIXTURE = 200  # dimensions: beyond, the covariances of many components take gigabytes, and `local` needs none


@torch.no_grad()
def sample(
    source: Any,
    images: Tensor | None = None,
    *,
    labels: Tensor | None = None,
    label: int | None = None,
    n: int = 100,
    sampler: str = "",
    seed: int = 0,
    **options: Any,
) -> Tensor:
    """Return `n` new images, uint8 (n, c, h, w), of an autoencoder; or latents (n, d), of `Codes`.

    Args:
        source: a torch module with `encode` and `decode`, a pair of callables `(encode, decode)`, an adapter of
            `geovae.adapters`, or `Codes`. `encode` takes images in [0, 1] and returns `(mu, log_var)` or `mu`; `decode`
            returns images in [0, 1].
        images: (m, c, h, w), uint8 or in [0, 1], whose codes the sampler is fitted on: those of the training. Not for
            `Codes`.
        labels: (m,) classes of the images, if they are known: `fine_mixture` then fits a mixture for each.
        label: of the one class to draw.
        n: how many.
        sampler: a name in `SAMPLERS`; by default fine_mixture, the most even over data sets and models
            (docs/novelty.md), or local where latents have more than 200 dimensions.
        seed: of the draws.
        **options: of the sampler.

    Raises:
        ValueError: if an argument is of the wrong kind, or the sampler needs variances that the encoder has not.
    """
    if sampler:
        check_choice("sampler", sampler, SAMPLERS)
    generator = torch.Generator().manual_seed(seed)
    if isinstance(source, Codes):
        return _fit(sampler, source, label, options).sample(n, generator)
    model = adapt(source)
    if images is None:
        raise ValueError("`images` is missing: pass the images of the training, whose codes the sampler is fitted on")
    check_images(images)
    if labels is not None and labels.shape != images.shape[:1]:
        raise ValueError(f"`labels` must have shape ({len(images)},), one for each image, got {tuple(labels.shape)}")
    with evaluating(model):
        codes = replace(encode_images(model, images, batch_size=BATCH), labels=labels)
        z = _fit(sampler, codes, label, options).sample(n, generator)
        like = next(model.parameters())
        return torch.cat([to_uint8(model.decode(batch.to(like)).float()).cpu() for batch in z.split(BATCH)])


def _fit(name: str, codes: Codes, label: int | None, options: dict[str, Any]) -> Sampler:
    name = name or ("fine_mixture" if codes.mu.shape[1] <= LARGEST_MIXTURE else "local")
    return fit_sampler(name, codes, label=label, **options)
