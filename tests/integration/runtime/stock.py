"""Generate for the prompts on standard input with SGLang's own scheduler, as published."""

import json
import sys


def main() -> None:
    import sglang

    prompts = json.load(sys.stdin)
    with sglang.Engine(
        model_path=sys.argv[1],
        device="cpu",
        attention_backend="torch_native",
        sampling_backend="pytorch",
        dtype="float32",
        max_total_tokens=16384,
        mem_fraction_static=0.3,
        disable_cuda_graph=True,
    ) as engine:
        outputs = engine.generate(
            input_ids=list(prompts.values()),
            sampling_params={"temperature": 0, "max_new_tokens": 12, "ignore_eos": True},
        )
    tokens = [output["output_ids"] for output in outputs]
    print(json.dumps(dict(zip(prompts, tokens, strict=True))))


if __name__ == "__main__":
    main()
