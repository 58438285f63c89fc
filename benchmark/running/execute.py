"""One run from its specification to its record: spec -> claim -> data -> training -> evaluation -> record."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import operator
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from benchmark.base.signals import acknowledged, handled
from benchmark.data.augment import training_cache_size
from benchmark.data.dataset import (
    DATA_ROOT_VARIABLE,
    Dataset,
    DatasetCard,
    DatasetFolder,
    find_dataset,
    list_bytes,
)
from benchmark.data.images import CachedImages, FileImages, OwnImages, cache_folder, cache_split, known_digest
from benchmark.data.registered import settings_name
from benchmark.distributed import ALONE, Peers, check_batch_size
from benchmark.errors import InputError, RunFailed, RunHeld, RunInterrupted, Unfit
from benchmark.evaluation import score
from benchmark.method import METHODS, Method, MethodConfig, Task
from benchmark.models.backbones import BACKBONES, Backbone, make_backbone
from benchmark.models.clip import Clip, TextTower, clip_backbones, make_clip, make_text_tower
from benchmark.models.weights import NONE as NO_WEIGHTS
from benchmark.models.weights import PretrainedWeights, clip_backbone_of, resolve_weights
from benchmark.registry import did_you_mean
from benchmark.running.environment import (
    code_digest,
    describe,
    git_state,
    peak_memory_mb,
    reset_peak_memory,
    resolve_device,
)
from benchmark.running.own_network import of_recipe, watching
from benchmark.spec import (
    FOR_PEOPLE,
    PROTOCOLS,
    DatasetRef,
    Protocol,
    Recipe,
    RunSpec,
    Strict,
    WeightsRef,
    deep_merge,
    flatten,
    nested,
    parse,
    plain_value,
)
from benchmark.store.records import SCHEMA_VERSION, EpochLogits, Metrics, Parameters, Record, Selection, Timings
from benchmark.store.runs import Claim, RunFolder, State, Store
from benchmark.training.inference import Normalizer, predict, scoring_cache_size
from benchmark.training.loop import ImageSet, Outcome, Trainer, seed_everything
from benchmark.training.stages import epochs_per_stage
from benchmark.ui.progress import Reporter

Rerun = Literal["never", "missing", "failed", "stale", "always"]
DEFAULT_RESULTS = Path("results/local")
# Part of a track's name, so not worth repeating as "changed by the user".
_TRACK_KEYS = ("backbone", "weights", "image_size")


@dataclass(frozen=True)
class Plan:
    """A run that can be started: its specification, and what it is made from.

    request: the arguments of `plan`, plain values, so that another process can make the same plan. oracle: whether the
    test logits of every epoch are kept; no part of the specification, since it changes nothing else.
    """

    spec: RunSpec
    method: type[Method]
    config: MethodConfig
    dataset: Dataset
    weights: PretrainedWeights
    request: dict[str, Any]
    oracle: bool = False

    @functools.cached_property
    def run_id(self) -> str:
        """The id of the run; see `RunSpec.run_id`."""
        return self.spec.run_id

    @property
    def folder_name(self) -> str:
        """Name of the run's folder."""
        return self.spec.folder_of(self.run_id)


def plan(method: str, dataset: str = "shapes-lt", *, seed: int = 0, **specification: Any) -> Plan:
    """Resolve and check everything that defines a run, without touching an image.

    The other arguments are those of `plan_seeds`, which tells what is raised.
    """
    [work] = plan_seeds(method, dataset, seeds=[seed], **specification)
    return work


def plan_seeds(
    method: str,
    dataset: str,
    *,
    seeds: Sequence[int],
    protocol: str | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    image_size: int | None = None,
    epochs: int | None = None,
    settings: dict[str, Any] | None = None,
    data_root: Path | None = None,
    oracle: bool = False,
) -> list[Plan]:
    """Plans of runs that differ in the seed alone, made for little more than one.

    dataset: a registered name or the path of a dataset folder. protocol: by default the dataset's own.
    settings: the method's configuration by name, and the recipe's by dotted name (`recipe.optimizer.lr`).
    oracle: keep the test logits of every epoch, for the best-on-test number that is shown and never ranked.
    Raises InputError for anything unknown or unfit; Unfit, one of these, where the protocol has no place for the
    method.
    """
    seeds = [_seed(seed) for seed in seeds]
    method_class = METHODS.get(method)
    folder = find_dataset(dataset)
    chosen = PROTOCOLS.get(protocol) if protocol else _default_protocol(folder, method, weights)
    data = _open(folder, data_root)
    ref = DatasetRef(name=data.name, fingerprint=data.fingerprint)
    known_name = settings_name(ref)
    settings = _plain(settings)
    recipe_changes, config_changes = _split_settings(settings or {}, method_class)
    given = _plain({"backbone": backbone, "weights": weights, "image_size": image_size, "epochs": epochs})
    recipe_changes = deep_merge(recipe_changes, {key: value for key, value in given.items() if value is not None})
    base = chosen.recipe_for(method, known_name)
    recipe = parse(Recipe, deep_merge(base.model_dump(mode="json"), recipe_changes), "recipe")
    if recipe.selection == "best-val" and "val" not in data.splits:
        raise InputError(f"recipe.selection is best-val, but dataset {data.name!r} has no val.txt; use last")
    if recipe.selection == "best-val" and not data.splits["val"].targets.any():
        raise InputError(
            f"recipe.selection is best-val, but no image of val.txt of dataset {data.name!r} has a label; use last"
        )
    BACKBONES.get(recipe.backbone)  # first: of an unknown one no other message would help
    _check_recipe(chosen, method, recipe)
    pretrained = _resolve_weights(recipe, chosen, given)
    recipe = _fit_to_weights(recipe, pretrained, recipe_changes)
    config = method_class.configure(known_name, config_changes)
    code_digest(method_class)  # read now: plans are made before anything runs and the code can change
    _check_method(method, config, make_task(recipe, data, pretrained.ref, None, load=False), data.fingerprint)
    spec = RunSpec(
        method=method,
        method_version=method_class.version,
        config=config.model_dump(mode="json"),
        dataset=ref,
        protocol=chosen.name,
        protocol_version=chosen.version,
        recipe=recipe,
        weights=pretrained.ref,
        overrides=_changed(base, recipe, recipe_changes),
        config_overrides=_changed(method_class.configure(known_name, {}), config, config_changes),
        seed=0,
    )
    request = given | {
        "method": method,
        "dataset": dataset,
        "protocol": protocol,
        "settings": settings,
        "data_root": None if data_root is None else str(data_root),
        "oracle": oracle,
    }
    return [
        Plan(
            spec.model_copy(update={"seed": seed}),
            method_class,
            config,
            data,
            pretrained,
            request | {"seed": seed},
            oracle,
        )
        for seed in seeds
    ]


def _seed(value: Any) -> int:
    """A seed as Python's int. Raises InputError for anything but a whole number in range."""
    try:
        seed = operator.index(value)
    except TypeError:
        seed = -1
    if isinstance(value, bool) or not 0 <= seed < 2**31:
        raise InputError(f"seed {value} is out of range; give one from 0 to {2**31 - 1}")
    return seed


def _plain(data: Any) -> Any:
    """Arguments as plain values: another process may be told them. Raises InputError."""
    try:
        return json.loads(json.dumps(data, default=plain_value))
    except (TypeError, ValueError) as error:
        raise InputError(f"settings are not plain data: {error}") from None


def _open(folder: DatasetFolder, data_root: Path | None) -> Dataset:
    """The dataset in a folder, its lists read once as long as they stay as they are. Raises InputError."""
    contents = []
    for name in ("classes.txt", "train.txt", "val.txt", "test.txt"):
        try:
            contents.append(hashlib.sha256(list_bytes(folder.path / name)).hexdigest())
        except OSError:
            contents.append(None)
    dataset = _opened(folder, folder.card, data_root, os.environ.get(DATA_ROOT_VARIABLE), *contents)
    # A copy has its fingerprint taken anew: the images may have changed.
    return replace(dataset) if isinstance(dataset.source, OwnImages) else dataset


@functools.lru_cache(maxsize=16)
def _opened(folder: DatasetFolder, card: DatasetCard, data_root: Path | None, *state: str | None) -> Dataset:
    return folder.open(data_root)


def _default_protocol(folder: DatasetFolder, method: str, weights: str | None) -> Protocol:
    """The dataset's protocol, or its protocol for CLIP where the other does not give the method what it requires.

    weights: those that the user names, if any. A backbone that the user names does not count: with a CLIP of one's own
    a method that needs CLIP takes the recipe that was made for CLIP.
    """
    for name in (folder.card.protocol, folder.card.clip_protocol):
        if name not in PROTOCOLS:
            known = did_you_mean(name, PROTOCOLS)
            raise InputError(f"{folder.path / 'dataset.yaml'}: unknown protocol {name!r}{known}")
    usual = PROTOCOLS.get(folder.card.protocol)
    recipe = usual.recipe.model_copy(update={"weights": weights or usual.recipe.weights})
    if _lacks(method, recipe) is None:
        return usual
    return PROTOCOLS.get(folder.card.clip_protocol)


def _lacks(method: str, recipe: Recipe) -> str | None:
    """What a method requires and a recipe does not give, with the remedy."""
    requires = METHODS.get(method).requires
    if requires.endswith("clip") and recipe.backbone not in clip_backbones():
        return (
            f"a CLIP backbone, and {recipe.backbone} is none; use --protocol demo-clip or controlled-clip, or "
            f"--backbone {'|'.join(clip_backbones())}"
        )
    if requires.startswith("pretrained") and recipe.weights == NO_WEIGHTS:
        return "pretrained weights: it takes their features as they are; name some with --weights"
    return None


def _check_recipe(protocol: Protocol, method: str, recipe: Recipe) -> None:
    lacking = _lacks(method, recipe)
    if lacking is not None:
        raise Unfit(f"method {method!r} needs {lacking}")
    if protocol.pretrained_only and recipe.weights == NO_WEIGHTS:
        raise InputError(
            f"protocol {protocol.name!r} is for pretrained weights: none would be a result that nobody printed; "
            "use another protocol"
        )
    if recipe.neck_width is not None:
        raise InputError(
            "recipe.neck_width was a linear layer and ReLU, which no published recipe has; use recipe.neck, a linear "
            "layer and batch norm"
        )


_checked: set[tuple] = set()


def _check_method(name: str, config: MethodConfig, task: Task, fingerprint: str) -> None:
    """Raise Unfit unless the method can be built for the task, on the meta device, which computes nothing, and has an
    epoch for each of its stages."""
    method = METHODS.get(name)
    # What a method is built from: all but the learning rate, the axis that sweeps have most often.
    recipe = task.recipe.model_dump_json(exclude={"optimizer": {"lr"}})
    key = (method, repr(config), recipe, fingerprint)
    if key in _checked:
        return
    try:
        epochs_per_stage(method.stages(config), task.recipe.epochs)
        with torch.device("meta"):
            method(task, config)
    except InputError as error:
        raise Unfit(f"method {name!r}: {error}") from None
    _checked.add(key)


def _resolve_weights(recipe: Recipe, protocol: Protocol, given: dict[str, Any]) -> PretrainedWeights:
    try:
        return resolve_weights(recipe.backbone, recipe.weights, recipe.image_size)
    except InputError as error:
        if given["backbone"] and not given["weights"]:
            raise InputError(f"{error} (these are protocol {protocol.name!r}'s: give --weights too)") from None
        raise


def _split_settings(settings: dict[str, Any], method: type[Method]) -> tuple[dict[str, Any], dict[str, Any]]:
    recipe: dict[str, Any] = {}
    config: dict[str, Any] = {}
    recipe_keys = [f"recipe.{key}" for key in Recipe.model_fields]
    for key, value in settings.items():
        if key.startswith("recipe."):
            recipe = deep_merge(recipe, nested({key.removeprefix("recipe."): value}))
        elif key in method.Config.model_fields:
            config[key] = value
        else:
            known = [*method.Config.model_fields, *recipe_keys]
            raise InputError(f"unknown setting {key!r} for method {method.title}{did_you_mean(key, known)}")
    return recipe, config


def _fit_to_weights(recipe: Recipe, weights: PretrainedWeights, asked: dict[str, Any]) -> Recipe:
    """Batch norm that is folded into the convolutions has no statistics to train."""
    changes: dict[str, Any] = {"weights": weights.ref.name}
    if weights.ref.batch_norm == "folded":
        if asked.get("batch_norm") == "train":
            raise InputError(f"weights {weights.ref.name}: batch norm is folded; recipe.batch_norm must be frozen")
        changes["batch_norm"] = "frozen"
    return recipe.model_copy(update=changes)


def _changed(before: Strict, after: Strict, asked: dict[str, Any]) -> dict[str, Any]:
    """What the user asked for that differs from the default, by dotted name, as people read it."""
    old, new = (flatten(value.model_dump(mode="json", context=FOR_PEOPLE)) for value in (before, after))
    return {key: new[key] for key in flatten(asked) if key not in _TRACK_KEYS and new[key] != old.get(key)}


@dataclass(frozen=True)
class Decision:
    """What a re-run rule says of a run: where it stands, whether to launch it, and what launching means.

    replaces: sha256 of the record file that is made anew, None for none. Any other record that is there later was made
    by somebody who did the same meanwhile, and is kept. attempt: the number of the first attempt from this decision.
    fresh: that attempt throws an earlier checkpoint away; those after it go on from its own. took_s: device time of the
    run that is there, None for none.
    """

    state: State | Literal["stale", "other images", "queued"]
    launch: bool
    replaces: str | None = None
    attempt: int = 1
    fresh: bool = False
    took_s: float | None = None


def decide(
    work: Plan, folder: RunFolder, rerun: Rerun, pixels: Callable[[Plan], Mapping[str, str | None]] | None = None
) -> Decision:
    """What a re-run rule says of a run. pixels: `known_pixels` unless given, or what remembers it for many runs.

    never: launch nothing. missing: what is pending or was interrupted. failed: that and what failed. stale: that of
    `missing` and what was done by other code or on other images than are here now. always: everything that is not
    running, from the beginning.
    """
    # First: a record that appears after this is somebody else's, and no reason to make another.
    replaces = folder.record_digest()
    record = folder.record()
    state: State | Literal["stale", "other images"] = "done" if record is not None else folder.state()
    if record is not None and other_images(record, (pixels or known_pixels)(work)):
        state = "other images"
    elif record is not None and record.environment.code_digest != code_digest(work.method):
        state = "stale"
    took_s = None if record is None else record.timings.total_s
    launch = {
        "never": (),
        "missing": ("pending", "preempted"),
        "failed": ("pending", "preempted", "failed"),
        "stale": ("pending", "preempted", "stale", "other images"),
        "always": ("pending", "preempted", "failed", "stale", "other images", "done"),
    }[rerun]
    if state not in launch:
        return Decision(state, launch=False, took_s=took_s)
    return Decision(state, True, replaces, folder.next_attempt(), rerun == "always", took_s)


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
    with _stop_on_signal() as stop, folder.claim() as claim, reporter.logging_to(folder.log_path), _memory_errors():
        if folder.record_digest() != decision.replaces and (record := folder.record()) is not None:
            claim.withdraw()
            reporter.line(f"done meanwhile by another process: {folder.path}")
            return record
        if decision.fresh and claim.number == decision.attempt:
            folder.checkpoint_path.unlink(missing_ok=True)
        started = time.monotonic()
        method = _make_method(work, reporter)
        cached = _cache_images(work, reporter)
        prepare_s = time.monotonic() - started
        reset_peak_memory(where)
        where_from = f"protocol {spec.protocol}, {spec.recipe.backbone}, weights {spec.weights.name}"
        reporter.line(f"{spec.method} on {spec.dataset.name}, {where_from}, seed {spec.seed}, {where}: {folder.path}")
        for warning in label_warnings(work.dataset):
            reporter.line(warning)
        scorer = _Scorer(work, method, cached, where, reporter)
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
        record = _evaluate(work, trainer, outcome, cached, scorer, claim, prepare_s)
        with stop.at_a_step():  # now it is as good as done
            claim.finish(record)
        reporter.line(f"done: {summary(record.metrics)}")
    return record


def _assist(work: Plan, folder: RunFolder, device: str, peers: Peers) -> None:
    """What the other processes do: train, when the first one calls them to it.

    Raises InputError when the training images here are not those of the first process, and what training raises.
    """
    reporter = Reporter()
    with _stop_on_signal() as stop, stop.at_a_step(), _memory_errors():
        digest = peers.tell(None)
        if digest is None:
            return
        where = peers.place(resolve_device(device))
        method = _make_method(work, reporter)
        # One process of a node decodes what the node has not; the first process has done so on its own.
        if peers.local_rank == 0:
            _cache_images(work, reporter, ["train"])
        peers.wait()
        cached = _cache_images(work, reporter, ["train"])
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
    return Trainer(
        method,
        spec.recipe,
        work.method.samplers(work.config),
        work.method.stages(work.config),
        train=_image_set(work, cached, "train"),
        validation=_image_set(work, cached, "val") if "val" in cached else None,
        groups=work.dataset.groups,
        normalizer=_normalizer(work, device),
        seed=spec.seed,
        device=device,
        reporter=reporter,
        checkpoint=folder.checkpoint_path,
        run_id=work.run_id,
        code_digest=code_digest(work.method),
        data_digest=cached["train"].digest,
        stop=stop,
        peers=peers,
        observe=observe,
    )


def _normalizer(work: Plan, device: torch.device) -> Normalizer:
    return Normalizer(work.spec.weights.mean, work.spec.weights.std, device)


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


def lacks_oracle(work: Plan, record: Record) -> bool:
    """Whether a plan asks for the logits of every epoch, and a record of its run came without."""
    return work.oracle and bool(record.history) and not record.oracle


def _has_images_to_compare(work: Plan) -> bool:
    """Whether the images are files of a registered dataset, all of them here.

    Its lists do not say what is in the files. Of a dataset of one's own the contents are part of the fingerprint, and
    rendered images follow from the lists.
    """
    source = work.dataset.source
    return type(source) is FileImages and not source.is_absent(work.dataset.splits.values())


def known_pixels(work: Plan) -> dict[str, str | None]:
    """Split -> sha256 of its pixels as a run would see them, None where they are not decoded; nothing where there is
    nothing to compare."""
    if not _has_images_to_compare(work):
        return {}
    sizes, interpolation = cached_sizes(work), work.spec.weights.interpolation
    return {
        name: known_digest(split, work.dataset.source, sizes[name], interpolation)
        for name, split in work.dataset.splits.items()
    }


def other_images(record: Record, pixels: Mapping[str, str | None]) -> list[str]:
    """The splits whose images here are not those that a record was made from; as far as can be told. pixels: as
    `known_pixels` gives them."""
    return [name for name, digest in pixels.items() if digest not in (None, record.data_digests.get(name, digest))]


def _not_launched(work: Plan, folder: RunFolder, state: str, rerun: Rerun, reporter: Reporter) -> Record:
    record = folder.record()
    if record is not None:
        decoded = _cache_images(work, reporter) if _has_images_to_compare(work) else {}
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


def prepare_images(work: Plan, reporter: Reporter) -> dict[str, CachedImages]:
    """Check that every image of a plan's dataset is there and decode it into the cache, as `execute` does first; all
    pixels that are there are compared with their digests."""
    work.dataset.source.check(work.dataset.splits.values())
    for warning in label_warnings(work.dataset):
        reporter.line(warning)
    return _cache_images(work, reporter, thorough=True)


def label_warnings(dataset: Dataset) -> list[str]:
    """A line for each list without a single label: nothing can be scored on it."""
    return [
        f"warning: {dataset.name}: no image of {split.name}.txt has a label: every score on it will be missing, a dash "
        "in tables; write the class indices behind each path"
        for split in dataset.splits.values()
        if not split.targets.any()
    ]


def _cache_images(
    work: Plan, reporter: Reporter, names: Collection[str] = ("train", "val", "test"), thorough: bool = False
) -> dict[str, CachedImages]:
    sizes = cached_sizes(work)
    cached = {}
    for split in [split for name, split in work.dataset.splits.items() if name in names]:
        with reporter.task(f"decoding {split.name} images", len(split)) as task:
            cached[split.name] = cache_split(
                split,
                work.dataset.source,
                sizes[split.name],
                work.spec.weights.interpolation,
                advance=lambda done, total, task=task: task.update(done),
                thorough=thorough,
            )
    return cached


def cached_sizes(work: Plan) -> dict[str, int]:
    """Split -> side in pixels of its images in the cache."""
    recipe = work.spec.recipe
    scoring = scoring_cache_size(recipe.image_size, recipe.test_time)
    training = training_cache_size(recipe.image_size, recipe.augment)
    return {
        "train": training if work.method.trains_on == "images" else recipe.image_size,
        "val": scoring,
        "test": scoring,
    }


def _image_set(work: Plan, cached: dict[str, CachedImages], split: str) -> ImageSet:
    return ImageSet(cached[split].load(), work.dataset.splits[split].targets)


def make_task(
    recipe: Recipe,
    dataset: Dataset,
    weights: WeightsRef,
    state: dict[str, torch.Tensor] | None,
    load: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> Task:
    """What a method is told.

    state: of the recipe's weights, None for random ones. load: False leaves other networks random too: nothing is
    read or fetched. say: told of other networks' weights; see `PretrainedWeights.load`.
    """

    def backbone() -> Backbone:
        built = make_backbone(recipe.backbone, recipe.image_size, state, weights.quick_gelu)
        built.freeze(recipe.frozen_stages, batch_norm=recipe.batch_norm == "frozen")
        return of_recipe(built)

    def clip() -> Clip:
        built = make_clip(recipe.backbone, recipe.image_size, state, weights.quick_gelu)
        of_recipe(built.image)
        return built

    def other_backbone(name: str, other_weights: str) -> Backbone:
        other = resolve_weights(name, other_weights, recipe.image_size)
        return make_backbone(name, recipe.image_size, other.load(say) if load else None, other.ref.quick_gelu)

    return Task(
        class_names=dataset.classes,
        class_counts=tuple(dataset.class_counts.tolist()),
        num_images=len(dataset.splits["train"]),
        recipe=recipe,
        make_backbone=backbone,
        make_clip=clip,
        make_text_tower=functools.partial(make_text_tower, load=load, say=say),
        make_other_backbone=other_backbone,
    )


def absences(work: Plan) -> list[str]:
    """What a run needs and is not on this machine, a line each: images, and weights, those of other networks that its
    method asks for included."""
    missing = []
    try:
        work.dataset.source.check(work.dataset.splits.values())
    except InputError as error:
        missing.append(str(error))
    for backbone, weights in _networks(work).items():
        if not weights.is_here():
            missing.append(
                f"weights {weights.ref.name} ({backbone}) are not here: they are fetched when a run starts, where "
                "there is a network; bring the cache, or give a file"
            )
    return missing


def _networks(work: Plan) -> dict[str, PretrainedWeights]:
    """What each network of a run is -> its weights."""
    recipe = work.spec.recipe
    found = {recipe.backbone: work.weights}
    task = make_task(recipe, work.dataset, work.spec.weights, None, load=False)

    def text_tower(weights: str) -> TextTower:
        found[f"text tower for {work.spec.method}"] = resolve_weights(clip_backbone_of(weights), weights, 224)
        return task.make_text_tower(weights)

    def other_backbone(name: str, weights: str) -> Backbone:
        found[name] = resolve_weights(name, weights, recipe.image_size)
        return task.make_other_backbone(name, weights)

    with torch.device("meta"):
        work.method(replace(task, make_text_tower=text_tower, make_other_backbone=other_backbone), work.config)
    return found


class _Stop:
    """Whether Ctrl-C or SIGTERM has asked the run to stop."""

    def __init__(self) -> None:
        self.asked = False
        self._can_wait = False

    @contextlib.contextmanager
    def at_a_step(self) -> Iterator[None]:
        """Here the run looks at `asked` itself, at every step, and saves itself; elsewhere it stops at once."""
        self._can_wait = True
        try:
            yield
        finally:
            self._can_wait = False

    def note(self, number: int, frame: object) -> None:
        """The signal's handler. A second Ctrl-C is at once anywhere."""
        again, self.asked = self.asked, True
        if again and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not again and not self._can_wait:
            raise RunInterrupted("stopped; run again to go on")

    def words(self, number: int) -> str:
        """What is said of the first signal, at once."""
        if not self._can_wait:
            return "stopping"
        again = "; Ctrl-C again ends it at once" if number == signal.SIGINT else ""
        return f"stopping: the run saves itself at the next step{again}"


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[_Stop]:
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    with acknowledged(stop.words), handled(stop.note):
        yield stop


@dataclass(frozen=True)
class _Scorer:
    """Scores images of a split with the method as it is."""

    work: Plan
    method: Method
    cached: dict[str, CachedImages]
    device: torch.device
    reporter: Reporter

    def logits(self, split: str, what: str) -> np.ndarray:
        """float32 [N, C]."""
        images = self.cached[split].load()
        with self.reporter.task(f"scoring {split} ({what})", len(images)) as task:
            normalizer = _normalizer(self.work, self.device)
            return predict(self.method, images, normalizer, self.device, self.work.spec.recipe.test_time, task.update)

    def keep_epoch(self, claim: Claim, epoch: int, weight_sets: Iterator[str]) -> EpochLogits:
        """Store the test logits of an epoch: nothing that trains hears of them."""
        return claim.store_epoch(epoch, {name: self.logits("test", f"epoch {epoch}, {name}") for name in weight_sets})


def _evaluate(
    work: Plan,
    trainer: Trainer,
    outcome: Outcome,
    cached: dict[str, CachedImages],
    scorer: _Scorer,
    claim: Claim,
    prepare_s: float,
) -> Record:
    """Score the test set, once, with the weights that training selected."""
    spec, dataset, method = work.spec, work.dataset, trainer.method
    declared = spec.recipe.report
    started = time.monotonic()

    def logits_of(split: str, weight_set: str) -> np.ndarray:
        method.load_state_dict(outcome.states[weight_set])
        return scorer.logits(split, weight_set)

    test = dataset.splits["test"]
    with watching() as network:
        logits = {weight_set: logits_of("test", weight_set) for weight_set in outcome.states}
    if not network.used:
        scorer.reporter.line(
            f"{spec.method} scores images by a network of its own and not by the recipe's {spec.recipe.backbone}: its "
            "row stands in a table apart"
        )
    results = {name: score(values, test.targets, dataset.groups) for name, values in logits.items()}
    validation = None
    if "val" in dataset.splits:
        validation = logits_of("val", declared), dataset.splits["val"].targets
    return Record(
        schema_version=SCHEMA_VERSION,
        run_id=spec.run_id,
        spec=spec,
        method_title=work.method.row_title(work.config),
        dataset_title=dataset.card.title,
        groups=dataset.groups,
        class_counts=dict(zip(dataset.classes, dataset.class_counts.tolist(), strict=True)),
        num_train_images=len(dataset.splits["train"]),
        num_test_images=len(test),
        num_validation_images=len(validation[0]) if validation else None,
        declared=declared,
        results=results,
        validation=score(*validation, dataset.groups) if validation else None,
        selection=Selection(rule=spec.recipe.selection, epoch=outcome.selected_epoch),
        history=outcome.history,
        timings=Timings(
            prepare_s=prepare_s,
            train_s=outcome.train_s,
            evaluate_s=time.monotonic() - started,
            images_per_second=outcome.images_per_second,
        ),
        peak_memory_mb=peak_memory_mb(scorer.device),
        parameters=Parameters(
            all=sum(p.numel() for p in method.parameters()),
            trained=outcome.num_trained,
        ),
        environment=describe(work.method, scorer.device, trainer.amp, trainer.peers.size),
        attempts=claim.number,
        data_digests={name: images.digest for name, images in cached.items()},
        model_digest=_state_digest(outcome.states[declared]),
        logits=claim.store_logits(logits, test.targets, validation),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        # A record without them reads as those before there could be any.
        **({"oracle": outcome.observed} if outcome.observed else {}),
        **({} if network.used else {"own_network": True}),
    )


def _state_digest(state: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + b"\0" + state[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
