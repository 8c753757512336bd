defmodule SnakepitPort.ReporterTest do
  use ExUnit.Case, async: true
  import ExUnit.CaptureLog
  alias SnakepitPort.Reporter

  defp line(text), do: :erlang.term_to_binary({:log, %{"line" => text, "level" => "info"}})

  test "what it cannot keep up with is dropped and counted; it does not pile up" do
    reporter = Reporter.start(__MODULE__, false)
    :ok = Reporter.subscribe(reporter.pid)
    :sys.suspend(reporter.pid)
    for n <- 1..10_007, do: Reporter.report(reporter, line("#{n}"))
    assert {:message_queue_len, 10_000} = Process.info(reporter.pid, :message_queue_len)

    log =
      capture_log(fn ->
        :sys.resume(reporter.pid)
        assert_receive {:snakepit_port, :log, %{line: "10000"}}
        Reporter.report(reporter, line("later"))
        assert_receive {:snakepit_port, :log, %{line: "later"}}
      end)

    assert log =~ "dropped 7 events and log lines"
    refute_received {:snakepit_port, :log, %{line: "10001"}}
    assert Reporter.finish(reporter) == :ok
  end

  test "a telemetry that fails is told of once, and ends nothing", context do
    server = SnakepitPort.Support.name(context)
    failures = [fn -> raise "boom" end, fn -> exit(:boom) end, fn -> throw(:boom) end]
    event = :erlang.term_to_binary({:event, "worker.started", %{}, %{}})
    reporter = Reporter.start(server, false)
    :ok = Reporter.subscribe(reporter.pid)

    log =
      capture_log(fn ->
        for failure <- failures do
          :telemetry.attach(server, failure)
          Reporter.report(reporter, event)
          assert_receive {:snakepit_port, :event, [_, :worker, :started], _, _}
          # It has come to the end of it.
          :sys.get_state(reporter.pid)
        end
      end)

    assert [_, told] =
             String.split(log, ":telemetry has failed for [:snakepit_port, :worker, :started]")

    assert told =~ "(RuntimeError) boom"
    :telemetry.attach(server, self())
    Reporter.report(reporter, event)
    assert_receive {:telemetry, [_, :worker, :started], _, _}
    assert Reporter.finish(reporter) == :ok
  end

  test "what a telemetry handler has linked may crash", context do
    server = SnakepitPort.Support.name(context)
    test = self()
    :telemetry.attach(server, fn -> send(test, spawn_link(fn -> exit(:boom) end)) end)
    reporter = Reporter.start(server, false)
    Reporter.report(reporter, :erlang.term_to_binary({:event, "worker.started", %{}, %{}}))
    assert_receive crashed when is_pid(crashed)
    monitor = Process.monitor(crashed)
    assert_receive {:DOWN, ^monitor, _, _, _}
    assert :sys.get_state(reporter.pid).server == server
    assert Reporter.finish(reporter) == :ok
  end

  test "it ends after its owner, when it has handed on what it was given" do
    test = self()

    spawn(fn ->
      reporter = Reporter.start(__MODULE__, false)
      send(test, reporter)
      receive do: (:go -> Reporter.report(reporter, line("last words")))
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
      reporter = Reporter.start(server, false)
      send(test, reporter)
      event = :erlang.term_to_binary({:event, "worker.started", %{}, %{}})
      for _ <- 1..2, do: Reporter.report(reporter, event)
      ending.(reporter)
    end)
  end

  test "it does not outlive its owner where a telemetry handler hangs", context do
    server = SnakepitPort.Support.name(context)
    test = self()
    :telemetry.attach(server, fn -> send(test, :hangs) && receive(do: (:never -> :ok)) end)
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
