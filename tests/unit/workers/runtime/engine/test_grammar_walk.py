"""What a grammar costs for each token is found by generating some."""

import itertools
import json
import math
from typing import Any

import pytest
from xgrammar import GrammarCompiler, TokenizerInfo

from workers.runtime.engine.grammar_walk import GrammarWalk

PLAIN = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}


def _anything_in_anything(kinds: int) -> dict[str, Any]:
    """Arrays that may hold arrays of each other kind: all look alike."""
    arrays = [{"type": "array", "items": {"$ref": f"#/$defs/{kind}"}} for kind in range(kinds)]
    return {"$defs": {str(kind): {"anyOf": arrays} for kind in range(kinds)}, "$ref": "#/$defs/0"}


@pytest.fixture(scope="module")
def info() -> TokenizerInfo:
    characters = b'[]{}",: abcdefghij0123456789'
    tokens = [bytes(token) for n in (1, 2, 3) for token in itertools.product(characters, repeat=n)]
    tokens = tokens[:5_000]
    return TokenizerInfo([*tokens, b"<eos>"], stop_token_ids=[len(tokens)])


def _slowest_s(info: TokenizerInfo, schema: dict[str, Any]) -> float:
    grammar = GrammarCompiler(info, max_threads=1).compile_json_schema(json.dumps(schema))
    return GrammarWalk(info).slowest_token_s(grammar, math.inf)


def test_an_ambiguous_grammar_costs_many_times_what_a_plain_one_does(info: TokenizerInfo) -> None:
    assert _slowest_s(info, _anything_in_anything(8)) > 20 * _slowest_s(info, PLAIN)


@pytest.mark.parametrize(
    "schema", [PLAIN, {}, {"enum": [1, "a"]}, {"type": "string", "maxLength": 1}], ids=json.dumps
)
def test_it_ends_where_the_text_ends(info: TokenizerInfo, schema: dict[str, Any]) -> None:
    assert 0 < _slowest_s(info, schema) < math.inf
