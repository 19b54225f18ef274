"""The processes of a training: one, or those that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed.nn  # before any group: its defaults would keep one for good
from torch import Tensor, distributed, nn

from pipeline.build.device import Device, torch_device
from pipeline.errors import MachineError
from pipeline.loaders.arguments import rank_and_world

LONGEST_WAIT = timedelta(days=1)
"""For one that validates while others wait. If one fails, torchrun ends the others."""
T = TypeVar("T")


@contextmanager
def joined(device: Device = "auto") -> Iterator[torch.device]:
    """The device of this process, which belongs to torchrun's group within the block, if it was
    started by torchrun.

    Raises RegistrationError for a cuda that is not there, MachineError where this machine has
    fewer GPUs than processes.
    """
    name = torch_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield torch.device(name)
        return
    chosen = torch.device(name)
    if name == "cuda":
        place, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if place >= gpus:
            raise MachineError(
                f"process {place} of this machine has no GPU, torch sees {gpus}; start as many "
                "processes as there are GPUs (--nproc_per_node), or use --device cpu"
            )
        chosen = torch.device("cuda", place)
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if name == "cuda" else "gloo", timeout=LONGEST_WAIT)
    try:
        yield chosen
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Of this process, 0 … world() − 1."""
    return rank_and_world(None, None)[0]


def world() -> int:
    """Number of processes."""
    return rank_and_world(None, None)[1]


def follow_first(learner: nn.Module) -> None:
    """Weights and saved buffers become those of the first process."""
    _at_once(list(learner.state_dict().values()), _as_first)


def follow_first_buffers(learner: nn.Module) -> None:
    """Saved buffers, such as running means, become those of the first process."""
    if world() == 1:
        return
    saved = learner.state_dict().keys()
    found = [buffer for name, buffer in learner.named_buffers() if name in saved]
    _at_once(found, _as_first)


def average_gradients(learner: nn.Module) -> None:
    """Gradients of what is trained become the mean over the processes; none counts as zero.

    DistributedDataParallel would do this during the backward pass, but it keeps the process group
    for good (torch 2.13): gloo's threads outlive it and now and then abort the interpreter when it
    ends.
    """
    if world() == 1:
        return
    trained = [weight for weight in learner.parameters() if weight.requires_grad]
    for weight in trained:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    _at_once([w.grad for w in trained if w.grad is not None], _average)


def _as_first(values: Tensor) -> None:
    distributed.broadcast(values, src=0)


def _average(values: Tensor) -> None:
    distributed.all_reduce(values)
    values /= world()


@torch.no_grad()
def _at_once(tensors: Sequence[Tensor], change: Callable[[Tensor], object]) -> None:
    """Changes the tensors with one call a type of number, if there are several processes."""
    if world() == 1:
        return
    for dtype in sorted({t.dtype for t in tensors}, key=str):
        own = [t for t in tensors if t.dtype == dtype]
        flat = torch.cat([t.flatten() for t in own])
        change(flat)
        for tensor, values in zip(own, flat.split([t.numel() for t in own]), strict=True):
            tensor.copy_(values.view_as(tensor))


def wait_for_all() -> None:
    """Until each process is here."""
    if world() > 1:
        distributed.barrier()


def mean_of_all(values: Tensor) -> Tensor:
    """The mean over the processes; each of them has to ask."""
    found = values.clone()
    _at_once([found], _average)
    return found


def least_of_all(values: Tensor) -> Tensor:
    """The smallest of the processes' values; each of them has to ask."""
    if world() == 1:
        return values
    found = values.clone()
    distributed.all_reduce(found, distributed.ReduceOp.MIN)
    return found


def first_says(ask: Callable[[], T]) -> T:
    """What the first process finds, known to all of them, which wait for it."""
    if world() == 1:
        return ask()
    found = [ask() if rank() == 0 else None]
    distributed.broadcast_object_list(found, src=0)
    return found[0]  # type: ignore[return-value]
