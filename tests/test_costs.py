"""No backward pass does more large operations than jax.numpy.linalg's own, and hardly one takes more memory.

`python -m benchmarks costs` and `memory`, as tests.
"""

import pytest

from benchmarks import costs, memory

PAIRS = costs.pairs()
LARGER_PAIRS = costs.pairs(128)


@pytest.mark.optimized
@pytest.mark.parametrize("name", PAIRS)
def test_backward_pass(name: str) -> None:
    ours, theirs, args = PAIRS[name]
    (our_residuals, our_counts), (their_residuals, their_counts) = (costs.backward(f, args) for f in (ours, theirs))
    # a product and a triangular solve of the same size cost about the same
    assert our_counts["products"] + our_counts["solves"] <= their_counts["products"] + their_counts["solves"]
    assert our_counts["factorisations"] <= their_counts["factorisations"]
    assert our_residuals <= their_residuals


@pytest.mark.optimized
@pytest.mark.parametrize("name", LARGER_PAIRS)
def test_peak_temporaries(name: str) -> None:
    ours, theirs, args = LARGER_PAIRS[name]
    # vectors and flags, beside the matrices; of badly scaled matrices the adjugate takes exponents, too
    vectors = (0.05 if name == "det" else 0.02) * args[0].nbytes
    assert memory.temporaries(ours, args) <= memory.temporaries(theirs, args) + vectors
