"""The pictures hold what they are given: the values, the names, in their places."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib", reason="pictures: pip install 'minilm[notebooks]'")
matplotlib.use("Agg")

from matplotlib import pyplot as plt  # noqa: E402

from minilm import plots  # noqa: E402
from minilm.inspection.parity import Difference, Parity, Sublayer  # noqa: E402

RNG = np.random.default_rng(6)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def ticks(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def written(ax):
    return [text.get_text() for text in ax.texts]


def probabilities(*shape):
    x = RNG.random(shape)
    return x / x.sum(axis=-1, keepdims=True)


def boxes_overlap(texts):
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_importing_does_not_import_matplotlib():
    code = "import minilm.plots, sys; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_every_picture_goes_where_it_is_told():
    peers = {"a": {"label": "a", "start": {"median": 1.0}, "memory": {"peak": 1e6}}}
    draw = [
        lambda ax: plots.attention_head(probabilities(3, 3), "abc", ax=ax),
        lambda ax: plots.attention_grid(probabilities(2, 3, 4, 4), ax=ax),
        lambda ax: plots.token_similarity(np.eye(2, 3), "ab", "abc", ax=ax),
        lambda ax: plots.drift(RNG.normal(size=(3, 2, 5)), "ab", ax=ax),
        lambda ax: plots.projection(RNG.normal(size=(4, 5)), "abcd", ax=ax),
        lambda ax: plots.parity_chart(a_parity(), ax=ax),
        lambda ax: plots.bench_chart({"peers": peers}, ax=ax),
        lambda ax: plots.padding_waste([3, 7], ax=ax),
    ]
    for function in draw:
        figure, (ax, other) = plt.subplots(1, 2)
        assert function(ax) is ax and ax.get_title() and not other.has_data()
        assert function(None).figure is not figure


# ---- matrices --------------------------------------------------------------------------------------------------------


def test_a_head_has_its_tokens_on_both_axes_and_its_numbers_in_the_cells():
    tokens = ["[CLS]", "cost", "$", "9", "$"]  # no formula between the dollars
    values = probabilities(5, 5)
    values[1] = [1, 0, 0, 0, 0]
    ax = plots.attention_head(values, tokens)
    ax.figure.draw_without_rendering()
    assert ticks(ax.xaxis) == ticks(ax.yaxis) == tokens
    np.testing.assert_array_equal(ax.images[0].get_array(), values)
    assert written(ax)[5:10] == ["1.0", ".00", ".00", ".00", ".00"]
    assert written(ax)[:5] == [f"{value:.2f}"[1:] for value in values[0]]
    assert (
        not boxes_overlap(ax.texts)
        and not boxes_overlap(ax.get_xticklabels())
        and not boxes_overlap(ax.get_yticklabels())
    )


def test_numbers_in_cells_have_signs_and_stand_out_from_the_colour():
    ax = plots.token_similarity([[-0.4, -0.001, 0.8]], ["a"], ["b", "c", "d"], label="share")
    assert written(ax) == ["−.40", ".00", ".80"]
    assert [text.get_color() for text in ax.texts] == ["black", "black", "white"]
    assert ax.figure.axes[1].get_ylabel() == "share"
    assert [(patch.get_x(), patch.get_hatch()) for patch in ax.patches] == [(-0.5, "//"), (0.5, "//")]


def test_pictures_to_be_compared_share_their_colours():
    low, high = (plots.attention_head(probabilities(3, 3) * scale, "abc").images[0] for scale in (0.1, 1))
    assert low.get_clim() == high.get_clim() == (0, 1)
    assert plots.attention_head(np.full((3, 3), 7.0), "abc", "length", None).images[0].get_clim() == (0, 7)
    one, other = (plots.token_similarity([[x]], "a", "b", largest=1).images[0] for x in (0.2, -0.3))
    assert one.get_clim() == other.get_clim() == (-1, 1)
    red, _, blue, _ = other.cmap(other.norm(-0.3))
    assert blue > red and min(one.cmap(one.norm(0.0))) > 0.7  # negative is blue, zero is light
    with pytest.raises(ValueError, match=r"but there are 2 rows, 0 columns"):
        plots.token_similarity(np.zeros((0, 2)), "ab", "")


def test_large_matrices_have_no_numbers_and_their_names_stay_apart():
    tokens = [f"token{i}" for i in range(37)]
    ax = plots.attention_head(probabilities(37, 37), tokens)
    ax.figure.draw_without_rendering()
    assert not written(ax) and not boxes_overlap(ax.get_xticklabels()) and not boxes_overlap(ax.get_yticklabels())


def test_names_that_do_not_fit_the_matrix_are_refused():
    with pytest.raises(ValueError, match=r"shape \(3, 2\), but there are 2 rows, 3 columns"):
        plots.token_similarity(np.zeros((3, 2)), "ab", "abc")


def test_the_grid_has_every_head_in_its_place():
    maps = probabilities(2, 1, 3, 5, 5)
    tokens = ["[CLS]", "a", "b", "c", "[SEP]"]
    ax = plots.attention_grid(list(maps), tokens)
    ax.figure.draw_without_rendering()
    mosaic = np.ma.filled(ax.images[0].get_array(), np.nan)
    assert ticks(ax.xaxis) == ["head 0", "head 1", "head 2"] and ticks(ax.yaxis) == ["layer 0", "layer 1"]
    for layer, y in enumerate(ax.get_yticks()):
        for head, x in enumerate(ax.get_xticks()):
            tile = mosaic[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3]
            np.testing.assert_array_equal(tile, maps[layer, 0, head])
    assert np.isnan(mosaic).sum() == mosaic.size - maps.size
    assert ax.get_xlabel().endswith("top to bottom: [CLS]  a  b  c  [SEP]")


def test_the_grid_takes_one_text():
    with pytest.raises(ValueError, match=r"layer\[i\] for layer in attentions"):
        plots.attention_grid([np.zeros((2, 3, 4, 4))])


# ---- lines and points ------------------------------------------------------------------------------------------------


def test_drift_is_the_cosine_with_the_embedding():
    states = np.array([[[1.0, 0.0], [1.0, 1.0]], [[0.0, 2.0], [1.0, 1.0]], [[1.0, 1.0], [-3.0, -3.0]]])
    ax = plots.drift(states, ["turns", "flips"])
    lines = {line.get_label(): line.get_ydata() for line in ax.lines if not line.get_label().startswith("_")}
    np.testing.assert_allclose(lines["turns"], [1, 0, math.sqrt(0.5)], atol=1e-15)
    np.testing.assert_allclose(lines["flips"], [1, 1, -1])
    assert written(ax) == ["turns", "flips"] and ticks(ax.xaxis) == ["embeddings", "0", "1"]
    with pytest.raises(ValueError, match="3 tokens"):
        plots.drift(states, "abc")


def test_names_beside_lines_that_end_together_stay_apart_in_their_order():
    states = np.concatenate([np.ones((1, 9, 3)), np.ones((1, 9, 3)) + 1e-3 * RNG.normal(size=(1, 9, 3))])
    ax = plots.drift(states, [f"token{i}" for i in range(9)])
    ax.figure.draw_without_rendering()
    assert not boxes_overlap(ax.texts)
    ends = [line.get_ydata()[-1] for line in ax.lines if not line.get_label().startswith("_")]
    assert np.argsort(ends).tolist() == np.argsort([text.get_position()[1] for text in ax.texts]).tolist()


def test_principal_components_are_those_of_the_covariance():
    vectors = RNG.normal(size=(11, 5)) @ np.diag([1, 4, 0.3, 2, 0.1]) + 7
    points, shares = plots.principal_components(vectors, 2)
    variances, directions = np.linalg.eigh(np.cov(vectors.T))
    np.testing.assert_allclose(shares, variances[::-1][:2] / variances.sum())
    np.testing.assert_allclose(np.abs(points), np.abs((vectors - vectors.mean(axis=0)) @ directions[:, [-1, -2]]))
    assert (points.max(axis=0) == np.abs(points).max(axis=0)).all()


def test_projection_draws_groups_and_labels_that_cover_nothing():
    vectors = np.repeat(RNG.normal(size=(4, 6)), 3, axis=0) + 0.02 * RNG.normal(size=(12, 6))
    labels, groups = [f"text number {i}" for i in range(12)], [f"group {i // 3}" for i in range(12)]
    ax = plots.projection(vectors, labels, groups)
    ax.figure.draw_without_rendering()
    points, shares = plots.principal_components(vectors, 2)
    drawn = np.concatenate([collection.get_offsets() for collection in ax.collections])
    np.testing.assert_allclose(drawn, points)
    assert written(ax) == labels and not boxes_overlap(ax.texts)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["group 0", "group 1", "group 2", "group 3"]
    assert f"{shares[0]:.0%}" in ax.get_xlabel()
    with pytest.raises(ValueError, match=r"\(12, 6\), 1 labels"):
        plots.projection(vectors, ["one"])


# ---- measurements ----------------------------------------------------------------------------------------------------


def a_parity(wrong=None):
    """Five sublayers; the column file goes wrong at the fourth if told by how much."""
    names = ["embeddings", "encoder.layer.0.intermediate", "encoder.layer.0.output", "encoder.layer.1.output", "pooler"]
    rows = []
    for i, name in enumerate(names):
        differences = {"ours": Difference(1e-6, (i + 1) * 1e-7), "torch": Difference(1e-6, (i + 1) * 2e-7)}
        if wrong is not None:
            differences["file"] = Difference(1e-6, wrong if i >= 3 else 1e-7)
        rows.append(Sublayer(name, 1.0, differences))
    return Parity(tuple(rows))


def test_parity_by_sublayer_is_drawn_on_a_log_scale():
    ax = plots.parity_chart(a_parity())
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(lines["ours"], [1e-7, 2e-7, 3e-7, 4e-7, 5e-7])
    np.testing.assert_allclose(lines["torch"], [2e-7, 4e-7, 6e-7, 8e-7, 1e-6])
    assert ax.get_yscale() == "log" and ticks(ax.xaxis) == ["embeddings", "layer 0", "layer 1", "pooler"]
    assert ax.get_xticks().tolist() == [0, 1.5, 3, 4] and not written(ax)


@pytest.mark.parametrize("wrong", [0.02, math.inf])
def test_parity_names_the_first_wrong_sublayer(wrong):
    ax = plots.parity_chart(a_parity(wrong))
    ax.figure.draw_without_rendering()
    assert written(ax) == ["file: wrong from\nencoder.layer.1.output"]
    low, high = ax.get_ylim()
    line = next(line for line in ax.lines if line.get_label() == "file")
    assert all(low <= y <= high for y in line.get_ydata()) and ax.texts[0].xy == (3, line.get_ydata()[3])
    if math.isfinite(wrong):
        assert line.get_ydata()[3] == wrong


def results():
    def peer(label, factor):
        rates = {
            name: {"texts_per_second": texts * factor, "tokens_per_second": 24.0 * texts * factor}
            for name, texts in (("short", 300), ("long", 4.0))
        }
        memory = {"peak": None if factor == 1 else 5e8}
        latency = {"median": 0.0034 / factor}
        return {"label": label, "throughput": rates, "latency": latency, "start": {"median": 2.0}, "memory": memory}

    workloads = {"short": {"texts": 2, "tokens": 48}, "long": {"texts": 1, "tokens": 256}}
    return {"workloads": workloads, "peers": {"minilm": peer("minilm (numba)", 2), "torch": peer("torch", 1)}}


def test_the_bench_is_bars_with_their_numbers():
    ax = plots.bench_chart(results())
    assert ticks(ax.yaxis) == ["short\n(24 tokens)", "long\n(256 tokens)"]
    assert [bar.get_width() for bar in ax.patches] == [14400, 192, 7200, 96]
    assert written(ax) == ["600 texts/s", "8.0 texts/s", "300 texts/s", "4.0 texts/s"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["minilm (numba)", "torch"]
    hatches = [bar.get_hatch() for bar in ax.patches]
    assert hatches[0] == hatches[1] != hatches[2] == hatches[3]


@pytest.mark.parametrize(
    ("section", "lengths", "texts"),
    [
        ("latency", [1.7, 3.4], ["1.7 ms", "3.4 ms"]),
        ("start", [2, 2], ["2.00 s", "2.00 s"]),
        ("memory", [500, 0], ["500 MB", "unknown"]),
    ],
)
def test_other_sections_have_the_peers_on_the_axis(section, lengths, texts):
    ax = plots.bench_chart(results(), section)
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], lengths)
    assert written(ax) == texts and ticks(ax.yaxis) == ["minilm (numba)", "torch"]
    assert ax.yaxis_inverted()  # the first peer on top
    assert ax.get_yticks().tolist() == pytest.approx([bar.get_y() + bar.get_height() / 2 for bar in ax.patches])


def test_a_section_that_was_not_measured_is_refused():
    with pytest.raises(ValueError, match="'growth' was not measured; there is: throughput, latency, start, memory"):
        plots.bench_chart(results(), "growth")
    with pytest.raises(ValueError, match="no peer"):
        plots.bench_chart({"peers": {}})


def test_padding_is_what_lies_between_a_text_and_the_longest_of_its_batch():
    ax = plots.padding_waste([7, 3, 5, 2, 4, 9, 1], batch_size=3)
    padding, tokens = (patch.get_data() for patch in ax.patches)
    assert padding.values.tolist() == [7, 7, 7, 9, 9, 9, 1] and padding.baseline.tolist() == [7, 3, 5, 2, 4, 9, 1]
    assert tokens.values.tolist() == [7, 3, 5, 2, 4, 9, 1]
    assert ax.get_title() == f"{18 / 49:.0%} of the work is padding"
    with pytest.raises(ValueError, match="batch_size of 1 or more"):
        plots.padding_waste([])
