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
# # From NumPy and torch
#
# The classic program of a Gaussian sampler, once in NumPy and once with `linalgx`: what changes, and what does not.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import linalgx

plt.style.use("linalgx.mplstyle")
jax.config.update("jax_enable_x64", True)  # float64 as in NumPy; without this line JAX computes in float32

# %% [markdown]
# ## In NumPy
#
# Draw from a normal distribution with mean `mu` and covariance `sigma`, and evaluate its density: factor once, multiply, solve.

# %%
generator = np.random.default_rng(0)
mu = np.array([1.0, -0.5])
sigma = np.array([[2.0, 1.2], [1.2, 1.5]])


def sample_numpy(mu, sigma, noise):
    L = np.linalg.cholesky(sigma)
    return mu + noise @ L.T


def log_density_numpy(mu, sigma, x):
    L = np.linalg.cholesky(sigma)
    z = np.linalg.solve(L, x - mu)
    return -0.5 * (z @ z + len(x) * np.log(2 * np.pi)) - np.sum(np.log(np.diagonal(L)))


noise = generator.standard_normal((2000, 2))
samples = sample_numpy(mu, sigma, noise)
log_density_numpy(mu, sigma, samples[0])


# %% [markdown]
# ## With linalgx
#
# The names are NumPy's, so the import changes and nothing else has to. Two lines below use functions that NumPy does not have, because they do
# less work: `solve_triangular` knows that L is triangular, and `cholesky_logdet` reads its diagonal.


# %%
def sample(mu, sigma, noise):
    L = linalgx.cholesky(sigma)
    return mu + noise @ L.T


def log_density(mu, sigma, x):
    L = linalgx.cholesky(sigma)
    z = linalgx.solve_triangular(L, x - mu, upper=False)
    return -0.5 * (linalgx.vecdot(z, z) + linalgx.cholesky_logdet(L) + x.size * jnp.log(2 * jnp.pi))


np.testing.assert_allclose(sample(mu, sigma, noise), samples, rtol=1e-12)
log_density(mu, sigma, samples[0])

# %% [markdown]
# NumPy arrays went in, a JAX array came out. `np.asarray(...)` turns it back without a copy. Several results come as a named tuple, which
# unpacks, and has NumPy's and torch's field names:

# %%
linalgx.eigh(sigma)

# %% [markdown]
# ## What is new: transformations
#
# The program is written for one point. `vmap` makes it one for many, `jit` compiles it, `grad` differentiates it, in any order.

# %%
many = jax.jit(jax.vmap(log_density, in_axes=(None, None, 0)))
x, y = np.meshgrid(np.linspace(-4, 6, 120), np.linspace(-5, 4, 120))
grid = np.stack([x, y], axis=-1).reshape(-1, 2)
density = np.exp(many(mu, sigma, grid)).reshape(x.shape)

fig, ax = plt.subplots(figsize=(6, 4.6))
ax.scatter(*samples.T, s=4, alpha=0.35, color="C4", linewidths=0, label="2000 samples")
contours = ax.contour(x, y, density, levels=6, colors="C0", linewidths=1.2)
ax.plot(*mu, "+", color="C1", markersize=12, markeredgewidth=2, label="mean")
ax.set(xlabel="$x_1$", ylabel="$x_2$", title="Samples, and contours of the density", aspect="equal")
ax.legend(loc="upper left", markerscale=1.5)
plt.show()

# %% [markdown]
# The gradient of the mean log density with respect to the covariance needs no formula. It vanishes at the maximum, which is the sample
# covariance, and that is what we find:


# %%
def mean_log_density(mu, sigma):
    return jnp.mean(many(mu, sigma, samples))


slope = jax.grad(mean_log_density, argnums=1)
centre = samples.mean(axis=0)
empirical = (samples - centre).T @ (samples - centre) / len(samples)
print("at sigma:               ", np.asarray(slope(mu, sigma)).round(4).tolist())
print("at the sample covariance:", (np.asarray(slope(centre, empirical)).round(10) + 0.0).tolist())

# %% [markdown]
# ## What is different
#
# **A failure is a value.** NumPy raises, which a compiled program cannot do. Here the matrix that failed becomes NaN, and it alone; `cholesky_ex`
# says which leading minor was not positive.

# %%
indefinite = np.array([[1.0, 2.0], [2.0, 1.0]])
try:
    np.linalg.cholesky(np.stack([sigma, indefinite]))
except np.linalg.LinAlgError as error:
    print("NumPy raises for the whole batch:", error)

L, info = linalgx.cholesky_ex(np.stack([sigma, indefinite]))
print("linalgx, info:", info, " finite:", np.isfinite(L).all(axis=(1, 2)))

# %% [markdown]
# **Wrong arguments raise, at once,** and say what is wrong:

# %%
try:
    linalgx.solve(sigma, np.ones((3, 1)))
except ValueError as error:
    print(error)

# %% [markdown]
# **The Hermitian part.** `np.linalg.cholesky` and `torch.linalg.cholesky` read one triangle and ignore the other. Here (A + Aᵀ)/2 is factored, so
# that value and gradient belong to the same function. `symmetrize_input=False` reads one triangle.

# %%
lopsided = np.array([[2.0, 9.0], [1.2, 1.5]])
print("NumPy:                         ", np.linalg.cholesky(lopsided).round(4).tolist())
print(
    "linalgx, symmetrize_input=False:", np.asarray(linalgx.cholesky(lopsided, symmetrize_input=False)).round(4).tolist()
)
print("linalgx, of the Hermitian part is not positive definite here: info", linalgx.cholesky_ex(lopsided).info)

# %% [markdown]
# ## From torch
#
# | torch | linalgx |
# |---|---|
# | `torch.linalg.cholesky(A)` | `linalgx.cholesky(A)` |
# | `torch.linalg.norm(x, dim=-1, keepdim=True)` | `linalgx.norm(x, axis=-1, keepdims=True)` |
# | `torch.linalg.solve(A, b)`, b a batch of vectors | `linalgx.solve(A, b[..., None])[..., 0]`, or `jax.vmap(linalgx.solve)(A, b)` |
# | `torch.linalg.lu_factor(A)`, pivots from 1 | `linalgx.lu_factor(A)`, pivots from 0 |
# | `torch.cholesky_solve(b, L)` | `linalgx.cholesky_solve(b, L)` |
# | `loss.backward(); A.grad` | `jax.grad(loss)(A)` |
# | `torch.func.vmap(f)` | `jax.vmap(f)` |
# | `A.requires_grad_()`, `with torch.no_grad()` | not needed: a gradient is asked for where it is wanted |
# | `torch.manual_seed(0)` | `key = jax.random.key(0)`, handed to the functions that draw |
#
# The documentation has a table of every function: *Coming from another library*.
#
# ## Random numbers
#
# JAX has no global generator: a key goes in, the same key gives the same numbers, also under `jit` and `vmap`.

# %%
keys = jax.random.split(jax.random.key(0), 4)
jax.vmap(lambda key: sample(mu, sigma, jax.random.normal(key, (2,))))(keys)
