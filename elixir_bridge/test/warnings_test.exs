defmodule SnakepitPort.WarningsTest do
  @moduledoc "What goes wrong reaches Logger, with a real supervisor."
  # What Logger gets, and lets through, is everybody's.
  use ExUnit.Case, async: false
  import ExUnit.CaptureLog
  import SnakepitPort.Support
  alias SnakepitPort.{Names, Warnings}

  defp line(event, metadata, measurements \\ %{}) do
    metadata = Map.merge(%{pool: "p", worker: "p-1", message: "it is broken"}, metadata)
    Warnings.line(Names.event(event), measurements, metadata)
  end

  defp captured(fun), do: capture_log([metadata: [:pool, :worker, :source, :server]], fun)

  defp await_event(words) do
    name = [:snakepit_port | words]
    assert_receive {:snakepit_port, :event, ^name, _, metadata}, 20_000
    metadata
  end

  test "each event that tells of something wrong is a line" do
    for {event, metadata, level, text} <- [
          {"pool.unavailable", %{}, :error, "pool p is unavailable: it is broken"},
          {"pool.reload_failed", %{}, :warning,
           "pool p: no worker has started with the new settings: it is broken"},
          {"worker.health_check_failed", %{}, :warning,
           "worker p-1 failed its health check: it is broken"},
          {"worker.thread_safety", %{kind: "undeclared"}, :warning, "worker p-1: it is broken"},
          {"worker.gil_enabled", %{module: "m"}, :warning, "worker p-1: it is broken"},
          {"worker.stopped", %{reason: "crashed", status: "SIGSEGV"}, :warning,
           "worker p-1 crashed (SIGSEGV)"},
          {"worker.stopped", %{reason: "crashed", status: "unknown"}, :warning,
           "worker p-1 crashed (as the process that started it was killed)"},
          {"worker.stopped", %{reason: "crashed", status: "3"}, :warning,
           "worker p-1 crashed (exit status 3)"},
          {"worker.stopped", %{reason: "crashed", status: "3", commands: []}, :warning,
           "worker p-1 crashed (exit status 3)"},
          {"worker.stopped", %{reason: "crashed", status: "3", commands: ["nap", <<255>>, "nap"]},
           :warning, "worker p-1 crashed (exit status 3); it had begun: nap (2), <<255>>"},
          {"worker.stopped", %{reason: "crashed", status: "3", commands: [1 | 2]}, :warning,
           "worker p-1 crashed (exit status 3)"},
          {"worker.stopped", %{reason: "memory_limit", status: "SIGKILL"}, :warning,
           "worker p-1 was killed: it had more memory than memory_limit_mb (SIGKILL)"},
          {"worker.stopped", %{reason: "health_check_failed", status: "SIGKILL"}, :warning,
           "worker p-1 was replaced: it failed its health check (SIGKILL)"},
          {"worker.stopped", %{reason: "protocol_error", status: "SIGKILL"}, :warning,
           "worker p-1 was killed: it broke the protocol (SIGKILL)"},
          {"worker.stopped", %{reason: "cancelled", status: "SIGKILL"}, :warning,
           "worker p-1 was killed: it went on with a call that was cancelled or too late (SIGKILL)"}
        ] do
      assert line(event, metadata) == {level, text}
    end

    killed = %{reason: "memory_limit", status: "SIGKILL"}
    measured = %{memory_bytes: 213 * 1024 * 1024 + 5, memory_limit_bytes: 200 * 1024 * 1024}

    assert line("worker.stopped", killed, measured) ==
             {:warning,
              "worker p-1 was killed: it had 213 MiB of memory, and memory_limit_mb is 200 (SIGKILL)"}

    assert line("worker.start_failed", %{}, %{attempt: 2, retry_in_ms: 83.6}) ==
             {:warning, "worker p-1 did not start: it is broken (attempt 2, the next in 84 ms)"}
  end

  test "what tells of nothing wrong is none" do
    for {event, metadata} <- [
          {"pool.ready", %{}},
          {"worker.recycled", %{reason: "worker_died"}},
          {"worker.stopped", %{reason: "recycled", status: "0"}},
          {"worker.stopped", %{reason: "shutdown", status: "SIGTERM"}},
          {"worker.stopped", %{reason: "of_tomorrow", status: "0"}},
          {"worker.gil_enabled", %{module: nil}},
          {"worker.promoted", %{}}
        ] do
      assert line(event, metadata) == nil
    end
  end

  test "a traceback is there where it says more than the message" do
    text = "Traceback (most recent call last):\n  ...\nKeyError: 'X'\n"
    assert {:error, line} = line("pool.unavailable", %{traceback: text})

    assert line ==
             "pool p is unavailable: it is broken\n\nPython's traceback:\n" <> String.trim(text)

    told = %{message: "failed: KeyError: 'X'", traceback: "KeyError: 'X'\n"}

    assert line("pool.unavailable", told) ==
             {:error, "pool p is unavailable: failed: KeyError: 'X'"}
  end

  test "values of any kind do no harm" do
    odd = %{pool: {1}, worker: nil, message: <<255>>, traceback: 1, status: [], reason: "crashed"}

    for event <- ~w(pool.unavailable pool.reload_failed worker.stopped worker.start_failed
                    worker.health_check_failed worker.gil_enabled) do
      assert {_, text} = line(event, odd, %{attempt: {}, retry_in_ms: "soon"})
      assert String.valid?(text)
    end

    measured = %{memory_bytes: <<255>>, memory_limit_bytes: []}
    assert {_, text} = line("worker.stopped", %{reason: "memory_limit"}, measured)
    assert text =~ "it had more memory than memory_limit_mb"
  end

  test "a pool that cannot start, and a worker that crashes, are logged with where", context do
    server = name(context)

    log =
      captured(fn ->
        start!(context, [[], [name: "bad", adapter: "no_such_module_1"]])
        assert {:error, _} = SnakepitPort.await_ready(server)
        # Answered when what was told before is logged.
        :ok = SnakepitPort.subscribe(server)
        assert {:error, _} = SnakepitPort.execute("die", [], server: server)
        assert %{reason: "crashed"} = await_event([:worker, :stopped])
        # Answered by its successor.
        assert SnakepitPort.execute("add", [1, 2], server: server) == {:ok, 3}
        assert SnakepitPort.recycle(server, pool: "default") == {:ok, 1}
        assert %{reason: "recycled"} = await_event([:worker, :stopped])
      end)

    assert log =~ ~r/\[warning\] worker bad-1 did not start: .*no_such_module_1.*attempt 1/
    assert log =~ ~r/\[error\] pool bad is unavailable: .*no_such_module_1/
    assert [_, _] = String.split(log, "pool bad is unavailable")
    assert [line] = Regex.run(~r/.*crashed \(SIGKILL\)/, log)

    for there <- ["pool=default", "worker=default-1", "source=supervisor", "server=SnakepitPort"] do
      assert line =~ there
    end

    # Of workers that were to go there is nothing.
    refute log =~ ~r/worker default-\d+ was/
  end

  test "a reload that fails, and what a worker says of threads, are logged", context do
    server = start!(context, [[worker_profile: :thread]])
    :ok = SnakepitPort.await_ready(server)
    :ok = SnakepitPort.subscribe(server)

    log =
      captured(fn ->
        # Its successor tells it to those who listen now.
        checked = config([[worker_profile: :thread, thread_safety_checks: true]])
        assert {:ok, _} = SnakepitPort.reload(server, config: checked)
        name = [:snakepit_port, :worker, :thread_safety]
        assert_receive {:snakepit_port, :event, ^name, _, %{worker: "default-2"}}, 20_000
        config = config([[adapter: "no_such_module_1"]])
        assert {:ok, _} = SnakepitPort.reload(server, config: config)
        await_event([:pool, :reload_failed])
      end)

    assert log =~ ~r/\[warning\] worker default-2: adapter bridge_adapter does not say whether/
    assert log =~ ~r/\[warning\] pool default: no worker has started with the new settings: /
  end

  test "Logger's own means leave them out", context do
    on_exit(fn -> Logger.delete_module_level(Warnings) end)
    Logger.put_module_level(Warnings, :none)

    log =
      capture_log(fn ->
        server = start!(context, [[adapter: "no_such_module_1"]])
        assert {:error, _} = SnakepitPort.await_ready(server)
        :ok = SnakepitPort.subscribe(server)
      end)

    assert log == ""
  end
end
