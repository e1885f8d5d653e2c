"""A model file: what it gives back, and what it draws."""

import shutil

import pytest
import torch

from geovae.codes import Codes
from geovae.data import DATASETS
from geovae.samplers import MixtureSampler, PriorSampler, RiemannianSampler
from geovae.saved_model import load_model, save_model


@pytest.fixture(scope="module")
def saved(trained_vae):
    return load_model(trained_vae)


def draw(sampler, seed=0):
    return sampler.sample(5, torch.Generator().manual_seed(seed))


def test_images_come_back_from_their_codes(saved):
    images = DATASETS["mnist_5k"](train_size=500).train.images
    codes = saved.encode(images)
    assert torch.equal(codes.mu, saved.codes.mu)
    assert codes.log_var is not None
    found = saved.decode(codes.mu.double())  # any precision is decoded in that of the model
    assert (found.dtype, found.shape, found.device.type) == (torch.uint8, images.shape, "cpu")
    error, variance = ((images.float() - other.float()).square().mean() for other in (found, images.float().mean(0)))
    assert error < 0.75 * variance  # the mean image, which is the best that a constant decoder does, has 1


def test_decoding_batch_by_batch_is_decoding_at_once(saved, monkeypatch):
    at_once = saved.decode(saved.codes.mu[:10])
    monkeypatch.setattr("geovae.saved_model.BATCH", 3)
    assert torch.equal(saved.decode(saved.codes.mu[:10]), at_once)


def test_a_sampler_has_the_recorded_options_unless_others_are_given(saved):
    best = saved.sampler()
    assert isinstance(best, MixtureSampler)
    assert torch.equal(draw(best), draw(MixtureSampler(n_components=12).fit(saved.codes)))
    riemannian = saved.sampler("riemannian")
    assert torch.equal(draw(riemannian), draw(RiemannianSampler(n_centroids=30, n_transitions=3).fit(saved.codes)))
    longer = saved.sampler("riemannian", n_transitions=6)
    assert torch.equal(draw(longer), draw(RiemannianSampler(n_centroids=30, n_transitions=6).fit(saved.codes)))
    assert torch.equal(draw(saved.sampler("prior")), draw(PriorSampler().fit(saved.codes)))  # nothing recorded


def test_a_sampler_can_be_fitted_on_other_codes(saved):
    rows = saved.codes.labels == 3
    codes = Codes(saved.codes.mu[rows], saved.codes.log_var[rows])
    assert torch.equal(draw(saved.sampler(codes=codes)), draw(MixtureSampler(n_components=12).fit(codes)))


def test_an_unknown_or_missing_sampler_is_refused(saved, trained_ae, tmp_path):
    with pytest.raises(ValueError, match="`sampler` must be one of prior, mixture, .*, got 'gibbs'"):
        saved.sampler("gibbs")
    with pytest.raises(ValueError, match="codes come from a deterministic encoder"):
        load_model(trained_ae).sampler("riemannian")
    unscored = {"name": saved.meta["model"], "options": saved.meta["options"], "image_shape": saved.meta["image_shape"]}
    path = save_model(tmp_path / "m.safetensors", saved.model, saved.codes, **unscored)
    with pytest.raises(ValueError, match="`sampler` must be one of .*, got None"):
        load_model(path).sampler()


def test_the_splits_are_those_of_the_training(saved):
    splits = saved.splits()
    assert splits.digest == saved.meta["digest"]
    assert torch.equal(splits.train.labels, saved.codes.labels)
    saved.meta["data"]["seed"] = 1
    try:
        with pytest.raises(ValueError, match="'mnist_5k' found here is not the one that the model was trained on"):
            saved.splits()
    finally:
        del saved.meta["data"]["seed"]


def test_files_of_another_kind_are_refused(trained_vae, tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_model(tmp_path / "none.safetensors")
    damaged = shutil.copy(trained_vae, tmp_path / "damaged.safetensors")
    with open(damaged, "r+b") as file:
        file.truncate(200)
    with pytest.raises(ValueError, match="is damaged"):
        load_model(damaged)
