"""Open the pages of MLflow's UI in a headless Chromium and take screenshots: `make screenshots`.

Needs Debian's chromium and a store with a finished comparison (`make demo`).
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
CHOSEN = ("images", "version")  # the ones that the documentation shows
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # the UI is ours alone
]
SIZE = {"width": 1400, "height": 850}
WAIT = 60_000  # milliseconds
TRAINING = "workflowType=machine_learning"


@contextmanager
def server(*options: str, **environment: str) -> Iterator[str]:
    """Run `mlflow server` on a free loopback port, as the Makefile does; yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    settings = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | environment
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([*command, *options], env=settings, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        log.seek(0)
                        raise RuntimeError(f"mlflow server did not start: {log.read()[-2000:]}") from None
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Visitor:
    """A user before the UI of one experiment; every method opens a view, waits for its content and photographs it."""

    def __init__(self, page: Any, address: str, folder: Path, experiment_id: str) -> None:
        self.page, self.address, self.folder = page, address, folder
        self.experiment = f"{address}/#/experiments/{experiment_id}"
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        folder.mkdir(parents=True, exist_ok=True)

    def shoot(self, name: str) -> None:
        """Save what is on the screen as `name`.png, in 256 colours."""
        from PIL import Image

        self.page.mouse.move(0, 0)
        self.page.wait_for_timeout(700)  # menus fade
        path = self.folder / f"{name}.png"
        self.page.screenshot(path=path)
        with Image.open(path) as image:
            image.convert("RGB").quantize(256).save(path, optimize=True)

    def open(self, url: str, *texts: str) -> None:
        """Open a view of this experiment or of the registry, and wait until all texts are to be seen."""
        self.page.goto("about:blank")
        self.page.goto(url)
        for text in texts:
            self.page.get_by_text(text).locator("visible=true").first.wait_for(timeout=WAIT)

    def find_table(self, head: str) -> None:
        """Wait for a table with a column `head` in a description: Markdown that is no table stays text."""
        self.page.locator("th", has_text=head).first.wait_for(state="attached", timeout=WAIT)

    def scores(self, best: str) -> None:
        """The saved view that a comparison leaves: every run with its scores in columns, the best first."""
        self.open(f"{self.experiment}/runs?{TRAINING}&viewStateShareKey=geovae", "best_sampler")
        first = self.page.locator("[role=row][row-index='0'] a").first
        first.wait_for(timeout=WAIT)
        assert first.text_content() == best, f"the first row is {first.text_content()}, not {best}"
        self.shoot("scores")

    def runs(self, parent: str, *children: str) -> None:
        """The table as it opens, and then with the parent's children unfolded."""
        self.open(f"{self.experiment}/runs?{TRAINING}", "Run Name", parent)
        row = self.page.locator("[role=row]").filter(has=self.page.get_by_role("link", name=parent, exact=True)).first
        row.locator("[data-component-id*='runnamecellrenderer']").first.click()
        for child in children:
            self.page.get_by_role("link", name=child, exact=True).first.wait_for(timeout=WAIT)
        self.shoot("runs")

    def images(self, *names: str) -> None:
        """The charts of the saved view: they begin with the pictures of all runs, a column for each run."""
        self.open(f"{self.experiment}/runs?{TRAINING}&viewStateShareKey=geovae&compareRunsMode=CHART", "pictures")
        grid = self.page.locator("table, [role=table]").filter(has_text=names[0]).first
        for name in names:
            grid.get_by_text(name).first.wait_for(timeout=WAIT)
        grid.locator("img").nth(1).wait_for(timeout=WAIT)
        self.shoot("images")

    def models(self, *texts: str) -> None:
        """The experiment's logged models with their scores, in groups by the images that these are of."""
        self.page.set_viewport_size({"width": 2400, "height": 850})  # the scores stand at the right
        self.open(f"{self.experiment}/models?{TRAINING}", *texts, "score/")
        self.shoot("models")
        self.page.set_viewport_size(SIZE)

    def study(self, key: str, name: str) -> None:
        """The saved view that a study leaves: the pictures of its runs."""
        self.open(f"{self.experiment}/runs?{TRAINING}&viewStateShareKey={key}&compareRunsMode=CHART", "pictures")
        self.page.locator("table img, [role=table] img").first.wait_for(timeout=WAIT)
        self.shoot(name)

    def sweep(self, key: str, name: str, best: str) -> None:
        """The saved view that a sweep leaves: its configurations with their options, and as lines through them."""
        view = f"{self.experiment}/runs?{TRAINING}&viewStateShareKey={key}"
        self.open(view, "cfg.")
        first = self.page.locator("[role=row][row-index='0'] a").first
        first.wait_for(timeout=WAIT)
        assert first.text_content() == best, f"the first row is {first.text_content()}, not {best}"
        self.shoot(f"{name}_table")
        self.open(f"{view}&compareRunsMode=CHART", "options")
        self.page.locator(".parcoords svg").first.wait_for(timeout=WAIT)
        self.shoot(f"{name}_lines")

    def charts(self, *texts: str) -> None:
        """The chart view as it opens, with the groups that the names make."""
        self.open(f"{self.experiment}/runs?{TRAINING}&compareRunsMode=CHART", *texts)
        self.page.locator(".js-plotly-plot .main-svg, .recharts-surface").first.wait_for(timeout=WAIT)
        self.shoot("charts")

    def run(self, run_id: str, name: str, *texts: str, tab: str = "") -> None:
        """A run's own page, or one of its tabs."""
        self.open(f"{self.experiment}/runs/{run_id}{tab and f'/{tab}'}?{TRAINING}", *texts)
        self.shoot(name)

    def artifact(self, run_id: str, path: str, name: str, find: str) -> None:
        """The preview of an artifact; `find` is a selector within it (or within its frame, after `frame:`)."""
        self.open(f"{self.experiment}/runs/{run_id}/artifacts/{path}?{TRAINING}")
        inside = find.removeprefix("frame:")
        place = self.page.frame_locator("iframe").first if inside != find else self.page
        place.locator(inside).first.wait_for(timeout=WAIT)
        self.shoot(name)

    def registry(self, model: str, version: str, *texts: str) -> None:
        """The registered model with its aliases, and a version with its card."""
        self.open(f"{self.address}/#/models/{model}?{TRAINING}", f"Version {version}", "champion")
        self.shoot("registry")
        self.open(f"{self.address}/#/models/{model}/versions/{version}?{TRAINING}", *texts)
        self.find_table("decoded held-out codes")
        self.shoot("version")


@contextmanager
def visitor(address: str, folder: Path, experiment_id: str, **options: Any) -> Iterator[Visitor]:
    """Start a browser; MLflow's assistant, which opens on a first visit, is closed."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport=SIZE, **options)
        page.set_default_timeout(WAIT)
        for key, value in (("panelOpen", "false"), ("fab.autoOpenedOnFirstLoad", "true")):
            # a sandboxed frame has no storage
            page.add_init_script(f"try {{ localStorage.setItem('mlflow.assistant.{key}_v1', '{value}') }} catch {{}}")
        try:
            yield Visitor(page, address, folder, experiment_id)
        finally:
            browser.close()


def tour(client: Any, seen: Visitor, experiment_id: str) -> None:
    """Photograph everything that a comparison left."""
    found = client.search_runs([experiment_id], "tags.role = 'comparison' and attributes.status = 'FINISHED'")
    if not found:
        raise SystemExit("no finished comparison here: run `make demo` first")
    parent = found[0]
    children = client.search_runs([experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    best = next(run for run in children if run.info.run_name == parent.data.tags["winner"])
    seen.scores(best.info.run_name)
    seen.runs(parent.info.run_name, *(run.info.run_name for run in children))
    seen.charts("val", "train")
    seen.images("samples/prior", "samples/mixture")
    seen.run(parent.info.run_id, "parent", "real against real")
    seen.find_table("sampler")
    seen.run(best.info.run_id, "child", "best/val_loss")
    seen.run(best.info.run_id, "child_metrics", "val_loss", tab="model-metrics")
    seen.models(*(f"{run.data.tags['model']}-{run.data.tags['dataset']}" for run in children))
    seen.artifact(
        best.info.run_id, "figures/latent_map.png", "artifact_png", "img[src^='blob:'], img[src*='latent_map']"
    )
    seen.artifact(parent.info.run_id, "leaderboard.json", "artifact_table", "text=sampler")
    for run in client.search_runs([experiment_id], "tags.role = 'report'")[:1]:
        seen.artifact(run.info.run_id, "report.html", "artifact_html", "frame:h1")
    for study in client.search_runs([experiment_id], "tags.role = 'study' and attributes.status = 'FINISHED'")[:1]:
        seen.run(study.info.run_id, "study_parent", "Description")
        seen.study(f"study-{study.data.tags['study']}", "study")
    for sweep in client.search_runs([experiment_id], "tags.role = 'sweep' and tags.best_configuration LIKE 'c%'")[:1]:
        seen.run(sweep.info.run_id, "sweep", "configurations judged")
        seen.sweep(f"sweep-{sweep.info.run_id[:8]}", "sweep", sweep.data.tags["best_configuration"])
    version = client.get_model_version_by_alias("geovae", "champion")
    seen.registry("geovae", version.version, "drawn with the", "Intended for", "champion")


def tour_brains(client: Any, seen: Visitor, experiment_id: str) -> None:
    """Photograph what preparing and drawing brains left."""
    of = "tags.`mlflow.project.entryPoint` = '{}' and attributes.status = 'FINISHED'"
    picture = "img[src^='blob:'], img[src*='{}']"
    for run in client.search_runs([experiment_id], of.format("prepare"), max_results=1):
        seen.artifact(run.info.run_id, "qc/mosaic.png", "qc_mosaic", picture.format("mosaic"))
        seen.artifact(run.info.run_id, "qc/report.html", "qc_report", "frame:h1")
        seen.artifact(run.info.run_id, "qc/viewer.html", "qc_viewer", "frame:canvas")
        seen.artifact(run.info.run_id, "qc/qc_table.csv", "qc_table", "text=brain_ml")
    for run in client.search_runs([experiment_id], of.format("brains"), max_results=1):
        name = "real_versus_generated"
        seen.artifact(run.info.run_id, f"brains/{name}.png", f"brains_{name}", picture.format(name))
        seen.artifact(run.info.run_id, "brains/geodesic.gif", "brains_geodesic", picture.format("geodesic"))


def main() -> None:
    """Photograph the store of MLFLOW_TRACKING_URI into --folder, and the chosen views into docs/pictures."""
    import mlflow

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "screenshots")
    folder = parser.parse_args().folder
    if CHROMIUM is None:
        raise SystemExit("no chromium here: apt-get install chromium")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("geovae")
    if experiment is None:
        raise SystemExit("no experiment 'geovae' here: run `make demo` first")
    brains = client.get_experiment_by_name("geovae-oasis")
    with server("--backend-store-uri", mlflow.get_tracking_uri()) as address:
        with visitor(address, folder, experiment.experiment_id) as seen:
            tour(client, seen, experiment.experiment_id)
        if brains is not None:
            with visitor(address, folder, brains.experiment_id) as seen:
                tour_brains(client, seen, brains.experiment_id)
    for name in CHOSEN:
        shutil.copy(folder / f"{name}.png", PICTURES / f"ui_{name}.png")
    sys.stdout.write(f"screenshots in {folder}, the chosen ones in {PICTURES}\n")


if __name__ == "__main__":
    main()
