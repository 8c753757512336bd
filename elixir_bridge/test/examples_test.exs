defmodule SnakepitPort.ExamplesTest do
  use ExUnit.Case, async: true
  import ExUnit.CaptureIO
  import SnakepitPort.Support, only: [python: 0]

  @examples Path.expand("../examples", __DIR__)

  # Of the tests that run beside others, the only one with a server of the default name.
  test "the quickstart says hello, shows a traceback, and stops what it started" do
    output = capture_io(fn -> Code.eval_file(Path.join(@examples, "quickstart.exs")) end)
    assert "Hello Ada\nTypeError: " <> _ = output
    assert output =~ "hello.py"
    assert Process.whereis(SnakepitPort) == nil
  end

  test "a host in plain Erlang calls and prints" do
    script = Path.join(@examples, "plain_erlang_host.escript")
    run = &System.cmd("escript", [script, python(), Path.join(@examples, "pools.toml") | &1], &2)
    assert run.(["add", "1", "2"], []) == {"3\n", 0}
    assert run.(["greet", ~s(<<"Ada">>)], []) == {~s(<<"Hello Ada">>\n), 0}
    assert {output, 1} = run.(["add", "1", "none"], stderr_to_stdout: true)
    assert output =~ "hello.py"

    assert {"plain_erlang_host.escript PYTHON" <> _, 64} =
             System.cmd("escript", [script], stderr_to_stdout: true)
  end
end
