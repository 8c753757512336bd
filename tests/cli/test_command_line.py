"""The command line, run as people run it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import shown_on_a_terminal

from snakepit_port import __version__
from snakepit_port.supervisor import run as supervisor_run
from snakepit_port.worker import orphans

GOOD = """
[[pools]]
name = "default"
adapter = "my_adapter"
pool_size = 2
adapter_env = { OMP_NUM_THREADS = "4" }

[[pools]]
name = "other"
adapter = "my_adapter"
pool_size = 1
"""

BAD = """
[[pools]]
name = "default"
adapter = "my_adapter"
pool_sise = 2
call_timeout = "soon"
"""


def run(*args: str, **options: object) -> subprocess.CompletedProcess[str]:
    result: subprocess.CompletedProcess[str] = subprocess.run(
        [sys.executable, "-m", "snakepit_port", *args],
        capture_output=True,
        text=True,
        check=False,
        **{"stdin": subprocess.DEVNULL, **options} if "input" not in options else options,  # type: ignore[call-overload]
    )
    return result


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of the commands, with a good and a bad configuration."""
    (tmp_path / "good.toml").write_text(GOOD)
    (tmp_path / "bad.toml").write_text(BAD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SNAKEPIT_PYTHON", raising=False)
    return tmp_path


# -- what every command does ------------------------------------------------------------------


def test_version() -> None:
    result = run("--version")
    assert (result.returncode, result.stdout) == (0, f"snakepit-port {__version__}\n")


def test_the_installed_script_is_the_same() -> None:
    script = Path(sys.executable).with_name("snakepit-port")
    result = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert result.stdout == run("--help").stdout


@pytest.mark.parametrize(
    "command", ["serve", "check", "doctor", "convert", "call", "status", "cleanup"]
)
def test_help_has_examples(command: str) -> None:
    result = run(command, "--help")
    assert result.returncode == 0
    assert f"  snakepit-port {command} " in result.stdout.partition("examples:")[2]


@pytest.mark.parametrize("command", ["check", "doctor", "convert", "call", "status"])
def test_the_first_help_has_an_example_of_what_people_type(command: str) -> None:
    assert f"  snakepit-port {command} " in run("--help").stdout.partition("examples:")[2]


def test_help_imports_little() -> None:
    program = (
        "import sys\n"
        "from snakepit_port.cli import main\n"
        "try: main(['call', '--help'])\n"
        "finally: print({'trio', 'tomlkit', 'snakepit_port.wire'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.endswith("set()\n")


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["no-such-command"],
        ["check"],
        ["call", "default", "add"],
        ["check", "--resolved", "--env", "default", "good.toml"],
        ["status", "default"],
        ["call", "--config", "good.toml", "default", "add", "[]", "--timeout", "soon"],
        ["call", "--config", "good.toml", "default", "add", "[]", "--timeout", "-1"],
        ["call", "--config", "good.toml", "default", "add", "[]", "--timeout", "nan"],
    ],
    ids=" ".join,
)
def test_wrong_usage(args: list[str]) -> None:
    result = run(*args)
    assert result.returncode == 64
    assert result.stdout == ""
    assert result.stderr.startswith("usage: snakepit-port")
    assert "Traceback" not in result.stderr


def test_who_names_no_command_sees_which_there_are() -> None:
    assert all(f"\n    {name} " in run().stderr for name in ("serve", "doctor", "convert"))


def test_an_option_that_is_none_is_told_with_the_usage_of_its_command() -> None:
    result = run("check", "good.toml", "--bogus")
    assert (result.returncode, result.stdout) == (64, "")
    assert result.stderr.startswith("usage: snakepit-port check ")
    assert result.stderr.endswith("snakepit-port check: unrecognized arguments: --bogus\n")


@pytest.mark.parametrize("rest", [[], ["[1, 2]"]])
def test_a_file_in_the_place_of_the_pool_is_told_where_it_belongs(rest: list[str]) -> None:
    result = run("call", "pools.toml", "default", "add", *rest)
    assert (result.returncode, result.stdout) == (64, "")
    assert result.stderr.startswith("usage: snakepit-port call ")
    told = "the file is given with --config: --config pools.toml default add\n"
    assert result.stderr.endswith(told)


def test_an_interrupt_is_no_traceback(folder: Path) -> None:
    os.mkfifo(folder / "fifo.toml")
    # Opening a fifo without a writer waits.
    with subprocess.Popen(
        [sys.executable, "-m", "snakepit_port", "check", "fifo.toml"],
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background of a shell has it ignored, and so all children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        writer = os.open(folder / "fifo.toml", os.O_WRONLY)  # returns when the reader is there
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
        os.close(writer)
    assert (process.returncode, stderr) == (130, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("is_first", [False, True])
def test_a_signal_ends_the_first_process_of_a_container_too(
    folder: Path, number: signal.Signals, is_first: bool
) -> None:
    os.mkfifo(folder / "fifo.toml")
    program = (
        f"import os, sys\nif {is_first}: os.getpid = lambda: 1\n"
        "from snakepit_port.cli import main\nsys.exit(main(['check', 'fifo.toml']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as process:
        writer = os.open(folder / "fifo.toml", os.O_WRONLY)  # returns when the reader is there
        process.send_signal(number)
        # Elsewhere the kernel does it, and its parent sees that.
        assert process.wait() == (128 + number if is_first else -number)
        os.close(writer)


def test_the_first_process_of_a_container_may_ignore_a_hangup(folder: Path) -> None:
    """nohup(1) has it ignored."""
    program = (
        "import os, signal\nos.getpid = lambda: 1\nfrom snakepit_port.cli import main\n"
        "main(['check', 'good.toml'])\nprint(signal.getsignal(signal.SIGHUP))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert result.stdout.splitlines()[-1] == str(signal.SIG_IGN)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ("soon", "a number of seconds belongs here, not 'soon'"),
        ("inf", "a number of seconds belongs here, not 'inf'"),
        ("-1", "the seconds have to be above zero, not -1"),
        ("0", "the seconds have to be above zero, not 0"),
        ("1e16", "the seconds have to be 3153600000 at most"),
        ("1e308", "the seconds have to be 3153600000 at most"),
    ],
)
def test_a_timeout_that_is_none(seconds: str, said: str) -> None:
    result = run("call", "--config", "x.toml", "default", "add", "--timeout", seconds)
    assert result.returncode == 64
    assert result.stderr.endswith(f"argument --timeout: {said}\n")


@pytest.mark.parametrize(
    "args",
    [
        ["check", "good.toml"],
        ["check", "--env", "default", "good.toml"],
        ["check", "--resolved", "--json", "good.toml"],
        ["check", "--json", "bad.toml"],
        ["doctor", "--json", "--no-start", "good.toml"],
        ["doctor", "--no-start", "good.toml"],
        ["convert", "good.toml"],
        ["cleanup", "--dry-run"],
        ["status"],
        ["status", "--json"],
    ],
    ids=" ".join,
)
def test_a_reader_that_has_gone_is_no_traceback(folder: Path, args: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [sys.executable, "-m", "snakepit_port", *args],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert "Traceback" not in result.stderr
    assert "BrokenPipeError" not in result.stderr
    assert result.returncode == 1


@pytest.mark.parametrize(
    "args",
    [
        ["check", "good.toml"],
        ["check", "--json", "bad.toml"],
        ["doctor", "--no-start", "good.toml"],
        ["--help"],
        ["call", "--help"],
        ["--version"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_told(folder: Path, args: list[str], unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "snakepit_port", *args],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert result.stderr == (
        "snakepit-port: what it prints cannot be written: No space left on device\n"
    )
    assert result.returncode == 1


@pytest.mark.parametrize("args", ["check good.toml", "--version", "doctor --no-start good.toml"])
def test_a_stdout_that_is_closed_is_told(folder: Path, args: str) -> None:
    result = subprocess.run(
        ["sh", "-c", f'exec "$0" -m snakepit_port {args} >&-', sys.executable],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert result.stderr == "snakepit-port: there is no stdout to print to\n"
    assert result.returncode == 64


@pytest.mark.parametrize("args", [["check", "--json"], ["check"], ["doctor"], ["doctor", "--json"]])
def test_a_file_whose_name_is_not_utf_8_is_named(folder: Path, args: list[str]) -> None:
    result = run(*args, "caf\udce9.toml")
    said = json.dumps(json.loads(result.stdout)) if "--json" in args else result.stdout
    assert "caf" in said + result.stderr
    assert "there is no such file" in said + result.stderr
    assert "Traceback" not in result.stderr
    assert result.returncode == 78


@pytest.mark.parametrize("names", [["caf\udce9", "add"], ["default", "caf\udce9"]])
def test_a_name_that_is_not_utf_8_is_refused(names: list[str]) -> None:
    result = run("call", "--config", "x.toml", *names)
    assert result.stderr.endswith(": a name is UTF-8 text, not 'caf\\udce9'\n")
    assert result.returncode == 64


# -- serve ------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["stdin", "stdout"])
@pytest.mark.parametrize("where", [os.devnull, "good.toml"])
def test_serve_without_pipes_explains_itself(folder: Path, end: str, where: str) -> None:
    ends = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with open(where, "rb+") as file:
        result = subprocess.run(
            [sys.executable, "-m", "snakepit_port", "serve"],
            **{**ends, end: file},  # type: ignore[call-overload]
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == 76
    assert result.stderr.startswith("snakepit-port serve: stdin and stdout have to be pipes")
    assert "snakepit-port call" in result.stderr
    assert "Traceback" not in result.stderr


def test_serve_without_stdin_explains_itself() -> None:
    result = subprocess.run(
        ["sh", "-c", 'exec "$0" -m snakepit_port serve <&-', sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stderr.startswith("snakepit-port serve: stdin and stdout have to be pipes")
    assert result.returncode == 76


def test_serve_at_a_terminal_explains_itself() -> None:
    master, terminal = pty.openpty()
    try:
        result = subprocess.run(
            [sys.executable, "-m", "snakepit_port", "serve"],
            stdin=terminal,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.close(master)
        os.close(terminal)
    assert result.returncode == 64
    assert result.stdout == ""
    assert "SnakepitPort.start_link" in result.stderr
    assert "snakepit-port call" in result.stderr


# -- check ------------------------------------------------------------------------------------


def test_check_shows_the_pools(folder: Path) -> None:
    result = run("check", "good.toml")
    assert result.returncode == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines == [
        ["ok"],
        ["pool", "pool_size", "worker_profile", "adapter", "python"],
        ["default", "2", "process", "my_adapter", sys.executable],
        ["other", "1", "process", "my_adapter", sys.executable],
    ]


def test_control_characters_are_for_no_terminal(folder: Path) -> None:
    name = r"\u001b]0;title\u0007\u009b2J"
    (folder / "odd.toml").write_text(GOOD.replace('"default"', f'"{name}"'), encoding="utf-8")
    outputs = [run("check", "odd.toml"), run("doctor", "--no-start", "odd.toml")]
    for result in outputs:
        printed = result.stdout + result.stderr
        assert r"\x1b]0;title\x07\x9b2J" in printed
        assert not {"\x1b", "\x07", "\x9b"} & set(printed)
    paths = f'python = "/{name}/bin/python"\npython_path = ["{name}"]\n'
    (folder / "odd.toml").write_text(GOOD + paths, "utf-8")
    for result in (run("check", "odd.toml"), run("doctor", "--no-start", "odd.toml")):
        printed = result.stdout + result.stderr
        assert r"\x1b]0;title\x07\x9b2J" in printed
        assert not {"\x1b", "\x07", "\x9b"} & set(printed)
    (folder / "odd.toml").write_text(GOOD.replace("pool_size = 2", f'"{name}" = 2'), "utf-8")
    result = run("check", "odd.toml")
    assert result.returncode == 78
    assert not {"\x1b", "\x07", "\x9b"} & set(result.stdout + result.stderr)


def test_check_names_every_mistake(folder: Path) -> None:
    result = run("check", "bad.toml")
    assert (result.returncode, result.stdout) == (78, "")
    lines = result.stderr.splitlines()
    assert lines[0].startswith("error: bad.toml:5: pools[0]")
    assert "pool_sise" in lines[0]
    assert lines[1] == "  did you mean pool_size?"
    assert lines[2].startswith("error: bad.toml:6: pools[0]")
    assert "call_timeout" in lines[2]
    assert "\033" not in result.stderr


def test_check_warns_of_what_is_hardly_meant(folder: Path) -> None:
    (folder / "odd.toml").write_text(GOOD + 'idle_timeout = "1m"\n')
    result = run("check", "odd.toml")
    assert (result.returncode, result.stdout.splitlines()[0]) == (0, "ok")
    told, hint = result.stderr.splitlines()
    assert told.startswith('warning: odd.toml:12: pools[1] "other": idle_timeout: it has no effect')
    assert hint == "  remove it, or set min_workers"
    said = run("check", "--json", "odd.toml")
    assert said.stderr == ""
    (warning,) = json.loads(said.stdout)["warnings"]
    assert (warning["line"], warning["place"]) == (12, 'pools[1] "other": idle_timeout')


def test_check_without_a_file(folder: Path) -> None:
    result = run("check", "none.toml")
    assert result.returncode == 78
    assert result.stderr == "error: none.toml: there is no such file\n"


def test_check_prints_the_whole_configuration(folder: Path) -> None:
    result = run("check", "--resolved", "good.toml")
    assert result.returncode == 0
    (folder / "resolved.toml").write_text(result.stdout)
    assert run("check", "--resolved", "resolved.toml").stdout == result.stdout
    as_json = json.loads(run("check", "--resolved", "--json", "good.toml").stdout)
    assert [pool["name"] for pool in as_json["pools"]] == ["default", "other"]
    assert "max_queue_size" in as_json["pools"][0]


def test_check_prints_an_environment_with_its_sources(folder: Path) -> None:
    env = {**os.environ, "SHADE": "dark", "OMP_NUM_THREADS": "9"}
    lines = run("check", "--env", "default", "good.toml", env=env).stdout.splitlines()
    assert "SHADE=dark  # inherited" in lines
    assert "OMP_NUM_THREADS=4  # adapter_env" in lines
    assert "MKL_NUM_THREADS=1  # kind process" in lines
    rows = json.loads(run("check", "--env", "other", "--json", "good.toml", env=env).stdout)
    assert {"name": "OMP_NUM_THREADS", "value": "1", "source": "kind process"} in rows


def test_check_names_what_else_workers_find_in_their_environment() -> None:
    told = run("check", "--help").stdout
    assert supervisor_run.MARK in told
    assert supervisor_run.POOL_MARK in told
    assert orphans.MARK in told


def test_json_is_json_whatever_stdout_holds(folder: Path) -> None:
    env = {**os.environ, "SHADE": "žluť", "PYTHONIOENCODING": "ascii"}
    result = run("check", "--env", "default", "--json", "good.toml", env=env)
    assert {"name": "SHADE", "value": "žluť", "source": "inherited"} in json.loads(result.stdout)


def test_a_terminal_does_nothing_at_json(folder: Path) -> None:
    env = {**os.environ, "SHADE": "žluť\x1b[31m\x7f\x9b31m"}
    result = run("check", "--env", "default", "--json", "good.toml", env=env)
    assert not {"\x1b", "\x7f", "\x9b"} & set(result.stdout)
    shade = {"name": "SHADE", "value": env["SHADE"], "source": "inherited"}
    assert shade in json.loads(result.stdout)


def test_a_terminal_does_nothing_at_an_environment(folder: Path) -> None:
    env = {**os.environ, "SHADE": "dark\x1b[31m\nred"}
    lines = run("check", "--env", "default", "good.toml", env=env).stdout.splitlines()
    assert r"SHADE=dark\x1b[31m\nred  # inherited" in lines


@pytest.mark.parametrize(("file", "status"), [("good.toml", 0), ("bad.toml", 78)])
def test_without_stderr_the_status_tells(folder: Path, file: str, status: int) -> None:
    check = f"{sys.executable} -m snakepit_port check {file} 2>&-"
    assert subprocess.run(["sh", "-c", check], stdout=subprocess.DEVNULL).returncode == status


def test_check_of_a_pool_that_is_not_there(folder: Path) -> None:
    result = run("check", "--env", "defualt", "good.toml")
    assert result.returncode == 64
    assert result.stderr == "error: there is no pool 'defualt'; there is default, other\n"
    result = run("check", "--env", "defualt", "good.toml", "--json")
    assert (result.returncode, result.stderr) == (64, "")
    error = {"message": "there is no pool 'defualt'; there is default, other"}
    assert json.loads(result.stdout) == {"ok": False, "error": error}


def test_check_as_json(folder: Path) -> None:
    good = json.loads(run("check", "--json", "good.toml").stdout)
    assert good["ok"] is True
    assert [pool["pool"] for pool in good["pools"]] == ["default", "other"]
    result = run("check", "--json", "bad.toml")
    assert (result.returncode, result.stderr) == (78, "")
    bad = json.loads(result.stdout)
    assert bad["ok"] is False
    assert [problem["line"] for problem in bad["problems"]] == [5, 6]


def test_colours_are_for_terminals(folder: Path) -> None:
    def stdout_of_check(env: dict[str, str]) -> bytes:
        command = [sys.executable, "-m", "snakepit_port", "check", "good.toml"]
        return shown_on_a_terminal(
            lambda terminal: subprocess.run(command, stdout=terminal, env=env, check=True)
        )

    env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    assert stdout_of_check({**env, "TERM": "xterm"}).startswith(b"\033[32mok\033[0m\r\n")
    assert stdout_of_check({**env, "TERM": "xterm", "NO_COLOR": "1"}).startswith(b"ok\r\n")
    for simple in ({"TERM": "dumb"}, {"TERM": ""}, {}):
        assert stdout_of_check({**env, **simple}).startswith(b"ok\r\n")


# -- the arguments of call --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2", "line 1, column 6"),
        ('{"a": 1,\n "b": oops}', 'line 2, column 7\n   "b": oops}\n        ^'),
        ("", "line 1, column 1"),
        ("big file.csv", """as a text it is '["big file.csv"]'"""),
        ("5", "a list of positions or an object of keywords"),
        ('"[1]"', "a list of positions or an object of keywords"),
        ('[{"$bytes": "?"}]', "$bytes: "),
        ('{"a": NaN}', "JSON has no number NaN"),
        ("[1e400]", "1e400 is too large"),
        ("[" * 100_000, "nested too deeply"),
        ('{"b": 1, "a": {"c": 1, "c": 2}}', 'an object has the key "c" twice'),
    ],
    ids=[
        *(
            "cut",
            "line two",
            "empty",
            "word",
            "number",
            "string",
            "no base64",
            "NaN",
            "infinite",
            "deep",
        ),
        "twice",
    ],
)
def test_json_that_cannot_be_used(folder: Path, text: str, said: str) -> None:
    result = run("call", "--config", "good.toml", "default", "add", text)
    assert result.returncode == 64
    assert said in result.stderr
    assert "Traceback" not in result.stderr
