"""`invdiff benchmark run`: the method beside its alternatives on a built-in set, or on all."""

from pathlib import Path

from invdiff.app.cli.parser import Asked
from invdiff.errors import ConfigError


def benchmark(asked: Asked) -> None:
    """Do it, and show the table."""
    from invdiff.studies.benchmarking import require_extra
    from invdiff.studies.benchmarking.suites import ABLATION, DOWNSTREAM, METHOD

    require_extra()
    if asked.suite != METHOD and asked.part:
        raise ConfigError(f"--part belongs to --suite {METHOD}")
    if asked.suite != ABLATION and asked.rows:
        raise ConfigError(f"--rows belongs to --suite {ABLATION}")
    if asked.suite not in (ABLATION, METHOD) and asked.overrides:
        raise ConfigError(f"settings belong to --suite {ABLATION} or {METHOD}")
    others = {METHOD: _method, DOWNSTREAM: _downstream}
    print(f"table: {others.get(asked.suite, _rows)(asked)}")


def _method(asked: Asked) -> Path:
    from invdiff.studies.benchmarking.method.suite import benchmark_method

    table = benchmark_method(asked.names, asked.seeds, asked.out, asked.part, asked.overrides)
    print(table.read_text(encoding="utf-8"))
    return table


def _downstream(asked: Asked) -> Path:
    from invdiff.studies.benchmarking.downstream.study import benchmark_downstream

    table = benchmark_downstream(_one_name(asked), asked.seeds, asked.out)
    print(table.read_text(encoding="utf-8"))
    return table


def _rows(asked: Asked) -> Path:
    from invdiff.app.api import Run
    from invdiff.engine.storage.files import write_text
    from invdiff.studies.benchmarking.jobs import Job
    from invdiff.studies.benchmarking.rows import benchmark_rows
    from invdiff.studies.benchmarking.suites import OURS

    name = _one_name(asked)
    table = benchmark_rows(name, asked.seeds, asked.out, asked.suite, asked.rows, asked.overrides)
    runs = [Job(str(asked.out), name, OURS, seed).folder for seed in range(asked.seeds)]
    reports = [Run(run).redo("report") for run in runs]
    report = write_text(table.parent / "report.html", reports[0].read_text(encoding="utf-8"))
    print(table.read_text(encoding="utf-8"))
    print(f"report: {report}")
    return table


def _one_name(asked: Asked) -> str:
    """The set of a suite that is about one; ConfigError if another number of them was named."""
    if len(asked.names) != 1:
        told = f"but got {len(asked.names)}" if asked.names else "as in `benchmark run faces`"
        raise ConfigError(f"--suite {asked.suite} takes the name of one built-in set, {told}")
    name: str = asked.names[0]
    return name
