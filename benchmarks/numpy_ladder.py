"""The stages of `lstm_lib.scratch.stages`, timed, and the facts about the BLAS that explain them.

    python benchmarks/numpy_ladder.py            # about eight minutes
    python benchmarks/numpy_ladder.py --quick    # seconds: to see that it works; stores nothing

- **stages**: a forward and a backward pass of every stage, of one beside them, of the readable
  layer and of `torch.nn.LSTM`, float32, one thread, at the sizes (T, B, D, H) below. All take
  turns, so that other work on the machine falls on all of them; of all turns the fastest counts.
- **profile**: where the time of the readable layer goes. Its calls of NumPy are recorded once. Then
  its products, and its elementwise functions, are run again from the record with nothing around
  them and into arrays that lie ready. The same functions on one entry give what a call costs by
  itself. What is left of the layer's time is new arrays, Python, and checks.
- **products**: billions of floating-point operations a second of the product of a step, in both
  layouts, by the number of sequences, and of one large product; bytes a second of a large sum of
  two arrays.
- **kernels**: the same for the kernels that OpenBLAS can be told to use, in processes of their own.
- **threads**, **crowd**: the same with one and two threads; and for two processes at once, each of
  which has one or two. There the median counts, since the fastest turn is one in which the other
  process happened to rest.

NumPy's own choice of kernels is measured first, whatever OPENBLAS_CORETYPE says.
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_info
from tqdm.auto import tqdm

from lstm_lib import results
from lstm_lib.scratch import LSTMCell, Recurrent
from lstm_lib.scratch.stages import STAGES, HoistedAgain, recorded_calls

SIZES = [
    (35, 20, 200, 200),
    (100, 32, 64, 128),
    (784, 32, 1, 128),
    (100, 1, 32, 64),
    (35, 20, 650, 650),
]
SECONDS = 40.0  # of turns, for each size
COLUMNS = (1, 4, 20, 32, 128, 512)
KERNELS = ("NumPy's choice", "Haswell", "SkylakeX")


def draw(*shape):
    """Return a standard normal float32 array, always the same for a shape."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def fastest(calls, seconds, least=3):
    """Times of every call, by name, taking turns: a list of seconds each."""
    times = {name: [] for name in calls}
    for call in calls.values():
        call()  # arrays are made
    start, turns = time.perf_counter(), 0
    while turns < least or time.perf_counter() < start + seconds:
        turns += 1
        for name, call in calls.items():
            before = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - before)
    return times


def passes(layer, x, dhs):
    """Forward and backward of a NumPy layer."""
    return {"forward": lambda: layer.forward(x), "backward": lambda: layer.backward(dhs)}


def torch_passes(x, dhs):
    """Forward and backward of torch.nn.LSTM, with the gradient of x."""
    import torch  # here, so that the many processes that time NumPy alone start without it

    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = torch.nn.LSTM(x.shape[2], dhs.shape[2])
    x, dhs, hs = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dhs), []

    def forward():
        hs[:] = [module(x)[0]]

    def backward():
        module.zero_grad()
        x.grad = None
        hs.pop().backward(dhs)

    return {"forward": forward, "backward": backward}


def measure_stages(size, seconds):
    """Milliseconds of every stage at one size: fastest turn, and the median over it."""
    T, B, D, H = size
    cell = LSTMCell(D, H, rng=np.random.default_rng(0), dtype=np.float32)
    layers = {"readable": Recurrent(cell)}
    layers |= {s.__name__: s(cell.params) for s in (*STAGES, HoistedAgain)}
    x, dhs = draw(T, B, D), draw(T, B, H)
    runs = {"torch.nn": torch_passes(x, dhs)}
    runs |= {name: passes(layer, x, dhs) for name, layer in layers.items()}
    calls = {(n, part): call for n, run in runs.items() for part, call in run.items()}
    times = fastest(calls, seconds)
    row = {"size": size, "turns": len(times["torch.nn", "forward"])}
    for part in ("forward", "backward"):
        row[part] = {n: round(1e3 * min(times[n, part]), 4) for n in runs}
        row[f"{part} spread"] = {
            n: round(statistics.median(times[n, part]) / min(times[n, part]), 2) for n in runs
        }
    row["ms"] = {n: round(row["forward"][n] + row["backward"][n], 4) for n in runs}
    return row


def one_entry(function, args):
    """A call of the same function with arrays of one entry."""
    args = [a.ravel()[:1] if isinstance(a, np.ndarray) else a for a in args]
    return function, args, function(*args)


def measure_profile(size, seconds):
    """Milliseconds of the readable layer, and of the parts of its work."""
    T, B, D, H = size
    layer = Recurrent(LSTMCell(D, H, rng=np.random.default_rng(0), dtype=np.float32))
    x, dhs = draw(T, B, D), draw(T, B, H)
    calls = recorded_calls(layer, x, dhs)
    products = [c for c in calls if c[0] is np.matmul]
    elementwise = [c for c in calls if c[0] is not np.matmul]
    tiny = [one_entry(function, args) for function, args, _ in elementwise]

    def replay(record):
        def run():
            for function, args, out in record:
                function(*args, out=out)

        return run

    def update():
        layer.forward(x)
        layer.backward(dhs)

    runs = {"layer": update, "products": replay(products)}
    runs |= {"elementwise": replay(elementwise), "calls": replay(tiny)}
    ms = {name: round(1e3 * min(t), 4) for name, t in fastest(runs, seconds).items()}
    return {"size": size, "ms": ms, "products": len(products), "elementwise": len(elementwise)}


def measure_products(seconds, columns=COLUMNS, pick="min"):
    """Speeds of products at H = D = 200, with a bias row: K = 401, 4H = 800.

    Each is called again and again, as in a loop over steps: what fits in the cache stays there.
    """
    products = {}
    W = draw(800, 401)
    W_rows = np.ascontiguousarray(W.T)
    for B in columns:
        x = draw(401, B)
        x_rows = np.ascontiguousarray(x.T)
        products["features first", str(B)] = (W, x, np.empty((800, B), np.float32))
        products["rows", str(B)] = (x_rows, W_rows, np.empty((B, 800), np.float32))
    n = 512
    products["large", str(n)] = (draw(n, n), draw(n, n), np.empty((n, n), np.float32))
    flops = {name: 2 * len(a) * b.size for name, (a, b, _) in products.items()}
    repeats = {name: max(1, int(2e8 / work)) for name, work in flops.items()}

    def again(name):
        a, b, out = products[name]

        def run():
            for _ in range(repeats[name]):
                np.dot(a, b, out)

        return run

    u, v, w = (np.ones(2**24, np.float32) for _ in range(3))
    calls = {name: again(name) for name in products} | {"sum": lambda: np.add(u, v, w)}
    pick = {"min": min, "median": statistics.median}[pick]
    taken = {name: pick(t) for name, t in fastest(calls, seconds).items()}
    speed = {n: round(work * repeats[n] / taken[n] / 1e9, 1) for n, work in flops.items()}
    found = {"features first": {}, "rows": {}, "large": {}}
    for (name, B), value in speed.items():
        found[name][B] = value
    found["large"] = found["large"][str(n)]
    found["GB/s"] = round(3 * u.nbytes / taken["sum"] / 1e9, 1)
    return found


def crowd(threads, seconds):
    """Typical speeds of each of two processes that run at once, with this many threads each."""
    with ThreadPoolExecutor(2) as pool:
        both = pool.map(
            lambda _: in_new_process("products", seconds, [20, 512], "median", threads=threads),
            range(2),
        )
        return list(both)


def kernel():
    """Name and version of the BLAS of NumPy."""
    found = (info for info in threadpool_info() if info["user_api"] == "blas")
    blas = next(info for info in found if "scipy.libs" not in info["filepath"])  # SciPy has its own
    return blas.get("architecture", blas["internal_api"]), f"{blas['prefix']} {blas['version']}"


def in_new_process(task, *arguments, core=None, threads=1):
    """Run a measurement in a process whose BLAS has these kernels (None: its own choice)."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    env = kept | {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    if core is not None:
        env["OPENBLAS_CORETYPE"] = core
    command = [sys.executable, __file__, "--task", json.dumps([task, *arguments])]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


TASKS = {
    "stages": measure_stages,
    "profile": measure_profile,
    "products": measure_products,
    "kernel": kernel,
}


def main(argv=None):
    """Run the benchmark with the given command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small size; stores nothing")
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.task:
        name, *arguments = options.task
        print(json.dumps(TASKS[name](*arguments)))
        return
    sizes, seconds = ([SIZES[3]], 0.2) if options.quick else (SIZES, SECONDS)
    start = time.perf_counter()
    (architecture, blas), torch = in_new_process("kernel"), importlib.metadata.version("torch")
    metrics = {
        "stages": [in_new_process("stages", size, seconds) for size in tqdm(sizes)],
        "profile": [
            in_new_process("profile", size, seconds / 4) for size in tqdm(sizes) if size[0] < 500
        ],  # a record of a long run does not fit in the cache, nor in little memory
        "products": in_new_process("products", seconds / 2),
        "kernels": {},
        "threads": {},
        "crowd": {},
    }
    few = [20, 512]
    for name in tqdm(KERNELS):
        core = None if name == KERNELS[0] else name
        metrics["kernels"][name] = {
            "used": in_new_process("kernel", core=core)[0],
            **in_new_process("products", seconds / 4, few, core=core),
        }
    for threads in (1, 2):
        speeds = in_new_process("products", seconds / 4, few, threads=threads)
        metrics["threads"][str(threads)] = speeds
        metrics["crowd"][str(threads)] = crowd(threads, seconds / 8)
    for row in metrics["stages"]:
        print(row["size"], {n: round(t / row["ms"]["torch.nn"], 2) for n, t in row["ms"].items()})
    print(json.dumps({k: v for k, v in metrics.items() if k != "stages"}, indent=1))
    if not options.quick:
        path = results.save(
            "numpy_ladder",
            config={"sizes": sizes, "dtype": "float32", "seconds": seconds},
            seed=0,
            metrics=metrics,
            seconds=time.perf_counter() - start,
            versions={"blas": blas, "torch": torch},
            device={"threads": 1, "kernel": architecture},
        )
        print("stored", path.name)


if __name__ == "__main__":
    main()
