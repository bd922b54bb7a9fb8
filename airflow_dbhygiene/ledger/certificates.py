"""The certificates of a policy: one chain, in which each names the digest of the one before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_CERTIFICATE = "SELECT policy, number, run_id, name, sha256, previous_sha256 FROM dbhygiene.certificate"


@dataclass(frozen=True)
class Certificate:
    """What the ledger holds of a certificate: its place in the policy's chain, its name in the store, its digest."""

    policy: str
    number: int
    run_id: str
    name: str
    sha256: str
    previous_sha256: str | None


class Certificates:
    """Reads and extends chains in the transaction of the session that it is given."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def lock(self, policy: str) -> None:
        """Keep others from extending the policy's chain until the transaction ends."""
        self._session.execute(
            "SELECT run_id FROM dbhygiene.run WHERE policy = %s ORDER BY planned_at, run_id LIMIT 1 FOR UPDATE",
            (policy,),
        )

    def chain(self, policy: str) -> tuple[Certificate, ...]:
        """Read a policy's certificates, the oldest first."""
        rows = self._session.execute(f"{_CERTIFICATE} WHERE policy = %s ORDER BY number", (policy,))
        return tuple(Certificate(*row) for row in rows)

    def of_run(self, run_id: str) -> tuple[Certificate, ...]:
        """Read a run's certificates, the oldest first; the last one counts."""
        rows = self._session.execute(f"{_CERTIFICATE} WHERE run_id = %s ORDER BY number", (run_id,))
        return tuple(Certificate(*row) for row in rows)

    def last(self, policy: str) -> Certificate | None:
        """Read a policy's latest certificate."""
        rows = self._session.execute(f"{_CERTIFICATE} WHERE policy = %s ORDER BY number DESC LIMIT 1", (policy,))
        return Certificate(*rows[0]) if rows else None

    def extend(self, certificate: Certificate) -> None:
        """Add a certificate to its policy's chain."""
        self._session.execute(
            "INSERT INTO dbhygiene.certificate (policy, number, run_id, name, sha256, previous_sha256)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            (
                certificate.policy, certificate.number, certificate.run_id, certificate.name, certificate.sha256,
                certificate.previous_sha256,
            ),
        )  # fmt: skip
