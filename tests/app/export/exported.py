"""What an export is to leave, and how to look at it."""

from safetensors import safe_open

from invdiff.model.formats import kohya
from invdiff.model.lora import adapter_file

LORAS = {adapter_file.FILE, kohya.FILE, "adapter_model.safetensors"}


PEFT = "adapter_config.json"


def header(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def names(folder):
    return {path.name for path in folder.iterdir()}
