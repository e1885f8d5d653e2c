"""`extract` and the registry: batches, types, user modules, errors."""

import pytest
import torch
from torch import nn

from geovae.evaluation import EXTRACTORS, extract, extractor


class Embedding(nn.Module):
    """A user's network: mean colour through a linear map."""

    def __init__(self, width=4):
        super().__init__()
        self.linear = nn.Linear(3, width)

    def forward(self, x):
        return self.linear(x.mean(dim=(2, 3)))


class Wrong(nn.Module):
    name = id = "wrong"

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x):
        return self.output(x)


@pytest.fixture
def images(generator):
    return torch.randint(0, 256, (7, 3, 8, 6), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("name", ["random-conv-v1", "pixels"])
def test_batches_and_types_agree(name, images, device):
    network = extractor(name)
    whole = extract(images, network, batch_size=7, device=device)
    assert whole.dtype == torch.float32
    assert whole.device.type == "cpu"
    assert not whole.requires_grad
    assert not whole.is_inference()  # the caller may change it in place
    torch.testing.assert_close(extract(images, network, batch_size=3, device=device), whole)
    torch.testing.assert_close(extract(images.float() / 255, network, device=device), whole)
    torch.testing.assert_close(
        extract(images.double() / 255, extractor("pixels")), extract(images, extractor("pixels"))
    )


def test_every_extractor_has_a_name_and_an_id():
    for name in EXTRACTORS.keys() - {"inception", "module"}:  # which need a file
        assert extractor(name).name == name
        assert extractor(name).id.startswith(name)


def test_a_users_module(images, tmp_path):
    network = Embedding(width=5)
    torch.save(network.state_dict(), tmp_path / "state.pt")
    target = "tests_user_module:Embedding"
    import sys
    import types

    sys.modules["tests_user_module"] = types.ModuleType("tests_user_module")
    sys.modules["tests_user_module"].Embedding = Embedding
    loaded = extractor("module", target=target, state=tmp_path / "state.pt", options={"width": 5})
    with torch.no_grad():
        torch.testing.assert_close(extract(images, loaded), network(images.float() / 255))
    assert loaded.name == "Embedding"
    again = extractor("module", target=target, state=tmp_path / "state.pt", options={"width": 5})
    assert again.id == loaded.id
    network.linear.weight.data += 1e-3
    torch.save(network.state_dict(), tmp_path / "other.pt")
    other = extractor("module", target=target, state=tmp_path / "other.pt", options={"width": 5})
    assert other.id != loaded.id


def test_a_users_module_that_cannot_be_had(tmp_path):
    with pytest.raises(ValueError, match=r"'package.module:Class', got 'torch.nn.Linear'"):
        extractor("module", target="torch.nn.Linear")
    with pytest.raises(ValueError, match=r"'torch.nn:Nothing' cannot be imported"):
        extractor("module", target="torch.nn:Nothing")
    with pytest.raises(ValueError, match=r"must make a torch.nn.Module, got dict"):
        extractor("module", target="builtins:dict")
    with pytest.raises(FileNotFoundError, match=r"no state dict at .*absent.pt"):
        extractor("module", target="torch.nn:Flatten", state=tmp_path / "absent.pt")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"state.pt is not a state dict of Flatten"):
        extractor("module", target="torch.nn:Flatten", state=tmp_path / "state.pt")


def test_a_pickle_is_not_run(tmp_path):
    """`weights_only`: an object with code in the file is refused."""
    torch.save({"weight": Embedding()}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"is not a state dict of Flatten"):
        extractor("module", target="torch.nn:Flatten", state=tmp_path / "state.pt")


def test_progress_goes_to_stderr_only_when_asked(images, capsys):
    extract(images, extractor("pixels"), progress=True)
    assert "pixels" in capsys.readouterr().err
    extract(images, extractor("pixels"))
    assert capsys.readouterr() == ("", "")


def test_bad_input(images):
    with pytest.raises(ValueError, match=r"`extractor` must be one of inception, .*random-conv-v1.*got 'vgg'"):
        extractor("vgg")
    with pytest.raises(ValueError, match=r"must lie in"):
        extract(images.float(), extractor("pixels"))
    with pytest.raises(ValueError, match=r"`batch_size` must be a whole number of at least 1, got 0"):
        extract(images, extractor("pixels"), batch_size=0)
    with pytest.raises(ValueError, match=r"wrong must return features of shape \(7, dims\), got \(7, 3, 8, 6\)"):
        extract(images, Wrong(lambda x: x))
    with pytest.raises(ValueError, match=r"wrong gave features that are NaN or infinite"):
        extract(images, Wrong(lambda x: x.flatten(1).log()))
