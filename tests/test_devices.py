"""Precision and determinism: which switches of torch hold when, and that each is restored."""

import os
import runpy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Generator
from torch.utils._python_dispatch import TorchDispatchMode

from geovae import devices
from geovae.codes import Codes, encode_images
from geovae.devices import (
    choose_precision,
    deterministic_kernels,
    float32_products,
    flushed_subnormals,
    full_precision,
)
from geovae.evaluation import SCORES
from geovae.evaluation.extractors import RandomConv, extract
from geovae.geometry import LatentMetric, geodesics
from geovae.models import build_model
from geovae.neighbours import nearest
from geovae.samplers import SAMPLERS
from geovae.training import Trainer


def switches():
    """Whether products and convolutions may use TF32, as torch says by itself."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(matmul, "fp32_precision"):
        return [matmul.fp32_precision == "tf32", cudnn.conv.fp32_precision == "tf32"]
    return [matmul.allow_tf32, cudnn.allow_tf32]


@pytest.mark.parametrize("before", [True, False])
def test_the_switches_are_set_and_restored(before):
    with float32_products(tf32=before):
        for wanted in (True, False):
            with float32_products(tf32=wanted):
                assert switches() == [wanted, wanted]
            assert switches() == [before, before]
        with pytest.raises(ValueError, match="`precision` must be one of"), full_precision():
            choose_precision("fp8", torch.device("cpu"))
        assert switches() == [before, before]


def test_the_users_own_settings_survive():
    """Torch's default is TF32 for convolutions only, and its names for `neither` differ from `no`."""
    before = switches(), torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with full_precision():
        assert switches() == [False, False]
    assert (switches(), torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


def test_full_precision_switches_mixed_precision_off():
    a = torch.full((4, 4), 1.001)
    with torch.autocast("cpu", torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
        with full_precision():
            assert (a @ a).dtype == torch.float32
        assert (a @ a).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("precision", "capability", "expected"),
    [
        ("auto", (9, 0), "bf16"),
        ("auto", (8, 0), "bf16"),
        ("auto", (7, 5), "fp32"),
        ("tf32", (8, 6), "tf32"),
        ("tf32", (7, 5), "fp32"),
        ("bf16", (7, 5), "bf16"),
        ("fp32", (9, 0), "fp32"),
    ],
)
def test_auto_is_what_the_gpu_computes_in(monkeypatch, precision, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision(precision, torch.device("cuda")) == expected


@pytest.mark.parametrize(("precision", "expected"), [("auto", "fp32"), ("tf32", "fp32"), ("bf16", "bf16")])
def test_a_cpu_has_no_tf32(precision, expected):
    assert choose_precision(precision, torch.device("cpu")) == expected


@pytest.mark.parametrize(("network", "layout"), [("conv32", torch.channels_last), ("mlp", torch.contiguous_format)])
def test_auto_puts_channels_innermost_for_convolutions_on_a_gpu(monkeypatch, network, layout):
    model = build_model("vae", (1, 32, 32), network=network, width=2)
    gpu = SimpleNamespace(
        parameters=lambda: iter([SimpleNamespace(device=torch.device("cuda"))]), modules=model.modules
    )
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert Trainer().arithmetic(gpu) == ("bf16", layout)
    assert Trainer(channels_last=False).arithmetic(gpu) == ("bf16", torch.contiguous_format)
    assert Trainer(precision="fp32").arithmetic(gpu) == ("fp32", torch.contiguous_format)
    assert Trainer().arithmetic(model) == ("fp32", torch.contiguous_format)


class Watching(torch.nn.Module):
    """A model that calls `look` whenever it computes."""

    def __init__(self, look):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.look = look

    def loss(self, x, generator):
        self.look()
        return {"loss": self.weight * 1.0}

    def prepare(self, images, generator):
        self.look()


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_training_switches_tf32_as_asked_and_back_between_epochs(monkeypatch, precision):
    seen = []

    def look():
        seen.append(switches())

    monkeypatch.setattr("geovae.training.choose_precision", lambda name, device: name)
    data = torch.zeros(4, 1, 2, 2)
    before = switches()
    for _ in Trainer(epochs=2, batch_size=4, precision=precision).run(state_of(Watching(look)), data, data):
        assert switches() == before
    assert seen == [[precision == "tf32"] * 2] * 5  # the preparation, and two epochs of training and validation


def state_of(model):
    return Trainer().start(model)


def test_deterministic_kernels_set_all_that_they_need_and_restore_it():
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    with deterministic_kernels(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert (cudnn.benchmark, cudnn.deterministic) == (False, True)
    assert not torch.are_deterministic_algorithms_enabled()
    assert (cudnn.benchmark, cudnn.deterministic) == before


@pytest.mark.parametrize("by_the_user", [None, ":16:8"])
def test_products_are_deterministic_from_the_first_one_of_a_process(monkeypatch, by_the_user):
    """Torch looks at this variable once, at a process's first product on a GPU: a later run could not set it."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    if by_the_user:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", by_the_user)
    runpy.run_path(devices.__file__)  # as the first import does
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == (by_the_user or ":4096:8")


def test_a_deterministic_training_is_deterministic_from_its_preparation_on():
    seen = []

    def look():
        seen.append(torch.are_deterministic_algorithms_enabled())

    data = torch.zeros(4, 1, 2, 2)
    for wanted in (True, False):
        list(Trainer(epochs=1, batch_size=4, deterministic=wanted).run(state_of(Watching(look)), data, data))
    assert seen == [True] * 3 + [False] * 3


def codes(device, n=60, d=4):
    mu = torch.randn(n, d, generator=Generator().manual_seed(0))
    return Codes(mu.to(device), torch.full((n, d), -2.0, device=device))


def metric(device):
    chosen = codes(device)
    return LatentMetric(chosen.mu[:20], (-chosen.log_var[:20]).exp(), temperature=1.5, floor=0.01)


def sampled(name, device):
    """Draws of a sampler, fitted on codes with all that it needs."""
    mu, log_var = codes(device)
    matrices = torch.diag_embed(log_var[:20].exp())
    extras = {"prior.mu": mu[:9], "prior.log_var": log_var[:9], "metric.centroids": mu[:20], "metric.values": matrices}
    extras |= {"metric.temperature": torch.tensor(0.8), "metric.floor": torch.tensor(1e-3)}
    return SAMPLERS[name](**QUICK.get(name, {})).fit(Codes(mu, log_var, extras)).sample(30, Generator().manual_seed(1))


def encoded(device):
    model = build_model("vae", (1, 32, 32), network="conv32", width=2, latent_dim=4).to(device).eval()
    return encode_images(model, torch.rand(10, 1, 32, 32, generator=Generator().manual_seed(0))).mu


def features(device):
    return extract(torch.rand(6, 1, 32, 32, generator=Generator().manual_seed(0)), RandomConv(), device=device)


def curves(device):
    z = codes(device).mu
    return geodesics(metric(device), z[:3], z[3:6], n_points=8)


QUICK = {"riemannian": {"n_centroids": 20, "centroids": "first", "n_transitions": 2}, "rhvae": {"n_transitions": 2}}
EXACT = {
    **{f"sampler {name}": partial(sampled, name) for name in SAMPLERS},
    "volume": lambda device: metric(device).log_volume(codes(device).mu),
    "gradient": lambda device: metric(device).log_volume_and_grad(codes(device).mu)[1],
    "matrix": lambda device: metric(device).metric_matrix(codes(device).mu),
    "geodesics": curves,
    "nearest": lambda device: nearest(codes(device).mu[:20], codes(device).mu[20:]).distances,
    "codes": encoded,
    "features": features,
    "score": lambda device: torch.tensor(
        list(SCORES["precision_recall"](real=codes(device, 80).mu, fake=codes(device, 90).mu + 0.1).values())
    ),
}


PRODUCTS = {
    "mm",
    "addmm",
    "addmm_",
    "bmm",
    "baddbmm",
    "mv",
    "addmv",
    "dot",
    "convolution",
    "conv2d",
    "linear",
    "matmul",
}


class Products(TorchDispatchMode):
    """Notes whether each product and convolution may use TF32."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in PRODUCTS:
            self.seen.append(any(switches()))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", EXACT)
def test_geometry_and_scores_are_exact_whatever_the_caller_has_switched_on(device, name):
    expected = EXACT[name](device)
    with float32_products(tf32=True), torch.autocast(device.type, torch.bfloat16):
        with Products() as products:
            found = EXACT[name](device)
        assert switches() == [True, True]
        assert torch.is_autocast_enabled(device.type)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not any(products.seen)
    assert products.seen or name in ("sampler prior", "sampler vamp", "nearest", "score")


def test_bf16_holds_the_loss():
    """Emulated on a CPU: between precisions the loss differs by less than between seeds, and it falls as far."""
    shift = 6 * torch.rand(400, 1, 1, 1, generator=Generator().manual_seed(0))
    data = 0.5 + 0.5 * torch.sin(shift + torch.linspace(0, 6, 32)).expand(-1, 1, 32, -1)

    def train(precision, seed):
        model = build_model("vae", (1, 32, 32), network="conv32", width=4, latent_dim=4, seed=seed)
        trainer = Trainer(epochs=6, batch_size=20, precision=precision, channels_last=precision == "bf16")
        records = list(trainer.run(trainer.start(model, seed=seed), data[:300], data[300:]))
        return torch.tensor([records[0].val["loss"], records[-1].val["loss"]])

    full, mixed = (torch.stack([train(precision, seed) for seed in range(2)]) for precision in ("fp32", "bf16"))
    assert (full[:, 1] < 0.7 * full[:, 0]).all()
    assert (mixed[:, 1] / full[:, 1] - 1).abs().max() < 0.05


def test_training_takes_subnormal_numbers_for_zero_and_leaves_the_users_setting():
    subnormal = torch.tensor(1e-39)
    seen = []
    data = torch.zeros(4, 1, 2, 2)
    for _ in Trainer(epochs=1, batch_size=4).run(
        state_of(Watching(lambda: seen.append(float(subnormal * 1.0)))), data, data
    ):
        assert float(subnormal * 1.0) > 0
    assert seen == [0.0] * 3  # the preparation, training, validation
    torch.set_flush_denormal(True)
    try:
        with flushed_subnormals():
            pass
        assert float(subnormal * 1.0) == 0
    finally:
        torch.set_flush_denormal(False)
