"""Loads mutants one by one in a process of its own, judges what comes of each, and counts. See `mutations`."""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from mutations import MUTATORS, RAN, hostile_text, in_legacy, in_zip, mutate_pickle, pickled

ROOT = Path(__file__).parents[1]
SECONDS, MEGABYTES = 2.0, 450  # of a mutant; a process that has loaded a model has some 200 MB already
TEXTS = ["The cat. abc a [MASK] xyz", "b", "", "café 世界 <mask> aa  bb</s>"]
JSON_FILES = [
    "config.json", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
    "1_Pooling/config.json", "2_Dense/config.json", "tokenizer_config.json", "special_tokens_map.json",
]  # fmt: skip


class Fault(Exception):
    """What a mutant must not bring about; the first argument is the kind, under which it is counted."""


# ---- a model to be mutated -------------------------------------------------------------------------------------------

VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij.", *(f"##{c}" for c in "abcdefghij"), "the", "cat"]


def word_pieces() -> tokenizers.Tokenizer:
    """BERT's tokenizer."""
    rust = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({token: n for n, token in enumerate(VOCAB)}, unk_token="[UNK]")
    )
    rust.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    rust.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    rust.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    rust.decoder = tokenizers.decoders.WordPiece()
    rust.add_special_tokens(VOCAB[:5])
    return rust


def byte_pairs() -> tokenizers.Tokenizer:
    """RoBERTa's tokenizer."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: n for n, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *alphabet, "Ġa", "aa"])}
    rust = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, [("Ġ", "a"), ("a", "a")], unk_token="<unk>"))
    rust.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = tokenizers.decoders.ByteLevel()
    rust.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    rust.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", tokenizers.AddedToken("<mask>", lstrip=True)])
    return rust


def unigrams() -> tokenizers.Tokenizer:
    """XLM-R's tokenizer."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *"abcdefghij.", "▁a", "▁the", "▁cat", "<mask>"]
    scores = [(piece, -1.0 - n / 7) for n, piece in enumerate(pieces)]
    rust = tokenizers.Tokenizer(tokenizers.models.Unigram(scores, 3, False))
    rust.normalizer = tokenizers.normalizers.Sequence([tokenizers.normalizers.NFKC()])
    rust.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    rust.decoder = tokenizers.decoders.Metaspace()
    rust.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    rust.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    return rust


TOKENIZERS = {"wordpiece": word_pieces, "bpe": byte_pairs, "unigram": unigrams}


def write_model(folder: Path) -> dict[str, np.ndarray]:
    """Write a tiny sentence model with all files that minilm reads; return its parameters by their names."""
    from minilm import SentenceTransformer, parameters
    from minilm.config import BertConfig
    from minilm.models import BertModel
    from minilm.sentences.modules import Dense, Normalize, Pooling, Transformer
    from minilm.tokenizing.tokenizer import Tokenizer

    config = BertConfig(vocab_size=len(VOCAB), hidden_size=12, num_hidden_layers=2, num_attention_heads=3,
                        intermediate_size=20, max_position_embeddings=17)  # fmt: skip
    rng = np.random.default_rng(5)
    shapes = BertModel.shapes(config)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    model = BertModel(parameters.unflatten(arrays), config)
    dense = {"linear": {"weight": rng.normal(size=(5, 12)).astype(np.float32), "bias": np.zeros(5, np.float32)}}
    modules = [Transformer(model, Tokenizer(word_pieces())), Pooling(), Dense(dense), Normalize()]
    SentenceTransformer(modules=modules, prompts={"query": "a "}).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCAB))
    special = {f"{token[1:-1].lower()}_token": token for token in VOCAB[:5]}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    config_json = json.loads((folder / "config.json").read_text())
    labels = {"id2label": {"0": "a", "1": "b"}, "num_labels": 2, "problem_type": "regression"}
    (folder / "config.json").write_text(json.dumps(config_json | labels))
    return arrays


# ---- kinds of mutants: each returns a function that loads one, and raises a `Fault` where the result is wrong --------


class Judge:
    """Makes mutants of the model in a folder, loads them, and compares."""

    def __init__(self, folder: Path) -> None:
        from minilm import parameters

        self.folder = folder
        self.arrays = write_model(folder)
        self.shapes = {name: array.shape for name, array in self.arrays.items()}
        self.original = {
            str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        }
        self._flatten = parameters.flatten
        self.program, self.legacy = pickled(self.arrays), pickled(self.arrays, legacy=True)
        index = {"metadata": {}, "weight_map": dict.fromkeys(self.arrays, "a.safetensors")}
        self.index = json.dumps(index).encode()
        self.reference = self._vectors()
        self.kinds: dict[str, Callable[[np.random.Generator], None]] = {
            "safetensors": self.safetensors,
            "pickle in a zip": lambda rng: self.pickle(in_zip(mutate_pickle(self.program, rng), self.arrays)),
            "pickle before 1.6": lambda rng: self.pickle(in_legacy(mutate_pickle(self.legacy, rng), self.arrays)),
            "zip": self.zip,
            "index of shards": self.shards,
            **{name: lambda rng, name=name: self.config(name, rng) for name in JSON_FILES},
            **{f"tokenizer.json, {name}": lambda rng, name=name: self.tokenizer(name, rng) for name in TOKENIZERS},
            "vocab.txt": self.vocabulary,
            "texts": self.text,
        }

    def restore(self) -> None:
        """Bring the folder back to what it was."""
        for path in self.folder.rglob("*"):
            if path.is_file() and str(path.relative_to(self.folder)) not in self.original:
                path.unlink()
        for name, content in self.original.items():
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            if not path.exists() or path.read_bytes() != content:
                path.unlink(missing_ok=True)  # a loaded model may have mapped it
                path.write_bytes(content)

    def write(self, name: str, content: bytes) -> None:
        (self.folder / name).unlink(missing_ok=True)
        (self.folder / name).write_bytes(content)

    def _vectors(self) -> np.ndarray:
        from minilm import SentenceTransformer

        return np.asarray(SentenceTransformer(self.folder, backend="numpy", truncation="silent").encode(TEXTS))

    # ---- weights

    def _params(self) -> dict[str, np.ndarray]:
        from minilm.loading.checkpoint import load_params
        from minilm.loading.hub import find_files

        return dict(self._flatten(load_params(find_files(self.folder), self.shapes)))

    def _compare(self, found: dict[str, np.ndarray], expected: dict[str, Any]) -> None:
        if {name: array.shape for name, array in found.items()} != self.shapes:
            raise Fault("difference", "other shapes than the config's")
        for name, array in found.items():
            if name in expected and not np.array_equal(array, expected[name].astype(np.float32), equal_nan=True):
                raise Fault("difference", f"{name} is not what the library reads")

    def safetensors(self, rng: np.random.Generator) -> None:
        """The library decides: what it loads is what we load, and what it refuses we refuse."""
        import safetensors.numpy

        content = MUTATORS["safetensors"](self.original["model.safetensors"], rng)
        self.write("model.safetensors", content)
        found = self._params()
        try:
            expected = safetensors.numpy.load(content)
        except Exception as error:
            if type(error).__name__ == "KeyError":  # a type that NumPy has not
                return
            raise Fault("difference", f"safetensors refuses it: {error}") from None
        self._compare(found, {name.removeprefix("bert."): array for name, array in expected.items()})

    def pickle(self, content: bytes) -> None:
        """PyTorch decides, where it is installed; else the shapes do."""
        (self.folder / "model.safetensors").unlink()
        self.write("pytorch_model.bin", content)
        found = self._params()
        self._compare(found, self._by_torch())

    def _by_torch(self) -> dict[str, Any]:
        try:
            import torch
        except ModuleNotFoundError:
            return {}
        try:
            read = torch.load(self.folder / "pytorch_model.bin", weights_only=True)
            return {
                str(name): tensor.to(torch.float32).numpy() for name, tensor in read.items() if torch.is_tensor(tensor)
            }
        except Exception:  # more than PyTorch is refused or read: the shapes must do
            return {}

    def zip(self, rng: np.random.Generator) -> None:
        self.pickle(MUTATORS["zip"](in_zip(self.program, self.arrays), rng))

    def shards(self, rng: np.random.Generator) -> None:
        (self.folder / "model.safetensors").rename(self.folder / "a.safetensors")
        self.write("model.safetensors.index.json", MUTATORS["json"](self.index, rng))
        self._compare(self._params(), self.arrays)

    # ---- settings

    def config(self, name: str, rng: np.random.Generator) -> None:
        """A model that loads computes, and a text alone is the text among others."""
        from minilm import SentenceTransformer

        self.write(name, MUTATORS["json"](self.original[name], rng))
        if name == "special_tokens_map.json":  # which is read for older tokenizers only
            (self.folder / "tokenizer_config.json").unlink()
        model = SentenceTransformer(self.folder, backend="numpy", truncation="silent")
        vectors = model.encode(TEXTS)
        width = model.get_sentence_embedding_dimension()
        if vectors.shape != (len(TEXTS), width) or vectors.dtype != np.float32:
            raise Fault("difference", f"vectors are {vectors.dtype} {vectors.shape}, not {width} wide")
        if not np.isfinite(vectors).all():
            raise Fault("difference", "vectors are not finite")
        for text, vector in zip(TEXTS, vectors, strict=True):
            if not np.allclose(model.encode(text), vector, rtol=0, atol=1e-5):
                raise Fault("difference", f"{text!r} alone has another vector")

    def tokenizer(self, kind: str, rng: np.random.Generator) -> None:
        """The library decides: ids of texts and of pairs."""
        content = MUTATORS["json"](TOKENIZERS[kind]().to_str().encode(), rng)
        self.write("tokenizer.json", content)
        self.write("tokenizer_config.json", b'{"tokenizer_class": "PreTrainedTokenizerFast"}')
        (self.folder / "special_tokens_map.json").unlink()  # whose tokens would be added
        self._compare_ids(content.decode(errors="replace"))

    def _compare_ids(self, content: str) -> None:
        from minilm import AutoTokenizer

        ours = AutoTokenizer.from_pretrained(self.folder)
        theirs = tokenizers.Tokenizer.from_str(content)
        theirs.no_truncation()
        theirs.no_padding()
        vocab = theirs.get_vocab()
        one_to_one = len(set(vocab.values())) == len(vocab)  # else the library decodes now so, now so
        pairs = list(zip(TEXTS, reversed(TEXTS), strict=True))
        for text in [*TEXTS, *pairs]:
            one = (text, None) if isinstance(text, str) else text
            found = ours(*one)["input_ids"]
            try:
                expected = theirs.encode(*one).ids
            except BaseException as error:
                if isinstance(error, (KeyboardInterrupt, SystemExit)):
                    raise
                raise Fault("difference", f"the library fails on {text!r}: {error}") from None
            if found != expected:
                raise Fault("difference", f"{text!r} has the ids {found}, and {expected} with the library")
            if one_to_one and ours.decode(found) != theirs.decode(expected, skip_special_tokens=False):
                raise Fault("difference", f"{found} are decoded to another text than with the library")
            packed = ours.encode_packed([one[0]], text_pairs=None if one[1] is None else [one[1]])[0][0]
            if packed.input_ids.tolist() != expected:
                raise Fault("difference", f"{text!r} has other ids packed")

    def vocabulary(self, rng: np.random.Generator) -> None:
        from minilm import AutoTokenizer

        (self.folder / "tokenizer.json").unlink()
        self.write("tokenizer_config.json", b'{"tokenizer_class": "BertTokenizer"}')
        self.write("vocab.txt", MUTATORS["bytes"](self.original["vocab.txt"], rng))
        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        known = set(tokenizer.get_vocab().values())
        if not known >= {token_id for ids in tokenizer(TEXTS)["input_ids"] for token_id in ids}:
            raise Fault("difference", "ids that are not in the vocabulary")

    # ---- texts

    def text(self, rng: np.random.Generator) -> None:
        """Ids are the library's; vectors have length 1 and are the same alone and among others."""
        from minilm import SentenceTransformer
        from minilm.tokenizing.tokenizer import Tokenizer

        texts = [hostile_text(rng) for _ in range(3)]
        for make in TOKENIZERS.values():
            found = Tokenizer(make())([*texts])["input_ids"]
            if found != [encoding.ids for encoding in make().encode_batch(texts)]:
                raise Fault("difference", f"{make.__name__} makes other ids of {texts!r}")
        model = SentenceTransformer(self.folder, truncation="silent")
        vectors = model.encode(texts)
        if not np.allclose(np.linalg.norm(vectors, axis=1), 1, rtol=0, atol=1e-5):
            raise Fault("difference", f"vectors of {texts!r} have not length 1")
        alone = np.array([model.encode(text) for text in texts])
        if not np.allclose(alone, vectors, rtol=0, atol=1e-6):
            raise Fault("difference", f"a text of {texts!r} alone has another vector")


def check_error(error: BaseException) -> None:
    """Raise a `Fault` for an error that is not ours: ours are of few kinds, and name a file, a text or an id."""
    text = str(error)
    names = re.search(r"/|text |input |input_ids|prompt name|\bid \d", text)
    bare = re.search(r"\b(Type|Key|Index|Attribute|Overflow|Recursion|Memory)Error\b", text)  # shown as Python says it
    if not isinstance(error, (ValueError, OSError)) or not names or bare:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        raise Fault("foreign error", f"{type(error).__name__} at {where}: {error!s:.300}") from None


# ---- the process that loads ------------------------------------------------------------------------------------------


def watch(folder: Path) -> list[str]:
    """Return a list that fills with what is opened or made outside of the folder, and with what is run.

    The library itself and its cache of kernels may be read and written.
    """
    seen: list[str] = []
    own = (folder, ROOT, sys.prefix, sys.base_prefix, os.environ.get("NUMBA_CACHE_DIR", ROOT), "/proc/self", "/sys")
    homes = tuple(map(os.path.realpath, own))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.mkdir") and isinstance(arguments[0], (str, bytes)):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if not path.startswith(homes) and not path.startswith("/proc/"):
                seen.append(path)
        elif event in ("os.system", "subprocess.Popen", "socket.connect", "os.exec", "os.posix_spawn"):
            seen.append(f"{event} {arguments!r:.200}")

    sys.addaudithook(hook)
    return seen


def resident(what: str) -> float:
    """Return megabytes of memory, as Linux calls them: ``VmRSS`` now, ``VmHWM`` at the peak."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{what}:")[2].split()[0]) / 1024


def outcome_of(load: Callable[[np.random.Generator], None], seed: list[int], seen: list[str]) -> tuple[str, str]:
    """Load a mutant; return ``"loaded"``, ``"refused"`` or the kind of a `Fault`, and what more there is to say."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory is counted anew
    memory, begun = resident("VmRSS"), time.process_time()
    outcome, detail = "loaded", ""
    seen.clear()
    try:
        try:
            load(np.random.default_rng(seed))
        except (Fault, KeyboardInterrupt):
            raise
        except BaseException as error:
            outcome, detail = "refused", str(error)[:300]
            check_error(error)
        seconds, grown = time.process_time() - begun, resident("VmHWM") - memory
        if grown > MEGABYTES:  # comes first: much memory may take long, too
            raise Fault("memory", f"{grown:.0f} MB")
        if seconds > SECONDS:
            raise Fault("hang", f"{seconds:.1f} s")
        if seen or Path(RAN).exists():
            raise Fault("outside", f"{seen!r:.300}")
    except Fault as fault:
        outcome, detail = fault.args
    return outcome, detail


def work(folder: Path, seed: int, start: int, count: int, only: str | None) -> None:
    """Load mutants ``start`` to ``count``, and say of each what came of it, a line of JSON."""
    warnings.simplefilter("ignore")
    judge = Judge(folder)
    kinds = {name: load for name, load in judge.kinds.items() if only is None or only in name}
    if kinds.keys() & {"pickle in a zip", "pickle before 1.6", "zip"}:
        with suppress(ModuleNotFoundError):  # imported now, its time and memory are no mutant's
            import torch  # noqa: F401
    seen = watch(folder)
    for n in range(start, count):
        kind = list(kinds)[n % len(kinds)]
        print(json.dumps({"n": n, "kind": kind}), flush=True)
        for _ in range(2):  # the first time, a kernel may be compiled
            judge.restore()
            outcome, detail = outcome_of(kinds[kind], [seed, n], seen)
            if outcome not in ("hang", "memory"):
                break
        print(json.dumps({"n": n, "kind": kind, "outcome": outcome, "detail": detail}), flush=True)


# ---- the process that counts -----------------------------------------------------------------------------------------


def _lines(process: subprocess.Popen[bytes], timeout: float) -> Iterator[dict[str, Any]]:
    """Yield what a worker says until it ends; raise a `TimeoutError` if it says nothing for so many seconds.

    It has a minute to begin.
    """
    assert process.stdout is not None
    patience = max(timeout, 60)
    while True:
        if not select.select([process.stdout], [], [], patience)[0]:
            raise TimeoutError
        patience = timeout
        line = process.stdout.readline()
        if not line:
            return
        yield json.loads(line)


def run(
    count: int, seed: int, only: str | None = None, patience: float = 60
) -> tuple[Counter[Any], list[dict[str, Any]]]:
    """Load ``count`` mutants; return how many came out how, by kind and outcome, and the faults among them."""
    counts: Counter[Any] = Counter()
    faults: list[dict[str, Any]] = []
    start = 0
    while start < count:
        folder = Path(tempfile.mkdtemp(prefix="mutants-"))
        command = [sys.executable, __file__, str(folder), str(seed), str(start), str(count), only or ""]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=folder.parent, bufsize=0)
        said: dict[str, Any] = {}
        outcome = "signal"
        try:
            for said in _lines(process, patience):
                if "outcome" in said:
                    counts[said["kind"], said["outcome"]] += 1
                    start = said["n"] + 1
                    if said["outcome"] not in ("loaded", "refused"):
                        faults.append(said)
        except TimeoutError:
            outcome = "hang"
        except KeyboardInterrupt:  # what was counted so far is told
            count = start
            process.kill()
        finally:
            if start < count and outcome == "hang":
                process.kill()
            code = process.wait()
            process.stdout.close()  # type: ignore[union-attr]
            shutil.rmtree(folder, ignore_errors=True)
        if start < count:
            if not said or "outcome" in said:
                raise RuntimeError(f"the worker ended between two mutants, with code {code}")
            faults.append({**said, "outcome": outcome, "detail": f"code {code}"})
            counts[said["kind"], outcome] += 1
            start = said["n"] + 1
    return counts, faults


def main() -> None:
    """Run by hand, with as many mutants as one likes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="a part of the names of the kinds that are loaded")
    arguments = parser.parse_args()
    counts, faults = run(arguments.count, arguments.seed, arguments.only)
    for fault in faults:
        print(fault)
    for kind in dict.fromkeys(kind for kind, _ in counts):
        print(f"{kind:36}", *(f"{outcome} {n}" for (its, outcome), n in counts.items() if its == kind))
    print(f"{sum(counts.values())} mutants, {len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    work(Path(sys.argv[1]), *map(int, sys.argv[2:5]), sys.argv[5] or None)  # type: ignore[misc]
