"""`snakepit-port convert`, and `check` of what it converts, run as people run them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_command_line import run

from snakepit_port.wire import Atom, encode

OLD = """\
pooling_enabled = true
adapter_module = "Snakepit.Adapters.GRPCPython"
grpc_port = 50051   # free
[pool_config]
pool_size = 2
adapter_args = ["--adapter", "my_adapter.Adapter"]
"""
BAD = OLD.replace("pool_size = 2", 'pool_size = "two"').replace("grpc_port", "prc_port")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "old.toml").write_text(OLD)
    (tmp_path / "bad.toml").write_text(BAD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_prints_toml_that_check_takes_without_a_note(folder: Path) -> None:
    converted = run("convert", "old.toml")
    assert (converted.returncode, converted.stderr) == (0, "")
    assert 'adapter = "my_adapter:Adapter"  # was pool_config.adapter_args' in converted.stdout
    assert "# grpc_port = 50051  # free\n#   no longer needed: " in converted.stdout
    written = run("convert", "old.toml", "-o", "new.toml")
    assert (written.returncode, written.stdout) == (0, "")
    assert written.stderr == "note: wrote new.toml\n"
    assert (folder / "new.toml").read_text() == converted.stdout
    checked = run("check", "new.toml")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert run("check", "--resolved", "old.toml").stdout == (
        run("check", "--resolved", "new.toml").stdout
    )


@pytest.mark.parametrize("options", [[], ["--report"], ["-o", "new.toml"]])
def test_what_somebody_has_to_do_is_a_warning(folder: Path, options: list[str]) -> None:
    pools = "".join(f'[[pools]]\nname = "{name}"\nadapter_spec = "a.B"\n' for name in "ab")
    (folder / "old.toml").write_text(pools)
    converted = run("convert", "old.toml", *options)
    assert converted.returncode == 0
    *_, told = converted.stderr.splitlines()
    assert told.startswith('warning: pools[0] "a": name: kept: calls that name no pool ran here ')
    assert told.endswith('; give them pool: "a", or name this one "default"')


def test_converting_again_changes_nothing(folder: Path) -> None:
    run("convert", "old.toml", "-o", "new.toml")
    text = (folder / "new.toml").read_text()
    again = run("convert", "new.toml", "-o", "new.toml", "--force")
    assert (again.returncode, again.stdout) == (0, "")
    assert "there is nothing to convert" in again.stderr
    assert (folder / "new.toml").read_text() == text
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_the_report(folder: Path) -> None:
    lines = run("convert", "--report", "old.toml").stdout.splitlines()
    assert lines == [
        "pooling_enabled: kept",
        "adapter_module: no longer needed: Elixir code has no part in starting Python",
        "grpc_port: no longer needed: there is no gRPC, and no network port is opened",
        "pool_config.pool_size: kept",
        'pool_config.adapter_args: turned into adapter = "my_adapter:Adapter"',
        "python_executable: not set: Snakepit took the python3 of the PATH, where this takes the"
        " supervisor's own",
    ]
    report = json.loads(run("convert", "--report", "--json", "old.toml").stdout)
    assert [change["text"] for change in report] == lines
    assert report[4]["outcome"] == "converted"
    assert report[4]["to"] == ['adapter = "my_adapter:Adapter"']
    whole = json.loads(run("convert", "--json", "old.toml").stdout)
    assert whole["changes"] == report
    assert whole["toml"] == run("convert", "old.toml").stdout


def test_mistakes_are_told_all_at_once_with_their_lines(folder: Path) -> None:
    for command in (["convert"], ["convert", "-o", "new.toml"], ["check"]):
        result = run(*command, "bad.toml")
        assert (result.returncode, result.stdout) == (78, "")
        assert result.stderr.splitlines() == [
            "error: bad.toml:3: prc_port: unknown setting",
            "  did you mean grpc_port?",
            "error: bad.toml:5: pool_config.pool_size: expected an integer from 1 to 10000,"
            ' found "two"',
        ]
    assert not (folder / "new.toml").exists()
    problems = json.loads(run("convert", "--json", "bad.toml").stdout)["problems"]
    assert [problem["line"] for problem in problems] == [3, 5]


def test_check_says_that_it_converts(folder: Path) -> None:
    result = run("check", "old.toml")
    assert result.returncode == 0
    assert result.stderr.startswith("note: this is a configuration of Snakepit")
    assert "snakepit-port convert old.toml" in result.stderr
    converted = json.loads(run("check", "--json", "old.toml").stdout)["converted"]
    assert [change["key"] for change in converted][:2] == ["pooling_enabled", "adapter_module"]


def test_check_without_a_pool(folder: Path) -> None:
    (folder / "off.toml").write_text("[supervisor]\npooling_enabled = false\n")
    result = run("check", "off.toml")
    assert (result.returncode, result.stdout, result.stderr) == (0, "ok\n", "")


def test_a_term_in_a_file(folder: Path) -> None:
    args = ["--adapter", "my_adapter.Adapter"]
    term = [
        (Atom("adapter_module"), Atom("Elixir.Snakepit.Adapters.GRPCPython")),
        (Atom("pool_config"), {Atom("pool_size"): 3, Atom("adapter_args"): args}),
    ]
    (folder / "old.etf").write_bytes(encode(term))
    result = run("convert", "old.etf", "-o", "new.toml")
    assert (result.returncode, result.stderr) == (0, "note: wrote new.toml\n")
    assert run("check", "new.toml").stdout.splitlines()[-1].split()[:2] == ["default", "3"]
    (folder / "old.etf").write_bytes(encode(term)[:-1])
    result = run("convert", "old.etf")
    assert result.returncode == 78
    assert result.stderr.startswith("error: old.etf: not a term: ")


def told(result: subprocess.CompletedProcess[str]) -> str:
    """The one error that a command told, to people or programs."""
    if not result.stdout:
        return result.stderr.removeprefix("error: ").removesuffix("\n")
    assert result.stderr == ""
    said = json.loads(result.stdout)
    assert said == {"ok": False, "error": {"message": said["error"]["message"]}}
    message: str = said["error"]["message"]
    return message


@pytest.mark.parametrize("options", [[], ["--json"], ["--report"]])
@pytest.mark.parametrize("there", ["old.toml", "mine.toml"])
def test_a_file_that_is_there_is_not_written_over(
    folder: Path, there: str, options: list[str]
) -> None:
    (folder / "mine.toml").write_text("# mine\n")
    text = (folder / there).read_text()
    result = run("convert", "old.toml", "-o", there, *options)
    assert (result.returncode, told(result)) == (
        1,
        f"{there} is there already; --force writes over it",
    )
    assert (folder / there).read_text() == text
    assert run("convert", "old.toml", "-o", there, *options, "--force").returncode == 0
    assert (folder / there).read_text() != text


def test_what_a_link_points_to_is_written(folder: Path) -> None:
    (folder / "real.toml").write_text("# mine\n")
    (folder / "real.toml").chmod(0o600)
    (folder / "link.toml").symlink_to("real.toml")
    assert run("convert", "old.toml", "-o", "link.toml", "--force").returncode == 0
    assert (folder / "link.toml").is_symlink()
    assert (folder / "real.toml").read_text() == run("convert", "old.toml").stdout
    assert (folder / "real.toml").stat().st_mode & 0o777 == 0o600


def test_a_new_file_is_as_readable_as_any(folder: Path) -> None:
    (folder / "plain").touch()
    assert run("convert", "old.toml", "-o", "new.toml").returncode == 0
    assert (folder / "new.toml").stat().st_mode == (folder / "plain").stat().st_mode
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []


def test_relative_paths_start_from_the_folder_of_a_link(folder: Path) -> None:
    run("convert", "old.toml", "-o", "new.toml")
    (folder / "other").mkdir()
    (folder / "other/link.toml").symlink_to("../new.toml")
    assert run("convert", "other/link.toml", "-o", "copy.toml").returncode == 1
    assert run("convert", "other/link.toml", "-o", "other/copy.toml").returncode == 0
    (folder / "other/away.toml").symlink_to("../not_there_yet.toml")
    assert run("convert", "old.toml", "-o", "other/away.toml", "--force").returncode == 0
    assert (folder / "not_there_yet.toml").is_file()


def test_what_can_be_read_once_is_read_once(folder: Path) -> None:
    text = run("convert", "old.toml").stdout
    with open("old.toml", "rb") as file:
        piped = run("convert", "/dev/stdin", input=file.read().decode(), stdin=None)
    assert (piped.returncode, piped.stdout) == (0, text)


def test_a_name_of_the_only_pool_is_written_once(folder: Path) -> None:
    (folder / "named.toml").write_text('name = "main"\n' + OLD)
    text = run("convert", "named.toml").stdout
    assert 'name = "main"' in text
    assert "Snakepit called its only pool so" not in text
    (folder / "new.toml").write_text(text)
    assert run("check", "new.toml").returncode == 0


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_what_needs_no_conversion_goes_into_no_other_folder(
    folder: Path, options: list[str]
) -> None:
    run("convert", "old.toml", "-o", "new.toml")
    (folder / "other").mkdir()
    refused = run("convert", "new.toml", "-o", "other/new.toml", *options)
    assert refused.returncode == 1
    assert "relative paths start from its own folder" in told(refused)
    assert bool(refused.stdout) is bool(options)
    assert not (folder / "other/new.toml").exists()


def test_a_file_of_elixir_is_for_mix(folder: Path) -> None:
    (folder / "config.exs").write_text("import Config\n\nconfig :snakepit, pooling_enabled: true\n")
    for command in ("convert", "check"):
        result = run(command, "config.exs")
        assert (result.returncode, result.stdout) == (78, "")
        assert result.stderr.startswith("error: config.exs: this is Elixir, not TOML\n")
        assert "mix snakepit_port.convert config.exs" in result.stderr


def test_files_that_are_not_there_or_cannot_be_written(folder: Path) -> None:
    result = run("convert", "none.toml")
    assert (result.returncode, result.stderr) == (78, "error: none.toml: there is no such file\n")
    for options in ([], ["--json"]):
        result = run("convert", "old.toml", "-o", "none/new.toml", *options)
        message = "none/new.toml cannot be written: No such file or directory"
        assert (result.returncode, told(result)) == (1, message)
        assert bool(result.stdout) is bool(options)


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["convert", "{}/old.toml", "-o", "new.toml"], 1, "the working directory is gone, and"),
        (["convert", "{}/old.etf"], 1, "the working directory is gone, and"),
        (["convert", "old.toml", "-o", "{}/new.toml"], 78, "old.toml: there is no such file"),
        (["check", "old.toml"], 78, "old.toml: there is no such file"),
        (["doctor", "old.toml"], 78, "old.toml: there is no such file"),
    ],
    ids=lambda args: " ".join(args) if isinstance(args, list) else None,
)
def test_a_working_directory_that_is_gone(
    folder: Path, args: list[str], status: int, message: str
) -> None:
    (folder / "old.etf").write_bytes(encode([(Atom("pooling_enabled"), True)]))
    gone = folder / "gone"
    gone.mkdir()
    command = [sys.executable, "-P", "-m", "snakepit_port", *(arg.format(folder) for arg in args)]
    result = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", *command],
        capture_output=True,
        text=True,
        cwd=gone,
    )
    assert result.returncode == status
    assert message in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
