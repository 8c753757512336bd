"""`snakepit-port call`, with a real supervisor."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import shown_on_a_terminal

ADAPTER = """
import os
import signal
from snakepit_port.adapter import attempt, command, host

@command
def add(a, b):
    return a + b

@command
def echo(value):
    print("echoing", flush=True)
    return value

@command
def count(n, result=None):
    yield from range(n)
    return result

@command
def squares(n):
    print("squaring", flush=True)
    return (i * i for i in range(n))

@command(idempotent=True)
def crash_once():
    if attempt() == 1:
        os._exit(3)
    return attempt()

@command
def count_and_fail(n):
    yield from range(n)
    raise ValueError("no more")

@command
def endless():
    try:
        while True:
            yield "more"
    finally:
        print("closed", flush=True)

@command
def fail():
    raise ValueError("on purpose")

@command
def work(total):
    for done in range(total + 1):
        host.progress(done, total)
    return "worked"

@command
def ask():
    return host.call("anything")

@command
def die():
    os.write(2, b"last words\\n")
    os._exit(3)

@command
def hang():
    print("hanging", flush=True)
    while True:
        signal.pause()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an adapter and a configuration of it."""
    (tmp_path / "my_adapter.py").write_text(ADAPTER)
    (tmp_path / "pools.toml").write_text(
        "[[pools]]\nname = 'default'\nadapter = 'my_adapter'\npool_size = 1\n"
        f"python = '{sys.executable}'\npython_path = ['.']\n"
    )
    (tmp_path / "bad.toml").write_text("[[pools]]\nname = 'default'\nadaptor = 'my_adapter'\n")
    return tmp_path


def command(*args: str, config: str = "pools.toml") -> list[str]:
    return [sys.executable, "-m", "snakepit_port", "call", "--config", config, *args]


def call(folder: Path, *args: str, config: str = "pools.toml") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*args, config=config), cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("args", "result"),
    [
        (["add", "[1, 2]"], 3),
        (["add", '{"a": "ž", "b": "!"}'], "ž!"),
        (["echo", '[{"$bytes": "/wA="}]'], {"$bytes": "/wA="}),
        (["echo", '[{"$tuple": [{"$atom": "ok"}, 1]}]'], {"$tuple": [{"$atom": "ok"}, 1]}),
        (["add", "[1, 2]", "--timeout", "20"], 3),
    ],
)
def test_the_result_is_json(folder: Path, args: list[str], result: object) -> None:
    process = call(folder, "default", *args)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == result


def test_an_integer_has_as_many_digits_as_it_likes(folder: Path) -> None:
    digits = "7" * 5000
    assert call(folder, "default", "add", f"[{digits}, 0]").stdout == f"{digits}\n"


def test_arrays_take_no_numpy(folder: Path) -> None:
    arrays = [
        {"$array": {"type": "f32", "shape": [2, 2], "data": [1.0, 2.5, 3.0, 4.0]}},
        {"$array": {"type": "c64", "shape": [0, 3], "data": []}},
        {"$array": {"type": "u8", "shape": [300_000], "data": [7] * 300_000}},
    ]
    (folder / "arrays.json").write_text(json.dumps([arrays]))
    # The worker has NumPy; the command line does not ask whether it has.
    program = (
        "import sys\n"
        "from snakepit_port.cli import main\n"
        "args = ['call', '--config', 'pools.toml', 'default', 'echo', open('arrays.json').read()]\n"
        "print(main(args), 'numpy' in sys.modules)"
    )
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True
    )
    printed, end = process.stdout.splitlines()
    assert end == "0 False", process.stderr
    assert json.loads(printed) == arrays


@pytest.mark.parametrize(
    ("args", "printed"),
    [
        (["count", "[3]"], "0\n1\n2\n"),
        (["count", '[2, {"sum": 1}]'], '0\n1\n{"sum": 1}\n'),
        (["count", "[0, 7]"], "7\n"),
    ],
)
def test_a_generator_is_a_line_for_each_value(folder: Path, args: list[str], printed: str) -> None:
    process = call(folder, "default", *args)
    assert (process.returncode, process.stdout) == (0, printed), process.stderr


def test_an_idempotent_command_is_run_again(folder: Path) -> None:
    process = call(folder, "default", "crash_once")
    assert (process.returncode, process.stdout) == (0, "2\n"), process.stderr


def test_a_command_that_returns_an_iterator_is_run_once(folder: Path) -> None:
    process = call(folder, "default", "squares", "[3]")
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr.count("] squaring") == 1
    assert "has run, and returned an iterator" in process.stderr
    assert "--stream" in process.stderr
    process = call(folder, "default", "squares", "[3]", "--stream")
    assert (process.returncode, process.stdout) == (0, "0\n1\n4\n"), process.stderr
    assert process.stderr.count("] squaring") == 1


@pytest.mark.parametrize(
    ("args", "status", "printed"),
    [
        (["add", "[1, 2]"], 0, [{"result": 3}]),
        (["count", "[2]"], 0, [{"value": 0}, {"value": 1}, {"result": None}]),
        (["count", "[1, 7]"], 0, [{"value": 0}, {"result": 7}]),
        (["squares", "[2]", "--stream"], 0, [{"value": 0}, {"value": 1}, {"result": None}]),
        (["count_and_fail", "[1]"], 1, [{"value": 0}, "exception"]),
        (["die"], 1, ["worker_crashed"]),
        (["nope"], 1, ["unknown_command"]),
    ],
)
def test_json_lines(folder: Path, args: list[str], status: int, printed: list[object]) -> None:
    process = call(folder, "default", *args, "--json")
    lines = [json.loads(line) for line in process.stdout.splitlines()]
    shown = [line["error"]["type"] if "error" in line else line for line in lines]
    assert (process.returncode, shown) == (status, printed), process.stderr
    assert "error: " not in process.stderr
    assert all(line["error"]["message"] for line in lines if "error" in line)


def test_json_of_a_wrong_configuration(folder: Path) -> None:
    process = call(folder, "default", "add", "--json", config="bad.toml")
    assert (process.returncode, process.stderr) == (78, "")
    error = json.loads(process.stdout)["error"]
    assert (error["type"], len(error["problems"])) == ("config", 2)


def test_arguments_that_cannot_be_sent(folder: Path) -> None:
    long = json.dumps([{"$atom": "a" * 256}])
    process = call(folder, "default", "echo", long)
    assert (process.returncode, process.stdout) == (64, "")
    assert "error: the arguments cannot be sent: " in process.stderr
    process = call(folder, "default", "echo", long, "--json")
    assert process.returncode == 64
    assert json.loads(process.stdout)["error"]["type"] == "encode"


def test_an_error_of_a_generator_comes_after_its_values(folder: Path) -> None:
    process = call(folder, "default", "count_and_fail", "[2]")
    assert (process.returncode, process.stdout) == (1, "0\n1\n")
    assert process.stderr.splitlines()[-1] == "ValueError: no more"


def test_a_reader_that_has_had_enough_closes_the_generator(folder: Path) -> None:
    with subprocess.Popen(
        command("default", "endless"),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == '"more"\n'
        process.stdout.close()
        rest = process.stderr.read()
    assert process.returncode == 1
    assert "] closed" in rest
    assert "Traceback" not in rest


def test_what_the_worker_prints_goes_to_stderr(folder: Path) -> None:
    process = call(folder, "default", "echo", "[1]")
    assert process.stdout == "1\n"
    (line,) = (line for line in process.stderr.splitlines() if "echoing" in line)
    assert line.startswith("[default")
    assert line.endswith("] echoing")


def test_an_error_is_readable(folder: Path) -> None:
    process = call(folder, "default", "fail")
    assert (process.returncode, process.stdout) == (1, "")
    lines = process.stderr.splitlines()
    assert "error: ValueError: on purpose" in lines
    assert lines[-1] == "ValueError: on purpose"
    assert "snakepit_port/cli/" not in process.stderr


def test_what_a_crashed_worker_wrote_is_printed_once(folder: Path) -> None:
    process = call(folder, "default", "die")
    assert process.returncode == 1
    assert "error: worker_crashed: " in process.stderr
    assert process.stderr.count("last words") == 1


def test_what_a_starter_wrote_that_ended_is_printed_once(folder: Path) -> None:
    (folder / "broken").mkdir()
    (folder / "broken" / "enum.py").write_text("def broken():\n    1 / 0\nbroken()\n")
    broken = f"adapter_env = {{ PYTHONPATH = '{folder}/broken' }}\n"
    (folder / "pools.toml").write_text((folder / "pools.toml").read_text() + broken)
    process = call(folder, "default", "add", "[1, 2]")
    assert process.returncode == 1
    lines = process.stderr.splitlines()
    assert "[default] ZeroDivisionError: division by zero" in lines
    error, _where = [line for line in lines if not line.startswith("[default] ")]
    assert error.startswith("error: ")
    assert error.endswith(" ended with status 1: ZeroDivisionError: division by zero")
    # For programs, it is where a worker's last words are.
    process = call(folder, "default", "add", "[1, 2]", "--json")
    assert "in broken" in json.loads(process.stdout)["error"]["stderr"]


def test_a_full_disk_is_told(folder: Path) -> None:
    for args in (["add", "[1, 2]"], ["count", "[3]"]):
        with open("/dev/full", "w") as full:
            process = subprocess.run(
                command("default", *args),
                cwd=folder,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert process.stderr == (
            "snakepit-port: what it prints cannot be written: No space left on device\n"
        )
        assert process.returncode == 1


@pytest.mark.parametrize(
    ("args", "status", "printed"),
    [(["echo", "[1]"], 0, "1\n"), (["die"], 1, ""), (["add", "[1"], 64, "")],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_stderr_cannot_take_is_not_missed(
    folder: Path, args: list[str], status: int, printed: str, unbuffered: str
) -> None:
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            command("default", *args),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert (process.returncode, process.stdout) == (status, printed)


@pytest.mark.parametrize("limit", [6, 10])
def test_too_few_descriptors_are_told(folder: Path, limit: int) -> None:
    process = subprocess.run(
        command("default", "add", "[1, 2]"),
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
        check=False,
    )
    assert process.returncode == 1
    assert "raise `ulimit -n`" in process.stderr
    assert "Traceback" not in process.stderr


def test_a_deadline(folder: Path) -> None:
    process = call(folder, "default", "hang", "--timeout", "0.5")
    assert (process.returncode, process.stdout) == (1, "")
    assert "error: timeout: " in process.stderr


def test_mistakes_in_the_configuration(folder: Path) -> None:
    process = call(folder, "default", "add", "[1, 2]", config="bad.toml")
    assert (process.returncode, process.stdout) == (78, "")
    assert process.stderr.count("did you mean adapter?") == 1


def test_the_configuration_may_come_from_a_pipe(folder: Path) -> None:
    text = (folder / "pools.toml").read_text().replace("['.']", f"['{folder}']")
    (folder / "absolute.toml").write_text(text)
    with open(folder / "absolute.toml") as file:
        redirected = subprocess.run(
            command("default", "add", "[1, 2]", config="/dev/stdin"),
            cwd=folder,
            stdin=file,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    assert redirected.stdout == "3\n"
    call = command("default", "add", "[1, 2]", config="none.toml")
    substituted = subprocess.run(
        ["bash", "-c", '"$@" --config <(cat absolute.toml)', "bash", *call],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert substituted.stdout == "3\n"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_mistakes_in_what_comes_from_a_pipe(folder: Path, options: list[str]) -> None:
    process = subprocess.run(
        command("default", "add", *options, config="/dev/stdin"),
        cwd=folder,
        input=(folder / "bad.toml").read_text(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 78
    if options:
        error = json.loads(process.stdout)["error"]
        assert (error["type"], len(error["problems"])) == ("config", 2)
    else:
        assert 'error: /dev/stdin:3: pools[0] "default": adaptor: ' in process.stderr
        assert process.stderr.count("did you mean adapter?") == 1


def test_an_interrupt_from_the_keyboard(folder: Path) -> None:
    # A terminal signals its whole foreground group: here, a session that only the call is in. What
    # runs in the background, as this suite may, starts with the signal ignored.
    with subprocess.Popen(
        command("default", "hang"),
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "hanging" in line:
                break
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130, rest
    assert "Traceback" not in rest


# -- progress --------------------------------------------------------------------------------------


def test_progress_is_for_programs_that_ask_and_for_terminals(folder: Path) -> None:
    process = call(folder, "default", "work", "[1]")
    assert (process.stdout, process.stderr) == ('"worked"\n', "")
    process = call(folder, "default", "work", "[1]", "--json")
    told = [json.loads(line) for line in process.stdout.splitlines()]
    assert told == [{"progress": [0, 1]}, {"progress": [1, 1]}, {"result": "worked"}]
    for kind, text in (("xterm", b"\r0 of 1\033[K\r1 of 1\033[K\r\n"), ("dumb", b"")):
        env = {**os.environ, "TERM": kind}
        assert text == shown_on_a_terminal(
            lambda terminal, env=env: subprocess.run(
                command("default", "work", "[1]"),
                cwd=folder,
                env=env,
                stdout=subprocess.DEVNULL,
                stderr=terminal,
                check=True,
            )
        )


def test_there_are_no_tools(folder: Path) -> None:
    process = call(folder, "default", "ask")
    assert process.returncode == 1
    assert "tool anything: the host has no such tool (tools: none)" in process.stderr
