"""Search spaces: every shipped one fits the code, conditions hold, and each mistake gets its sentence."""

import math

import optuna
import pytest
import yaml

from geovae.models import MODELS
from geovae.samplers import SAMPLERS
from tuning.search import Listed, Sampled, build_search, importances
from tuning.space import SpaceError, check_space, parse_space, read_space, shipped_spaces

optuna.logging.set_verbosity(optuna.logging.WARNING)
SHIPPED = list(shipped_spaces())
CONDITIONAL = {
    "search": {
        "model.name": {"choice": ["vae", "rae_gp"]},
        "model.latent_dim": {"uniform": [2, 8], "step": 2},
        "model.beta": {"log_uniform": [0.01, 1.0], "when": {"model.name": "vae"}},
        "model.penalty_weight": {"log_uniform": [1e-6, 1e-3], "when": {"model.name": ["rae_gp"]}},
    }
}


def space(**search):
    return parse_space({"search": search}, "here")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_space_fits_the_signatures(name):
    check_space(read_space(name), {"data.name": "digits"})


def test_every_model_and_every_sampler_with_options_has_a_space():
    assert set(MODELS) <= set(SHIPPED)
    without_options = {"prior", "vamp"}
    assert {f"sampler_{name}" for name in SAMPLERS.keys() - without_options} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_sampler_spaces_and_only_they_do_not_train(name):
    assert read_space(name).retrains != name.startswith("sampler_")


def test_conditions_hold_in_every_draw_and_both_ways():
    found = parse_space(CONDITIONAL, "here")
    search = Sampled(found, method="random", trials=40, seed=0)
    drawn = [search.ask() for _ in range(40)]
    assert search.ask() is None
    for options in drawn:
        assert ("model.beta" in options) == (options["model.name"] == "vae")
        assert ("model.penalty_weight" in options) == (options["model.name"] == "rae_gp")
        assert options["model.latent_dim"] in (2, 4, 6, 8)
    assert {options["model.name"] for options in drawn} == {"vae", "rae_gp"}
    assert len({str(options) for options in drawn}) > 30


def test_numbers_that_yaml_reads_as_text_are_numbers():
    ends = yaml.safe_load("[1e-4, 1e-2]")
    assert ends == ["1e-4", "1e-2"]
    assert space(**{"model.beta": {"log_uniform": ends}}) == space(**{"model.beta": {"log_uniform": [1e-4, 1e-2]}})


def test_draws_are_even_in_the_logarithm():
    found = space(**{"training.learning_rate": {"log_uniform": [1e-4, 1e-2]}})
    search = Sampled(found, method="random", trials=1000, seed=0)
    below = sum(search.ask()["training.learning_rate"] < 1e-3 for _ in range(1000))
    assert abs(below - 500) < 4 * math.sqrt(250)


def test_grid_dimensions_take_every_value_in_turn_and_a_grid_search_every_point():
    found = space(**{"model.latent_dim": {"grid": [2, 3, 4]}, "training.learning_rate": {"log_uniform": [1e-4, 1e-2]}})
    search = Sampled(found, method="optuna", trials=6, seed=0)
    assert [search.ask()["model.latent_dim"] for _ in range(6)] == [2, 3, 4, 2, 3, 4]
    lists = space(**{"model.latent_dim": {"grid": [2, 3]}, "training.batch_size": {"choice": [50, 100]}})
    points = build_search(lists, "grid", trials=10, seed=0).points
    assert len({str(point) for point in points}) == len(points) == 4
    with pytest.raises(SpaceError, match="search=grid needs lists of values, but training.learning_rate has a range"):
        build_search(found, "grid", trials=10, seed=0)


def test_known_configurations_are_taken_as_they_are():
    found = parse_space(CONDITIONAL, "here")
    known = {"model.name": "vae", "model.latent_dim": 6, "model.beta": 0.25}
    search = Sampled(found, method="optuna", trials=5, seed=0)
    assert search.ask(known) == known
    search.tell(0, 3.0)
    assert search.study.best_params == known


def test_a_warm_start_takes_what_lies_in_the_space_and_nothing_else():
    found = space(**{"model.latent_dim": {"choice": [2, 4]}, "training.learning_rate": {"log_uniform": [1e-4, 1e-2]}})
    earlier = [
        ({"model.latent_dim": 2, "training.learning_rate": 1e-3}, 5.0),
        ({"model.latent_dim": 3, "training.learning_rate": 1e-3}, 4.0),
        ({"model.latent_dim": 2, "training.learning_rate": 1.0}, 3.0),
        ({"model.latent_dim": 2}, 2.0),
    ]
    search = Sampled(found, method="optuna", trials=5, seed=0, earlier=earlier)
    assert search.warm_started == 1
    assert search.study.best_value == 5.0


def test_optuna_finds_the_minimum_of_a_parabola_better_than_chance():
    found = space(**{"training.learning_rate": {"uniform": [0.001, 1.0]}})

    def best(method):
        search = Sampled(found, method=method, trials=40, seed=1)
        values = []
        for number in range(40):
            values.append((search.ask()["training.learning_rate"] - 0.7) ** 2)
            search.tell(number, values[-1])
        return sum(values[-20:])

    assert best("optuna") < 0.5 * best("random")


def test_importance_names_the_option_that_matters():
    found = space(**{"model.beta": {"uniform": [0.0, 1.0]}, "training.learning_rate": {"uniform": [0.001, 1.0]}})
    search = Sampled(found, method="random", trials=60, seed=0)
    rows = [(options := search.ask(), options["model.beta"] ** 2) for _ in range(60)]
    parts = importances(rows, found)
    assert parts["model.beta"] > 0.9
    assert importances(rows[:2], found) == {}


def test_corners_reach_every_branch_and_both_ends():
    corners = parse_space(CONDITIONAL, "here").corners()
    assert {c["model.name"] for c in corners} == {"vae", "rae_gp"}
    assert {c.get("model.beta") for c in corners} == {0.01, 1.0, None}


def test_a_space_survives_being_written_down():
    found = read_space("models")
    assert parse_space(found.describe(), "again") == found


def test_flags_take_options_out_of_the_space():
    found = read_space("vae").without(["model.latent_dim", "model.name"])
    assert "model.latent_dim" not in {d.name for d in found.dimensions}
    assert found.fixed == {}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, "the search space is empty; put at least one option under `search`"),
        ({"search": {}}, "the search space is empty"),
        ({"params": {}}, "unknown entry 'params'; a space has `fixed` and `search`"),
        ({"search": [1]}, "must be mappings from dotted names"),
        ({"search": {"a": 3}}, "a needs exactly one of choice, grid, uniform, log_uniform"),
        ({"search": {"a": {"choice": [1], "grid": [1]}}}, "a needs exactly one of"),
        ({"search": {"a": {"choice": [1], "lower": 2}}}, "a has an unknown entry 'lower'; valid here"),
        ({"search": {"a": {"choice": []}}}, "`choice` needs a list of values"),
        ({"search": {"a": {"uniform": [2, 1]}}}, "`uniform` needs two numbers, the lower first"),
        ({"search": {"a": {"uniform": ["x", 1]}}}, "`uniform` needs two numbers"),
        ({"search": {"a": {"log_uniform": [0, 1]}}}, "`log_uniform` needs positive ends"),
        ({"search": {"a": {"uniform": [0, 1], "step": -1}}}, "`step` must be positive"),
        ({"search": {"a": {"choice": [1], "step": 1}}}, "`step` belongs to uniform ranges"),
        ({"search": {"a": {"choice": [1], "when": {"b": 1}}}}, "`when` names 'b', which is no choice"),
        ({"search": {"a": {"choice": [1], "when": 3}}}, "`when` maps the name of an earlier choice"),
    ],
)
def test_a_space_that_is_not_valid_gets_one_sentence(content, sentence):
    with pytest.raises(SpaceError, match=sentence):
        parse_space(content, "here")


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        ({"model.latent_dims": {"choice": [2]}}, "unknown option 'model.latent_dims'; did you mean model.latent_dim?"),
        ({"model.mmd_weight": {"uniform": [1.0, 2.0]}}, "unknown option 'model.mmd_weight'"),
        ({"model.latent_dim": {"uniform": [0, 8]}}, "`latent_dim` must be at least 1, got 0"),
        ({"training.learning_rate": {"choice": ["fast"]}}, "training.learning_rate"),
        ({"model.name": {"choice": ["vae", "gan"]}}, "unknown model.name 'gan'"),
    ],
)
def test_options_that_do_not_fit_the_run_are_refused(search, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_space(space(**search), {"data.name": "digits"})


def test_a_missing_space_names_the_shipped_ones(tmp_path):
    with pytest.raises(SpaceError, match="no search space 'vea': give a YAML file, or one of the shipped ae"):
        read_space("vea")


def test_a_list_is_proposed_in_order():
    listed = Listed([{"a": 1}, {"a": 2}])
    assert [listed.ask(), listed.ask(), listed.ask()] == [{"a": 1}, {"a": 2}, None]


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        ({"model.width": {"uniform": [2, 8], "step": 0.3}}, "`step` must be a whole number, as both ends are, got 0.3"),
        ({"model.width": {"choice": [8, 16, 8]}}, r"`choice` holds a value twice, got \[8, 16, 8\]"),
        ({"model.width": {"choice": [1], 3: 4, None: 5}}, "has an unknown entry '3'"),
    ],
)
def test_ranges_and_lists_that_cannot_be_meant(search, sentence):
    with pytest.raises(SpaceError, match=sentence):
        space(**search)


def test_a_grid_that_nobody_can_finish_is_not_listed():
    many = space(**{f"model.{name}": {"grid": list(range(50))} for name in "abcd"})
    with pytest.raises(SpaceError, match="have 6250000 combinations of values, at most 100000 are tried"):
        build_search(many, "random", trials=3, seed=0)
