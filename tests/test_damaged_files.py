"""A model file or checkpoint that is damaged, or describes no model, is refused in one sentence."""

import json
import random

import pytest
import torch
from safetensors.torch import load_file, save_file

from geovae import checkpoint
from geovae.models import build_model
from geovae.saved_model import load_model
from geovae.training import Trainer

NUMBERS = {"a": torch.arange(40.0).reshape(5, 8), "b": torch.ones(3, dtype=torch.bfloat16), "c": torch.tensor(2)}
FLIPS = 300


def test_every_flipped_bit_is_seen(tmp_path):
    good = checkpoint.save(tmp_path / "good", NUMBERS, {"kind": "training", "state": {"epoch": 3}})
    content, chance = good.read_bytes(), random.Random(0)
    wanted = checkpoint.load(good)
    for _ in range(FLIPS):
        damaged = bytearray(content)
        place = chance.randrange(len(damaged))
        damaged[place] ^= 1 << chance.randrange(8)
        (tmp_path / "bad").write_bytes(damaged)
        try:
            tensors, meta = checkpoint.load(tmp_path / "bad")
        except ValueError:
            continue
        # a blank of the padding may change: what is read must not
        assert meta == wanted[1]
        assert all(torch.equal(tensors[name], value) for name, value in wanted[0].items())


def test_a_file_cut_anywhere_is_refused(tmp_path):
    content = checkpoint.save(tmp_path / "good", NUMBERS, {"kind": "training"}).read_bytes()
    for end in (0, 1, 7, 8, 9, 100, len(content) - 1):
        (tmp_path / "bad").write_bytes(content[:end])
        with pytest.raises(ValueError, match="is not a safetensors file, or is damaged"):
            checkpoint.load(tmp_path / "bad")


def test_a_file_of_before_the_digest_is_read(trained_vae, tmp_path):
    tensors, meta = checkpoint.load(trained_vae)
    save_file(tensors, tmp_path / "old", {"geovae": json.dumps(meta)})
    assert torch.equal(load_model(tmp_path / "old").codes.mu, tensors["codes.mu"])


@pytest.mark.parametrize("header", ["[]", "1", "null", "{", "[" * 100_000, '"x"'])
def test_a_header_that_is_no_mapping_is_one_sentence(header, tmp_path):
    save_file(NUMBERS, tmp_path / "bad", {"geovae": header})
    with pytest.raises(ValueError, match="bad is damaged: its header"):
        checkpoint.load(tmp_path / "bad")


MISSING = object()
FIELDS = {
    "model": [MISSING, None, 1, [], "nope"],
    "options": [MISSING, None, [], "x", {"nope": 1}, {"latent_dim": 10**11}, {"latent_dim": "2"}, {"latent_dim": None}],
    "image_shape": [MISSING, None, 28, "x", [], [1, 28], [1, -28, 28], [1, 28.0, 28], [1, 10**9, 28], [True] * 3],
    "sampler": [1, "x", [], {"prior": 1}],
    "data": [1, "x", []],
    "best_sampler": [1, []],
    "scores": [1, "x"],
    "digest": [1],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in FIELDS.items() for value in values])
def test_a_header_that_describes_no_model_is_one_sentence(field, value, trained_vae, tmp_path):
    tensors, meta = checkpoint.load(trained_vae)
    meta = {key: kept for key, kept in meta.items() if key != field} | ({} if value is MISSING else {field: value})
    checkpoint.save(tmp_path / "bad", tensors, meta)
    with pytest.raises(
        ValueError, match=r"header of .*bad|bad does not describe a model|bad holds a model of"
    ) as refused:
        load_model(tmp_path / "bad")
    assert len(str(refused.value)) < 500
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("mu", [None, torch.ones(3), torch.ones(3, 2, dtype=torch.int64), torch.ones(4, 99)])
def test_codes_that_are_none_are_refused(mu, trained_vae, tmp_path):
    tensors, meta = checkpoint.load(trained_vae)
    tensors = {name: value for name, value in tensors.items() if name != "codes.mu"}
    checkpoint.save(tmp_path / "bad", tensors | ({} if mu is None else {"codes.mu": mu}), meta)
    with pytest.raises(ValueError, match="codes"):
        load_model(tmp_path / "bad")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["model.", "codes.mu"])
def test_values_that_are_not_finite_are_refused(part, value, trained_vae, tmp_path):
    tensors, meta = checkpoint.load(trained_vae)
    name = next(name for name in tensors if name.startswith(part))
    tensors[name].view(-1)[0] = value
    checkpoint.save(tmp_path / "bad", tensors, meta)
    with pytest.raises(ValueError, match=f"holds values in {name} that are not finite"):
        load_model(tmp_path / "bad")


@pytest.mark.parametrize("state", [None, [], {}, {"epoch": 1}])
def test_a_checkpoint_that_lacks_parts_is_one_sentence(state, tmp_path):
    fresh = Trainer(epochs=1).start(build_model("vae", (1, 8, 8), latent_dim=2, network="mlp"), seed=0)
    checkpoint.save(tmp_path / "bad", {}, {"kind": "training", "state": state})
    with pytest.raises(ValueError, match=r"must hold `state` of type dict|lacks parts"):
        checkpoint.load_training(tmp_path / "bad", fresh)


def test_the_digest_is_of_the_tensors_as_they_are_stored(tmp_path):
    path = checkpoint.save(tmp_path / "good", NUMBERS, {})
    changed = load_file(path)
    changed["a"][0, 0] = 1.0
    checkpoint.save(tmp_path / "other", changed, {})
    content = bytearray(path.read_bytes())
    size = len(content) - sum(value.nbytes for value in NUMBERS.values())
    path.write_bytes(content[:size] + (tmp_path / "other").read_bytes()[size:])
    with pytest.raises(ValueError, match="good is damaged: its content is not what was written"):
        checkpoint.load(path)
