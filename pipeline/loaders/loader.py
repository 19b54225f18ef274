"""Batches in an order that any number of ranks, workers and restarts agree on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from multiprocessing.context import get_spawning_popen
from typing import TYPE_CHECKING, Any

from torch.utils.data import IterableDataset, get_worker_info

from pipeline.errors import FacefoldError
from pipeline.loaders.arguments import face_dataset, in_a_group, order_for, rank_and_world, seed_of
from pipeline.loaders.checks import whole
from pipeline.loaders.dataset import FaceDataset, Sample
from pipeline.loaders.epoch_plan import Place, Steps
from pipeline.loaders.gathering import Gathering
from pipeline.loaders.orders import Order
from pipeline.loaders.progress import Progress
from pipeline.loaders.state import checked_state, owner
from pipeline.loaders.trainers import check_accelerate
from pipeline.loaders.transforms import Transform

if TYPE_CHECKING:
    from torch.utils.data._utils.worker import WorkerInfo


class FaceLoader(IterableDataset[Sample]):
    """Whole batches of a `FaceDataset`, gathered ahead by threads into rings of buffers.

    `batch_size` samples a rank and step; `order` is one of `pipeline.loaders.orders`, all samples
    shuffled by `seed` where None. Step s of W ranks shows positions s·W·batch_size onwards, rank r
    the r-th part of them: with the product W·batch_size the same, so is what each step shows, also
    when W changes between a stop and a resume. What is left of an epoch behind the last whole step
    is dropped, or, with `drop_last=False`, shared out in one smaller step. `rank` and `world` are
    those of torch.distributed at the time they are needed, unless given.

    Of a dataset with `views=K`, which views a sample shows is a function of the order's seed, the
    epoch and the sample's position in it; any K of its views are as likely as others.

    One iteration is (the rest of) one epoch, which ends with its last batch: the next iteration
    begins the next epoch. `len` is the number of batches of the whole epoch, `remaining` of those
    still to come. `state_dict` says where the last batch that was handed out ends, whatever
    threads have read ahead.

    In `DataLoader(loader, batch_size=None, num_workers=…)`, or StatefulDataLoader, worker
    processes take turns in the same order. What they have read ahead cannot be given back, so each
    iteration there begins an epoch, also after one that was left early, and only a
    StatefulDataLoader has their state.

    `threads` read ahead by `ahead` batches each, where the caller or a slow disk leaves them time
    (`reading.Reading`); 0 gathers when asked. A batch keeps its memory as long as something refers
    to it, else the ring uses it again; `pin` makes it page-locked. `transform(batch, draw)` is
    called where the batch is read: see `pipeline.loaders.transforms`.

    Raises FacefoldError for a parameter that cannot be, a batch size that parts an order's groups,
    an order for another number of samples, an epoch that has no whole step, and where accelerate
    would divide the batches among its processes once more.
    """

    def __init__(
        self,
        dataset: FaceDataset,
        batch_size: int,
        order: Order | None = None,
        *,
        seed: int = 0,
        rank: int | None = None,
        world: int | None = None,
        drop_last: bool = True,
        threads: int = 1,
        ahead: int = 2,
        pin: bool = False,
        transform: Transform | None = None,
    ) -> None:
        self.dataset, self.batch_size = face_dataset(dataset), whole("batch_size", batch_size, 1)
        self.order: Order = order_for(len(dataset), order, whole("seed", seed))
        self._given = rank, world
        self.drop_last = bool(drop_last)
        self._views_of = partial(self.dataset.drawn_views, seed=seed_of(self.order))
        self._gathering = Gathering(
            self.dataset, self.batch_size, threads, ahead, bool(pin), transform
        )
        if self.batch_size % self.order.group:
            raise FacefoldError(
                f"batch_size {batch_size}: expected a multiple of the order's group of "
                f"{self.order.group}"
            )
        self._steps.check(0)
        self._shared = Progress()
        # in a worker process: where it is, and where a state says that it goes on
        self._place: Place | None = None
        self._loaded: Place | None = None

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if get_spawning_popen() is None:  # no process is being started: a copy of its own
            return state | {"_shared": self._shared.at()}
        if in_a_group():  # the new process will not be in it
            state["_given"] = self._ranks
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self._shared, tuple):
            self._shared = Progress(*self._shared)

    def __repr__(self) -> str:
        return (
            f"FaceLoader({self.dataset!r}, batch_size={self.batch_size}, order={self.order!r}, "
            f"rank={self.rank}, world={self.world}, epoch={self.epoch}, batches={len(self)})"
        )

    @property
    def _ranks(self) -> tuple[int, int]:
        return rank_and_world(*self._given)

    @property
    def _steps(self) -> Steps:
        ranks = self._ranks
        asked = self.order, len(self.dataset), self.batch_size, *ranks, self.drop_last
        return Steps(*asked, self._views_of)

    @property
    def rank(self) -> int:
        """Of this process, 0 … world - 1."""
        return self._ranks[0]

    @property
    def world(self) -> int:
        """Number of ranks."""
        return self._ranks[1]

    @property
    def stride(self) -> int:
        """Positions of one step of all ranks."""
        return self._steps.stride

    @property
    def epoch(self) -> int:
        """Of the next batch; with worker processes, of the next that they read."""
        if self._place is not None:
            return self._place.epoch
        if self._progress.in_workers():
            newest, read = self._progress.newest()
            return newest + read
        return self._progress.at()[0]

    @property
    def position(self) -> int:
        """Where in the epoch the next step begins. Raises FacefoldError as `state_dict` does."""
        return self._here().position

    @property
    def remaining(self) -> int:
        """Batches of the epoch still to come. Raises FacefoldError as `state_dict` does."""
        here = self._here()
        return len(self._steps.starts(here.epoch, here.position))

    def __len__(self) -> int:
        """Batches of the whole epoch."""
        return len(self._steps.starts(self.epoch))

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; worker processes do with their next iteration."""
        if get_worker_info() is not None:
            raise FacefoldError("set_epoch in a worker process: call it where the DataLoader is")
        check_accelerate(self)
        self._progress.go(whole("epoch", epoch), 0)

    def state_dict(self) -> dict[str, Any]:
        """Where the next batch begins, and of which version, selection and order.

        In a worker process, the next of its own. Raises FacefoldError in the process whose
        DataLoader has worker processes: they are ahead of what it has handed out.
        """
        worker, here = get_worker_info(), self._here()
        return {
            **self._owner,
            "epoch": here.epoch,
            "position": here.position,
            "stride": self.stride,
            "workers": worker.num_workers if worker else 0,
            "turned": here.turned,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go where `state_dict` was taken, with another number of ranks if wished.

        Raises FacefoldError for a state that is partial, of another version, selection or order,
        or of another number of worker processes.
        """
        saved, worker, steps = checked_state(state, self._owner), get_worker_info(), self._steps
        here = worker.num_workers if worker else 0
        if saved["workers"] != here:
            raise FacefoldError(
                f"a state with num_workers={saved['workers']}, here num_workers={here}: resume "
                "with as many"
            )
        epoch, position = saved["epoch"], saved["position"]
        if worker is None:
            ended = not steps.starts(epoch, position)  # of smaller steps than those of this loader
            self._progress.go(epoch + ended, 0 if ended else position)
            return
        if saved["stride"] != steps.stride:
            raise FacefoldError(
                f"a worker's state of steps of {saved['stride']} samples, here of {steps.stride}: "
                "resume with ranks times batch_size the same"
            )
        self._loaded = Place(epoch, position, saved["turned"])

    @cached_property
    def _owner(self) -> dict[str, str]:
        return owner(self.dataset, self.order)

    @property
    def _progress(self) -> Progress:
        if get_worker_info() is None and not self._shared.is_ours():  # copied into this process
            self._shared = Progress(*self._shared.at())
        return self._shared

    def _here(self) -> Place:
        if self._place is not None:
            return self._place
        if get_worker_info() is None and self._progress.in_workers():
            raise FacefoldError(
                "worker processes read this loader, ahead of what their DataLoader has handed "
                "out: take the state of a torchdata StatefulDataLoader, or use num_workers=0"
            )
        return Place(*self._progress.at())

    def __iter__(self) -> Iterator[Sample]:
        worker = get_worker_info()
        if worker is None:
            check_accelerate(self)
            return self._iteration()
        # a worker's place is asked for before its first batch
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            steps = self._steps
            epoch, start = self._progress.begin(worker, lambda epoch: len(steps.starts(epoch)))
            self._place = Place(epoch, start + worker.id * self.stride)
        else:
            self._progress.enter(worker, loaded.epoch, turned=loaded.turned)
            self._place = loaded
        return self._turns(worker, self._place, loaded is not None)

    def _iteration(self) -> Iterator[Sample]:
        progress, steps = self._progress, self._steps
        if progress.in_workers():
            progress.go(progress.newest()[0] + 1, 0)
        epoch, position = progress.at()
        steps.check(epoch)
        starts = steps.starts(epoch, position)
        if not starts:  # ranks have come since the state was loaded
            progress.go(epoch + 1, 0)
        stride = steps.stride
        for first, batch in self._gathering.batches(steps, epoch, starts):
            ends = first == starts[-1]
            progress.go(epoch + ends, 0 if ends else first + stride)
            yield batch.pop()

    def _turns(self, worker: WorkerInfo, place: Place, resumed: bool) -> Iterator[Sample]:
        """A worker's part of an epoch: every `num_workers`-th step from its place on."""
        progress, steps = self._progress, self._steps
        if resumed and max(progress.epochs(worker)) > place.epoch:
            place = steps.next_epoch(place)  # another worker has had the last step
            progress.enter(worker, place.epoch, turned=True)
        progress.check(worker, place.epoch)
        steps.check(place.epoch)
        starts = steps.starts(place.epoch, place.position)[:: worker.num_workers]
        if not starts:
            progress.enter(worker, place.epoch, read=True, turned=place.turned)
        for first, batch in self._gathering.batches(steps, place.epoch, starts):
            progress.check(worker, place.epoch)
            self._place = steps.next_turn(place.epoch, first, worker.num_workers)
            if first == starts[-1]:
                progress.enter(worker, place.epoch, read=True, turned=place.turned)
            yield batch.pop()
