"""Statistics, finance and physics."""

from __future__ import annotations

from typing import Any

import numpy as np

from survey.case import Case, integers, normal, of_product, together, uniform

FAMILY = "science"
MANY = 10**6


def _distribution(xp: Any, x: Any) -> Any:
    """The normal distribution function."""
    return 0.5 + 0.5 * xp.erf(x * 0.7071067811865476)


def _option(xp: Any, spot: Any, strike: Any, years: Any) -> Any:
    """The price of a call, by Black and Scholes, at a rate of 2 % and a volatility of 30 %."""
    spread = 0.3 * xp.sqrt(years)
    d = (xp.log(spot / strike) + (0.02 + 0.045) * years) / spread
    return spot * _distribution(xp, d) - strike * xp.exp(-0.02 * years) * _distribution(xp, d - spread)


def _options(count: int, dtype: str = "float32") -> Any:
    """Prices of shares, strikes and years."""
    price = uniform((count,), (count,), low=80, high=120, dtype=dtype)
    return together(price, uniform((count,), low=0.2, high=2, dtype=dtype))


def _process_likelihood(xp: Any, x: Any, y: Any, unit: Any, scales: Any) -> Any:
    """Minus the logarithm of the likelihood of a Gaussian process, up to a constant."""
    squares = xp.sum(xp.square(x), axis=1)
    distances = squares[:, None] + squares[None, :] - 2.0 * (x @ x.T)
    kernel = xp.exp(scales[0]) * xp.exp(-distances * xp.exp(scales[1])) + xp.exp(scales[2]) * unit
    factor = xp.cholesky(kernel)
    whitened = xp.solve_lower(factor, y)
    return 0.5 * xp.sum(xp.square(whitened)) + xp.sum(xp.log(xp.diag(factor)))


def _process(rng: np.random.Generator) -> list[Any]:
    """Inputs and outputs of a Gaussian process, the unit matrix, and logarithms of scales."""
    return [rng.normal(size=(250, 4)), rng.normal(size=(250, 1)), np.eye(250), np.array([0.1, -1.0, -2.0])]


def _labelled(rows: int, columns: int, dtype: str) -> Any:
    """A matrix, zeros and ones, and coefficients."""
    labels = integers((rows,), below=2, dtype=dtype)
    return together(normal((rows, columns), dtype=dtype), labels, normal((columns,), dtype=dtype, scale=0.1))


def _logistic(xp: Any, x: Any, labels: Any, w: Any) -> Any:
    """The cost of a logistic regression."""
    score = x @ w
    return xp.mean(xp.softplus(score) - labels * score)


def _nearest(xp: Any, x: Any, centers: Any) -> Any:
    """The center that is nearest to each point, by products."""
    distances = xp.sum(xp.square(centers), axis=1)[None, :] - 2.0 * (x @ centers.T)
    return xp.argmin(distances, axis=1)


def _nearest_broadcast(xp: Any, x: Any, centers: Any) -> Any:
    """The same, by differences."""
    return xp.argmin(xp.sum(xp.square(x[:, None, :] - centers[None, :, :]), axis=2), axis=1)


def _mixture(xp: Any, x: Any, means: Any, deviations: Any, shares: Any) -> Any:
    """Minus the mean logarithm of the density of a mixture of normal distributions with diagonal covariances."""
    scaled = (x[:, None, :] - means[None, :, :]) * xp.exp(-deviations)[None, :, :]
    logs = shares[None, :] - xp.sum(deviations, axis=1)[None, :] - 0.5 * xp.sum(xp.square(scaled), axis=2)
    return -xp.mean(xp.logsumexp(logs)[:, 0])


def _blur(xp: Any, x: Any) -> Any:
    """The mean of nine neighbors."""
    size = 1022
    return sum(x[i : i + size, j : j + size] for i in range(3) for j in range(3)) / 9.0


def _heat(xp: Any, x: Any) -> Any:
    """Ten steps of diffusion, with zeros around."""
    for _ in range(10):
        padded = xp.pad(x, 1)
        around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
        x = x + 0.1 * (around - 4.0 * x)
    return x


def _life(xp: Any, x: Any) -> Any:
    """A step of the game of life on a torus."""
    rows = x + xp.roll(x, 1, 0) + xp.roll(x, -1, 0)
    total = rows + xp.roll(rows, 1, 1) + xp.roll(rows, -1, 1)
    return xp.where(xp.equal(total, 3.0), 1.0, xp.where(xp.equal(total, 4.0), x, 0.0))


def _leapfrog(xp: Any, x: Any, labels: Any, position: Any, momentum: Any, times: Any) -> Any:
    """The end of a path through the posterior of a logistic regression."""

    def step(time: Any, q: Any, p: Any) -> tuple[Any, Any]:
        q = q + time * p
        return q, p - time * ((xp.sigmoid(x @ q) - labels) @ x * 0.01 + q)

    return xp.scan(step, [times], [position, momentum])[0][-1]


def _forces(xp: Any, places: Any, masses: Any) -> Any:
    """The accelerations of bodies."""
    away = places[None, :, :] - places[:, None, :]
    distance = xp.sum(xp.square(away), axis=2) + 0.01
    return xp.sum(away * (masses[None, :] / (distance * xp.sqrt(distance)))[:, :, None], axis=1)


def _potential(xp: Any, places: Any, masses: Any) -> Any:
    """The energy of bodies."""
    distance = xp.sum(xp.square(places[None, :, :] - places[:, None, :]), axis=2) + 0.01
    return -0.5 * xp.sum(masses[None, :] * masses[:, None] / xp.sqrt(distance))


def _kalman(xp: Any, seen: Any, move: Any, look: Any, noise: Any, mean: Any, covariance: Any) -> Any:
    """The filtered means of a process of four numbers of which one is seen."""

    def step(y: Any, m: Any, c: Any) -> tuple[Any, Any]:
        m, c = move @ m, move @ c @ move.T + noise
        along = c @ look
        gain = along / (xp.sum(look * along) + 0.5)
        return m + gain * (y - xp.sum(look * m)), c - gain[:, None] * along[None, :]

    return xp.scan(step, [seen], [mean, covariance])[0]


def _kalman_data(rng: np.random.Generator) -> list[Any]:
    """Observations, matrices, and the first state of the filter."""
    move = np.eye(4) * 0.95 + np.eye(4, k=1) * 0.05
    return [rng.normal(size=300), move, np.array([1.0, 0, 0, 0.1]), np.eye(4) * 0.1, np.zeros(4), np.eye(4)]


def _hierarchical(xp: Any, x: Any, y: Any, group: Any, slopes: Any, levels: Any) -> Any:
    """Minus the logarithm of the posterior of a regression whose level depends on the group."""
    error = y - x @ slopes - xp.take(levels, group, axis=0)
    return 0.5 * xp.mean(xp.square(error)) + 0.01 * xp.sum(xp.square(levels))


def _student(xp: Any, x: Any, center: Any, scale: Any) -> Any:
    """Minus the logarithm of the likelihood of Student's distribution with 5 degrees of freedom."""
    return xp.mean(3.0 * xp.log1p(xp.square((x - center) / scale) / 5.0)) + xp.log(scale)


def _predators(xp: Any, prey: Any, hunters: Any, times: Any) -> Any:
    """Many populations of two kinds, by steps of the second order."""

    def change(a: Any, b: Any) -> tuple[Any, Any]:
        return a * (1.1 - 0.4 * b), b * (0.1 * a - 0.4)

    def step(time: Any, a: Any, b: Any) -> tuple[Any, Any]:
        da, db = change(a, b)
        da, db = change(a + 0.5 * time * da, b + 0.5 * time * db)
        return a + time * da, b + time * db

    return xp.scan(step, [times], [prey, hunters])[0][-1]


def _rosenbrock(xp: Any, x: Any) -> Any:
    """A valley that is hard to follow."""
    return xp.mean(100.0 * xp.square(x[1:] - xp.square(x[:-1])) + xp.square(1.0 - x[:-1]))


def _distance(xp: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """The distance of places on a sphere."""
    half = xp.square(xp.sin((c - a) * 0.5)) + xp.cos(a) * xp.cos(c) * xp.square(xp.sin((d - b) * 0.5))
    return 2.0 * xp.arcsin(xp.sqrt(half))


def _box_muller(xp: Any, u: Any, v: Any) -> Any:
    """Normal numbers from evenly distributed ones."""
    radius = xp.sqrt(-2.0 * xp.log(u))
    return radius * xp.cos(v * 6.2831853), radius * xp.sin(v * 6.2831853)


def _kepler(xp: Any, anomaly: Any, eccentricity: Any) -> Any:
    """The places of planets on their orbits, by five steps of Newton's method."""
    x = anomaly
    for _ in range(5):
        x = x - (x - eccentricity * xp.sin(x) - anomaly) / (1.0 - eccentricity * xp.cos(x))
    return x


def _survival(xp: Any, x: Any, w: Any) -> Any:
    """Minus Cox' partial likelihood of rows by their times."""
    score = x @ w
    return xp.mean(xp.log(xp.cumsum(xp.exp(score), axis=0)) - score)


def _covariance(xp: Any, x: Any) -> Any:
    """The covariances of columns."""
    centered = x - xp.mean(x, axis=0, keepdims=True)
    return centered.T @ centered / 9999.0


def _cosines(xp: Any, x: Any, y: Any) -> Any:
    """The cosines between rows."""
    x = x / xp.sqrt(xp.sum(xp.square(x), axis=1, keepdims=True))
    y = y / xp.sqrt(xp.sum(xp.square(y), axis=1, keepdims=True))
    return x @ y.T


def _moving_means(xp: Any, x: Any) -> Any:
    """The means of eight neighbors."""
    return sum(x[k : MANY - 7 + k] for k in range(8)) * 0.125


def _adam(xp: Any, p: Any, g: Any, m: Any, v: Any) -> Any:
    """A step of Adam: the parameters and both moments."""
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    return p - 0.001 * m / (xp.sqrt(v) + 1e-8), m, v


PATH = together(_labelled(5000, 20, "float32"), normal((20,)), lambda rng: [np.full(20, 0.01, "float32")])
BODIES = together(normal((500, 3)), uniform((500,), low=0.5, high=1.0))
MIXTURE = together(normal((5000, 8)), normal((20, 8)), normal((20, 8), (20,), scale=0.1))
GROUPS = together(normal((20_000, 5), (20_000,)), integers((20_000,), below=100), normal((5,), (100,)))

CASES = [
    Case("options 1e6", FAMILY, _options(MANY), _option, flops=2e7),
    Case("options 1e6 float64", FAMILY, _options(MANY, "float64"), _option, flops=2e7),
    Case(
        "options 1e6, gradients", FAMILY, _options(MANY), lambda xp, *given: xp.mean(_option(xp, *given)), flops=4e7,
        gradients_of=(0, 1, 2), asks=("torch compiled",),
    ),
    Case(
        "Gaussian process of 250, gradient", FAMILY, _process, _process_likelihood, 250.0**3, gradients_of=(3,),
    ),
    Case(
        "logistic regression 50000x50, gradient", FAMILY, _labelled(50_000, 50, "float32"), _logistic, 1e7, gradients_of=(2,),
        asks=("pytensor",),
    ),
    Case(
        "logistic regression 50000x50 float64, gradient", FAMILY, _labelled(50_000, 50, "float64"), _logistic, 1e7,
        gradients_of=(2,),
    ),
    Case("nearest of 100 centers, 5000x64", FAMILY, normal((5000, 64), (100, 64)), _nearest, of_product(5000, 64, 100)),
    Case("nearest of 20 centers, 20000x3", FAMILY, normal((20_000, 3), (20, 3)), _nearest_broadcast, 9.0 * 4e5),
    Case("mixture of 20, 5000x8, gradients", FAMILY, MIXTURE, _mixture, 3 * 4 * 8e5, gradients_of=(1, 2, 3)),
    Case("blur 1024x1024", FAMILY, normal((1024, 1024)), _blur, 1e7, asks=("torch compiled",)),
    Case(
        "blur 1024x1024, gradient", FAMILY, normal((1024, 1024)), lambda xp, x: xp.mean(xp.square(_blur(xp, x))), 2e7,
        gradients_of=(0,), asks=("pytensor",),
    ),
    Case("ten steps of heat 512x512", FAMILY, normal((512, 512)), _heat, 60 * 2.6e5),
    Case(
        "ten steps of heat 512x512, gradient", FAMILY, normal((512, 512)), lambda xp, x: xp.mean(xp.square(_heat(xp, x))),
        120 * 2.6e5, gradients_of=(0,),
    ),
    Case("game of life 1000x1000", FAMILY, integers((1000, 1000), below=2, dtype="float32"), _life, 1e7),
    Case("leapfrog through a posterior, 20 steps of 5000x20", FAMILY, PATH, _leapfrog, 20 * 4e5),
    Case("forces between 500 bodies", FAMILY, BODIES, _forces, 20 * 2.5e5),
    Case("energy of 500 bodies, gradient", FAMILY, BODIES, _potential, 30 * 2.5e5, gradients_of=(0,)),
    Case("Kalman filter, 300 steps of 4", FAMILY, _kalman_data, _kalman, 300 * 400.0),
    Case("hierarchical regression 20000x5, gradients", FAMILY, GROUPS, _hierarchical, 6e5, gradients_of=(3, 4)),
    Case(
        "Student's likelihood of 1e6, gradients", FAMILY,
        together(normal((MANY,)), uniform((), (), low=0.5, high=1.5)), _student, 1e7, gradients_of=(1, 2),
    ),
    Case(
        "predators and prey, 100 steps of 1000", FAMILY,
        together(uniform((1000,), (1000,), low=1, high=5), lambda rng: [np.full(100, 0.01, "float32")]), _predators, 2e6,
    ),
    Case("Rosenbrock's valley in 1e6 dimensions, gradient", FAMILY, uniform((MANY,)), _rosenbrock, 2e7, gradients_of=(0,)),
    Case(
        "distances on a sphere 1e6", FAMILY, uniform((MANY,), (MANY,), (MANY,), (MANY,), low=-1.5, high=1.5), _distance, 1.5e7
    ),
    Case("normal from uniform numbers 1e6", FAMILY, uniform((MANY,), (MANY,), low=0.01), _box_muller, 1e7),
    Case("Kepler's equation for 1e6 planets", FAMILY, uniform((MANY,), (MANY,), low=0.05, high=0.5), _kepler, 4e7),
    Case(
        "Cox regression 20000x10, gradient", FAMILY, normal((20_000, 10), (10,), scale=0.3), _survival, 1e6, gradients_of=(1,)
    ),
    Case("covariance of 10000x50", FAMILY, normal((10_000, 50)), _covariance, of_product(50, 10_000, 50)),
    Case("cosines of 1000x128", FAMILY, normal((1000, 128), (1000, 128)), _cosines, of_product(1000, 128, 1000)),
    Case(
        "Adam over 1e6 parameters", FAMILY, together(normal((MANY,), (MANY,), (MANY,)), uniform((MANY,))),
        _adam, flops=1.5e7,
    ),
    Case("moving means of 1e6", FAMILY, normal((MANY,)), _moving_means, 8e6),
]  # fmt: skip
