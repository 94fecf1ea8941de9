"""The rounds: every peer in turn, again and again, so that a machine that slows down slows all of them."""

from __future__ import annotations

import itertools
import operator
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..loading.checkpoint import read_config
from ..loading.hub import find_files
from . import corpus, machine, stage
from .corpus import Workload
from .peers import BATCH_SIZE, PEERS, Setting
from .training import TRAINERS
from .worker import PeerError, Worker

SECTIONS = ("start", "throughput", "latency", "threads", "growth", "training")
LONG_SECTIONS = {"growth", "training"}  # run only when asked for by name
DIFFERENT = 1e-4  # vectors further apart than this are of another model, and not worth a comparison
UNLIKE = 0.1  # the same, for a peer that quantizes: of the vectors' mean cosine, what is missing to 1
COMPARED = {"short": 160, "paragraphs": 96, "long": 16}  # texts whose vectors are compared
LATENCY_TOKENS = 24

Results = dict[str, Any]
Samples = defaultdict[str, list[float]]  # of each peer
Say = Callable[[str], object]


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes
    ----------
    model, revision
        The checkpoint, by name.
    threads
        For every peer.
    peers
        Names in `minilm.bench.peers.PEERS`; the first is the one that the others are compared with.
    sections
        Some of `SECTIONS`.
    rounds
        How often every peer takes its turn.
    starts
        How many fresh processes of each peer are timed.
    sizes
        How many texts of each kind make a turn.
    singles
        How many texts, one at a time, make a turn of the latency.
    growth
        The numbers of texts between which cost must not grow.
    sgemm_seconds
        How long the machine's own rate is measured in each round.
    pause
        Seconds before every turn, because the threads of the last peer may spin for a while.
    library
        Where the texts come from, if not Python's standard library.
    local_files_only
        Do not touch the network to find the checkpoint.
    """

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    revision: str | None = None
    threads: int = 1
    peers: tuple[str, ...] = tuple(PEERS)
    sections: tuple[str, ...] = tuple(section for section in SECTIONS if section not in LONG_SECTIONS)
    rounds: int = 5
    starts: int = 3
    sizes: dict[str, int] = field(default_factory=lambda: {"short": 1024, "paragraphs": 512, "long": 128})
    singles: int = 40
    growth: tuple[int, ...] = (1_000, 10_000, 100_000)
    sgemm_seconds: float = 1.0
    pause: float = 0.2
    library: Path | None = None
    local_files_only: bool = False

    def quick(self) -> Plan:
        """Return a plan for a first look: a minute or so instead of a quarter of an hour."""
        sizes = {"short": 128, "paragraphs": 64, "long": 16}
        return replace(self, rounds=3, starts=1, sizes=sizes, singles=15, growth=(1_000, 5_000), sgemm_seconds=0.4)


def benchmark(plan: Plan, say: Say = lambda message: None) -> Results:
    """Measure and return what was found, as a tree that JSON can hold.

    ``say`` is called with a line about each step. Every number in the result is a median, beside the rounds themselves.

    Returns
    -------
    dict
        ``machine``, ``model``, ``threads``, ``rounds``; ``workloads`` (texts, tokens, FLOPs of each); ``sgemm`` (in
        FLOP/s); ``left_out`` (peer → why); ``peers`` (peer → ``label``, ``version``, ``throughput`` by workload,
        ``latency``, ``start``, ``memory`` in bytes, ``max_difference``, and of one that quantizes ``errors``);
        ``thread_scaling``, ``growth`` and ``training``, where those sections ran. Times are in seconds.
    """
    with tempfile.TemporaryDirectory(prefix="minilm-bench-") as folder, ExitStack() as stack:
        bench = _Bench(plan, Path(folder), stack, say)
        bench.start()
        bench.compare_vectors()
        if "throughput" in plan.sections:
            bench.throughput()
        if "latency" in plan.sections:
            bench.latency()
        bench.memory()
        if "threads" in plan.sections:
            bench.thread_scaling()
        if "growth" in plan.sections:
            bench.growth()
        if "training" in plan.sections:
            bench.training()
        return bench.results


def summary(samples: Sequence[float]) -> dict[str, Any]:
    """Return the median beside the samples that it is of."""
    return {"median": statistics.median(samples), "samples": list(samples)}


def throughput(workload: Results, seconds: list[float], first: list[float], sgemm: list[float]) -> Results:
    """Return a peer's rates from its rounds, the first peer's, and the machine's own FLOP/s in the same rounds.

    Ratios are taken within each round, where both saw the same machine, then their median.
    """
    median = statistics.median(seconds)
    shares = [workload["flops"] / taken / rate for taken, rate in zip(seconds, sgemm, strict=True)]
    return {
        "seconds": summary(seconds),
        "texts_per_second": workload["texts"] / median,
        "tokens_per_second": workload["tokens"] / median,
        "share_of_sgemm": statistics.median(shares),
        "first_is_faster_by": statistics.median(taken / other for taken, other in zip(seconds, first, strict=True)),
    }


def errors(exact: np.ndarray, vectors: np.ndarray) -> Results:
    """Return how far vectors [texts, hidden] are from the exact ones, all of length 1.

    Returns
    -------
    dict
        ``mean_cosine`` and ``worst_cosine`` of each vector with the exact one; ``similarity_rms`` and
        ``similarity_max``, the error of the similarities of all pairs of texts; ``spearman``, the rank correlation of
        these similarities with the exact ones.
    """
    cosines = np.sum(exact * vectors, axis=1)
    pairs = np.triu_indices(len(exact), 1)
    true, found = (exact @ exact.T)[pairs], (vectors @ vectors.T)[pairs]
    true_ranks, ranks = (np.argsort(np.argsort(values)) for values in (true, found))
    return {
        "mean_cosine": float(cosines.mean()),
        "worst_cosine": float(cosines.min()),
        "similarity_rms": float(np.sqrt(np.mean((found - true) ** 2))),
        "similarity_max": float(np.abs(found - true).max()),
        "spearman": float(np.corrcoef(true_ranks, ranks)[0, 1]),
    }


class _Bench:
    """One run of the benchmark: the texts, the processes that are up, and the results so far."""

    def __init__(self, plan: Plan, folder: Path, stack: ExitStack, say: Say) -> None:
        self.plan, self.folder, self.stack, self.say = plan, folder, stack, say
        files = find_files(plan.model, revision=plan.revision, local_files_only=plan.local_files_only)
        stage.lay_out(files, folder)
        self.config = read_config(files)
        self.max_tokens = stage.max_tokens(files, self.config)
        say("reading texts from Python's standard library")
        encode = stage.tokenizer(files).encode
        self.workloads = corpus.workloads(encode, plan.sizes, self.max_tokens, plan.library)
        self.workers: dict[str, Worker] = {}
        self.blas = stack.enter_context(Worker(self.setting("blas")))
        self.results: Results = {
            "minilm": __version__,
            "machine": self.blas.ask("describe"),
            "model": {"name": files.name, "revision": files.revision, "source": files.source},
            "threads": plan.threads,
            "rounds": plan.rounds,
            "workloads": {name: self._describe(workload) for name, workload in self.workloads.items()},
            "peers": {},
            "left_out": {},
        }
        for peer in plan.peers:
            prepare = PEERS[peer].prepare
            if prepare is not None and not PEERS[peer].missing():
                say(f"converting the checkpoint for {PEERS[peer].label}")
                with self.leaving_out(peer):
                    prepare(files, folder)

    def _describe(self, workload: Workload) -> Results:
        flops = machine.flops(self.config, workload.token_counts)
        return {"texts": len(workload), "tokens": workload.tokens, "flops": flops}

    def setting(self, peer: str, threads: int | None = None, trains: bool = False) -> Setting:
        plan = self.plan
        return Setting(peer, plan.model, plan.revision, self.folder, threads or plan.threads, self.max_tokens, trains)

    @contextmanager
    def leaving_out(self, peer: str) -> Iterator[None]:
        """Go on without a peer that fails in the block, and say why."""
        try:
            yield
        except (PeerError, ImportError, ValueError) as error:
            self.leave_out(peer, str(error))

    def leave_out(self, peer: str, reason: str) -> None:
        self.say(f"{PEERS[peer].label} is left out: {reason}")
        self.results["left_out"][peer] = reason
        self.results["peers"].pop(peer, None)
        if peer in self.workers:
            self.workers.pop(peer).close()

    @property
    def first(self) -> str:
        """The peer that the others are compared with."""
        if not self.workers:
            raise PeerError("; ".join(f"{peer}: {why}" for peer, why in self.results["left_out"].items()))
        return next(iter(self.workers))

    def rounds(self, what: str) -> Iterator[int]:
        """Yield the number of each round, and announce it."""
        for turn in range(self.plan.rounds):
            self.say(f"{what}, round {turn + 1} of {self.plan.rounds}")
            yield turn

    def ask_all(self, *request: Any) -> dict[str, Any]:
        """Ask one peer after the other and return their answers. A peer that fails is left out from then on."""
        answers = {}
        for peer, worker in list(self.workers.items()):
            time.sleep(self.plan.pause)
            with self.leaving_out(peer):
                answers[peer] = worker.ask(*request)
        return answers

    # ---- the sections ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process of every peer, several times in the section "start"; keep the last one."""
        starts = self.plan.starts if "start" in self.plan.sections else 1
        samples: Samples = defaultdict(list)
        for turn, peer in itertools.product(range(starts), self.plan.peers):
            if peer in self.results["left_out"]:
                continue
            missing = PEERS[peer].missing()
            if missing:
                self.leave_out(peer, f"not installed: {', '.join(missing)}")
                continue
            self.say(f"starting {PEERS[peer].label}, {turn + 1} of {starts}")
            with self.leaving_out(peer):
                worker = Worker(self.setting(peer))
                samples[peer].append(worker.first_vector_seconds)
                if turn + 1 < starts:
                    worker.close()
                    continue
                self.workers[peer] = self.stack.enter_context(worker)
                self.results["peers"][peer] = {
                    "label": PEERS[peer].label,
                    "version": PEERS[peer].version(),
                    "start": summary(samples[peer]),
                    "memory": {"first_vector": worker.ask("peak_memory")},
                }
        if "start" in self.plan.sections and self.first == "minilm":
            self._start_without_cache()

    def _start_without_cache(self) -> None:
        """Time the very first start after installing, when the kernels are not compiled yet."""
        self.say("starting minilm (numba) as if just installed")
        empty = tempfile.mkdtemp(dir=self.folder)
        with Worker(self.setting("minilm"), {"NUMBA_CACHE_DIR": empty}) as worker:
            self.results["peers"]["minilm"]["start"]["uncached"] = worker.first_vector_seconds

    def compare_vectors(self) -> None:
        """Compare the vectors of all peers with those of the first that does not quantize.

        A peer that computes another model is left out.
        """
        self.say("comparing vectors")
        texts = [text for name, workload in self.workloads.items() for text in workload.texts[: COMPARED.get(name, 32)]]
        vectors = self.ask_all("vectors", texts)
        exact = next((theirs for peer, theirs in vectors.items() if not PEERS[peer].quantized), None)
        if exact is None:  # nobody to compare with
            return
        for peer, theirs in vectors.items():
            found = self.results["peers"][peer]
            found["max_difference"] = float(np.abs(theirs - exact).max())
            if PEERS[peer].quantized:
                found["errors"] = errors(exact, theirs)
                same = 1 - found["errors"]["mean_cosine"] <= UNLIKE
            else:
                same = found["max_difference"] <= DIFFERENT
            if not same:
                self.leave_out(peer, f"its vectors differ by {found['max_difference']:.2g}: it computes another model")

    def throughput(self) -> None:
        """Measure texts in bulk, and in the same rounds the machine's own rate in matrix products."""
        samples: dict[str, Samples] = {}
        rates: Samples = defaultdict(list)
        for name, workload in self.workloads.items():
            texts = list(workload.texts)
            samples[name] = defaultdict(list)
            self.ask_all("seconds", texts[:64])  # fills memory pools, and loads what is loaded lazily
            for _ in self.rounds(f"{name} texts"):
                rates[name].append(self.blas.ask("sgemm", self.plan.threads, self.plan.sgemm_seconds))
                for peer, seconds in self.ask_all("seconds", texts).items():
                    samples[name][peer].append(seconds)
        self.results["sgemm"] = summary([rate for of_workload in rates.values() for rate in of_workload])
        for name, workload in self.results["workloads"].items():
            for peer in self.workers:
                self.results["peers"][peer].setdefault("throughput", {})[name] = throughput(
                    workload, samples[name][peer], samples[name][self.first], rates[name]
                )

    def latency(self) -> None:
        """Measure one text at a time, as an interactive search does."""
        texts = corpus.of_length(self.workloads["short"], LATENCY_TOKENS, self.plan.singles)
        samples: Samples = defaultdict(list)
        for _ in self.rounds("one text at a time"):
            for peer, seconds in self.ask_all("seconds_each", texts).items():
                samples[peer].extend(seconds)
        first = statistics.median(samples[self.first])
        for peer in self.workers:
            latency = summary(samples[peer]) | {"p99": float(np.percentile(samples[peer], 99))}
            self.results["peers"][peer]["latency"] = latency | {"first_takes": first / latency["median"]}

    def memory(self) -> None:
        """Measure the peak memory of each process until now."""
        for peer, worker in self.workers.items():
            self.results["peers"][peer]["memory"]["peak"] = worker.ask("peak_memory")

    def thread_scaling(self) -> None:
        """Measure the first peer on all threads and on one, in turns."""
        first, threads = self.first, self.plan.threads
        if threads == 1:
            self.say("one thread only: there is nothing to compare it with")
            return
        self.results["thread_scaling"] = {}
        with Worker(self.setting(first, threads=1)) as alone:
            for name, workload in self.workloads.items():
                ratios = []
                for _ in self.rounds(f"{threads} threads against 1, {name} texts"):
                    one, all_ = (w.ask("seconds", list(workload.texts)) for w in (alone, self.workers[first]))
                    ratios.append(one / all_)
                self.results["thread_scaling"][name] = summary(ratios)

    def growth(self) -> None:
        """Measure the first peer on more and more short texts, each time in a fresh process."""
        texts = list(self.workloads["short"].texts)
        self.results["growth"] = []
        for count in self.plan.growth:
            self.say(f"{count:,} short texts in a fresh process")
            with Worker(self.setting(self.first)) as worker:
                worker.ask("seconds", texts[:64])
                found = worker.ask("growth", texts, count)
            self.results["growth"].append({"texts": count, **found, "seconds_per_text": found["seconds"] / count})

    def training(self) -> None:
        """Measure an epoch of fine-tuning on pairs, in fresh processes of the peers that train."""
        found: dict[str, Results] = {}
        with ExitStack() as stack:
            trainers = {
                peer: stack.enter_context(Worker(self.setting(peer, trains=True)))
                for peer in self.workers
                if peer in TRAINERS
            }
            for name in ("short", "paragraphs"):
                texts = self.workloads[name].texts
                pairs = list(zip(texts[::2], texts[1::2], strict=False))
                samples: Samples = defaultdict(list)
                for worker in trainers.values():
                    worker.ask("training_seconds", pairs[:BATCH_SIZE])  # loads what is loaded lazily
                for _ in self.rounds(f"training, {name}"):
                    for peer, worker in trainers.items():
                        time.sleep(self.plan.pause)
                        samples[peer].append(worker.ask("training_seconds", pairs))
                first, steps = samples[next(iter(trainers))], -(-len(pairs) // BATCH_SIZE)
                found[name] = {
                    peer: {
                        "seconds_per_step": summary([taken / steps for taken in seconds]),
                        "first_is_faster_by": statistics.median(map(operator.truediv, seconds, first)),
                        "peak_memory": trainers[peer].ask("peak_memory"),
                    }
                    for peer, seconds in samples.items()
                }
        self.results["training"] = found
