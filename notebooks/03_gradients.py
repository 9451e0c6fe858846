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
# # Gradients of decompositions
#
# Every decomposition carries a forward and a reverse rule. Here both are held against finite differences and against each other; then against
# the known answer where singular values and eigenvalues come together, which is where other libraries give NaN or lose all digits.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import linalgx

plt.style.use("linalgx.mplstyle")
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)  # many small programs, each run a few times: compile quickly
rng = np.random.default_rng(0)

n = 5
G = rng.standard_normal((n, n))
SPD = G @ G.T + n * np.eye(n)
B = rng.standard_normal((n, 2))
W = rng.standard_normal((n, n))

# %% [markdown]
# ## One function of each
#
# Eigenvectors and singular vectors have arbitrary signs, so that each function is one that does not depend on them.

# %%
projector = lambda V: V[:, :2] @ jnp.conj(V[:, :2]).T
FUNCTIONS = {
    "cholesky": (lambda A: jnp.sum(W * linalgx.cholesky(A)), SPD),
    "lu": (lambda A: sum(jnp.sum(W * X) for X in linalgx.lu(A)[1:]), G),
    "ldl_factor": (lambda A: jnp.sum(W * linalgx.ldl_factor(A).LD), G + G.T),
    "qr": (lambda A: jnp.sum(W * linalgx.qr(A).Q) + jnp.sum(W * linalgx.qr(A).R), G),
    "eigh": (lambda A: jnp.sum(W * projector(linalgx.eigh(A).eigenvectors)), SPD),
    "eig": (lambda A: jnp.sum(jnp.real(linalgx.eig(A).eigenvalues ** 3)), G),
    "svd": (lambda A: jnp.sum(W * projector(linalgx.svd(A).U)), G),
    "solve": (lambda A: jnp.sum(jnp.sin(linalgx.solve(A, B))), G),
    "lstsq": (lambda A: jnp.sum(jnp.sin(linalgx.lstsq(A[:, :3], B).solution)), G),
    "pinv": (lambda A: jnp.sum(W[:3] * linalgx.pinv(A[:, :3])), G),
    "det": (linalgx.det, G),
    "matrix_exp": (lambda A: jnp.sum(W * linalgx.matrix_exp(A)), G),
    "nuclear norm": (lambda A: linalgx.norm(A, "nuc"), G),
}

# %% [markdown]
# ## Reverse mode against finite differences
#
# A central difference along a random direction E has an error of h² from the curvature and of eps/h from rounding. Held against the exact
# derivative it must draw a V, whose left arm rises as 1/h and whose right arm as h². A wrong derivative shows as a floor.

# %%
direction = rng.standard_normal((n, n))
steps = np.logspace(-10, -1, 37)
fig, ax = plt.subplots(figsize=(7.5, 4.6))
colours = plt.cm.viridis(np.linspace(0, 0.92, len(FUNCTIONS)))
for (name, (f, A)), colour in zip(FUNCTIONS.items(), colours, strict=True):
    value_and_gradient = jax.jit(jax.value_and_grad(f))
    exact = jnp.vdot(value_and_gradient(A)[1], direction)
    along = lambda h: value_and_gradient(A + h * direction)[0]  # noqa: B023
    differences = [(along(h) - along(-h)) / (2 * h) for h in steps]
    ax.loglog(steps, np.abs((np.array(differences) - exact) / exact) + 1e-17, label=name, color=colour, linewidth=1.1)
ax.loglog(steps, 1e-16 / steps, "k:", linewidth=1, label="eps / h")
ax.set(
    xlabel="step h of the finite difference",
    ylabel="relative difference from the gradient",
    ylim=(1e-13, 1e2),
    title="Gradient along a direction against central differences, float64",
)
ax.legend(ncols=2, fontsize="x-small", loc="upper center")
plt.show()

# %% [markdown]
# ## Forward, reverse, Hessian
#
# Forward and reverse mode are two programs. They must agree to rounding, and so must the two nestings that give the Hessian, which must be
# symmetric.

# %%
print(f"{'':14}{'|reverse - forward|':>20}{'|two Hessians|':>18}{'asymmetry':>13}")
for name in ("cholesky", "qr", "eigh", "svd", "solve", "det"):
    f, A = FUNCTIONS[name]
    reverse, forward = jax.jit(jax.jacrev(f))(A), jax.jit(jax.jacfwd(f))(A)
    H1, H2 = jax.jit(jax.jacfwd(jax.jacrev(f)))(A), jax.jit(jax.jacrev(jax.jacfwd(f)))(A)
    H = H1.reshape(n * n, n * n)
    relative = [
        jnp.abs(x).max() / jnp.abs(y).max() for x, y in ((reverse - forward, reverse), (H1 - H2, H1), (H - H.T, H))
    ]
    print(f"{name:14}{relative[0]:20.1e}{relative[1]:18.1e}{relative[2]:13.1e}")


# %% [markdown]
# ## Where singular values meet
#
# The orthogonal polar factor U Vᴴ of A is the nearest orthogonal matrix. It is a smooth function of every nonsingular A, but the rules of U and
# Vᴴ divide by the gap between singular values. At a symmetric 2 × 2 matrix with the eigenvalues 1 and 1 + g its derivative is known:
# (dA − dAᵀ)/(2 + g).


# %%
def polar(svd, A):
    U, _, Vh = svd(A)
    return U @ Vh


W2 = np.array([[1.0, 2.0], [3.0, 5.0]])


def errors_at(svd, gaps):
    gradient = jax.jit(jax.grad(lambda A: jnp.sum(W2 * polar(svd, A))))
    v = np.array([np.cos(0.4), np.sin(0.4)])
    return [np.abs(gradient(np.eye(2) + gap * np.outer(v, v)) - (W2 - W2.T) / (2 + gap)).max() for gap in gaps]


gaps = np.logspace(0, -15, 31)
SIDES = {
    "jax.numpy.linalg.svd": (lambda A: jnp.linalg.svd(A, full_matrices=False), "C4", "s-"),
    "linalgx.svd": (linalgx.svd, "C0", "o-"),
}
fig, ax = plt.subplots()
for name, (svd, colour, marker) in SIDES.items():
    *errors, at_zero = errors_at(svd, [*gaps, 0.0])
    ax.loglog(gaps, np.maximum(errors, 1e-17), marker, markersize=3.5, color=colour, label=name)
    print(f"{name:22} at gap 0: error {at_zero:.1e}")
ax.invert_xaxis()
ax.set(
    xlabel="gap g between the singular values 1 and 1 + g",
    ylabel="error of the gradient",
    title="Gradient of the polar factor as two singular values meet",
)
ax.legend()
plt.show()

# %% [markdown]
# While the singular values are told apart, either rule loses digits as eps / g. From about 4e-11 on linalgx counts them as equal, leaves out the term
# that divides by the gap, which a function without preference for a basis does not need, and is right again to the last digits. The other rule goes on
# dividing, up to NaN at g = 0.
#
# ## Singular matrices
#
# The determinant is a polynomial: it has derivatives everywhere. At a matrix of rank n − 1 the gradient is the adjugate, of rank one; below that
# the gradient is zero and the Hessian need not be.

# %%
for rank in (5, 4, 3, 2):
    U, _, Vh = np.linalg.svd(G)
    A = U[:, :rank] @ np.diag(np.arange(1.0, rank + 1)) @ Vh[:rank]
    gradient, hessian = jax.grad(linalgx.det)(A), jax.hessian(linalgx.det)(A)
    print(f"rank {rank}: |gradient| = {linalgx.norm(gradient):9.2e}   |Hessian| = {linalgx.norm(hessian.ravel()):9.2e}")

# %% [markdown]
# ## What a derivative cannot give
#
# A single eigenvector of a repeated eigenvalue is not a function of the matrix at all, and a matrix function put together from its parts,
# V f(λ) Vᴴ, loses the terms inside the eigenspace: there the limit of (f(a) − f(b))/(a − b) is f'(a), which no rule of V can know. So call the
# function itself. Here for exp at the identity, whose derivative along E is e·E:

# %%
E = np.array([[0.0, 1.0], [1.0, 0.0]])
by_parts = lambda A: (lambda l, V: (V * jnp.exp(l)) @ V.T)(*linalgx.eigh(A))
print("V exp(l) V^T:  ", np.asarray(jax.jvp(by_parts, (jnp.eye(2),), (E,))[1]).round(6).tolist(), " wrong")
print("matrix_exp:    ", np.asarray(jax.jvp(linalgx.matrix_exp, (jnp.eye(2),), (E,))[1]).round(6).tolist())
