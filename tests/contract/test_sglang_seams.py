"""The names and signatures of SGLang that this project builds on. One that is gone fails here."""

import importlib
import inspect
import warnings
from argparse import ArgumentParser
from collections import Counter
from importlib.metadata import entry_points, version
from typing import Any

import pytest

from workers.engine.port import EngineStartError
from workers.runtime.feature_list import FEATURES
from workers.runtime.features import feature_of


def sglang(module: str, name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Any = importlib.import_module(f"sglang.srt.{module}")
    for part in name.split("."):
        found = getattr(found, part)
    return found


def test_the_pinned_version_is_installed() -> None:
    assert version("sglang") == "0.5.23"


@pytest.mark.parametrize(
    ("module", "name", "parameters"),
    [
        ("managers.scheduler", "Scheduler.init_schedule_policy", ["self"]),
        ("managers.scheduler", "Scheduler.get_init_info", ["self"]),
        ("managers.scheduler", "Scheduler.process_input_requests", ["self", "recv_reqs"]),
        ("managers.scheduler", "Scheduler._add_request_to_queue", ["self", "req", "is_retracted"]),
        ("managers.scheduler", "Scheduler._abort_on_queued_limit", ["self", "recv_req"]),
        ("managers.scheduler", "Scheduler.get_new_batch_prefill", ["self", "running_batch"]),
        ("managers.scheduler", "Scheduler.process_batch_result", ["self", "batch", "result"]),
        ("managers.scheduler", "Scheduler.run_batch", ["self", "batch", "pp_proxy_tensors"]),
        ("managers.scheduler", "Scheduler.send_abort_output", ["self", "abort_req", "req"]),
        ("managers.scheduler", "Scheduler.get_output_streamer_class", ["self"]),
        (
            "managers.scheduler_components.output_streamer",
            "SchedulerOutputStreamer.stream_output",
            ["self", "reqs", "return_logprob", "skip_req"],
        ),
        ("managers.scheduler", "Scheduler.get_prefill_adder_class", ["self"]),
        (
            "managers.scheduler",
            "Scheduler.get_num_allocatable_reqs",
            ["self", "running_bs", "beam_width", "running_batch", "num_held_rows"],
        ),
        (
            "managers.schedule_policy",
            "PrefillAdder._get_running_request_total_token_offset",
            ["self", "req"],
        ),
        ("managers.schedule_policy", "PrefillAdder._swa_new_tokens", ["self", "req"]),
        (
            "managers.schedule_policy",
            "PrefillAdder._check_prefill_budget",
            [
                *("self", "req", "extend_input_len", "total_tokens", "swa_host_hit_length"),
                "chunk_limit",
            ],
        ),
        (
            "managers.schedule_policy",
            "PrefillAdder._update_prefill_budget",
            [
                *("self", "prefix_len", "extend_input_len", "max_new_tokens", "retracted_stain"),
                *("mamba_gap_reserve", "request_slot_reserve", "is_chunked_continuation"),
                "replay_len",
            ],
        ),
        ("managers.scheduler", "Scheduler._release_aborted_request", ["self", "req"]),
        ("managers.scheduler", "Scheduler.init_grammar_manager", ["self"]),
        (
            "constrained.base_grammar_backend",
            "BaseGrammarBackend.set_cache",
            ["self", "key", "value"],
        ),
        ("managers.scheduler", "NextBatchPlan", ["batch_to_run", "running_batch"]),
        ("mem_cache.common", "touch_waiting_prefix", ["req", "tree_cache"]),
        ("mem_cache.prefill_budget", "PrefillBudget.remaining_current", None),
        (
            "managers.scheduler",
            "Scheduler.is_fully_idle",
            ["self", "for_health_check", "ignore_waiting"],
        ),
        (
            "managers.schedule_policy",
            "SchedulePolicy.shortest_prefill_chunk_limit",
            ["self", "chunked_req", "waiting_queue", "budget", "page_size"],
        ),
        ("mem_cache.common", "release_kv_cache", ["req", "tree_cache", "checkpoint"]),
        ("managers.schedule_batch", "Req.reset_for_retract", ["self"]),
        ("distributed.communication_op", "attn_cp_tp_broadcast_pyobj", ["data"]),
        ("managers.tokenizer_manager", "TokenizerManager.handle_loop", ["self"]),
        ("managers.tokenizer_manager", "TokenizerManager._handle_abort_req", ["self", "recv_obj"]),
        ("managers.tokenizer_manager", "TokenizerManager.flush_cache", None),
        ("managers.tokenizer_manager", "TokenizerManager.freeze_gc", ["self"]),
        (
            "managers.tokenizer_manager",
            "TokenizerManager._handle_batch_output",
            ["self", "recv_obj"],
        ),
        ("managers.scheduler", "Scheduler.get_internal_state", ["self", "recv_req"]),
        # workers/runtime/cpu_drafts.py:
        ("platforms.interface", "SRTPlatform.get_speculative_worker_cls", ["self", "algorithm"]),
        ("platforms.interface", "SRTPlatform.get_kv_pool_cls", ["self", "kind"]),
        ("mem_cache.memory_pool", "MHATokenToKVPool._init_kv_copy_and_warmup", ["self"]),
        (
            "mem_cache.allocation",
            "assign_req_to_token_pool_func",
            [
                *("req_pool_indices", "req_to_token", "start_offset", "end_offset"),
                *("out_cache_loc", "batch_size"),
            ],
        ),
        ("server_args", "prepare_server_args", ["argv"]),
        ("server_args", "ServerArgs.add_cli_args", ["parser"]),
        (
            "utils.rank_consensus_checker",
            "rank_consensus",
            ["func", "same_params", "same_results", "kwargs"],
        ),
        # tests/benchmarks/gpu/plain_cuda.py:
        ("utils.common", "is_cuda", []),
        ("utils.common", "is_cuda_alike", []),
        ("platforms.cuda", "CudaDeviceMixin", None),
        ("platforms", "_current_platform", None),
        ("utils", "kill_process_tree", None),
        ("utils", "kill_itself_when_parent_died", []),
    ],
)
def test_a_seam_is_as_we_use_it(module: str, name: str, parameters: list[str] | None) -> None:
    seam = sglang(module, name)
    if parameters is not None:
        assert list(inspect.signature(seam).parameters) == parameters


@pytest.mark.parametrize(
    ("module", "function", "words"),
    [
        # The chunk size is read again for every batch, and the prefill in progress is one field.
        (
            "managers.scheduler",
            "Scheduler._get_new_batch_prefill_raw",
            [
                "chunked_prefill_size = self.chunked_prefill_size",
                "running_bs if self.is_mixed_chunk else 0",
                "self.policy.shortest_prefill_chunk_limit(",
                "self.chunked_req.inflight_middle_chunks += 1",
                "self.waiting_queue = [x for x in self.waiting_queue if x not in can_run_set]",
                "new_batch.decoding_reqs = running_batch.reqs",
            ],
        ),
        # Where a request's time went comes with its last output, or why it was dropped.
        (
            "managers.scheduler_components.output_streamer",
            "SchedulerOutputStreamer._stream_output_generation",
            ["if req is skip_req:", "if req.finished() and req.finished_output:"],
        ),
        (
            "managers.scheduler_components.output_streamer",
            "_GenerationStreamAccumulator.accept",
            ["req.finished_reason.to_json() if req.finished_reason else None"],
        ),
        (
            "managers.tokenizer_manager",
            "TokenizerManager._handle_abort_req",
            [
                'recv_obj.abort_message or "Abort in waiting queue"',
                "finish_reason = recv_obj.finished_reason",
            ],
        ),
        # When decodes do not join a batch of prompts.
        (
            "managers.scheduler",
            "Scheduler._get_new_batch_prefill_raw",
            [
                "self.is_mixed_chunk\n            and not running_batch.is_empty()",
                "and not (new_batch.return_logprob or running_batch.return_logprob)",
                "and new_batch.input_embeds is None",
                "and all(r.beam_group is None for r in running_batch.reqs)",
            ],
        ),
        # Beside prompts no drafts are verified.
        (
            "managers.schedule_batch",
            "ScheduleBatch.mix_with_running",
            ["self.forward_mode = ForwardMode.MIXED", "req.extend_end = prefix_len + 1"],
        ),
        # What is not ready is skipped, and a pass without prompts negotiates with other ranks.
        (
            "managers.scheduler",
            "Scheduler._get_new_batch_prefill_raw",
            [
                "not self.can_schedule_lora_req(req, running_loras):\n                continue",
                "len(self.waiting_queue) == 0\n        ) and self.chunked_req is None",
            ],
        ),
        (
            "managers.prefill_delayer",
            "PrefillDelayerSinglePassExecutor.finalize",
            ["self.negotiate_should_allow_prefill(local_prefillable=False)"],
        ),
        # Decodes that run as an extension are told from prompts.
        (
            "managers.schedule_batch",
            "ScheduleBatch.convert_decode_to_extend",
            ["self.decoding_reqs = self.reqs"],
        ),
        (
            "managers.scheduler_components.dp_attn",
            "_update_gather_batch",
            ["batch.global_num_tokens = ", "batch.is_extend_in_batch = "],
        ),
        # A finished chunk is in the radix cache before the next batch is planned.
        (
            "managers.scheduler",
            "Scheduler.get_next_batch_to_run",
            ["self.stash_chunked_request(self.chunked_req)", "self.get_new_batch_prefill("],
        ),
        # Requests that SGLang drops outside a batch pass one place, where the policy learns of it.
        # What expires leaves in the same way.
        (
            "managers.scheduler",
            "Scheduler.abort_request",
            [
                "self._release_aborted_request(req)",
                "self.beam_coordinator.retire_group(req)",
                "self.send_abort_output(",
                "if req.kv.holds_mamba",
            ],
        ),
        # The reason of an abort reaches the client as it was given.
        (
            "managers.tokenizer_manager",
            "TokenizerManager._handle_abort_req",
            ["finish_reason = recv_obj.finished_reason"],
        ),
        ("managers.scheduler", "Scheduler.process_pending_chunked_abort", ["send_abort_output("]),
        ("managers.scheduler", "Scheduler.update_running_batch", ["self.send_abort_output("]),
        # An iteration after a pause does not count the pause.
        ("managers.scheduler", "Scheduler.run_batch", ["batch.after_idle_gap = self._sched_idled"]),
        # What is matched before admission is what admission finds.
        ("mem_cache.common", "match_kv_cache", ["req.num_matched_prefix_tokens = min("]),
        # New and retracted requests are appended, where we look for them.
        (
            "managers.scheduler",
            "Scheduler._add_request_to_queue",
            ["self.waiting_queue.append(req)"],
        ),
        # Compiled grammars are kept in one place, and below it by xgrammar.
        (
            "constrained.grammar_manager",
            "GrammarManager.get_ready_grammar_requests",
            ["self.grammar_backend.set_cache(req.grammar_key, "],
        ),
        (
            "constrained.xgrammar_backend",
            "XGrammarGrammarBackend.__init__",
            [
                "self._tokenizer_info = tokenizer_info",
                "self.grammar_compiler = GrammarCompiler(tokenizer_info=tokenizer_info)",
            ],
        ),
        (
            "constrained.reasoner_grammar_backend",
            "ReasonerGrammarBackend.__init__",
            ["self.grammar_backend = grammar_backend"],
        ),
        # Every turn of the loop sends a heartbeat, which the detokenizer passes on.
        ("managers.scheduler", "Scheduler.ingest_requests", ["self.process_input_requests("]),
        (
            "managers.detokenizer_manager",
            "DetokenizerManager.handle_batch_embedding_out",
            ["return recv_obj"],
        ),
        (
            "managers.tokenizer_manager",
            "TokenizerManager.handle_loop",
            ["await self._handle_batch_output(recv_obj)"],
        ),
        # A manager whose event loop is set leaves running it, and signals, to others.
        (
            "managers.tokenizer_manager",
            "TokenizerManager.auto_create_handle_loop",
            ["if self.event_loop is not None:\n            return"],
        ),
    ],
)
def test_sglang_still_does_what_we_rely_on(module: str, function: str, words: list[str]) -> None:
    source = inspect.getsource(sglang(module, function))
    assert [word for word in words if word not in source] == []


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (["--max-batch-job", "5"], r"did you mean --max-batch-jobs \(of niyama worker\)"),
        (["--tp-sise=2"], r"--tp-sise: did you mean .*--tp-size \(of SGLang\)"),
    ],
)
def test_an_unknown_argument_is_named_before_anything_starts(
    extra: list[str], sentence: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from workers.runtime.engine.arguments import server_arguments
    with pytest.raises(EngineStartError, match=sentence):
        server_arguments("nowhere", extra, "error", ["--max-batch-jobs"])


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (["--schedule-policy", "lpm"], "orders requests by deadline: start without --schedule-pol"),
        (["--enable-priority-scheduling"], "start without --enable-priority-scheduling"),
        (["--pp-size", "2", "--nnodes", "2"], "start with --pp-size 1; .* start with --nnodes 1"),
    ],
)
def test_what_niyama_does_not_schedule_is_refused_before_anything_starts(
    extra: list[str], sentence: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from workers.runtime.engine.arguments import server_arguments
    with pytest.raises(EngineStartError, match=sentence):
        server_arguments("nowhere", extra, "error")


def test_every_argument_of_sglang_belongs_to_one_feature() -> None:
    groups: dict[str, str] = sglang("server_args", "ServerArgs")._NS_BY_FIELD
    assert [name for name, group in groups.items() if feature_of(name, group) is None] == []
    keys = Counter(key for feature in FEATURES for key in (*feature.switches, *feature.options))
    assert [key for key, times in keys.items() if times > 1] == []
    assert [key for key in keys if key not in {*groups, *groups.values()}] == []


def test_what_turns_a_feature_on_is_a_flag_of_sglang() -> None:
    parser = ArgumentParser(add_help=False)
    sglang("server_args", "ServerArgs").add_cli_args(parser)
    flags = [f"--{name.replace('_', '-')}" for each in FEATURES for name in each.switches]
    assert [flag for flag in flags if flag not in parser._option_string_actions] == []


def test_the_beginning_of_an_argument_is_sglangs_to_complete() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from workers.runtime.engine.arguments import server_arguments
    found = server_arguments("nowhere", ["--mem-fraction", "0.25", "--tp-size=2"], "error")
    assert (found.mem_fraction_static, found.tp_size) == (0.25, 2)


@pytest.mark.parametrize(
    ("group", "value"),
    [
        ("sglang.srt.plugins", "workers.runtime.plugin:register"),
        ("sglang.srt.platforms", "workers.runtime.platform:activate"),
    ],
)
def test_sglang_finds_our_entry_points(group: str, value: str) -> None:
    assert value in {entry.value for entry in entry_points(group=group)}
