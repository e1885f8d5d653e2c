"""diffusers' AutoencoderKL with random weights: the adapter's codes and images are those of diffusers."""

import pytest
import torch

from geovae.adapters import from_diffusers, load_diffusers
from geovae.adapters.diffusers import autoencoder_kl
from geovae.codes import encode_images
from geovae.sampling import sample

IMAGES = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def vae():
    pytest.importorskip("diffusers")  # loads before torchvision is tried, as in a user's program
    return autoencoder_kl()(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=2,
        norm_num_groups=4,
    ).eval()


def test_codes_are_the_flattened_latents(vae):
    adapter = from_diffusers(vae)
    codes = encode_images(adapter, IMAGES)
    with torch.no_grad():
        truth = vae.encode(IMAGES * 2 - 1).latent_dist
        assert truth.mean.shape == (20, 2, 8, 8)
        torch.testing.assert_close(codes.mu, truth.mean.flatten(1))
        torch.testing.assert_close(codes.log_var, truth.logvar.flatten(1))
        torch.testing.assert_close(adapter.decode(codes.mu), vae.decode(truth.mean).sample / 2 + 0.5)


def test_a_saved_model_is_sampled(vae, tmp_path):
    vae.save_pretrained(tmp_path)
    for sampler in ("local", "riemannian"):
        loaded = sample(load_diffusers(tmp_path), IMAGES, n=4, sampler=sampler)
        assert loaded.dtype == torch.uint8
        assert loaded.shape == (4, 3, 16, 16)
        assert torch.equal(loaded, sample(from_diffusers(vae), IMAGES, n=4, sampler=sampler))


def test_a_pickled_model_is_refused(vae, tmp_path):
    vae.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(FileNotFoundError, match="expected config.json and"):
        load_diffusers(tmp_path)
