"""How many jobs of a sweep a machine takes at once, and how many threads each of them has."""

from __future__ import annotations


def threads_of_a_job(threads: int | None) -> int:
    """The CPU threads of one job of a sweep: one, unless ``threads`` says otherwise.

    n jobs on n cores then do not fight, and the last bits of a run's numbers do not depend on the launcher.

    >>> threads_of_a_job(None), threads_of_a_job(4)
    (1, 4)
    """
    return threads if isinstance(threads, int) and threads > 0 else 1  # what else it may be, the job refuses


def jobs_at_once(threads: int | None) -> int:
    """The jobs that share the cores of this process: those that it may use, of a container or a queue, not all."""
    import joblib  # half a tenth of a second, for launcher=joblib alone

    return max(1, joblib.cpu_count() // threads_of_a_job(threads))
