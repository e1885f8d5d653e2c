"""`evaluate` as a whole: names, one n, the real row, copies caught, what compares and what does not."""

import json

import pytest
import torch

from geovae.evaluation import (
    FeatureCache,
    ImageSets,
    Latents,
    Report,
    Scorer,
    content_hash,
    copies,
    differences,
    evaluate,
    extract,
    extractor,
    frechet,
    is_biased,
    is_weak,
)
from geovae.evaluation.inception import Inception
from geovae.neighbours import code_novelty

pytestmark = pytest.mark.filterwarnings(
    "ignore:n = .* is below the .* features", "ignore:the real-versus-real row", "ignore:copies"
)
QUICK = ("frechet", "kid", "precision_recall")


def shapes(n, generator):
    """Gray images (n, 1, 12, 12) of a soft disc at a random place, with noise."""
    centre, radius = (
        3 + 6 * torch.rand(n, 2, 1, 1, generator=generator),
        1 + 2 * torch.rand(n, 1, 1, generator=generator),
    )
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    distance = ((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2).sqrt()
    image = torch.sigmoid(2 * (radius - distance)) + 0.05 * torch.randn(n, 12, 12, generator=generator)
    return image.clamp(0, 1)[:, None]


@pytest.fixture(scope="module")
def sets():
    generator = torch.Generator().manual_seed(0)
    return {name: shapes(n, generator) for name, n in (("train", 120), ("real", 80), ("fake", 60))}


def scored(sets, **options):
    return evaluate(ImageSets(**sets), Scorer(**options))


def pair(sets, fake="fake"):
    return {"real": sets["real"], "fake": sets[fake]}


def test_random_conv_is_three_networks_and_never_fid(sets):
    report = scored(sets, scores=QUICK)
    values = report.values
    assert "fid" not in values
    assert "kid" not in values
    for key in ("fd_random-conv-v1", "kid_random-conv-v1", "precision", "density"):
        assert {key, f"{key}_sd", f"real_{key}"} <= values.keys()
    assert (values["n"], values["real_n"]) == (60, 60)
    assert report.settings["extractors"] == [f"random-conv-v1-seed{i}" for i in range(3)]
    assert values["nn_pixels_flag"] == 0.0
    assert values["nn_pixels_ratio"] == pytest.approx(1.0, abs=0.3)


def test_numbers_are_those_of_the_scores(sets):
    """Equal n on both sides, so nothing is cut: mean and deviation over the three networks."""
    real, fake = ((sets[k][:60] * 255).round().to(torch.uint8) for k in ("real", "fake"))
    report = scored({"real": real, "fake": fake}, scores=("frechet",))
    found = []
    for seed in range(3):
        network = extractor("random-conv-v1", seed=seed)
        found.append(frechet(real=extract(real, network), fake=extract(fake, network))["frechet"])
    assert report.values["fd_random-conv-v1"] == pytest.approx(sum(found) / 3)
    assert report.values["fd_random-conv-v1_sd"] == pytest.approx(float(torch.tensor(found).double().std()))


def test_a_sampler_that_returns_its_training_set_is_caught(sets):
    copies = (sets["train"] + 0.01 * torch.randn(120, 1, 12, 12, generator=torch.Generator().manual_seed(1))).clamp(
        0, 1
    )
    with pytest.warns(UserWarning, match="memorisation: most samples lie closer"):
        copied = scored(sets | {"fake": copies}, scores=("frechet",))
    # by the Frechet distance alone it is as good as real data
    assert copied.values["fd_random-conv-v1"] < 1.25 * copied.values["real_fd_random-conv-v1"]
    assert copied.values["nn_pixels_flag"] == 1.0
    assert copied.values["nn_pixels_ratio"] < 0.3
    assert copied.values["nn_pixels_auc"] > 0.95
    assert any("memorisation" in note for note in copied.notes)
    assert copied.nearest["train"] == copied.nearest["fake"]  # each copy is nearest to its original


def test_one_network_has_a_half_sample_spread(sets):
    report = scored(pair(sets), extractor="pixels", scores=("frechet",))
    assert 0 < report.values["fd_pixels_sd"] < report.values["fd_pixels"]
    assert "real_fd_pixels_sd" not in report.values


def test_without_train_the_real_row_is_two_halves(sets):
    with pytest.warns(UserWarning, match="real-versus-real row is at n = 40, not 60"):
        report = scored(pair(sets), extractor="pixels", scores=("kid",))
    assert report.values["real_n"] == 40
    assert report.settings["real_row"] == "two halves of real"
    assert not any(key.startswith("nn_") for key in report.values)


def test_small_n_is_said(sets):
    with pytest.warns(UserWarning, match="n = 60 is below the 144 features: the Frechet distance is strongly biased"):
        scored(pair(sets), extractor="pixels", scores=("frechet",))


def test_reconstructions_classes_codes_and_curve(sets, generator):
    labels = torch.arange(80) % 2, torch.arange(60) % 2
    more = {
        "reconstructions": sets["train"],
        "real_labels": labels[0],
        "fake_labels": labels[1],
        "latents": Latents(*(torch.randn(n, 2, generator=generator) for n in (120, 60, 80))),
    }
    report = scored(sets | more, extractor="pixels", scores=("frechet", "prd"))
    values = report.values
    assert values["reconstructions_n"] == 60
    assert values["reconstructions_fd_pixels"] > 0
    assert {"fd_pixels_class0", "fd_pixels_class1", "n_class0"} <= values.keys()
    assert {"code_novelty", "nn_pixels_auc"} <= values.keys()
    assert len(report.curve["precision"]) == len(report.curve["recall"]) == 1001
    assert report.nearest["train"] == report.nearest["reconstructions"]
    assert len(report.nearest["train"]) == 60


def test_decoded_codes_are_a_row_of_their_own(sets, generator):
    """Decoded codes that are the real images of the other part score like these: the row and the ratio say so."""
    other, fake = shapes(60, generator), sets["fake"]
    more = {"real": sets["real"], "other_real": other, "decoded": other}
    report = scored(more | {"fake": fake}, extractor="pixels", scores=("frechet", "kid")).values
    for key in ("fd_pixels", "kid_pixels"):
        assert report[f"decoded_{key}"] == pytest.approx(report[f"real_{key}"])
    assert report["decoded_ratio"] == pytest.approx(report["fd_pixels"] / report["decoded_fd_pixels"])
    blurred = torch.nn.functional.avg_pool2d(other, 3, 1, 1)
    worse = scored(more | {"fake": fake, "decoded": blurred}, extractor="pixels", scores=("frechet",)).values
    assert worse["decoded_ratio"] < report["decoded_ratio"]
    assert worse["decoded_fd_pixels"] > worse["real_fd_pixels"]


def test_the_ratio_to_decoded_codes_is_at_equal_n(sets, generator):
    """With 20 decoded codes as many samples count: sets of one kind have ratio 1, though their distances differ."""
    other = shapes(40, generator)
    more = {"real": sets["real"], "other_real": other[:20], "decoded": other[:20], "fake": sets["fake"]}
    values = scored(more, extractor="pixels", scores=("frechet",)).values
    assert (values["n"], values["decoded_n"]) == (60, 20)
    assert values["decoded_ratio"] == pytest.approx(1.0, abs=0.3)
    assert values["fd_pixels"] < 0.9 * values["decoded_fd_pixels"]


def test_decoded_codes_of_the_real_images_are_compared_with_the_other_half(sets):
    """Reconstructions of the very images that they are compared with would be too near: here they would be at 0."""
    values = scored(pair(sets) | {"decoded": sets["real"]}, extractor="pixels", scores=("frechet",)).values
    assert values["decoded_n"] == 40
    assert values["decoded_fd_pixels"] > 0.1
    with pytest.raises(ValueError, match="`decoded` must hold an image for each of 80 held-out, got 60"):
        scored(pair(sets) | {"decoded": sets["fake"]})


def test_all_real_images_count_where_a_score_allows_it(sets):
    """60 samples against 80: the Frechet distance is that of all, the others that of 60."""
    values = scored(pair(sets), extractor="pixels", scores=QUICK).values
    real, fake = (extract((sets[k] * 255).round().to(torch.uint8), extractor("pixels")) for k in ("real", "fake"))
    assert values["fd_pixels"] == pytest.approx(frechet(real=real, fake=fake)["frechet"])
    assert (values["n"], values["reference_n"], values["n_features"]) == (60, 80, 144)
    assert 60 * values["coverage"] == pytest.approx(round(60 * values["coverage"]))  # a part of 60 real images


def test_a_sampler_near_its_training_codes_copies(sets, generator):
    codes, held_out, new = (torch.randn(n, 3, generator=generator) for n in (120, 80, 60))
    near = codes[:60] + 0.05 * torch.randn(60, 3, generator=generator)
    found = {}
    for name, z in (("near", near), ("new", new)):
        report = scored(pair(sets) | {"latents": Latents(codes, z, held_out)}, extractor="pixels", scores=("frechet",))
        found[name] = report.values["code_novelty"], copies(report.values), " ".join(report.notes)
    assert found["near"][0] == code_novelty(near, codes, held_out) < 0.5
    assert found["near"][1]
    assert "copies: code novelty 0." in found["near"][2]
    assert found["new"][0] == pytest.approx(1.0, abs=0.3)


def test_marks():
    assert is_biased({"n": 100.0, "reference_n": 300.0, "n_features": 256.0})
    assert is_biased({"n": 300.0, "reference_n": 200.0, "n_features": 256.0})
    assert not is_biased({"n": 256.0, "reference_n": 300.0, "n_features": 256.0})
    assert not is_biased({})
    assert [is_weak(name) for name in ("random-conv-v1", "fd_random-conv-v1", "fid", "fd_mnist-net-v1")] == [1, 1, 0, 0]
    assert [copies({"code_novelty": x}) for x in (0.94, 0.95, 2.0)] == [True, False, False]
    assert not copies({})


def test_report_is_strict_json_and_comes_back(sets):
    report = scored(sets, extractor="pixels", scores=("kid", "prd"))
    text = report.to_json()
    assert Report.from_json(text) == report
    settings = json.loads(text, parse_constant=pytest.fail)["settings"]
    assert settings["images"]["fake"]["shape"] == [60, 1, 12, 12]
    assert settings["images"]["real"]["sha256"] == settings["real"]
    assert settings["versions"].keys() == {"geovae", "python", "torch", "numpy"}
    with pytest.raises(ValueError, match="not the JSON of a report"):
        Report.from_json("{}")


def test_not_a_number_survives_json():
    report = Report({"a": float("nan"), "b": float("inf"), "c": 1.0}, {})
    back = Report.from_json(report.to_json()).values
    assert back["a"] != back["a"]
    assert (back["b"], back["c"]) == (float("inf"), 1.0)


def test_the_same_seed_the_same_report(sets):
    before = torch.random.get_rng_state()
    first, second = (scored(sets, extractor="pixels", scores=QUICK, seed=5) for _ in range(2))
    assert first == second
    assert torch.equal(torch.random.get_rng_state(), before)


def test_floats_and_their_png_files_score_alike(sets):
    """Everything is rounded to 8 bits first, so that saving samples does not move the score."""
    rounded = {k: (v * 255).round().to(torch.uint8) for k, v in sets.items()}
    first, second = (scored(s, extractor="pixels", scores=("frechet",)) for s in (sets, rounded))
    assert first.values == second.values


def test_only_what_was_measured_alike_compares(sets):
    def score(fake, **options):
        return scored({"real": sets["real"], "fake": fake}, scores=("frechet",), **options)

    good, bad = score(sets["fake"], extractor="pixels"), score(1 - sets["fake"], extractor="pixels")
    assert differences(good, bad) == []
    (why,) = differences(good, score(sets["fake"]))
    assert why.startswith('`extractors` is ["pixels"] against ["random-conv-v1-seed0",')
    whys = differences(good, score(sets["fake"][:50], extractor="pixels"))
    assert whys[0] == "`n` is 60 against 50"


def test_cache_gives_the_same_numbers(sets, tmp_path):
    plain = scored(sets, scores=("frechet",))
    cache = FeatureCache(tmp_path)
    assert scored(sets, scores=("frechet",), cache=cache).values == plain.values
    assert scored(sets, scores=("frechet",), cache=cache).values == plain.values
    assert content_hash(sets["real"]) != content_hash(sets["fake"])


def test_bad_input(sets):
    with pytest.raises(ValueError, match="`scores` must be one of frechet, kid.*got 'fid'"):
        Scorer(scores=["fid"])
    with pytest.raises(ValueError, match="`scores` must be a list of names, got 'kid'"):
        Scorer(scores="kid")
    with pytest.raises(ValueError, match=r"one size \(c, h, w\): `real` is \(1, 12, 12\), `fake` is \(1, 12, 11\)"):
        ImageSets(real=sets["real"], fake=sets["fake"][..., :11])
    with pytest.raises(ValueError, match="`fake` as floating point must lie in"):
        ImageSets(real=sets["real"], fake=2 * sets["fake"])
    with pytest.raises(ValueError, match="networks of one `name`, each with an `id`"):
        Scorer(extractor=[extractor("pixels"), extractor("random-conv-v1")])
    with pytest.raises(ValueError, match="networks of one `name`, each with an `id`"):
        Scorer(extractor=torch.nn.Flatten())
    with pytest.raises(ValueError, match="need both `real_labels` and `fake_labels`"):
        ImageSets(**sets, real_labels=torch.zeros(80))
    with pytest.raises(ValueError, match=r"`fake_labels` must be of shape \(60,\), got \(80,\)"):
        ImageSets(**sets, real_labels=torch.zeros(80), fake_labels=torch.zeros(80))


def test_the_least_number_of_images_is_enough(sets):
    scorer = Scorer("pixels")
    few = {name: images[: scorer.least_images] for name, images in sets.items()}
    assert (
        evaluate(ImageSets(**few), scorer).values["n"]
        == evaluate(ImageSets(few["real"], few["fake"]), scorer).values["n"]
    )
    one_fewer = ImageSets(few["real"][1:], few["fake"][1:])  # halves of 19
    with pytest.raises(ValueError, match="must have at least 10 rows"):
        evaluate(one_fewer, scorer)


def test_sets_sorted_by_class_are_reduced_at_random():
    """The scores and the real row look at all of a sorted set, not at its beginning: means differ little."""
    ramp = {n: torch.linspace(0, 255, n).to(torch.uint8).reshape(n, 1, 1, 1) for n in (200, 120, 60)}
    report = scored({"real": ramp[200], "fake": ramp[60], "train": ramp[120]}, extractor="pixels", scores=("frechet",))
    assert report.values["fd_pixels"] < 0.01  # the first 60 of 200 alone would be darker by 0.35, squared 0.12
    assert report.values["real_fd_pixels"] < 0.01
    assert report.nearest["fake"] == list(range(60))


class Impostor(torch.nn.Flatten):
    name, id = "inception", "mine"


class QuickInception(Inception):
    """Stands in for the hash-checked network, whose weights the tests do not have."""

    def __init__(self):
        torch.nn.Module.__init__(self)

    def forward(self, x):
        return x.flatten(1)


def test_fid_is_inceptions_name_alone(sets):
    values = scored(sets, extractor=QuickInception(), scores=("frechet", "kid")).values
    assert {"fid", "fid_sd", "real_fid", "kid", "kid_stderr", "kid_sd", "real_kid"} <= values.keys()
    assert not any("fd_" in key for key in values)
    with pytest.raises(ValueError, match="the extractor name 'inception' is taken"):
        Scorer(extractor=Impostor())


def test_each_set_meets_the_network_once(sets):
    """Also the real row, where all of `real` is in it: Inception takes its time."""

    class Counting(torch.nn.Module):
        name = id = "counting"
        seen = 0

        def forward(self, x):
            self.seen += len(x)
            return x.flatten(1)

    network = Counting()
    scored(sets, extractor=network, scores=("frechet", "prd"))
    assert network.seen == 80 + 60 + 60  # real, fake, and as many of train
