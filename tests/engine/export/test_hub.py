"""Publishing: the plan touches no network, the upload is of exactly what was planned."""

import pytest

from invdiff.engine.export import hub
from invdiff.errors import ConfigError, RunError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "merged").mkdir()
    (tmp_path / "README.md").write_text("card")
    (tmp_path / "merged" / "model.safetensors").write_bytes(b"0" * 2000)
    return tmp_path


@pytest.fixture
def calls(monkeypatch):
    """The hub's client, replaced by one that only writes down what it was asked."""
    import huggingface_hub

    made = []

    class Client:
        def create_repo(self, repo, **options):
            made.append(("create", repo, options))

        def upload_folder(self, **options):
            made.append(("upload", options["repo_id"], options["folder_path"]))

    monkeypatch.setattr(huggingface_hub, "HfApi", Client)
    return made


def test_a_plan_lists_every_file_and_asks_nobody(folder, calls):
    upload = hub.upload_plan(folder, "me/balanced", private=True)
    assert upload.files == (("README.md", 4), ("merged/model.safetensors", 2000))
    assert str(upload).splitlines() == [
        "to the private model repository me/balanced:",
        "             4 bytes  README.md",
        "         2,000 bytes  merged/model.safetensors",
        "         2,004 bytes",
    ]
    assert calls == []


def test_a_public_report_is_told_to_show_the_data(folder):
    (folder / "report.html").write_text("pictures")
    assert "everybody will see the training pictures" in str(hub.upload_plan(folder, "me/x"))
    assert "everybody" not in str(hub.upload_plan(folder, "me/x", private=True))


def test_an_upload_makes_the_repository_and_sends_the_folder(folder, calls):
    address = hub.push(hub.upload_plan(folder, "me/balanced"))
    assert calls == [
        ("create", "me/balanced", {"private": False, "exist_ok": True}),
        ("upload", "me/balanced", str(folder)),
    ]
    assert address == "https://huggingface.co/me/balanced"
    assert hub.address("me/x", "report.html") == f"{hub.SITE}/me/x/blob/main/report.html"


@pytest.mark.parametrize("name", ["balanced", "a/b/c", "me/b d", "me/..x", ""])
def test_what_cannot_name_a_repository_is_refused(folder, name):
    with pytest.raises(ConfigError, match="give OWNER/NAME"):
        hub.upload_plan(folder, name)


def test_a_failed_upload_names_the_way_out(folder, monkeypatch):
    import huggingface_hub

    def fail():
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(huggingface_hub, "HfApi", fail)
    with pytest.raises(RunError, match=r"at me/x \(no route\): `hf auth login`.*`hf upload me/x "):
        hub.push(hub.upload_plan(folder, "me/x"))


def test_the_extra_is_in_the_package(pytestconfig):
    import tomllib

    project = tomllib.loads((pytestconfig.rootpath / "pyproject.toml").read_text())["project"]
    assert "huggingface_hub" in project["optional-dependencies"]["hub"][0]
