defmodule SnakepitPort.ReporterTest do
  use ExUnit.Case, async: true
  import ExUnit.CaptureLog
  alias SnakepitPort.Reporter

  defp line(text), do: :erlang.term_to_binary({:log, %{"line" => text, "level" => "info"}})

  @started :erlang.term_to_binary({:event, "worker.started", %{}, %{}})

  test "what it cannot keep up with is dropped and counted: first lines, then events" do
    reporter = Reporter.start(__MODULE__, false, nil)
    :ok = Reporter.subscribe(reporter.pid)
    :sys.suspend(reporter.pid)
    for n <- 1..10_007, do: Reporter.report(reporter, :log, line("#{n}"))
    assert {:message_queue_len, 10_000} = Process.info(reporter.pid, :message_queue_len)
    for _ <- 1..10_003, do: Reporter.report(reporter, :event, @started)
    assert {:message_queue_len, 20_000} = Process.info(reporter.pid, :message_queue_len)

    log =
      capture_log(fn ->
        :sys.resume(reporter.pid)
        for _ <- 1..10_000, do: assert_receive({:snakepit_port, :event, [_, :worker, _], _, _})
        Reporter.report(reporter, :log, line("later"))
        assert_receive {:snakepit_port, :log, %{line: "later"}}
        # Whatever is left to be told is told with its end.
        assert Reporter.finish(reporter) == :ok
      end)

    assert [_, told] = String.split(log, "dropped ")
    assert told =~ "7 log lines and 3 events"
    assert_received {:snakepit_port, :log, %{line: "10000"}}
    refute_received {:snakepit_port, :log, %{line: "10001"}}
    refute_received {:snakepit_port, :event, [_, :worker, _], _, _}
  end

  test "what was dropped is told of when it goes on for long" do
    reporter = Reporter.start(__MODULE__, false, nil)
    :sys.suspend(reporter.pid)
    for n <- 1..10_001, do: Reporter.report(reporter, :log, line("#{n}"))

    log =
      capture_log(fn ->
        :erlang.trace(reporter.pid, true, [:receive])
        :sys.resume(reporter.pid)
        assert_receive {:trace, _, :receive, :tell_drops}, 10_000
        refute :sys.get_state(reporter.pid).tells_drops?
        assert Reporter.finish(reporter) == :ok
      end)

    # Once.
    assert [_, _] = String.split(log, "dropped 1 log line:")
  end

  test "lines go to subscribers, and to Logger if that is asked for" do
    log =
      capture_log(fn ->
        for logs? <- [true, false] do
          reporter = Reporter.start(__MODULE__, logs?, nil)
          :ok = Reporter.subscribe(reporter.pid)
          text = "said with logs: #{logs?}"
          Reporter.report(reporter, :log, line(text))
          assert_receive {:snakepit_port, :log, %{line: ^text}}
          assert Reporter.finish(reporter) == :ok
        end
      end)

    assert log =~ "said with logs: true"
    refute log =~ "said with logs: false"
  end

  test "it tells of the supervisor's beginning and end", context do
    server = SnakepitPort.Support.name(context)
    :telemetry.attach(server, self())
    error = %SnakepitPort.Error{type: :supervisor_down, message: "it hung"}

    for {ending, expected} <- [
          {&Reporter.finish/1, %{reason: "shutdown"}},
          {fn _ -> exit(:shutdown) end, %{reason: "shutdown"}},
          {fn _ -> exit({error, []}) end, %{reason: "crashed", message: "it hung"}},
          {fn _ -> Process.exit(self(), :kill) end, %{reason: "crashed", message: "killed"}}
        ] do
      spawn(fn ->
        reporter = Reporter.start(server, false, 42)
        Reporter.started(reporter)
        ending.(reporter)
      end)

      from = %{os_pid: 42, server: server}
      assert_receive {:telemetry, [_, :supervisor, :started], %{}, ^from}
      ended = Map.merge(from, expected)
      assert_receive {:telemetry, [_, :supervisor, :stopped], %{uptime_ms: _}, ^ended}
    end
  end

  test "a telemetry that fails is told of once, and ends nothing", context do
    server = SnakepitPort.Support.name(context)
    failures = [fn -> raise "boom" end, fn -> exit(:boom) end, fn -> throw(:boom) end]
    reporter = Reporter.start(server, false, nil)
    :ok = Reporter.subscribe(reporter.pid)

    log =
      capture_log(fn ->
        for failure <- failures do
          :telemetry.attach(server, failure)
          Reporter.report(reporter, :event, @started)
          assert_receive {:snakepit_port, :event, [_, :worker, :started], _, _}
          # It has come to the end of it.
          :sys.get_state(reporter.pid)
        end
      end)

    assert [_, told] =
             String.split(log, ":telemetry has failed for [:snakepit_port, :worker, :started]")

    assert told =~ "(RuntimeError) boom"
    :telemetry.attach(server, self())
    Reporter.report(reporter, :event, @started)
    assert_receive {:telemetry, [_, :worker, :started], _, _}
    assert Reporter.finish(reporter) == :ok
  end

  test "what a telemetry handler has linked may crash", context do
    server = SnakepitPort.Support.name(context)
    test = self()
    :telemetry.attach(server, fn -> send(test, spawn_link(fn -> exit(:boom) end)) end)
    reporter = Reporter.start(server, false, nil)
    Reporter.report(reporter, :event, @started)
    assert_receive crashed when is_pid(crashed)
    monitor = Process.monitor(crashed)
    assert_receive {:DOWN, ^monitor, _, _, _}
    assert :sys.get_state(reporter.pid).server == server
    assert Reporter.finish(reporter) == :ok
  end

  test "it ends after its owner, when it has handed on what it was given" do
    test = self()

    spawn(fn ->
      reporter = Reporter.start(__MODULE__, false, nil)
      send(test, reporter)
      receive do: (:go -> Reporter.report(reporter, :log, line("last words")))
    end)
    |> then(fn owner ->
      assert_receive %Reporter{pid: pid}
      :ok = Reporter.subscribe(pid)
      monitor = Process.monitor(pid)
      send(owner, :go)
      assert_receive {:snakepit_port, :log, %{line: "last words"}}
      assert_receive {:DOWN, ^monitor, _, _, :normal}
    end)
  end

  # An owner that has given its reporter two events, and what it has done then.
  defp owner(server, ending) do
    test = self()

    spawn(fn ->
      reporter = Reporter.start(server, false, nil)
      send(test, reporter)
      for _ <- 1..2, do: Reporter.report(reporter, :event, @started)
      ending.(reporter)
    end)
  end

  test "it does not outlive its owner where a telemetry handler hangs", context do
    server = SnakepitPort.Support.name(context)
    test = self()
    :telemetry.attach(server, fn -> SnakepitPort.Support.say_and_wait(test, :hangs) end)
    killed = fn _ -> Process.exit(self(), :kill) end

    for ending <- [&Reporter.finish/1, killed] do
      owner(server, ending)
      assert_receive %Reporter{pid: pid}
      monitor = Process.monitor(pid)
      assert_receive :hangs
      assert_receive {:DOWN, ^monitor, _, _, :killed}, 20_000
    end
  end
end
