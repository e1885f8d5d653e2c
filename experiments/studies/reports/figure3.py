"""Fig. 3: each sample with its nearest training image and its nearest reconstruction of a test image."""

import warnings
from collections.abc import Iterator

from torch import Tensor

from experiments.leaderboard import RATIO, Entry
from experiments.page import Part, Picture
from experiments.studies.cells import Study
from experiments.studies.execute import Outcome
from experiments.studies.ranking import rank_table
from experiments.studies.score_figures import draw
from experiments.tables import as_markdown, mean_and_sd
from geovae.data import Splits
from geovae.evaluation import ImageSets, Report, Scorer, evaluate
from geovae.figures.evaluation import neighbour_figure
from geovae.saved_model import SavedModel, load_model

SHOWN = 12  # samples
Numbers = dict[str, dict[str, list[float]]]  # by sampler and score, one value a seed


def figure3(study: Study, entries: list[Entry], outcomes: list[Outcome]) -> Iterator[Part]:
    """Yield a table for each data set, and the neighbours of samples of the first seed."""
    for data in dict.fromkeys(one.cell.data for one in outcomes):
        numbers: Numbers = {}
        pictures = []
        of_data = [one for one in outcomes if one.cell.data == data]
        for outcome in of_data:
            saved = load_model(outcome.model_file)
            splits = saved.splits()
            reconstructions = _reconstruct(saved, splits)
            for sampler in outcome.samplers:
                fake = draw(saved, outcome, sampler, len(reconstructions))
                report = _evaluate(outcome, splits, fake, reconstructions)
                for key, value in report.values.items():
                    numbers.setdefault(sampler, {}).setdefault(key, []).append(value)
                if outcome.cell.seed == study.seeds[0]:
                    images = {"fake": fake, "train": splits.train.images, "reconstructions": reconstructions}
                    pictures.append(_neighbour_picture(data, sampler, images, report.nearest))
        yield f"## {data}\n\n" + _neighbour_table(numbers, of_data[0].headline)
        yield from pictures
    yield rank_table(entries)


def _reconstruct(saved: SavedModel, splits: Splits) -> Tensor:
    """Return the reconstructions of the test images, or of the validation images where there are none."""
    return saved.decode(saved.encode((splits.test or splits.val).images).mu)


def _evaluate(outcome: Outcome, splits: Splits, fake: Tensor, reconstructions: Tensor) -> Report:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the run itself has given the same warnings
        sets = ImageSets(
            real=(splits.test or splits.val).images,
            fake=fake,
            train=splits.train.images,
            reconstructions=reconstructions,
            other_real=splits.val.images,
        )
        return evaluate(sets, Scorer(outcome.cell.configs[outcome.variant]["extractor"], scores=["frechet"]))


def _neighbour_picture(data: str, sampler: str, images: dict[str, Tensor], rows: dict[str, list[int]]) -> Picture:
    titles = {"fake": "sample", "train": "nearest training image", "reconstructions": "nearest reconstruction"}
    figure = neighbour_figure({title: images[key][rows[key][:SHOWN]] for key, title in titles.items()})
    caption = f"{data}, {sampler}: samples, their nearest training image, their nearest reconstruction of a test image"
    return Picture(f"figure3-{data}-{sampler}", caption, figure)


def _neighbour_table(numbers: Numbers, head: str) -> str:
    columns = {
        f"{head} to test images": head,
        f"{head} to reconstructions": f"reconstructions_{head}",
        "nearest train": RATIO,
        "nearer than held-out (1/2 is new)": "nn_pixels_auc",
        "closer than 95 % of held-out": "nn_pixels_close",
    }
    rows = [
        [sampler, *(mean_and_sd(scores.get(key, [])) for key in columns.values())]
        for sampler, scores in numbers.items()
    ]
    return as_markdown(["sampler", *columns], rows)
