"""Hugging Face transformers as a contender: python3 transformers_peer.py, orders as lines of JSON on stdin.

The first line is the setting: {"model", "device", "mode": "generate" | "continuous", "concurrency", "context",
"requests": [{"prompt": [ids], "outputTokens"}], "warmUp": the same}; the answer {"version"}. Each further line is a
round, the same work every time; the answer {"ms", "ttftMs", "outputTokens"}. An error ends the process with its trace
on stderr.
"""

import json
import sys
import time

BLOCK_TOKENS = 256
STEP_PROMPT_TOKENS = 2048  # in one step, beside one token of each request: as many as ours on a GPU


def generate(torch, model, concurrency, requests):
    """Static batches in order of arrival: padded on the left, and as long as the longest of them."""
    from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

    class FirstToken(StoppingCriteria):
        at = None

        def __call__(self, input_ids, scores, **kwargs):
            if self.at is None:
                input_ids[0, -1].item()  # waits for the device
                self.at = time.perf_counter()
            return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

    begin = time.perf_counter()
    ttft_ms, output_tokens = [], []
    for first in range(0, len(requests), concurrency):
        batch = requests[first : first + concurrency]
        width = max(len(one["prompt"]) for one in batch)
        most = max(one["outputTokens"] for one in batch)
        pads = [width - len(one["prompt"]) for one in batch]
        ids = torch.tensor([[0] * pad + one["prompt"] for pad, one in zip(pads, batch)], device=model.device)
        mask = torch.tensor([[0] * pad + [1] * (width - pad) for pad in pads], device=model.device)
        config = GenerationConfig(
            max_new_tokens=most, min_new_tokens=most, do_sample=False, pad_token_id=0, eos_token_id=None
        )
        seen = FirstToken()
        with torch.inference_mode():
            out = model.generate(
                ids, attention_mask=mask, generation_config=config, stopping_criteria=StoppingCriteriaList([seen])
            )
        made = out.shape[1] - width
        out[0, -1].item()  # waits for the device
        for one in batch:
            ttft_ms.append(1000 * (seen.at - begin))
            output_tokens.append(min(made, one["outputTokens"]))
    return {"ms": 1000 * (time.perf_counter() - begin), "ttftMs": ttft_ms, "outputTokens": output_tokens}


def continuous(manager, requests):
    """All requests at once; who runs together is the manager's decision."""
    begin = time.perf_counter()
    for number, one in enumerate(requests):
        manager.add_request(one["prompt"], request_id=str(number), max_new_tokens=one["outputTokens"])
    output_tokens = [0] * len(requests)
    left = len(requests)
    while left > 0:
        result = manager.get_result(timeout=1)
        if result is None:
            if not manager.is_running():
                raise RuntimeError("the manager has stopped")
        elif result.error is not None:
            raise RuntimeError(result.error)
        elif result.is_finished():
            output_tokens[int(result.request_id)] = len(result.generated_tokens)
            left -= 1
    return {"ms": 1000 * (time.perf_counter() - begin), "ttftMs": [], "outputTokens": output_tokens}


def batching(transformers, model, concurrency, context):
    """Its manager, warmed up: as many requests at a time as other contenders have, and memory for no more of them. No
    prefix is shared, as rounds repeat their prompts."""
    sizes = transformers.ContinuousBatchingConfig(
        block_size=BLOCK_TOKENS,
        num_blocks=concurrency * (-(-context // BLOCK_TOKENS) + 1),
        max_batch_tokens=concurrency + STEP_PROMPT_TOKENS,
        max_requests_per_batch=concurrency,
        allow_block_sharing=False,
    )
    greedy = transformers.GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
    return model.continuous_batching_context_manager(greedy, continuous_batching_config=sizes)


def main():
    lines = iter(sys.stdin.readline, "")
    setting = json.loads(next(lines))
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer

    import torch
    import transformers

    concurrency = setting["concurrency"]
    model = transformers.AutoModelForCausalLM.from_pretrained(setting["model"], dtype=torch.bfloat16)
    model = model.to(setting["device"]).eval()

    def answer(value):
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    def serve(play):
        play(setting["warmUp"])
        answer({"version": f"{transformers.__version__}, torch {torch.__version__}"})
        for _ in lines:
            answer(play(setting["requests"]))

    if setting["mode"] == "generate":
        serve(lambda requests: generate(torch, model, concurrency, requests))
    else:
        with batching(transformers, model, concurrency, setting["context"]) as manager:
            serve(lambda requests: continuous(manager, requests))


if __name__ == "__main__":
    main()
