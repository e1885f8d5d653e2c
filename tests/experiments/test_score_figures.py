"""Pictures of scores: curves of quality against novelty."""

from experiments.leaderboard import Contender, Entry
from experiments.studies.score_figures import trade_off_picture


def entry(variant: str, novelty: float, ratio: float) -> Entry:
    scores = {seed: {"code_novelty": novelty, "decoded_ratio": ratio, "fd_x": 1.0} for seed in (0, 1)}
    return Entry("digits", Contender("vae", variant, "local"), "fd_x", scores, scores)


def test_a_curve_runs_by_novelty_and_holds_settings_that_come_out_alike():
    group = [entry("", 1.0, 1.5), entry("local = 2", 2.0, 3.0), entry("local = 0.5", 0.5, 1.1)]
    group += [entry("local = 9", 2.0, 3.0), entry("walk = 1", 0.2, 1.0)]
    (ax,) = trade_off_picture("digits", group).figure.axes
    curves = {line.get_label(): list(line.get_xdata()) for line in ax.lines}
    assert curves["local"] == [0.5, 1.0, 2.0, 2.0]
    assert curves["walk"] == [0.2]
