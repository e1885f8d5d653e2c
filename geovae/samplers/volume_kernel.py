"""The Triton kernel of `volume.py`; `transition_kernel` is None where Triton is not installed (CUDA's torch brings it).

One program advances ROWS chains by a whole transition. Names as in geometry/metric.py: slopes (k, 2 d) of log w over 2,
flat values V (k, d), constants (k,) of log2 w. Dimensions from D to WIDTH are padding: their V is 0.
"""

# mypy: ignore-errors

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

transition_kernel = None

if triton is not None:
    LOG2E_TWICE = tl.constexpr(2 * 1.4426950408889634)

    @triton.jit
    def _weights(
        phi, x, rows_of, kept, slopes, constant, cut, least, D: tl.constexpr, dims, in_d, PRECISION: tl.constexpr
    ):
        """Return w (ROWS, COLUMNS) and the slopes of its block, (COLUMNS, WIDTH) each."""
        inside = kept[:, None] & in_d[None, :]
        place = slopes + rows_of[:, None] * (2 * D) + dims[None, :]
        square = tl.load(place, mask=inside, other=0.0)
        linear = tl.load(place + D, mask=inside, other=0.0)
        exponent = tl.dot(phi, tl.trans(square), input_precision=PRECISION)
        exponent += tl.dot(x, tl.trans(linear), input_precision=PRECISION)
        exponent = exponent * LOG2E_TWICE + tl.load(constant + rows_of, mask=kept, other=0.0)[None, :]
        w = tl.exp2(tl.maximum(exponent, cut))
        return tl.where((w > least) & kept[None, :], w, 0.0), square, linear

    @triton.jit
    def _volume(
        z, flat, slopes, constant, origin, k, floor, box, cut, least, dims, in_d,
        D: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr, PRECISION: tl.constexpr,
    ):  # fmt: skip
        """Return log sqrt det G (ROWS,) and its gradient (ROWS, WIDTH) at z (ROWS, WIDTH)."""
        x = tl.minimum(tl.maximum(z - origin[None, :], -box), box)
        phi = x * x
        summed = tl.zeros((ROWS, WIDTH), tl.float32)
        for start in range(0, k, COLUMNS):
            rows_of = start + tl.arange(0, COLUMNS)
            kept = rows_of < k
            w, _square, _linear = _weights(
                phi, x, rows_of, kept, slopes, constant, cut, least, D, dims, in_d, PRECISION
            )
            values = tl.load(flat + rows_of[:, None] * D + dims[None, :], mask=kept[:, None] & in_d[None, :], other=0.0)
            summed += tl.dot(w, values, input_precision=PRECISION)
        field = summed + floor
        log_volume = 0.5 * tl.sum(tl.where(in_d[None, :], tl.log(field), 0.0), axis=1)
        inverse = 1.0 / field
        by_square = tl.zeros((ROWS, WIDTH), tl.float32)
        by_linear = tl.zeros((ROWS, WIDTH), tl.float32)
        for start in range(0, k, COLUMNS):
            rows_of = start + tl.arange(0, COLUMNS)
            kept = rows_of < k
            w, square, linear = _weights(phi, x, rows_of, kept, slopes, constant, cut, least, D, dims, in_d, PRECISION)
            values = tl.load(flat + rows_of[:, None] * D + dims[None, :], mask=kept[:, None] & in_d[None, :], other=0.0)
            traces = tl.dot(inverse, tl.trans(values), input_precision=PRECISION) * w
            by_square += tl.dot(traces, square, input_precision=PRECISION)
            by_linear += tl.dot(traces, linear, input_precision=PRECISION)
        return log_volume, by_linear + 2.0 * x * by_square

    @triton.jit(do_not_specialize=["n", "k", "n_leapfrog"])  # one compilation for all sizes
    def transition_kernel(
        position_in, log_p_in, gradient_in, noise, uniform,
        position_out, log_p_out, gradient_out, acceptance, accepted, diverged, energy, energy_error,
        flat, slopes, constant, inverse_mass, origin,
        n, k, step, n_leapfrog, power, floor, box, cut, least,
        DIVERGENCE: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr,
        ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
    ):  # fmt: skip
        """Write the next state and the record of one transition of each chain."""
        rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        dims = tl.arange(0, WIDTH)
        in_n, in_d = rows < n, dims < D
        inside = in_n[:, None] & in_d[None, :]
        places = rows[:, None] * D + dims[None, :]
        centre = tl.load(origin + dims, mask=in_d, other=0.0)
        mass = tl.load(inverse_mass + dims, mask=in_d, other=1.0)[None, :]
        start = tl.load(position_in + places, mask=inside, other=0.0)
        start_p = tl.load(log_p_in + rows, mask=in_n, other=0.0)
        start_g = tl.load(gradient_in + places, mask=inside, other=0.0)
        momentum = tl.load(noise + places, mask=inside, other=0.0) / tl.sqrt(mass)
        before = 0.5 * tl.sum(momentum * momentum * mass, axis=1) - start_p
        z, log_p, gradient = start, start_p, start_g
        momentum += 0.5 * step * gradient
        for i in range(n_leapfrog):
            z += step * momentum * mass
            log_p, gradient = _volume(
                z, flat, slopes, constant, centre, k, floor, box, cut, least, dims, in_d,
                D, ROWS, COLUMNS, WIDTH, PRECISION,
            )  # fmt: skip
            log_p *= power
            gradient *= power
            momentum += tl.where(i == n_leapfrog - 1, 0.5 * step, step) * gradient
        error = 0.5 * tl.sum(momentum * momentum * mass, axis=1) - log_p - before
        bad = (error > DIVERGENCE) | (error != error)  # NaN diverges too
        log_ratio = tl.where(bad, -float("inf"), tl.minimum(-error, 0.0))
        moves = tl.log(tl.load(uniform + rows, mask=in_n, other=0.5)) < log_ratio
        tl.store(position_out + places, tl.where(moves[:, None], z, start), mask=inside)
        tl.store(log_p_out + rows, tl.where(moves, log_p, start_p), mask=in_n)
        tl.store(gradient_out + places, tl.where(moves[:, None], gradient, start_g), mask=inside)
        tl.store(acceptance + rows, tl.exp(log_ratio), mask=in_n)
        tl.store(accepted + rows, moves, mask=in_n)
        tl.store(diverged + rows, bad, mask=in_n)
        tl.store(energy + rows, before + tl.where(moves, error, 0.0), mask=in_n)
        tl.store(energy_error + rows, error, mask=in_n)
