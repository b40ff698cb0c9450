"""What a run is that did not live to say so, or says it no more: as its kin say it, else its config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vem.report.kin import by
from vem.report.runs import DONE, UNREADABLE, RunRecord
from vem.storage.records import BY_COLUMN, REPEATS
from vem.storage.sealing import mapping

TOLD = ("strategy", "model", "family", "data", "binarize", "likelihood", "latent_dim", "num_train")
OLDER = "run.json says neither which strategy ran nor on which data: it is of an older or foreign schema"


def told_by_kin(found: Sequence[RunRecord]) -> list[RunRecord]:
    """Runs that cannot say what they are, or how they were measured, told by one that differs in its seed alone.

    Else by what their config names. One that was trained and not measured is told by a run of the same training.
    """
    done = sorted((run for run in found if run.status == DONE and run.asked), key=lambda run: bool(run.evaluation))
    kin = by((frozenset(run.asked.items()) for run in done), done)  # the measured last
    trained = {_training(run): run for run in done if run.evaluation}
    families = {_chosen(run): run.facts.get("family") for run in done}
    out = []
    for run in found:
        own = kin.get(frozenset(run.asked.items()), [])
        sibling = trained.get(_training(run)) if run.status == DONE else next(reversed(own), None)
        out.append(_told(_completed(run, own), sibling, families.get(_chosen(run))))
    return out


def _training(run: RunRecord) -> frozenset[tuple[str, str]]:
    """What was asked for, less how it was to be measured."""
    return frozenset((key, value) for key, value in run.asked.items() if not key.startswith("evaluation."))


def _chosen(run: RunRecord) -> tuple[Any, ...]:
    """The options that settle which family q has."""
    choices = mapping(run.config.get("choices"))
    return tuple(choices.get(group, run.directory) for group in ("strategy", "model", "family"))


def _completed(run: RunRecord, kin: Sequence[RunRecord]) -> RunRecord:
    """A finished run with what its run.json leaves out or garbles, as its kin say it, else its config."""
    unsaid = [key for key in (*TOLD, "seed") if key in run.facts.get("unsaid", ())]
    if run.status != DONE or not run.placed or not unsaid:
        return run
    told = _named_in(run.config)
    for other in reversed(kin):
        told |= {key: other.facts[key] for key in TOLD if key in other.facts}
    return run.saying(**{key: told[key] for key in unsaid if told.get(key) is not None})


def _told(run: RunRecord, sibling: RunRecord | None, family: str | None) -> RunRecord:
    if run.status == REPEATS or (run.status == UNREADABLE and not run.asked):
        return run
    if run.placed and run.status in (DONE, UNREADABLE):
        return run if run.evaluation or sibling is None else replace(run, settings=sibling.settings)
    if sibling is not None and sibling.placed:
        told = run if run.evaluation else replace(run, settings=sibling.settings)
        return told.saying(**{key: sibling.facts.get(key) for key in TOLD})
    named = {**_named_in(run.config), "family": family}
    told = run.saying(**{key: value for key, value in named.items() if value is not None} | dict(run.facts))
    if run.status != DONE or told.placed:
        return told
    return run.saying(status=UNREADABLE, error=f"{run.directory}: {OLDER}.")


def _named_in(config: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that a config names: what is not a word, or a number, where one is meant is left out."""
    choices, data, model = (mapping(config.get(key)) for key in ("choices", "data", "model"))
    words = {name: choices.get(name) for name in ("strategy", "model", "data")} | {"binarize": data.get("binarize")}
    by_column = model.get("units") == "column" and model.get("scale") == "learned"
    likelihood = BY_COLUMN if by_column else model.get("likelihood")  # auto is not resolved yet
    words["likelihood"] = likelihood if likelihood in ("bernoulli", "gaussian", BY_COLUMN) else None
    numbers = {"latent_dim": model.get("latent_dim"), "seed": config.get("seed")}
    found = [(words, str), (numbers, int)]
    return {name: value for own, kind in found for name, value in own.items() if isinstance(value, kind)}
