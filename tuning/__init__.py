"""Runs on Ray; the only room that imports it. One engine runs comparisons, studies and sweeps.

Why an engine around `tune.Tuner`: `Tuner.restore` unpickles files from the storage, so a resumed sweep reads its
state from MLflow instead; there the driver creates every run before a worker starts it. Ray's `Repeater` averages a
fixed number of seeds; here the search sees means, and successive halving gives more seeds to the best configurations.
Population based training exchanges weights and options between trials, but each trial keeps its own MLflow run.
"""
