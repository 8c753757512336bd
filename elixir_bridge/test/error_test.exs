defmodule SnakepitPort.ErrorTest do
  use ExUnit.Case, async: true
  alias SnakepitPort.Error

  test "a message says what happened, where, and then Python's words" do
    error =
      Error.from_wire(%{
        "type" => "exception",
        "message" => "bad value",
        "exception" => "ValueError",
        "traceback" => "Traceback (most recent call last):\n  ...\nValueError: bad value\n",
        "pool" => "default",
        "worker" => "default-1",
        "command" => "add"
      })

    assert Exception.message(error) == """
           ValueError: bad value (command add, pool default, worker default-1)

           Python's traceback:
           Traceback (most recent call last):
             ...
           ValueError: bad value\
           """
  end

  test "what has no message can be inspected all the same" do
    for fields <- [[message: {1}], [problems: nil], [problems: [1]], [problems: [%{place: %{}}]]] do
      error = struct(%Error{type: :config, message: "m"}, fields)
      assert inspect(error) =~ "SnakepitPort.Error"
      assert is_binary(Exception.message(error))
    end

    problem = %{"place" => %{}, "message" => "x"}
    odd = %{"type" => "config", "message" => "m", "problems" => [problem]}
    assert inspect(Error.from_wire(odd)) =~ "SnakepitPort.Error"
  end

  test "a configuration's problems are listed with their places" do
    error =
      Error.from_wire(%{
        "type" => "config",
        "message" => "the configuration has 2 problems",
        "problems" => [
          %{"place" => "pools[0].adaptor", "message" => "unknown", "hint" => "adapter?"},
          %{"place" => "", "message" => "no pools", "file" => "a.toml", "line" => 3, "hint" => ""}
        ]
      })

    assert [%{place: "pools[0].adaptor", hint: "adapter?", file: nil}, _] = error.problems
    # What a reload has it from is no command.
    assert Exception.message(%{error | command: "reload"}) == Exception.message(error)

    assert Exception.message(error) == """
           the configuration has 2 problems
             pools[0].adaptor: unknown (adapter?)
             a.toml, line 3, no pools\
           """
  end

  test "a crashed worker's last words are shown" do
    error =
      Error.from_wire(%{
        "type" => "worker_crashed",
        "message" => "killed",
        "signal" => "SIGSEGV",
        "stderr" => "oops\n"
      })

    assert %Error{type: :worker_crashed, signal: "SIGSEGV", status: nil} = error
    assert Exception.message(error) == "killed\n\nThe last words on stderr:\noops"
  end

  test "problems that the message has in it are not said again" do
    error =
      Error.from_wire(%{
        "type" => "config",
        "message" => "the configuration: pools[0]: nme: unknown (name?)",
        "problems" => [%{"place" => "pools[0]: nme", "message" => "unknown", "hint" => "name?"}]
      })

    assert Exception.message(error) == "the configuration: pools[0]: nme: unknown (name?)"
    assert Exception.message(%{error | message: nil}) =~ "pools[0]: nme: unknown (name?)"
  end

  test "reports of a child that does not start have the message in them as it is" do
    error = %Error{type: :config, message: "the configuration has 2 problems:\n  one\n  two"}
    report = Exception.format_exit({:shutdown, {:failed_to_start_child, SnakepitPort, error}})
    assert report =~ "** (EXIT) #SnakepitPort.Error<config: #{error.message}>"
    assert inspect(error, structs: false) =~ "__exception__: true"
  end

  test "what Python is told of an error is text, and not too long" do
    # One of the two is cut in the middle of a character.
    for before <- ["", "x"] do
      long = before <> String.duplicate("é", 30_000)
      error = %Error{type: :tool_error, message: long, traceback: "a\n" <> long}
      wire = Error.to_wire(error)

      assert %{"type" => "tool_error", "message" => message, "traceback" => "a\n" <> _ = text} =
               wire

      for told <- [message, text] do
        assert String.valid?(told) and String.ends_with?(told, "é…")
        assert byte_size(told) in 40_000..40_003
      end
    end

    error = %Error{type: :tool_error, message: <<255>>}
    assert Error.to_wire(error) == %{"type" => "tool_error", "message" => "<<255>>"}
  end

  test "a type nobody knows, and values of the wrong kind, do no harm" do
    assert %Error{type: :unknown, message: ~s[early (an error of type "novel_1")]} =
             Error.from_wire(%{"type" => "novel_1", "message" => "early"})

    assert %Error{type: :unknown, pool: nil, status: nil, problems: []} =
             Error.from_wire(%{"pool" => 1, "status" => "x", "problems" => %{}, "type" => 7})

    assert %Error{problems: [%{place: nil}]} =
             Error.from_wire(%{"type" => "config", "problems" => [1, %{}]})
  end
end
