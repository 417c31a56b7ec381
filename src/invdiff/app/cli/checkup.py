"""What `invdiff doctor` prints."""

from invdiff.app.cli.summary import memory_line, model_line, size
from invdiff.engine.preflight.doctor import Checkup


def checkup_text(found: Checkup) -> str:
    """The findings as lines, problems last."""
    versions = found.environment["versions"]
    libraries = ", ".join(f"{name} {known or 'missing'}" for name, known in versions.items())
    lines = [
        f"python: {found.environment['python']} on {found.environment['platform']}",
        f"libraries: {libraries}",
        *(f"extra {name}: {'there' if there else f'missing, pip install invdiff[{name}]'}"
          for name, there in found.extras.items()),
        *(f"device: {one.name}, {one.kind}, {size(one.memory) if one.memory else 'memory not told'}"
          for one in found.devices),
        f"free disk here: {size(found.free_disk)}",
        *(f"cached: {one['name']}, {size(one['bytes'])}" for one in found.cached),
    ]  # fmt: skip
    if not found.cached:
        lines.append("cached: no model of the hub")
    if found.model:
        lines.append(f"model: {found.model['name']}, {found.model['folder'] or 'not here'}")
    if found.data:
        lines.append(f"data: {found.data}")
    if found.estimate:
        lines += [memory_line(found.estimate), model_line(found.estimate)]
    return "\n".join([*lines, *(f"to mend: {problem}" for problem in found.problems)])
