"""The pytest plugin in a project of its own: an adapter, tests of it, and what pytest says."""

from __future__ import annotations

import re
import sys

import pytest

pytest_plugins = ["pytester"]

ADAPTER = """
    import atexit
    import os
    import signal
    import subprocess
    import sys
    from snakepit_port.adapter import command, host

    RUN_ID = "SNAKEPIT_PORT_RUN_ID"

    # When its worker ends, it ends all those who would look for it.
    SURVIVOR = '''
    import os, select, signal, sys
    if os.fork():
        os._exit(0)
    print(os.getpid(), flush=True)
    supervisor, starter = map(int, sys.argv[1:])
    starter_gone = select.poll()
    starter_gone.register(os.pidfd_open(starter), select.POLLIN)
    sys.stdin.read()
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(starter, signal.SIGKILL)
    starter_gone.poll()
    os.kill(supervisor, signal.SIGKILL)
    os.execvp("sleep", ["sleep", "600"])
    '''

    @command
    def add(a, b):
        return a + b

    @command
    def executable():
        return sys.executable

    @command
    def ask(tool, *args):
        result = host.call(tool, *args)
        host.progress(1, 1)
        return result

    @command
    def greet(name):
        print(f"greeting {name}", flush=True)
        return f"hello {name}"

    @command
    def count(n):
        yield from range(n)
        if n > 3:
            raise ValueError("counted too far")

    @command
    def fail():
        raise ValueError("broken on purpose")

    @command
    def leave_a_process_behind():
        starter = os.getppid()
        with open(f"/proc/{starter}/stat") as file:
            supervisor = int(file.read().rpartition(")")[2].split()[1])
        # Without the mark of its run, so that no other run clears it away.
        env = {name: value for name, value in os.environ.items() if name != RUN_ID}
        command = [sys.executable, "-c", SURVIVOR, str(supervisor), str(starter)]
        parent = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, start_new_session=True
        )
        pid = int(parent.stdout.readline())
        parent.wait()

        def end():
            parent.stdin.close()
            signal.pause()

        atexit.register(end)
        return pid
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    package = pytester.mkpydir("my_app")
    pytester.makepyfile(**{f"{package.name}/adapter": ADAPTER})
    pytester.makepyprojecttoml(
        """
        [tool.pytest.ini_options]
        pythonpath = ["."]
        filterwarnings = ["error"]
        """
    )
    return pytester


def test_sync_tests_call_an_adapter(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import os
        import signal
        import sys
        import pytest
        from snakepit_port.harness import CallError

        def test_calls(snakepit_adapter):
            adapter = snakepit_adapter("my_app.adapter")
            assert adapter.call("add", [1, 2]) == 3
            assert adapter.call("greet", {"name": "Ada"}) == "hello Ada"
            assert adapter.stream("count", [3]) == [0, 1, 2]
            with pytest.raises(CallError, match="counted too far"):
                adapter.stream("count", [4])
            (pid,) = adapter.worker_pids
            assert pid != os.getpid()

        def test_errors(snakepit_adapter):
            with pytest.raises(CallError, match="broken on purpose") as caught:
                snakepit_adapter("my_app.adapter").call("fail")
            assert caught.value.exception == "ValueError"

        def test_settings(snakepit_adapter):
            assert len(snakepit_adapter("my_app.adapter", pool_size=2).worker_pids) == 2

        def test_tools(snakepit_adapter):
            tools = {"double": lambda n: 2 * n}
            adapter = snakepit_adapter("my_app.adapter", tools=tools)
            assert adapter.call("ask", ["double", 4], session="s") == 8
            tools["add"] = lambda: adapter.call("add", [1, 2])
            adapter = snakepit_adapter("my_app.adapter", tools=tools, pool_size=2)
            told = []
            tell = lambda done, total: told.append((done, total))
            assert adapter.call("ask", ["add"], progress=tell) == 3
            assert told == [(1, 1)]

        def test_paths_and_an_interpreter_of_the_pool(
            snakepit_adapter, request, tmp_path, monkeypatch
        ):
            os.symlink(sys.executable, request.config.rootpath / "own_python")
            monkeypatch.chdir(tmp_path)
            adapter = snakepit_adapter("adapter", python="./own_python", python_path=["my_app"])
            assert adapter.call("executable") == str(request.config.rootpath / "own_python")

        def test_one_that_was_closed(snakepit_adapter):
            adapter = snakepit_adapter("my_app.adapter")
            adapter.close()
            adapter.close()
            with pytest.raises(CallError, match="was stopped"):
                adapter.call("add", [1, 2])

        def test_a_start_that_is_interrupted(snakepit_adapter, tmp_path):
            rings = "import os, signal\\nos.kill({}, signal.SIGALRM)\\nsignal.pause()\\n"
            (tmp_path / "rings.py").write_text(rings.format(os.getpid()))

            def interrupt(*_):
                raise InterruptedError

            signal.signal(signal.SIGALRM, interrupt)
            with pytest.raises(InterruptedError):
                snakepit_adapter("rings", python_path=[str(tmp_path)])

        def test_an_adapter_that_does_not_load(snakepit_adapter):
            with pytest.raises(CallError, match="no_such_module") as caught:
                snakepit_adapter("no_such_module")
            assert caught.value.type == "pool_unavailable"

        def test_what_a_worker_prints_is_printed(snakepit_adapter, capsys):
            adapter = snakepit_adapter("my_app.adapter")
            adapter.call("greet", ["Grace"])
            adapter.close()
            assert "[default-1] greeting Grace\\n" in capsys.readouterr().out
        """
    )
    result = project.runpytest_subprocess("-p", "no:trio")
    result.assert_outcomes(passed=9)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('snakepit_adapter("my_app.adapter").call("fail")', "ValueError: broken on purpose"),
        ('snakepit_adapter("my_app.adapter").stream("count", [4])', "ValueError: counted too far"),
        ('snakepit_adapter("my_app.adapter").call("add", [test_it])', "EncodeError: *no term*"),
        ('snakepit_adapter("my_app.adapter").call("add", timeout=-1)', "ValueError: timeout *"),
        ('snakepit_adapter("no_such_module")', "No module named 'no_such_module'"),
    ],
)
def test_a_failure_shows_the_test_and_the_error(
    project: pytest.Pytester, line: str, said: str
) -> None:
    project.makepyfile(f"def test_it(snakepit_adapter):\n    {line}\n")
    result = project.runpytest_subprocess("-p", "no:trio", "-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    assert f">       {line}" in result.outlines
    result.stdout.fnmatch_lines([f"E *{said}"])
    shown = [text for text in result.outlines if re.match(r"\S+\.py:\d+: ", text)]
    assert [text.partition(":")[0] for text in shown] == [
        "test_a_failure_shows_the_test_and_the_error.py"
    ]


def test_async_tests_get_a_host(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import sys
        import pytest

        CONFIG = {"pools": [{
            "name": "default", "adapter": "my_app.adapter", "pool_size": 1,
            "python": sys.executable, "python_path": ["."],
        }]}

        async def test_calls(snakepit_host):
            async with snakepit_host(CONFIG) as host:
                assert await host.call("default", "add", [1, 2]) == 3

        async def test_kill(snakepit_host):
            async with snakepit_host(CONFIG) as host:
                await host.await_ready()
                host.kill()

        async def test_the_other_fixture(snakepit_adapter):
            with pytest.raises(RuntimeError, match="In this one use snakepit_host"):
                snakepit_adapter("my_app.adapter")
        """
    )
    result = project.runpytest_subprocess("-o", "trio_mode=true")
    result.assert_outcomes(passed=3)


@pytest.mark.parametrize("inherit_env", [True, False], ids=["by its mark", "as a child"])
def test_a_process_that_survives_fails_its_test(
    project: pytest.Pytester, inherit_env: bool
) -> None:
    project.makepyfile(
        f"""
        def test_leak(snakepit_adapter):
            adapter = snakepit_adapter("my_app.adapter", inherit_env={inherit_env})
            with open("leaked", "w") as file:
                print(adapter.call("leave_a_process_behind"), file=file)

        def test_clean(snakepit_adapter):
            snakepit_adapter("my_app.adapter").call("add", [1, 2])
        """
    )
    project.makeconftest(
        """
        from snakepit_port import testing

        # Long enough for processes that are going, short for the one that is not.
        testing.SURVIVOR_GRACE = 0.5
        """
    )
    result = project.runpytest_subprocess("-p", "no:trio")
    result.assert_outcomes(passed=2, errors=1)
    pid = (project.path / "leaked").read_text().strip()
    result.stdout.fnmatch_lines(["*outlived their supervisor*", f"*{pid}: sleep 600*"])


def test_other_projects_do_not_import_trio(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        """
        import sys

        def test_nothing(request):
            assert request.config.pluginmanager.has_plugin("snakepit_port.testing")
            loaded = {name.partition(".")[0] for name in sys.modules}
            assert not loaded & {"trio", "tomlkit", "erlpack"}
            assert {name for name in sys.modules if name.startswith("snakepit_port")} == {
                "snakepit_port", "snakepit_port.testing"
            }
        """
    )
    result = pytester.runpytest_subprocess("-p", "snakepit_port.testing")
    result.assert_outcomes(passed=1)


def test_the_plugin_is_found_by_its_entry_point(pytester: pytest.Pytester) -> None:
    result = pytester.run(sys.executable, "-m", "pytest", "--fixtures", "-p", "no:trio")
    result.stdout.fnmatch_lines(["snakepit_host*", "snakepit_adapter*"])
