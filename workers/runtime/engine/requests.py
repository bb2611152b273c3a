"""Requests on their way into SGLang: its own OpenAI translation, and its lengths checked early."""

import os
import secrets
from collections.abc import Mapping
from typing import Any

from jinja2 import TemplateError
from pydantic import BaseModel, ValidationError
from sglang.srt.entrypoints.openai.protocol import ChatCompletionRequest, CompletionRequest
from sglang.srt.entrypoints.openai.serving_chat import OpenAIServingChat
from sglang.srt.entrypoints.openai.serving_completions import OpenAIServingCompletion

from workers.engine.port import GenerationRequest, InvalidRequest, PreparedRequest
from workers.policy.custom_params import to_custom_params
from workers.runtime.engine.limits import TokenLimits
from workers.runtime.messages import TRACEPARENT_KEY

MAX_THREADS = 4
_UNSTREAMED_TOKENS = 32
"""Tokens that one update may combine when nobody watches the stream or measures its gaps."""


class RequestTranslator:
    """Turns requests into SGLang's, through the model's chat template, as its HTTP server would."""

    def __init__(self, tokenizer_manager: Any, template_manager: Any, limits: TokenLimits) -> None:
        self._chat = OpenAIServingChat(tokenizer_manager, template_manager)
        self._completion = OpenAIServingCompletion(tokenizer_manager, template_manager)
        self._tokenizer = tokenizer_manager.tokenizer
        # The first encoding turns off the truncation and the padding that a tokenizer's file may
        # ask for; from then on its settings are only read, which several threads may do.
        self._tokenizer.encode("")
        self._vocabulary_tokens = tokenizer_manager.model_config.vocab_size
        self._limits = limits
        self._samples_by_seed = tokenizer_manager.server_args.enable_deterministic_inference

    @property
    def threads(self) -> int:
        """How many threads may call `prepare` at a time.

        Tokenizers in Rust are safe to share and release the GIL; one in Python may be neither.
        SGLang's translation and the chat templates only read what they were made with.
        """
        if not getattr(self._tokenizer, "is_fast", False):
            return 1
        return min(MAX_THREADS, max(2, len(os.sched_getaffinity(0)) // 2))

    def prepare(self, request: GenerationRequest) -> PreparedRequest:
        """Check and tokenize. Raises InvalidRequest, PromptTooLong."""
        try:
            generate = self._translated(request)
        except (ValueError, TypeError, TemplateError) as error:
            raise InvalidRequest(_sentence(error)) from error
        if generate.input_ids is None:
            generate.input_ids = self._tokenizer.encode(generate.text)
            generate.text = None
        self._check_vocabulary(generate.input_ids)
        prompt_tokens = len(generate.input_ids)
        sampling = generate.sampling_params
        max_tokens = self._limits.max_tokens(prompt_tokens, sampling.get("max_new_tokens"))
        sampling["max_new_tokens"] = max_tokens
        sampling["custom_params"] = to_custom_params(request.qos)
        if request.traceparent is not None:
            sampling["custom_params"][TRACEPARENT_KEY] = request.traceparent
            # For SGLang's own spans, with --enable-trace.
            generate.external_trace_header = {"traceparent": request.traceparent}
        if self._samples_by_seed and sampling.get("sampling_seed") is None:
            # SGLang's default is one seed for everybody: equal prompts would get equal answers.
            sampling["sampling_seed"] = secrets.randbits(63)
        if not request.stream and not request.qos.limits_gaps:
            sampling["stream_interval"] = _UNSTREAMED_TOKENS
        return PreparedRequest(request.request_id, prompt_tokens, max_tokens, generate)

    def _translated(self, request: GenerationRequest) -> Any:
        options = {name: value for name, value in request.sampling.items() if value is not None}
        options |= {"rid": request.request_id, "stream": True}
        if request.messages is not None:
            # The older of OpenAI's two names makes SGLang's form warn for every request.
            options["max_completion_tokens"] = options.pop("max_tokens", None)
            chat = _parsed(ChatCompletionRequest, options | {"messages": request.messages})
            return self._chat._convert_to_internal_request(chat)[0]
        prompt = request.prompt if request.input_ids is None else list(request.input_ids)
        if not prompt:
            raise ValueError("give one of messages, prompt and input_ids, and not an empty one")
        options = _completion_logprobs(options) | {"prompt": prompt}
        completion = _parsed(CompletionRequest, options)
        return self._completion._convert_to_internal_request(completion)[0]

    def _check_vocabulary(self, input_ids: list[int]) -> None:
        wrong = next((i for i in input_ids if not 0 <= i < self._vocabulary_tokens), None)
        if wrong is not None:
            raise InvalidRequest(
                f"input_ids has {wrong}; the model's token ids are 0 to "
                f"{self._vocabulary_tokens - 1}"
            )


def _parsed(form: type[BaseModel], options: Mapping[str, Any]) -> BaseModel:
    if unknown := sorted(options.keys() - form.model_fields.keys()):
        raise ValueError(f"unknown options: {', '.join(unknown)}")
    return form.model_validate(options)


def _completion_logprobs(options: Mapping[str, Any]) -> dict[str, Any]:
    """Chat says `logprobs` and `top_logprobs`; completions say both in one number."""
    rest = {name: value for name, value in options.items() if "logprobs" not in name}
    return rest | {"logprobs": options.get("top_logprobs", 0)} if options.get("logprobs") else rest


def _sentence(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
