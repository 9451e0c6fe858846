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
# # Monte Carlo with a million covariance matrices
#
# A Bayesian asks for the covariance of three quantities, of which there are six observations. The prior is a cloud of a million 3 × 3
# matrices; the posterior is the same cloud with weights; the evidence is the mean weight. Everything is one `vmap` over a program for **one**
# matrix, and the gradient of the evidence with respect to the scale of the prior goes through all of it.
#
# The problem is chosen so that the answer is known: with an inverse Wishart prior the evidence has a closed form.

# %%
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax.scipy.special import logsumexp
from scipy.special import multigammaln

import linalgx

plt.style.use("linalgx.mplstyle")
N, d, nu = 1_000_000, 3, 5.0

true_covariance = np.array([[1.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]])
observations = np.random.default_rng(1).multivariate_normal(np.zeros(d), true_covariance, size=6)
m = len(observations)
C = np.linalg.cholesky(observations.T @ observations).astype(np.float32)  # all that the likelihood needs of the data


# %% [markdown]
# ## The program for one matrix
#
# Bartlett: if A is lower triangular with $A_{ii}^2 \sim \chi^2_{\nu - i + 1}$ and $A_{ij} \sim N(0, 1)$, then $s^2 (A A^T)^{-1}$ is inverse
# Wishart. The draw A does not depend on the scale s, so that the density is differentiable in it.


# %%
def covariance(log_scale, A):
    return jnp.exp(2 * log_scale) * linalgx.cholesky_inverse(A)


def log_likelihood(S):
    L = linalgx.cholesky(S)
    Z = linalgx.solve_triangular(L, C, upper=False)
    return -0.5 * (linalgx.norm(Z) ** 2 + m * linalgx.cholesky_logdet(L) + m * d * jnp.log(2 * jnp.pi))


def log_weight(log_scale, A):
    return log_likelihood(covariance(log_scale, A))


@jax.jit
def draw(key):
    """The factors A of a million draws, with the batch on the last axis: shape (3, 3, N)."""
    normal, *gammas = jax.random.split(key, d + 1)
    below = jnp.tril(jnp.ones((d, d)), -1)[..., None]
    A = below * jax.random.normal(normal, (d, d, N))
    chi = jnp.stack([jnp.sqrt(2 * jax.random.gamma(k, (nu - i) / 2, (N,))) for i, k in enumerate(gammas)])
    return A.at[jnp.arange(d), jnp.arange(d)].set(chi)


A = draw(jax.random.key(0))
A.shape

# %% [markdown]
# ## A million of them
#
# `in_axes=-1` says that the batch lies on the last axis, where neighbours in memory are the same entry of the next matrices: then nothing is
# converted. Data with the batch in front works as well, `in_axes=0`, and is converted once at either end.

# %%
log_weights = jax.jit(jax.vmap(log_weight, in_axes=(None, -1)))


def log_evidence(log_scale, A):
    return logsumexp(log_weights(log_scale, A)) - jnp.log(N)


def exact_log_evidence(log_scale):
    psi, scatter = np.exp(2 * log_scale) * np.eye(d), observations.T @ observations
    return (
        -0.5 * m * d * np.log(np.pi)
        + multigammaln((nu + m) / 2, d)
        - multigammaln(nu / 2, d)
        + 0.5 * nu * np.linalg.slogdet(psi)[1]
        - 0.5 * (nu + m) * np.linalg.slogdet(psi + scatter)[1]
    )


w = log_weights(0.0, A)
weights = jnp.exp(w - logsumexp(w))
print(f"log evidence      {log_evidence(0.0, A):.4f}")
print(f"closed form       {exact_log_evidence(0.0):.4f}")
print(f"effective samples {1 / jnp.sum(weights**2):,.0f} of {N:,}")


# %% [markdown]
# The weights turn prior draws into posterior ones. What have six observations taught us of the correlation of the first two quantities?


# %%
@jax.jit
@jax.vmap
def correlation(S):
    return S[0, 1] / jnp.sqrt(S[0, 0] * S[1, 1])


S = jax.vmap(covariance, in_axes=(None, -1))(0.0, A)
rho = np.asarray(correlation(S))
bins = np.linspace(-1, 1, 81)

fig, ax = plt.subplots()
ax.hist(rho, bins, density=True, color="C4", alpha=0.45, label="prior")
ax.hist(
    rho, bins, weights=np.asarray(weights), density=True, histtype="step", color="C0", linewidth=1.8, label="posterior"
)
ax.axvline(0.6, color="C1", linestyle="--", label="the correlation that made the data")
ax.set(
    xlabel=r"correlation $\rho_{12}$", ylabel="density", title="One million prior draws, weighted by six observations"
)
ax.legend(loc="upper left")
plt.show()

# %% [markdown]
# Predictions of a new observation, with the uncertainty of the covariance in them: resample matrices by their weights, and draw from each.

# %%
chosen, noise = jax.random.split(jax.random.key(1))
index = jax.random.choice(chosen, N, (100_000,), p=weights)
predicted = jax.vmap(lambda S, z: linalgx.matmul(linalgx.cholesky(S), z))(
    S[index], jax.random.normal(noise, (100_000, d))
)
print("covariance of the predictions:\n", np.cov(predicted.T).round(2))
print("posterior mean of the covariance:\n", np.asarray(jnp.tensordot(weights, S, 1)).round(2))

# %% [markdown]
# ## The gradient
#
# `jax.grad` of the evidence with respect to the scale runs back through a million Cholesky factorisations, triangular solves and inverses.

# %%
evidence_and_slope = jax.jit(jax.value_and_grad(log_evidence))
scales = np.linspace(-0.4, 1.2, 9)
values, slopes = np.transpose([[float(x) for x in evidence_and_slope(s, A)] for s in scales])

fine = np.linspace(-0.55, 1.35, 200)
fig, ax = plt.subplots()
ax.plot(fine, [exact_log_evidence(s) for s in fine], color="C4", label="closed form")
ax.plot(scales, values, "o", color="C0", markersize=4, label="a million matrices")
for s, value, slope in zip(scales, values, slopes, strict=True):
    step = np.array([-0.1, 0.1])
    ax.plot(s + step, value + slope * step, color="C1", linewidth=2.2, label="gradient" if s == scales[0] else None)
ax.set(xlabel="log of the scale s of the prior", ylabel="log evidence", title="Evidence and its gradient")
ax.legend(loc="lower center")
plt.show()

exact_slopes = [(exact_log_evidence(s + 1e-5) - exact_log_evidence(s - 1e-5)) / 2e-5 for s in scales]
print(f"largest error of a value    {np.abs(values - [exact_log_evidence(s) for s in scales]).max():.3f}")
print(f"largest error of a gradient {np.abs(slopes - exact_slopes).max():.3f}, both that of Monte Carlo")


# %% [markdown]
# ## Against jax.numpy.linalg
#
# The same log density with `jax.numpy.linalg`, which hands the matrices to LAPACK one by one. The two take turns; the median of five counts.
# Only the value is compared here: the gradient of the other can deadlock on two cores in jax 0.10.2. `python -m benchmarks small` measures gradients
# too, each side in a process of its own.


# %%
def log_likelihood_jnp(S):
    L = jnp.linalg.cholesky(S)
    Z = jax.scipy.linalg.solve_triangular(L, C, lower=True)
    return -0.5 * (jnp.sum(Z**2) + 2 * m * jnp.sum(jnp.log(jnp.diagonal(L))) + m * d * jnp.log(2 * jnp.pi))


n = 200_000
S_first = S[:n]
S_last = jnp.moveaxis(S_first, 0, -1) + 0.0
sides = {
    "jax.numpy.linalg": (jax.jit(jax.vmap(log_likelihood_jnp)), S_first),
    "linalgx, batch first": (jax.jit(jax.vmap(log_likelihood)), S_first),
    "linalgx, batch last": (jax.jit(jax.vmap(log_likelihood, in_axes=-1)), S_last),
}
seconds = {name: [] for name in sides}
for _ in range(6):
    for name, (function, argument) in sides.items():
        start = time.perf_counter()
        jax.block_until_ready(function(argument))
        seconds[name].append(time.perf_counter() - start)
nanoseconds = {name: 1e9 * np.median(times[1:]) / n for name, times in seconds.items()}  # the first call compiles
gradient = jax.jit(jax.vmap(jax.grad(log_likelihood), in_axes=-1, out_axes=-1))
jax.block_until_ready(gradient(S_last))
start = time.perf_counter()
jax.block_until_ready(gradient(S_last))
nanoseconds["linalgx, gradient, batch last"] = 1e9 * (time.perf_counter() - start) / n

fig, ax = plt.subplots(figsize=(7.5, 2.6))
bars = ax.barh(list(nanoseconds), list(nanoseconds.values()), color=["C4", "C0", "C0", "C2"])
ax.bar_label(bars, fmt="%.0f ns", padding=4)
ax.invert_yaxis()
ax.grid(axis="y")
ax.set(xlabel="nanoseconds per matrix", title=f"Log density of {n:,} matrices 3 × 3, float32, on this machine")
ax.margins(x=0.12)
plt.show()
