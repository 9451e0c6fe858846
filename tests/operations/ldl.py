"""The LDL family in the table."""

import numpy as np
from scipy.linalg import get_lapack_funcs

from tests.operations.case import Case
from tests.operations.inputs import general, positive_definite

# its pivots are -3 -3 (2 x 2), 5, 4 (1 x 1, exchanged) and 5, by a wide margin
_BASE = np.array(
    [
        [0.2, 0.3, 3.0, 0.4, 0.3],
        [0.3, 0.5, 0.5, 0.4, 2.5],
        [3.0, 0.5, 0.3, 0.6, 0.2],
        [0.4, 0.4, 0.6, 1.0, 0.3],
        [0.3, 2.5, 0.2, 0.3, 3.0],
    ]
)
# 2 x 2 twice: pivots -3 -3, -4 -4
_PAIRS = np.array([[0.1, 0.2, 2.0, 0.3], [0.2, 0.1, 0.3, 3.0], [2.0, 0.3, -0.2, 0.1], [0.3, 3.0, 0.1, 0.3]])


def indefinite(rng, dtype, hermitian=False, base=_BASE):
    """Symmetric or Hermitian, with pivots of both kinds that a small change does not change."""
    A = base + 0.1 * general(rng, str(np.promote_types(dtype, np.float64)), *base.shape)
    lower = np.tril(A, -1)
    if not hermitian:
        return (lower + lower.T + np.diag(np.diag(A))).astype(dtype)
    return (lower + lower.conj().T + np.diag(np.diag(A).real)).astype(dtype)


def factor(a, hermitian=False):
    """LAPACK's LD, pivots and info."""
    if a.size == 0:
        return a, np.zeros(a.shape[-1], np.int32), np.int32(0)
    (routine,) = get_lapack_funcs(("hetrf" if hermitian and np.iscomplexobj(a) else "sytrf",), (a,))
    LD, pivots, info = routine(a, lower=1)
    return np.tril(LD), pivots.astype(np.int32), np.int32(info)


def solve(LD, pivots, b, hermitian=False):
    """LAPACK's solution."""
    (routine,) = get_lapack_funcs(("hetrs" if hermitian and np.iscomplexobj(LD) else "sytrs",), (LD, b))
    x, _ = routine(LD, pivots, b if b.ndim == 2 else b[:, None], lower=1)
    return x.reshape(b.shape)


def _hermitian_factor(a):
    return factor(a, hermitian=True)[:2]


def _factored(rng, dtype, hermitian=False, columns=(2,), base=_BASE):
    """LD, pivots and right-hand sides; above the diagonal of LD are numbers that must not be read."""
    LD, pivots, _ = factor(indefinite(rng, dtype, hermitian, base), hermitian)
    return LD + np.triu(general(rng, dtype, *LD.shape), 1), pivots, general(rng, dtype, len(LD), *columns)


CASES = [
    Case("ldl_factor", "symmetric", lambda rng, d: (indefinite(rng, d),), lambda a: factor(a)[:2]),
    Case(
        "ldl_factor",
        "Hermitian",
        lambda rng, d: (indefinite(rng, d, True),),
        _hermitian_factor,
        {"hermitian": True},
    ),
    Case(
        "ldl_factor",
        "one triangle",
        lambda rng, d: (indefinite(rng, d, True) + np.triu(general(rng, d, 5, 5), 1),),
        _hermitian_factor,
        {"hermitian": True},
    ),
    Case("ldl_factor", "2 x 2 pivots", lambda rng, d: (indefinite(rng, d, base=_PAIRS),), lambda a: factor(a)[:2]),
    Case(
        "ldl_factor",
        "positive definite",
        lambda rng, d: (positive_definite(rng, d, 4) + 3 * np.eye(4, dtype=d),),
        _hermitian_factor,
        {"hermitian": True},
    ),
    Case("ldl_factor", "1 x 1", lambda rng, d: (general(rng, d, 1, 1) + 2,), lambda a: factor(a)[:2]),
    Case("ldl_factor", "0 x 0", lambda rng, d: (np.zeros((0, 0), d),), lambda a: factor(a)[:2]),
    Case("ldl_factor_ex", "symmetric", lambda rng, d: (indefinite(rng, d),), factor),
    Case(
        "ldl_factor_ex",
        "singular",
        lambda rng, d: (np.diag([0, 0, 1]).astype(d),),
        factor,
        differentiate=(),
    ),
    Case("ldl_solve", "symmetric", _factored, solve, differentiate=(0, 2)),
    Case(
        "ldl_solve",
        "Hermitian",
        lambda rng, d: _factored(rng, d, True),
        lambda LD, pivots, b: solve(LD, pivots, b, True),
        {"hermitian": True},
        differentiate=(0, 2),
    ),
    Case(
        "ldl_solve",
        "2 x 2 pivots",
        lambda rng, d: _factored(rng, d, True, (3,), _PAIRS),
        lambda LD, pivots, b: solve(LD, pivots, b, True),
        {"hermitian": True},
        differentiate=(0, 2),
    ),
    Case(
        "ldl_solve",
        "vector",
        lambda rng, d: _factored(rng, d, columns=()),
        solve,
        differentiate=(0, 2),
        batchable=False,
    ),
    Case(
        "ldl_solve",
        "0 x 0",
        lambda rng, d: (np.zeros((0, 0), d), np.zeros(0, np.int32), np.zeros((0, 2), d)),
        lambda LD, pivots, b: b,
        differentiate=(0, 2),
    ),
]

ERRORS = [
    ("ldl_factor", (np.ones((2, 3)),), {}, ValueError, r"linalgx\.ldl_factor: a must be square .* \(2, 3\)"),
    ("ldl_factor_ex", (np.ones(3),), {}, ValueError, r"linalgx\.ldl_factor_ex: a must have at least two axes"),
    (
        "ldl_solve",
        (np.ones((3, 3)), np.ones(3), np.ones(3)),
        {},
        TypeError,
        r"linalgx\.ldl_solve: pivots must be an array of integers, but its dtype is float64",
    ),
    (
        "ldl_solve",
        (np.ones((3, 3)), np.ones(2, np.int32), np.ones(3)),
        {},
        ValueError,
        r"linalgx\.ldl_solve: pivots must have the shape \(3,\) .* \(2,\)",
    ),
    (
        "ldl_solve",
        (np.ones((3, 3)), np.ones(3, np.int32), np.ones((2, 1))),
        {},
        ValueError,
        "b has 2 rows, but LD is 3 x 3",
    ),
    (
        "ldl_solve",
        (np.ones((2, 3, 3)), np.ones((2, 3), np.int32), np.ones((4, 3, 1))),
        {},
        ValueError,
        "do not broadcast",
    ),
    ("ldl_solve", (np.ones((2, 3)), np.ones(2, np.int32), np.ones(3)), {}, ValueError, "LD must be square"),
]

RULE_INPUTS = {
    "ldl_factor": [
        (lambda rng, d, h=hermitian, base=base: (indefinite(rng, d, h, base),), {"hermitian": hermitian})
        for hermitian in (False, True)
        for base in (_BASE, _PAIRS)
    ],
    "ldl_solve": [
        (lambda rng, d, h=hermitian, base=base: _factored(rng, d, h, base=base), {"hermitian": hermitian})
        for hermitian in (False, True)
        for base in (_BASE, _PAIRS)
    ],
}
