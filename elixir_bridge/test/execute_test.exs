defmodule SnakepitPort.ExecuteTest do
  @moduledoc "Calls through a real supervisor and real workers."
  use ExUnit.Case, async: true
  import SnakepitPort.Support
  alias SnakepitPort.{Call, Error}

  @pools [[pool_size: 2], [name: "other"]]

  # One server for all tests of this module.
  setup_all do
    server = __MODULE__
    start_supervised!({SnakepitPort, name: server, logs: false, config: config(@pools)})
    :ok = SnakepitPort.await_ready(server)
    {:ok, server: server, opts: [server: server]}
  end

  test "terms of every kind come back", %{opts: opts} do
    for term <- [
          0,
          -1,
          256,
          Bitwise.bsl(1, 62),
          Bitwise.bsl(1, 5000),
          -Bitwise.bsl(1, 64),
          1.5,
          -0.0,
          "",
          "text é 🐍",
          SnakepitPort.bytes(<<255, 0>>),
          true,
          false,
          nil,
          :atom,
          :"an atom é",
          [],
          [1, [2, "x"]],
          ~c"charlist",
          Enum.to_list(1..1000),
          {},
          {1, :ok},
          {:ok, 1, 2},
          %{},
          %{"a" => 1, :b => %{1 => [2]}, nil => {}},
          %{[] => []},
          ~D[2024-02-29],
          1..3,
          self(),
          make_ref(),
          hd(Port.list()),
          fn -> 1 end,
          <<1::3>>,
          [1 | 2]
        ] do
      assert SnakepitPort.execute("echo", [term], opts) == {:ok, term}
      assert SnakepitPort.execute(:echo, %{value: term}, opts) == {:ok, term}
    end
  end

  test "binaries are str, wrapped ones bytes, atoms a kind of str", %{opts: opts} do
    assert SnakepitPort.execute!("kind", ["é"], opts) == {"str", "'é'"}

    assert SnakepitPort.execute!("kind", [SnakepitPort.bytes(<<255>>)], opts) ==
             {"bytes", "b'\\xff'"}

    assert {"Atom", _} = SnakepitPort.execute!("kind", [:é], opts)
    assert SnakepitPort.execute!("kind", [nil], opts) == {"NoneType", "None"}
    assert SnakepitPort.execute!("kind", [{1, 2}], opts) == {"tuple", "(1, 2)"}
  end

  test "a binary that is not UTF-8 is an error that names its place", %{opts: opts} do
    assert {:error, %Error{type: :decode, command: "echo", message: message}} =
             SnakepitPort.execute("echo", [%{"a" => [1, <<255>>]}], opts)

    assert message =~ "UTF-8"
  end

  test "large values pass", %{opts: opts} do
    large = SnakepitPort.bytes(:binary.copy(<<0, 113, 255>>, 1_000_000))
    assert SnakepitPort.execute("echo", [large], opts) == {:ok, large}
  end

  test "what a command raises has its class, its place and Python's traceback", %{opts: opts} do
    assert {:error, %Error{type: :exception, exception: "ValueError", message: message} = error} =
             SnakepitPort.execute("fail", ["not today"], opts)

    assert message =~ "not today"
    assert %Error{command: "fail", pool: "default", worker_id: "" <> _} = error
    assert error.traceback =~ "bridge_adapter.py"

    raised = assert_raise Error, fn -> SnakepitPort.execute!("fail", ["not today"], opts) end
    assert Exception.message(raised) =~ "ValueError: not today (command fail, pool default, worker"
    assert Exception.message(raised) =~ "bridge_adapter.py"
  end

  test "every other mistake has its type", %{opts: opts} do
    for {type, command, args, more} <- [
          {:unknown_command, "nope", [], []},
          {:unknown_pool, "echo", [1], pool: "nope"},
          {:bad_arguments, "add", [1], []},
          {:bad_arguments, "add", %{a: 1, c: 2}, []},
          {:encode, "unencodable", [], []},
          {:decode, "unknown_atom", [], []}
        ] do
      assert {:error, %Error{type: ^type, command: ^command, message: message}} =
               SnakepitPort.execute(command, args, opts ++ more)

      assert message != ""
    end
  end

  test "misspelt options and impossible timeouts are raised", %{opts: opts} do
    for wrong <- [
          [timout: 1],
          [timeout: -1],
          [timeout: 1.5],
          [timeout: 4_294_967_296],
          [queue_timeout: :never]
        ] do
      assert_raise ArgumentError, fn -> SnakepitPort.execute("echo", [1], opts ++ wrong) end
    end
  end

  test "options of Snakepit that have another name here are told with that", %{opts: opts} do
    for {name, renamed} <- [pool_name: :pool, checkout_timeout: :queue_timeout] do
      error =
        assert_raise ArgumentError, fn -> SnakepitPort.execute("pid", [], [{name, :hpc} | opts]) end

      told = "unknown option {#{inspect(name)}, :hpc}, which is #{renamed}: here; there is :server"
      assert String.starts_with?(error.message, told)
    end
  end

  test "keyword lists are neither arguments nor options in their place", %{opts: opts} do
    calls = [
      &SnakepitPort.execute("echo", &1, opts),
      &SnakepitPort.execute!("echo", &1, opts),
      &SnakepitPort.stream("echo", &1, opts),
      &SnakepitPort.execute_stream("echo", &1, fn _ -> :ok end, opts),
      &SnakepitPort.execute_in_session("s", "echo", &1, opts),
      &SnakepitPort.execute_in_session_stream("s", "echo", &1, fn _ -> :ok end, opts)
    ]

    for call <- calls do
      error = assert_raise ArgumentError, fn -> call.(rows: [1]) end
      assert Exception.message(error) =~ "[rows: [1]]. Write a map"
      assert Exception.message(error) =~ "%{rows: ...}"

      assert_raise ArgumentError, ~r/options.* come after the arguments/, fn ->
        call.(timeout: 5)
      end

      assert_raise ArgumentError, ~r/a map, for names, or a list/, fn -> call.(5) end
    end

    # These only look like one.
    assert SnakepitPort.execute("add", [{:a, 1}, 2], opts) |> elem(1) |> Map.get(:type) ==
             :exception

    assert SnakepitPort.execute("echo", %{value: {:ok, 1}}, opts) == {:ok, {:ok, 1}}
    bytes = SnakepitPort.bytes("x")
    assert SnakepitPort.execute("echo", [bytes], opts) == {:ok, bytes}
    assert SnakepitPort.execute("pid", [], opts) |> elem(0) == :ok
  end

  # A tag, for the compiler sees what is in the test itself.
  @tag wrong: 5
  test "what is of the wrong type is told", %{opts: opts} = context do
    %{server: server, wrong: wrong} = context

    for {what, call} <- [
          {"a command is named by a string or an atom, not by 12",
           fn -> SnakepitPort.execute(12, [], opts) end},
          {", a list of characters: a string has double quotes",
           fn -> SnakepitPort.execute(~c"pid", [], opts) end},
          {"not by [112 | \"id\"]", fn -> SnakepitPort.execute([?p | "id"], [], opts) end},
          {"a command", fn -> SnakepitPort.stream({}, [], opts) end},
          {"a command is named by a string of UTF-8, not by <<255>>",
           fn -> SnakepitPort.execute(<<255>>, [], opts) end},
          {"a command is named by a string of UTF-8",
           fn -> SnakepitPort.stream(<<255>>, [], opts) end},
          {"a timeout is a number of milliseconds up to 4294967195, or :infinity, not 5000000000",
           fn -> SnakepitPort.execute("pid", [], [{:timeout, 5_000_000_000} | opts]) end},
          {"up to 4294967295, or :infinity, not 5000000000",
           fn -> SnakepitPort.await_ready(server, 5_000_000_000) end},
          {"a pool is named by a string of UTF-8, not by <<255>>",
           fn -> SnakepitPort.execute("pid", [], [{:pool, <<255>>} | opts]) end},
          {"a session is named by a string of UTF-8",
           fn -> SnakepitPort.execute_in_session(<<255>>, "pid", [], opts) end},
          {"session_id: has to be a text of 1 to 255 characters, not \"\"",
           fn -> SnakepitPort.execute_in_session("", "pid", [], opts) end},
          {"session_id: has to be a text of 1 to 255 characters, not \"xxxx",
           fn ->
             SnakepitPort.execute("pid", [], [{:session_id, String.duplicate("x", 256)} | opts])
           end},
          {"session_id: has to be a text of 1 to 255 characters",
           fn -> SnakepitPort.close_session("", opts) end},
          {"a session is named by", fn -> SnakepitPort.execute_in_session(3, "pid", [], opts) end},
          {"a session", fn -> SnakepitPort.close_session(3, server: server) end},
          {"a session is named by a string or an atom, not by nil",
           fn -> SnakepitPort.execute_in_session(nil, "pid", [], opts) end},
          {"a session",
           fn -> SnakepitPort.execute_in_session_stream(nil, "count", [1], & &1, opts) end},
          {"a session", fn -> SnakepitPort.close_session(nil, server: server) end},
          {"a command", fn -> SnakepitPort.execute(nil, [], opts) end},
          {"a list, for positions; not [{:a, 1} | :b]",
           fn -> SnakepitPort.execute("echo", [{:a, 1} | :b], opts) end},
          {"a list, for positions; not [1 | 2]",
           fn -> SnakepitPort.stream("count", [1 | 2], opts) end},
          {"a function of one argument, not 5",
           fn -> SnakepitPort.execute_stream("count", [1], wrong, opts) end},
          {"bytes are marked in a binary, not in 5", fn -> SnakepitPort.bytes(5) end},
          {"options are a keyword list, not 5", fn -> SnakepitPort.close_session("s", wrong) end},
          {"options are a keyword list, not 5", fn -> SnakepitPort.recycle(server, 5) end},
          {"options are a keyword list, not :x", fn -> SnakepitPort.reload(server, :x) end},
          {"a pool", fn -> SnakepitPort.execute("pid", [], [{:pool, 1} | opts]) end},
          {"options are a keyword list", fn -> SnakepitPort.execute(:add, [1, 2], 500) end},
          {"options are", fn -> SnakepitPort.execute(:add, [1, 2], %{timeout: 1}) end},
          {"options are", fn -> SnakepitPort.stream(:count, [2], 500) end},
          {"a pool is named as an option", fn -> SnakepitPort.execute(:default, "add", [1, 2]) end},
          {"give it in a list, [%Date{}]",
           fn -> SnakepitPort.execute("echo", ~D[2020-01-01], opts) end},
          {"options are", fn -> SnakepitPort.execute_in_session("s", "pid", [], 500) end},
          {"options are a keyword list, like [timeout: 1_000], not :x",
           fn -> SnakepitPort.execute_in_session("s", "pid", [], [{:server, server} | :x]) end},
          {"options are a keyword list, like [timeout: 1_000], not :x",
           fn ->
             SnakepitPort.execute_in_session_stream("s", "count", [1], & &1, [{:pool, nil} | :x])
           end}
        ] do
      error = assert_raise ArgumentError, call
      assert Exception.message(error) =~ what
    end
  end

  test "pools are chosen by name, as text or atom", %{opts: opts} do
    other = SnakepitPort.execute!("pid", [], opts ++ [pool: :other])
    assert SnakepitPort.execute!("pid", [], opts ++ [pool: "other"]) == other
    assert SnakepitPort.execute!("pid", [], opts ++ [pool: nil]) != other
    # As an option nil is the same as nothing: what passes options on need not leave it out.
    assert {:ok, _} = SnakepitPort.execute("pid", [], opts ++ [session_id: nil])
  end

  test "of options that are given twice the first counts", %{server: server, opts: opts} do
    first = [timeout: 1, queue_timeout: 2, session_id: "a", pool: :a, server: :s]
    second = [timeout: :infinity, queue_timeout: 3, session_id: "b", pool: "b", server: :t]

    for {call, more, others} <- [
          {%Call{window: 512}, [window: 4], [window: 5]},
          {%Call{}, [progress: &max/2], [progress: &min/2]}
        ] do
      once = Call.options(first ++ more, call)
      assert Call.options(first ++ more ++ second ++ others, call) == once
      assert Call.options(Enum.reverse(first ++ more) ++ second ++ others, call) == once
    end

    # And so does one that says: none.
    none = [session_id: nil, pool: nil, progress: nil]
    assert Call.options(none ++ [session_id: "a", pool: :a, progress: &max/2], %Call{}) == %Call{}

    other = SnakepitPort.execute!("pid", [], [pool: :other] ++ opts ++ [pool: :default])

    assert SnakepitPort.execute!("pid", [], opts ++ [pool: :other, server: :no_such_server]) ==
             other

    assert_raise Error, ~r/unknown pool|no pool/, fn ->
      SnakepitPort.stream("count", [1], [pool: "nope"] ++ opts ++ [pool: "other"]) |> Enum.to_list()
    end

    # Where an argument names the session, no option does.
    in_session = &SnakepitPort.execute_in_session("s", "pid", [], [{:session_id, &1} | opts])
    assert {:ok, _} = in_session.("t")
    assert SnakepitPort.close_session("s", server: server) == {:ok, true}
    assert SnakepitPort.close_session("t", server: server) == {:ok, false}
  end

  test "64 callers on two pools get each their own answer", %{opts: opts} do
    call = fn caller ->
      for n <- 1..100 do
        pool = Enum.at([nil, :other], rem(caller + n, 2))
        {:ok, {^caller, ^n}} = SnakepitPort.execute("echo", [{caller, n}], [{:pool, pool} | opts])
      end
    end

    1..64 |> Enum.map(&Task.async(fn -> call.(&1) end)) |> Task.await_many(30_000)
  end

  test "statistics and workers", %{server: server, opts: opts} do
    SnakepitPort.execute!("echo", [1], opts)
    stats = SnakepitPort.get_stats(server)
    assert %{requests: requests, errors: _, workers: 3, available: _, busy: _, queued: _} = stats
    assert requests >= 1
    assert stats.os_pid == os_pid(server)
    assert %{state: "ready", workers: 2} = stats.pools["default"]

    workers = SnakepitPort.workers(server)
    assert Enum.sort(SnakepitPort.list_workers(server)) == Enum.sort(Enum.map(workers, & &1.id))
    pid = SnakepitPort.execute!("pid", [], opts ++ [pool: :other])

    assert [%{os_pid: ^pid, uptime_ms: _, memory_bytes: _, requests: _, state: _} = other] =
             Enum.filter(workers, &(&1.pool == "other"))

    assert %{commands: [], busy_ms: nil, waiting: 0, sessions: 0} = other
  end

  test "the server can be given by its pid", %{server: server} do
    assert SnakepitPort.execute("add", [1, 2], server: Process.whereis(server)) == {:ok, 3}
  end
end
