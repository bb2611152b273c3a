"""Llama, as SGLang has it: the architecture of the tiny model."""

from sglang.srt.models.llama import EntryClass

__all__ = ["EntryClass"]
