"""Inception through pytorch-fid: equal to its own network, refused without or with wrong weights, never downloaded."""

import hashlib
import os
import socket
from pathlib import Path
from unittest import mock

import pytest
import torch

from geovae.evaluation import extract, extractor, inception_weights_path
from geovae.evaluation import inception as ours

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """A file of He-initialised weights in the published file's shape, and its hash."""
    module = ours.import_pytorch_fid()
    import torchvision

    with (
        mock.patch.object(module, "load_state_dict_from_url", return_value={}),
        mock.patch.object(torchvision.models.Inception3, "load_state_dict"),
    ):
        network = module.fid_inception_v3()
    generator = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            deviation = (2 / layer.weight[0].numel()) ** 0.5
            layer.weight.data.normal_(0, deviation, generator=generator)
    path = tmp_path_factory.mktemp("weights") / ours.WEIGHTS_NAME
    torch.save(network.state_dict(), path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def installed(weights_file, monkeypatch):
    """The file where torch hub looks for it, with its hash expected, and no way to the network."""
    path, digest = weights_file
    folder = Path(os.environ["TORCH_HOME"]) / "hub" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / ours.WEIGHTS_NAME
    if not target.exists():
        target.symlink_to(path)
    monkeypatch.setattr(ours, "WEIGHTS_SHA256", digest)
    monkeypatch.setattr(socket, "socket", mock.Mock(side_effect=AssertionError("the network was tried")))
    return target


def test_features_equal_pytorch_fids_own_to_the_bit(installed, generator):
    assert inception_weights_path() == installed
    reference = ours.import_pytorch_fid().InceptionV3([3]).eval()  # loads the same file by itself
    images = torch.randint(0, 256, (3, 3, 32, 32), generator=generator, dtype=torch.uint8)
    network = extractor("inception")
    with torch.no_grad():
        expected = reference(images.float() / 255)[0].flatten(1)
        gray = reference((images[:, :1].float() / 255).repeat(1, 3, 1, 1))[0].flatten(1)
    assert float((extract(images, network) - expected).abs().max()) == 0.0
    assert float((extract(images[:, :1], network) - gray).abs().max()) == 0.0
    assert expected.shape == (3, 2048)
    assert float(expected.std()) > 1e-3  # the weights are not degenerate


def test_explicit_weights_and_an_untouched_import(weights_file, monkeypatch):
    path, digest = weights_file
    monkeypatch.setattr(ours, "WEIGHTS_SHA256", digest)
    module = ours.import_pytorch_fid()
    before = module.load_state_dict_from_url
    assert extractor("inception", weights=path).name == "inception"
    assert module.load_state_dict_from_url is before


def test_absent_weights_say_where_to_put_them():
    assert inception_weights_path() is None
    with pytest.raises(
        FileNotFoundError,
        match=r"checkpoints/pt_inception.*pth: download https.*random-conv-v1",
    ):
        extractor("inception")
    with pytest.raises(FileNotFoundError, match=r"no Inception weights at nowhere.pth"):
        extractor("inception", weights="nowhere.pth")


def test_wrong_hash_is_refused_before_loading(tmp_path):
    path = tmp_path / ours.WEIGHTS_NAME
    path.write_bytes(b"not weights")
    with (
        mock.patch.object(torch, "load", side_effect=AssertionError("loaded unchecked bytes")),
        pytest.raises(ValueError, match=r"sha256 is [0-9a-f]{64}, not 6726825d[0-9a-f]{56};"),
    ):
        extractor("inception", weights=path)


def test_channels(installed):
    with pytest.raises(ValueError, match=r"1 or 3 channels, got 2"):
        extract(torch.zeros(1, 2, 8, 8), extractor("inception"))
