"""A sweep over options that do not share all keys: each job takes the keys that its own options have.

The folder of a job is named by all that was typed, so that a job without a key that is swept has a folder for each of
its values: these are one config, and so one run (see :mod:`vem.sweep.repeats`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from hydra._internal import hydra as hydra_itself
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig

Compose = Callable[[list[str]], DictConfig]


def override_dirname(config: DictConfig, overrides: Sequence[Override]) -> str:
    """What names the folder of a job by the ``subdir`` of conf/config.yaml."""
    naming = config.hydra.job.config.override_dirname
    own = [o for o in overrides if not o.is_hydra_override()]
    return get_overrides_dirname(own, list(naming.exclude_keys), naming.item_sep, naming.kv_sep)


@contextmanager
def each_its_own() -> Iterator[None]:
    """While the block runs, Hydra composes the jobs of a sweep with :class:`Loader`; it has no hook for that."""
    before = hydra_itself.ConfigLoaderImpl
    hydra_itself.ConfigLoaderImpl = Loader  # type: ignore[misc]
    try:
        yield
    finally:
        hydra_itself.ConfigLoaderImpl = before  # type: ignore[misc]


class Loader(ConfigLoaderImpl):
    """Hydra's, which leaves out of a job's config the overrides whose key its options lack. Workers are sent it."""

    def __init__(self, config_search_path: Any) -> None:
        super().__init__(config_search_path)
        self.may_lack: frozenset[str] = frozenset()  # keys that some jobs have: others do without
        self.left_out: frozenset[str] = frozenset()  # keys that the sweep's own config lacks
        self._lacked: dict[frozenset[str], list[str]] = {}  # by the choices that are swept
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def load_configuration(
        self, config_name: str | None, overrides: list[str], run_mode: RunMode, *rest: Any, **named: Any
    ) -> DictConfig:
        """A sweep's own config has the default options, of which no job need have any: what these lack is left out."""

        def compose(kept: list[str]) -> DictConfig:
            return super(Loader, self).load_configuration(config_name, kept, run_mode, *rest, **named)

        if run_mode != RunMode.MULTIRUN:
            return compose(overrides)
        config, lacked = _with_the_keys_it_has(compose, overrides, None)
        if lacked:
            self.left_out = frozenset(lacked)
            parsed = OverridesParser.create().parse_overrides(list(overrides))
            config.hydra.overrides.task = [o.input_line for o in parsed if not o.is_hydra_override()]
        return config

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The config of one job, whose folder is named by all of its overrides."""
        known = self._composed.pop(tuple(sweep_overrides), None)
        return known or self._job(master_config, sweep_overrides, self.may_lack)[0]

    def _job(
        self, master: DictConfig, overrides: Sequence[str], may_lack: Collection[str] | None
    ) -> tuple[DictConfig, list[str]]:
        def compose(kept: list[str]) -> DictConfig:
            return super(Loader, self).load_sweep_config(master, kept)

        # Composing takes a third of a second: what its kind lacks is not tried in each job.
        known = next((keys for swept, keys in self._lacked.items() if swept <= set(overrides)), [])
        config, lacked = _with_the_keys_it_has(compose, [o for o in overrides if _key(o) not in known], may_lack)
        lacked = [*known, *lacked]
        if lacked:
            parsed = OverridesParser.create(config_loader=self).parse_overrides(list(overrides))
            config.hydra.job.override_dirname = override_dirname(config, parsed)
        return config, lacked

    def settle(self, master: DictConfig, typed: Sequence[Override]) -> list[str]:
        """Find out which options of a sweep lack which of its keys; a sentence for each such key.

        Raises:
            ConfigCompositionException: a key that none has.
        """
        kinds = list(_kinds(master, typed))
        if len(kinds) == 1 and not self.left_out:
            return []
        lacked: dict[_Kind, list[str]] = {}
        for kind in kinds:
            config, lacked[kind] = self._job(master, kind.overrides, None)
            self._composed[kind.overrides] = config  # for the sweeper, which composes each job to see whether it can
        every = set.intersection(*map(set, lacked.values()))
        if every:
            self._job(master, kinds[0].overrides, set(lacked[kinds[0]]) - every)  # raises
        self.may_lack = frozenset(itertools.chain(*lacked.values()))
        self._lacked = {frozenset(kind.swept): keys for kind, keys in lacked.items()}
        lines = {o.get_key_element(): o for o in typed}
        return [_sentence(lines[key], lacked) for key in lines if key in self.may_lack]


def _with_the_keys_it_has(
    compose: Compose, overrides: Sequence[str], may_lack: Collection[str] | None
) -> tuple[DictConfig, list[str]]:
    """A config without the overrides whose key it lacks, and these keys; ``may_lack`` None: any but Hydra's own."""
    kept, lacked = list(overrides), list[str]()
    while True:
        try:
            return compose(kept), lacked
        except ConfigCompositionException as error:
            found = re.match("Could not override '([^']+)'", str(error))
            key = found.group(1) if found else ""
            left = [o for o in kept if _key(o) != key]
            allowed = not key.startswith("hydra") if may_lack is None else key in may_lack
            if not allowed or len(left) == len(kept):
                raise
            kept = left
            lacked.append(key)


def _key(override: str) -> str:
    return override.partition("=")[0].strip()


class _Kind(NamedTuple):
    """The jobs of a sweep that make the same choices: which keys they have does not depend on the other values."""

    overrides: tuple[str, ...]  # of the first of them
    swept: tuple[str, ...]  # those of its choices that other jobs make otherwise


def _kinds(master: DictConfig, typed: Sequence[Override]) -> Iterator[_Kind]:
    plain = {str(key) for key in master if not isinstance(master._get_node(key), DictConfig)}  # such as ``seed``
    parts: dict[str, list[str]] = {}  # as Hydra's own sweeper has it: of a key that is typed twice the last counts
    chosen = set()
    for override in typed:
        key = override.get_key_element()
        values = _values(override)
        if "." in override.key_or_group or override.key_or_group in plain:
            values = values[:1]
        elif len(values) > 1:
            chosen.add(key)
        parts[key] = [f"{key}={value}" for value in values]
    for job in itertools.product(*parts.values()):
        yield _Kind(job, tuple(text for key, text in zip(parts, job, strict=True) if key in chosen))


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    value = override.value()
    return [str(value.start)] if isinstance(value, IntervalSweep) else list(override.sweep_string_iterator())


def _sentence(override: Override, lacked: dict[_Kind, list[str]]) -> str:
    """``strategy.restarts=3 is taken by strategy=gmm; strategy=amortized has no such key``."""
    key = override.get_key_element()
    without = {kind for kind in lacked if key in lacked[kind]}
    took, lack = _told_apart([k.swept for k in lacked if k not in without], [k.swept for k in lacked if k in without])
    verb = "has" if len(lack) == 1 else "have"
    once = f", and run{'s' if len(lack) == 1 else ''} once for all of its values" if len(_values(override)) > 1 else ""
    return f"{override.input_line} is taken by {', '.join(took)}; {', '.join(lack)} {verb} no such key{once}."


def _told_apart(took: list[tuple[str, ...]], lack: list[tuple[str, ...]]) -> tuple[list[str], list[str]]:
    """Two lists of jobs by the one choice that tells them apart, else by all of their choices."""
    for i in range(len(took[0])):
        one, other = ([*dict.fromkeys(texts[i] for texts in jobs)] for jobs in (took, lack))
        if not set(one) & set(other):
            return one, other
    return [" ".join(texts) for texts in took], [" ".join(texts) for texts in lack]
