"""The Riemannian geometry of a latent space: metric, centroids, temperature, geodesics, pull-back."""

from geovae.geometry.metric import LatentMetric

__all__ = ["LatentMetric"]
