"""Why the best leads, what each group loses and what cannot be concluded: numbers and kinds."""

from __future__ import annotations

import numpy as np
import pytest
from answers import about, answered
from scipy import stats
from synthetic_runs import (
    add_families,
    doctored,
    editing,
    estimate,
    gap,
    on_both,
    report_text,
    spread,
    write_data,
    write_gaps,
    write_run,
    write_seeds,
)

from vem.report.explain import Lead, losses
from vem.report.intervals import Scores, paired
from vem.report.quantities import Estimate, column
from vem.report.read import findings
from vem.report.sentences import in_words
from vem.storage import ledger
from vem.storage.records import write_csv

# --- losses


def est(mean, half=0.2, **more):
    """An estimate that is known to ±half, of one seed over its data; exact where it is not ``one_sided``."""
    high = None if more.get("one_sided") else mean + half
    found = Estimate(mean, low=mean - half, high=high, data_low=mean - half, data_high=high, identified_low=mean,
                     identified_high=None if more.get("one_sided") else mean)  # fmt: skip
    return found._replace(**more)


def group(label="amortized", failed="", elbo=-94.0, **quantities):
    """A row of the comparison with these estimates on test data."""
    row = {"label": label, "strategy": label, "seeds": 1, "checks_failed": failed, "test_elbo_mean": elbo}
    for name, found in quantities.items():
        row |= {column("test", name, field=field): value for field, value in found._asdict().items()}
    return row


def gaps(approximation, amortization, half=0.2, **more):
    """The three gaps of an encoder whose log p(x) is known from below alone."""
    of = {"approximation_gap": est(approximation, half, one_sided=True), "amortization_gap": est(amortization, half),
          "inference_gap": est(approximation + amortization, half, one_sided=True)}  # fmt: skip
    return of | more


BETWEEN = {"approximation_gap": est(1.5, identified_high=6.5), "amortization_gap": est(4.5),
           "inference_gap": est(6.0, identified_high=11.0)}  # fmt: skip
NONE = {"approximation_gap": est(0.0, 0.0005), "inference_gap": est(0.0, 0.0005)}
EXACT = {"log_marginal": Estimate(-94.0)}
# The row; its loss: kind, mean, ends, at least, most; and its parts by what is shown of them.
LOSSES = {
    "from below": (group(**gaps(1.5, 4.5)), ("gaps", 6.0, (5.8, 6.2), True, None),
                   {"approximation": "positive", "amortization": "positive"}),
    "bounds that failed their check": (group(failed="best_above_q (test)", **gaps(1.5, 4.5)),
                                       ("gaps", 6.0, (5.8, 6.2), False, None),
                                       {"approximation": "positive", "amortization": "positive"}),
    "a check of a looser bound": (group(failed="lower_bounds_agree (test)", **gaps(1.5, 4.5)),
                                  ("gaps", 6.0, (5.8, 6.2), True, None),
                                  {"approximation": "positive", "amortization": "positive"}),
    "between two bounds": (group(**BETWEEN), ("gaps", 6.0, (5.8, 6.2), False, 11.0),
                           {"approximation": "positive", "amortization": "positive"}),
    "two bounds that failed": (group(failed="interval_ordered (test)", **BETWEEN),
                               ("gaps", 6.0, (5.8, 6.2), False, None),
                               {"approximation": "positive", "amortization": "positive"}),
    "includes zero": (group(**gaps(0.05, 0.1)), ("gaps", 0.15, (-0.05, 0.35), True, None),
                      {"approximation": "neither", "amortization": "neither"}),
    "a part below zero": (group(**gaps(3.0, -0.6)), ("gaps", 2.4, (2.2, 2.6), True, None),
                          {"approximation": "positive", "amortization": "negative"}),
    "below zero": (group(**gaps(-1.0, 0.3)), ("gaps", -0.7, (-0.9, -0.5), True, None),
                   {"approximation": "negative", "amortization": "positive"}),
    "without an interval": (group(inference_gap=Estimate(2.0)), ("gaps", 2.0, None, False, None), {}),
    "no convergence": (group(failed="converged (test)", **gaps(1.5, 4.5)),
                       ("undivided", 6.0, (5.8, 6.2), True, None), {}),
    "nothing": (group(**NONE), ("none", 0.0, (-0.0005, 0.0005), False, None), {}),
    "the posterior": (group(**EXACT), ("posterior", 0.0, None, False, None), {}),
    "exact log p(x)": (group(elbo=-94.7, exact_loss=est(0.7), **EXACT), ("exact", 0.7, (0.5, 0.9), False, None), {}),
    "exact log p(x) and no error": (group(elbo=-94.7, **EXACT), ("exact", 0.7, None, False, None), {}),
}  # fmt: skip


@pytest.mark.parametrize("case", LOSSES)
def test_a_loss_and_its_parts(case):
    row, (kind, mean, ends, at_least, most), parts = LOSSES[case]
    (loss,) = losses([row])
    assert (loss.kind, loss.split, loss.gap.at_least, loss.gap.most) == (kind, "test", at_least, most)
    assert loss.gap.mean == pytest.approx(mean, abs=1e-9)
    assert loss.gap.ends == (None if ends is None else pytest.approx(ends))
    shown = {name: "positive" if p.positive else "negative" if p.negative else "neither"
             for name, p in loss.parts.items()}  # fmt: skip
    assert shown == parts
    text = in_words(loss)
    assert ("at least" in text) is (at_least and not loss.gap.negative) and "amortized" in text


def test_the_best_first_an_elbo_of_zero_by_its_value_and_the_unknown_last():
    rows = [group(str(elbo), elbo=elbo, **gaps(1.5, 4.5)) for elbo in (None, -3.0, 0.0, 2.0)]
    assert [loss.label for loss in losses(rows)] == ["2.0", "0.0", "-3.0", "None"]


MODEL = ("model_generalization_log_marginal", "model_generalization_best_elbo")


@pytest.mark.parametrize(
    ("numbers", "failed", "mean", "found_in"),
    [((est(2.0), est(3.0)), "", 2.0, "log_marginal"), ((est(9.0, one_sided=True), est(3.0)), "", 3.0, "best_elbo"),
     ((Estimate(), est(3.0)), "converged (train)", None, "")],
)  # fmt: skip
def test_of_a_bounded_log_p_the_best_bounds_tell_of_overfitting(numbers, failed, mean, found_in):
    """Two lower bounds limit their difference from neither side."""
    (loss,) = losses([group(failed=failed, **gaps(1.5, 4.5), **dict(zip(MODEL, numbers, strict=True)))])
    assert loss.overfit_in == found_in and (loss.overfit and loss.overfit.mean) == mean


@pytest.mark.parametrize(("train", "overfit"), [(-88.0, True), (-89.9, False), (-92.0, False)])
@pytest.mark.parametrize("seeds", [1, 3])
def test_an_overfit_model_is_named(tmp_path, train, overfit, seeds):
    rng = np.random.default_rng(0)
    marginal = {"train": spread(rng, train, 0.3), "test": spread(rng, -90.0, 0.3)}
    amortization, approximation = (on_both(lambda: spread(rng, 1.0, 0.05)) for _ in range(2))
    for seed in range(seeds):
        moved = {split: values + 0.01 * (seed if split == "test" else 0) for split, values in marginal.items()}
        write_data(tmp_path / f"{seed}", amortization, approximation, moved, seed=seed, elbo=-92.0 + 0.01 * seed)
    loss = answered(tmp_path).losses["amortized"]
    assert (loss.overfit_in, loss.overfit.on_other_data, loss.overfit.seeds) == ("log_marginal", overfit, seeds)
    d = train + 90.0 - 0.01 * np.arange(seeds)
    assert loss.overfit.mean == pytest.approx(d.mean())
    if seeds == 3:
        assert loss.overfit.ends == pytest.approx(stats.ttest_1samp(d, 0).confidence_interval(0.95))
    assert ("overfits" in in_words(loss)) is overfit


@pytest.mark.parametrize(("low", "at_least"), [(9.0, True), (4.0, False)])
def test_a_difference_of_bounds_is_at_least_what_is_shown_only_where_it_is_its_own_limit(tmp_path, low, at_least):
    """Training data known from below alone; test data exactly, or between two bounds that are 5 nats apart."""
    with editing(write_gaps(tmp_path / "a")) as content:
        entry = {**gap(9.0), "identified": [low, None]}
        content["across_splits"] = {"test": {"model_generalization": {"log_marginal": entry}}}
    (row,) = findings([tmp_path]).tables[0].groups.to_dict("records")
    assert row["test_model_generalization_log_marginal_at_least"] is at_least


@pytest.mark.parametrize(("change", "shown"), [(0.7, "larger"), (0.1, "not significantly larger"), (-0.3, "smaller")])
def test_generalization_of_the_encoder(tmp_path, change, shown):
    add_families(write_gaps(tmp_path / "a"), generalization=change)
    loss = answered(tmp_path).losses["amortized"]
    assert loss.generalization.mean == pytest.approx(change)
    assert loss.generalization.ends == pytest.approx((change - 0.2, change + 0.2))
    assert f"{shown} on test data than on training data" in in_words(loss)
    doctored(
        tmp_path / "a", lambda test: test.update(checks=[{"name": "converged", "passed": False, "detail": "30 %"}])
    )
    assert answered(tmp_path).losses["amortized"].generalization is None


@pytest.mark.parametrize("entries", [True, False])
def test_the_loss_against_an_exact_log_p_has_its_interval(tmp_path, entries):
    own = [0.65, 0.70, 0.75]
    for seed, lost in enumerate(own):
        with editing(write_run(tmp_path / f"{seed}", "gmm", seed=seed, elbo=-90.0 - lost)) as content:
            for split in ("train", "valid", "test"):
                bound = estimate(-90.0)
                content[split]["elbo"] = estimate(-90.0 - lost)
                content[split]["log_marginal"] = {"lower": bound, "upper": bound, "kind": "exact"}
                if entries:
                    nothing = {"value": None, "reason": "not sought"}
                    content[split]["gaps"] = {"approximation": nothing, "inference": gap(lost, 0.1, exact=True)}
    loss = answered(tmp_path).losses["gmm"]
    assert loss.kind == "exact" and loss.gap.seeds == 3
    assert loss.gap.ends == pytest.approx(stats.ttest_1samp(own, 0).confidence_interval(0.95))
    assert loss.gap.data == (pytest.approx((0.6, 0.8)) if entries else None)
    line = next(text for text in report_text(tmp_path).splitlines() if text.startswith("gmm "))
    assert "0.70" in line


def test_many_groups_are_told_in_few_sentences(tmp_path):
    for i in range(20):
        write_gaps(tmp_path / f"{i}", f"strategy{i}", approximation=1.0 + i, elbo=-100.0 - i)
    (table,) = findings([tmp_path]).tables
    assert len(about(table).losses) == 8 and len([s for s in table.answer if s.kind == "loss"]) == 10
    assert all(len(sentence.text) < 900 for sentence in table.answer)


# --- why the best leads


def measured(root, strategy, seed, elbo, inference):
    """A run whose inference gap and lower bound on log p(x) are these."""
    with editing(write_gaps(root / f"{strategy}{seed}", strategy, seed=seed, elbo=elbo)) as content:
        content["test"]["gaps"]["inference"]["mean"] = inference
        content["test"]["log_marginal"]["lower"] = estimate(elbo + inference)


def test_why_the_best_leads_splits_the_lead_exactly(tmp_path):
    """ΔELBO = Δ log p(x) − Δ inference gap, over the same seeds."""
    numbers = {"amortized": ([-95.0, -95.5, -94.9], [6.0, 6.1, 5.9]), "local": ([-97.0, -97.2, -97.1], [2.0, 2.2, 1.9])}
    for strategy, (elbos, inference) in numbers.items():
        for seed in range(3):
            measured(tmp_path, strategy, seed, elbos[seed], inference[seed])
    found = answered(tmp_path)
    lead, (ranking,) = found.lead, found.rankings
    assert (lead.best, lead.rival, lead.gap.seeds, lead.loose, lead.sides) == ("amortized", "local", 3, True, (0, 0))
    for shift, own in ((lead.gap, [4.0, 3.9, 4.0]), (lead.marginal, [6.0, 5.6, 6.2])):
        assert shift.mean == pytest.approx(np.mean(own))
        assert (shift.low, shift.high) == pytest.approx(stats.ttest_1samp(own, 0).confidence_interval(0.95))
    assert lead.marginal.mean - lead.gap.mean == pytest.approx(ranking.verdicts["local"].mean)
    assert "3.97 nats" in in_words(lead) and "5.93 nats" in in_words(lead)


def write_marginals(run, elbo, gap, kind):
    """Of each test data point log p(x) = elbo + gap; exact, or a lower bound."""
    write_csv(run / "per_datum.csv", [{"split": "test", "row": r, "elbo": e, "log_marginal_lower": e + g}
                                      for r, (e, g) in enumerate(zip(elbo, gap, strict=True))])  # fmt: skip
    low, exact = estimate(float((elbo + gap).mean())), kind == "exact"
    limits = [float(gap.mean()), float(gap.mean()) if exact else None]
    with editing(run) as content:
        content["test"] |= {"num_data": len(elbo), "elbo": estimate(float(elbo.mean())),
                            "log_marginal": {"lower": low, "upper": low if exact else None, "kind": kind}}  # fmt: skip
        content["test"]["gaps"]["inference"] |= {"mean": float(gap.mean()), "identified": limits}
        content |= {"train": {"num_data": 0}, "valid": {"num_data": 0}}


@pytest.mark.parametrize("kind", ["exact", "ais from q*"])
def test_why_the_best_leads_on_one_seed_is_over_data(tmp_path, kind):
    rng = np.random.default_rng(0)
    elbo, inference = rng.normal(-90, 5, size=40), rng.exponential(size=40)
    more, less = 1 + 0.1 * rng.normal(size=40), 0.5 + 0.1 * rng.normal(size=40)
    write_marginals(write_gaps(tmp_path / "a", "amortized"), elbo + more, inference - less, "ais from q*")
    write_marginals(write_gaps(tmp_path / "b", "local"), elbo, inference, kind)
    lead = answered(tmp_path).lead
    for shift, d in ((lead.gap, -less), (lead.marginal, more - less)):
        assert (shift.over, shift.df, shift.mean) == ("data", 39, pytest.approx(d.mean()))
        assert (shift.low, shift.high) == pytest.approx(stats.t.interval(0.95, 39, d.mean(), stats.sem(d)))
    one_sided = kind == "exact"
    assert lead.sides == (one_sided, False) and lead.loose is not one_sided
    limits = [lead.limit(shift) for shift in (lead.gap, lead.marginal)]
    assert limits == (["at most", "at least"] if one_sided else ["", ""])


@pytest.mark.parametrize("noise", [0.1, 3.0])
def test_why_the_best_leads_says_how_far_that_reaches(tmp_path, noise):
    """Encoders that differ by 0.5 in every seed, which over data may be nothing."""
    rng = np.random.default_rng(0)
    own, marginal = on_both(lambda: spread(rng, 2.0, 0.2)), on_both(lambda: spread(rng, -90.0, 0.2))
    more = on_both(lambda: spread(rng, 0.5, noise))
    larger = {split: own[split] + more[split] for split in own}
    for seed in range(3):
        for strategy, gaps, level in (("amortized", own, 0.02), ("slow", larger, -0.02)):
            moved = {split: values + level + 0.001 * seed * level for split, values in marginal.items()}
            write_data(tmp_path / f"{strategy}{seed}", gaps, own, moved, strategy, seed=seed)
    lead = answered(tmp_path).lead
    assert lead.gap.mean == pytest.approx(-0.5) and lead.gap.se == pytest.approx(0, abs=1e-9)
    test = stats.ttest_1samp(-more["test"], 0).confidence_interval(0.95)
    assert lead.gap.data_interval(0.95) == pytest.approx(test)
    assert lead.reaches_other_data is (noise == 0.1)


def test_no_direction_is_given_that_is_not_shown(tmp_path):
    """And the limit of a difference is from the side on which the bound is."""
    for strategy, inference, better in (("amortized", [2.0, 2.4, 1.9], 1.0), ("local", [2.1, 2.1, 2.2], 0.0)):
        for seed, own in enumerate(inference):
            measured(tmp_path, strategy, seed, -95.0 + better, own)
    lead = answered(tmp_path).lead
    assert lead.gap.low < 0 < lead.gap.high and "smaller" not in in_words(lead)
    own = {seed: Scores(2.0) for seed in range(3)}
    smaller = paired(own, {seed: Scores(gap) for seed, gap in enumerate((2.93, 3.03, 3.13))})
    for sides, limit in (((True, False), "at most"), ((False, True), "at least"), ((False, False), "")):
        found = Lead("a", "b", smaller, smaller, sides, loose=False, strategies=True)
        assert found.limit(smaller) == limit
        assert ("may be larger" in in_words(found)) is (limit == "at most")


# --- cautions


def sizes(root, spent):
    for size, level in ((2, -120.0), (10, -100.0)):
        config = {"latent_dim": size, "model": {"latent_dim": size}}
        for name, more in (("local", 0.0), ("amortized", 1.0)):
            write_seeds(root, name, [level + more, level + more - 0.1], latent_dim=size, config=config,
                        decoder_evaluations=spent[name, size])  # fmt: skip


def two(root, own=(-100.0, -101.0), other=(-98.0, -99.0), **fields):
    write_seeds(root, "local", own, **fields)
    write_seeds(root, "amortized", other, decoder_evaluations=10_000)


BAD = {"name": "best_above_q", "passed": False, "detail": ""}
HELD_OUT = {"strategy": {"_target_": "vem.local", "held_out": {"steps": 100}}}
RUNNING = {"status": "running", "evaluated": False}
FAILED = {"status": "failed", "error": "NaN", "evaluated": False}
# What is written; the kind of caution, its groups and facts; kinds that must not be there.
CAUTIONS = {
    "one seed each": (lambda root: two(root, [-100.0], [-98.0]), "one_seed", ("amortized", "local"), {"every": True},
                      ("over_seeds", "unequal_seeds")),
    "one seed of one": (lambda root: two(root, [-100.0]), "one_seed", ("local",), {"every": False}, ()),
    "unequal seeds": (lambda root: two(root, [-100.0]), "unequal_seeds", (), {"fewest": 1, "most": 2}, ()),
    "a run at work": (lambda root: (two(root), write_run(root / "more", seed=2, **RUNNING)),
                      "running", ("local",), {"runs": 1}, ("no_result",)),
    "a run that failed": (lambda root: (two(root), write_run(root / "more", seed=2, **FAILED)),
                          "no_result", ("local",), {"runs": 1}, ("running",)),
    "checks": (lambda root: write_gaps(root / "a", checks=(BAD,)), "checks_failed", ("amortized",),
               {"what": "best_above_q (test)"}, ()),
    "from below": (lambda root: write_gaps(root / "a"), "from_below", (), {"width": None, "worst": None}, ()),
    "exact": (lambda root: write_gaps(root / "a", exact=True), "one_seed", ("amortized",), {"every": False},
              ("from_below", "correction")),
    "ascent on test data": (lambda root: two(root, config=HELD_OUT), "held_out_steps", ("local",),
                            {"steps": "100", "key": "strategy.held_out.steps"}, ()),
    "unequal compute": (lambda root: two(root, decoder_evaluations=90_000), "compute", (),
                        {"pairs": [("amortized", "local", "decoder evaluations", 10_000, 90_000)]}, ("other_models",)),
    "at one value": (lambda root: sizes(root, {(n, s): 90_000 if (n, s) == ("local", 2) else 10_000
                                               for n in ("local", "amortized") for s in (2, 10)}),
                     "compute", (), {"pairs": [("amortized, latent_dim=2", "local, latent_dim=2",
                                                "decoder evaluations", 10_000, 90_000)]}, ()),
    "other decoders": (lambda root: (write_seeds(root, "local", [-100.0, -101.0], decoder_evaluations=90_000),
                                     write_seeds(root, "gmm", [-98.0, -99.0], decoder_evaluations=10_000)),
                       "other_models", (), {"keys": ["model"]}, ("compute",)),
    "five leads": (lambda root: [write_seeds(root, name, [-100.0 - i, -101.1 - i]) for i, name in enumerate("abcdef")],
                   "correction", (), {"groups": 6, "leads": 5}, ()),
    "uncorrected": (lambda root: [write_seeds(root, name, [-100.0 - d * i for d in (1.0, 1.9, 1.6)])
                                  for i, name in enumerate("ab")] + [write_seeds(root, "c", [-120.0] * 3)],
                    "correction", ("b",), {"groups": 3, "leads": 2}, ()),
    "two samples": (lambda root: add_families(write_gaps(root / "a")), "two_samples", (), {}, ()),
}  # fmt: skip


@pytest.mark.parametrize("case", CAUTIONS)
def test_a_reason_to_doubt(tmp_path, case):
    write, kind, labels, facts, absent = CAUTIONS[case]
    write(tmp_path)
    found = answered(tmp_path).cautions
    assert (found[kind].labels, found[kind].facts) == (labels, facts)
    assert not {*absent} & {*found}


def test_gaps_that_two_of_three_seeds_have(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, own in ((0, 1.4), (1, 1.6)):
        write_gaps(tmp_path / f"a{seed}", approximation=own, seed=seed)
    write_run(tmp_path / "a2", "amortized", seed=2, num_data=30)
    write_seeds(tmp_path / "it's", "local", [-100.0, -101.0], num_data=30)  # not measured at all
    (table,) = findings([tmp_path]).tables
    row = table.groups.set_index("label").loc["amortized"]
    assert (row["seeds"], row["gap_seeds"], row["without_gaps"]) == (3, 2, ["a2"])
    assert [row[f"test_approximation_gap_{end}"] for end in ("mean", "se")] == pytest.approx([1.5, 0.1])
    found = about(table)
    assert found.losses["amortized"].gap.seeds == 2 and "local" not in found.losses
    commands = [text.partition("python -m vem.evaluate ")[2].partition(" measures")[0] for text in found.remarks]
    assert [command for command in commands if command] == [
        "a2 evaluation=gaps", "'it'\"'\"'s/local0_' evaluation=gaps"]  # fmt: skip


def write_sweep(root, jobs, done, **fields):
    """A sweep with these jobs, by folder their overrides, of which those in ``done`` are finished."""
    planned = [ledger.Job(name, overrides) for name, overrides in jobs.items()]
    ledger.plan(root, "python -m vem.run -m", "serial", planned, "2026-01-01")
    for name in done:
        config = {"data": {"seed": 0, "name": fields.get("data")}}
        data = dict(text.split("=") for text in jobs[name]).get("data")
        of = fields if data is None else fields | {"data": data}
        write_run(root / name, name[1:-1], seed=int(name[-1]), elbo=-100.0 - int(name[-1]), config=config, **of)


def jobs_of(letter, data=None):
    more = () if data is None else (f"data={data}",)
    names = ((name, seed) for name in ("local", "amortized") for seed in range(2))
    return {f"{letter}{n}{s}": (f"strategy={n}", f"seed={s}", *more) for n, s in names}


def unfinished(root):
    """By table, what is said of jobs and runs that may yet give a result."""
    kinds = ("jobs_left", "running", "no_result")
    return {
        table.name.partition(",")[0]: {kind: found[kind].facts for kind in kinds if kind in found}
        for table in findings([root]).tables
        for found in [about(table).cautions]
    }


LEFT = {"jobs_left": {"running": 0, "later": 2, "planned": 4}}
M, D = jobs_of("m"), jobs_of("d")
BOTH = jobs_of("m", "mnist") | jobs_of("d", "digits")
ALONE = {"seed": 2, "data": "mnist", "config": {"data": {"seed": 0, "name": "mnist"}}, **RUNNING}
# Sweeps: their jobs, which of them are done, on which data; and what is said of each table.
SWEEPS = {
    "a table hears of its own jobs alone": (
        [(M, M, {"data": "mnist"}), (D, list(D)[:2], {"data": "digits"})], {"mnist": {}, "digits": LEFT}),
    "one sweep over two sets of data": (
        [(BOTH, [name for name in BOTH if not name.startswith("damortized")], {})], {"mnist": {}, "digits": LEFT}),
    "a sweep with no run yet may belong to any table": (
        [(M, M, {"data": "mnist"}), (D, (), {})],
        {"mnist": {"jobs_left": {"running": 0, "later": 4, "planned": 8}}}),
    "a run beside a sweep that is over": ([(M, M, {"data": "mnist"}), ALONE], {"mnist": {"running": {"runs": 1}}}),
}  # fmt: skip


@pytest.mark.parametrize("case", SWEEPS)
def test_what_may_yet_come_is_said_of_its_table(tmp_path, case):
    written, said = SWEEPS[case]
    for i, one in enumerate(written):
        if isinstance(one, dict):
            write_run(tmp_path / f"{i}", **one)
        else:
            write_sweep(tmp_path / f"{i}", *one[:2], **one[2])
    assert unfinished(tmp_path) == said


def test_seeds_that_have_not_started_count_in_their_group(tmp_path):
    jobs = {
        f"{name}{seed}": (f"strategy={name}", f"seed={seed}") for name in ("local", "amortized") for seed in range(3)
    }
    ledger.plan(tmp_path, "python -m vem.run -m", "serial", [ledger.Job(*job) for job in jobs.items()], "2026-01-01")
    for name, elbo in (("local", -100.0), ("amortized", -99.0)):
        write_run(tmp_path / f"{name}0", name, elbo=elbo, config={"model": {"width": 3}})
    (table,) = findings([tmp_path]).tables
    assert list(table.groups["runs"]) == [3, 3] and set(table.groups["status"]) == {"2 of 3 not begun"}
    assert next(s.about.kind for s in table.answer if s.kind == "caution") == "jobs_left"
