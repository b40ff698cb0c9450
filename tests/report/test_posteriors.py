"""The true posterior beside its approximations, and the annealing path: what is drawn, and where."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from synthetic_runs import image_pictures, write_run

from vem.report import draw_run
from vem.report.figures.densities import density, mass_levels, path_figure, posterior_figure


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


@pytest.mark.parametrize(("num", "event"), [(1, (8, 8)), (2, (12,)), (3, (2,)), (4, (8, 8))])
def test_the_posteriors_are_drawn(tmp_path, num, event):
    drawn = draw_run(write_run(tmp_path / "a", pictures=image_pictures(event=event) | posterior_pictures(num, event)))
    path = next(path for path in drawn if path.name == "posteriors.png")
    assert path.stat().st_size > 10_000


def test_without_the_arrays_nothing_is_drawn(tmp_path):
    pictures = posterior_pictures()
    del pictures["posterior_gaps"]
    drawn = {path.name for path in draw_run(write_run(tmp_path / "a", pictures=image_pictures() | pictures))}
    assert not drawn & {"posteriors.png", "annealing_path.png"}


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


@pytest.mark.parametrize("num", [None, 1, 3, 80])
def test_the_annealing_path_is_drawn(tmp_path, num):
    shape = (20,) if num is None else (20, num)
    betas = np.linspace(0.05, 1, 20) if num is None else np.linspace(0.05, 1, 20)[:, None].repeat(num, 1)
    ess = 1 - 0.3 * np.random.default_rng(0).random(shape)
    drawn = draw_run(write_run(tmp_path / "a", pictures=image_pictures() | {"path_betas": betas, "path_ess": ess}))
    assert "annealing_path.png" in {path.name for path in drawn}
    ax = path_figure({"path_betas": betas, "path_ess": ess}, "t").axes[0]
    if num == 80:
        lowest = next(line for line in ax.lines if line.get_label() == "lowest at this step")
        np.testing.assert_allclose(lowest.get_ydata(), ess.min(axis=1))
        assert len(ax.lines) == 52
        median = next(line for line in ax.lines if line.get_label() == "median step")
        assert all(
            line.get_zorder() > median.get_zorder() and line.get_linewidth() < median.get_linewidth()
            for line in ax.lines[:50]
        )


def test_one_schedule_serves_all_data():
    ess = 1 - 0.3 * np.random.default_rng(0).random((20, 5))
    assert len(path_figure({"path_betas": np.linspace(0.05, 1, 20), "path_ess": ess}, "t").axes[0].lines) == 7
