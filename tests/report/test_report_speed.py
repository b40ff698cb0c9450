"""Five hundred runs of real size: the report's work, memory and page."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from synthetic_runs import editing, estimate, gap, image_pictures, write_run

# Work is counted in calls of functions, Python's and C's: it is the same on every processor, where the CPU time of one
# commit was 17 s here and 35 s there. 31.4 million were measured.
CALLS, BYTES, PAGE = 34_500_000, 2**30, 15 * 2**20
STRATEGIES, SIZES, WIDTHS, SEEDS = ("local", "amortized"), (2, 5, 10, 20, 50), ([], [50], [100], [200], [200, 200]), 10
ROWS = 1000  # of each of two splits
FURTHER = ("certificate", "start_spread", "gradient_norm", "steps", "converged", "ess", "log_marginal_mc_se")


def per_datum(rng: np.random.Generator) -> tuple[bytes, dict[str, float]]:
    """per_datum.csv with the columns of a run that measured its gaps, and the mean ELBO of each split."""
    n = 2 * ROWS
    lower = rng.normal(-90, 10, size=n)
    best = lower - rng.exponential(1.5, size=n)
    table = pd.DataFrame({"split": np.repeat(["train", "test"], ROWS), "row": np.tile(np.arange(ROWS) * 7, 2)})
    table = table.assign(label=rng.integers(10, size=n), elbo=best - rng.exponential(3, size=n), best_elbo=best)
    table = table.assign(log_marginal_lower=lower, **{name: rng.random(n) for name in FURTHER})
    return table.to_csv(index=False, float_format="%.9g").encode(), table.groupby("split")["elbo"].mean().to_dict()


def write_many(root: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [per_datum(rng) for _ in range(10)]
    (root / "pictures").mkdir(parents=True)
    np.savez(root / "pictures" / "of_all.npz", **image_pictures(latent=50, event=(28, 28)))
    model = {f"setting_{i}": i for i in range(60)}
    for strategy, size, widths, seed in product(STRATEGIES, SIZES, WIDTHS, range(SEEDS)):
        content, levels = rows[int(rng.integers(len(rows)))]
        config = {"latent_dim": size, "model": {**model, "latent_dim": size, "decoder": {"widths": widths}}}
        run = write_run(
            root / f"latent_dim={size},decoder={'-'.join(map(str, widths))},seed={seed},strategy={strategy}",
            strategy, seed=seed, elbo=levels["test"], epochs=30, latent_dim=size, config=config,
        )  # fmt: skip
        typed = [f"strategy={strategy}", f"latent_dim={size}", f"model.decoder.widths={widths}", f"seed={seed}"]
        (run / "overrides.yaml").write_text(yaml.safe_dump(typed))
        with editing(run) as numbers:
            middle = "optimization" if strategy == "local" else "amortization"
            for split in ("train", "test"):
                low = estimate(levels[split] + 5)
                numbers[split] |= {
                    "num_data": ROWS,
                    "elbo": estimate(levels[split]),
                    "log_marginal": {"lower": low, "upper": None, "kind": "annealing"},
                    "gaps": {"approximation": gap(1.5), middle: gap(3.5), "inference": gap(5.0)},
                    "checks": [{"name": f"check_{i}", "passed": True, "detail": "as it should be"} for i in range(12)],
                    "diagnostics": {"active_units": min(size, 20), "kl": list(rng.random(size))},
                }
            numbers["valid"] = {"num_data": 0}
        (run / "per_datum.csv").write_bytes(content)
        os.link(root / "pictures" / "of_all.npz", run / "pictures.npz")


@pytest.mark.slow
def test_five_hundred_runs(tmp_path):
    write_many(tmp_path / "runs")
    code = (
        "import cProfile, resource, sys, pathlib\n"
        "from vem.report.summary import write_report\n"
        "profile = cProfile.Profile()\n"
        "profile.runcall(write_report, [pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]))\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)\n"
        "if sys.platform == 'linux':  # there ru_maxrss is that of the process it was forked from, too\n"
        "    lines = pathlib.Path('/proc/self/status').read_text().splitlines()\n"
        "    peak = next(int(line.split()[1]) for line in lines if line.startswith('VmHWM:')) * 1024\n"
        "print(sum(entry.callcount for entry in profile.getstats()), peak)\n"
    )
    call = [sys.executable, "-c", code, str(tmp_path / "runs"), str(tmp_path / "out")]
    ended = subprocess.run(call, capture_output=True, text=True, check=True)
    calls, peak = map(int, ended.stdout.split())
    assert len(pd.read_csv(tmp_path / "out" / "runs.csv")) == 500
    assert pd.read_csv(tmp_path / "out" / "summary.csv")["seeds"].tolist() == [SEEDS] * 50
    page = (tmp_path / "out" / "report.html").read_text()
    assert "of another measurement" not in page  # the rows count: else reading them would cost nothing
    size = len(page.encode())
    assert calls < CALLS and peak < BYTES and size < PAGE, (calls, peak / 2**20, size / 2**20)
