"""Brains as a user runs them: a tree, `mlflow run -e prepare`, a registered model, `-e brains`."""

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from geovae.mri import write_cohort
from mlflow_projects import inspect, prepare
from tests.mlflow_projects.project import ROOT, Project, list_files
from tools.names import unknown
from tools.screenshots import CHROMIUM, server, tour_brains, visitor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TINY = """
dataset: oasis
runs:
  vae:
    data: {root: data, split: disjoint, val_fraction: 0.4}
    model: {network: mlp, width: 8, latent_dim: 2}
    training: {epochs: 1, batch_size: 2}
    sampler: {riemannian: {preset: null, centroids: all, floor: 0.01, n_transitions: 3}, mixture: {n_components: 2}}
    n_samples: 4
    extractor: pixels
    scores: [frechet]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A clone with a small tree, prepared as `mlflow run` does it."""
    made = Project(tmp_path_factory.mktemp("clone"))
    write_cohort(made.folder / "source", subjects=24, voxel=8)
    (made.folder / "tiny.yaml").write_text(TINY)
    options = ["spacing=8", "shape=[176,208,22]", "at=[0.45,0.55]", "shown=5", "workers=2"]
    done = made.run("prepare", "dataset=oasis", "source=source", "root=data", *options)
    assert done.returncode == 0, done.stderr
    return made


def test_a_prepared_cohort_tells_where_it_comes_from_and_how_it_looks(project):
    run = next(r for r in project.runs() if r.data.tags["mlflow.project.entryPoint"] == "prepare")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["count/used"] == 24
    assert run.data.params["settings.view"] == "radiological"
    report = json.loads((project.folder / "data/oasis/prepare.json").read_text())
    assert run.data.tags["input_hash"] == report["input_hash"]
    source = run.inputs.dataset_inputs[0].dataset
    assert (source.name, source.digest) == ("oasis-source", report["input_hash"][:36])
    files = list_files(project.client, run.info.run_id)
    wanted = ("mosaic.png", "report.html", "viewer.html", "qc_table.csv", "manifest.csv")
    assert {f"qc/{name}" for name in wanted} <= {f.path for f in files}
    assert max(f.file_size for f in files if f.path != "qc/report.html") < 1_000_000
    assert not unknown("artifact", [f.path for f in files])
    assert not unknown("metric", run.data.metrics)
    with np.load(project.folder / "data/oasis/OASIS.npz") as archive:
        assert archive["x_train"].shape == (48, 208, 176, 1)


def test_a_model_of_brains_is_registered_under_its_own_name_and_draws_in_place(project):
    done = project.call("main", "comparison=tiny.yaml", "register=geovae-oasis")
    assert done.returncode == 0, done.stderr
    assert "Registered as geovae-oasis version 1" in done.stdout
    done = project.call("brains", "n=3", "output=drawn")
    assert done.returncode == 0, done.stderr
    drawn = sorted((project.folder / "drawn").rglob("sub-drawn*_desc-generated_T1w.nii.gz"))
    assert [nib.load(path).shape for path in drawn] == [(176, 208, 1)] * 3
    run = next(r for r in project.runs() if r.data.tags["mlflow.project.entryPoint"] == "brains")
    files = list_files(project.client, run.info.run_id)
    assert {"brains/geodesic.gif", "brains/real_versus_generated.png"} <= {f.path for f in files}
    assert not unknown("artifact", [f.path for f in files if not f.path.startswith("images/")])
    assert not unknown("tag", [key for key in run.data.tags if not key.startswith("mlflow.")])


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
def test_a_browser_sees_the_quality_control_and_the_drawn_brains(project):
    """Every view waits for its own content; the pictures are kept for people."""
    pytest.importorskip("playwright")
    folder = Path(os.environ.get("GEOVAE_SCREENSHOTS", ROOT / "screenshots"))
    experiment = project.client.get_experiment_by_name("t").experiment_id
    with server("--backend-store-uri", project.uri) as address, visitor(address, folder, experiment) as seen:
        tour_brains(project.client, seen, experiment)
        assert seen.errors == []
    taken = {path.stem for path in folder.glob("*.png")}
    assert {"qc_mosaic", "qc_report", "qc_viewer", "brains_real_versus_generated", "brains_geodesic"} <= taken


def test_bad_volumes_fail_with_a_report_of_all(project, end):
    images = sorted((project.folder / "source").rglob("*_MR1_*.img"))[:2]
    kept = [image.read_bytes() for image in images]
    for image in images:
        image.write_bytes(image.read_bytes()[:-5])
    flags = ["--dataset=oasis", f"--source={project.folder / 'source'}", "--spacing=8", "--shape=[176,208,22]"]
    try:
        code, said = end(prepare, *flags, "--root=again")
    finally:
        for image, content in zip(images, kept, strict=True):
            image.write_bytes(content)
    assert code == 1  # the run holds the report
    assert "error: 2 problems and 1 remark in the input" in said.err  # the remark is the repeat scan left out
    assert said.err.count("it is truncated") == 2
    assert not Path("again/oasis/OASIS.npz").exists()


def test_inspection_needs_no_more_than_a_folder(project, end):
    code, said = end(inspect, "--source", str(project.folder / "source"))
    assert code == 0, said.err
    assert "subjects: 24" in said.out
    assert "[OASIS-1: MR1 416, MR2 20]" in said.out
