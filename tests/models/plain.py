"""The networks and the metric of the models written again in NumPy, float64, without torch: what losses are held to."""

import numpy as np


def array(tensor):
    return tensor.detach().double().numpy()


def layers(sequential):
    """Return (W, b) of the linear layers of an mlp."""
    return [(array(m.weight), array(m.bias)) for m in sequential if hasattr(m, "weight")]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def encode(model, x):
    """Return one array (b, d) for each head."""
    h = x.reshape(len(x), -1)
    for w, b in layers(model.encoder.body):
        h = np.maximum(h @ w.T + b, 0)
    return [h @ array(head.weight).T + array(head.bias) for head in model.encoder.heads]


def logits(model, z):
    """Return the decoder's logits (b, pixels) and the activations of its layers."""
    activations = [z]
    stack = layers(model.decoder.body)
    for w, b in stack[:-1]:
        activations.append(np.maximum(activations[-1] @ w.T + b, 0))
    return activations[-1] @ stack[-1][0].T + stack[-1][1], activations


def decode(model, z):
    return sigmoid(logits(model, z)[0])


def pull_back(model, z, upstream):
    """Return upstream^T d logits / d z (b, d)."""
    _, activations = logits(model, z)
    g = upstream
    for (w, _), below in zip(layers(model.decoder.body)[::-1], activations[::-1], strict=True):
        g = g @ w
        g = g * (below > 0) if below is not z else g
    return g


def errors(model, x, z):
    flat, ell = x.reshape(len(x), -1), logits(model, z)[0]
    if getattr(model, "likelihood", "gaussian") == "bernoulli":
        return -(flat * np.log(sigmoid(ell)) + (1 - flat) * np.log(1 - sigmoid(ell))).sum(1)
    return ((flat - sigmoid(ell)) ** 2).sum(1)


def force(model, x, z):
    """Return the gradient of errors / beta + |z|^2 / 2, by hand."""
    flat, p = x.reshape(len(x), -1), decode(model, z)
    upstream = p - flat if model.likelihood == "bernoulli" else 2 * (p - flat) * p * (1 - p)
    return pull_back(model, z, upstream) / model.beta + z


def cometric(z, centroids, values, temperature, floor):
    """Return F(z) (d, d) of one point."""
    total = floor * np.eye(len(z))
    for c, v in zip(centroids, values, strict=True):
        total = total + v * np.exp(-((z - c) ** 2).sum() / temperature**2)
    return total


def kinetic(z, rho, metric):
    """Return rho^T F rho / 2 - log det F / 2 of one point."""
    f = metric(z)
    return 0.5 * rho @ f @ rho - 0.5 * np.linalg.slogdet(f)[1]


def slope(z, rho, metric, h=1e-5):
    """Return the gradient of the kinetic energy in z by central differences."""
    steps = h * np.eye(len(z))
    return np.array([(kinetic(z + s, rho, metric) - kinetic(z - s, rho, metric)) / (2 * h) for s in steps])
