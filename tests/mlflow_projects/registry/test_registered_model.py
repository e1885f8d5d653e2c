"""The registered model: every mode in process, loaded from a registry elsewhere, and served over HTTP under load."""

import base64
import io
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.serving import REQUESTS, load, post, served
from geovae.codes import Codes
from geovae.images import to_uint8
from geovae.samplers import SAMPLERS
from mlflow_projects.registry.evidence import Rules, gather
from mlflow_projects.registry.registered_model import BadRequest, GenerativeModel, _in_a_sentence
from mlflow_projects.registry.versions import fetch_model, register
from tests.attack.hostile import attack
from tests.isolated import ISOLATED

HOSTILE_SECONDS = float(os.environ.get("HOSTILE_SECONDS", "15"))  # 3600 for an hour of them


@pytest.fixture(scope="module")
def model(model_file):
    made = GenerativeModel()
    made.load_context(SimpleNamespace(artifacts={"model": str(model_file)}))
    return made


@pytest.fixture
def ask(model):
    return lambda given=None, **params: model.predict(None, given, params)


def pngs(images):
    """Encode images (n, h, w) in base64, as a client would."""
    texts = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        texts.append(base64.b64encode(file.getvalue()).decode())
    return texts


def pixels(texts):
    return np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in texts])


# one of each of the digits 0, 1 and 2, which the model was trained on
IMAGES = (load_digits().images[:3, ..., None] / 16 * 255).round().astype(np.uint8)


@pytest.mark.parametrize("sampler", ["", "prior", "mixture", "riemannian"])
def test_the_same_seed_draws_the_same(ask, sampler):
    one = ask(n=5, sampler=sampler, seed=3)
    assert one.shape == (5, 8, 8, 1)
    assert one.dtype == np.uint8
    assert np.array_equal(one, ask(n=5, sampler=sampler, seed=3))
    assert not np.array_equal(one, ask(n=5, sampler=sampler, seed=4))


def test_png_files_hold_what_the_array_holds(ask):
    assert np.array_equal(pixels(ask(n=4, seed=1, format="png")), ask(n=4, seed=1)[..., 0])


def test_reconstruct_is_decode_after_encode_for_arrays_and_files(ask):
    latents = ask(IMAGES, mode="encode")
    assert latents.shape == (3, 2)
    assert np.array_equal(ask(latents, mode="decode"), ask(IMAGES, mode="reconstruct"))
    assert np.array_equal(ask(pngs(IMAGES[..., 0]), mode="encode"), latents)
    assert np.array_equal(ask(IMAGES[..., 0].tolist(), mode="encode"), latents)


def differences(images, other):
    """The mean difference in grey levels of each of `images` to the image `other`."""
    return np.abs(images.astype(int) - other.astype(int)).mean(axis=(1, 2, 3))


def test_reconstructions_look_like_the_images(ask):
    """And unlike the other ones: the tests below compare images of a model that has learnt something."""
    for i, reconstruction in enumerate(ask(IMAGES[:2], mode="reconstruct")):
        assert np.argmin(differences(IMAGES[:2], reconstruction)) == i


def test_interpolations_move_from_the_first_end_to_the_second(ask):
    latents = ask(IMAGES[:2], mode="encode")
    first, second = ask(latents, mode="decode")
    assert differences(first[None], second) > 30
    for ends in (IMAGES[:2], latents):
        curve = ask(ends, mode="interpolate", n=7)
        assert curve.shape == (7, 8, 8, 1)
        assert np.abs(curve[0].astype(int) - first.astype(int)).max() <= 1
        assert np.abs(curve[-1].astype(int) - second.astype(int)).max() <= 1
        from_first, from_second = differences(curve, first), differences(curve, second)
        assert from_first[1] < from_second[1]
        assert from_first[-2] > from_second[-2]


def test_labels_draw_around_the_codes_of_their_class(ask, model):
    """The mixture of a class is the mixture that is fitted on that class's codes alone."""
    rows = model.saved.codes.labels == 2
    codes = Codes(model.saved.codes.mu[rows], model.saved.codes.log_var[rows])
    z = SAMPLERS["mixture"]().fit(codes).sample(4, torch.Generator().manual_seed(0))
    expected = to_uint8(model.saved.model.decode(z).detach()).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(ask(n=4, sampler="mixture", labels=[2]), expected)
    assert ask(n=4, sampler="riemannian", labels=[0, 1]).shape == (4, 8, 8, 1)


def test_a_model_whose_centroids_are_all_its_codes_draws_and_interpolates(model_file):
    made = GenerativeModel()
    made.load_context(SimpleNamespace(artifacts={"model": str(model_file)}))
    made.saved.meta["sampler"]["riemannian"]["n_centroids"] = None
    for labels in ([], [1]):
        drawn = made.predict(None, None, {"n": 2, "sampler": "riemannian", "labels": labels})
        assert drawn.shape == (2, 8, 8, 1)
        assert made.sampler("riemannian", tuple(labels)).metric.k == (20 if labels else 60)
    assert made.predict(None, IMAGES[:2], {"mode": "interpolate", "n": 4}).shape == (4, 8, 8, 1)


def test_it_interpolates_where_narrow_posteriors_need_a_metric_in_double_precision(model_file):
    made = GenerativeModel()
    made.load_context(SimpleNamespace(artifacts={"model": str(model_file)}))
    made.saved.codes.log_var[::2] = -30.0  # some of these are centroids
    curve = made.predict(None, IMAGES[:2], {"mode": "interpolate", "n": 4})
    assert str(made.sampler("riemannian", ()).metric.dtype) == "torch.float64"
    ends = made.predict(None, IMAGES[:2], {"mode": "reconstruct"})
    assert differences(ends[:1], ends[1]) > 30
    assert np.abs(curve[[0, -1]].astype(int) - ends.astype(int)).max() <= 1


def test_what_is_kept_in_memory_is_bounded(ask, model):
    for seed in range(40):
        ask(n=1, sampler="mixture", labels=[seed % 3], seed=seed)
        ask(n=1, sampler=("prior", "mixture", "riemannian")[seed % 3], seed=seed)
    assert model.sampler.cache_info().currsize <= 16


@pytest.mark.parametrize(
    ("given", "params", "sentence"),
    [
        (None, {"n": 0}, "`n` must lie between 1 and 10000, got 0"),
        (None, {"n": 10**9}, "`n` must lie between 1 and 10000, got 1000000000"),
        (None, {"seed": -1}, "`seed` must be at least 0, got -1"),
        (None, {"mode": "paint"}, "`mode` must be one of draw, encode, decode, reconstruct, interpolate, got 'paint'"),
        (None, {"format": "gif"}, "`format` must be one of array, png, got 'gif'"),
        (None, {"sampler": "gibbs"}, "`sampler` must be one of prior, mixture, "),
        (None, {"labels": [7], "sampler": "mixture"}, "no training image has the label 7; choose from 0, 1, 2"),
        (
            None,
            {"labels": [1], "sampler": "prior"},
            "the prior sampler knows no labels; choose from mixture, fine_mixture, local, riemannian",
        ),
        (None, {"mode": "encode"}, r"this mode needs an input: images of shape \(n, 8, 8, 1\)"),
        ([], {"mode": "decode"}, r"this mode needs an input: latents of shape \(n, 2\)"),
        (np.zeros((2, 9, 9, 1)), {"mode": "encode"}, r"got an array of shape \(2, 9, 9, 1\)"),
        (np.full((1, 8, 8, 1), 0.5), {"mode": "encode"}, "whole numbers 0 to 255.*got values between 0.5 and 0.5"),
        ([["a"]], {"mode": "decode"}, r"expected latents of shape \(n, 2\), got something that is not an array"),
        (np.zeros((2, 3)), {"mode": "decode"}, r"expected latents of shape \(n, 2\), got \(2, 3\)"),
        (np.full((2, 2), np.nan), {"mode": "decode"}, "latents must be finite numbers"),
        (np.zeros((3, 2)), {"mode": "interpolate"}, "`interpolate` takes two images or two latents, got 3"),
        (np.zeros((2, 2)), {"mode": "interpolate", "n": 1}, "`n` must be at least 2 to interpolate, got 1"),
        (["!!"], {"mode": "encode"}, "an image of the request is not a PNG file in base64"),
        (pngs(np.zeros((1, 9, 9), np.uint8)), {"mode": "encode"}, "expected images of 8 x 8 pixels, got 9 x 9"),
        (np.zeros((10_001, 2)), {"mode": "decode"}, "a request may hold between 1 and 10000 inputs, got 10001"),
    ],
)
def test_a_bad_request_is_one_sentence(ask, given, params, sentence):
    with pytest.raises(BadRequest, match=sentence):
        ask(given, **params)


def test_mlflow_cannot_put_the_request_before_the_sentence():
    error = BadRequest("short")
    error.message = f"Failed to predict data '{'x' * 10_000}'"
    assert error.message == "short"
    assert error.get_http_status_code() == 400


def test_an_answer_of_mlflows_server_holds_neither_a_stack_trace_nor_the_request():
    error = MlflowException("Failed to parse 'x'\n" + "x" * 10_000, stack_trace='Traceback: File "secret.py"')
    answer = json.loads(_in_a_sentence(error))
    assert answer.keys() == {"error_code", "message"}
    assert answer["message"].startswith("Failed to parse 'x' xxx")
    assert len(answer["message"]) == 300


@pytest.fixture
def registered(store, capfd):
    run = store.client.get_run(store.run(5.0, **{"score/fd_pixels_sd": 0.1, "score/real_fd_pixels": 1.0}))
    version = register(run.info.run_id, gather(store.client, run, Rules()))
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", ""), "registering makes noise"
    return store, run, version


def test_a_version_says_what_it_is_and_is_linked_to_scores_and_data(registered):
    store, run, version = registered
    text = version.description.replace("&ensp;", "")
    for part in (
        "vae on digits, drawn with the mixture sampler: ",
        "| fd_pixels | 5 | 0.1 | 1 | – | lower |",
        "**Weak**",
        "500 samples, features of `pixels`",
        "This is not FID",
        "1.10 times as far from its nearest training image",
        "**Use**",
        "**Intended for**",
    ):
        assert part in text
    assert version.tags["score"] == "5"
    (logged,) = store.client.search_logged_models([store.experiment])
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "geovae", "version": 1}]
    found = {m.key: (m.value, m.dataset_name) for m in logged.metrics}
    assert found["score/fd_pixels"] == (5.0, "digits-test")
    assert found["best/fd_pixels"] == (5.0, "digits-val")
    after = store.client.get_run(run.info.run_id)
    assert (after.info.status, after.info.end_time) == (run.info.status, run.info.end_time)
    assert after.data.metrics == run.data.metrics


def test_it_is_stored_without_pickle_with_exact_requirements_and_an_example(registered):
    version = registered[2]
    folder = fetch_model(f"models:/geovae/{version.version}").parents[1]
    assert not [p for p in folder.rglob("*") if p.suffix in {".pkl", ".pickle", ".pt", ".joblib", ".pyc"}]
    lines = (folder / "requirements.txt").read_text().split()
    assert lines
    assert all("==" in line for line in lines)
    request = json.loads((folder / "serving_input_example.json").read_text())
    assert request["params"] == {"mode": "reconstruct", "format": "png"}
    assert np.shape(request["inputs"]) == (2, 8, 8, 1)


ELSEWHERE = (
    ISOLATED
    + """
folder = sys.argv[1]
allow(Requirement(line).name for line in open(f"{folder}/requirements.txt").read().split())
import mlflow, numpy
model = mlflow.pyfunc.load_model(folder)
ask = lambda given=None, **params: model.predict(given, params=params)
for sampler in ("prior", "mixture", "riemannian"):
    images = ask(n=3, sampler=sampler, seed=1)
    assert images.shape == (3, 8, 8, 1) and numpy.array_equal(images, ask(n=3, sampler=sampler, seed=1))
assert ask(n=2, labels=[1], sampler="mixture").shape == (2, 8, 8, 1)
codes = ask(images, mode="encode")
assert numpy.array_equal(ask(codes, mode="decode"), ask(images, mode="reconstruct"))
assert len(ask(images[:2], mode="interpolate", n=4, format="png")) == 4
import geovae
assert geovae.__file__.startswith(folder), geovae.__file__
assert not {"mlflow_projects", "experiments", "tuning", "ray", "jsonargparse"} & sys.modules.keys()
"""
)


@pytest.mark.slow
def test_it_answers_from_a_copied_folder_where_only_its_requirements_are_installed(registered, tmp_path):
    """Every other package of this environment is out of reach, and so are the project and the store."""
    copy = tmp_path / "copied model"
    shutil.copytree(fetch_model(f"models:/geovae/{registered[2].version}").parents[1], copy)
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", ELSEWHERE, str(copy)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300 + HOSTILE_SECONDS)
def test_it_answers_over_http_under_load_and_refuses_in_one_sentence(registered, tmp_path):
    """Four clients at once: no failure, no growth; every bad request is a 400 with our sentence alone."""
    store, _, version = registered
    with served(f"models:/geovae/{version.version}", store.uri) as (address, process):
        assert_answers(address)
        assert_refusals(address)
        load(address, process, REQUESTS, clients=4, seconds=3)
        found = load(address, process, REQUESTS, clients=4, seconds=10)
        harm = attack(address, process, HOSTILE_SECONDS)
    assert found.errors == []
    assert len(found.seconds) > 20
    assert found.megabytes[-1] < 1.05 * found.megabytes[0] + 20
    print(harm)
    assert harm.faults == []
    assert harm.growth() < 20, harm


def assert_answers(address):
    ask = lambda inputs=None, **params: post(address, {"inputs": inputs or [], "params": params})  # noqa: E731
    status, drawn = ask(n=3, seed=1, labels=[1], sampler="mixture")
    assert status == 200
    assert np.shape(drawn["predictions"]) == (3, 8, 8, 1)
    assert ask(n=3, seed=1, labels=[1], sampler="mixture")[1] == drawn
    files = ask(n=3, seed=1, labels=[1], sampler="mixture", format="png")[1]["predictions"]
    assert np.array_equal(pixels(files), np.array(drawn["predictions"])[..., 0])
    for images in (IMAGES.tolist(), pngs(IMAGES[..., 0])):
        status, latents = ask(images, mode="encode")
        assert np.shape(latents["predictions"]) == (3, 2)
        assert np.shape(ask(latents["predictions"], mode="decode")[1]["predictions"]) == (3, 8, 8, 1)
    assert np.shape(ask(IMAGES[:2].tolist(), mode="interpolate", n=5)[1]["predictions"]) == (5, 8, 8, 1)


def assert_refusals(address):
    for inputs, params, sentence in (
        ([], {"n": 0}, "`n` must lie between 1 and 10000, got 0"),
        ([], {"sampler": "gibbs"}, "`sampler` must be one of prior, mixture, fine_mixture, "),
        ([[1.0, 2.0, 3.0]], {"mode": "decode"}, "expected latents of shape (n, 2), got (1, 3)"),
        (["x"], {"mode": "encode"}, "an image of the request is not a PNG file in base64"),
    ):
        status, answer = post(address, {"inputs": inputs, "params": params})
        assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert answer["message"].startswith(sentence)
        assert "stack_trace" not in answer
    for body, part in (
        (b"{", "valid JSON"),
        ({"inputs": [], "params": {"n": "many"}}, "for value `many`"),
        ({"n": 3}, "inputs"),
        ({"inputs": [[1.0], [2.0, 3.0]], "params": {"mode": "decode"}}, "input"),
    ):
        status, answer = post(address, body)
        assert status == 400, answer
        assert part in answer["message"], answer
