"""The rules of promotion on exact numbers."""

import pytest

from mlflow_projects.registry.evidence import Evidence, Rules


def evidence(*scores, **changes):
    options = {"headline": "fid", "n": "500", "digest": "d", "sampler": "prior", "model": "vae"} | changes
    return Evidence(scores={str(i): score for i, score in enumerate(scores)}, **options)


def test_the_first_needs_no_improvement():
    assert Rules().refusals(evidence(9.0), None) == []


@pytest.mark.parametrize(
    ("rules", "candidate", "champion", "reason"),
    [
        (
            Rules(),
            evidence(5.0),
            evidence(5.0),
            "its fid 5 is not below the champion's fid 5; lower is better",
        ),
        (
            Rules(),
            evidence(5.1),
            evidence(5.0),
            "its fid 5.1 is not below the champion's fid 5; lower is better",
        ),
        (
            Rules(min_improvement=0.1),
            evidence(9.5),
            evidence(10.0),
            "its fid 9.5 is below the champion's fid 10 by 0.5 only; more than 1 is needed (min_improvement 0.1)",
        ),
        (
            Rules(),
            evidence(4.0, 6.0),
            evidence(5.5, 5.5),
            "fid 5 ± 1 over 2 seeds is below the champion's fid 5.5 ± 0 over 2 seeds by 0.5 only; more than 1 is "
            "needed (the noise over seeds)",
        ),
        (Rules(min_seeds=3), evidence(1.0, 1.0), evidence(9.0), "it was run with 2 seeds, at least 3 are needed"),
        (
            Rules(),
            evidence(1.0),
            evidence(9.0, n="400"),
            "its scores do not compare: n is 500 against the champion's 400",
        ),
        (Rules(), evidence(1.0), evidence(9.0, digest="e"), "digest is d against the champion's e"),
        (
            Rules(),
            evidence(1.0),
            evidence(9.0, headline="fd_pixels"),
            "headline is fid against the champion's fd_pixels",
        ),
        (Rules(), evidence(1.0, problems=["seed 0: copies"]), None, "seed 0: copies"),
    ],
)
def test_it_is_refused_with_the_reason(rules, candidate, champion, reason):
    (found,) = rules.refusals(candidate, champion)
    assert reason in found


@pytest.mark.parametrize(
    ("rules", "candidate", "champion"),
    [
        (Rules(), evidence(4.9), evidence(5.0)),
        (Rules(min_improvement=0.1), evidence(8.9), evidence(10.0)),
        (Rules(), evidence(4.9, 5.1), evidence(5.9, 6.1)),
        (Rules(min_seeds=2), evidence(4.0, 4.0), evidence(5.0)),
    ],
)
def test_it_is_taken(rules, candidate, champion):
    assert rules.refusals(candidate, champion) == []


def test_with_one_seed_the_noise_is_that_of_the_samples():
    candidate, champion = evidence(4.9, spread=0.3), evidence(5.0, spread=0.4)
    (reason,) = Rules().refusals(candidate, champion)
    assert "by 0.1 only; more than 0.5 is needed (the noise of one seed's samples)" in reason
    assert Rules().refusals(evidence(4.4, spread=0.3), champion) == []


def test_features_of_other_weights_do_not_compare():
    (reason,) = Rules().refusals(evidence(1.0, extractor_id="net-1-a"), evidence(5.0, extractor_id="net-1-b"))
    assert "extractor_id is net-1-a against the champion's net-1-b" in reason


def test_evidence_survives_the_tags_of_a_version():
    one = evidence(1.25, 2.5, spread=0.25, extractor_id="net-1")
    assert Evidence.from_tags(one.tags()) == one
    assert one.extractor == "inception"
    assert evidence(1.0, headline="fd_pixels").extractor == "pixels"
    assert Evidence.from_tags({"headline": "fid"}) is None
