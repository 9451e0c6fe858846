"""The QR decomposition and products of Householder reflections in the table."""

import numpy as np

from tests.operations.case import Case
from tests.operations.inputs import general


def _away_from_jumps(rng, dtype, m, n):
    """Full rank, and no leading entry near zero when its column is reflected: there the sign of its row of R jumps.

    Made of reflections and of R: with 1 / tau = |v|^2 / 2 + iy the leading entry is 1 - tau times that of R.
    """
    k = min(m, n)
    a = general(rng, dtype, m, k).astype(np.result_type(dtype, np.float64))
    tau = np.zeros(k, a.dtype)
    for i in range(k):
        below = a[i + 1 :, i]
        below *= 0.6 / max(np.linalg.norm(below), 0.6)
        if i + 1 < m or np.iscomplexobj(a):
            tau[i] = 2 / (1 + np.linalg.norm(below) ** 2 + (0.3j if np.iscomplexobj(a) else 0))
    R = np.triu(0.4 * general(rng, str(a.dtype), m, n), 1)
    R[np.arange(k), np.arange(k)] = np.linspace(1, 2, k) * rng.choice([-1, 1], k)
    return (_square_product(a, tau) @ R).astype(dtype)


def _reflections(rng, dtype, m, n, k):
    """Householder vectors under numbers that must not be read, and factors of any size: not unitary, one tau is 0."""
    a = (0.5 * general(rng, dtype, m, n)).astype(dtype)
    a = a + np.triu(np.full((m, n), 1e3)).astype(dtype)
    tau = general(rng, dtype, k)
    if k > 1:
        tau[1] = 0
    return a, tau


def _square_product(a, tau):
    """H_1 ... H_k, one reflection at a time."""
    m = a.shape[0]
    Q = np.eye(m, dtype=a.dtype)
    for i, t in enumerate(tau):
        v = np.zeros(m, a.dtype)
        v[i] = 1
        v[i + 1 :] = a[i + 1 :, i]
        Q = Q - t * np.outer(Q @ v, v.conj())
    return Q


def _ormqr(left, transpose):
    def reference(a, tau, c):
        Q = _square_product(a, tau)
        Q = Q.conj().T if transpose else Q
        return Q @ c if left else c @ Q

    return reference


def _geqrf(a):
    h, tau = np.linalg.qr(a, mode="raw")
    return h.T, tau


_SHAPES = {
    "tall": (5, 3),
    "square": (4, 4),
    "wide": (3, 5),
    "column": (3, 1),
    "row": (1, 3),
    "1 x 1": (1, 1),
    "0 x 0": (0, 0),
    "no rows": (0, 3),
    "no columns": (3, 0),
}
_LABELS = {
    "reduced": tuple(_SHAPES),
    "complete": ("tall", "column", "wide", "no columns"),
    "r": ("tall", "wide"),
    "raw": ("tall", "wide"),
}


def _matrix(shape):
    return lambda rng, d: (_away_from_jumps(rng, d, *shape),)


CASES = [
    Case(
        "qr",
        f"{mode} {label}",
        _matrix(_SHAPES[label]),
        lambda a, mode=mode: np.linalg.qr(a, mode=mode),
        {} if mode == "reduced" else {"mode": mode},
    )
    for mode, labels in _LABELS.items()
    for label in labels
] + [
    *(Case("geqrf", label, _matrix(shape), _geqrf) for label, shape in _SHAPES.items() if label != "row"),
    *(
        Case(
            "householder_product",
            label,
            lambda rng, d, shape=shape: _reflections(rng, d, *shape),
            lambda a, tau: _square_product(a, tau)[:, : a.shape[1]],
            differentiate=(0, 1),
        )
        for label, shape in {
            "tall": (5, 3, 3),
            "square": (4, 4, 4),
            "fewer reflections": (4, 3, 2),
            "no reflection": (4, 3, 0),
            "column": (3, 1, 1),
            "0 x 0": (0, 0, 0),
        }.items()
    ),
    *(
        Case(
            "ormqr",
            f"{'left' if left else 'right'}{' adjoint' if transpose else ''} {label}",
            lambda rng, d, left=left, shape=shape: (
                *_reflections(rng, d, *shape),
                general(rng, d, *((shape[0], 2) if left else (2, shape[0]))),
            ),
            _ormqr(left, transpose),
            {"left": left, "transpose": transpose},
            differentiate=(0, 1, 2),
        )
        for left, transpose, label, shape in (
            (True, False, "tall", (5, 3, 3)),
            (True, True, "tall", (4, 2, 2)),
            (False, False, "square", (3, 3, 3)),
            (False, True, "wide", (3, 4, 3)),
            (True, True, "fewer reflections", (4, 3, 2)),
            (False, False, "no reflection", (3, 2, 0)),
        )
    ),
]

ERRORS = [
    ("qr", (np.ones(3),), {}, ValueError, r"linalgx\.qr: a must have at least two axes"),
    ("qr", (np.ones((2, 2)),), {"mode": "full"}, ValueError, r"linalgx\.qr: mode must be one of 'reduced', .*'full'"),
    ("qr", ([[1.0]],), {}, TypeError, r"linalgx\.qr: a must be an array.* jnp\.asarray"),
    ("geqrf", (np.ones(3),), {}, ValueError, r"linalgx\.geqrf: a must have at least two axes"),
    ("householder_product", (np.ones((2, 3)), np.ones(2)), {}, ValueError, "at least as many rows as columns"),
    ("householder_product", (np.ones((3, 2)), np.ones(3)), {}, ValueError, "tau must have at most 2 elements"),
    ("householder_product", (np.ones((3, 2)), np.float64(1)), {}, ValueError, "tau must have at least one axis"),
    ("householder_product", (np.ones((2, 3, 2)), np.ones((3, 2))), {}, ValueError, "do not broadcast"),
    ("ormqr", (np.ones((3, 2)), np.ones(2), np.ones((2, 3))), {}, ValueError, "c must have 3, .* it has 2 rows"),
    ("ormqr", (np.ones((3, 2)), np.ones(2), np.ones((3, 2))), {"left": False}, ValueError, "it has 2 columns"),
    ("ormqr", (np.ones((3, 2)), np.ones(2), np.ones(3)), {}, ValueError, r"ormqr: c must have at least two axes"),
    ("ormqr", (np.ones((3, 2)), np.ones(3), np.ones((3, 1))), {}, ValueError, "tau must have at most 2 elements"),
]

RULE_INPUTS = {
    "qr": [(_matrix(shape), {}) for shape in ((5, 3), (4, 4), (3, 5))],
    "householder_qr": [
        (_matrix(shape), {"full": full})
        for shape, full in (((5, 3), True), ((7, 2), True), ((5, 3), False), ((4, 4), False), ((3, 5), False))
    ],
    "householder_product": [
        (lambda rng, d, shape=shape: _reflections(rng, d, *shape), {}) for shape in ((5, 3, 3), (4, 4, 3))
    ],
    "ormqr": [
        (
            lambda rng, d, left=left: (
                *_reflections(rng, d, 4, 3, 3),
                general(rng, d, *((4, 2) if left else (2, 4))),
            ),
            {"left": left, "adjoint": adjoint},
        )
        for left in (True, False)
        for adjoint in (True, False)
    ],
}
