"""Speed and memory of the LSTM layers of this book, beside `torch.nn.LSTM`, in one run.

    python benchmarks/numpy_vs_torch.py            # about five minutes
    python benchmarks/numpy_vs_torch.py --quick    # seconds: to see that it works; stores nothing

An update is a forward and a backward pass in float32 with one thread, at eight sizes (T, B, D, H):
the gradients of x and of all parameters for a given gradient of all hidden states. The layers take
turns, one update each, so that other work on the machine falls on all of them; of all turns the
fastest counts, since other work can only add to the time. The readable layers, which are many times
slower, get fewer turns.

Memory is that of NumPy arrays, counted by tracemalloc, over the T B (D + 7H) numbers that
backpropagation through time has to keep: x, four gates, c, tanh c, h. "kept" is what a layer holds
between forward and backward, its output included. "peak" is the most at any moment of an update,
with all that it returns, and with the Python objects of the views. "growth" is what the peak gains
when T doubles: the share that does not depend on T, such as the gradients of the weights, drops
out. Short sequences are made longer first, so that they fill a chunk of the backward pass.

The kernels are those that NumPy's BLAS chooses for the processor, whatever the environment says. To
measure others, ask for them: ``--kernel Haswell`` has no AVX-512. The result is stored under the
name of the kernel.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import torch
from threadpoolctl import threadpool_info, threadpool_limits
from tqdm.auto import tqdm

from lstm_lib import pytorch, results, scratch
from lstm_lib.scratch.fused import COLUMNS

SIZES = [
    (35, 20, 200, 200),
    (100, 32, 64, 128),
    (200, 64, 32, 128),
    (35, 20, 650, 650),
    (100, 1, 32, 64),
    (784, 32, 1, 128),
    (50, 16, 16, 32),
    (100, 128, 64, 256),
]
SECONDS = 3.0  # of turns, for each size and each of the fast layers
FAST = ("torch.nn", "NumPy, fused", "PyTorch, hand backward")
SLOW = ("NumPy, readable", "PyTorch, loop")
SLOW_TURNS = 3


def numpy_update(layer, x, dhs):
    """An update of a layer of `lstm_lib.scratch`."""

    def update():
        layer.forward(x)
        layer.backward(dhs)

    return update


def torch_update(module, x, dhs):
    """An update of a module."""
    x, dhs = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dhs)

    def update():
        module.zero_grad()
        x.grad = None
        module(x)[0].backward(dhs)

    return update


def layers(cell, D, H, x, dhs):
    """Return an update of every layer, by name."""
    rng = np.random.default_rng(0)
    fused = getattr(scratch, cell)(D, H, rng=rng, dtype=np.float32)
    loop = getattr(pytorch, cell)(D, H)
    loop.hand_backward = False
    return {
        "torch.nn": torch_update(getattr(torch.nn, cell)(D, H), x, dhs),
        "NumPy, fused": numpy_update(fused, x, dhs),
        "PyTorch, hand backward": torch_update(getattr(pytorch, cell)(D, H), x, dhs),
        "NumPy, readable": numpy_update(scratch.Recurrent(fused.cell), x, dhs),
        "PyTorch, loop": torch_update(loop, x, dhs),
    }


def draw(T, B, D, H):
    """Return x (T, B, D) and dhs (T, B, H), standard normal, float32."""
    rng = np.random.default_rng(0)
    return (rng.standard_normal((T, B, n)).astype(np.float32) for n in (D, H))


def seconds_of(update):
    """Time of one update."""
    start = time.perf_counter()
    update()
    return time.perf_counter() - start


def measure_times(cell, size, seconds, slow_turns):
    """Fastest and median update of every layer at one size, in milliseconds."""
    updates = layers(cell, *size[2:], *draw(*size))
    for update in updates.values():
        update()  # arrays are made, threads are started
    times = {name: [] for name in updates}
    stop = time.perf_counter() + seconds * len(FAST)
    while time.perf_counter() < stop or len(times["torch.nn"]) < 5:
        for name in FAST:
            times[name].append(seconds_of(updates[name]))
    for _ in range(slow_turns):
        for name in SLOW:
            times[name].append(seconds_of(updates[name]))
    return {
        "ms": {name: round(1e3 * min(t), 4) for name, t in times.items()},
        "median_ms": {name: round(1e3 * statistics.median(t), 4) for name, t in times.items()},
        "turns": {name: len(t) for name, t in times.items()},
    }


def traced(call):
    """Bytes of NumPy arrays that a call leaves, and most at any moment in it, and its result."""
    arrays = [tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)]

    def held():
        traces = tracemalloc.take_snapshot().filter_traces(arrays).traces
        return sum(trace.size for trace in traces)

    before = held()
    tracemalloc.reset_peak()
    start = tracemalloc.get_traced_memory()[0]
    result = call()
    peak = tracemalloc.get_traced_memory()[1] - start
    return held() - before, peak, result


def measure_memory(cell, size):
    """Bytes of a fused layer: kept after forward, and at most in a whole update."""
    x, dhs = draw(*size)
    layer = getattr(scratch, cell)(*size[2:], rng=np.random.default_rng(0), dtype=np.float32)
    tracemalloc.start()
    try:
        kept, peak, output = traced(lambda: layer.forward(x))
        _, more, _ = traced(lambda: layer.backward(dhs))
        del output
    finally:
        tracemalloc.stop()
    return kept, max(peak, kept + more)


def memory_ratios(size):
    """The three ratios of the LSTM at one size, see above."""
    T, B, D, H = size
    step = 4 * B * (D + 7 * H)
    kept, peak = measure_memory("LSTM", size)
    long = max(T, -(-COLUMNS // B))
    once, twice = (measure_memory("LSTM", (n * long, B, D, H))[1] for n in (1, 2))
    ratios = {"kept": kept / T, "peak": peak / T, "growth": (twice - once) / long}
    return {"must_keep_bytes": T * step} | {n: round(a / step, 3) for n, a in ratios.items()}


def geometric_mean(values):
    """Geometric mean."""
    return float(np.exp(np.mean(np.log(values))))


def ratios(rows, name):
    """A layer's time over that of torch.nn, for every size."""
    return [row["ms"][name] / row["ms"]["torch.nn"] for row in rows]


def kernel():
    """Name of the kernels that NumPy's BLAS chose on this processor, and its version."""
    found = (info for info in threadpool_info() if info["user_api"] == "blas")
    blas = next(info for info in found if "scipy.libs" not in info["filepath"])  # SciPy has its own
    return blas.get("architecture", blas["internal_api"]), f"{blas['prefix']} {blas['version']}"


def main(argv=None):
    """Run the benchmark with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two small sizes; stores nothing")
    parser.add_argument("--kernel", help="OPENBLAS_CORETYPE; default: NumPy's own choice")
    options = parser.parse_args(argv)
    # OpenBLAS reads the environment when NumPy is imported: that takes a new process.
    if not options.quick and os.environ.get("OPENBLAS_CORETYPE") != options.kernel:
        env = {name: v for name, v in os.environ.items() if not name.startswith("OPENBLAS_")}
        env |= {"OPENBLAS_CORETYPE": options.kernel} if options.kernel else {}
        sys.exit(subprocess.run([sys.executable, __file__, *sys.argv[1:]], env=env).returncode)
    sizes = [SIZES[4], SIZES[6]] if options.quick else SIZES
    seconds, slow_turns = (0.05, 1) if options.quick else (SECONDS, SLOW_TURNS)
    torch.set_num_threads(1)
    start = time.perf_counter()
    with threadpool_limits(1), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        architecture, version = kernel()
        rows = {
            cell: [
                {"size": size, **measure_times(cell, size, seconds, slow_turns)}
                for size in tqdm(sizes, desc=f"{cell} on {architecture}")
            ]
            for cell in ("LSTM", "GRU", "RNN")
        }
        for row in tqdm(rows["LSTM"], desc="memory"):
            row["memory"] = memory_ratios(row["size"])
    metrics = {
        "over_torch_nn": {
            cell: {name: round(geometric_mean(ratios(of, name)), 3) for name in of[0]["ms"]}
            for cell, of in rows.items()
        },
        "rows": rows,
    }
    print(json.dumps(metrics["over_torch_nn"], indent=1))
    for row in rows["LSTM"]:
        print(row["size"], row["ms"], row["memory"])
    if not options.quick:
        results.save(
            f"numpy_vs_torch/{architecture}",
            config={"sizes": sizes, "dtype": "float32", "seconds": seconds, "turns": slow_turns},
            seed=0,
            metrics=metrics,
            seconds=time.perf_counter() - start,
            versions={"blas": version},
            device={"threads": 1, "kernel": architecture},
        )


if __name__ == "__main__":
    main()
