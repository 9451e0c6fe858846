"""Matrices for the table, generated well posed: separated spectra, condition numbers of a few tens."""

from __future__ import annotations

from typing import Any

import numpy as np


def general(rng: np.random.Generator, dtype: str, *shape: int) -> np.ndarray:
    """Independent normal entries, complex if the dtype is."""
    x = rng.standard_normal(shape)
    if np.issubdtype(dtype, np.complexfloating):
        x = (x + 1j * rng.standard_normal(shape)) / np.sqrt(2)
    return x.astype(dtype)


def unitary(rng: np.random.Generator, dtype: str, n: int, columns: int | None = None) -> np.ndarray:
    """Orthonormal columns."""
    wide = np.promote_types(dtype, np.float64)
    return np.linalg.qr(general(rng, str(wide), n, n if columns is None else columns))[0].astype(dtype)


def with_singular_values(rng: np.random.Generator, dtype: str, m: int, n: int, values: Any) -> np.ndarray:
    """An m x n matrix with the given singular values and random singular vectors."""
    values = np.asarray(values, float)
    U, V = unitary(rng, dtype, m), unitary(rng, dtype, n)
    k = len(values)
    return ((U[:, :k] * values) @ V[:, :k].conj().T).astype(dtype)


def well_conditioned(rng: np.random.Generator, dtype: str, m: int, n: int) -> np.ndarray:
    """Full rank, singular values separated between 1 and 3."""
    return with_singular_values(rng, dtype, m, n, np.linspace(3, 1, min(m, n)))


def with_eigenvalues(rng: np.random.Generator, dtype: str, values: Any) -> np.ndarray:
    """A Hermitian matrix with the given eigenvalues and random eigenvectors."""
    values = np.asarray(values, float)
    V = unitary(rng, dtype, len(values))
    A = (V * values) @ V.conj().T
    return (0.5 * (A + A.conj().T)).astype(dtype)


def hermitian(rng: np.random.Generator, dtype: str, n: int) -> np.ndarray:
    """Hermitian, indefinite, eigenvalues separated between -2 and 3."""
    return with_eigenvalues(rng, dtype, np.linspace(-2, 3, n) + 0.1)


def positive_definite(rng: np.random.Generator, dtype: str, n: int) -> np.ndarray:
    """Hermitian positive definite, eigenvalues separated between 1 and 4."""
    return with_eigenvalues(rng, dtype, np.linspace(1, 4, n))


def triangular(rng: np.random.Generator, dtype: str, n: int, upper: bool = False) -> np.ndarray:
    """Triangular with a dominant positive diagonal; the other triangle holds numbers that must not be read."""
    A = 0.3 * general(rng, dtype, n, n)
    A[np.arange(n), np.arange(n)] = np.linspace(1, 2, n)
    other = np.tril(np.full((n, n), 1e3), -1) if upper else np.triu(np.full((n, n), 1e3), 1)
    return (A + other).astype(dtype)


def with_spectrum(rng: np.random.Generator, dtype: str, values: Any) -> np.ndarray:
    """A diagonalisable matrix with the given eigenvalues, and for a real dtype the conjugates of the complex ones."""
    blocks = []
    for value in np.asarray(values, complex):
        if np.issubdtype(dtype, np.complexfloating):
            blocks.append(np.array([[value]]))
        elif value.imag == 0:
            blocks.append(np.array([[value.real]]))
        else:
            blocks.append(np.array([[value.real, value.imag], [-value.imag, value.real]]))
    n = sum(len(block) for block in blocks)
    D = np.zeros((n, n), np.promote_types(dtype, np.float64))
    at = 0
    for block in blocks:
        D[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    S = well_conditioned(rng, str(D.dtype), n, n)
    return (S @ D @ np.linalg.inv(S)).astype(dtype)
