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
# # Failures
#
# A matrix that is not positive definite, singular, or full of NaN has no answer, and a compiled program cannot raise in the middle. Four ways
# to find out: NaN in the matrix that failed, `info` from the `_ex` functions, exceptions inside `raise_errors`, and JAX's `checkify`.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax.experimental import checkify

import linalgx

plt.style.use("linalgx.mplstyle")
jax.config.update("jax_enable_x64", True)

# %% [markdown]
# ## One bad matrix spoils only itself
#
# The correlation matrices of three quantities, two of whose correlations are guessed. Not every guess can be: where the smallest eigenvalue is
# negative, the Cholesky factor is NaN, there and nowhere else in the batch.


# %%
def correlations(a, b):
    return jnp.array([[1.0, a, b], [a, 1.0, 0.3], [b, 0.3, 1.0]])


a, b = jnp.meshgrid(jnp.linspace(-0.99, 0.99, 199), jnp.linspace(-0.99, 0.99, 199))
S = jax.vmap(jax.vmap(correlations))(a, b)
L, info = linalgx.cholesky_ex(S)
logdet = linalgx.cholesky_logdet(L)
print(
    f"{np.isnan(logdet).sum()} of {logdet.size} matrices failed, and none of the others is harmed: "
    f"{np.isfinite(logdet[info == 0]).all()}"
)

fig, ax = plt.subplots(figsize=(6, 4.6))
image = ax.pcolormesh(a, b, logdet, cmap="viridis", vmin=-4, vmax=0, rasterized=True)
ax.contour(a, b, info, levels=[1.5], colors="C1", linewidths=1)
ax.text(-0.93, 0.82, "info = 3")
fig.colorbar(image, label="log determinant (white: NaN)")
ax.set(
    xlabel=r"$\rho_{12}$",
    ylabel=r"$\rho_{13}$",
    title="Which guesses are correlation matrices: outside, the minor of order 3 fails",
    aspect="equal",
)
ax.grid(visible=False)
plt.show()

# %% [markdown]
# ## `info`, and what to do with it
#
# `info` is an array like any other, so that a program can act on it without leaving `jit`: here, the usual remedy, more and more weight on the
# diagonal until the factorisation succeeds. Each member of a batch gets what it needs.


# %%
@jax.jit
@jax.vmap
def safe_cholesky(S):
    def attempt(jitter):
        return linalgx.cholesky_ex(S + jitter * jnp.eye(3))

    start = jnp.float64(0.0), attempt(0.0)
    following = lambda jitter: jnp.where(jitter == 0, 1e-10, 10 * jitter)
    step = lambda state: (following(state[0]), attempt(following(state[0])))
    jitter, result = jax.lax.while_loop(lambda state: state[1].info != 0, step, start)
    return jitter, result.L


singular = jnp.ones((3, 3))
nearly = jnp.eye(3) - 0.5001 * (jnp.ones((3, 3)) - jnp.eye(3))
jitter, factors = safe_cholesky(jnp.stack([jnp.eye(3), singular, nearly]))
print("weight on the diagonal:", jitter, " finite:", np.isfinite(factors).all())

# %% [markdown]
# ## Exceptions, where you want them
#
# Inside `with linalgx.raise_errors():` a failure raises `LinAlgError`: which function, which member of the batch, why. Eager calls raise at their own
# line; a compiled program is run to its end, and the exception comes when the context is left. Outside the context it costs nothing: the switch is
# part of the key of jit's cache.

# %%
batch = jnp.stack([jnp.eye(3), -jnp.eye(3)])
try:
    with linalgx.raise_errors():
        linalgx.cholesky(batch)
except linalgx.LinAlgError as error:
    print("eager:    ", error)

try:
    with linalgx.raise_errors():
        jax.jit(jax.vmap(lambda S: linalgx.solve(S, jnp.ones(3))))(batch.at[0].set(0.0))
except linalgx.LinAlgError as error:
    print("under jit:", error)

try:
    with linalgx.raise_errors():
        jax.grad(lambda S: linalgx.logdet(linalgx.inv(S)))(singular)
except linalgx.LinAlgError as error:
    print("gradient: ", error)

# %% [markdown]
# The `_ex` functions have torch's `check_errors=True` for one call:

# %%
try:
    linalgx.lu_factor_ex(singular, check_errors=True)
except linalgx.LinAlgError as error:
    print(error)


# %% [markdown]
# ## checkify
#
# JAX's functional errors know the same failures: the program returns an error beside its result, and you decide when to look.


# %%
def log_density(S, x):
    L = linalgx.cholesky(S)
    z = linalgx.solve_triangular(L, x, upper=False)
    return -0.5 * linalgx.vecdot(z, z) - 0.5 * linalgx.cholesky_logdet(L)


with linalgx.raise_errors():
    checked = jax.jit(checkify.checkify(log_density))
    error, value = checked(jnp.eye(3), jnp.ones(3))
    print("good matrix:", error.get(), value)
    error, value = checked(-jnp.eye(3), jnp.ones(3))
print("bad matrix: ", error.get().splitlines()[0])

# %% [markdown]
# ## Which to use
#
# | you want | use |
# |---|---|
# | to go on, and drop what failed | NaN in the result: `jnp.isfinite`, `jnp.nanmean` |
# | to act on a failure inside the program | `cholesky_ex(...).info`, with `jnp.where` or `lax.while_loop` |
# | to find the bad matrix while you develop | `with linalgx.raise_errors():` |
# | torch's behaviour for one call | `check_errors=True` |
# | an error as part of a functional program | `checkify` |
