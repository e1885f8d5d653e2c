"""`geovae.sample`: images from any autoencoder, or latents from codes, in one call."""

from typing import Any

import torch
from torch import Tensor

from geovae.adapters.adapter import adapt, evaluating
from geovae.checks import check_choice
from geovae.codes import Codes, encode_images
from geovae.images import check_images, to_uint8
from geovae.samplers import SAMPLERS

BATCH = 100  # latents decoded at once


@torch.no_grad()
def sample(
    source: Any, images: Tensor | None = None, *, n: int = 100, sampler: str = "local", seed: int = 0, **options: Any
) -> Tensor:
    """Return `n` new images, uint8 (n, c, h, w), of an autoencoder; or latents (n, d), of `Codes`.

    Args:
        source: a torch module with `encode` and `decode`, a pair of callables `(encode, decode)`, an adapter of
            `geovae.adapters`, or `Codes`. `encode` takes images in [0, 1] and returns `(mu, log_var)` or `mu`; `decode`
            returns images in [0, 1].
        images: (m, c, h, w), uint8 or in [0, 1], whose codes the sampler is fitted on: those of the training. Not for
            `Codes`.
        n: how many.
        sampler: a name in `SAMPLERS`.
        seed: of the draws.
        **options: of the sampler.

    Raises:
        ValueError: if an argument is of the wrong kind, or the sampler needs variances that the encoder has not.
    """
    check_choice("sampler", sampler, SAMPLERS)
    chosen = SAMPLERS[sampler](**options)
    generator = torch.Generator().manual_seed(seed)
    if isinstance(source, Codes):
        return chosen.fit(source).sample(n, generator)
    model = adapt(source)
    if images is None:
        raise ValueError("`images` is missing: pass the images of the training, whose codes the sampler is fitted on")
    check_images(images)
    with evaluating(model):
        z = chosen.fit(encode_images(model, images, batch_size=BATCH)).sample(n, generator)
        like = next(model.parameters())
        return torch.cat([to_uint8(model.decode(batch.to(like)).float()).cpu() for batch in z.split(BATCH)])
