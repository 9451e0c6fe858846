"""``python -m linalgx``: a short tour of the package on this machine."""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import linalgx

BATCH, ORDER, REPEATS = 100_000, 4, 7
TIME_LIMIT = 60.0  # seconds that one side of the comparison may be silent before it counts as hanging


def main() -> None:
    """The tour."""
    try:
        from rich.console import Console
    except ImportError:
        sys.exit("the tour prints with rich: pip install 'linalgx[demo]'")
    jax.config.update("jax_enable_x64", True)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for part in (_show_machine, _show_classic_sampler, _show_monte_carlo, _show_degenerate_gradients):
        console.rule(str(part.__doc__), align="left", style="bold")
        part(console)
        console.print()


def _show_machine(console: Any) -> None:
    """1. This machine"""
    devices = ", ".join(f"{device.platform}:{device.id}" for device in jax.devices())
    console.print(f"linalgx {linalgx.__version__}, jax {jax.__version__}, numpy {np.__version__}")
    console.print(f"Python {sys.version.split()[0]}, devices {devices}")
    x64 = bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]
    console.print(f"x64 is {'on' if x64 else 'off'} (the tour turns it on; a program of yours decides for itself)")


def _show_classic_sampler(console: Any) -> None:
    """2. The classic sampler, in float64"""
    np.random.seed(0)  # noqa: NPY002  (the numbers of the example are those of this generator)
    mu, L = np.random.rand(4), np.random.rand(4, 4)  # noqa: NPY002
    sigma = jnp.asarray(L @ L.T + np.eye(4))
    noise = jnp.asarray(np.random.standard_normal(4))  # noqa: NPY002

    sample = jax.jit(lambda sigma: mu + linalgx.cholesky(sigma) @ noise)
    by_det = jax.jit(lambda sigma: jnp.sqrt(linalgx.det(sigma)))
    by_cholesky = jax.jit(lambda sigma: jnp.prod(linalgx.diagonal(linalgx.cholesky(sigma))))
    console.print(f"mu + cholesky(sigma) @ noise   = {np.asarray(sample(sigma))}")
    for name, function in (
        ("sqrt(det(sigma))            ", by_det),
        ("prod(diag(cholesky(sigma))) ", by_cholesky),
    ):
        value = float(function(sigma))
        console.print(f"{name}   = {value:.15g}    {1e6 * _median_seconds(function, sigma):6.1f} us a call under jit")
    _, pull = jax.vjp(linalgx.inv, jnp.array([[1.0, 2.0], [3.0, 4.0]]))
    (cotangent,) = pull(jnp.ones((2, 2)))
    console.print(f"vjp of inv at [[1, 2], [3, 4]] with ones = {np.asarray(cotangent).round(12).tolist()}")


def _median_seconds(function: Callable[..., Any], *args: Any, repeats: int = 200) -> float:
    jax.block_until_ready(function(*args))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        times.append(time.perf_counter() - start)
    return statistics.median(times)


# --- 3. Monte Carlo. Each side is measured in a process of its own, which can be given up when it hangs: batched
# LAPACK calls in gradients can deadlock in jax 0.10.2 on two cores.


def _show_monte_carlo(console: Any) -> None:
    """3. Monte Carlo: 100,000 covariance matrices 4 x 4 under vmap, float32"""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:18}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"))
    console.print("a sample and a log density of each, and the gradient of the mean log density, in one jit")
    nanoseconds: dict[str, float | None] = {}
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        for side in ("linalgx", "jax.numpy.linalg"):
            bar = progress.add_task(side, total=REPEATS + 1)
            nanoseconds[side] = _measured_apart(side, lambda bar=bar: progress.advance(bar))  # type: ignore[misc]
    for side, value in nanoseconds.items():
        words = (
            "hangs (a known deadlock of jax 0.10.2 on two cores)" if value is None else f"{value:8.1f} ns per matrix"
        )
        console.print(f"{side:18} {words}")


def _measured_apart(side: str, on_progress: Callable[[], None]) -> float | None:
    """Nanoseconds per matrix, measured in another process; None if that stops answering."""
    # from the module by its name: a child process cannot find a function of __main__
    from linalgx.__main__ import _measure

    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(side, sender), daemon=True)
    process.start()
    sender.close()
    times: list[float] = []
    while len(times) <= REPEATS and receiver.poll(TIME_LIMIT):
        times.append(receiver.recv())
        on_progress()
    process.kill()
    # the first call compiles
    return 1e9 * statistics.median(times[1:]) / BATCH if len(times) > REPEATS else None


def _measure(side: str, sender: Connection) -> None:
    """Send the seconds of each call, the compiling one first."""
    monte_carlo = jax.jit(_monte_carlo(*_functions(side)))
    keys = jax.random.split(jax.random.key(0), 3)
    factor = jax.random.normal(keys[0], (BATCH, ORDER, ORDER), jnp.float32)
    sigma = factor @ jnp.swapaxes(factor, -1, -2) + jnp.eye(ORDER, dtype=jnp.float32)
    mu = jax.random.normal(keys[1], (BATCH, ORDER), jnp.float32)
    noise = jax.random.normal(keys[2], (BATCH, ORDER), jnp.float32)
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        jax.block_until_ready(monte_carlo(mu, sigma, noise))
        sender.send(time.perf_counter() - start)


def _functions(side: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    if side == "linalgx":
        return linalgx.cholesky, lambda L, b: linalgx.solve_triangular(L, b, upper=False)
    return jnp.linalg.cholesky, lambda L, b: jax.scipy.linalg.solve_triangular(L, b, lower=True)


def _monte_carlo(cholesky: Callable[..., Any], solve_lower: Callable[..., Any]) -> Callable[..., Any]:
    """Samples, their log densities, and the gradient of the mean log density with respect to means and covariances."""

    def log_density(mu: jax.Array, sigma: jax.Array, x: jax.Array) -> jax.Array:
        L = cholesky(sigma)
        z = solve_lower(L, x - mu)
        return -0.5 * (z @ z + ORDER * jnp.log(2 * jnp.pi)) - jnp.sum(jnp.log(jnp.diagonal(L)))

    def sample(mu: jax.Array, sigma: jax.Array, noise: jax.Array) -> jax.Array:
        return mu + cholesky(sigma) @ noise

    def run(mu: jax.Array, sigma: jax.Array, noise: jax.Array) -> Any:
        x = jax.vmap(sample)(mu, sigma, noise)

        def mean_log_density(mu: jax.Array, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
            densities = jax.vmap(log_density)(mu, sigma, x)
            return jnp.mean(densities), densities

        gradient, densities = jax.grad(mean_log_density, argnums=(0, 1), has_aux=True)(mu, sigma)
        return x, densities, gradient

    return run


# --- 4. Degenerate gradients: the same two functions, written once for the three packages


def _polar_factor(linalg: Any, A: Any, W: Any) -> Any:
    U, _, Vh = linalg.svd(A, full_matrices=False)
    return (W * (U @ Vh)).sum()


def _eigenspace(linalg: Any, A: Any, W: Any) -> Any:
    V = linalg.eigh(A)[1][:, :2]
    return (W * (V @ V.T)).sum()


def _show_degenerate_gradients(console: Any) -> None:
    """4. Gradients where singular values or eigenvalues repeat"""
    # near A = I the orthogonal polar factor of A is I + (dA - dA^T)/2
    W = np.array([[1.0, 2.0], [3.0, 5.0]])
    console.print("f(A) = sum(W * (U @ Vh)), the orthogonal polar factor of A, at A = I: both singular values are 1")
    _print_gradients(console, _polar_factor, np.eye(2), W, right=(W - W.T) / 2)
    # the projector on the eigenvalue 1 of diag(1, 1, 3) moves by -dA_i3 (e_i e_3^T + e_3 e_i^T) / (3 - 1)
    W = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 2.0], [1.0, 2.0, 0.0]])
    console.print("f(A) = sum(W * P), P the projector on the double eigenvalue of A = diag(1, 1, 3)")
    _print_gradients(console, _eigenspace, np.diag([1.0, 1.0, 3.0]), W, right=-W / 2)


def _print_gradients(console: Any, f: Callable[..., Any], A: np.ndarray, W: np.ndarray, right: np.ndarray) -> None:
    gradients = {"right answer": right}
    for module in (linalgx, jnp.linalg):
        gradients[module.__name__] = np.asarray(jax.grad(partial(f, module))(jnp.asarray(A), jnp.asarray(W)))
    gradients |= _torch_gradient(f, A, W)
    for name, gradient in gradients.items():
        console.print(f"  {name:18} {(gradient.round(6) + 0.0).tolist()}")


def _torch_gradient(f: Callable[..., Any], A: np.ndarray, W: np.ndarray) -> dict[str, np.ndarray]:
    """Torch's gradient, if it is installed."""
    try:
        import torch
    except ImportError:
        return {}
    a = torch.tensor(A, requires_grad=True)
    f(torch.linalg, a, torch.tensor(W)).backward()
    return {"torch.linalg": np.asarray(a.grad)}


if __name__ == "__main__":
    main()
