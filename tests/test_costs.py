"""No backward pass does more large operations than jax.numpy.linalg's own: `python -m benchmarks costs`, as a test."""

import pytest

from benchmarks import costs

PAIRS = costs.pairs()


@pytest.mark.optimized
@pytest.mark.parametrize("name", PAIRS)
def test_backward_pass(name: str) -> None:
    ours, theirs, args = PAIRS[name]
    (our_residuals, our_counts), (their_residuals, their_counts) = (costs.backward(f, args) for f in (ours, theirs))
    # a product and a triangular solve of the same size cost about the same
    assert our_counts["products"] + our_counts["solves"] <= their_counts["products"] + their_counts["solves"]
    assert our_counts["factorisations"] <= their_counts["factorisations"]
    assert our_residuals <= their_residuals
