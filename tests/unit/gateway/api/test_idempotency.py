"""Ids from idempotency keys."""

from itertools import product

import pytest
from pydantic import SecretStr

from gateway.api.idempotency import IdempotencyKeys
from gateway.ledger.queries import Ledger
from gateway.settings import GatewaySettings
from niyama.errors import ConfigurationError


class SecretInPostgres(Ledger):
    """A Postgres that does not answer at first."""

    def __init__(self) -> None:
        self.away = True
        self.reads = 0

    async def idempotency_secret(self) -> bytes:
        if self.away:
            raise ConnectionRefusedError
        self.reads += 1
        return b"made by a gateway"


@pytest.fixture
def postgres() -> SecretInPostgres:
    return SecretInPostgres()


async def test_a_key_gives_one_id_at_every_gateway_with_the_secret(
    postgres: SecretInPostgres,
) -> None:
    secret, another = SecretStr("known to gateways"), SecretStr("known to somebody")
    first, second, outsider = (
        IdempotencyKeys(each, postgres) for each in (secret, secret, another)
    )

    job_id = await first.job_id("acme", "order 17")

    assert await second.job_id("acme", "order 17") == job_id
    assert await outsider.job_id("acme", "order 17") != job_id
    assert (job_id.version, postgres.reads) == (4, 0)


async def test_tenants_and_keys_cannot_be_mixed_up(postgres: SecretInPostgres) -> None:
    keys = IdempotencyKeys(SecretStr("known to gateways"), postgres)
    names = ("a", "a\n", "a\nb", "b", "\nb", 'a","b')

    ids = {await keys.job_id(tenant, key) for tenant, key in product(names, names)}

    assert len(ids) == len(names) ** 2


async def test_the_shared_secret_is_read_once_postgres_answers(postgres: SecretInPostgres) -> None:
    keys = IdempotencyKeys(None, postgres)
    with pytest.raises(ConnectionRefusedError):
        await keys.job_id("acme", "order 17")
    postgres.away = False

    assert await keys.job_id("acme", "a") != await keys.job_id("acme", "b")
    assert postgres.reads == 1


def test_a_short_secret_is_refused_without_repeating_it() -> None:
    with pytest.raises(ConfigurationError, match="--idempotency-secret") as caught:
        GatewaySettings.from_command_line(["--idempotency-secret=hunter2"], "niyama gateway")
    assert "hunter2" not in str(caught.value)
