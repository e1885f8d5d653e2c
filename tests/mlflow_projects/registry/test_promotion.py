"""Who becomes champion in a real registry, and what a process that dies there leaves."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from mlflow_projects.promote import main as promote_command
from mlflow_projects.registry import promotion
from mlflow_projects.registry.evidence import Rules
from mlflow_projects.registry.promotion import find_candidate, promote, roll_back, version_with_alias
from mlflow_projects.registry.versions import NAME
from tools.names import unknown

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sampler/mixture/divergences": 6.0}, "6 of 500 chains diverged, at most 1.0% may"),
        ({"sampler/mixture/acceptance": 0.05}, "the sampler accepts 5.0%, it must be at least 10%"),
        ({"score/nn_pixels_ratio": 0.2}, "its samples lie too near to training images: nn_pixels_ratio 0.20"),
        ({"val_score/mixture/code_novelty": 0.9}, "its sampler copies: its latents lie 0.90 times as far"),
        ({"tags": {"warning.mixture": "it stands still"}}, "its sampler warns: it stands still"),
    ],
)
def test_a_guard_rail_holds_back_even_the_first(store, change, reason):
    run = store.run(1.0, **change)
    verdict = promote(store.client, find_candidate(store.client, NAME, run, Rules()), Rules())
    assert verdict.moved is False
    assert any(reason in why for why in verdict.reasons)
    assert version_with_alias(store.client, NAME) is None


def promoted(store, what, **options):
    rules = options.pop("rules", Rules())
    return promote(store.client, find_candidate(store.client, NAME, what, rules), rules, **options)


def test_the_better_replaces_the_worse_and_one_command_goes_back(store):
    first = promoted(store, store.run(5.0, config="a"))
    assert first.moved
    (reason,) = promoted(store, store.run(6.0, config="b")).reasons
    assert reason == "its fd_pixels 6 is not below the champion's fd_pixels 5; lower is better"
    second = promoted(store, f"runs:/{store.run(4.0, config='c')}", why="it looks better")
    assert second.moved
    champion, previous = version_with_alias(store.client, NAME), version_with_alias(store.client, NAME, "previous")
    assert (champion.version, previous.version) == (second.candidate.version.version, first.candidate.version.version)
    assert champion.tags["promoted.why"] == "it looks better"
    assert champion.tags["promoted.replaced"] == str(previous.version)
    assert "@" in champion.tags["promoted.by"]
    assert previous.tags["demoted.replaced_by"] == str(champion.version)
    assert roll_back(store.client, dry_run=True) == "version 1 would be champion again in place of version 2"
    assert version_with_alias(store.client, NAME).version == champion.version
    said = roll_back(store.client, why="it was not")
    assert said == "version 1 is the champion again: models:/geovae@champion; version 2 is previous now"
    assert version_with_alias(store.client, NAME).version == previous.version
    assert version_with_alias(store.client, NAME).tags["promoted.why"] == "it was not"
    roll_back(store.client)
    assert version_with_alias(store.client, NAME).version == champion.version
    assert not [m for m in store.client.search_registered_models() if m.name != NAME], "the lock is still there"


def test_seeds_count_and_of_a_parent_the_best_configuration_is_taken(store):
    parent = store.client.create_run(store.experiment).info.run_id
    for seed, (good, lucky) in enumerate([(4.0, 3.0), (4.2, 9.0)]):
        store.run(good, seed=seed, config="good", parent=parent)
        store.run(lucky, seed=seed, config="lucky", parent=parent)
    candidate = find_candidate(store.client, NAME, parent, Rules())
    assert candidate.evidence.scores == {"0": 4.0, "1": 4.2}
    assert candidate.run.data.metrics["best/fd_pixels"] == 4.0


def test_of_a_parent_a_lucky_configuration_with_fewer_seeds_is_not_taken(store):
    parent = store.client.create_run(store.experiment).info.run_id
    for seed in (0, 1):
        store.run(4.0, seed=seed, config="whole", parent=parent)
    store.run(3.0, config="half", parent=parent)
    assert find_candidate(store.client, NAME, parent, Rules()).evidence.scores == {"0": 4.0, "1": 4.0}


def test_of_a_sweep_the_best_is_the_one_that_the_sweep_names(store):
    best = store.run(4.0, config="a")
    parent = store.client.create_run(store.experiment, tags={"role": "sweep", "best_run": best}).info.run_id
    store.run(3.0, config="b", parent=parent)
    assert find_candidate(store.client, NAME, parent, Rules()).run.info.run_id == best


def test_the_champion_is_judged_by_the_seeds_that_were_run_since(store):
    """One lucky seed does not stay champion against a configuration that is better over seeds."""
    promoted(store, store.run(4.0, config="lucky"))
    candidate = store.run(5.0, config="good")
    assert promoted(store, candidate).reasons == [
        "its fd_pixels 5 is not below the champion's fd_pixels 4; lower is better"
    ]
    for seed in (1, 2):
        store.run(9.0 + seed, seed=seed, config="lucky")
        store.run(5.0, seed=seed, config="good")
    assert promoted(store, candidate).moved


def test_a_champion_whose_run_is_gone_is_judged_by_what_its_version_remembers(store):
    first = store.run(5.0, config="a")
    promoted(store, first)
    store.client.set_terminated(first, "FAILED")
    (reason,) = promoted(store, store.run(6.0, config="b")).reasons
    assert "not below the champion's fd_pixels 5" in reason
    store.client.delete_model_version_tag(NAME, "1", "evidence")
    (reason,) = promoted(store, store.run(1.0, config="c")).reasons
    assert "the champion, version 1, has no scores, so that nothing compares with it; take the alias" in reason


def test_the_champion_itself_is_no_candidate(store):
    run = store.run(5.0)
    promoted(store, run)
    for what in (run, "1"):
        assert promoted(store, what).reasons == ["version 1 is this run's model: it is the champion already"]


def test_a_champion_that_was_taken_away_comes_back(store):
    promoted(store, store.run(5.0, config="a"))
    promoted(store, store.run(4.0, config="b"))
    store.client.delete_registered_model_alias(NAME, "champion")
    assert roll_back(store.client) == "version 1 is the champion again: models:/geovae@champion"


def test_every_promotion_is_a_run_with_its_verdict(store, capsys, tmp_path, monkeypatch):
    """Candidates may lie in any experiment; the record lies where the command runs."""
    monkeypatch.chdir(tmp_path)
    other = store.client.create_experiment("other", artifact_location=str(tmp_path / "elsewhere"))
    here, store.experiment = store.experiment, other
    worse, better = store.run(5.0, config="a"), store.run(4.0, config="b")
    promote_command(worse, dry_run=True)
    promote_command(worse)
    promote_command(better, why="a 'sharper' $three;\n`x`")
    with pytest.raises(SystemExit, match="3"):
        promote_command(worse)
    promote_command(rollback=True)
    assert capsys.readouterr().out.splitlines() == [
        "the candidate (fd_pixels 5) would become champion",
        "version 1 (fd_pixels 5) is the champion now: models:/geovae@champion",
        "version 2 (fd_pixels 4) is the champion now: models:/geovae@champion; version 1 (fd_pixels 5) is previous now",
        "version 2 (fd_pixels 4) stays champion; the candidate is refused:",
        "  - its fd_pixels 5 is not below the champion's fd_pixels 4; lower is better",
        "version 1 is the champion again: models:/geovae@champion; version 2 is previous now",
    ]
    assert store.client.get_model_version(NAME, "2").tags["promoted.why"] == "a 'sharper' $three;\n`x`"
    runs = store.client.search_runs([here], "tags.role = 'promotion'", order_by=["attributes.start_time ASC"])
    assert [run.data.tags["verdict"] for run in runs] == ["would move", "moved", "moved", "refused", "rolled back"]
    assert not unknown("tag", [tag for run in runs for tag in run.data.tags if not tag.startswith("mlflow.")])


def test_a_dry_run_changes_nothing(store):
    run = store.run(5.0)
    verdict = promoted(store, run, dry_run=True)
    assert (verdict.reasons, verdict.moved) == ([], False)
    assert verdict.sentences() == ["the candidate (fd_pixels 5) would become champion"]
    assert store.client.search_registered_models() == []


def test_scores_that_were_measured_otherwise_are_refused(store):
    promoted(store, store.run(5.0, config="a"))
    (reason,) = promoted(store, store.run(1.0, config="b", n=100)).reasons
    assert reason == "its scores do not compare: n is 100 against the champion's 500"
    (reason,) = promoted(store, store.run(1.0, config="c", digest="e" * 32)).reasons
    assert "digest is eeee" in reason


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("nothing", "no candidate 'nothing': give a run id, the id of a parent run, or a version of geovae such as 3"),
        ("0" * 32, "no candidate '0{32}': .*not found"),
        ("7", "no candidate '7': "),
    ],
)
def test_a_candidate_that_is_none_is_named(store, what, sentence):
    with pytest.raises(ValueError, match=sentence):
        find_candidate(store.client, NAME, what, Rules())


def test_a_run_without_scores_is_no_candidate(store):
    run = store.client.create_run(store.experiment).info.run_id
    with pytest.raises(ValueError, match="is RUNNING, not FINISHED: only a whole run can be promoted"):
        find_candidate(store.client, NAME, run, Rules())
    store.client.set_terminated(run)
    with pytest.raises(ValueError, match="has no score to judge it by: it needs the tags best_sampler"):
        find_candidate(store.client, NAME, run, Rules())


def test_nothing_to_go_back_to_and_a_lock_that_is_held_are_said(store):
    with pytest.raises(ValueError, match="geovae has no previous champion to go back to"):
        roll_back(store.client)
    with promotion.lock(store.client, NAME):  # noqa: SIM117
        with pytest.raises(TimeoutError, match="another promotion of geovae is under way.*--unlock true"):
            roll_back(store.client, patience=0.3)
    with pytest.raises(ValueError, match="no promotion of geovae is under way"):
        promotion.unlock(store.client)


def test_the_lock_of_a_dead_process_of_this_machine_is_taken_over(store, monkeypatch):
    three_versions(store)
    here = promotion._this_process().rpartition(" ")[0]
    for holder, dead in ((f"{here} 999999999", True), (f"elsewhere {here} 999999999", False), ("", False)):
        with monkeypatch.context() as patch:
            patch.setattr(promotion, "_this_process", lambda holder=holder: holder)
            assert promotion._try_lock(store.client, f"{NAME}-promotion")
        move = {"to": "3", "before": "2", "tags": {}}
        store.client.set_registered_model_tag(f"{NAME}-promotion", promotion.MOVE, json.dumps(move))
        with nullcontext() if dead else pytest.raises(TimeoutError), promotion.lock(store.client, NAME, patience=0.0):
            assert aliases(store.client) == {"champion": "3", "previous": "2"}, "the move is finished first"
        if not dead:
            promotion.unlock(store.client)


class Killed(BaseException):
    """What no handler catches."""


class Dying:
    """A client whose process dies before its `last`-th write to the registry."""

    def __init__(self, client, last):
        self._client, self._left = client, last

    def __getattr__(self, name):
        method = getattr(self._client, name)
        if not name.startswith(("set_", "delete_", "create_")):
            return method

        def write(*arguments, **options):
            self._left -= 1
            if self._left <= 0:  # a dead process removes no lock either
                raise Killed
            return method(*arguments, **options)

        return write


def aliases(client):
    found = {alias: version_with_alias(client, NAME, alias) for alias in ("champion", "previous")}
    return {alias: str(version.version) for alias, version in found.items() if version}


def three_versions(store):
    store.client.create_registered_model(NAME)
    for _ in range(3):
        store.client.create_model_version(NAME, source=f"{store.model_file}", run_id=store.run(1.0))
    return [store.client.get_model_version(NAME, number) for number in "123"]


def test_a_store_error_in_the_middle_of_a_move_does_not_leave_it_there(store):
    _, two, three = three_versions(store)
    client = store.client
    client.set_registered_model_alias(NAME, "champion", "2")
    client.set_registered_model_alias(NAME, "previous", "1")
    failing = Dying(client, 7)
    with pytest.raises(Killed), promotion.lock(client, NAME):  # the lock's own client still writes
        promotion._move_alias(failing, NAME, three, two, "why")
    assert aliases(client) == {"champion": "3", "previous": "2"}
    with pytest.raises(ValueError, match="no promotion of geovae is under way"):
        promotion.unlock(client)


@pytest.mark.slow
@pytest.mark.parametrize("move", ["promotion", "rollback"])
def test_a_kill_at_any_write_is_finished_or_undone(store, move):
    client = store.client
    one, two, three = three_versions(store)
    ends = {"promotion": {"champion": "3", "previous": "2"}, "rollback": {"champion": "1", "previous": "2"}}
    for last in range(1, 40):
        client.set_registered_model_alias(NAME, "champion", "2")
        client.set_registered_model_alias(NAME, "previous", "1")
        before, dying = aliases(client), Dying(client, last)
        try:
            with promotion.lock(dying, NAME):
                promotion._move_alias(dying, NAME, three if move == "promotion" else one, two, "why")
        except Killed:
            now = aliases(client)
            assert "champion" in now
            assert now.get("previous") != now["champion"]
        else:
            break
        if last > 1:  # else the lock was not made
            promotion.unlock(client)
        assert aliases(client) in (before, ends[move])
        if last > 2:  # the move is noted
            assert aliases(client) == ends[move]
            assert roll_back(client).startswith(f"version {ends[move]['previous']} is the champion again")
    assert last > 8
    assert aliases(client) == ends[move]


def test_a_real_model_that_is_called_like_a_lock_is_not_deleted(store):
    store.client.create_registered_model(f"{NAME}-promotion")
    with pytest.raises(ValueError, match="geovae-promotion is a registered model and no lock"):
        promotion.unlock(store.client)
    store.client.delete_registered_model(f"{NAME}-promotion")
    with pytest.raises(ValueError, match="no lock"), promotion.lock(store.client, NAME):
        store.client.create_model_version(f"{NAME}-promotion", source=f"{store.model_file}", run_id=store.run(1.0))
    assert store.client.get_model_version(f"{NAME}-promotion", "1").version in (1, "1")


@pytest.mark.slow
def test_of_two_that_promote_at_once_the_second_sees_the_first(store):
    """Both beat the champion; whichever comes first, in the end the better one has the alias."""
    promoted(store, store.run(9.0, config="a"))
    runs = [store.run(5.0, config="b"), store.run(4.0, config="c")]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "mlflow_projects.promote", "--candidate", run],
            cwd=ROOT,
            env=os.environ | {"MLFLOW_TRACKING_URI": store.uri},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for run in runs
    ]
    ended = [(*process.communicate(timeout=200), process.returncode) for process in processes]
    champion = version_with_alias(store.client, NAME)
    assert champion.run_id == runs[1], ended
    assert ended[1][2] == 0, ended
    previous = version_with_alias(store.client, NAME, "previous")
    if ended[0][2] == 0:  # the worse came first and was replaced
        assert previous.run_id == runs[0]
    else:
        assert ended[0][2] == 3, ended
        assert "its fd_pixels 5 is not below the champion's fd_pixels 4" in ended[0][0]
    assert [m.name for m in store.client.search_registered_models()] == [NAME]
