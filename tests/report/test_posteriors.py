"""The true posterior beside its approximations, and the annealing path: what is drawn, and where."""

import numpy as np
import pytest
from figures_drawn import unpainted
from matplotlib.figure import Figure
from synthetic_runs import image_pictures, write_run

from vem.report import draw_run
from vem.report.figures.densities import density, mass_levels, path_figure, posterior_figure
from vem.report.figures.style import save


def gaussian(axes, mean, scale):
    z1, z2 = np.meshgrid(*axes)
    return np.exp(-0.5 * (((z1 - mean[0]) / scale) ** 2 + ((z2 - mean[1]) / scale) ** 2)) / (2 * np.pi * scale**2)


def posterior_pictures(num=3, event=(8, 8), names=("amortized", "diagonal_gaussian")):
    axes = np.linspace(-3, 3, 61)[None, None].repeat(num, 0).repeat(2, 1).astype(np.float32)
    truth = np.stack([gaussian(a, (1, -0.5), 0.5) for a in axes])
    return {
        "posterior_x": np.random.default_rng(0).random((num, *event)),
        "posterior_rows": np.arange(num),
        "posterior_axes": axes,
        "posterior_truth": truth,
        "posterior_q": np.stack([np.stack([gaussian(a, (0, q), 0.4) for a in axes]) for q in range(len(names))]),
        "posterior_names": np.array(names),
        "posterior_gaps": np.arange(len(names) * num).reshape(len(names), num) / 7,
    }


@pytest.mark.parametrize("left_out", ["", "posterior_gaps"])
def test_they_are_drawn_of_a_run_that_has_the_arrays(tmp_path, left_out):
    pictures = image_pictures() | posterior_pictures(2) | {"path_betas": np.ones(3), "path_ess": np.ones(3)}
    pictures.pop(left_out, None)
    with unpainted():
        drawn = {path.name for path in draw_run(write_run(tmp_path / "a", pictures=pictures))}
    assert drawn >= {"annealing_path.png"} and ("posteriors.png" in drawn) is (left_out == "")


@pytest.mark.parametrize(("num", "event"), [(1, (12,)), (3, (2,))])
def test_data_of_any_shape_stand_beside_them(tmp_path, num, event):
    path = save(posterior_figure(posterior_pictures(num, event), "t"), tmp_path / "a.png")
    assert path.stat().st_size > 10_000


def test_gaps_and_names_stand_at_their_panels():
    figure = posterior_figure(posterior_pictures(2), "t")
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["x", "true posterior", "amortized", "diagonal gaussian", "", "", "", ""]
    texts = [[text.get_text() for text in ax.texts] for ax in figure.axes]
    assert texts == [[], [], ["0.00 nats"], ["0.29 nats"], [], [], ["0.14 nats"], ["0.43 nats"]]
    assert [ax.get_ylabel() for ax in figure.axes[::4]] == ["row 0", "row 1"]


@pytest.mark.parametrize("case", ["not finite", "empty", "a speck", "flat"])
def test_a_q_that_cannot_be_contoured(tmp_path, case):
    pictures = posterior_pictures(2)
    q = pictures["posterior_q"]
    q[0, 0] = 1.0 if case == "flat" else 0.0
    if case == "a speck":
        q[0, 0, 3, 7] = 1e6
    if case == "not finite":
        pictures["posterior_gaps"][0, 0] = np.nan
    figure = posterior_figure(pictures, "t")
    figure.savefig(tmp_path / "a.png")
    ax = figure.axes[2]
    assert ax.texts[0].get_text() == ("q is not finite" if case == "not finite" else "0.00 nats")
    if case == "a speck":
        (point,) = ax.lines
        assert point.get_xydata().tolist() == [
            [pictures["posterior_axes"][0, 0, 7], pictures["posterior_axes"][0, 1, 3]]
        ]


def test_contours_stand_where_the_mass_is():
    pictures = posterior_pictures(1)
    ax = Figure().add_subplot()
    density(ax, pictures["posterior_axes"][0], pictures["posterior_truth"][0], colour="red")
    outline = np.concatenate([path.vertices for path in ax.collections[0].get_paths()])
    np.testing.assert_allclose((outline.max(0) + outline.min(0)) / 2, [1, -0.5], atol=0.02)  # z_1 right, z_2 up
    # 95 % of a Gaussian in the plane lies within √(2 ln 20) standard deviations.
    np.testing.assert_allclose(np.ptp(outline, axis=0) / 2, 0.5 * np.sqrt(2 * np.log(20)), rtol=0.03)


def test_levels_enclose_their_shares():
    rng = np.random.default_rng(1)
    values = rng.random((50, 50)) ** 4
    levels = mass_levels(values, (0.5, 0.9))
    assert levels[0] < levels[1]
    np.testing.assert_allclose(
        [values[values >= level].sum() / values.sum() for level in levels], [0.9, 0.5], atol=0.01
    )
    assert len(mass_levels(np.zeros((3, 3)), (0.5,))) == 0 and len(mass_levels(np.ones((3, 3)), (0.5,))) == 0


def test_of_many_annealing_paths_some_are_drawn_before_the_median():
    betas = np.linspace(0.05, 1, 20)[:, None].repeat(80, 1)
    ess = 1 - 0.3 * np.random.default_rng(0).random((20, 80))
    *single, median, lowest = path_figure({"path_betas": betas, "path_ess": ess}, "t").axes[0].lines
    np.testing.assert_allclose(lowest.get_ydata(), ess.min(axis=1))
    np.testing.assert_allclose(median.get_ydata(), np.median(ess, axis=1))
    assert len(single) == 50
    assert all(line.get_zorder() > median.get_zorder() > 0 for line in single)
    assert all(line.get_linewidth() < median.get_linewidth() for line in single)


@pytest.mark.parametrize(("num", "lines"), [(1, 1), (3, 5)])
def test_one_schedule_serves_all_data(num, lines):
    ess = 1 - 0.3 * np.random.default_rng(0).random((20, num))
    figure = path_figure({"path_betas": np.linspace(0.05, 1, 20), "path_ess": ess}, "t")
    assert len(figure.axes[0].lines) == lines
