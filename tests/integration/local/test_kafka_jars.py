"""Fetching Kafka."""

import asyncio
from pathlib import Path

import pytest

from niyama.local import kafka_jars as kafka_jars_module
from niyama.local.errors import LocalStackError
from niyama.local.kafka_jars import kafka_jars


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "niyama"


async def test_two_clones_that_fetch_at_once_end_with_one_copy(cache: Path) -> None:
    one, other = await asyncio.gather(kafka_jars(), kafka_jars())
    assert one == other
    assert "kafka-server-4.3.1.jar" in {jar.name for jar in one}
    assert [folder.name for folder in cache.iterdir()] == ["kafka-4.3.1"]


async def test_what_maven_says_is_shown_and_nothing_half_done_is_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = kafka_jars_module.POM.replace("log4j-slf4j-impl", "no-such-artifact")
    monkeypatch.setattr(kafka_jars_module, "POM", wrong)
    with pytest.raises(LocalStackError, match=r"check the network(.|\n)*no-such-artifact") as e:
        await kafka_jars()
    assert "NIYAMA_KAFKA_BOOTSTRAP" in str(e.value)
    assert list(cache.iterdir()) == []


async def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(LocalStackError, match=r"cannot write Kafka's jars in .*file"):
        await kafka_jars()
