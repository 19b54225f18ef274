"""The processes of a training: one, or those that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.build.device import Device, torch_device
from pipeline.errors import MachineError

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


def in_a_group() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Of this process, 0 … world() − 1."""
    return distributed.get_rank() if in_a_group() else 0


def world() -> int:
    """Number of processes."""
    return distributed.get_world_size() if in_a_group() else 1


def sharing_gradients(learner: nn.Module, device: torch.device) -> nn.Module:
    """The learner, or in a group one whose gradients are the mean of all processes'.

    Buffers that are saved follow those of the first process; others never change.
    """
    if world() == 1:
        return learner
    saved = learner.state_dict().keys()
    fixed = [name for name, _ in learner.named_buffers() if name not in saved]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(learner, fixed)
    places = [device] if device.type == "cuda" else None
    return DistributedDataParallel(learner, device_ids=places)


def wait_for_all() -> None:
    """Until each process is here."""
    if world() > 1:
        distributed.barrier()


def mean_of_all(values: Tensor) -> Tensor:
    """The mean over the processes; each of them has to ask."""
    if world() == 1:
        return values
    summed = values.clone()
    distributed.all_reduce(summed)
    return summed / world()


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
