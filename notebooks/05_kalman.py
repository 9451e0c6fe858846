# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A Kalman filter
#
# A filter is a scan whose step solves with a small covariance matrix. Written for one series it is jitted, differentiated for maximum likelihood, and
# mapped over ten thousand series, without another line.

# %%
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import linalgx

plt.style.use("linalgx.mplstyle")
jax.config.update("jax_enable_x64", True)

# %% [markdown]
# ## The filter
#
# State $x_t = F x_{t-1} + w_t$, $w_t \sim N(0, Q)$; observation $y_t = H x_t + v_t$, $v_t \sim N(0, R)$. Everything that the update needs comes from
# one Cholesky factor of the innovation covariance S: the gain, the log likelihood, and the covariance in the form P − Z Zᵀ, Z = P Hᵀ L⁻ᵀ.


# %%
def kalman_filter(F, Q, H, R, x0, P0, observations):
    """Filtered means and covariances, and the log likelihood of the observations."""

    def step(state, y):
        x, P = state
        x, P = linalgx.matmul(F, x), linalgx.multi_dot([F, P, F.T]) + Q
        L = linalgx.cholesky(linalgx.multi_dot([H, P, H.T]) + R)
        z = linalgx.solve_triangular(L, y - linalgx.matmul(H, x), upper=False)
        Z = linalgx.solve_triangular(L, linalgx.matmul(H, P), upper=False)
        x, P = x + linalgx.matmul(Z.T, z), P - linalgx.matmul(Z.T, Z)
        log_density = -0.5 * (linalgx.vecdot(z, z) + linalgx.cholesky_logdet(L) + y.size * jnp.log(2 * jnp.pi))
        return (x, P), (x, P, log_density)

    _, (means, covariances, log_densities) = jax.lax.scan(step, (x0, P0), observations)
    return means, covariances, jnp.sum(log_densities)


# %% [markdown]
# ## A level that wanders: the Nile
#
# The annual flow at Aswan from 1871 to 1970, as a random walk seen through noise (Durbin and Koopman 2012, chapter 2). The two variances are found by
# Newton's method: gradient and Hessian of the likelihood are one transformation each, and run through the scan and all its factorisations.

# %%
year, flow = np.loadtxt("data/nile.csv", delimiter=",", skiprows=2, unpack=True)
one = np.eye(1)


def nile(theta):
    level, noise = jnp.exp(theta)
    return kalman_filter(one, level * one, one, noise * one, np.zeros(1), 1e7 * one, flow[:, None])


@jax.jit
def newton(theta):
    loss = lambda theta: -nile(theta)[2]
    gradient, hessian = jax.grad(loss)(theta), jax.hessian(loss)(theta)
    return theta - linalgx.solve(hessian, gradient), loss(theta), linalgx.norm(gradient)


theta = jnp.log(jnp.array([1000.0, 20000.0]))
for i in range(6):
    theta, loss, slope = newton(theta)
    print(f"step {i}: log likelihood {-loss:.6f}, |gradient| {slope:.1e}")
level, noise = np.exp(theta)
print(f"variance of the level {level:.1f}, of the noise {noise:.0f}  (Durbin and Koopman: 1469.1 and 15099)")

means, covariances, _ = nile(theta)
deviation = np.sqrt(covariances[:, 0, 0])
fig, ax = plt.subplots()
ax.plot(year, flow, ".-", color="C4", linewidth=0.7, markersize=4, label="flow")
ax.plot(year, means[:, 0], color="C0", label="filtered level")
ax.fill_between(
    year[1:],
    (means[:, 0] - 2 * deviation)[1:],
    (means[:, 0] + 2 * deviation)[1:],
    color="C0",
    alpha=0.2,
    linewidth=0,
    label="± 2 standard deviations",
)
ax.axvline(1898, color="C1", linestyle="--", linewidth=1, label="building of the Aswan dam begins")
ax.set(
    xlabel="year",
    ylabel=r"flow ($10^8$ m³)",
    title="The Nile at Aswan: filtered level at the maximum of the likelihood",
    ylim=(250, 1450),
)
ax.legend(ncols=2, fontsize="small", loc="lower left")
plt.show()

# %% [markdown]
# ## Ten thousand tracks
#
# Objects move in a plane with nearly constant velocity; their positions are measured with noise. `vmap` maps the filter over tracks: in each of
# its fifty steps it factors ten thousand 2 × 2 matrices.

# %%
dt, sigma, steps, tracks = 1.0, 2.0, 50, 10_000
F = np.kron(np.array([[1.0, dt], [0.0, 1.0]]), np.eye(2))
H = np.kron(np.array([[1.0, 0.0]]), np.eye(2))
R = sigma**2 * np.eye(2)


def process_noise(q):
    return q * jnp.kron(jnp.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]]), jnp.eye(2))


def simulate(key, q):
    """A track and its measurements."""
    start, moves, errors = jax.random.split(key, 3)
    L = linalgx.cholesky(process_noise(q))

    def step(x, noise):
        x = linalgx.matmul(F, x) + linalgx.matmul(L, noise)
        return x, x

    _, x = jax.lax.scan(step, jax.random.normal(start, (4,)), jax.random.normal(moves, (steps, 4)))
    return x, x[:, :2] + sigma * jax.random.normal(errors, (steps, 2))


def track(q, y):
    return kalman_filter(F, process_noise(q), H, R, np.zeros(4), np.eye(4) * 4, y)


states, measured = jax.jit(jax.vmap(simulate, in_axes=(0, None)))(jax.random.split(jax.random.key(0), tracks), 0.1)
filtered = jax.jit(jax.vmap(track, in_axes=(None, 0)))
jax.block_until_ready(filtered(0.1, measured))
start = time.perf_counter()
means, covariances, _ = jax.block_until_ready(filtered(0.1, measured))
elapsed = time.perf_counter() - start
print(f"{tracks * steps:,} updates in {elapsed:.2f} s: {1e9 * elapsed / (tracks * steps):.0f} ns each")
print(
    f"root mean square error: measured {np.sqrt(np.mean((measured - states[..., :2]) ** 2)):.2f}, "
    f"filtered {np.sqrt(np.mean((means[..., :2] - states[..., :2]) ** 2)):.2f}"
)

# %%
fig, ax = plt.subplots(figsize=(7.5, 4.6))
circle = np.stack([np.cos(np.linspace(0, 2 * np.pi, 60)), np.sin(np.linspace(0, 2 * np.pi, 60))])
for i, colour in zip((3, 5, 8), ("C0", "C1", "C2"), strict=True):
    ax.plot(*states[i, :, :2].T, color=colour, alpha=0.4, linewidth=3, label="true" if i == 3 else None)
    ax.plot(*measured[i].T, ".", color=colour, markersize=3, alpha=0.6, label="measured" if i == 3 else None)
    ax.plot(*means[i, :, :2].T, color=colour, linewidth=1, label="filtered" if i == 3 else None)
    for j in range(9, steps, 10):
        ellipse = means[i, j, :2, None] + 2 * np.linalg.cholesky(covariances[i, j, :2, :2]) @ circle
        ax.plot(*ellipse, color=colour, linewidth=0.8, label="2 standard deviations" if (i, j) == (3, 9) else None)
ax.set(xlabel="x", ylabel="y", title="Three of ten thousand tracks", aspect="equal")
ax.legend(fontsize="small")
plt.show()


# %% [markdown]
# ## The likelihood and its gradient
#
# How strong is the process noise? The likelihood of a hundred tracks knows, and its gradient leads there.


# %%
@jax.jit
@jax.value_and_grad
def log_likelihood(log_q):
    return jnp.mean(jax.vmap(track, in_axes=(None, 0))(jnp.exp(log_q), measured[:100])[2])


log_q = np.linspace(np.log(0.01), np.log(1.0), 25)
values, slopes = np.transpose([[float(x) for x in log_likelihood(x)] for x in log_q])
h = 1e-4
differences = [(log_likelihood(x + h)[0] - log_likelihood(x - h)[0]) / (2 * h) for x in log_q]

fig, (upper, lower) = plt.subplots(2, 1, sharex=True, figsize=(7.5, 4.6))
upper.plot(np.exp(log_q), values, color="C0")
upper.axvline(0.1, color="C1", linestyle="--", label="the value that made the tracks")
upper.set(ylabel="mean log likelihood", title="Likelihood of a hundred tracks, and its gradient")
upper.legend()
lower.plot(np.exp(log_q), slopes, color="C0", label="gradient")
lower.plot(np.exp(log_q), differences, ".", color="C4", label="finite differences")
lower.axhline(0, color="k", linewidth=0.8)
lower.axvline(0.1, color="C1", linestyle="--")
lower.set(xscale="log", xlabel="strength q of the process noise", ylabel="d / d log q")
lower.legend()
plt.show()
print(f"largest difference between gradient and finite differences: {np.abs(slopes - differences).max():.1e}")
