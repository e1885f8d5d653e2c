"""A saved view of the UI's table of runs: the columns that matter, the best run first.

MLflow keeps a view as an experiment tag, the UI's state as deflated JSON; a version of MLflow that does not know it any
more shows its own columns. The browser test opens it.
"""

import base64
import json
import time
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY = "geovae"
NAME = "scores"
SECTION = "geovae-pictures"
TESTED = ("prd_f8", "prd_f1_8", "nn_pixels_ratio")  # few enough to be seen at once


def save_view(
    client: "MlflowClient", experiment_id: str, headline: str, samplers: Sequence[str], epoch: int = 1
) -> str:
    """Save the view `scores` of an experiment whose runs are ranked by `headline`: one flat list, without parents.

    Its charts begin with the pictures of all runs side by side, a row for each of the `samplers`, and beside them the
    reconstructions at `epoch`.

    Returns the part of a link that opens it.
    """
    columns = [f"metrics.`best/{headline}`", *(f"metrics.`score/{key}`" for key in (headline, *TESTED))]
    columns += ["tags.`best_sampler`"]
    now = time.time_ns() // 1_000_000
    view = {
        "name": NAME,
        "createdAt": now,
        "updatedAt": now,
        "state": _deflated(_state(columns, headline, samplers, epoch)),
    }
    client.set_experiment_tag(experiment_id, f"mlflow.sharedViewState.{KEY}", json.dumps(view))
    return f"experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={KEY}"


def _state(columns: Sequence[str], headline: str, samplers: Sequence[str], epoch: int) -> dict[str, Any]:
    return {
        "searchFilter": "tags.model LIKE '%'",
        "orderByKey": f"metrics.`best/{headline}`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "columnOrder": [],
        "columnWidths": {},
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "runsHiddenMode": "FIRST_10_RUNS",
        "compareRunCharts": [
            _grid("samples", [f"samples/{name}" for name in samplers], 0),
            _grid("reconstructions", ["reconstructions"], epoch),
        ],
        "compareRunSections": [
            {"uuid": SECTION, "name": "pictures", "display": True, "deleted": False, "isReordered": True}
            | {"isGenerated": False, "columns": 1, "cardHeight": 560}
        ],
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


def _grid(name: str, keys: Sequence[str], step: int) -> dict[str, Any]:
    """Return a card with a column for each run and a row for each image key, without all the runs' parameters."""
    card = {"uuid": f"{SECTION}-{name}", "type": "IMAGE", "displayName": name, "metricSectionId": SECTION}
    shape = {"runsCountToCompare": 10, "deleted": False, "isGenerated": False}
    return card | shape | {"imageKeys": list(keys), "step": step, "showRunParams": False}


def _deflated(state: dict[str, Any]) -> str:
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
