"""What PyTorch reaches on this GPU: matrix products (cuBLASLt) and a copy within the device, on random data.

gigabytesPerSecond counts bytes read and written once each. Small products take turns over so many matrices that no
weight is still in the cache when its turn comes again.
"""

import argparse
import json
import statistics

import torch

# Outputs and inputs of the matrices of Llama-3-8B: qkv, o, gate and up, down; and a square to find the peak.
MATRICES = [(6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336)]
TOKENS = [1, 16, 64, 256, 2048]
SQUARE = 8192
COLD_BYTES = 400e6  # several times the largest L2
ROUNDS = 12

parser = argparse.ArgumentParser()
parser.add_argument("--json", required=True)
flags = parser.parse_args()
results = []


def measure(op, case, calls, bytes_moved, operations):
    """The median over rounds of the time of one call; a round makes all calls."""
    for call in calls:
        call()
    times = []
    for _ in range(ROUNDS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for call in calls:
            call()
        end.record()
        end.synchronize()
        times.append(1000 * begin.elapsed_time(end) / len(calls))
    microseconds = statistics.median(times)
    gigabytes, gigaflops = bytes_moved / microseconds / 1e3, operations / microseconds / 1e3
    figures = {"microseconds": microseconds, "gigabytesPerSecond": gigabytes, "gigaflopsPerSecond": gigaflops}
    results.append({"op": op, "case": case, **figures})
    print(json.dumps(results[-1]), flush=True)


def random(*shape):
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def product(tokens, outputs, inputs):
    x = random(tokens, inputs)
    copies = max(1, round(COLD_BYTES / (2 * outputs * inputs)))
    weights = [random(outputs, inputs) for _ in range(copies)]
    out = torch.empty(tokens, outputs, device="cuda", dtype=torch.bfloat16)
    calls = [lambda w=w: torch.mm(x, w.t(), out=out) for w in weights]
    moved = 2 * (outputs * inputs + tokens * (inputs + outputs))
    measure("matmul", f"{outputs} x {inputs} bf16, {tokens} tokens", calls, moved, 2 * tokens * outputs * inputs)


source = torch.randint(256, (2**31,), device="cuda", dtype=torch.uint8)
target = torch.empty_like(source)
measure("copy", "2 GiB", [lambda: target.copy_(source)], 2 * source.numel(), 0)
del source, target
product(SQUARE, SQUARE, SQUARE)
for outputs, inputs in MATRICES:
    for tokens in TOKENS:
        product(tokens, outputs, inputs)
with open(flags.json, "w") as file:
    json.dump({"version": f"torch {torch.__version__}", "gpu": torch.cuda.get_device_name(), "results": results}, file)
