"""`invdiff benchmark run`: the method beside its alternatives on a built-in set, or on all."""

from pathlib import Path

from invdiff.app.cli.parser import Asked
from invdiff.errors import ConfigError


def benchmark(asked: Asked) -> None:
    """Do it, and show the table."""
    from invdiff.studies.benchmarking import require_extra
    from invdiff.studies.benchmarking.suites import ABLATION, ATTRIBUTES, DOWNSTREAM, METHOD

    require_extra()
    if asked.suite != METHOD and asked.part:
        raise ConfigError(f"--part belongs to --suite {METHOD}")
    if asked.suite != ABLATION and asked.rows:
        raise ConfigError(f"--rows belongs to --suite {ABLATION}")
    if asked.suite not in (ABLATION, METHOD, ATTRIBUTES) and asked.overrides:
        raise ConfigError(f"settings belong to --suite {ABLATION}, {METHOD} or {ATTRIBUTES}")
    report = None
    if asked.suite == METHOD:
        from invdiff.studies.benchmarking.method_suite import benchmark_method

        table = benchmark_method(asked.names, asked.seeds, asked.out, asked.part, asked.overrides)
    elif asked.suite == ATTRIBUTES:
        from invdiff.studies.benchmarking.attributes_suite import benchmark_attributes

        table = benchmark_attributes(asked.names, asked.seeds, asked.out, asked.overrides)
    elif asked.suite == DOWNSTREAM:
        from invdiff.studies.benchmarking.downstream import benchmark_downstream

        table = benchmark_downstream(_one_name(asked), asked.seeds, asked.out)
    else:
        from invdiff.studies.benchmarking.rows import benchmark_rows

        one = (_one_name(asked), asked.seeds, asked.out)
        table = benchmark_rows(*one, asked.suite, asked.rows, asked.overrides)
        report = _reports(asked, table.parent / "report.html")
    print(table.read_text(encoding="utf-8"))
    if report:
        print(f"report: {report}")
    print(f"table: {table}")


def _reports(asked: Asked, out: Path) -> Path:
    """The reports of the method's own runs with the other rows; the first is copied to ``out``."""
    from invdiff.app.api import Run
    from invdiff.engine.storage.files import write_text
    from invdiff.studies.benchmarking.jobs import Job
    from invdiff.studies.benchmarking.suites import OURS

    jobs = [Job(str(asked.out), asked.names[0], OURS, seed) for seed in range(asked.seeds)]
    reports = [Run(job.folder).redo("report") for job in jobs]
    return write_text(out, reports[0].read_text(encoding="utf-8"))


def _one_name(asked: Asked) -> str:
    """The set of a suite that is about one; ConfigError if another number of them was named."""
    if len(asked.names) != 1:
        told = f"but got {len(asked.names)}" if asked.names else "as in `benchmark run faces`"
        raise ConfigError(f"--suite {asked.suite} takes the name of one built-in set, {told}")
    name: str = asked.names[0]
    return name
