"""Means over seeds: which runs belong together."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from vem.report.alike import MEASUREMENT, OTHER_ROWS, on_the_same_rows, rows_of, settings_of
from vem.report.comparable import TRAIN_SIZE, differing
from vem.report.over_seeds import bounds_over_seeds, estimate_over_seeds, gaps_over_seeds, mean_and_se
from vem.report.runs import RunRecord
from vem.report.same import code_key, filled, x_of
from vem.report.told_once import told_once
from vem.storage.records import SPLITS

# Runs that are equal in all of these differ in their seed alone.
GROUP = ("table", "strategy", "model", "family", "latent_dim", "variant")
NUMBERS = ("elbo", "reconstruction", "kl", "log_marginal")
ESTIMATES = tuple(f"{split}_{name}" for split in SPLITS for name in NUMBERS)
MEASURED = 60  # characters of the evaluation's settings that a label has room for
NOT_EVALUATED = "not evaluated"
CUT = "…"  # in a label, for settings left out
COSTS = ("training_seconds", "seconds", "decoder_evaluations", "decoder_gradients", "epochs")


def variants(runs: Sequence[RunRecord], tables: Sequence[str]) -> list[tuple[str, str]]:
    """What else differs between runs of one strategy, model, family and latent size on the same data.

    First what tells the groups apart: of how they were measured only what stands for the whole group
    (:func:`vem.report.alike.rows_of`). Then how the run itself was measured, where those of its training differ in it.
    """
    groups, trained = _trained(runs, tables)
    measured = [{k: v for k, v in own_settings(run).items() if k.startswith(MEASUREMENT)} for run in runs]
    trainings = _frozen(groups, trained)
    frozen = [frozenset(own.items()) for own in measured]
    places = rows_of(trainings, frozen, [run.facts.get("seed") for run in runs])
    telling = differing(groups, [own | measured[i] for own, i in zip(trained, places, strict=True)])
    telling = told_once(groups, telling, {key for run in runs for key in run.typed})
    return [(_text(run, own), _text(run, of))
            for run, own, of in zip(runs, telling, differing(trainings, measured), strict=True)]  # fmt: skip


def trainings(runs: Sequence[RunRecord], tables: Sequence[str]) -> list[Hashable]:
    """What each run trained: runs of a table that agree in it differ in their seed and in how they were measured."""
    return _frozen(*_trained(runs, tables))


def _frozen(groups: Sequence[Hashable], trained: Sequence[dict[str, str]]) -> list[Hashable]:
    return [(g, frozenset(own.items())) for g, own in zip(groups, trained, strict=True)]


def _trained(runs: Sequence[RunRecord], tables: Sequence[str]) -> tuple[list[Hashable], list[dict[str, str]]]:
    """What runs are named by, and the settings of their training beside it."""
    named = ("strategy", "model", "family", "latent_dim")
    groups: list[Hashable] = [(t, *(str(r.facts.get(k)) for k in named)) for t, r in zip(tables, runs, strict=True)]
    settings = [{k: v for k, v in own_settings(run).items() if not k.startswith(MEASUREMENT)} for run in runs]
    return groups, _with_data_and_code(runs, groups, settings)


def _with_data_and_code(
    runs: Sequence[RunRecord], groups: Sequence[Hashable], trained: Sequence[dict[str, str]]
) -> list[dict[str, str]]:
    """What was trained, with ``train_x`` where runs that agree in it saw other data, and ``code`` where a seed was
    trained by several versions of the user's code: it must not count twice.
    """

    kin = _frozen(groups, trained)
    trained = _telling(trained, kin, "train_x", filled([x_of(run).get("train") for run in runs], kin))
    kin = _frozen(groups, trained)
    code = filled([code_key(run) for run in runs], kin)
    places = rows_of(kin, code, [run.facts.get("seed") for run in runs])
    return _telling(trained, kin, "code", [code[i] for i in places])


def _telling(
    trained: Sequence[dict[str, str]], kin: Sequence[Hashable], key: str, values: Sequence[Hashable | None]
) -> list[dict[str, str]]:
    """With a further setting, where it is not the same in all kin."""
    several = differing(kin, [{} if value is None else {key: str(value)} for value in values])
    return [own | more for own, more in zip(trained, several, strict=True)]


def _text(run: RunRecord, settings: Mapping[str, str]) -> str:
    return ", ".join(f"{k}={_shown(k, v, run)}" for k, v in sorted(settings.items()))


def _shown(key: str, value: str, run: RunRecord) -> str:
    """A setting's value on one line; for no limit on the training data their number."""
    size = run.facts.get("num_train")
    return str(whole(size)) if key == TRAIN_SIZE and value == "null" and size is not None else " ".join(value.split())


def training_of(variant: str | None) -> str:
    """A variant less its evaluation settings: groups that agree in it differ in their measurement alone.

    >>> training_of("evaluation.draws=10, strategy.rate=0.1"), training_of("")
    ('strategy.rate=0.1', '')
    """
    return ", ".join(s for s in settings_of(variant) if not s.startswith(MEASUREMENT))


def own_settings(run: RunRecord) -> dict[str, str]:
    """The settings that may differ within a table: all but the data's, and the number of training data.

    What class holds the evaluation's settings is left out: evaluation.json does not say it, so that measured runs
    would be told from those that are not.
    """
    return {
        key: value
        for key, value in run.settings.items()
        if (not key.startswith("data.") or key == TRAIN_SIZE)
        and not (key.startswith(MEASUREMENT) and key.endswith(("._target_", "._partial_")))
    }


def present(value: Any) -> Any:
    """The value, or None where it is missing (pandas has several ways to say so)."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    return None if isinstance(value, float) and math.isnan(value) else value


def aggregate(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each group of runs that differ in their seed alone, in order of appearance.

    ``NAME_mean`` and ``NAME_se`` are over the finished seeds, those that were not evaluated left out where others
    of the group were, and named in ``status``; ``NAME_data_se`` (one seed only) is that
    run's own standard error over data. If one finished seed has no number, the group has none, and
    ``NAME_reason`` says why. ``NAME_over``: how many of the seeds have it measured alike, where not all of them do.
    Of gaps: :func:`vem.report.over_seeds.gaps_over_seeds`.
    """
    placed = runs[runs["table"].notna()]  # the others failed before they could say what they are
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in placed.to_dict("records"):
        clean = {str(k): present(v) for k, v in row.items()}
        groups.setdefault(tuple(clean[k] for k in GROUP), []).append(clean)
    return pd.DataFrame([_group_row(key, members) for key, members in groups.items()])


def _group_row(key: tuple[Any, ...], members: list[dict[str, Any]]) -> dict[str, Any]:
    done = [m for m in members if m["status"] == "done"]
    states = [m["status"] for m in members]
    if any(m["evaluated"] for m in done):
        states = [m["status"] if m["evaluated"] or m["status"] != "done" else NOT_EVALUATED for m in members]
        done = [m for m in done if m["evaluated"]]
    row: dict[str, Any] = {
        **dict(zip(GROUP, key, strict=True)),
        "seeds": len(done),
        "runs": len(members),
        "status": _status(states),
    }
    for name in ESTIMATES:
        row |= estimate_over_seeds(name, done)
    row |= gaps_over_seeds(done, members[0]) | bounds_over_seeds(done, members[0])
    for name in COSTS:
        values = [m[name] for m in done if m[name] is not None]
        whole_group = values and len(values) == len(done)
        row[f"{name}_mean"], row[f"{name}_se"] = mean_and_se(values) if whole_group else (None, None)
    row["directories"] = [m["directory"] for m in done]
    row[OTHER_ROWS] = [m["directory"] for m in done if m.get(OTHER_ROWS)]
    row["unconverged"] = [m["directory"] for m in done if m.get("converged") is False]
    trained = [m for m in on_the_same_rows("train", done) if m["train_elbo"] is not None]
    row["train_elbo_seeds"] = [f"{whole(m['seed'])}={m['train_elbo']:.9g}" for m in trained]
    return row


def _status(states: Sequence[str]) -> str:
    """``done`` where all are, else how many are not.

    >>> _status(["done", "done"]), _status(["done", "failed"]), _status(["failed"])
    ('done', '1 of 2 failed', 'failed')
    """
    if len(set(states)) == 1:
        return states[0]
    rest = [s for s in dict.fromkeys(states) if s != "done"]
    return ", ".join(f"{states.count(s)} of {len(states)} {s}" for s in rest)


def labels(groups: pd.DataFrame) -> list[str]:
    """A short name for each group of one table: its strategy, and what tells it from its kin."""
    rows = [{k: present(v) for k, v in row.items()} for row in groups[list(GROUP)].to_dict("records")]
    names = []
    for row in rows:
        kin = [other for other in rows if other["strategy"] == row["strategy"]]
        parts = [str(row["strategy"])]
        for key in ("model", "family", "latent_dim"):
            if len({other[key] for other in kin}) > 1 and row[key] is not None:
                parts.append(f"{key}={whole(row[key])}")
        names.append(", ".join(parts))
    short = short_variants([row["variant"] or "" for row in rows])
    return [", ".join(filter(None, both)) for both in zip(names, short, strict=True)]


def short_variants(found: Sequence[str]) -> list[str]:
    """The variants of one table with their evaluation settings cut short, and still told apart.

    >>> short_variants(["evaluation.num_data=5, strategy.rate=0.1", ""])
    ['strategy.rate=0.1, measured: num_data=5', '']
    >>> short_variants([f"evaluation.{'a' * 80}=1, evaluation.draws={n}" for n in (1, 2)])
    ['measured: draws=1, …', 'measured: draws=2, …']
    """
    short = [shortened(variant) for variant in _briefly(found)]
    out = []
    for variant, text in zip(found, short, strict=True):
        same = list(dict.fromkeys(v for v, s in zip(found, short, strict=True) if s == text))
        out.append(f"{text} ({same.index(variant) + 1})" if len(same) > 1 else text)
    return out


def _briefly(found: Sequence[str]) -> list[str]:
    """The variants with their values as :func:`brief` has them."""
    settings = [[tuple(s.partition("=")[::2]) for s in settings_of(variant)] for variant in found]
    known: dict[str, dict[str, None]] = {}
    for key, value in (pair for own in settings for pair in own):
        known.setdefault(key, {})[value] = None
    texts = {key: brief(values) for key, values in known.items()}
    return [", ".join(f"{key}={texts[key][value]}" for key, value in own) for own in settings]


def brief(values: Iterable[str]) -> dict[str, str]:
    """By value, how a label writes it: fractions with four digits, unless two of them would then read the same.

    >>> brief(["0.004210984673528849", "12345"]), brief(["0.123456", "0.123457"])
    ({'0.004210984673528849': '0.004211', '12345': '12345'}, {'0.123456': '0.123456', '0.123457': '0.123457'})
    """
    texts = {value: _rounded(value) for value in values}
    return texts if len(set(texts.values())) == len(texts) else {value: value for value in texts}


def value_names(values: Sequence[float | str]) -> dict[float | str, str]:
    """How each value of an axis is written.

    >>> value_names([0.004210984673528849, 2])
    {0.004210984673528849: '0.004211', 2: '2'}
    """
    texts = brief(str(value) for value in values)
    return {value: texts[str(value)] for value in values}


def _rounded(value: str) -> str:
    try:
        text = f"{float(value):.4g}" if "." in value else value
    except ValueError:
        return value
    return text if len(text) < len(value) else value


def shortened(variant: str) -> str:
    """A variant with its evaluation settings behind the others, as many of them as a label has room for."""
    settings = settings_of(variant)
    measured = [s.removeprefix(MEASUREMENT) for s in settings if s.startswith(MEASUREMENT)]
    parts = [s for s in settings if not s.startswith(MEASUREMENT)]
    if measured:
        measured.sort(key=lambda s: s.partition("=")[0].count("."))  # num_data says more than best.rounds
        kept: list[str] = []
        for setting in measured:
            kept += [setting] if len(", ".join([*kept, setting])) <= MEASURED else []
        parts.append("measured: " + ", ".join([*kept, *([CUT] if len(kept) < len(measured) else [])]))
    return ", ".join(parts)


def whole(value: Any) -> Any:
    """An integer that pandas made a float, as an integer again."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
