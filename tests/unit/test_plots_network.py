"""The pictures of the network and of its layouts say what the code and the config say."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

matplotlib = pytest.importorskip("matplotlib", reason="pictures: pip install 'minilm[notebooks]'")
matplotlib.use("Agg")

from click.testing import CliRunner  # noqa: E402
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.patches import FancyBboxPatch  # noqa: E402

import minilm  # noqa: E402
from minilm import BertConfig, bert, functional, plots  # noqa: E402
from minilm.cli import main  # noqa: E402
from minilm.plots.gallery import TEXTS  # noqa: E402
from minilm.plots.network import PARTS  # noqa: E402

IMAGES = Path(__file__).parents[2] / "notebooks" / "images"
CONFIG = BertConfig(
    vocab_size=37, hidden_size=12, num_hidden_layers=5, num_attention_heads=3, intermediate_size=20,
    max_position_embeddings=29,
)  # fmt: skip


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def written(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def highlighted(ax):
    """The places of the boxes that stand out, counted from the top."""
    boxes = [patch for patch in ax.patches if isinstance(patch, FancyBboxPatch)]
    plain = boxes[0].get_facecolor() if boxes[0].get_linewidth() < 1 else boxes[-1].get_facecolor()
    return [i for i, box in enumerate(boxes) if box.get_facecolor() != plain]


def test_the_network_has_the_shapes_of_its_config():
    texts = written(plots.network(CONFIG))
    for shape in ("word\n[37, 12]", "position\n[29, 12]", "type\n[2, 12]", "query\n[12, 12]", "layer, 5 times"):
        assert shape in texts
    assert "3 heads of 4:  softmax(q·kᵀ / √4) · v" in texts
    assert "dense [20, 12], GELU" in texts and "dense [12, 20], add, LayerNorm" in texts
    assert texts.count("[tokens, 12]") == 3 and "[tokens, 20]" in texts and "the text's vector  [12]" in texts


def test_every_function_that_the_picture_names_is_there():
    names = [
        name for text in written(plots.network(CONFIG)) for name in re.findall(r"\b(?:bert|functional)\.\w+", text)
    ]
    assert len(names) == 9
    for name in names:
        module, _, function = name.partition(".")
        assert callable(getattr({"bert": bert, "functional": functional}[module], function)), name


def test_what_other_checkpoints_have_or_lack():
    other = dataclasses.replace(
        CONFIG, type_vocab_size=0, embedding_size=7, hidden_act="gelu_new", relative_attention_num_buckets=32
    )
    texts = written(plots.network(other, pooling="cls", normalize=False))
    assert "word\n[37, 7]" in texts and not any(text.startswith("type") for text in texts)
    assert "add, LayerNorm, projection [12, 7]" in texts and "dense [20, 12], gelu_new" in texts
    assert any("√4 + bias" in text for text in texts)
    assert "cls over the text's tokens" in texts and "functional.cls_pooling" in texts
    assert not any("vector" in text or "pooling" in text for text in written(plots.network(other, pooling=None)))


@pytest.mark.parametrize(
    ("part", "boxes"),
    [
        ((), []), ("tokenizer", [0]), ("embeddings", [1, 2, 3, 4]), ("self_attention", [5, 6, 7, 8]),
        ("add_and_norm", [9, 11]), ("feed_forward", [10]), ("pooling", [12]), (("tokenizer", "pooling"), [0, 12]),
    ],
)  # fmt: skip
def test_a_part_can_be_highlighted(part, boxes):
    if part == ("tokenizer", "pooling"):  # then no box at an end is plain
        ax = plots.network(CONFIG, highlight=part)
        assert sum(patch.get_linewidth() > 1 for patch in ax.patches if isinstance(patch, FancyBboxPatch)) == 2
    else:
        assert highlighted(plots.network(CONFIG, highlight=part)) == boxes


def test_wrong_names_are_told():
    with pytest.raises(ValueError, match=r"no part atention; the parts are tokenizer, embeddings, self_attention"):
        plots.network(CONFIG, highlight=["atention", "pooling"])
    with pytest.raises(ValueError, match="pooling: there is no 'average'; there are cls, max, mean"):
        plots.network(CONFIG, pooling="average")


def test_nothing_is_written_over_something_else():
    for ax in (plots.network(CONFIG), plots.layouts([list("abcdefghi"), list("abc"), list("abc"), ["[CLS]"]])):
        ax.figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_both_layouts_hold_every_token_and_only_one_holds_padding():
    texts = [["[CLS]", "a", "[SEP]"], list("vwxyz"), ["[CLS]", "b", "[SEP]"]]
    ax = plots.layouts(texts)
    assert ax.get_title(loc="left") == "Padded: 15 places, 4 for padding. Packed: 11"
    told = written(ax)
    assert (
        told[:11] == [*texts[0], *texts[1], *texts[2]] and told[11:22] == texts[1] + texts[0] + texts[2]
    )  # the longest first
    assert told[22:24] == ["run [1, 5, hidden]", "run [2, 3, hidden]"]
    assert sum(patch.get_hatch() is not None for patch in ax.patches) == 4
    with pytest.raises(ValueError, match=r"got texts of \[2, 0\] tokens"):
        plots.layouts([["a", "b"], []])
    with pytest.raises(ValueError, match="one text or more"):
        plots.layouts([])


# ---- files -----------------------------------------------------------------------------------------------------------


def test_the_pictures_of_the_readme_are_those_that_the_package_draws(model_dir):
    pictures = plots.gallery(minilm.SentenceTransformer(model_dir))
    for name in ("network", "layouts"):
        svg = (IMAGES / f"{name}.svg").read_text(encoding="utf-8")
        ax = pictures[name]()
        told = [*written(ax), ax.get_title(loc="left")]
        assert [line for text in told for line in text.splitlines() if f"<!-- {line} -->" not in svg] == []


def test_the_command_draws_what_it_is_asked_for(model_dir, tmp_path):
    run = CliRunner().invoke
    asked = ["--model", str(model_dir), "-o", str(tmp_path / "new" / "folder")]
    done = run(main, ["plots", "network-pooling", "layouts", *asked])
    assert done.exit_code == 0, done.output
    files = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert files == ["layouts.svg", "network-pooling.svg"]
    assert [Path(line).name for line in done.stdout.splitlines()] == ["network-pooling.svg", "layouts.svg"]
    first = (tmp_path / "new" / "folder" / "layouts.svg").read_bytes()
    assert run(main, ["plots", "layouts", *asked]).exit_code == 0
    assert (tmp_path / "new" / "folder" / "layouts.svg").read_bytes() == first  # no date, no random names
    for wrong, message in (
        ([], "name the pictures, or ask for --all"),
        (["layouts", "--all"], "name the pictures, or ask for --all"),
        (["chess"], "no picture is named chess; there are: network, network-tokenizer"),
        (["layouts", "-t", "one"], "give --text three times or more"),
    ):
        done = run(main, ["plots", *wrong, *asked])
        assert done.exit_code == 2 and message in done.stderr


def test_every_picture_of_the_gallery_can_be_drawn(model_dir, tmp_path):
    pictures = plots.gallery(minilm.SentenceTransformer(model_dir))
    assert [name for name in pictures if "network-" in name] == [f"network-{p.replace('_', '-')}" for p in PARTS]
    for name, draw in pictures.items():
        plots.write_svg(draw(), tmp_path / f"{name}.svg")
    assert all(path.read_bytes().startswith(b"<?xml") for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == len(pictures) and not plt.get_fignums()
    with pytest.raises(ValueError, match="three texts or more to draw, got 2"):
        plots.gallery(minilm.SentenceTransformer(model_dir), TEXTS[:2])
