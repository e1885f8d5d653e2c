"""Ray Tune sweeps over the runs of `experiments`: the only room that imports ray."""
