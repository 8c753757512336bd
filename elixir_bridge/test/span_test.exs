defmodule SnakepitPort.SpanTest do
  @moduledoc "What `:telemetry` hears of calls, made through a real supervisor."
  use ExUnit.Case, async: true
  import SnakepitPort.Support
  alias SnakepitPort.{Error, Span}

  setup context do
    server = start!(context)
    :ok = SnakepitPort.await_ready(server)
    :telemetry.attach(server, self())
    {:ok, server: server, opts: [server: server]}
  end

  # How the one call that was made is told, from its beginning to its end, and that nothing else is.
  defp told do
    assert_received {:telemetry, [:snakepit_port, :call, :start], began, start}
    assert %{system_time: _, monotonic_time: beginning} = began
    assert_received {:telemetry, [:snakepit_port, :call, ending], ended, stop}
    assert %{monotonic_time: now, duration: duration} = ended
    assert duration == now - beginning
    refute_received {:telemetry, [:snakepit_port, :call, _], _, _}
    assert is_reference(start.telemetry_span_context)
    more = Map.drop(stop, Map.keys(start))
    assert Map.drop(stop, Map.keys(more)) == start
    {ending, Map.delete(start, :telemetry_span_context), more, Map.get(ended, :chunks)}
  end

  test "a call is told with where it went and how it ended", %{server: server, opts: opts} do
    assert SnakepitPort.execute(:add, [1, 2], opts) == {:ok, 3}
    call = %{server: server, pool: nil, command: "add", session_id: nil, stream: false}
    assert told() == {:stop, call, %{outcome: :ok}, nil}

    assert {:error, error} =
             SnakepitPort.execute_in_session("s", "fail", ["no"], [pool: :default] ++ opts)

    assert {:stop, %{pool: "default", command: "fail", session_id: "s"}, more, nil} = told()
    assert more == %{outcome: :exception, error: error}
  end

  test "so is one that no worker has seen", %{opts: opts} do
    assert {:error, error} = SnakepitPort.execute("add", [1, 2], [pool: "none"] ++ opts)
    assert {:stop, _, %{outcome: :unknown_pool, error: ^error}, nil} = told()
  end

  test "one of a server that is not there is told, too", context do
    server = Module.concat(context.server, Other)
    :telemetry.attach(server, self())
    assert {:error, error} = SnakepitPort.execute("add", [1, 2], server: server)
    assert {:stop, %{server: ^server}, %{outcome: :supervisor_down, error: ^error}, nil} = told()
    assert {:error, error} = SnakepitPort.execute_stream("count", [1], & &1, server: server)
    assert {:stop, %{stream: true}, %{outcome: :supervisor_down, error: ^error}, nil} = told()
  end

  test "what is raised in the call is", %{opts: opts} do
    boom = fn _, _ -> throw(:boom) end
    assert catch_throw(SnakepitPort.execute("work", [1], [progress: boom] ++ opts)) == :boom
    assert {:exception, _, %{kind: :throw, reason: :boom, stacktrace: [_ | _]}, nil} = told()
    assert catch_exit(SnakepitPort.execute_stream("count", [3], &exit/1, opts)) == 0
    assert {:exception, %{stream: true}, %{kind: :exit, reason: 0}, 0} = told()
    stream = SnakepitPort.stream("count", [3], opts)
    assert_raise RuntimeError, fn -> Enum.each(stream, &if(&1 == 2, do: raise("boom"))) end
    assert {:exception, _, %{kind: :error, reason: %RuntimeError{}}, 2} = told()
  end

  test "of streams it is told how many chunks were taken", %{opts: opts} do
    stream = SnakepitPort.stream("count", [3], opts)
    refute_received {:telemetry, [_, :call, _], _, _}
    assert Enum.to_list(stream) == [0, 1, 2]
    assert {:stop, %{command: "count", stream: true}, %{outcome: :ok}, 3} = told()
    assert Enum.take(stream, 2) == [0, 1]
    assert {:stop, _, %{outcome: :halted}, 2} = told()
    assert SnakepitPort.execute_stream("count", [2], & &1, opts) == :ok
    assert {:stop, _, %{outcome: :ok}, 2} = told()
    assert {:error, error} = SnakepitPort.execute_stream("fail_after", [2], & &1, opts)
    assert {:stop, _, %{outcome: :exception, error: ^error}, 2} = told()
    stream = SnakepitPort.stream("fail_after", [1], opts)
    error = assert_raise Error, fn -> Enum.to_list(stream) end
    assert {:stop, _, %{outcome: :exception, error: ^error}, 1} = told()
  end

  test "a stream that two close ends once", %{opts: opts} do
    stream = SnakepitPort.stream("endless", [], opts)
    take_one = fn value, _ -> {:suspend, value} end
    {:suspended, 0, continue} = Enumerable.reduce(stream, {:cont, nil}, take_one)
    assert Task.await(Task.async(fn -> continue.({:halt, nil}) end)) == {:halted, nil}
    assert {:stop, _, %{outcome: :halted}, 1} = told()
    assert_raise Error, fn -> continue.({:cont, nil}) end
    refute_received {:telemetry, [_, :call, _], _, _}
  end

  test "without telemetry there is nothing to tell" do
    assert Span.stop(nil, :ok, %{chunks: 1}) == :ok
  end
end
