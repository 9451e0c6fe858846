"""The general eigendecomposition in the table."""

import numpy as np

from tests.operations.case import Case
from tests.operations.inputs import general, with_eigenvalues, with_spectrum


def power_sums(l):
    """Sums of the first powers of the eigenvalues: they determine them but for the order."""
    return tuple((l**k).sum(-1) for k in range(1, l.shape[-1] + 1))


def gauge_free(out):
    """What depends neither on the order of the eigenvalues nor on the phases of the eigenvectors of unit length."""
    l, V = out
    adjoint, row = V.conj().swapaxes(-1, -2), l[..., None, :]
    inverse = V.__array_namespace__().linalg.inv(V)
    return power_sums(l), V @ adjoint, (V * row) @ adjoint, (V * row**2) @ adjoint, (V * row**3) @ inverse


SPECTRUM = [2, 1 + 1j, -1]


CASES = [
    Case(
        "eig",
        "complex pair",
        lambda rng, d: (with_spectrum(rng, d, SPECTRUM),),
        np.linalg.eig,
        view=gauge_free,
        condition=100,
        derivative_condition=1000,
    ),
    Case(
        "eig",
        "all real",
        lambda rng, d: (with_spectrum(rng, d, [1, 2, -1]),),
        np.linalg.eig,
        view=gauge_free,
        condition=100,
        derivative_condition=1000,
    ),
    Case(
        "eig",
        "Hermitian",
        lambda rng, d: (with_eigenvalues(rng, d, [1, 2, -1]),),
        np.linalg.eig,
        view=gauge_free,
        condition=100,
        derivative_condition=1000,
    ),
    Case("eig", "1 x 1", lambda rng, d: (general(rng, d, 1, 1),), np.linalg.eig, view=gauge_free),
    Case("eig", "0 x 0", lambda rng, d: (np.zeros((0, 0), d),), np.linalg.eig, view=gauge_free),
    Case(
        "eigvals",
        "complex pair",
        lambda rng, d: (with_spectrum(rng, d, SPECTRUM),),
        np.linalg.eigvals,
        view=power_sums,
        condition=100,
        derivative_condition=1000,
    ),
    Case(
        "eigvals",
        "all real",
        lambda rng, d: (with_spectrum(rng, d, [1, 2, -1]),),
        np.linalg.eigvals,
        view=power_sums,
        condition=100,
        derivative_condition=1000,
    ),
    Case("eigvals", "1 x 1", lambda rng, d: (general(rng, d, 1, 1),), np.linalg.eigvals, view=power_sums),
    Case("eigvals", "0 x 0", lambda rng, d: (np.zeros((0, 0), d),), np.linalg.eigvals),
]

# (function, arguments, options, type of the error, a regular expression that its message matches)
ERRORS = [
    ("eig", (np.ones((2, 3)),), {}, ValueError, r"linalgx\.eig: a must be square .* \(2, 3\)"),
    ("eig", ([[1.0]],), {}, TypeError, r"linalgx\.eig: a must be an array.* jnp\.asarray"),
    ("eigvals", (np.ones(3),), {}, ValueError, r"linalgx\.eigvals: a must have at least two axes"),
]

# the operations of RULES: arguments (from a generator and a dtype name) and static parameters, as their rules take them
RULE_INPUTS = {
    name: [
        (lambda rng, d: (with_spectrum(rng, d, SPECTRUM),), {}),
        (lambda rng, d: (with_spectrum(rng, d, [1, 1, 2]),), {}),
    ]
    for name in ("eig", "eigensystem", "eigvals")
}
