"""The Riemannian geometry of a latent space: metric, centroids, temperature, curves, distances, pull-back."""

from geovae.geometry.centroids import CENTROIDS, check_codes, choose_centroids
from geovae.geometry.curves import curve_energies, curve_lengths, exponential_map, geodesics, interpolate, straight
from geovae.geometry.grids import Grid, distance_grid, volume_grid
from geovae.geometry.metric import LatentMetric
from geovae.geometry.paths import distances_from, geodesic_medoids, neighbour_graph, path_to, refine, volume_paths
from geovae.geometry.pullback import check_pullback, pullback_metric
from geovae.geometry.temperature import (
    above_floor,
    coverage_temperature,
    fraction_above_floor,
    likelihood_temperature,
    published_temperature,
)

__all__ = [
    "CENTROIDS",
    "Grid",
    "LatentMetric",
    "above_floor",
    "check_codes",
    "check_pullback",
    "choose_centroids",
    "coverage_temperature",
    "curve_energies",
    "curve_lengths",
    "distance_grid",
    "distances_from",
    "exponential_map",
    "fraction_above_floor",
    "geodesic_medoids",
    "geodesics",
    "interpolate",
    "likelihood_temperature",
    "neighbour_graph",
    "path_to",
    "published_temperature",
    "pullback_metric",
    "refine",
    "straight",
    "volume_grid",
    "volume_paths",
]
