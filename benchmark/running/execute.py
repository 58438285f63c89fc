"""From a plan and a decision to a record: claim -> images -> method -> training -> scoring -> record."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmark.base.cache import cache_folder
from benchmark.data.images import CachedImages
from benchmark.distributed import ALONE, Peers, check_batch_size
from benchmark.errors import InputError, RunFailed, RunInterrupted
from benchmark.method import Method
from benchmark.running.environment import git_state, reset_peak_memory, resolve_device
from benchmark.running.images import cache_images, check_duplicates, duplicate_images, label_warnings
from benchmark.running.plan import Plan
from benchmark.running.rerun import Decision, not_launched
from benchmark.running.score import Scorer, evaluate, make_normalizer
from benchmark.running.stop import stop_on_signal
from benchmark.running.task import make_task
from benchmark.store.claim import Claim, claimed
from benchmark.store.folder import RunFolder
from benchmark.store.records import Metrics, Record
from benchmark.training.loop import Trainer
from benchmark.training.randomness import seed_everything
from benchmark.training.setup import ImageSet, Runtime, Saving, TrainingConfig, TrainingData
from benchmark.training.validation import Observer
from benchmark.ui.progress import Reporter


def execute(
    plan: Plan,
    decision: Decision,
    folder: RunFolder,
    device: str = "auto",
    reporter: Reporter | None = None,
    peers: Peers = ALONE,
) -> Record | None:
    """Carry out a plan as it was decided, or return the existing record.

    A run that was stopped resumes from the checkpoint of an earlier attempt of the same decision.

    peers: the processes that carry out the run together; each calls this with a plan of its own. The first one uses the
    decision and returns the record; the others return None.

    Raises InputError (nothing was started), StoreError (RunHeld, where another process holds the run), RunFailed or
    RunInterrupted.
    """
    reporter = reporter or Reporter()
    if not peers.is_first:
        _assist(plan, folder, device, peers)
        return None
    with peers.starting_others() as start:
        if not decision.launch:
            return not_launched(plan, decision, folder, reporter)
        return _lead(plan, decision, folder, device, reporter, peers, start)


def _lead(
    plan: Plan,
    decision: Decision,
    folder: RunFolder,
    device: str,
    reporter: Reporter,
    peers: Peers,
    start: Callable[[str], None],
) -> Record:
    """The part of the first process. `start` starts the others, with the digest of the training images."""
    check_batch_size(plan.spec.recipe.batch_size, peers.size)
    own_device = peers.own_device(resolve_device(device))
    git_state()  # cached now, before the checkout can change
    cache_folder()  # raises InputError without one, before anything is started
    plan.dataset.source.check(plan.dataset.splits.values())
    folder.check_writable()
    with stop_on_signal() as stop, claimed(folder) as claim, reporter.logging_to(folder.log_path), _memory_errors():
        if (record := _made_meanwhile(decision, folder)) is not None:
            claim.withdraw()
            reporter.line(f"done meanwhile by another process: {folder.path}")
            return record
        _remove_earlier_checkpoint(decision, folder, claim)

        def should_stop() -> bool:
            claim.check()
            return stop.asked

        runtime = Runtime(own_device, reporter, peers, should_stop)
        started = time.monotonic()
        method = _make_method(plan, reporter)
        shared_images = check_duplicates(plan, duplicate_images(plan, reporter), reporter)
        cached = cache_images(plan, reporter)
        prepare_s = time.monotonic() - started
        reset_peak_memory(own_device)
        _announce(plan, folder, runtime)
        scorer = Scorer(plan, method, cached, runtime)
        observe = partial(scorer.keep_epoch, claim) if plan.oracle else None
        trainer = _make_trainer(plan, method, cached, folder, runtime, observe)
        with stop.at_a_step():
            start(cached["train"].digest)
            peers.wait()
            outcome = trainer.run()
        if stop.asked:  # after the last step, whose checkpoint is saved
            raise RunInterrupted("stopped before the test set was scored; run again to go on")
        record = evaluate(scorer, outcome, claim, prepare_s, shared_images)
        with stop.at_a_step():  # a signal no longer stops it
            claim.finish(record)
        reporter.line(f"done: {summary(record.metrics)}")
    return record


def _assist(plan: Plan, folder: RunFolder, device: str, peers: Peers) -> None:
    """The part of the other processes: they train when the first one starts them.

    Raises InputError when the training images here are not those of the first process, and the errors of training.
    """
    reporter = Reporter()
    with stop_on_signal() as stop, stop.at_a_step(), _memory_errors():
        digest = peers.broadcast(None)
        if digest is None:
            return
        runtime = Runtime(peers.own_device(resolve_device(device)), reporter, peers, lambda: stop.asked)
        method = _make_method(plan, reporter)
        # One process of a node decodes for all; the first process has decoded on its own node.
        if peers.local_rank == 0:
            cache_images(plan, reporter, ["train"])
        peers.wait()
        cached = cache_images(plan, reporter, ["train"])
        if cached["train"].digest != digest:
            raise InputError(
                f"{plan.dataset.card.title}: process {peers.rank} finds other training images than the first process; "
                "all need the same"
            )
        _make_trainer(plan, method, cached, folder, runtime).run()


def _made_meanwhile(decision: Decision, folder: RunFolder) -> Record | None:
    """The record that another process made since the decision; None where there is none."""
    return folder.record() if folder.record_digest() != decision.replaces else None


def _remove_earlier_checkpoint(decision: Decision, folder: RunFolder, claim: Claim) -> None:
    """Remove a checkpoint from before the decision, where the run is to begin anew."""
    if decision.fresh and claim.number == decision.attempt:
        folder.checkpoint_path.unlink(missing_ok=True)


def _announce(plan: Plan, folder: RunFolder, runtime: Runtime) -> None:
    spec = plan.spec
    made_of = f"protocol {spec.protocol}, {spec.recipe.backbone}, weights {spec.weights.name}"
    runtime.reporter.line(
        f"{spec.method} on {spec.dataset.name}, {made_of}, seed {spec.seed}, {runtime.device}: {folder.path}"
    )
    for warning in label_warnings(plan.dataset):
        runtime.reporter.line(warning)


def _make_method(plan: Plan, reporter: Reporter) -> Method:
    """The method as it is before training, built from the run's seed."""
    spec = plan.spec
    seed_everything(spec.seed)
    state = plan.weights.load(reporter)
    return plan.method(make_task(spec.recipe, plan.dataset, spec.weights, state, reporter=reporter), plan.config)


def _make_trainer(
    plan: Plan,
    method: Method,
    cached: dict[str, CachedImages],
    folder: RunFolder,
    runtime: Runtime,
    observe: Observer | None = None,
) -> Trainer:
    spec = plan.spec

    def images(split: str) -> ImageSet:
        return ImageSet(cached[split].load(), plan.dataset.splits[split].targets)

    return Trainer(
        method,
        TrainingConfig(spec.recipe, plan.method.samplers(plan.config), plan.method.stages(plan.config), spec.seed),
        TrainingData(
            train=images("train"),
            validation=images("val") if "val" in cached else None,
            groups=plan.dataset.groups,
            normalizer=make_normalizer(plan, runtime.device),
        ),
        runtime,
        Saving(folder.checkpoint_path, plan.run_id, plan.code_digest, cached["train"].digest),
        observe,
    )


@contextlib.contextmanager
def _memory_errors() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunFailed(
            f"out of memory: {str(error).splitlines()[0]}; use a smaller recipe.batch_size or --image-size", cause="oom"
        ) from None
    except MemoryError as error:
        raise RunFailed(f"out of memory: {error or 'the machine has none left'}", cause="oom") from None


def summary(metrics: Metrics) -> str:
    """The scores in one line: overall, head, medium and tail."""
    named = {name: getattr(metrics, name) for name in ("overall", "head", "medium", "tail")}
    return "mAP " + ", ".join(f"{name} {'-' if value is None else f'{value:.2f}'}" for name, value in named.items())
