"""Apache Kafka itself, as published on Maven Central, in a cache shared by every stack."""

import asyncio
import logging
import shutil
import tempfile
from pathlib import Path

from niyama.local.errors import LocalStackError
from niyama.local.folders import cache_dir, make_dir, publish
from niyama.local.java import OTHER_BROKER, java, maven
from niyama.local.process import run_to_end

log = logging.getLogger(__name__)

KAFKA_VERSION = "4.3.1"
LOG4J_VERSION = "2.25.4"
COPY_DEPENDENCIES = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
FETCH_TIMEOUT_S = 600.0
POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>niyama</groupId>
  <artifactId>local-kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>{LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""


async def kafka_jars() -> list[Path]:
    """The broker's jars, fetched by Maven the first time.

    Several processes may fetch at the same time: each uses a folder of its own, and the first to
    finish wins. Raises LocalStackError when Maven is missing or fails.
    """
    final = cache_dir() / f"kafka-{KAFKA_VERSION}"
    if not final.is_dir():
        await _fetch_into(final)
    return sorted(final.glob("*.jar"))


async def _fetch_into(final: Path) -> None:
    executable, jvm = await asyncio.to_thread(lambda: (maven(), java()))
    parent = make_dir(final.parent, purpose="Kafka's jars")
    with tempfile.TemporaryDirectory(prefix=f"{final.name}.", dir=parent) as folder:
        log.warning("fetching Apache Kafka %s (44 MB, once)", KAFKA_VERSION)
        await _run_maven(executable, jvm.resolve().parent.parent, Path(folder))
        publish(Path(folder) / "jars", final)


async def _run_maven(executable: str, java_home: Path, folder: Path) -> None:
    (folder / "pom.xml").write_text(POM)
    goal = [COPY_DEPENDENCIES, "-DincludeScope=runtime", "-DoutputDirectory=jars"]
    try:
        await run_to_end(
            "Maven",
            [executable, "-B", "-q", "-Dstyle.color=never", "--strict-checksums", *goal],
            log_path=folder / "maven.log",
            cwd=folder,
            env={"JAVA_HOME": str(java_home)},
            timeout_s=FETCH_TIMEOUT_S,
        )
    except LocalStackError as error:
        free_mib = shutil.disk_usage(folder).free // 2**20
        raise LocalStackError(
            f"Kafka could not be fetched into {folder.parent} ({free_mib} MiB free): check the "
            f"network and the disk, {OTHER_BROKER}. {error}"
        ) from error
