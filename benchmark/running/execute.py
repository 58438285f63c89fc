"""One run from its plan to its record: claim -> data -> training -> evaluation -> record."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmark.data.images import CachedImages, cache_folder
from benchmark.distributed import ALONE, Peers, check_batch_size
from benchmark.errors import InputError, RunFailed, RunHeld, RunInterrupted
from benchmark.method import Method
from benchmark.running.environment import code_digest, git_state, reset_peak_memory, resolve_device
from benchmark.running.images import cache_images, has_images_to_compare, label_warnings, other_images
from benchmark.running.plan import Plan, plan
from benchmark.running.rerun import Decision, Rerun, decide, lacks_oracle
from benchmark.running.score import Scorer, evaluate, make_normalizer
from benchmark.running.stop import stop_on_signal
from benchmark.running.task import make_task
from benchmark.store.records import EpochLogits, Metrics, Record
from benchmark.store.runs import RunFolder, Store
from benchmark.training.loop import Trainer
from benchmark.training.randomness import seed_everything
from benchmark.training.setup import ImageSet, Runtime, Saving, TrainingConfig, TrainingData
from benchmark.ui.progress import Reporter

DEFAULT_RESULTS = Path("results/local")


def run(
    method: str,
    dataset: str = "shapes-lt",
    *,
    results: Path | str = DEFAULT_RESULTS,
    rerun: Rerun = "missing",
    device: str = "auto",
    reporter: Reporter | None = None,
    **specification: Any,
) -> Record:
    """Run one method once, or return the record of the run that was done before.

    The other arguments are those of `plan_seeds`. Raises InputError (nothing was started), StoreError, RunFailed (the
    attempt and its cause are kept) or RunInterrupted (call again to go on).
    """
    return execute(plan(method, dataset, **specification), results, rerun, device, reporter)


def execute(
    work: Plan,
    results: Path | str = DEFAULT_RESULTS,
    rerun: Rerun = "missing",
    device: str = "auto",
    reporter: Reporter | None = None,
    peers: Peers = ALONE,
) -> Record | None:
    """Carry out a plan where the re-run rule says so; see `run`.

    peers: the processes that do it together, each of which calls this with the same arguments; None for all but the
    first, whatever the first one returns.
    """
    reporter = reporter or Reporter()
    folder = Store(results).folder(work.spec)
    if not peers.is_first:
        return _assist(work, folder, device, peers)
    with peers.summons() as call:
        decision = decide(work, folder, rerun)
        if not decision.launch:
            return _not_launched(work, folder, decision.state, rerun, reporter)
        return _carry_out(work, folder, decision, device, reporter, peers, call)


def carry_out(
    work: Plan, folder: RunFolder, decision: Decision, device: str, reporter: Reporter, peers: Peers = ALONE
) -> Record | None:
    """Carry out a plan as it was decided, on from where earlier attempts of the decision came; see `execute`.

    Raises RunHeld, a StoreError, where another process is at it.
    """
    if not peers.is_first:
        return _assist(work, folder, device, peers)
    with peers.summons() as call:
        return _carry_out(work, folder, decision, device, reporter, peers, call)


def _carry_out(
    work: Plan,
    folder: RunFolder,
    decision: Decision,
    device: str,
    reporter: Reporter,
    peers: Peers,
    call: Callable[[str], None],
) -> Record:
    """What the first process does; `call` has the others begin, with the digest of the training images."""
    spec = work.spec
    check_batch_size(spec.recipe.batch_size, peers.size)
    where = peers.place(resolve_device(device))
    git_state()  # now, before anything can change
    cache_folder()  # where nobody says where it is, nothing is started
    work.dataset.source.check(work.dataset.splits.values())
    folder.check_writable()
    with stop_on_signal() as stop, folder.claim() as claim, reporter.logging_to(folder.log_path), _memory_errors():
        if folder.record_digest() != decision.replaces and (record := folder.record()) is not None:
            claim.withdraw()
            reporter.line(f"done meanwhile by another process: {folder.path}")
            return record
        if decision.fresh and claim.number == decision.attempt:
            folder.checkpoint_path.unlink(missing_ok=True)
        started = time.monotonic()
        method = _make_method(work, reporter)
        cached = cache_images(work, reporter)
        prepare_s = time.monotonic() - started
        reset_peak_memory(where)
        where_from = f"protocol {spec.protocol}, {spec.recipe.backbone}, weights {spec.weights.name}"
        reporter.line(f"{spec.method} on {spec.dataset.name}, {where_from}, seed {spec.seed}, {where}: {folder.path}")
        for warning in label_warnings(work.dataset):
            reporter.line(warning)
        scorer = Scorer(work, method, cached, where, reporter)
        observe = (lambda epoch, sets: scorer.keep_epoch(claim, epoch, sets)) if work.oracle else None
        trainer = _make_trainer(
            work, method, cached, folder, where, reporter, lambda: claim.check() or stop.asked, peers, observe
        )
        with stop.at_a_step():
            call(cached["train"].digest)
            peers.wait()
            outcome = trainer.run()
        if stop.asked:  # after the last step: its checkpoint is there
            raise RunInterrupted("stopped before the test set was scored; run again to go on")
        record = evaluate(work, trainer, outcome, cached, scorer, claim, prepare_s)
        with stop.at_a_step():  # now it is as good as done
            claim.finish(record)
        reporter.line(f"done: {summary(record.metrics)}")
    return record


def _assist(work: Plan, folder: RunFolder, device: str, peers: Peers) -> None:
    """What the other processes do: train, when the first one calls them to it.

    Raises InputError when the training images here are not those of the first process, and what training raises.
    """
    reporter = Reporter()
    with stop_on_signal() as stop, stop.at_a_step(), _memory_errors():
        digest = peers.tell(None)
        if digest is None:
            return
        where = peers.place(resolve_device(device))
        method = _make_method(work, reporter)
        # One process of a node decodes what the node has not; the first process has done so on its own.
        if peers.local_rank == 0:
            cache_images(work, reporter, ["train"])
        peers.wait()
        cached = cache_images(work, reporter, ["train"])
        if cached["train"].digest != digest:
            raise InputError(
                f"{work.dataset.card.title}: process {peers.rank} finds other training images than the first process; "
                "all need the same"
            )
        _make_trainer(work, method, cached, folder, where, reporter, lambda: stop.asked, peers).run()


def _make_method(work: Plan, reporter: Reporter) -> Method:
    """The method as training begins with it: from the run's seed."""
    spec = work.spec
    seed_everything(spec.seed)
    state = work.weights.load(reporter.line)
    return work.method(make_task(spec.recipe, work.dataset, spec.weights, state, say=reporter.line), work.config)


def _make_trainer(
    work: Plan,
    method: Method,
    cached: dict[str, CachedImages],
    folder: RunFolder,
    device: torch.device,
    reporter: Reporter,
    stop: Callable[[], bool],
    peers: Peers,
    observe: Callable[[int, Iterator[str]], EpochLogits] | None = None,
) -> Trainer:
    spec = work.spec
    validation = _image_set(work, cached, "val") if "val" in cached else None
    return Trainer(
        method,
        TrainingConfig(spec.recipe, work.method.samplers(work.config), work.method.stages(work.config), spec.seed),
        TrainingData(_image_set(work, cached, "train"), validation, work.dataset.groups, make_normalizer(work, device)),
        Runtime(device, reporter, peers, stop),
        Saving(folder.checkpoint_path, work.run_id, code_digest(work.method), cached["train"].digest),
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


def _not_launched(work: Plan, folder: RunFolder, state: str, rerun: Rerun, reporter: Reporter) -> Record:
    record = folder.record()
    if record is not None:
        decoded = cache_images(work, reporter) if has_images_to_compare(work) else {}
        if others := other_images(record, {name: images.digest for name, images in decoded.items()}):
            raise InputError(
                f"{folder.path}: the run was done on other images ({', '.join(others)}) than are here now; bring back "
                "the images, name another folder with --results, or make it anew with --rerun stale"
            )
        folder.tidy(record)
        note = " by other code than this: --rerun stale runs it again" if state == "stale" else ""
        if lacks_oracle(work, record):
            note += " without the logits of every epoch: --rerun always makes it anew with them"
        reporter.line(f"done before{note}: {folder.path}")
        return record
    if state == "failed":
        last = folder.last_attempt() or {}
        message = f"{folder.path}: the run failed before: {last.get('message')}; try again with --rerun failed"
        raise RunFailed(message, cause=last.get("cause", "code"))
    if state == "running":
        raise RunHeld(f"{folder.path}: the run is being worked on by another process; wait for it or stop it")
    raise InputError(f"{folder.path}: the run is {state} and --rerun {rerun} launches nothing; use --rerun missing")


def summary(metrics: Metrics) -> str:
    """The four numbers in a line."""
    named = {name: getattr(metrics, name) for name in ("overall", "head", "medium", "tail")}
    return "mAP " + ", ".join(f"{name} {'-' if value is None else f'{value:.2f}'}" for name, value in named.items())


def _image_set(work: Plan, cached: dict[str, CachedImages], split: str) -> ImageSet:
    return ImageSet(cached[split].load(), work.dataset.splits[split].targets)
