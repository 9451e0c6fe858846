"""What of a benchmark is measured: the cases that the user named, and the peers that can be measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console

from benchmarks.libraries import measurable


def chosen(names: Iterable[str], only: Sequence[str] | None) -> list[str]:
    """The names that have one of the parts ``only`` in them, or all of them; if there is none, the program ends."""
    names = list(dict.fromkeys(names))
    found = [name for name in names if not only or any(part in name for part in only)]
    if not found:
        raise SystemExit("no case has such a name; the names are " + ", ".join(names))
    return found


def name_skipped(peers: Iterable[str], console: Console) -> list[str]:
    """The peers that cannot be measured here, told to the user."""
    skipped = [peer for peer in peers if not measurable(peer)]
    if skipped:
        console.print(f"not measured: {', '.join(skipped)}")
    return skipped
