defmodule SnakepitPort.PeerTest do
  @moduledoc "What the bridge does when the program behind the port is not a good supervisor."
  use ExUnit.Case, async: true
  import ExUnit.CaptureLog
  import SnakepitPort.Support
  alias SnakepitPort.{Error, Link}

  defp parrot(server, raw), do: SnakepitPort.execute("parrot", [raw], server: server)

  describe "starting" do
    test "a program that exits is named with its status", context do
      assert {:error, %Error{type: :supervisor_down, status: 3} = error} =
               SnakepitPort.start_link(peer(context, "exits"))

      assert Exception.message(error) =~ "exited with status 3, before it said hello; what it wrote"
    end

    test "an interpreter without snakepit-port is named, with what to run", context do
      path = temporary_path("no_package")
      on_exit(fn -> File.rm!(path) end)

      for status <- [1, 2, 126, 127] do
        # It has read something: the port of one that has not may end before its status comes.
        File.write!(path, "#!/bin/sh\nhead -c 1 >/dev/null\nexit #{status}\n")
        File.chmod!(path, 0o755)

        assert {:error, %Error{type: :supervisor_down, status: ^status, message: message}} =
                 SnakepitPort.start_link(name: name(context), python: path, config: [])

        assert message =~ "before it said hello. Its interpreter, #{path}, has to be Python 3.11 or"
        assert [_, checkout] = Regex.run(~r/run #{path} -m pip install ([^,]+), or give/, message)
        assert File.exists?(Path.join(checkout, "pyproject.toml"))
      end
    end

    test "variables that may have kept it from starting are named, too" do
      env = %{"PYTHONHOME" => "/usr", "PYTHONPATH" => "lib", "HOME" => "/home/ada"}
      error = SnakepitPort.Program.exit_before_hello(1, "/bin/sh", env)

      assert error.message =~
               ~r/another interpreter\. If it is, .*; \$PYTHONHOME, \$PYTHONPATH may be/

      error = SnakepitPort.Program.exit_before_hello(1, "/bin/sh", %{})
      assert String.ends_with?(error.message, "another interpreter")
    end

    test "the interpreter of the checkout is none of a release's" do
      {:ok, python} = SnakepitPort.Program.interpreter(nil, %{})
      assert python =~ ~r"/\.venv/bin/python\z"
      {:ok, found} = SnakepitPort.Program.interpreter(nil, %{"RELEASE_ROOT" => "/opt/app"})
      assert found == System.find_executable("python3")
      env = %{"RELEASE_ROOT" => "/opt/app", "SNAKEPIT_PORT_PYTHON" => python}
      assert SnakepitPort.Program.interpreter(nil, env) == {:ok, python}
    end

    test "one whose status is lost is named as well" do
      # The port ends before, if it is written to what does not read any more.
      assert %Error{type: :supervisor_down, message: message} =
               SnakepitPort.Program.end_before_hello(:epipe, "/bin/sh")

      assert message =~ ~r/before it said hello \(:epipe\)\. Its interpreter, \/bin\/sh, has to be/
    end

    test "another protocol version is refused, and both are named", context do
      opts = peer(context, "version")

      assert {:error, %Error{type: :protocol_version, message: message}} =
               SnakepitPort.start_link(opts)

      assert message =~ "speaks protocol version 2, this host speaks version 1"
      await_gone(peer_pid(opts))
    end

    test "something that is no hello is a protocol error", context do
      opts = peer(context, "junk_first")
      assert {:error, %Error{type: :protocol_error}} = SnakepitPort.start_link(opts)
      await_gone(peer_pid(opts))
    end

    test "silence ends with start_timeout, and the program with it", context do
      opts = peer(context, "silent", start_timeout: 3_000)
      assert {:error, %Error{type: :timeout, message: message}} = SnakepitPort.start_link(opts)
      assert message =~ "within 3000 ms"
      await_gone(peer_pid(opts))
      # The name can be used again at once.
      assert Process.whereis(name(context)) == nil
    end

    test "under a supervisor the error is the child's", context do
      assert {:error, {%Error{type: :protocol_version}, _child}} =
               start_supervised({SnakepitPort, peer(context, "version")})
    end

    test "a name can be used once, and who traps exits gets no message of the second", context do
      server = start_peer!(context, "good")
      pid = Process.whereis(server)
      Process.flag(:trap_exit, true)
      {:links, links} = Process.info(self(), :links)
      assert SnakepitPort.start_link(peer(context, "good")) == {:error, {:already_started, pid}}

      assert_raise ArgumentError, ~r/of that name is running already/, fn ->
        SnakepitPort.run_as_script(&self/0, peer(context, "good"))
      end

      # Its exit, had it one for us, is here when the link is gone.
      await(fn -> Process.info(self(), :links) == {:links, links} end)
      refute_received {:EXIT, _, _}
    end

    @tag :capture_log
    test "who dies before the supervisor says hello takes it along", context do
      opts = peer(context, "silent", start_timeout: :infinity)
      {pid, monitor} = spawn_monitor(fn -> SnakepitPort.start_link(opts) end)
      await(fn -> File.exists?(opts[:python] <> ".pid") and peer_pid(opts) != "" end)
      server = Process.monitor(opts[:name])

      Process.exit(pid, :kill)
      assert_receive {:DOWN, ^monitor, _, _, :killed}
      assert_receive {:DOWN, ^server, _, _, :killed}, 10_000
      await_gone(peer_pid(opts))
    end

    test "one that is stopped before the supervisor says hello is gone, and its caller told",
         context do
      opts = peer(context, "silent", start_timeout: :infinity)
      start = Task.async(fn -> SnakepitPort.start_link(opts) end)
      await(fn -> File.exists?(opts[:python] <> ".pid") and peer_pid(opts) != "" end)
      # Which is no failure.
      refute capture_log(fn -> SnakepitPort.stop(opts[:name]) end) =~ "could not start"
      assert {:error, %Error{type: :supervisor_down, message: message}} = Task.await(start, 10_000)
      assert message =~ "stopped before the supervisor said hello"
      await_gone(peer_pid(opts))
    end
  end

  test "who asks again and again whether the pools have started is kept in mind once", context do
    server = start_peer!(context, "starting")
    waiting = fn -> Enum.count(:sys.get_state(server).waiting) end

    for _ <- 1..20 do
      assert {:error, %Error{type: :timeout}} = SnakepitPort.await_ready(server, 0)
    end

    assert waiting.() == 1
    # And who has died is not.
    {_, monitor} = spawn_monitor(fn -> SnakepitPort.await_ready(server, 0) end)
    assert_receive {:DOWN, ^monitor, _, _, :normal}
    await(fn -> waiting.() == 1 end)

    calls = for _ <- 1..2, do: Task.async(fn -> SnakepitPort.await_ready(server, :infinity) end)
    await(fn -> waiting.() == 3 end)
    assert SnakepitPort.execute("start", [], server: server) == {:ok, 0}
    assert Task.await_many(calls) == [:ok, :ok]
    assert waiting.() == 0
    assert SnakepitPort.await_ready(server) == :ok
    {:monitors, monitors} = Process.info(Process.whereis(server), :monitors)
    # Of its call.
    assert Enum.count(monitors, &(&1 == {:process, self()})) == 1
    refute_received _
  end

  test "a supervisor that cannot reload is not asked to, and that is said", context do
    server = start_peer!(context, "good")
    answer = SnakepitPort.reload(server, config: config())
    assert {:error, %Error{type: :unknown_control, message: message}} = answer
    assert message =~ "cannot reload" and message =~ "same release"
    assert {:error, %Error{type: :supervisor_down}} = SnakepitPort.reload(:no_such_server)
  end

  test "what is logged of a server whose supervisor was killed is the message and little more",
       context do
    opts = peer(context, "good")
    start_supervised!({SnakepitPort, opts}, restart: :temporary)
    monitor = Process.monitor(opts[:name])

    log =
      capture_log(fn ->
        assert {:error, %Error{type: :supervisor_down, signal: "SIGKILL"}} =
                 SnakepitPort.execute("kill", [], server: opts[:name])

        assert_receive {:DOWN, ^monitor, _, _, {%Error{signal: "SIGKILL"}, _}}
      end)

    # Other tests may log at the same time.
    [_, log] = String.split(log, "GenServer #{inspect(opts[:name])} terminating\n")
    [what, state | _] = String.split(log, ~r/Last message: .*\n/)

    assert what =~
             ~r/\A\*\* \(SnakepitPort.Error\) the supervisor was killed by SIGKILL \(perhaps out of memory\?\)\n/

    assert state =~ ~r/\AState: %{name: #{Regex.escape(inspect(opts[:name]))}, os_pid: \d+}/
  end

  describe "answers" do
    setup context, do: {:ok, server: start_peer!(context, "good")}

    test "are read", %{server: server} do
      assert parrot(server, :erlang.term_to_binary(%{a: [1, 2.5, "x"]})) ==
               {:ok, %{a: [1, 2.5, "x"]}}
    end

    test "in another legal encoding are read", %{server: server} do
      assert SnakepitPort.execute("wide", [], server: server) == {:ok, 7}
    end

    test "that come twice, unasked or to nobody disturb nothing", %{server: server} do
      log =
        capture_log(fn ->
          assert SnakepitPort.execute("twice", [], server: server) == {:ok, 1}
          assert SnakepitPort.execute("twice", [], server: server) == {:ok, 1}
        end)

      assert log =~ "not asked for is ignored: hello"
      refute log =~ "pong"
      assert log =~ "nobody's error"
      refute_received _
    end

    test "in chunks that were not asked for are an error of that call", %{server: server} do
      assert {:error, %Error{type: :protocol_error, command: "chunk"}} =
               SnakepitPort.execute("chunk", [], server: server)

      assert SnakepitPort.execute("wide", [], server: server) == {:ok, 7}
      refute_received _
    end

    test "with an unknown atom name it", %{server: server} do
      assert {:error, %Error{type: :decode, message: message, command: "parrot"}} =
               parrot(server, <<131, 108, 1::32, 119, 13, "never_seen_1x", 106>>)

      assert message =~ ~s(the atom "never_seen_1x")
    end

    test "that are compressed, executable, too long or no term are refused", %{server: server} do
      for {raw, why} <- [
            {:erlang.term_to_binary(List.duplicate(0, 1000), [:compressed]), "a compressed term"},
            {:erlang.term_to_binary(%{k: {[1 | &String.upcase/1]}}),
             "a fun that Python can have made"},
            {:erlang.term_to_binary(1) <> "xy", "2 bytes after the term"},
            {"junk", "nothing this BEAM can read"}
          ] do
        assert {:error, %Error{type: :decode, message: message}} = parrot(server, raw)
        assert message =~ why
      end

      # Of local funs the terms' table says that they come back.
      fun = fn -> :ok end
      assert parrot(server, :erlang.term_to_binary(fun)) == {:ok, fun}
    end

    test "of an error type from the future keep its name", %{server: server} do
      assert {:error, %Error{type: :unknown, message: message}} =
               SnakepitPort.execute("error", [], server: server)

      assert message == ~s[it is early (an error of type "of_tomorrow")]
    end
  end

  describe "events and logs" do
    test "reach subscribers, telemetry and Logger, without making atoms", context do
      server = start_peer!(context, "good", logs: true)
      :ok = SnakepitPort.subscribe(server)
      :ok = SnakepitPort.subscribe(server)
      :telemetry.attach(server, self())

      log =
        capture_log([metadata: [:pool, :worker, :source, :server]], fn ->
          SnakepitPort.execute("log", ["hello from p"], server: server)
          assert_receive {:snakepit_port, :log, entry}

          assert entry == %{
                   pool: "p",
                   worker: "p-1",
                   source: "stdout",
                   level: :warning,
                   line: "hello from p",
                   server: server
                 }
        end)

      [line] = for line <- String.split(log, "\n"), line =~ "hello from p", do: line
      for part <- ~w(pool=p worker=p-1 source=stdout server=), do: assert(line =~ part)

      name = [:snakepit_port, :worker, :started]
      metadata = %{:pool => "p", :server => server, "colour" => "red"}
      assert_receive {:snakepit_port, :event, ^name, %{startup_ms: 3}, ^metadata}
      assert_receive {:telemetry, ^name, %{startup_ms: 3}, ^metadata}
      refute_received {:snakepit_port, _, _}
      refute_received {:snakepit_port, :event, _, _, _}
    end

    test "that cannot be read are dropped", context do
      server = start_peer!(context, "good")
      :ok = SnakepitPort.subscribe(server)

      log =
        capture_log(fn ->
          SnakepitPort.execute("bad_log", [], server: server)
          SnakepitPort.execute("log", ["x"], server: server)
          assert_receive {:snakepit_port, :log, %{line: "x"}}
        end)

      assert length(String.split(log, "cannot be read is dropped")) == 3
    end

    @tag :capture_log
    test "cannot be had of a reporter that is held up, or gone", context do
      server = start!(context)
      {:ok, link} = Link.find(server)
      subscribe = fn -> SnakepitPort.subscribe(server) end
      # One that had subscribed before goes on.
      {:ok, subscribed} = Agent.start_link(subscribe)
      :sys.suspend(link.reporter)
      again = Task.async(fn -> Agent.get(subscribed, fn :ok -> subscribe.() end, :infinity) end)
      assert {:error, %Error{type: :timeout}} = subscribe.()
      assert {:error, %Error{type: :timeout}} = Task.await(again, 20_000)
      :sys.resume(link.reporter)
      assert Map.keys(:sys.get_state(link.reporter).subscribers) == [subscribed]
      assert {:monitors, monitors} = Process.info(link.reporter, :monitors)
      refute {:process, self()} in monitors

      :sys.replace_state(server, fn state ->
        :ets.insert(link.table, {:link, %{link | reporter: spawn(fn -> :ok end)}})
        state
      end)

      assert {:error, %Error{type: :supervisor_down}} = SnakepitPort.subscribe(server)
    end

    test "stop when the subscriber says so, and only for that", context do
      server = start_peer!(context, "good")
      assert SnakepitPort.unsubscribe(server) == :ok
      :ok = SnakepitPort.subscribe(server)
      {:ok, link} = Link.find(server)
      other = Agent.start_link(fn -> SnakepitPort.subscribe(server) end) |> elem(1)
      assert SnakepitPort.unsubscribe(server) == :ok
      SnakepitPort.execute("log", ["x"], server: server)
      # It has handed on what came before the answer.
      assert Map.keys(:sys.get_state(link.reporter).subscribers) == [other]
      refute_received {:snakepit_port, _, _}
      refute_received {:snakepit_port, :event, _, _, _}

      assert Process.info(link.reporter, :monitors)
             |> elem(1)
             |> Enum.count(&(&1 == {:process, self()})) == 0

      assert {:error, %Error{type: :supervisor_down}} = SnakepitPort.unsubscribe(:no_such_server)
    end

    test "stop when the subscriber is gone", context do
      server = start_peer!(context, "good")
      {:ok, link} = Link.find(server)

      {pid, monitor} =
        spawn_monitor(fn ->
          :ok = SnakepitPort.subscribe(server)
        end)

      assert_receive {:DOWN, ^monitor, _, ^pid, :normal}
      # The reporter may hear of a death after this process has.
      await(fn -> Enum.empty?(:sys.get_state(link.reporter).subscribers) end)
    end
  end

  describe "giving up" do
    setup context do
      server = start_peer!(context, "good")
      :ok = SnakepitPort.subscribe(server)
      {:ok, server: server}
    end

    test "a timeout cancels the call, and the late answer goes nowhere", %{server: server} do
      assert {:error, %Error{type: :timeout, command: "never", pool: "p"}} =
               SnakepitPort.execute("never", [], server: server, pool: :p, timeout: 0)

      assert_receive {:snakepit_port, :event, [_, "peer", "called"], %{id: id}, _}
      assert_receive {:snakepit_port, :event, [_, "peer", "cancelled"], %{id: ^id}, _}
      refute_received {_alias, _frame}
      {:ok, link} = Link.find(server)
      assert :ets.lookup(link.table, id) == []
    end

    test "a caller that dies has its call cancelled, and no other", %{server: server} do
      other = Task.async(fn -> SnakepitPort.execute("never", [], server: server) end)
      assert_receive {:snakepit_port, :event, [_, "peer", "called"], %{id: kept}, _}

      {pid, monitor} = spawn_monitor(fn -> SnakepitPort.execute("never", [], server: server) end)
      assert_receive {:snakepit_port, :event, [_, "peer", "called"], %{id: id}, _}
      Process.exit(pid, :kill)
      assert_receive {:DOWN, ^monitor, _, _, :killed}
      assert_receive {:snakepit_port, :event, [_, "peer", "cancelled"], %{id: ^id}, _}

      {:ok, link} = Link.find(server)
      assert [_] = :ets.lookup(link.table, kept)
      assert :ets.lookup(link.table, pid) == []
      refute_received {:snakepit_port, :event, [_, "peer", "cancelled"], _, _}
      Task.shutdown(other, :brutal_kill)
    end
  end

  describe "a supervisor that goes" do
    test "fails all calls with its status", context do
      server = start_peer!(context, "good")
      :ok = SnakepitPort.subscribe(server)

      waiting =
        for _ <- 1..5,
            do:
              Task.async(fn ->
                SnakepitPort.execute("never", [], server: server, timeout: :infinity)
              end)

      for _ <- 1..5, do: assert_receive({:snakepit_port, :event, [_, "peer", "called"], _, _})
      monitor = Process.monitor(server)

      log =
        capture_log(fn ->
          assert {:error, %Error{type: :supervisor_down, status: 9, command: "exit"}} =
                   SnakepitPort.execute("exit", [], server: server)

          for answer <- Task.await_many(waiting) do
            assert {:error, %Error{type: :supervisor_down, status: 9}} = answer
          end

          assert_receive {:DOWN, ^monitor, _, _, _}
        end)

      assert log =~ "the supervisor exited with status 9"

      assert {:error, %Error{type: :supervisor_down, message: message}} =
               SnakepitPort.execute("parrot", [], server: server)

      assert message =~ "is running"
      assert_raise Error, fn -> SnakepitPort.get_stats(server) end
      assert {:error, %Error{type: :supervisor_down}} = SnakepitPort.await_ready(server)
      assert {:error, %Error{type: :supervisor_down}} = SnakepitPort.subscribe(server)
      assert SnakepitPort.stop(server) == :ok
    end

    @tag :capture_log
    test "by a signal has it named", context do
      server = start_peer!(context, "good")

      assert {:error, %Error{type: :supervisor_down, signal: "SIGKILL"}} =
               SnakepitPort.execute("kill", [], server: server)
    end

    @tag :capture_log
    test "has who waits for the pools told why", context do
      server = start_peer!(context, "starting")
      call = Task.async(fn -> SnakepitPort.await_ready(server, :infinity) end)
      await(fn -> map_size(:sys.get_state(server).waiting) == 1 end)
      kill(os_pid(server), "KILL")
      assert {:error, %Error{type: :supervisor_down, signal: "SIGKILL"}} = Task.await(call)
    end

    @tag :capture_log
    test "with its server, which is stopped or killed, has who waits for the pools told that",
         context do
      for {reason, told} <- [
            {:normal, "the SnakepitPort server was stopped before"},
            {:shutdown, "the SnakepitPort server was stopped before"},
            {:kill, "the SnakepitPort server stopped: killed"}
          ] do
        server = start_peer!(context, "starting")
        call = Task.async(fn -> SnakepitPort.await_ready(server, :infinity) end)
        await(fn -> map_size(:sys.get_state(server).waiting) == 1 end)

        if reason == :kill,
          do: Process.exit(Process.whereis(server), :kill),
          else: GenServer.stop(server, reason)

        assert {:error, %Error{type: :supervisor_down, message: message}} = Task.await(call)
        assert message =~ told
        stop_supervised(server)
      end
    end

    @tag :capture_log
    test "while it is written to fails its calls", context do
      server = start_peer!(context, "good")
      :ok = SnakepitPort.subscribe(server)
      os_pid = os_pid(server)
      execute = &SnakepitPort.execute(&1, [], server: server, timeout: :infinity)
      calls = for command <- ~w(never close_input), do: Task.async(fn -> execute.(command) end)
      assert_receive {:snakepit_port, :event, [_, "peer", "closed"], _, _}
      calls = [Task.async(fn -> execute.("never") end) | calls]

      for answer <- Task.await_many(calls) do
        assert {:error, %Error{type: :supervisor_down}} = answer
      end

      await_gone(os_pid)
    end

    @tag :capture_log
    test "because it sent garbage is killed", context do
      server = start_peer!(context, "good")
      os_pid = os_pid(server)
      assert alive?(os_pid)

      assert {:error, %Error{type: :protocol_error}} =
               SnakepitPort.execute("junk", [], server: server)

      # Its exit status is not awaited by those who call; a port of ours can wait for it.
      await_gone(os_pid)
    end
  end

  describe "a supervisor that does not read" do
    setup context, do: {:ok, server: start_peer!(context, "deaf")}

    test "cannot hold callers past their timeouts, nor the owner, nor fill the memory", context do
      %{server: server} = context
      large = :binary.copy("x", 200_000)
      call = fn -> SnakepitPort.execute("never", [large], server: server, timeout: 50) end

      for _round <- 1..3 do
        answers = 1..20 |> Enum.map(fn _ -> Task.async(call) end) |> Task.await_many()
        assert Enum.all?(answers, &match?({:error, %Error{type: :timeout}}, &1))
      end

      {:ok, link} = Link.find(server)
      assert :sys.get_state(server).port == link.port
      # Nothing but cancels of the calls that were written; and the pump was not woken for each.
      assert :ets.foldl(fn {_, frame}, sum -> sum + IO.iodata_length(frame) end, 0, link.outbox) <
               1000

      assert {:message_queue_len, n} = Process.info(link.pump, :message_queue_len)
      assert n <= 1
      assert in_progress(link) == 0
    end

    test "has waiting calls of dead callers forgotten", %{server: server} do
      {:ok, link} = Link.find(server)
      large = :binary.copy("x", 500_000)
      call = fn -> SnakepitPort.execute("never", [large], server: server) end
      callers = for _ <- 1..4, do: spawn_monitor(call)

      await(fn -> in_progress(link) == 4 end)

      for {pid, monitor} <- callers do
        Process.exit(pid, :kill)
        assert_receive {:DOWN, ^monitor, _, _, :killed}
      end

      # The owner may hear of a death after this process has.
      await(fn -> in_progress(link) == 0 end)

      # It takes a call from the table first, and then from the outbox.
      :sys.get_state(server)

      assert :ets.foldl(fn {_, frame}, sum -> sum + IO.iodata_length(frame) end, 0, link.outbox) <
               1000
    end
  end

  test "a call over the supervisor's max_frame_bytes is refused before it is sent", context do
    server = start_peer!(context, "good")

    assert {:error, %Error{type: :frame_too_large, message: message}} =
             SnakepitPort.execute("parrot", [:binary.copy("x", 1_048_576)], server: server)

    assert message =~ "the supervisor accepts 1048576"
  end

  test "a supervisor that will not stop is killed", context do
    server = start_peer!(context, "stubborn", stop_timeout: 50)
    os_pid = os_pid(server)
    assert alive?(os_pid)
    {:ok, link} = Link.find(server)
    call = Task.async(fn -> SnakepitPort.execute("never", [], server: server) end)
    await(fn -> in_progress(link) == 1 end)
    log = capture_log(fn -> assert SnakepitPort.stop(server) == :ok end)

    assert log =~
             ~r/the supervisor has not stopped within 50 ms, .* configuration lets it take 60000 ms/

    assert {:error, %Error{message: "the SnakepitPort server was stopped before" <> _}} =
             Task.await(call)

    await_gone(os_pid)
  end

  test "that is so after what its configuration takes, where nothing else is said", context do
    server = start_peer!(context, "stubborn_at_once")
    os_pid = os_pid(server)
    log = capture_log(fn -> assert SnakepitPort.stop(server) == :ok end)
    assert log =~ "the supervisor has not stopped within 3000 ms, and was killed"
    refute log =~ "stop_timeout"
    await_gone(os_pid)
  end
end
