defmodule SnakepitPort.LifecycleTest do
  @moduledoc "Starting, stopping, dying, and what is left afterwards, with a real supervisor."
  use ExUnit.Case, async: true
  import ExUnit.CaptureLog
  import SnakepitPort.Support
  alias SnakepitPort.{Call, Error, Frames, Link, LinkStream, Terms}

  describe "starting" do
    test "all mistakes of a configuration are told", context do
      opts = [name: name(context), config: config([[pool_sise: 2], [name: "b", adaptor: "x"]])]
      assert {:error, %Error{type: :config} = error} = SnakepitPort.start_link(opts)
      assert length(error.problems) >= 2
      # Each once, though the supervisor's message lists them, too.
      assert [_, _] = String.split(Exception.message(error), "pool_size")
    end

    test "bad options are raised where they are given" do
      for wrong <- [
            [python: :python3],
            [python: ~c"python3"],
            [start_timeout: -1],
            [start_timeout: nil],
            [start_timeout: "5s"],
            [start_timeout: 5.0e3],
            [stop_timeout: nil],
            [stop_timeout: -1],
            [heartbeat_interval: 0],
            [python: "a\0b"],
            [config: "a\0b"],
            [config: ~c"a\0b"],
            # As `System.get_env/1` has variables that are set to nothing.
            [python: ""],
            [config: ""],
            [python: <<255>>],
            [logs: nil],
            [logs: :info],
            [tools: %{nil => &self/0}],
            [tools: %{<<255>> => &self/0}],
            [name: nil],
            [name: true],
            [name: false],
            [name: "pools"],
            [name: :undefined]
          ],
          start <- [&SnakepitPort.start_link/1, &SnakepitPort.child_spec/1] do
        [{key, _}] = wrong
        assert_raise ArgumentError, ~r/^#{key}: has to be/, fn -> start.(wrong) end
      end
    end

    test "what are no options is raised, with what they look like" do
      for wrong <- ["pools.toml", ~c"pools.toml", %{config: "pools.toml"}, :pools, [:config], nil],
          start <- [&SnakepitPort.start_link/1, &SnakepitPort.child_spec/1] do
        assert_raise ArgumentError, ~r/like \[config: "pools.toml"\]/, fn -> start.(wrong) end
      end
    end

    test "an OTP supervisor gives it as long as it takes to be killed, as far as it can" do
      for {stop, shutdown} <- [
            {10, 1_010},
            {0xFFFFFFFF, 0xFFFFFFFF},
            {:infinity, :infinity},
            {:auto, :infinity}
          ] do
        assert %{shutdown: ^shutdown} = SnakepitPort.child_spec(stop_timeout: stop)
      end
    end

    test "a script that is none, or has none of its options, is raised before anything starts" do
      for {fun, opts} <- [{5, []}, {& &1, []}] ++ for(opts <- [:foo, "x", [1]], do: {&self/0, opts}) do
        assert_raise ArgumentError, fn -> SnakepitPort.run_as_script(fun, opts) end
      end

      for timeout <- [-1, 0x100000000, 1.0, "5", nil] do
        assert_raise ArgumentError, ~r/^a timeout is/, fn ->
          SnakepitPort.run_as_script(&self/0, timeout: timeout, config: "not/there.toml")
        end
      end
    end

    test "a name that an ETS table has is an error, and nothing starts", context do
      :ets.new(name(context), [:named_table])
      opts = [name: name(context), config: config()]
      assert {:error, %Error{type: :config} = error} = SnakepitPort.start_link(opts)
      assert Exception.message(error) =~ "ETS table"
    end

    test "who waits for a server that cannot start has its error", context do
      opts = peer(context, "silent", start_timeout: 3_000)
      start = Task.async(fn -> SnakepitPort.start_link(opts) end)
      await(fn -> Process.whereis(opts[:name]) != nil end)
      assert {:error, %Error{type: :timeout}} = SnakepitPort.await_ready(opts[:name])
      assert {:error, %Error{type: :timeout}} = Task.await(start)
    end

    test "a configuration file that is not there is told", context do
      opts = [name: name(context), config: "not/there.toml"]
      assert {:error, %Error{} = error} = SnakepitPort.start_link(opts)
      assert Exception.message(error) =~ "not/there.toml"
    end

    test "an interpreter that is not there is told", context do
      for python <- ["/not/there/python", "no_such_python"] do
        assert {:error, %Error{type: :config} = error} =
                 SnakepitPort.start_link(name: name(context), python: python, config: config())

        assert Exception.message(error) =~ "no Python interpreter #{python}"
      end
    end

    test "an unknown option is raised" do
      assert_raise ArgumentError, fn -> SnakepitPort.start_link(confg: "x") end

      assert_raise ArgumentError, ~r/:halt.*:timeout/s, fn ->
        SnakepitPort.run_as_script(&self/0, halt: true)
      end
    end

    test "a pool that cannot start is named with the reason; the others work", context do
      server = start!(context, [[], [name: "bad", adapter: "no_such_module_1"]])

      assert {:error, %Error{type: :pool_unavailable, pool: "bad", message: message}} =
               SnakepitPort.await_ready(server)

      assert message =~ "no_such_module_1"
      assert SnakepitPort.execute("add", [1, 2], server: server) == {:ok, 3}

      assert {:error, %Error{type: :pool_unavailable}} =
               SnakepitPort.execute("add", [1, 2], server: server, pool: :bad)
    end

    test "calls may be made at once", context do
      server = start!(context)
      assert SnakepitPort.execute("add", [1, 2], server: server) == {:ok, 3}
      assert SnakepitPort.await_ready(server) == :ok
      assert SnakepitPort.await_ready(server) == :ok
    end
  end

  describe "a call" do
    setup context do
      server = start!(context, [context[:pool] || []])
      :ok = SnakepitPort.await_ready(server)
      :ok = SnakepitPort.subscribe(server)
      {:ok, server: server}
    end

    test "past its timeout fails, and its work is stopped", %{server: server} do
      # Which of the two timers is first, the supervisor's or the caller's, depends on how busy the machine is.
      assert {:error, %Error{type: :timeout, command: "block"}} =
               SnakepitPort.execute("block", [], server: server, timeout: 1_000)

      assert_receive {:snakepit_port, :log, %{line: "interrupted"}}
      assert SnakepitPort.execute("add", [1, 2], server: server) == {:ok, 3}
    end

    @tag pool: [call_timeout: 1_000]
    test "past its pool's timeout has the supervisor's answer, which knows where it was", context do
      {:ok, link} = SnakepitPort.Link.find(context.server)
      # So the caller has no timer, and the supervisor's is the first, however busy the machine is.
      :ets.insert(link.table, {{:call_timeout, nil}, nil})

      assert {:error, %Error{type: :timeout, command: "block", pool: "default"} = error} =
               SnakepitPort.execute("block", [], server: context.server)

      assert error.worker_id
    end

    test "that waits too long for a worker fails with queue_timeout", %{server: server} do
      busy = Task.async(fn -> SnakepitPort.execute("block", [], server: server) end)
      assert_receive {:snakepit_port, :log, %{line: "begun"}}

      assert {:error, %Error{type: :queue_timeout}} =
               SnakepitPort.execute("add", [1, 2], server: server, queue_timeout: 50)

      Task.shutdown(busy, :brutal_kill)
    end

    test "of a process that dies is cancelled", %{server: server} do
      {pid, _} = spawn_monitor(fn -> SnakepitPort.execute("block", [], server: server) end)
      assert_receive {:snakepit_port, :log, %{line: "begun"}}
      Process.exit(pid, :kill)
      assert_receive {:snakepit_port, :log, %{line: "interrupted"}}
      assert SnakepitPort.execute("add", [1, 2], server: server) == {:ok, 3}
      assert SnakepitPort.get_stats(server).pools["default"].cancelled == 1
    end

    test "that hangs can be looked at", %{server: server} do
      busy = Task.async(fn -> SnakepitPort.execute("block", [], server: server) end)
      assert_receive {:snakepit_port, :log, %{line: "begun"}}
      assert [{"default-" <> _, text}] = Map.to_list(SnakepitPort.stacks(server))
      assert text =~ ~r/bridge_adapter.py", line \d+ in block/
      Task.shutdown(busy, :brutal_kill)
    end

    test "whose worker dies has the signal and its last words", %{server: server} do
      assert {:error, %Error{type: :worker_crashed, signal: "SIGKILL"} = error} =
               SnakepitPort.execute("die", [], server: server)

      assert %Error{pool: "default", command: "die", worker_id: "" <> _} = error
      assert SnakepitPort.execute("add", [1, 2], server: server) == {:ok, 3}
      assert_receive {:snakepit_port, :event, [:snakepit_port, :worker, :started], _, _}
    end
  end

  describe "a supervisor" do
    @tag :capture_log
    test "that is killed fails its calls, is started again, and leaves nothing", context do
      server = start!(context, [[pool_size: 2]])
      :ok = SnakepitPort.await_ready(server)
      :ok = SnakepitPort.subscribe(server)
      owner = Process.whereis(server)
      os_pid = os_pid(server)
      workers = Enum.map(SnakepitPort.workers(server), & &1.os_pid)
      assert length(workers) == 2 and Enum.all?([os_pid | workers], &alive?/1)

      calls =
        for _ <- 1..2, do: Task.async(fn -> SnakepitPort.execute("block", [], server: server) end)

      for _ <- 1..2, do: assert_receive({:snakepit_port, :log, %{line: "begun"}})
      kill(os_pid, "KILL")

      for answer <- Task.await_many(calls) do
        assert {:error, %Error{type: :supervisor_down, signal: "SIGKILL"}} = answer
      end

      await(fn -> Process.whereis(server) not in [nil, owner] end)
      :ok = SnakepitPort.await_ready(server)
      assert SnakepitPort.execute("add", [1, 2], server: server) == {:ok, 3}
      Enum.each(workers, &await_gone/1)
    end

    test "that somebody else tells to stop says that", context do
      server = start!(context)
      monitor = Process.monitor(server)

      log =
        capture_log([metadata: [:server]], fn ->
          kill(os_pid(server), "TERM")
          assert_receive {:DOWN, ^monitor, _, _, {%Error{status: 0, message: message}, _}}
          assert message =~ "somebody else told it to by SIGTERM"
        end)

      assert log =~ ~r/server=.* GenServer #{Regex.escape(inspect(server))} terminating/
    end

    test "that cannot be started again says why in the log, once for each attempt", context do
      Process.flag(:trap_exit, true)
      path = temporary_path("pools.toml")
      on_exit(fn -> File.rm!(path) end)
      File.write!(path, "[[pools]]\nname = \"default\"\nadapter = \"none\"\n")
      children = [{SnakepitPort, name: name(context), logs: false, config: path}]
      # However long an attempt takes.
      often = [max_restarts: 1, max_seconds: 3600]

      log =
        capture_log(fn ->
          {:ok, otp} = Supervisor.start_link(children, [strategy: :one_for_one] ++ often)
          File.write!(path, "[[pools]]\nname = \"default\"\n")
          kill(os_pid(name(context)), "KILL")
          # It has tried once.
          assert_receive {:EXIT, ^otp, :shutdown}, 20_000
        end)

      assert [_, told] = String.split(log, "#{inspect(name(context))} could not start: ")
      assert told =~ "adapter: missing"
    end

    # Both servers number their calls alike.
    @tag :capture_log
    test "that is killed leaves nobody who could take a call of the next one", context do
      server = start!(context, [[pool_size: 2]])
      :ok = SnakepitPort.await_ready(server)
      owner = Process.whereis(server)
      {:ok, before} = Link.find(server)
      endless = &Frames.call(&1, nil, "endless", Terms.encode([]), %{"stream" => 1})
      {:ok, {id, _} = stream} = LinkStream.open(before, endless)
      kill(os_pid(server), "KILL")
      await(fn -> Process.whereis(server) not in [nil, owner] end)
      :ok = SnakepitPort.await_ready(server)
      fifo = fifo!()
      call = Task.async(fn -> SnakepitPort.execute("finish_with", [fifo], server: server) end)
      {:ok, link} = Link.find(server)
      await(fn -> :ets.member(link.table, id) end)
      LinkStream.close(before, stream, self())
      assert {:error, %Error{}} = Link.request(before, &Frames.ping/1, 1000)
      assert Link.watch(before) == :ok
      File.write!(fifo, "done")
      assert Task.await(call) == {:ok, "done"}
      refute :ets.member(link.table, self())
    end

    test "that hangs is killed when it has not answered for an interval", context do
      # The beats are sent here.
      server = start!(context, [[]], heartbeat_interval: :infinity)
      :telemetry.attach(server, self())
      monitor = server |> Process.whereis() |> Process.monitor()
      os_pid = os_pid(server)

      # It answers, and that is no reason to end it.
      for _ <- 1..3 do
        send(server, :heartbeat)
        assert SnakepitPort.get_stats(server).os_pid == os_pid
      end

      kill(os_pid, "STOP")
      await(fn -> File.read!("/proc/#{os_pid}/stat") =~ ~r/\) T / end)

      call =
        Task.async(fn -> SnakepitPort.execute("echo", [1], server: server, timeout: :infinity) end)

      for _ <- 1..2, do: send(server, :heartbeat)
      assert {:error, %Error{type: :supervisor_down, message: message}} = Task.await(call)
      assert message =~ "the supervisor hung, and was killed"
      assert_receive {:DOWN, ^monitor, _, _, _}
      refute alive?(os_pid)

      assert_receive {:telemetry, [_, :supervisor, :stopped], %{uptime_ms: _},
                      %{os_pid: ^os_pid, reason: "crashed", message: ^message}}

      # The OTP supervisor starts it again.
      assert_receive {:telemetry, [_, :supervisor, :started], _, %{os_pid: other}}
      assert other != os_pid
      assert {:ok, 1} = SnakepitPort.execute("echo", [1], server: server)
    end

    test "that is stopped by SIGSTOP holds no caller, and serves again after SIGCONT", context do
      server = start!(context)
      :ok = SnakepitPort.await_ready(server)
      os_pid = os_pid(server)
      kill(os_pid, "STOP")
      await(fn -> File.read!("/proc/#{os_pid}/stat") =~ ~r/\) T / end)

      large = :binary.copy("x", 100_000)

      call = fn _ ->
        Task.async(fn -> SnakepitPort.execute("echo", [large], server: server, timeout: 100) end)
      end

      answers = 1..64 |> Enum.map(call) |> Task.await_many()
      assert Enum.all?(answers, &match?({:error, %Error{type: :timeout}}, &1))

      assert {:error, %Error{type: :timeout, message: message}} =
               Call.control(server, "stats", %{}, 50)

      assert message == "the supervisor has not answered stats within 50 ms"

      # Callers that wait longer than the stop are served after it, in spite of the busy port.
      waiting =
        for n <- 1..64,
            do: Task.async(fn -> SnakepitPort.execute("echo", [{n, large}], server: server) end)

      {:ok, link} = SnakepitPort.Link.find(server)

      await(fn -> in_progress(link) == 64 end)

      kill(os_pid, "CONT")
      assert Task.await_many(waiting, 30_000) == for(n <- 1..64, do: {:ok, {n, large}})
    end

    test "is stopped in order: running calls finish, and nothing is left", context do
      {:ok, _} = SnakepitPort.start_link(name: name(context), logs: false, config: config())
      server = name(context)
      :ok = SnakepitPort.await_ready(server)
      :ok = SnakepitPort.subscribe(server)
      os_pid = os_pid(server)
      [%{os_pid: worker}] = SnakepitPort.workers(server)
      assert alive?(os_pid) and alive?(worker)
      fifo = fifo!()

      call = Task.async(fn -> SnakepitPort.execute("finish_with", [fifo], server: server) end)

      assert_receive {:snakepit_port, :log, %{line: "begun"}}
      stop = Task.async(fn -> SnakepitPort.stop(server) end)
      # A refused call says that the stop has begun; before that the only worker is busy.
      probe = fn -> SnakepitPort.execute("add", [1, 2], server: server, queue_timeout: 0) end
      await(fn -> match?({:error, %Error{type: :shutting_down}}, probe.()) end)

      File.write!(fifo, "done")
      assert Task.await(call) == {:ok, "done"}
      assert Task.await(stop, 15_000) == :ok
      refute alive?(os_pid) or alive?(worker)
      assert Process.whereis(server) == nil
    end

    test "says how long it may take to stop, of a new configuration, too", context do
      config = fn grace -> [supervisor: [shutdown_grace_period: grace]] ++ config() end
      server = start!(context, [[]], config: config.("30s"))
      assert %{stop_timeout: :auto, stop_time: 32_500} = :sys.get_state(server)
      {:ok, _} = SnakepitPort.reload(server, config: config.("2m"))
      assert :sys.get_state(server).stop_time == 122_500
    end

    test "that is stopped does not wait for the call of a caller that died", context do
      server = name(context)
      {:ok, _} = SnakepitPort.start_link(name: server, logs: false, config: config())
      :ok = SnakepitPort.await_ready(server)
      :ok = SnakepitPort.subscribe(server)
      caller = spawn(fn -> SnakepitPort.execute("block", [], server: server) end)
      assert_receive {:snakepit_port, :log, %{line: "begun"}}
      stop = Task.async(fn -> SnakepitPort.stop(server) end)
      probe = fn -> SnakepitPort.execute("add", [1, 2], server: server, queue_timeout: 0) end
      await(fn -> match?({:error, %Error{type: :shutting_down}}, probe.()) end)
      Process.exit(caller, :kill)
      assert_receive {:snakepit_port, :log, %{line: "interrupted"}}
      assert Task.await(stop, 60_000) == :ok
    end

    test "that is stopped does not wait for a caller it had yet to hear of, and that died",
         context do
      server = name(context)
      config = [supervisor: [shutdown_grace_period: "10m"]] ++ config()
      {:ok, _} = SnakepitPort.start_link(name: server, logs: false, config: config)
      :ok = SnakepitPort.await_ready(server)
      :sys.suspend(server)
      opts = [server: server, timeout: :infinity]
      caller = spawn(fn -> SnakepitPort.execute("block", [], opts) end)
      waits = [current_function: {Link, :request, 4}, status: :waiting]
      await(fn -> Process.info(caller, [:current_function, :status]) == waits end)
      Process.exit(caller, :kill)
      assert SnakepitPort.stop(server) == :ok
    end

    test "of a script is stopped after it, whatever the script did", context do
      opts = [name: name(context), logs: false, config: config()]

      script = fn ->
        {SnakepitPort.execute!("add", [1, 2], server: name(context)), os_pid(name(context))}
      end

      assert {3, os_pid} = SnakepitPort.run_as_script(script, opts)
      refute alive?(os_pid)

      assert catch_throw(SnakepitPort.run_as_script(fn -> throw(os_pid(name(context))) end, opts))
             |> alive?() == false

      Process.flag(:trap_exit, true)
      assert SnakepitPort.run_as_script(fn -> :done end, opts) == :done
      refute_received {:EXIT, _, _}
      bad = Keyword.put(opts, :config, config([[adapter: "no_such_module_1"]]))
      assert_raise Error, ~r/no_such_module_1/, fn -> SnakepitPort.run_as_script(script, bad) end
      assert Process.whereis(name(context)) == nil
    end
  end
end
