"""Fig. 1: the geometry of a latent space of two dimensions, for the first seed of each data set."""

from collections.abc import Iterator

from experiments.figure1 import figure1
from experiments.leaderboard import Entry
from experiments.page import Part, Picture
from experiments.studies.cells import TRAINED, Study
from experiments.studies.execute import Outcome
from experiments.studies.reports.scores import scores
from geovae.samplers import RiemannianSampler
from geovae.saved_model import load_model

CAPTION = (
    "Volume element with codes, affine (straight) and geometric curves (Eq. 12), Riemannian distances from one code, "
    "and what both kinds of curves decode to"
)


def figure1_report(study: Study, entries: list[Entry], outcomes: list[Outcome]) -> Iterator[Part]:
    """Yield a figure for each data set, and the scores."""
    for outcome in outcomes:
        if outcome.cell.seed == study.seeds[0] and outcome.variant == TRAINED:
            saved = load_model(outcome.model_file)
            options = outcome.cell.configs[TRAINED]["sampler"]["riemannian"]
            metric = RiemannianSampler(**options).fit(saved.codes).metric
            figure = figure1(saved.model, saved.codes.mu, saved.splits().train.labels, metric)
            yield Picture(f"figure1-{outcome.cell.data}", CAPTION, figure)
    yield from scores(study, entries, outcomes)
