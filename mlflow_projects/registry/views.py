"""Saved views of MLflow's table of runs: chosen columns, the best run first, charts that are there at once.

MLflow has no interface for saved views. This file writes what the button *Share* of the UI of MLflow 3.17 writes: the
experiment tag `mlflow.sharedViewState.<key>`, whose `state` is the UI's own state as deflated JSON. If another version
of MLflow reads it differently, the link opens the UI's own columns and nothing else breaks: no other file reads these
tags. To adapt it, save a view by hand and compare its tag with `_state`. The browser test opens the views.
"""

import base64
import json
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.leaderboard import RATIO

if TYPE_CHECKING:
    from mlflow import MlflowClient

SECTION = "geovae-first"
TESTED = ("prd_f8", "prd_f1_8", RATIO)  # scores on test images; few enough to be seen at once
# the UI's first columns, which no view can leave out: a tick, name, creation, duration; and their widths
CHARTS = "&compareRunsMode=CHART"  # a link that opens the view on its pictures, not on its table
LEADING = {"0": 73, "attributes.`Run Name`": 140, "runDateAndNestInfo": 140, "duration": 80}
Card = Mapping[str, Any]
UNCHANGED = {  # the part of the UI's state that all views share
    "orderByAsc": True,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "runsExpanded": {},
    "runsPinned": [],
    "runsHidden": [],
    "runsVisibilityMap": {},
    "runsHiddenMode": "FIRST_10_RUNS",
    "viewMaximized": False,
    "runListHidden": False,
    "isAccordionReordered": True,
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
    "groupBy": None,
    "groupsExpanded": {},
    "autoRefreshEnabled": True,
    "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
}


def scores_view(client: "MlflowClient", experiment_id: str, headline: str, samplers: Sequence[str], epoch: int) -> str:
    """Save the view `scores`: every run that was scored in one flat list, without parents, ranked by `headline`.

    Its charts begin with the pictures of all runs side by side, a row for each of the `samplers`, and beside them the
    reconstructions at `epoch`.

    Returns the part of a link that opens it.
    """
    columns = ["tags.`best_sampler`", *_scores(headline)]
    cards = [_grid("samples", [f"samples/{name}" for name in samplers], 0)]
    cards += [_grid("reconstructions", ["reconstructions"], epoch)]
    search = "tags.best_sampler LIKE '%'"
    state = _state(search, headline, columns, "pictures", cards)
    return _save(client, experiment_id, "geovae", "scores", state) + CHARTS


def study_view(client: "MlflowClient", experiment_id: str, study: str, headline: str, samplers: Sequence[str]) -> str:
    """Save the view `study NAME`: the runs of a study in one flat list, with their samples side by side.

    Returns the part of a link that opens it.
    """
    columns = ["tags.`dataset`", "tags.`model`", "tags.`seed`", "tags.`variant`", *_scores(headline)]
    cards = [_grid("samples", [f"samples/{name}" for name in samplers], 0)]
    state = _state(f"tags.study = '{study}' and tags.role = 'cell'", headline, columns, "pictures", cards)
    return _save(client, experiment_id, f"study-{study}", f"study {study}", state) + CHARTS


def sweep_view(client: "MlflowClient", experiment_id: str, sweep_id: str, headline: str, options: Sequence[str]) -> str:
    """Save the view of a sweep's configurations: their mean scores over seeds beside the searched `options`.

    Its charts begin with one line for each configuration through its options to its score.

    Returns the part of a link that opens it.
    """
    score, params = f"best/{headline}", [f"cfg.{name}" for name in options]
    columns = [f"metrics.`{score}`", f"metrics.`{score}_stderr`", "metrics.`runs`"]
    columns += [f"params.`{name}`" for name in params]
    lines = _card("options", "PARALLEL") | {"selectedParams": params, "selectedMetrics": [score], "showAllRuns": True}
    state = _state(f"tags.sweep = '{sweep_id}' and tags.role = 'configuration'", headline, columns, "options", [lines])
    return _save(client, experiment_id, f"sweep-{sweep_id[:8]}", f"sweep {sweep_id[:8]}", state)


def _scores(headline: str) -> list[str]:
    return [f"metrics.`best/{headline}`", *(f"metrics.`score/{key}`" for key in (headline, *TESTED))]


def _save(client: "MlflowClient", experiment_id: str, key: str, name: str, state: Mapping[str, Any]) -> str:
    now = time.time_ns() // 1_000_000
    deflated = "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    view = {"name": name, "createdAt": now, "updatedAt": now, "state": deflated}
    client.set_experiment_tag(experiment_id, f"mlflow.sharedViewState.{key}", json.dumps(view))
    return f"experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={key}"


def _state(search: str, headline: str, columns: Sequence[str], section: str, cards: Sequence[Card]) -> dict[str, Any]:
    """Return the UI's state: which runs, which columns, and which cards stand first among the charts."""
    first = {"uuid": SECTION, "name": section, "display": True, "deleted": False, "isReordered": True}
    widths = {column: 30 + 7 * len(column.split("`")[1]) for column in columns}  # pixels: each name is shown in full
    height = 560 if section == "pictures" else 420
    return UNCHANGED | {
        "searchFilter": search,
        "orderByKey": f"metrics.`best/{headline}`",
        "selectedColumns": list(columns),
        "columnOrder": [*LEADING, *columns],
        "columnWidths": LEADING | widths,
        "compareRunCharts": list(cards),
        "compareRunSections": [first | {"isGenerated": False, "columns": 1, "cardHeight": height}],
    }


def _card(name: str, kind: str) -> dict[str, Any]:
    card = {"uuid": f"{SECTION}-{name}", "type": kind, "displayName": name, "metricSectionId": SECTION}
    return card | {"runsCountToCompare": 10, "deleted": False, "isGenerated": False}


def _grid(name: str, keys: Sequence[str], step: int) -> dict[str, Any]:
    """Return a card with a column for each run and a row for each image key, without all the runs' parameters."""
    return _card(name, "IMAGE") | {"imageKeys": list(keys), "step": step, "showRunParams": False}
