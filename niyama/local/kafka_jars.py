"""Apache Kafka itself, as published on Maven Central, in a cache shared by every stack."""

import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from niyama.local.errors import LocalStackError
from niyama.local.folders import cache_dir, make_dir
from niyama.local.java import OTHER_BROKER, java, maven

log = logging.getLogger(__name__)

KAFKA_VERSION = "4.3.1"
LOG4J_VERSION = "2.25.4"
FETCH_TIMEOUT_S = 600
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


def kafka_jars() -> list[Path]:
    """The broker's jars, fetched by Maven the first time.

    Several processes may ask at once: each fetches into a folder of its own, and the first to
    finish wins. Raises LocalStackError when Maven is missing or fails.
    """
    final = cache_dir() / f"kafka-{KAFKA_VERSION}"
    if not final.is_dir():
        _fetch_into(final)
    return sorted(final.glob("*.jar"))


def _fetch_into(final: Path) -> None:
    executable, java_home = maven(), java().resolve().parent.parent
    parent = make_dir(final.parent, purpose="Kafka's jars")
    with tempfile.TemporaryDirectory(prefix=f"{final.name}.", dir=parent) as folder:
        log.warning("fetching Apache Kafka %s (44 MB, once)", KAFKA_VERSION)
        fetched = Path(folder) / "jars"
        _run_maven(executable, java_home, Path(folder) / "pom.xml", fetched)
        try:
            fetched.rename(final)
        except OSError:
            if not final.is_dir():  # otherwise another process was faster
                raise


def _run_maven(executable: str, java_home: Path, pom: Path, output: Path) -> None:
    pom.write_text(POM)
    command = [executable, "-B", "-q", "--strict-checksums", "-f", str(pom)]
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={output}"]
    try:
        done = subprocess.run(
            [*command, *goal],
            env={**os.environ, "JAVA_HOME": str(java_home)},
            capture_output=True,
            text=True,
            timeout=FETCH_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LocalStackError(
            f"Maven did not fetch Kafka in {FETCH_TIMEOUT_S} s: check the network, {OTHER_BROKER}"
        ) from None
    if done.returncode != 0:
        shown = "\n".join(done.stdout.splitlines()[:12])
        free_mib = shutil.disk_usage(pom.parent).free // 2**20
        raise LocalStackError(
            f"Maven could not fetch Kafka into {pom.parent.parent} ({free_mib} MiB free); "
            f"check the network and the disk, {OTHER_BROKER}. It said:\n{shown}"
        )
