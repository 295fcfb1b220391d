"""PyTorch and transformers on the shapes and requests that policies.ts --dry wrote: random bf16 weights, greedy.

static      generate() on batches of `rows` requests in order of arrival, padded on the left; ends with the longest
continuous  transformers' own continuous batching, with as many rows; reported as absent where the version has none

Times are the host's, with the device waited for. Only tokens that were asked for count, and no end token ends a
request. The results go to --json, which is whole after every one of them.
"""

import argparse
import json
import time

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

parser = argparse.ArgumentParser()
parser.add_argument("--plan", required=True)
parser.add_argument("--json", required=True)
parser.add_argument("--seconds", type=float, default=120)
parser.add_argument("--device", default="cuda")
flags = parser.parse_args()

WARM_TOKENS = 8
BLOCK_TOKENS = 256
STEP_PROMPT_TOKENS = 2048  # in one step beside one for each row; as many as ours

end = time.perf_counter() + flags.seconds
plan = json.load(open(flags.plan))
rows = plan["rows"]
version = f"torch {torch.__version__}, transformers {transformers.__version__}"
results = []


def note(result):
    results.append(result)
    with open(flags.json, "w") as file:
        json.dump({"results": results}, file)
    print(json.dumps(result), flush=True)


def now():
    if flags.device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def distribution(values):
    values = sorted(values)
    at = lambda share: values[min(len(values) - 1, int(share * len(values)))] if values else 0
    return {"mean": sum(values) / max(1, len(values)), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99)}


def greedy(**options):
    return GenerationConfig(do_sample=False, use_cache=True, pad_token_id=0, **options)


def run_static(model, prompts, outputs, limit):
    """Whole batches until `limit`, and at least one: how many requests, tokens and seconds they took."""

    def run_batch(batch, count):
        width = max(map(len, batch))
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in batch], device=flags.device)
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in batch], device=flags.device)
        model.generate(ids, attention_mask=mask, generation_config=greedy(max_new_tokens=count, eos_token_id=None))

    run_batch(prompts[:rows], WARM_TOKENS)
    begin = now()
    done = 0
    while done < len(prompts) and (done == 0 or time.perf_counter() < limit):
        wanted = outputs[done : done + rows]
        run_batch(prompts[done : done + rows], max(wanted))
        done += len(wanted)
    seconds = now() - begin
    attention = model.config._attn_implementation
    return {"attention": attention, "requests": done, "tokens": sum(outputs[:done]), "seconds": seconds}


def run_continuous(model, prompts, outputs, limit):
    """All requests at once, each of its own length, until `limit`. Those that have not ended by then do not count."""
    from transformers import ContinuousBatchingConfig

    blocks = rows * (-(-plan["context"] // BLOCK_TOKENS) + 1)  # room for all rows at full context
    sizes = {"block_size": BLOCK_TOKENS, "num_blocks": blocks, "max_batch_tokens": rows + STEP_PROMPT_TOKENS}
    config = ContinuousBatchingConfig(max_requests_per_batch=rows, **sizes)
    generation = greedy(max_new_tokens=max(outputs), eos_token_id=-1)
    with model.continuous_batching_context_manager(generation, continuous_batching_config=config, timeout=5) as manager:

        def run_all(some, counts):
            for prompt, count in zip(some, counts):
                manager.add_request(prompt, max_new_tokens=count, record_timestamps=True, eos_token_id=-1)
            ended = []
            while len(ended) < len(some) and time.perf_counter() < limit and manager.is_running():
                result = manager.get_result(timeout=0.1)
                if result is None or not result.is_finished():
                    continue
                if result.error is not None:
                    raise RuntimeError(result.error)
                ended.append(result)
            return ended

        run_all(prompts[:rows], [WARM_TOKENS] * rows)
        begin = now()
        ended = run_all(prompts, outputs)
        seconds = now() - begin
        attention = model.config._attn_implementation
        if len(ended) < len(prompts):
            manager.stop(block=True, timeout=5, hard_stop=True)
    stamps = [result.timestamps for result in ended if result.timestamps]
    return {
        "attention": attention,
        "requests": len(ended),
        "tokens": sum(len(result.generated_tokens) for result in ended),
        "seconds": seconds,
        "ttftMs": distribution([1000 * (one[0] - begin) for one in stamps]),
        "itlMs": distribution([1000 * (b - a) for one in stamps for a, b in zip(one, one[1:])]),
    }


CONTENDERS = {"transformers static": run_static, "transformers continuous": run_continuous}


def compete(model, shape, prompts_of, shares):
    """Each contender on each workload gets an equal share of what is left of the time."""
    for workload, (prompts, outputs) in prompts_of.items():
        for contender, run in CONTENDERS.items():
            result = {"contender": contender, "version": version, "shape": shape, "workload": workload, "rows": rows}
            limit = time.perf_counter() + (end - time.perf_counter()) / shares
            shares -= 1
            if contender.endswith("continuous") and not hasattr(model, "continuous_batching_context_manager"):
                note({**result, "absent": f"transformers {transformers.__version__} has no continuous batching"})
                continue
            if time.perf_counter() >= end:
                note({**result, "absent": "the time is over"})
                continue
            try:
                found = run(model, prompts, outputs, limit)
            except Exception as error:  # of a contender: the others go on
                note({**result, "absent": f"{type(error).__name__}: {error}"})
                continue
            tokens = found.pop("tokens")
            cut = found["requests"] < len(prompts)
            note({**result, "cut": cut, **found, "outputTokensPerSecond": tokens / found["seconds"]})
    return shares


shares = len(plan["shapes"]) * len(plan["workloads"]) * len(CONTENDERS)
for shape, config in plan["shapes"].items():
    torch.manual_seed(plan["seed"])
    with torch.device(flags.device):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.bfloat16).eval()
    draws = {
        name: [(torch.randint(config["vocab_size"], (prompt,)).tolist(), output) for prompt, output in lengths]
        for name, lengths in plan["workloads"].items()
    }
    with torch.no_grad():
        shares = compete(model, shape, {name: tuple(zip(*pairs)) for name, pairs in draws.items()}, shares)
    del model
    if flags.device.startswith("cuda"):
        torch.cuda.empty_cache()
