"""Which figures a run's files allow, that they are the same bytes each time, and what they show."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from synthetic_runs import image_pictures, mixture_pictures, write_run

from vem.errors import VemError
from vem.report import draw_run, write_report
from vem.report.figures import panels
from vem.report.figures.curves import elbo_figure, seed_average
from vem.report.figures.style import robust_limits

PLANE = {"elbo.png", "latent_plane.png", "reconstructions.png"}
MIXTURE = {"elbo.png", "classes.png", "components.png", "samples.png", "reconstructions.png"}
FIGURES = [
    *((image_pictures(event=event), PLANE | {"decoded_grid.png"}) for event in ((8, 8), (12,), (2,), (1,), (1, 5))),
    *((image_pictures(latent=latent, labels=False), PLANE | {"samples.png"}) for latent in (1, 3, 50)),
    *((mixture_pictures(event), MIXTURE) for event in ((8, 8), (12,), (2,), (1,))),
]


@pytest.mark.parametrize(("pictures", "expected"), FIGURES)
def test_the_figures_that_a_runs_pictures_allow(tmp_path, pictures, expected):
    drawn = draw_run(write_run(tmp_path / "a", "gmm" if expected == MIXTURE else "local", pictures=pictures))
    assert {path.name for path in drawn} == expected and all(path.stat().st_size > 1000 for path in drawn)


@pytest.mark.parametrize("content", ["", "epoch,step,seconds,split,elbo\n1,10,1.5,train,\n"])
def test_a_run_without_an_elbo_draws_none(tmp_path, content):
    run = write_run(tmp_path / "a", status="running", evaluated=False)
    (run / "metrics.csv").write_text(content)
    assert draw_run(run) == []


@pytest.mark.parametrize(("file", "content"), [("pictures.npz", "x"), ("metrics.csv", "a,b\n1,2\n")])
def test_a_damaged_file_is_one_message(tmp_path, file, content):
    run = write_run(tmp_path / "a")
    (run / file).write_text(content)
    with pytest.raises(VemError, match=file):
        draw_run(run)


def test_the_same_data_give_the_same_bytes_and_settings_stay(tmp_path):
    before = dict(matplotlib.rcParams)
    write_run(tmp_path / "runs" / "0", pictures=image_pictures())
    write_run(tmp_path / "runs" / "1", "gmm", pictures=mixture_pictures())
    drawn = []
    for out in ("x", "y"):
        write_report([tmp_path / "runs"], tmp_path / out)
        paths = [*draw_run(tmp_path / "runs" / "0"), *sorted((tmp_path / out / "figures").iterdir())]
        drawn.append({path.name: path.read_bytes() for path in paths})
    assert {"elbo.png", "curves.png", "curves.svg", "side_by_side.png", "side_by_side.svg"} < set(drawn[0])
    assert drawn[0] == drawn[1]
    assert dict(matplotlib.rcParams) == before


def test_the_first_epochs_do_not_stretch_the_axes(tmp_path):
    values = [-5000.0, -300, -120, -105, -102, -101, -100.5, -100.2, -100.1, -100]
    frame = pd.DataFrame({"epoch": range(1, 11), "seconds": range(1, 11), "split": "train", "elbo": values})
    ax = elbo_figure(frame, "t").axes[0]
    assert ax.get_ylim()[0] > -320 and ax.get_ylim()[1] > -100 and len(ax.texts) == 1  # which says so
    low, high, cut = robust_limits([np.full(5, -3.0)])
    assert low < -3 < high and not cut


def test_the_curve_is_the_mean_over_seeds_at_equal_epochs(tmp_path):
    runs = [write_run(tmp_path / f"{s}", seed=s, elbo=-100.0 - s, epochs=4 + s) for s in range(3)]
    mean = seed_average(runs)
    train = mean[mean["split"] == "train"]
    assert train["epoch"].tolist() == [1, 2, 3, 4]  # where every seed is
    by_hand = np.array([[-100.0 - s - 50 * np.exp(-e) for e in range(1, 5)] for s in range(3)])
    np.testing.assert_allclose(train["elbo"], by_hand.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(train["se"], by_hand.std(axis=0, ddof=1) / np.sqrt(3), atol=1e-6)


def test_the_principal_plane_is_that_of_the_covariance():
    rng = np.random.default_rng(0)
    means = rng.normal(size=(500, 5)) * [5, 3, 1, 0.5, 0.1]
    plane, share = panels.principal_plane(means)
    variances = np.linalg.eigvalsh(np.cov(means.T))[::-1]
    np.testing.assert_allclose(share, variances[:2] / variances.sum())
    np.testing.assert_allclose(np.cov(plane.T), np.diag(variances[:2]), atol=1e-9)


def test_the_grid_stands_with_z1_to_the_right_and_z2_upwards():
    grid = np.zeros((3, 3, 2, 2))
    grid[2, 2] = 1.0  # z = (greatest, least): the lower right corner
    ax = Figure().add_subplot()
    panels.decoded_grid(ax, {"decoded_grid": grid, "grid_axis": np.array([-1.0, 0.0, 1.0])})
    sheet = ax.images[0].get_array()
    assert sheet.shape == (9, 9) and np.all(sheet[6:8, 6:8] == 1) and sheet.sum() == 4


def test_a_thinned_grid_keeps_its_places():
    axis = np.linspace(-1.0, 1.0, 20)  # two to one: the places kept are not symmetric
    z1, z2 = np.meshgrid(axis, axis[::-1])
    grid = (z1 + 10 * z2)[..., None, None] * np.ones((2, 2))
    ax = Figure().add_subplot()
    panels.decoded_grid(ax, {"decoded_grid": grid, "grid_axis": axis}, small=True)
    sheet = np.asarray(ax.images[0].get_array())[::3, ::3]
    kept = axis[::2]
    np.testing.assert_allclose(sheet, kept[None] + 10 * kept[::-1, None])


def test_the_classes_of_components_are_shares():
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[1.0, 0.0], [0.5, 0.5], [0.5, 0.5], [0.0, 1.0]])
    pictures = {"latent_means": probabilities, "labels": labels, "component_weights": np.array([0.4, 0.6])}
    ax = Figure().add_subplot()
    panels.classes(ax, pictures)
    np.testing.assert_allclose(ax.images[0].get_array(), [[0.25, 0.75], [0.75, 0.25]])  # heaviest first


def test_components_stand_by_weight():
    means = np.arange(3.0)[:, None, None] * np.ones((3, 2, 2))
    ax = Figure().add_subplot()
    title = panels.components(ax, {"component_means": means, "component_weights": np.array([0.2, 0.5, 0.3])})
    assert title == "Means and weights of 3 components"
    assert [text.get_text() for text in ax.texts] == ["50.0%", "30.0%", "20.0%"]
    row = np.asarray(ax.images[0].get_array().filled(np.nan))
    assert row[-2, [0, 3, 6]].tolist() == [1.0, 2.0, 0.0]


def test_classes_that_are_unknown_or_too_many_have_no_legend():
    means = np.random.default_rng(0).normal(size=(60, 2))
    for labels, num_clouds in ((None, 1), (np.arange(60) % 30, 1), (np.arange(60) % 3, 3)):
        ax = Figure().add_subplot()
        panels.latent_plane(ax, {"latent_means": means} | ({} if labels is None else {"labels": labels}))
        assert len(ax.collections) == num_clouds and (ax.get_legend() is None) == (num_clouds == 1)
        assert ("\n" in ax.get_xlabel()) == (labels is None)  # where it says that there are none


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_damaged_pictures_are_one_message_or_harmless(tmp_path, share):
    """Eight bytes flipped anywhere in pictures.npz: a message that names the file, never another error."""
    run = write_run(tmp_path / "run", pictures=image_pictures())
    whole = (run / "pictures.npz").read_bytes()
    at = int(share * (len(whole) - 8))
    (run / "pictures.npz").write_bytes(whole[:at] + bytes(255 - b for b in whole[at : at + 8]) + whole[at + 8 :])
    try:
        drawn, message = draw_run(run), ""
    except VemError as error:
        drawn, message = [], str(error)
    assert drawn or "pictures.npz is damaged" in message
