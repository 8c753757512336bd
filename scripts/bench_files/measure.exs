# The BEAM's side of the benchmark: scripts/bench runs it once for each group of figures, with
#
#     ADAPTER-FOLDER RELAY REPETITIONS SCALE GROUP
#
# and reads from stdout one measurement a line, `SERIES NUMBER`. Series that are compared with each
# other take turns, so that whatever else the machine does meanwhile falls on all of them.
defmodule Echo do
  @moduledoc "The references' side: as little as a caller of a port can do."

  def open(program, args) do
    Port.open({:spawn_executable, program}, [:binary, packet: 4, args: args])
  end

  @doc "By the owner of the port."
  def call(port, term) do
    Port.command(port, :erlang.term_to_binary(term))

    receive do
      {^port, {:data, data}} -> :erlang.binary_to_term(data)
    end
  end

  @doc """
  By many processes, each with a number of its own, all writing to the port themselves. `owner` is a
  process that runs `deliver/2`.
  """
  def call(port, number, term) do
    Port.command(port, [<<number::32>>, :erlang.term_to_binary(term)])

    receive do
      {:echo, data} -> :erlang.binary_to_term(data)
    end
  end

  def deliver(port, callers) do
    receive do
      {^port, {:data, <<number::32, data::binary>>}} ->
        send(elem(callers, number), {:echo, data})
        deliver(port, callers)

      {:callers, callers} ->
        deliver(port, callers)
    end
  end
end

defmodule Relay do
  @moduledoc "The same for a worker behind the relay: it is greeted, and called, as a pool would."
  alias SnakepitPort.{Frames, Terms}

  def open(relay, python, boot, adapter_folder) do
    port = Echo.open(relay, [python, boot])

    hello = %{
      "software" => "bench",
      "max_frame_bytes" => 0x10000000,
      "max_answer_bytes" => 0x10000000,
      "pool" => "relay",
      "worker" => "relay-1",
      "adapter" => "adapter",
      "adapter_args" => [],
      "python_path" => [adapter_folder],
      "direct_calls" => [],
      "tools" => false
    }

    Port.command(port, Frames.hello(hello))
    {:hello, _, _} = receive_frame(port)
    {:ready, _} = receive_frame(port)
    port
  end

  defp receive_frame(port) do
    receive do
      {^port, {:data, frame}} -> Frames.read(frame)
    end
  end

  def call(port, id, term) do
    Port.command(port, Frames.call(id, nil, "echo", Terms.encode([term]), %{}))

    receive do
      {^port, {:data, frame}} ->
        {:result, result} = Frames.answer(frame)
        {:ok, ^term} = Terms.decode(result)
    end
  end
end

defmodule Measure do
  @small %{"a" => 1, "b" => [1, 2, 3], "c" => "hello world"}
  @callers 64
  @mib 1024 * 1024

  def main([folder, relay, repetitions, scale, group]) do
    # What is read from stdout is measurements.
    Logger.configure(level: :none)

    context = %{
      folder: folder,
      relay: relay,
      python: System.fetch_env!("SNAKEPIT_PORT_PYTHON"),
      repetitions: String.to_integer(repetitions),
      scale: String.to_float(scale)
    }

    measure(group, context)
  end

  # -- one caller ---------------------------------------------------------------------------------

  defp measure(group, context) when group in ["one_caller", "one_core"] do
    calls = scaled(context, 2_000)
    echo = echo(context)
    serve(context, [pool("default", 1)])

    relay =
      if context.relay != "" do
        boot = Path.join(package(context), "worker/boot.py")
        port = Relay.open(context.relay, context.python, boot, context.folder)
        [{"#{group}_relay", fn -> each(calls, &Relay.call(port, &1 + 255, @small)) end}]
      else
        []
      end

    in_turns(
      context,
      [
        {group, fn -> each(calls, fn _ -> execute(@small) end) end},
        {"#{group}_echo", fn -> each(calls, fn _ -> Echo.call(echo, @small) end) end}
      ] ++ relay
    )
  end

  # -- many callers -------------------------------------------------------------------------------

  defp measure("callers", context) do
    calls = scaled(context, 20_000)
    deliver = deliver(context)
    serve(context, [pool("two", 2), pool("one", 1)])

    in_turns(context, [
      {"callers_2_workers", fn -> rate(calls, &execute(@small, pool: "two", number: &1)) end},
      {"callers_1_worker", fn -> rate(calls, &execute(@small, pool: "one", number: &1)) end},
      {"callers_echo", fn -> echo_rate(calls, deliver) end}
    ])
  end

  defp measure("stream", context) do
    count = scaled(context, 20_000)
    serve(context, [pool("default", 1)])

    in_turns(context, [
      {"stream", fn -> chunk_rate(count) end},
      {"stream_calls", fn -> rate(count, fn _ -> execute(@small) end) end}
    ])
  end

  defp measure("pools", context) do
    calls = scaled(context, 20_000)
    serve(context, [pool("default", 2)], :alone)
    beside = for n <- 1..32, do: pool("beside_#{n}", 8)
    serve(context, [pool("default", 2) | beside], :beside)

    in_turns(context, [
      {"pools_1", fn -> rate(calls, fn _ -> execute(@small, server: :alone) end) end},
      {"pools_33", fn -> rate(calls, fn _ -> execute(@small, server: :beside) end) end}
    ])
  end

  defp measure("broken", context) do
    calls = scaled(context, 20_000)
    pools = [pool("even", 1), pool("odd", 1)]
    serve(context, pools, :whole)
    broken = %{pool("broken", 1) | "adapter" => "no_such_adapter"}
    start(context, [broken | pools], :broken, %{})
    {:error, _} = SnakepitPort.await_ready(:broken, 60_000)

    call = fn server ->
      fn number ->
        pool = if rem(number, 2) == 0, do: "even", else: "odd"
        execute(@small, server: server, pool: pool)
      end
    end

    in_turns(context, [
      {"beside_broken", fn -> rate(calls, call.(:broken)) end},
      {"without_broken", fn -> rate(calls, call.(:whole)) end}
    ])
  end

  # -- large values -------------------------------------------------------------------------------

  defp measure("bytes", context) do
    echo = echo(context)
    serve(context, [pool("default", 1)], SnakepitPort, %{"max_frame_bytes" => "256MiB"})

    for {name, size, calls} <- [{"bytes_1m", @mib, 20}, {"bytes_64m", 64 * @mib, 1}] do
      value = SnakepitPort.bytes(:binary.copy("x", size))
      calls = scaled(context, calls)

      in_turns(context, [
        {name, fn -> each(calls, fn _ -> execute(value) end) end},
        {"#{name}_echo", fn -> each(calls, fn _ -> ^value = Echo.call(echo, value) end) end}
      ])
    end
  end

  defp measure("floats", context) do
    echo = echo(context, ["erlpack"])
    serve(context, [pool("default", 1)])
    value = for n <- 1..100_000, do: n * 1.1

    in_turns(context, [
      {"floats", fn -> each(3, fn _ -> execute(value) end) end},
      {"floats_echo", fn -> each(3, fn _ -> ^value = Echo.call(echo, value) end) end}
    ])
  end

  # -- starting, memory ---------------------------------------------------------------------------

  defp measure("start", context) do
    # Many, unless it is only to see that it works.
    workers = min(scaled(context, 2_500), 250)

    for n <- 1..min(context.repetitions, 5) do
      gate = Path.join(System.fetch_env!("TMPDIR"), "meet_#{n}")
      File.mkdir!(gate)
      began = now()
      start(context, [Map.put(pool("default", workers), "queue_timeout", "60s")], SnakepitPort, %{})

      pids =
        1..workers
        |> Enum.map(fn _ ->
          Task.async(fn ->
            SnakepitPort.execute!("meet", [gate, workers], timeout: 60_000)
          end)
        end)
        |> Task.await_many(60_000)

      say("start", seconds(began))
      true = length(Enum.uniq(pids)) == workers
      SnakepitPort.stop()
    end
  end

  defp measure("memory", context) do
    for _ <- 1..min(context.repetitions, 5) do
      serve(context, [pool("default", 8)])
      for worker <- SnakepitPort.workers(), do: say("idle_pss", pss(worker.os_pid) / @mib)
      SnakepitPort.stop()
    end
  end

  defp measure("growth", context) do
    serve(context, [pool("default", 2)])
    first = scaled(context, 10_000)
    rate(first, fn _ -> execute(@small) end)
    before = rss()
    for _ <- 1..99, do: rate(first, fn _ -> execute(@small) end)
    say("growth", (rss() - before) / @mib)
  end

  # -- how ----------------------------------------------------------------------------------------

  defp in_turns(context, series) do
    # Everything is looked up, compiled and warm before it counts.
    for {_, run} <- series, do: run.()

    for n <- 1..context.repetitions do
      turn = if rem(n, 2) == 0, do: series, else: Enum.reverse(series)
      for {name, run} <- turn, do: say(name, run.())
    end
  end

  @doc "Seconds that each of some calls takes, one after the other."
  def each(calls, call) do
    began = now()
    for n <- 1..calls, do: call.(n)
    seconds(began) / calls
  end

  @doc "Calls a second that processes make together."
  def rate(calls, call) do
    each = max(div(calls, @callers), 1)
    began = now()

    1..@callers
    |> Enum.map(fn number -> Task.async(fn -> for _ <- 1..each, do: call.(number) end) end)
    |> Task.await_many(:infinity)

    each * @callers / seconds(began)
  end

  @doc "Chunks a second of one stream."
  def chunk_rate(count) do
    began = now()
    ^count = SnakepitPort.stream("repeat", [@small, count]) |> Enum.count()
    count / seconds(began)
  end

  defp deliver(context) do
    parent = self()

    owner =
      spawn_link(fn ->
        port = echo(context)
        send(parent, {:port, port})
        Echo.deliver(port, {})
      end)

    receive do
      {:port, port} -> {owner, port}
    end
  end

  defp echo_rate(calls, {owner, port}) do
    each = max(div(calls, @callers), 1)

    callers =
      for number <- 0..(@callers - 1) do
        Task.async(fn ->
          receive do
            :go -> for _ <- 1..each, do: Echo.call(port, number, @small)
          end
        end)
      end

    send(owner, {:callers, callers |> Enum.map(& &1.pid) |> List.to_tuple()})
    began = now()
    for caller <- callers, do: send(caller.pid, :go)
    Task.await_many(callers, :infinity)
    each * @callers / seconds(began)
  end

  defp execute(value, opts \\ []) do
    {:ok, ^value} = SnakepitPort.execute("echo", [value], Keyword.delete(opts, :number))
  end

  defp serve(context, pools, name \\ SnakepitPort, supervisor \\ %{}) do
    start(context, pools, name, supervisor)
    :ok = SnakepitPort.await_ready(name, 60_000)
  end

  defp start(context, pools, name, supervisor) do
    pools = for pool <- pools, do: Map.put(pool, "python_path", [context.folder])
    config = %{"supervisor" => supervisor, "pools" => pools}
    {:ok, _} = SnakepitPort.start_link(config: config, name: name)
  end

  defp pool(name, workers), do: %{"name" => name, "adapter" => "adapter", "pool_size" => workers}

  defp echo(context, args \\ []) do
    Echo.open(context.python, [Path.join(context.folder, "echo.py") | args])
  end

  defp package(context), do: Path.expand("../../snakepit_port", context.folder)

  defp pss(os_pid) do
    [_, kib] = Regex.run(~r/^Pss: +(\d+) kB/m, File.read!("/proc/#{os_pid}/smaps_rollup"))
    String.to_integer(kib) * 1024
  end

  defp rss do
    status = File.read!("/proc/#{SnakepitPort.get_stats().os_pid}/status")
    [_, kib] = Regex.run(~r/^VmRSS:\s+(\d+) kB/m, status)
    String.to_integer(kib) * 1024
  end

  defp scaled(context, count), do: max(round(count * context.scale), 1)
  defp now, do: System.monotonic_time()

  defp seconds(began),
    do: System.convert_time_unit(now() - began, :native, :nanosecond) / 1_000_000_000

  defp say(series, number), do: IO.puts("#{series} #{number}")
end

Measure.main(System.argv())
System.halt(0)
