defmodule SnakepitPort.ReloadTest do
  @moduledoc "Another configuration for a supervisor that runs: a real one."
  use ExUnit.Case, async: true
  import SnakepitPort.Support
  alias SnakepitPort.{Call, Error, Link}

  setup do
    folder = temporary_path("reload")

    for version <- ["1", "2"] do
      File.mkdir_p!(Path.join(folder, version))

      File.write!(Path.join([folder, version, "versioned.py"]), """
      from snakepit_port.adapter import command

      @command
      def version():
          return #{version}
      """)
    end

    on_exit(fn -> File.rm_rf!(folder) end)
    {:ok, folder: folder}
  end

  defp version(folder, number, settings \\ []) do
    Keyword.merge([adapter: "versioned", python_path: [Path.join(folder, number)]], settings)
  end

  defp call(server, opts \\ []), do: SnakepitPort.execute("version", [], [server: server] ++ opts)

  defp await_event(name, pool) do
    name = [:snakepit_port, :pool, name]
    assert_receive {:snakepit_port, :event, ^name, measurements, %{pool: ^pool}}, 20_000
    measurements
  end

  defp call_until(stop, server, seen) do
    seen = MapSet.put(seen, call(server))

    if :atomics.get(stop, 1) == 1,
      do: {seen, call(server)},
      else: call_until(stop, server, seen)
  end

  test "how long a call may take that does not say is up to its pool, as it is now", context do
    pools = fn hours, others -> [[call_timeout: hours] | others] end
    server = start!(context, pools.("2h", [[name: "b", call_timeout: "infinity"]]))
    {:ok, link} = Link.find(server)
    timeout = fn pool -> Call.timeout(%Call{pool: pool}, link) end

    assert Enum.map([nil, "default", "b", "none"], timeout) == [
             7_200_000,
             7_200_000,
             :infinity,
             60_000
           ]

    {:ok, _} = SnakepitPort.reload(server, config: config([[name: "b", call_timeout: 300]]))
    assert Enum.map([nil, "b", "default"], timeout) == [300, 300, 60_000]
    # So it is when nobody answers.
    os_pid = os_pid(server)
    kill(os_pid, "STOP")
    assert {:error, %Error{type: :timeout}} = SnakepitPort.execute("add", [1, 2], server: server)
    stream = SnakepitPort.stream("count", [5], server: server)
    assert assert_raise(Error, fn -> Enum.to_list(stream) end).type == :timeout
    kill(os_pid, "CONT")
  end

  test "under load no call fails, and in the end all answers are new", context do
    size = [pool_size: 2]
    server = start!(context, [version(context.folder, "1", size)])
    :ok = SnakepitPort.await_ready(server)
    :ok = SnakepitPort.subscribe(server)
    stop = :atomics.new(1, [])
    test = self()

    callers =
      for _ <- 1..16 do
        Task.async(fn ->
          first = call(server)
          send(test, {:first, first})
          call_until(stop, server, MapSet.new([first]))
        end)
      end

    for _ <- callers, do: assert_receive({:first, {:ok, 1}})
    config = config([version(context.folder, "2", size)])
    assert SnakepitPort.reload(server, config: config) == {:ok, %{"default" => :replaced}}
    assert %{workers: 2, reload_ms: _} = await_event(:reloaded, "default")
    :atomics.put(stop, 1, 1)

    for {seen, last} <- Task.await_many(callers) do
      assert MapSet.subset?(seen, MapSet.new(ok: 1, ok: 2))
      assert last == {:ok, 2}
    end

    for _ <- 1..2 do
      assert_received {:snakepit_port, :event, [_, :worker, :recycled], _, %{reason: "reload"}}
    end

    assert %{errors: 0, workers: 2} = SnakepitPort.get_stats(server)
  end

  test "pools come and go; those that are as before are left alone", context do
    server = start!(context, [version(context.folder, "1"), [name: "old"]])
    :ok = SnakepitPort.await_ready(server)
    :ok = SnakepitPort.subscribe(server)
    before = SnakepitPort.list_workers(server)

    pools = [version(context.folder, "1"), version(context.folder, "2", name: "new")]

    assert SnakepitPort.reload(server, config: config(pools)) ==
             {:ok, %{"default" => :unchanged, "new" => :added, "old" => :removed}}

    # It waits for the pool that was added.
    assert SnakepitPort.await_ready(server) == :ok
    await_event(:ready, "new")
    assert call(server, pool: :new) == {:ok, 2}
    assert {:error, %Error{type: :unknown_pool}} = call(server, pool: :old)
    await_event(:removed, "old")
    assert SnakepitPort.list_workers(server) -- ["new-1"] == before -- ["old-1"]

    larger = config([version(context.folder, "1", pool_size: 2), Enum.at(pools, 1)])
    assert {:ok, changes} = SnakepitPort.reload(server, config: larger)
    assert changes == %{"default" => :resized, "new" => :unchanged}
    assert %{workers: 2} = await_event(:reloaded, "default")

    # Without options it is what the server was started with.
    assert {:ok, %{"default" => :resized, "new" => :removed, "old" => :added}} =
             SnakepitPort.reload(server)

    assert SnakepitPort.await_ready(server) == :ok
    assert SnakepitPort.execute("add", [1, 2], server: server, pool: :old) == {:ok, 3}
  end

  test "a configuration with mistakes changes nothing", context do
    pools = [version(context.folder, "1")]
    server = start!(context, pools)
    :ok = SnakepitPort.await_ready(server)
    before = SnakepitPort.list_workers(server)
    bad = config([[pool_sise: 2], [name: "b", adaptor: "x"]])
    assert {:error, %Error{type: :config} = error} = SnakepitPort.reload(server, config: bad)
    assert length(error.problems) >= 2
    assert Exception.message(error) =~ "pool_size"
    refute Exception.message(error) =~ "command"

    fixed = config(pools) ++ [supervisor: [max_frame_bytes: 1_000_000]]
    assert {:error, %Error{type: :config} = error} = SnakepitPort.reload(server, config: fixed)
    assert [%{place: "supervisor.max_frame_bytes", message: message}] = error.problems
    assert message =~ "cannot change"

    missing = Path.join(context.folder, "not_there.toml")
    assert {:error, %Error{type: :config} = error} = SnakepitPort.reload(server, config: missing)
    assert Exception.message(error) =~ "not_there.toml"

    assert SnakepitPort.list_workers(server) == before
    assert call(server) == {:ok, 1}
    assert_raise ArgumentError, fn -> SnakepitPort.reload(server, confg: bad) end
  end

  test "a file is read again, or another one", context do
    [path, other] = for name <- ["a.toml", "b.toml"], do: Path.join(context.folder, name)

    write = fn path, version ->
      File.write!(path, """
      [[pools]]
      name = "default"
      pool_size = 1
      adapter = "versioned"
      python_path = ["#{version}"]
      """)
    end

    write.(path, "1")
    server = start!(context, [], config: path)
    :ok = SnakepitPort.await_ready(server)
    :ok = SnakepitPort.subscribe(server)
    assert call(server) == {:ok, 1}
    assert SnakepitPort.reload(server) == {:ok, %{"default" => :unchanged}}
    write.(path, "2")
    assert SnakepitPort.reload(server) == {:ok, %{"default" => :replaced}}
    await_event(:reloaded, "default")
    assert call(server) == {:ok, 2}
    write.(other, "1")
    assert SnakepitPort.reload(server, config: other) == {:ok, %{"default" => :replaced}}
    await_event(:reloaded, "default")
    assert call(server) == {:ok, 1}
  end

  test "a path may be characters, or chardata", context do
    path = Path.join(context.folder, "pools.toml")
    pool = &"[[pools]]\nname = 'default'\nadapter = 'versioned'\npython_path = ['#{&1}']\n"
    File.write!(path, pool.("1"))
    server = start!(context, [], config: to_charlist(path))
    assert call(server) == {:ok, 1}
    assert SnakepitPort.reload(server) == {:ok, %{"default" => :unchanged}}
    File.write!(path, pool.("2"))
    chardata = [to_charlist(context.folder), ?/, ["pools" | ".toml"]]
    assert SnakepitPort.reload(server, config: chardata) == {:ok, %{"default" => :replaced}}

    for wrong <- ["", "a\0b", ~c"a\0b"] do
      assert_raise ArgumentError, ~r/^config: has to be/, fn ->
        SnakepitPort.reload(server, config: wrong)
      end
    end

    # What is neither is the supervisor's to refuse.
    for wrong <- [[{"pools", []}, 5], [:pools], 5] do
      assert {:error, %Error{type: :config}} = SnakepitPort.reload(server, config: wrong)
    end
  end

  test "new workers that do not start leave those of before serving", context do
    server = start!(context, [version(context.folder, "1")])
    :ok = SnakepitPort.await_ready(server)
    :ok = SnakepitPort.subscribe(server)
    bad = config([version(context.folder, "1", adapter: "no_such_module_1")])
    assert SnakepitPort.reload(server, config: bad) == {:ok, %{"default" => :replaced}}
    failed = [:snakepit_port, :pool, :reload_failed]
    assert_receive {:snakepit_port, :event, ^failed, _, %{pool: "default"} = metadata}, 20_000
    assert metadata.message =~ "no_such_module_1"
    assert call(server) == {:ok, 1}
    assert SnakepitPort.await_ready(server) == :ok
    assert SnakepitPort.get_stats(server).pools["default"].reload == "failed"
  end

  test "a pool that could not start is waited for again", context do
    bad = [adapter: "no_such_module_1"]
    server = start!(context, [version(context.folder, "1", bad)])
    assert {:error, %Error{type: :pool_unavailable}} = SnakepitPort.await_ready(server)
    good = version(context.folder, "1")
    added = version(context.folder, "1", bad ++ [name: "bad"])
    config = config([good, added])

    assert SnakepitPort.reload(server, config: config) ==
             {:ok, %{"default" => :replaced, "bad" => :added}}

    assert {:error, %Error{type: :pool_unavailable, pool: "bad"}} = SnakepitPort.await_ready(server)

    assert call(server) == {:ok, 1}

    assert {:ok, %{"bad" => :removed}} = SnakepitPort.reload(server, config: config([good]))
    assert SnakepitPort.await_ready(server) == :ok
  end

  test "one that is given up before it was written is forgotten", %{folder: folder} = context do
    server = start!(context, [version(folder, "1")])
    {:ok, link} = Link.find(server)
    id = Link.next_id(link)
    send(server, {:reloading, id})
    assert MapSet.member?(:sys.get_state(server).pools.reloads, id)
    :ets.insert(link.outbox, {id, "a frame"})
    :ets.insert(link.table, {id, make_ref(), []})
    Link.cancel(link, id)
    assert MapSet.size(:sys.get_state(server).pools.reloads) == 0
  end
end
