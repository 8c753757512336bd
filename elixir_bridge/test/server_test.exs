defmodule SnakepitPort.ServerTest do
  @moduledoc "Which server a function is for, where it is left out, and where it is none."
  # The name of the default server is everybody's.
  use ExUnit.Case, async: false
  import SnakepitPort.Support
  alias SnakepitPort.Error

  test "what cannot be a server is told, rather than looked for" do
    for call <- [
          fn -> SnakepitPort.get_stats(pool: "x") end,
          fn -> SnakepitPort.list_workers(pool: "x") end,
          fn -> SnakepitPort.workers("x") end,
          fn -> SnakepitPort.stacks(worker: "x") end,
          fn -> SnakepitPort.subscribe(pool: "x") end,
          fn -> SnakepitPort.stop(timeout: 1) end,
          fn -> SnakepitPort.await_ready(timeout: 1) end,
          fn -> SnakepitPort.await_ready(1, 2) end,
          fn -> SnakepitPort.recycle([worker: "x"], pool: "x") end,
          fn -> SnakepitPort.reload("pools.toml") end,
          fn -> SnakepitPort.execute("add", [1, 2], server: "x") end
        ] do
      assert_raise ArgumentError, ~r/a SnakepitPort server is given by its name.*comes first/, call
    end
  end

  test "a name that is looked up elsewhere is told to be given as the pid that it has", context do
    children = {SnakepitPort, peer(context, "good")}
    options = [name: Module.concat(name(context), Parts), partitions: 1, child_spec: children]
    start_supervised!({PartitionSupervisor, options})
    via = {:via, PartitionSupervisor, {options[:name], :any}}

    for other <- [via, {:global, :pools}] do
      assert_raise ArgumentError, ~r/this is none: .*; GenServer.whereis\/1 has the pid/, fn ->
        SnakepitPort.subscribe(other)
      end
    end

    assert SnakepitPort.subscribe(GenServer.whereis(via)) == :ok
  end

  test "what is no timeout is told before a server is asked" do
    for timeout <- [-1, 0x100000000, 1.0, "5", nil] do
      assert_raise ArgumentError, ~r/^a timeout is/, fn ->
        SnakepitPort.await_ready(:no_such_server, timeout)
      end
    end

    for timeout <- [-1, 0x100000000] do
      assert_raise ArgumentError, ~r/^a timeout is/, fn -> SnakepitPort.await_ready(timeout) end
    end
  end

  test "where there is none, that says what to look for" do
    for answer <- [
          SnakepitPort.execute("add", [1, 2], server: :no_such_server),
          SnakepitPort.subscribe(:no_such_server),
          SnakepitPort.recycle(:no_such_server),
          SnakepitPort.await_ready(:no_such_server)
        ] do
      assert {:error, %Error{type: :supervisor_down, message: message}} = answer
      assert message =~ "no SnakepitPort server :no_such_server is running"
      assert message =~ "its supervisor may be starting it again"
    end
  end

  test "a pool in the place of a server is told where pools are named, and where statistics have them" do
    asks = [&SnakepitPort.get_stats/1, &SnakepitPort.workers/1, &SnakepitPort.stacks/1]

    hint =
      ~s{recycle name it as an option, pool: :gpu; statistics of one are get_stats().pools["gpu"]}

    for ask <- asks do
      error = assert_raise Error, fn -> ask.(:gpu) end
      assert String.ends_with?(error.message, "If that is a pool: calls and " <> hint)
      refute assert_raise(Error, fn -> ask.(Gpu) end).message =~ "pool"
    end
  end

  test "a process that is no server is told to be another, and is neither asked nor stopped",
       context do
    name = name(context)
    # It would end of a question that it does not know.
    supervisor = start_supervised!({DynamicSupervisor, name: name, strategy: :one_for_one})

    for server <- [name, supervisor] do
      for answer <- [
            SnakepitPort.await_ready(server),
            SnakepitPort.execute("add", [1, 2], server: server)
          ] do
        assert {:error, %Error{type: :supervisor_down, message: message}} = answer
        assert message =~ "server #{inspect(server)} is running: that is another process"
      end

      assert SnakepitPort.stop(server) == :ok
    end

    assert Process.whereis(name) == supervisor
  end

  test "where it runs on another node, that says how to call it" do
    # As a message from there would bring it.
    pid = :erlang.binary_to_term(<<131, 88, 119, 6, "a@host", 1::32, 0::32, 1::32>>)

    for call <- [
          fn -> SnakepitPort.execute("add", [1, 2], server: pid) end,
          fn -> SnakepitPort.execute_stream("count", [1], & &1, server: pid) end,
          fn -> SnakepitPort.subscribe(pid) end,
          fn -> SnakepitPort.recycle(pid) end,
          fn -> SnakepitPort.reload(pid) end,
          fn -> SnakepitPort.register_tool(pid, "now", fn -> :ok end) end,
          fn -> {:error, assert_raise(Error, fn -> SnakepitPort.get_stats(pid) end)} end
        ] do
      assert {:error, %Error{type: :supervisor_down, message: message}} = call.()
      assert message =~ "#{inspect(pid)} is a process of the node a@host"
      assert message =~ "call there: :erpc.call(:a@host, SnakepitPort, :execute, [...])"
    end
  end

  defp in_no_directory do
    before = File.cwd!()
    on_exit(fn -> File.cd!(before) end)
    gone = temporary_path("gone")
    File.mkdir!(gone)
    File.cd!(gone)
    File.rmdir!(gone)
  end

  test "a working directory that is gone is an error, and no end of who starts one", context do
    in_no_directory()

    for config <- [config(), "pools.toml"] do
      assert {:error, %Error{type: :config, message: message}} =
               SnakepitPort.start_link(name: name(context), config: config)

      assert message =~ "could not be started: could not get"
      assert message =~ "working directory"
    end
  end

  test "one that has gone in between is named by its pid, for its table has no name", context do
    server = start_peer!(context, "good")
    pid = Process.whereis(server)
    {:ok, link} = SnakepitPort.Link.find(server)
    :ok = SnakepitPort.stop(server)
    assert {:error, %Error{message: message}} = SnakepitPort.Link.origin(link)
    assert message =~ "server #{inspect(pid)} is running"
    # Who has found it before that may be late.
    :ets.new(server, [:named_table])
    :ets.insert(server, {:link, link})

    assert {:error, %Error{type: :supervisor_down}} =
             SnakepitPort.register_tool(server, "a", fn -> 1 end)
  end

  test "a reload of the same terms has their paths where they were, wherever one is", context do
    here = File.cwd!()
    on_exit(fn -> File.cd!(here) end)
    path = Path.relative_to(Path.join(__DIR__, "support"), here)
    server = start!(context, [[python_path: [path]]])
    assert SnakepitPort.await_ready(server) == :ok
    File.cd!(System.tmp_dir!())
    assert SnakepitPort.reload(server) == {:ok, %{"default" => :unchanged}}
    # What is given anew starts from where one is.
    config = config([[python_path: [path]]])
    assert SnakepitPort.reload(server, config: config) == {:ok, %{"default" => :replaced}}
  end

  test "a reload in a working directory that is gone is an error, but for what was given",
       context do
    server = start!(context)
    assert SnakepitPort.await_ready(server) == :ok
    in_no_directory()

    for config <- [config(), "pools.toml"] do
      assert {:error, %Error{type: :config, message: message}} =
               SnakepitPort.reload(server, config: config)

      assert message =~ "working directory"
    end

    assert SnakepitPort.reload(server) == {:ok, %{"default" => :unchanged}}
  end

  test "what it is asked and does not know, it answers, and goes on", context do
    server = start_peer!(context, "good")
    pid = Process.whereis(server)
    assert GenServer.call(server, :anything) == {:error, :unknown_call}
    assert GenServer.cast(server, :anything) == :ok
    assert GenServer.call(server, :anything) == {:error, :unknown_call}
    assert Process.whereis(server) == pid
  end

  test "arguments may be left out, and the server is SnakepitPort then" do
    for call <- [
          fn -> SnakepitPort.execute("pid") end,
          fn -> SnakepitPort.execute_stream("endless", & &1) end,
          fn -> SnakepitPort.execute_in_session("s", "pid") end,
          fn -> SnakepitPort.execute_in_session_stream("s", "endless", & &1) end,
          fn -> SnakepitPort.recycle(:default) end
        ] do
      assert {:error, %Error{type: :supervisor_down, message: message}} = call.()
      assert message =~ "no SnakepitPort server"
      assert message =~ "option, pool: :default;" == (message =~ ":default is running")
    end
  end

  test "what is asked of the default server can come without it" do
    start_supervised!({SnakepitPort, logs: false, config: config()})
    assert SnakepitPort.await_ready(60_000) == :ok
    assert SnakepitPort.await_ready(:infinity) == :ok
    assert SnakepitPort.recycle(worker: "default-1") == {:ok, 1}
    assert {:ok, _} = SnakepitPort.recycle(pool: :default)
    assert SnakepitPort.reload(config: config()) == {:ok, %{"default" => :unchanged}}
  end

  @tag :capture_log
  test "one that has lost a process of its own stops, and does not go on without", context do
    for part <- [:pump, :reporter, :tools] do
      server = start_peer!(%{context | test: :"#{context.test} #{part}"}, "good")
      monitor = Process.monitor(server)
      Process.exit(parts(server)[part], :kill)
      assert_receive {:DOWN, ^monitor, _, _, :killed}
    end
  end

  test "its processes end with it", context do
    server = start_peer!(context, "good")
    monitors = for {_, pid} <- parts(server), do: Process.monitor(pid)
    :ok = SnakepitPort.stop(server)
    for monitor <- monitors, do: assert_receive({:DOWN, ^monitor, _, _, :normal})
  end

  defp parts(server) do
    %{link: link, tools: tools} = :sys.get_state(server)
    %{pump: link.pump, reporter: link.reporter, tools: tools}
  end
end
