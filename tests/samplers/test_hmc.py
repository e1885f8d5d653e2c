"""HMC is right: reversibility, volume, energy, exact-start invariance; and the oracles reject broken kernels.

The invariance test is Gandy & Scott (2020): chains that start from exact draws must still be exact draws afterwards.
"""

import itertools
import math

import pytest
import torch
from scipy import stats

from geovae.geometry import LatentMetric
from geovae.samplers.chains import Kernel, run_chains
from geovae.samplers.hmc import (
    Info,
    Parameters,
    State,
    draw_noise,
    init_state,
    leapfrog,
    select_accepted,
    transition,
    warm_up,
)

N = 20_000


def gaussian(scales):
    precision = 1 / torch.as_tensor(scales, dtype=torch.float64) ** 2

    def log_density(z):
        return -0.5 * (z * z * precision).sum(1), -z * precision

    return log_density


def gumbel(z):
    """Independent standard Gumbel coordinates: skewed, with exact draws -log(-log u)."""
    return (-z - torch.exp(-z)).sum(1), -1 + torch.exp(-z)


def small_metric(decay=0.15):
    c = torch.tensor([[-1.0, 0.0], [0.8, 0.5], [0.5, -0.9]], dtype=torch.float64)
    values = torch.tensor([[3.0, 1.0], [1.0, 5.0], [2.0, 2.0]], dtype=torch.float64)
    return LatentMetric(c, values, temperature=0.9, floor=0.5, decay=decay)


def riemannian_draws(n, generator, side=8.0, size=1600):
    """Exact draws from sqrt(det G) on a grid: a cell by its mass, and a uniform point of the cell."""
    axis = (torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 * side - side
    cells = torch.cartesian_prod(axis, axis)
    mass = small_metric().log_volume(cells).exp()
    index = torch.searchsorted(mass.cumsum(0) / mass.sum(), torch.rand(n, generator=generator).double())
    jitter = (torch.rand(n, 2, generator=generator).double() - 0.5) * 2 * side / size
    return cells[index] + jitter


def targets(generator):
    normal = torch.randn(N, 2, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 2.0])
    uniform = torch.rand(N, 2, generator=generator, dtype=torch.float64)
    return {
        "gaussian": (gaussian([1.0, 2.0]), normal, Parameters(1.4, 3, torch.tensor([1.0, 2.0]).double())),
        "gumbel": (gumbel, -torch.log(-torch.log(uniform)), Parameters(0.85, 3, torch.ones(2).double())),
        "riemannian": (
            small_metric().log_volume_and_grad,
            riemannian_draws(N, generator),
            Parameters(0.7, 3, torch.ones(2).double()),
        ),
    }


def p_value(target, start, step, *, n_transitions=8):
    """Return the smallest Kolmogorov-Smirnov p (Bonferroni) over coordinates, a diagonal and the log-density."""
    generator = torch.Generator().manual_seed(987)  # not the start's seed: its stream would be the first momentum
    half = N // 2
    state, acceptance = init_state(start[:half], target), 0.0
    for _ in range(n_transitions):
        state, info = step(state, *draw_noise(state.position, generator))
        acceptance += float(info.acceptance.mean()) / n_transitions
    fresh = start[half:]
    views = [lambda z: z[:, 0], lambda z: z[:, 1], lambda z: z.sum(1), lambda z: target(z)[0]]
    found = [stats.ks_2samp(v(state.position).numpy(), v(fresh).numpy()).pvalue for v in views]
    return min(found) * len(views), acceptance


@pytest.mark.parametrize("name", ["gaussian", "gumbel", "riemannian"])
def test_exact_draws_stay_exact(name, generator):
    target, start, parameters = targets(generator)[name]
    p, acceptance = p_value(target, start, lambda s, e, u: transition(s, e, u, target, parameters))
    assert 0.6 < acceptance < 0.93, "a test that never rejects would see little"
    assert p > 0.01


def half_momentum(state, noise, uniform, target, parameters):
    """The published kernel: momenta of standard deviation 0.5, kinetic energy of unit mass."""
    return transition(state, 0.5 * noise, uniform, target, parameters)


def euler(state, noise, uniform, target, parameters):
    """Steps without halves: position and momentum both move by whole steps."""
    step_size, n_leapfrog, inverse_mass = parameters
    momentum = noise * inverse_mass.rsqrt()
    proposal, p = state, momentum
    for _ in range(n_leapfrog):
        moved = proposal.position + step_size * p * inverse_mass
        p = p + step_size * proposal.gradient
        proposal = init_state(moved, target)
    return decide(state, momentum, proposal, p, uniform, inverse_mass)


def missing_half_step(state, noise, uniform, target, parameters):
    """Leapfrog whose momentum is not brought back to the time of the position at either end."""
    momentum = noise * parameters.inverse_mass.rsqrt()
    proposal, p = late_leapfrog(state, momentum, target, parameters)
    return decide(state, momentum, proposal, p, uniform, parameters.inverse_mass)


def late_leapfrog(state, momentum, target, parameters):
    position, p, inverse_mass = state.position, momentum, parameters.inverse_mass
    proposal = state
    for _ in range(parameters.n_leapfrog):
        p = p + parameters.step_size * proposal.gradient
        position = position + parameters.step_size * p * inverse_mass
        proposal = init_state(position, target)
    return proposal, p


def never_rejecting(state, noise, uniform, target, parameters):
    return transition(state, noise, torch.zeros_like(uniform), target, parameters)


def decide(state, momentum, proposal, p, uniform, inverse_mass):
    def energy(s, m):
        return 0.5 * (m * m * inverse_mass).sum(1) - s.log_density

    error = energy(proposal, p) - energy(state, momentum)
    accepted = uniform.log() < -error
    return select_accepted(accepted, proposal, state), Info(
        (-error).exp().clamp(max=1), accepted, accepted, error, error
    )


@pytest.mark.parametrize("mutant", [half_momentum, euler, missing_half_step, never_rejecting])
def test_exact_start_invariance_rejects_broken_kernels(mutant, generator):
    target, start, parameters = targets(generator)["gaussian"]
    parameters = parameters._replace(step_size=1.1)
    p, _ = p_value(target, start, lambda s, e, u: mutant(s, e, u, target, parameters))
    right, _ = p_value(target, start, lambda s, e, u: transition(s, e, u, target, parameters))
    assert p < 1e-6
    assert right > 0.01


def test_exact_start_invariance_rejects_a_floor_added_for_every_centroid(generator):
    """The published gradient adds lambda k times; here the log-density does too, so that only the target is off."""
    metric = small_metric()
    wrong = LatentMetric(
        metric.centroids, metric.values, temperature=0.9, floor=metric.floor * metric.k, decay=metric.decay
    )
    _, start, parameters = targets(generator)["riemannian"]
    target = wrong.log_volume_and_grad
    p, _ = p_value(target, start, lambda s, e, u: transition(s, e, u, target, parameters), n_transitions=12)
    assert p < 1e-6


def test_the_gradient_oracle_rejects_the_published_gradient():
    """Without the factor 1/2, and with lambda added once per centroid, autograd disagrees."""
    metric, z = small_metric(decay=0.0), riemannian_draws(50, torch.Generator().manual_seed(1)).requires_grad_()
    (truth,) = torch.autograd.grad(metric.log_volume(z).sum(), z)
    with torch.no_grad():
        ours = metric.log_volume_and_grad(z)[1]
        many = LatentMetric(
            metric.centroids, metric.values, temperature=metric.temperature, floor=metric.floor * metric.k
        ).log_volume_and_grad(z)[1]
    assert (ours - truth).abs().max() < 1e-10
    assert (2 * ours - truth).abs().max() > 0.1
    assert (many - truth).abs().max() > 0.1


def reversed_error(integrate, target, state, momentum):
    there, p = integrate(state, momentum)
    back, q = integrate(there, -p)
    return float((back.position - state.position).abs().max() + (q + momentum).abs().max())


def test_leapfrog_is_reversible_and_one_without_half_steps_is_not(generator):
    target = small_metric().log_volume_and_grad
    state = init_state(riemannian_draws(100, generator), target)
    momentum = torch.randn(100, 2, generator=generator, dtype=torch.float64)
    parameters = Parameters(0.3, 20, torch.tensor([0.7, 1.4]).double())
    good = reversed_error(lambda s, p: leapfrog(s, p, target, parameters), target, state, momentum)
    bad = reversed_error(lambda s, p: late_leapfrog(s, p, target, parameters), target, state, momentum)
    assert good < 1e-12
    assert bad > 1e-2


def test_leapfrog_keeps_volume(generator):
    metric, parameters = small_metric(), Parameters(0.4, 5, torch.tensor([0.7, 1.4]).double())

    def log_density(z):
        volume = metric.log_volume(z)
        return volume, torch.autograd.grad(volume.sum(), z, create_graph=True)[0]

    def flow(x):
        z, p = x[None, :2], x[None, 2:]
        state, momentum = leapfrog(init_state(z, log_density), p, log_density, parameters)
        return torch.cat([state.position[0], momentum[0]])

    for x in torch.randn(4, 4, generator=generator, dtype=torch.float64):
        jacobian = torch.autograd.functional.jacobian(flow, x.requires_grad_())
        assert float(torch.linalg.det(jacobian)) == pytest.approx(1, abs=1e-10)


def test_energy_error_falls_with_the_square_of_the_step(generator):
    target = small_metric().log_volume_and_grad
    state = init_state(riemannian_draws(500, generator), target)
    noise, uniform = draw_noise(state.position, generator)
    errors = []
    for halvings in range(4):
        parameters = Parameters(0.4 / 2**halvings, 4 * 2**halvings, torch.ones(2).double())
        errors.append(float(transition(state, noise, uniform, target, parameters)[1].energy_error.abs().mean()))
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert slopes[-1] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("name", ["gaussian", "gumbel", "riemannian"])
def test_the_mean_of_exp_minus_the_energy_error_is_one(name, generator):
    """E[exp(-dH)] = 1 from exact starts, since the map keeps volume; demanded within 4 standard errors."""
    target, start, parameters = targets(generator)[name]
    gentle = parameters._replace(step_size=0.5 * parameters.step_size)
    _, info = transition(init_state(start, target), *draw_noise(start, generator), target, gentle)
    ratios = (-info.energy_error).exp()
    standard_error = float(ratios.std()) / math.sqrt(N)
    assert standard_error < 0.02
    assert float(ratios.mean()) == pytest.approx(1, abs=4 * standard_error)


def test_the_published_momentum_settles_at_the_fourth_power(generator):
    """Momentum of standard deviation 0.5 at unit mass turns the variance 1 of a Gaussian into about 1 / 4."""
    target, parameters = gaussian([1.0]), Parameters(0.1, 10, torch.ones(1).double())
    state = init_state(torch.randn(4000, 1, generator=generator, dtype=torch.float64), target)
    for _ in range(60):
        state, _ = half_momentum(state, *draw_noise(state.position, generator), target, parameters)
    assert float(state.position.var()) == pytest.approx(0.25, abs=0.03)


def test_divergences_are_counted_and_rejected():
    def steep(z):
        return -(z**4).sum(1) * 1e4, -4e4 * z**3

    state = init_state(torch.ones(10, 2).double(), steep)
    noise, uniform = draw_noise(state.position, torch.Generator().manual_seed(0))
    after, info = transition(state, noise, uniform, steep, Parameters(5.0, 10, torch.ones(2).double()))
    assert info.diverged.all()
    assert not info.accepted.any()
    assert torch.equal(after.position, state.position)
    assert (info.acceptance == 0).all()
    assert torch.isfinite(info.energy).all()


@pytest.mark.parametrize("name", ["gumbel", "riemannian"])
@pytest.mark.parametrize("goal", [0.65, 0.8, 0.9])
def test_dual_averaging_reaches_its_target(name, goal, generator):
    target, start, (_, n_leapfrog, inverse_mass) = targets(generator)[name]
    parameters, state = warm_up(
        start[:300], target, n_leapfrog=n_leapfrog, inverse_mass=inverse_mass, generator=generator, target=goal
    )
    trace = run_chains(state.position, Kernel(target, parameters), 20, generator)
    assert float(trace.acceptance.mean()) == pytest.approx(goal, abs=0.1)


def test_a_flat_density_gives_the_largest_step():
    def flat(z):
        return torch.zeros_like(z[:, 0]), torch.zeros_like(z)

    start, g = torch.zeros(10, 2), torch.Generator().manual_seed(0)
    found = warm_up(start, flat, n_leapfrog=2, inverse_mass=torch.ones(2), generator=g, largest_step=3.0)[0]
    assert found.step_size <= 3.0 * (1 + 1e-9)


def test_one_gradient_a_leapfrog_step(generator):
    calls = []

    def counted(z):
        calls.append(len(z))
        return gaussian([1.0, 1.0])(z)

    run_chains(torch.zeros(3, 2).double(), Kernel(counted, Parameters(0.1, 7, torch.ones(2).double())), 5, generator)
    assert len(calls) == 1 + 5 * 7


def test_a_state_is_a_plain_tuple_and_the_same_seed_the_same_chain():
    kernel = Kernel(gaussian([1.0, 1.0]), Parameters(0.5, 3, torch.ones(2).double()))
    traces = [run_chains(torch.zeros(4, 2).double(), kernel, 5, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(traces[0].position, traces[1].position)
    assert State._fields == ("position", "log_density", "gradient")
