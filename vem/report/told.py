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
    """Runs that cannot say what they are are told by one that differs in its seed alone, else by their config.

    One that was trained and not measured has the settings of a run of the same training.
    """
    done = sorted((run for run in found if run.status == DONE and run.asked), key=lambda run: bool(run.evaluation))
    kin = by((frozenset(run.asked.items()) for run in done), done)  # the measured last
    trained = {_training(run): run for run in done if run.evaluation}
    families = {_chosen(run): run.facts.get("family") for run in done}
    same = [kin.get(frozenset(run.asked.items()), []) for run in found]
    return [_told(run, own, trained.get(_training(run)), families.get(_chosen(run)))
            for run, own in zip(found, same, strict=True)]  # fmt: skip


def _training(run: RunRecord) -> frozenset[tuple[str, str]]:
    """What was asked for, less how it was to be measured."""
    return frozenset((key, value) for key, value in run.asked.items() if not key.startswith("evaluation."))


def _chosen(run: RunRecord) -> tuple[Any, ...]:
    """The options that settle which family q has."""
    choices = mapping(run.config.get("choices"))
    return tuple(choices.get(group, run.directory) for group in ("strategy", "model", "family"))


def _told(run: RunRecord, kin: Sequence[RunRecord], trained: RunRecord | None, family: str | None) -> RunRecord:
    if run.status == REPEATS or (run.status == UNREADABLE and not run.asked):
        return run
    sibling = trained if run.status == DONE else next(reversed(kin), None)
    if sibling is not None and not run.evaluation:
        run = replace(run, settings=sibling.settings)
    told = _named_in(run.config) | {"family": family}
    for other in kin:
        told |= {key: other.facts[key] for key in TOLD if key in other.facts}
    unsaid = [key for key in told if run.facts.get(key) is None]
    if run.status == DONE and run.placed:
        unsaid = [key for key in unsaid if key in run.facts["unsaid"]]  # what is null was said
    whole = run.saying(**{key: told[key] for key in unsaid if told[key] is not None})
    if run.status != DONE or whole.placed:
        return whole
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
