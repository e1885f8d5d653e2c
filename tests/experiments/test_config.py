"""The configuration: names and types are those of the signatures, and a resolved one reads back to itself."""

import inspect

import pytest
import torch
import yaml
from PIL import Image

from experiments.config import fingerprint, flatten, parse_options, to_yaml
from experiments.config import resolve as resolve_options
from experiments.run import check_config, plan_run, read_comparison, run
from experiments.yaml_file import CONFIGS, ConfigError
from geovae.data import DATASETS
from geovae.devices import choose_device
from geovae.models import MODELS, build_model
from geovae.models.networks import PAPER_WIDTHS
from geovae.samplers import SAMPLERS
from geovae.training import Trainer
from mlflow_projects import entry


def resolve(flags):
    return resolve_options(parse_options(flags))


def options_of(function):
    return {name for name in inspect.signature(function).parameters if name not in ("self", "image_shape", "seed")}


def test_every_option_of_the_signatures_is_there_with_its_default():
    config = resolve(["--config", str(CONFIGS / "mnist.yaml")])
    assert set(config["training"]) == options_of(Trainer)
    assert set(config["model"]) == options_of(MODELS["vae"]) | {"name"}
    assert set(config["data"]) == options_of(DATASETS["mnist"].load) | {"name", "seed"}
    for name, sampler in SAMPLERS.items():
        assert set(config["sampler"].get(name, {})) == options_of(sampler)
    assert config["training"]["plateau_factor"] == inspect.signature(Trainer).parameters["plateau_factor"].default


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_resolve_and_pass_every_check(file):
    if "runs" in yaml.safe_load(file.read_text()):
        configs = read_comparison(file, {}, "test").values()
    else:
        configs = [resolve(["--config", str(file)])]
    for config in configs:
        check_config(config)


@pytest.mark.parametrize(
    ("data", "network", "latent_dim", "beta", "learning_rate", "epochs", "floor"),
    [
        ("mnist", "conv32", 16, 0.01, 1e-3, 100, 0.01),
        ("cifar", "conv32", 32, 0.001, 5e-4, 200, 0.1),
        ("svhn", "mlp", 16, 0.01, 1e-3, 100, 0.01),
        ("celeba", "conv64", 64, 0.05, 1e-3, 100, 1.0),
    ],
)
def test_the_papers_settings(data, network, latent_dim, beta, learning_rate, epochs, floor):
    config = resolve(["--data.name", data])
    model, training = config["model"], config["training"]
    assert (model["network"], model["latent_dim"], model["beta"]) == (network, latent_dim, beta)
    assert (training["learning_rate"], training["batch_size"]) == (learning_rate, 100)
    assert training["epochs"] > epochs  # the paper's may be too few: the early stop decides
    assert training["early_stop"] == 15
    assert (model["width"], config["n_samples"], config["sampler"]["riemannian"]["floor"]) == (
        PAPER_WIDTHS[network],
        10_000,
        floor,
    )


def test_flags_go_over_the_file_and_the_file_over_the_defaults(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("model: {latent_dim: 3, beta: 0.5}\nseed: 4\n")
    config = resolve(["--config", str(file), "--model.latent_dim", "7", "--training.learning_rate=1e-3"])
    assert (config["model"]["latent_dim"], config["model"]["beta"], config["seed"]) == (7, 0.5, 4)
    assert config["training"]["learning_rate"] == 1e-3
    assert config["training"]["epochs"] == 100


def test_an_empty_value_leaves_the_choice_to_the_file():
    assert resolve(["--model.name", "", "--seed", "", "--config", ""]) == resolve([])


def test_the_data_set_chooses_its_file_and_a_flag_may_change_the_model():
    assert resolve(["--data.name", "mnist"])["model"]["network"] == "conv32"
    config = resolve(["--model.name", "ae"])
    assert config["model"]["name"] == "ae"
    assert "beta" not in config["model"]


def test_the_resolved_configuration_reads_back_to_itself(tmp_path):
    config = resolve(["--samplers", "prior,mixture", "--sampler.riemannian.temperature", "2.5", "--model.width", "9"])
    assert config["samplers"] == ["prior", "mixture"]
    assert config["sampler"]["riemannian"]["temperature"] == 2.5
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert resolve(["--config", str(tmp_path / "config.yaml")]) == config
    assert resolve_options(config) == config
    assert resolve_options(flatten(config)) == config
    assert flatten(config)["model.width"] == 9


def test_the_fingerprint_is_of_what_decides_the_results():
    config = resolve([])
    assert fingerprint(config) == fingerprint(
        resolve(["--device", "cpu", "--images_every", "3", "--keep_checkpoint", "true"])
    )
    others = [resolve([flag]) for flag in ("--model.beta=0.1", "--sampler.riemannian.floor=0.02", "--seed=1")]
    assert len({fingerprint(one) for one in [config, *others]}) == 4
    assert fingerprint(config, over_seeds=True) == fingerprint(others[2], over_seeds=True)
    assert fingerprint(config, over_seeds=True) != fingerprint(others[0], over_seeds=True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.latnt_dim", "3"], "unknown option 'model.latnt_dim'; did you mean model.latent_dim"),
        (["--modle.beta", "3"], "unknown option 'modle.beta'"),
        (["--model.beta", "lots"], "`model.beta` must be a number, got 'lots'"),
        (["--training.epochs", "1.5"], "`training.epochs` must be a whole number, got '1.5'"),
        (["--epoch", "3"], "unknown option 'epoch'; did you mean training.epochs?"),
        (["--device", "tpu"], "`device` must be one of auto, cpu, cuda, got 'tpu'"),
        (["--model.name", "gan"], "unknown model.name 'gan'; choose from vae, ae"),
        (["--data.name", "imagenet"], "unknown data.name 'imagenet'; choose from digits, mnist"),
        (["--config", "nowhere.yaml"], "cannot read the configuration nowhere.yaml: No such file .* shipped are "),
        (["--seed"], "option --seed needs a value"),
        (["seed"], "expected an option that starts with --, got 'seed'"),
        (["--model.network", "conv33"], "`model.network` must be one of mlp, conv32, .*, got 'conv33'"),
    ],
)
def test_bad_flags_get_one_sentence(flags, message):
    with pytest.raises(ConfigError, match=message):
        resolve(flags)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "must hold a mapping of options, got list"),
        ("a: [\n", "is not YAML"),
        ("a: " + "[" * 3000 + "]" * 3000, "is not YAML: maximum recursion depth exceeded"),
        ("seed: 1\nseed: 2\n", "c.yaml: 'seed' stands twice below line 1"),
        ("model.name: [1]\n", r"unknown model.name \[1\]; choose from"),
        ("model.width: 0x" + "9" * 60, "`model.width` is too large a number"),
        ("training.learning_rate: '" + "9" * 400 + "'\n", "`training.learning_rate` is too large a number"),
        ("model: {depth: 3}\n", "unknown option 'model.depth'"),
    ],
)
def test_bad_files_get_one_sentence(text, message, tmp_path):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        resolve(["--config", str(tmp_path / "c.yaml")])


def test_a_file_cannot_run_code(tmp_path):
    (tmp_path / "c.yaml").write_text("seed: !!python/object/apply:os.getpid []\n")
    with pytest.raises(ConfigError, match="is not YAML"):
        resolve(["--config", str(tmp_path / "c.yaml")])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.latent_dim", "0"], "`latent_dim` must be at least 1, got 0"),
        (["--training.epochs", "0"], "`epochs` must be a whole number of at least 1, got 0"),
        (["--model.network", "conv64"], "network 'conv64' fits images of 64x64, got 32x32; use conv32 or mlp"),
        (["--n_samples", "1"], "`n_samples` must be a whole number of at least 2, got 1"),
        (["--samplers", "gibbs"], "`samplers` must be one of prior, mixture, .*, got 'gibbs'"),
        (["--scores", "beauty"], "`scores` must be one of frechet, .*, got 'beauty'"),
        (
            ["--extractor", "vgg"],
            "`extractor` must be one of inception, mnist-net-v1, fashion-mnist-net-v1, random-conv-v1",
        ),
        (["--model.name", "ae", "--samplers", "riemannian"], "sampler 'riemannian' needs posterior variances"),
        (["--sampler.mixture.n_components", "0"], "`n_components` must be a whole number of at least 1, got 0"),
    ],
)
def test_ranges_are_checked_before_any_data_are_read(flags, message):
    with pytest.raises(ValueError, match=message):
        plan_run(resolve(flags))
    with pytest.raises(ValueError, match=message):
        check_config(resolve(flags))


def test_a_model_without_variances_runs_with_the_samplers_it_can_feed():
    config = resolve(["--model.name", "ae"])
    fed = ["prior", "mixture", "fine_mixture", "local"]
    assert list(plan_run(config).judge.samplers) == fed
    assert plan_run(config).config == check_config(config) == config | {"samplers": fed}


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="`device` is cuda, but torch sees no GPU here; use auto or cpu"):
        choose_device("cuda")
    assert choose_device("auto").type == "cpu"


def test_help_shows_what_the_docstrings_say(capsys):
    with pytest.raises(SystemExit, match="0"):
        resolve(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--model.latent_dim LATENT_DIM dimension d of the latent space" in shown
    assert "weight of the Kullback-Leibler divergence" in shown


def test_entry_points_take_their_own_options_and_pass_on_the_rest():
    got = {}

    def function(options, n: int = 1, size: float | None = None, names: list[str] | None = None, dry_run: bool = False):
        got.update(options=options, n=n, size=size, names=names, dry_run=dry_run)

    entry.call(
        function, ["--n=3", "--model.beta", "2", "--size", "", "--names=a,b", "--dry-run=true", "--dataset=mnist"]
    )
    options = {"model.beta": "2", "data.name": "mnist"}
    assert got == {"options": options, "n": 3, "size": None, "names": ["a", "b"], "dry_run": True}
    with pytest.raises(ValueError, match="option --n needs a value"):
        entry.call(function, ["--n"])
    with pytest.raises(ValueError, match="`n` must be a whole number, got 'x1'"):
        entry.call(function, ["--n=x1"])


def test_comparison_files_are_checked(tmp_path):
    file = tmp_path / "c.yaml"
    for text in ("dataset: digits\nmodels: {}\n", "models: {}\nruns: {a: {model.name: ae}}\n", "runs: {}\n"):
        file.write_text(text)
        with pytest.raises(ConfigError, match="must hold `dataset: NAME` and `runs: "):
            read_comparison(file, {}, "test")
    file.write_text("runs: {a: ae}\n")
    with pytest.raises(ConfigError, match="run 'a' of .* must hold a mapping of options, got 'ae'"):
        read_comparison(file, {}, "test")
    for name in ("../../x", "a/b", "1", "..", "x" * 101):  # names of folders
        file.write_text(f"dataset: digits\nruns: {{{name}: {{}}}}\n")
        with pytest.raises(ConfigError, match="a name must be a text of up to 100 letters without slashes, got "):
            read_comparison(file, {}, "test")
    file.write_text("dataset: digits\nruns: {a: {model.name: ae}, b: {seed: 3}}\n")
    configs = read_comparison(file, {"training.epochs": "2"}, "test")
    assert [c["model"]["name"] for c in configs.values()] == ["ae", "vae"]
    assert [c["seed"] for c in configs.values()] == [0, 3]
    assert {c["training"]["epochs"] for c in configs.values()} == {2}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of small sample sizes
def test_a_run_builds_its_network_once(monkeypatch, tmp_path):
    built = []

    def build(name, shape, **options):
        built.append(name)
        return build_model(name, shape, **options)

    monkeypatch.setattr("experiments.run.build_model", build)
    quick = {"training.epochs": 1, "n_samples": 20, "extractor": "pixels", "scores": ["frechet"], "model.width": 8}
    plan = plan_run(resolve_options({**quick, "samplers": ["prior"]}))
    weights = {name: value.clone() for name, value in plan.network.state_dict().items()}
    run(plan, output=tmp_path)
    assert built == ["vae"]
    again = build_model("vae", (1, 32, 32), seed=0, **{k: v for k, v in plan.config["model"].items() if k != "name"})
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in weights.items())


def test_a_network_of_a_folder_fits_the_images_there(tmp_path):
    (tmp_path / "folder").mkdir()
    for i in range(20):
        Image.new("L", (64, 64), i).save(tmp_path / "folder" / f"{i}.png")
    options = {"data.name": "folder", "data.root": str(tmp_path), "model.network": "conv64", "model.width": 2}
    assert check_config(resolve_options(options))["samplers"]
    assert plan_run(resolve_options(options)).network.encode(torch.zeros(1, 1, 64, 64)).mu.shape[0] == 1
