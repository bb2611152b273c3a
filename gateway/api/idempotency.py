"""From an `Idempotency-Key` to a job's id: the same at every gateway, and nobody else's guess.

The id is derived with a secret that the gateways share. Somebody who knows a key, but not the
secret, cannot publish a record with the id of its job.
"""

import hashlib
import hmac
import json
from uuid import UUID

from pydantic import SecretStr

from gateway.ledger.queries import Ledger


class IdempotencyKeys:
    """Uses the operator's secret, or else one that the gateways keep in Postgres."""

    def __init__(self, secret: SecretStr | None, ledger: Ledger) -> None:
        self._secret = secret.get_secret_value().encode() if secret else None
        self._ledger = ledger

    async def job_id(self, tenant: str, key: str) -> UUID:
        """The id of the job that `tenant` submits with `key`.

        Raises one of `database.UNREACHABLE` while the secret has not been read and Postgres does
        not answer.
        """
        if self._secret is None:
            self._secret = await self._ledger.idempotency_secret()
        message = json.dumps([tenant, key]).encode()
        digest = hmac.digest(self._secret, message, hashlib.sha256)
        return UUID(bytes=digest[:16], version=4)  # to anybody else it is a random number
