"""`mlflow run . -e prepare`: fetch an original distribution, and build the files that a data set's loader reads."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from experiments.config import Options, flatten
from experiments.quality import track_quality
from geovae import mri
from geovae.checks import check_choice, check_count
from geovae.data.builders import BUILDERS, ORIGINALS
from geovae.data.download import Original, Originals, fetch, is_address
from geovae.evaluation import inception
from geovae.files import atomic_path
from geovae.mri.steps.slices import View
from geovae.tracking import MlflowTracker
from mlflow_projects import command_line, entry

NOT_FETCHED = {
    "folder": "the folder of your images",
    "oasis": "the folder of OASIS-1's discs, from https://sites.wustl.edu/oasisbrains/ for those who accept its terms",
}


@dataclass(frozen=True)
class Quality:
    """The quality figures of the data set oasis.

    Args:
        shown: sessions in them.
        masked_ids: leave the sessions' ids out of everything that is tracked.
        qc_view: radiological shows the patient's left on the right.
    """

    shown: int = 48
    masked_ids: bool = False
    qc_view: View = "neurological"


def main(
    dataset: str, options: Options, source: str = "", root: str = "data_folders", quality: Quality = Quality()
) -> None:
    """Build a data set's files; all other options are the builder's: `--dataset NAME --help` lists them.

    Args:
        dataset: which one; `inception` is the weights of the scores called `fid`.
        source: the original files, or the address of a mirror; without it they are fetched from their publisher.
        options: of the builder.
        root: folder of all data sets.
        quality: of oasis.

    Examples:
        python -m mlflow_projects.prepare --dataset mnist
        python -m mlflow_projects.prepare --dataset oasis --source FOLDER
    """
    check_choice("dataset", dataset, KNOWN)
    check_count(shown=quality.shown)
    entry.check_writable(Path(root))
    settings = command_line.bind(KNOWN[dataset], {"source": source, "root": root, **options})
    source = settings["source"] = _fetch_originals(dataset, source, root, progress=settings.get("progress", True))
    if dataset == "oasis":
        # refuses a folder without sessions, or a table that cannot be read, before a run is opened
        settings["selection"].gather(source, settings["steps"].mask)
    # but for brains, whose problems are recorded, a run is opened when the files are built: bad ones leave none
    built = None if dataset == "oasis" else KNOWN[dataset](**settings)
    with entry.open_run("prepare") as tracker:
        used = {"dataset": dataset, **settings, **({"quality": quality} if dataset == "oasis" else {})}
        tracker.params({f"cfg.{key}": value for key, value in _flatten_groups(used).items()})
        report = _prepare_oasis(tracker, settings, quality) if built is None else built
        if not quality.masked_ids:  # the report names files, and they name sessions
            tracker.text("build.json", json.dumps(report, indent=2, default=str))
    print(json.dumps(report, indent=2, default=str))


def prepare_inception(source: str | Path, root: str | Path = "", *, progress: bool = True) -> dict[str, Any]:
    """Put the published Inception weights where the scores look for them, and return where that is.

    Args:
        source: the file, or its folder.
        root: not used: the folder is torch hub's.
        progress: show a progress bar.
    """
    target = inception.weights_folder() / inception.WEIGHTS_NAME
    found = inception.checked_weights(Path(source) / target.name if Path(source).is_dir() else source)
    if not target.exists() or not target.samefile(found):
        with atomic_path(target) as path:
            shutil.copyfile(found, path)
    return {"dataset": "inception", "weights": str(target), "sha256": inception.WEIGHTS_SHA256}


KNOWN: dict[str, Callable[..., dict[str, Any]]] = {
    **BUILDERS,
    "oasis": mri.prepare,
    "inception": prepare_inception,
}


def _fetch_originals(dataset: str, source: str, root: str, *, progress: bool) -> str:
    """Return where the originals are: `source`, or where they were fetched to, from a mirror if `source` is one."""
    if source and not is_address(source):
        return source
    folder = Path(root) / "originals" / dataset
    if dataset == "inception":
        checksum, folder = f"sha256:{inception.WEIGHTS_SHA256}", inception.weights_folder()
        weights = Original(inception.WEIGHTS_NAME, checksum, (inception.WEIGHTS_URL,))
        originals = Originals(inception.WEIGHTS_URL, (weights,))
    elif dataset in ORIGINALS:
        originals = ORIGINALS[dataset]
    else:
        raise ValueError(f"`source` must be {NOT_FETCHED[dataset]}; got {source!r}, and {dataset} is not fetched")
    return str(fetch(originals.at(source) if source else originals, folder, progress=progress))


def _flatten_groups(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with the fields of dataclasses as settings of their own."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= vars(value) if is_dataclass(value) else {name: value}
    return flat


def show_builder_options(given: Options) -> None:
    """Print the options of the builder that `given` names, if help is asked for."""
    if "help" in given and given.get("dataset") in KNOWN:
        command_line.build_parser(KNOWN[given["dataset"]]).print_help()


def _prepare_oasis(tracker: MlflowTracker, settings: dict[str, Any], quality: Quality) -> dict[str, Any]:
    """Prepare brain volumes; track where they come from, what was done, and how they look."""
    try:
        report = mri.prepare(**settings)
    except mri.InputProblems as problems:
        if not quality.masked_ids:  # the text names files, and they name sessions
            tracker.text("problems.txt", f"{problems}\n")
        raise
    counts = report["counts"]
    tracker.metrics({f"count/{key}": value for key, value in counts.items()})
    tracker.tags({"input_hash": report["input_hash"], "dataset": "oasis"})
    # without ids: the reasons are in the npz and in qc/
    settings_of_all = {name: value for name, value in report["settings"].items() if name != "excluded"}
    tracker.params(flatten({"settings": settings_of_all}))
    tracker.dataset(
        name="oasis-source",
        digest=report["input_hash"],
        source=str(settings["source"]),
        context="source",
        shape=(counts["used"], *(report["settings"]["shape"] or ())),
    )
    track_quality(tracker, settings["root"], shown=quality.shown, masked_ids=quality.masked_ids, view=quality.qc_view)
    return {key: value for key, value in report.items() if key != "settings"}


if __name__ == "__main__":
    entry.main(main, more_options=show_builder_options)
