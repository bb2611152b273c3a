"""Compressed records, and records of transactions that are aborted."""

from tests.chaos.hostile.kinds import HostileRecord, Setting, kind, valid_job
from tests.chaos.journal import Expectation

CODECS = ("gzip", "snappy", "lz4", "zstd")
NO_RUN: frozenset[str] = frozenset()


@kind("compressed")
def _compressed(setting: Setting) -> HostileRecord:
    return valid_job(setting, setting.job(), codec=setting.choose.choice(CODECS))


@kind("aborted-transaction")
def _aborted_transaction(setting: Setting) -> HostileRecord:
    never = Expectation(statuses=NO_RUN)
    return valid_job(setting, setting.job(), aborted=True, expectation=never)
