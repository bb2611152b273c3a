"""SGLang's features, each with what Niyama makes of it: an allow-list.

Every argument of SGLang's server belongs to one of them; a contract test says so of the version
that is pinned.
"""

from workers.runtime.feature import Feature, Support

_TESTED = (
    Feature(
        "Chunked prefill",
        Support.TESTED,
        "The plan sizes every chunk, up to `--chunked-prefill-size`.",
        options=("chunked_prefill_size", "max_prefill_tokens", "disable_chunked_prefix_cache"),
        otherwise="always on",
    ),
    Feature(
        "Mixed chunks",
        Support.TESTED,
        "Decodes run beside prompts. Without mixed chunks the two take turns, by slack.",
        switches=("enable_mixed_chunk",),
    ),
    Feature(
        "Log probabilities",
        Support.TESTED,
        "Decodes take turns with prompts while a request wants them.",
        otherwise="a request",
    ),
    Feature(
        "Overlapped schedule, or none",
        Support.TESTED,
        "Each plan is made for the end of the iteration that is running.",
        options=("disable_overlap_schedule", "num_continuous_decode_steps"),
        otherwise="on, unless `--disable-overlap-schedule`",
    ),
    Feature(
        "Prefix cache",
        Support.TESTED,
        "What it holds of a prompt is no work. Without it prompts are not parked.",
        options=(
            *("disable_radix_cache", "radix_eviction_policy", "radix_eviction_policy_config"),
            *("_radix_eviction_policy_explicitly_set", "page_size", "c128_page_size"),
        ),
        otherwise="on, unless `--disable-radix-cache`",
    ),
    Feature(
        "Tensor parallelism",
        Support.TESTED,
        "All ranks plan by the first one's clock and measurements.",
        switches=("tp_size",),
        options=(
            *("nccl_port", "dist_timeout", "dist_init_addr", "gated_launch_port"),
            *("enable_p2p_check", "enable_layernorm_sp", "pp_max_micro_batch_size"),
        ),
    ),
    Feature(
        "Speculative decoding",
        Support.TESTED,
        "Drafts are verified in iterations without prompts. Plans expect the tokens that steps have"
        " yielded, and a draft as long as the longest. Tested with n-gram drafts on the CPU, where"
        " SGLang has no overlap then.",
        switches=("speculative_algorithm",),
        options=("spec",),
    ),
    Feature(
        "Structured output, reasoning and tool-call parsers, chat templates",
        Support.TESTED,
        "They do not concern the plan.",
        options=("serving", "observability"),
        otherwise="a request",
    ),
    Feature(
        "Models, quantization, kernels, CUDA graphs",
        Support.TESTED,
        "They do not concern the plan: what an iteration takes is measured.",
        options=(
            *("device", "model", "exec.kernel", "exec.graph", "exec.comm", "exec.offload"),
            *("exec.features", "exec.deterministic", "enable_page_major_kv_layout"),
        ),
        otherwise="always on",
    ),
    Feature(
        "Limits of memory and of requests",
        Support.TESTED,
        "Plans keep to them; what SGLang takes back is planned again. How much memory answers will"
        " need is the plan's estimate: `--schedule-conservativeness` concerns only requests with"
        " `ignore_eos` where there is no prefix cache.",
        options=(
            *("mem_fraction_static", "max_total_tokens", "max_running_requests"),
            *("max_queued_requests", "schedule_conservativeness", "retraction_policy"),
        ),
        otherwise="always on",
    ),
)

_UNPLANNED = (
    Feature(
        "Beams, input embeddings",
        Support.UNPLANNED,
        "Decodes take turns with prompts; a beam counts as one decode.",
        otherwise="a request",
    ),
    Feature(
        "LoRA",
        Support.UNPLANNED,
        "Requests whose adapter has no room are skipped; loading one is not foreseen.",
        switches=("enable_lora", "lora_paths"),
        options=("lora",),
    ),
    Feature(
        "Hierarchical and external KV caches",
        Support.UNPLANNED,
        "Requests whose prefix is on its way are skipped. What a parked or retracted request loses"
        " to others is found again where SGLang has written it back; the time to load it is not"
        " foreseen. Tested with stand-ins only: SGLang's host memory takes CUDA's runtime.",
        switches=(
            *("enable_hierarchical_cache", "hicache_storage_backend", "enable_lmcache"),
            *("enable_flexkv", "enable_unified_cache_external_linker", "radix_cache_backend"),
        ),
        options=(
            *("hicache_host_memory_mode", "hicache_ratio", "hicache_size", "hicache_write_policy"),
            *("hicache_io_backend", "hicache_mem_layout", "hicache_storage_prefetch_policy"),
            *(
                "hicache_storage_backend_extra_config",
                "hicache_storage_prefetch_retry_poll_interval",
            ),
            *("hicache_storage_prefetch_retry_max_attempts", "hicache_host_memory_fraction"),
            *("unified_cache_external_linker_backend", "unified_cache_external_linker_config"),
            *("enable_linker_mla_dedup", "lmcache_config_file", "flexkv_config_file"),
        ),
    ),
    Feature(
        "Sessions",
        Support.UNPLANNED,
        "What a session holds counts as work, and its prompts are not parked.",
        switches=("enable_streaming_session", "enable_session_radix_cache"),
        otherwise="a request",
    ),
    Feature(
        "Multimodal input",
        Support.UNPLANNED,
        "The time of the encoder is not foreseen.",
        switches=("enable_multimodal",),
        options=("mm",),
        otherwise="a model",
    ),
    Feature(
        "Sliding windows, state-space models",
        Support.UNPLANNED,
        "Plans count KV as if every layer kept all of it.",
        switches=("max_mamba_cache_size", "swa_prefix_tails", "enable_unified_memory"),
        options=(
            *("exec.mamba", "mamba_full_memory_ratio", "swa_full_tokens_ratio"),
            *("_swa_full_tokens_ratio_explicitly_set", "disable_hybrid_swa_memory"),
        ),
        otherwise="a model",
    ),
    Feature(
        "Data parallelism, with attention or without",
        Support.UNPLANNED,
        "Each replica plans for itself; requests are distributed without regard to deadlines.",
        switches=("dp_size", "attn_dp_size", "enable_dp_attention"),
        options=(
            *("load_balance_method", "enable_dp_attention_local_control_broadcast"),
            *("enable_dp_lm_head", "enable_tp_lm_head_all_to_all", "moe_dense_tp_size"),
            *("enable_attn_tp_input_scattered", "disable_attn_tp_gather"),
            *("enable_dense_mlp_attn_tp", "enable_shared_experts_attn_tp"),
            "shared_experts_tp_size",
        ),
    ),
    Feature(
        "Expert parallelism, overlapped batches",
        Support.UNPLANNED,
        "What an iteration takes is measured, whichever experts it needs.",
        switches=("ep_size", "enable_two_batch_overlap", "enable_single_batch_overlap"),
        options=("exec.moe", "exec.overlap", "moe_dp_size", "enable_megamoe_for_layernorm_sp"),
    ),
    Feature(
        "SGLang's delays of prompts",
        Support.UNPLANNED,
        "A prompt that SGLang holds back is planned again.",
        switches=(
            *("enable_prefill_delayer", "min_free_slots_delay", "prefill_decode_interval"),
            "prefill_max_requests",
        ),
        options=(
            *("prefill_delayer_max_delay_passes", "prefill_delayer_token_usage_low_watermark"),
            *("prefill_delayer_forward_passes_buckets", "prefill_delayer_wait_seconds_buckets"),
            *("prefill_delayer_queue_min_ratio", "prefill_delayer_max_delay_ms"),
            "prefill_decode_interval_min_bs",
        ),
    ),
    Feature(
        "Requests read less often",
        Support.UNPLANNED,
        "An arrival is known later.",
        switches=("scheduler_recv_interval",),
    ),
)

_REFUSED = (
    Feature(
        "Another order of requests",
        Support.REFUSED,
        "Niyama orders requests by deadline: start without --schedule-policy",
        switches=("schedule_policy",),
    ),
    Feature(
        "SGLang's priorities",
        Support.REFUSED,
        "Niyama orders requests by deadline: start without --enable-priority-scheduling",
        switches=("enable_priority_scheduling",),
        options=(
            *("disable_priority_preemption", "default_priority_value"),
            *("abort_on_priority_when_disabled", "schedule_low_priority_values_first"),
            "priority_scheduling_preemption_threshold",
        ),
    ),
    Feature(
        "Disaggregated prefill and decode, or encoders",
        Support.REFUSED,
        "Niyama does not schedule disaggregated prefill and decode: "
        "start without --disaggregation-mode and --encoder-only",
        switches=("disaggregation_mode", "encoder_only", "language_only"),
        options=("disagg",),
    ),
    Feature(
        "Multiplexed prefill and decode",
        Support.REFUSED,
        "Niyama does not schedule multiplexed prefill and decode: start without --enable-pdmux",
        switches=("enable_pdmux",),
        options=("pdmux_config_path", "sm_group_num"),
    ),
    Feature(
        "Draft models in processes of their own",
        Support.REFUSED,
        "Niyama does not schedule decoupled speculation: start without --decoupled-spec-role",
        switches=("decoupled_spec_role",),
    ),
    Feature(
        "Pipelines",
        Support.REFUSED,
        "Niyama does not schedule pipelines: start with --pp-size 1",
        switches=("pp_size", "enable_dynamic_chunking"),
        options=("pp_async_batch_depth",),
    ),
    Feature(
        "Context parallelism, sharded KV",
        Support.REFUSED,
        "Niyama does not schedule context parallelism: start with --attn-cp-size 1 and "
        "--dcp-size 1, without --enable-prefill-cp and --enable-kv-cache-sharding",
        switches=("attn_cp_size", "dcp_size", "enable_prefill_cp", "enable_kv_cache_sharding"),
        options=(
            *("dcp_comm_backend", "dcp_replicate_q_proj", "cp_strategy"),
            *("enable_dsa_cache_layer_split", "enable_cp_decode_attn_tp"),
            "enable_cp_tp_group_sharing",
        ),
    ),
    Feature(
        "Ranks on several machines, or that come and go",
        Support.REFUSED,
        "Niyama schedules one machine, whose ranks stay: start with --nnodes 1 and --dwdp-size 1, "
        "without --elastic-ep-backend and --use-ray",
        switches=("nnodes", "node_rank", "dwdp_size", "elastic_ep_backend", "use_ray"),
        options=("max_ep_size", "ep_join_rank_offset", "elastic_ep_initial_size"),
    ),
    Feature(
        "Sparse KV on the host (HiSparse)",
        Support.REFUSED,
        "Niyama does not schedule HiSparse: start without --enable-hisparse",
        switches=("enable_hisparse",),
        options=("hisparse_config",),
    ),
    Feature(
        "Diffusion language models",
        Support.REFUSED,
        "Niyama does not schedule diffusion language models: start without --dllm-algorithm",
        switches=("dllm_algorithm",),
        options=("exec.dllm",),
    ),
    Feature(
        "Embedding models",
        Support.REFUSED,
        "Niyama schedules generation: start without --is-embedding",
        switches=("is_embedding", "prefill_only_disable_kv_cache"),
    ),
)

FEATURES = _TESTED + _UNPLANNED + _REFUSED
