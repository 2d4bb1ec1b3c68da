"""How long records wait for others before they are committed together."""

from __future__ import annotations

QUIET_S = 1.0


class BatchLinger:
    """A transaction costs nearly the same for one record as for a hundred, so a batch that is not
    full lingers, as a producer's batches do (`linger.ms`).

    A full batch never waits, nor does the first record after a quiet second: a single order is as
    fast as without lingering.
    """

    def __init__(self, linger_s: float) -> None:
        self._linger_s = linger_s
        self._arrived_at = float("-inf")
        self._due_at: float | None = None  # of the batch that is gathered; None: there is none

    def observe(self, prepared: int, *, has_arrived: bool, now: float) -> None:
        """Note how many records are prepared, and whether some of them have just arrived."""
        if not prepared:
            self._due_at = None
        elif self._due_at is None:
            # The rest of a full batch has waited already.
            is_first = not has_arrived or now - self._arrived_at >= QUIET_S
            self._due_at = now if is_first else now + self._linger_s
        if has_arrived:
            self._arrived_at = now

    def remaining(self, now: float) -> float:
        """Return the seconds until the batch is due; 0 if it is, or if there is none."""
        return 0.0 if self._due_at is None else max(0.0, self._due_at - now)

    def committed(self) -> None:
        """Gather the next batch."""
        self._due_at = None
