"""Data parallel training: every process holds the whole model and a share of every batch.

The gradient of a mean over N tokens is a sum over tokens divided by N, and a sum can be taken in
parts. `torch.nn.parallel.DistributedDataParallel` (Li et al., 2020) averages the gradients of the
processes. That is the gradient of the whole batch only if every process divides by the same
count. `Workers.mean_loss` sees to it, for any lengths and any shares.

The same script runs alone (``python script.py``) and with ``torchrun --nproc-per-node N
script.py``: processes talk by gloo on CPUs and by nccl on GPUs.

Shapes: T time steps, B sequences of the global batch, b of them on this process.
"""

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lstm_lib.pytorch.cells import check_count
from lstm_lib.pytorch.training import Trainer

_ENVIRONMENT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Workers:
    """This process among those that train together; made by `join`.

    Attributes
    ----------
    rank : int
        Number of this process, 0 to size - 1. Rank 0 writes files and messages.
    size : int
        Number of processes, the "world size".
    device : torch.device
        Where this process computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and messages."""
        return self.rank == 0

    def rows(self, batch: int) -> slice:
        """The sequences of a global batch of `batch` that are this process's share.

        Shares are contiguous, in the order of the ranks, and differ by one at most. With fewer
        sequences than processes some shares are empty.
        """
        check_count("batch", batch, 0)
        return _rows(batch, self.rank, self.size)

    def share(self, x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cut this process's sequences out of a global batch and put them on its device.

        A process whose share is empty gets sequence 0 with nothing in the mask: it must take part
        in every exchange of gradients, and its own is then zero.

        Parameters
        ----------
        x, y : Tensor, shape (T, B, ...)
            Inputs and targets.
        mask : Tensor of bool, shape (T, B)
            The targets that count.

        Returns
        -------
        x, y, mask : Tensor, shape (T, b, ...), b at least 1

        Raises
        ------
        ValueError
            If the batch is empty or the three disagree about T and B.
        """
        if not x.shape[:2] == y.shape[:2] == mask.shape:
            raise ValueError(
                "x, y and mask: expected the same (T, B), got "
                f"{tuple(x.shape[:2])}, {tuple(y.shape[:2])} and {tuple(mask.shape)}"
            )
        if x.shape[1] == 0:
            raise ValueError("x: expected at least one sequence, got B = 0")
        rows = self.rows(x.shape[1])
        if rows.start == rows.stop:
            rows, mask = slice(0, 1), torch.zeros_like(mask)
        return tuple(part[:, rows].to(self.device) for part in (x, y, mask))

    def wrap(
        self, model: nn.Module, rehearse: Callable[[nn.Module], Tensor] | None = None
    ) -> nn.Module:
        """Move a model to the device and, among several processes, make them agree on it.

        Every process gets the weights of rank 0, and every ``backward`` leaves the mean of the
        processes' gradients in all of them, bit by bit the same. So what follows needs no
        exchange: `torch.nn.utils.clip_grad_norm_` finds the same norm everywhere, and equal
        optimisers make equal updates.

        After the first backward pass `DistributedDataParallel` lays the gradients out anew, in
        the order in which they came. Among three processes or more the layout decides in which
        order numbers are added, so the first update after a restart may differ in its last bits
        from the same update in a run that never stopped. A rehearsal gets this over with.

        Parameters
        ----------
        model : Module
        rehearse : callable, model -> Tensor of shape (), optional
            A loss on any data. One backward pass is made of it, times zero.

        Returns
        -------
        model : the module itself when alone, otherwise a `DistributedDataParallel` around it
        """
        model = model.to(self.device)
        if self.size == 1:
            return model
        wrapped = DistributedDataParallel(model)
        if rehearse is not None:
            (rehearse(wrapped) * 0).backward()
            wrapped.zero_grad()
        return wrapped

    def sum(self, *values: float | Tensor) -> list[float]:
        """Add each of some numbers over all processes, in float64; the same result on each.

        For metrics: send numerators and denominators, and divide afterwards. The mean of the
        processes' means is another number.
        """
        totals = torch.stack(
            [torch.as_tensor(v, dtype=torch.float64, device=self.device).detach() for v in values]
        )
        if self.size > 1:
            dist.all_reduce(totals)
        return totals.tolist()

    def mean_loss(self, total: Tensor, count: int | Tensor) -> tuple[Tensor, float]:
        """Turn the loss summed over this process's tokens into one that gives the right gradient.

            loss = total * size / (count_1 + ... + count_size)               (ddp-loss)

        `DistributedDataParallel` divides the sum of the processes' gradients by `size`, and what
        is left is the gradient of the mean over all tokens of all processes.

        Parameters
        ----------
        total : Tensor, shape ()
            Loss summed over the tokens of this process that count.
        count : int or Tensor, shape ()
            Their number; 0 is fine as long as another process has some.

        Returns
        -------
        loss : Tensor, shape ()
            Call ``backward`` on it.
        mean : float
            The mean loss over all tokens of all processes, for the log.

        Raises
        ------
        ValueError
            On every process, if no token of any counts.
        """
        whole, tokens = self.sum(total, count)
        if tokens == 0:
            raise ValueError("count: expected a token that counts in the global batch, got none")
        return total * (self.size / tokens), whole / tokens  # (ddp-loss)

    def gather(self, part: Tensor, batch: int) -> Tensor:
        """Put the shares (L, b, H) of all processes together to (L, B, H), in the global order.

        The inverse of ``whole[:, workers.rows(batch)]``, on every process; for the carried states
        of `batch` streams.

        Raises
        ------
        ValueError
            If `part` has not as many sequences as this process's share.
        """
        rows = self.rows(batch)
        if part.shape[1] != rows.stop - rows.start:
            raise ValueError(
                f"part: expected {rows.stop - rows.start} of {batch} sequences, got {part.shape[1]}"
            )
        if self.size == 1:
            return part
        most = -(-batch // self.size)
        padded = part.new_zeros(part.shape[0], most, *part.shape[2:])
        padded[:, : part.shape[1]] = part
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        shares = (_rows(batch, rank, self.size) for rank in range(self.size))
        return torch.cat(
            [p[:, : s.stop - s.start] for p, s in zip(parts, shares, strict=True)], dim=1
        )

    def wait(self) -> None:
        """Go on when every process has come here."""
        if self.size > 1:
            dist.barrier()


class DistributedTrainer(Trainer):
    """A `Trainer` whose processes share every batch, with or without half precision.

    Parameters
    ----------
    workers : Workers
    model : nn.Module
        As `Workers.wrap` returns it.
    optimiser : torch.optim.Optimizer
        Of the parameters of the module inside.
    loss : callable, (model, batch) -> (total, count)
        Loss summed over this process's tokens, and their number, as `Workers.mean_loss` takes
        them. Called under autocast if there is one.
    batches : iterable
        The same global batches on every process: `loss` or the source cuts the share.
    amp : torch.dtype, optional
        `torch.bfloat16` or `torch.float16`: compute under `torch.autocast` (Micikevicius et al.,
        2018). Parameters, gradients and optimiser stay as they are. For float16 the loss is scaled
        up before the backward pass and the gradient down after it; an update whose gradient
        overflows is left out, its norm in the history is 0, and the scale is halved.
    log_every : int, optional
        Rank 0 prints a line every so many steps.
    scheduler, max_norm, parts
        As for `Trainer`.

    Notes
    -----
    Rank 0 writes the checkpoints, every process reads them: with processes on several machines
    the folder must be one that all of them see.
    """

    def __init__(
        self, workers, model, optimiser, loss, batches, *, amp=None, log_every=None, **more
    ):
        self.workers, self.amp, self.log_every = workers, amp, log_every
        self.scaler = torch.amp.GradScaler(workers.device.type, enabled=amp is torch.float16)
        if self.scaler.is_enabled():
            more["parts"] = {"scaler": self.scaler} | (more.get("parts") or {})
        super().__init__(model, optimiser, loss, batches, **more)

    def gradients(self, batch):
        """Leave the gradient of the global batch in the parameters; return its mean loss."""
        self.optimiser.zero_grad()
        with torch.autocast(self.workers.device.type, self.amp, enabled=self.amp is not None):
            total, count = self.loss(self.model, batch)
        loss, mean = self.workers.mean_loss(total, count)
        self.scaler.scale(loss).backward()
        return mean

    def update(self, loss):
        """As `Trainer.update`; in float16 an overflow is no failure."""
        if not self.scaler.is_enabled():
            return super().update(loss)
        self.scaler.unscale_(self.optimiser)
        limit = math.inf if self.max_norm is None else self.max_norm
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit).item()
        self.scaler.step(self.optimiser)  # unless an entry is not finite
        self.scaler.update()
        if not math.isfinite(norm):
            return 0.0
        if self.scheduler is not None:
            self.scheduler.step()
        return norm

    def step(self, batch):
        """One update, and perhaps a line about it."""
        loss, norm = super().step(batch)
        done = len(self.history.losses) + 1
        if self.log_every and self.workers.first and done % self.log_every == 0:
            print(f"step {done}: loss {loss:.4f}, norm {norm:.3f}", flush=True)
        return loss, norm

    def fit(self, steps, **more):
        """As `Trainer.fit`; the bar and the checkpoints are those of rank 0."""
        more["progress"] = more.get("progress", True) and self.workers.first
        return super().fit(steps, **more, write=self.workers.first)


def _rows(batch, rank, size):
    share, left = divmod(batch, size)
    start = rank * share + min(rank, left)
    return slice(start, start + share + (rank < left))


@contextmanager
def join(*, device: str | None = None, timeout: float = 1800) -> Iterator[Workers]:
    """Join the processes that torchrun started, or stay alone where it started none.

    Parameters
    ----------
    device : {"cpu", "cuda"}, optional
        Default: a GPU for each process of a machine if there is one, otherwise the CPU.
    timeout : float
        Seconds after which an exchange fails that another process does not come to. With nccl it
        must also cover what one process does while others wait.

    Yields
    ------
    Workers
        The process group is closed at the end of the block.

    Raises
    ------
    ValueError
        If the environment has some but not all of torchrun's variables, `device` is neither of
        the two, or there are fewer GPUs than processes on this machine.
    """
    if device not in (None, "cpu", "cuda"):
        raise ValueError(f"device: expected 'cpu' or 'cuda', got {device!r}")
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    size = int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_RANK", 0))
    if kind == "cuda" and local >= torch.cuda.device_count():
        raise ValueError(
            f"device: process {local} of this machine needs a GPU of its own, "
            f"there are {torch.cuda.device_count()}"
        )
    where = torch.device("cuda", local) if kind == "cuda" else torch.device("cpu")
    if size == 1:
        yield Workers(device=where)
        return
    missing = [name for name in _ENVIRONMENT if name not in os.environ]
    if missing:
        raise ValueError(
            f"environment: WORLD_SIZE is {size}, but {', '.join(missing)} not set; start the "
            f"script with torchrun --nproc-per-node {size}"
        )
    if kind == "cuda":
        torch.cuda.set_device(where)
    limit = timedelta(seconds=timeout)
    dist.init_process_group(
        "nccl" if kind == "cuda" else "gloo",
        timeout=limit,
        store=_store_of_this_attempt(size, limit),
        rank=int(os.environ["RANK"]),
        world_size=size,
    )
    try:
        yield Workers(dist.get_rank(), dist.get_world_size(), where)
    finally:
        dist.destroy_process_group()


def _store_of_this_attempt(size, limit):
    """A store in which processes find each other and not those of an attempt before.

    torchrun keeps its store when it starts workers again, and they would connect to the addresses
    of those before (pytorch/pytorch#135712). It counts the attempts, but on each machine for
    itself: on several, set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 instead.
    """
    shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if not shared or os.environ.get("LOCAL_WORLD_SIZE") != str(size):
        return None  # as the environment says
    where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(*where, size, is_master=False, timeout=limit)
    return dist.PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)


def start_workers(
    processes: int, arguments: Sequence[str], *, max_restarts: int = 0
) -> subprocess.Popen:
    """Start a script, or ``-m module``, on this machine: alone, or as several with torchrun.

    Each process gets one thread for arithmetic, and all of them this `lstm_lib`.

    Parameters
    ----------
    processes : int
        1 starts Python without torchrun.
    arguments : sequence of str
        What follows ``python`` or ``torchrun`` on the command line.
    max_restarts : int
        How often torchrun starts all processes again after one of them died.

    Returns
    -------
    subprocess.Popen
        Text of stdout and stderr together is in its ``stdout``. End it with `stop_workers`.
    """
    check_count("processes", processes, 1)
    command = [sys.executable, "-u"]
    if processes > 1:
        # localhost:0 lets the system choose a free port, so two runs cannot meet on one.
        command += ["-m", "torch.distributed.run", "--nnodes=1", f"--nproc-per-node={processes}"]
        command += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--local-addr=localhost"]
        command += [f"--max-restarts={max_restarts}"]
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"},
    )


def stop_workers(started: subprocess.Popen) -> None:
    """End what `start_workers` started, with all its processes, if it still runs."""
    if started.poll() is None:
        started.terminate()  # torchrun then ends its workers; killed, it would leave them behind
        try:
            started.wait(timeout=40)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
    started.stdout.close()


def run_workers(
    processes: int, arguments: Sequence[str], *, max_restarts: int = 0, timeout: float = 120
) -> str:
    """Do `start_workers`, wait for the end, and return what the processes printed.

    Raises
    ------
    RuntimeError
        If they fail or do not end within `timeout` seconds; with the end of their output.
    """
    started = start_workers(processes, arguments, max_restarts=max_restarts)
    try:
        output, _ = started.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"workers: not done after {timeout} s") from error
    finally:
        stop_workers(started)
    if started.returncode:
        raise RuntimeError(f"workers: exit code {started.returncode}\n{output[-3000:]}")
    return output
