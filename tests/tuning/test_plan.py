"""The order of trials: seeds, rounds, dropped configurations, and a resume after any death, without Ray."""

import math
import random
import statistics

import pytest

from tuning.plan import Configuration, Plan, Run, ranked
from tuning.search import Listed


def work(plan, score, state=lambda trial: "FINISHED", parallel=1, seed=0):
    """Run a plan with `parallel` workers that end in random order; return the trials in the order of their start."""
    order, live, chance = [], [], random.Random(seed)
    while True:
        while len(live) < parallel and (trial := plan.next()) is not None:
            order.append(trial)
            live.append(trial)
        if not live:
            assert plan.finished
            return order
        trial = live.pop(chance.randrange(len(live)))
        how = state(trial)
        plan.on_trial_end(
            trial,
            Run(state=how, score=score(trial) if how == "FINISHED" else None, reason="" if how == "FINISHED" else how),
        )


def points(count):
    return Listed([{"a": number} for number in range(count)])


@pytest.mark.parametrize("parallel", [1, 3, 50])
def test_every_configuration_gets_every_seed_once(parallel):
    plan = Plan(points(5), seeds=[3])
    order = work(plan, lambda trial: trial.configuration, parallel=parallel)
    assert sorted((trial.configuration, trial.seed) for trial in order) == [(c, s) for c in range(5) for s in range(3)]


@pytest.mark.parametrize("parallel", [1, 4, 100])
def test_the_best_get_more_seeds_whatever_the_order(parallel):
    plan = Plan(points(9), seeds=[1, 2, 4], reduction=3)
    work(plan, lambda trial: trial.options["a"] + 0.1 * trial.seed, parallel=parallel, seed=parallel)
    runs = {c.number: len(c.runs) for c in plan.configurations}
    assert runs == {0: 4, 1: 2, 2: 2, **dict.fromkeys(range(3, 9), 1)}


def test_mean_and_standard_error_are_those_of_statistics():
    plan = Plan(points(1), seeds=[4])
    values = [3.0, 5.0, 4.0, 8.0]
    work(plan, lambda trial: values[trial.seed])
    (one,) = plan.configurations
    assert one.mean == pytest.approx(statistics.fmean(values))
    assert one.stderr == pytest.approx(statistics.stdev(values) / 2)
    assert math.isnan(Configuration(0, {}, {0: Run(state="FINISHED", score=1.0)}).stderr)


def test_a_lucky_seed_does_not_win():
    plan = Plan(points(2), seeds=[3])
    work(plan, lambda trial: [[1.0, 9.0, 9.0], [4.0, 4.0, 4.0]][trial.configuration][trial.seed])
    assert [c.number for c in ranked(plan.configurations)] == [1, 0]


def test_more_seeds_rank_before_a_lucky_few():
    plan = Plan(points(2), seeds=[1, 3], reduction=2)
    work(plan, lambda trial: [[3.0, 9.0, 9.0], [4.0]][trial.configuration][trial.seed])
    assert [(c.number, len(c.scores)) for c in ranked(plan.configurations)] == [(0, 3), (1, 1)]


def test_a_configuration_with_failures_ranks_after_all_whole_ones():
    plan = Plan(points(2), seeds=[2])
    work(
        plan,
        lambda trial: trial.configuration,
        lambda trial: "FAILED" if (trial.configuration, trial.seed) == (0, 1) else "FINISHED",
    )
    assert [c.number for c in ranked(plan.configurations)] == [1, 0]
    assert plan.configurations[0].state == "FINISHED"


@pytest.mark.parametrize("parallel", [1, 5])
def test_a_stopped_first_run_spares_the_other_seeds(parallel):
    plan = Plan(points(4), seeds=[3], first_alone=True)
    order = work(
        plan, lambda trial: 1.0, lambda trial: "STOPPED" if trial.configuration % 2 else "FINISHED", parallel=parallel
    )
    assert sorted((j.configuration, j.seed) for j in order) == [
        (0, 0),
        (0, 1),
        (0, 2),
        (1, 0),
        (2, 0),
        (2, 1),
        (2, 2),
        (3, 0),
    ]
    assert [c.state for c in plan.configurations] == ["FINISHED", "STOPPED"] * 2
    for c in range(4):
        starts = [j.seed for j in order if j.configuration == c]
        assert starts[0] == 0


class Recorded(Listed):
    def __init__(self, count):
        super().__init__([{"a": n} for n in range(count)])
        self.scores = {}

    def tell(self, number, score):
        assert number not in self.scores
        self.scores[number] = score


def test_the_search_gets_the_score_of_each_configuration_once_after_its_first_round():
    search = Recorded(6)
    plan = Plan(search, seeds=[2, 4], reduction=2)
    work(
        plan,
        lambda trial: trial.configuration + trial.seed,
        lambda trial: "FAILED" if trial.configuration == 5 else "FINISHED",
        parallel=4,
    )
    assert search.scores == {0: 0.5, 1: 1.5, 2: 2.5, 3: 3.5, 4: 4.5, 5: None}


@pytest.mark.parametrize("deaths", range(0, 14))
def test_a_plan_that_goes_on_after_any_death_does_what_is_left_and_no_more(deaths):
    def score(trial):
        return trial.options["a"] + 0.1 * trial.seed

    whole = Plan(points(5), seeds=[2, 4], reduction=3)
    expected = {(j.configuration, j.seed) for j in work(whole, score)}
    plan, done = Plan(points(5), seeds=[2, 4], reduction=3), set()
    for _ in range(deaths):
        trial = plan.next()
        plan.on_trial_end(trial, Run(state="FINISHED", score=score(trial)))
        done.add((trial.configuration, trial.seed))
    interrupted = plan.next()  # started, never ended
    again = Plan(points(5), seeds=[2, 4], reduction=3)
    for one in plan.configurations:
        runs = {seed: Run(state=run.state, score=run.score) for seed, run in one.runs.items() if run.state != "WAITING"}
        if runs:
            again.restore(Configuration(one.number, one.options, runs))
    later = {(j.configuration, j.seed) for j in work(again, score)}
    assert later == expected - done
    if interrupted is not None:
        assert (interrupted.configuration, interrupted.seed) in later
    assert {c.number: c.scores for c in again.configurations} == {c.number: c.scores for c in whole.configurations}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"seeds": []}, "`seeds` must be whole numbers that grow from at least 1"),
        ({"seeds": [0]}, "`seeds` must be whole numbers that grow"),
        ({"seeds": [3, 3]}, "`seeds` must be whole numbers that grow"),
        ({"reduction": 1}, "`reduction` must be a whole number of at least 2, got 1"),
    ],
)
def test_bad_rounds_get_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Plan(points(1), **options)
