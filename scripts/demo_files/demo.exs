# The host's side of the demo: scripts/demo runs it with CONFIG FILES PROGRESS.
defmodule Demo do
  @batch 200
  # Errors that are told one by one.
  @shown 3

  def main([config, limit, progress]) do
    SnakepitPort.run_as_script(fn -> run(String.to_integer(limit), progress) end, config: config)
  end

  defp run(limit, progress) do
    paths = SnakepitPort.execute!("library", [limit], pool: "parse")
    IO.puts("#{length(paths)} files of the standard library, two workers")

    {seconds, {report, failures}} =
      timed(fn ->
        {reports, failures} = parse(paths, "parse", 2, progress)
        {rank(reports), failures}
      end)

    if report == nil do
      IO.puts(:stderr, "error: no file could be read")
      tell(failures)
      1
    else
      show_report(report, failures, seconds)
      compare(paths)
      tell(failures)
    end
  end

  defp show_report(report, failures, seconds) do
    workers =
      for w <- SnakepitPort.workers(), w.pool != "parse_alone", do: [w.pool, w.id, w.requests]

    table = [report, by_class(failures), workers, seconds]
    IO.puts("\n" <> SnakepitPort.execute!("table", table, pool: "rank"))
  end

  defp compare(paths) do
    IO.puts("\nparsing again, to compare")
    {one, _} = timed(fn -> parse(paths, "parse_alone", 1, "none") end)
    IO.puts("  1 worker   #{decimals(one)} s")
    {two, _} = timed(fn -> parse(paths, "parse", 2, "none") end)
    IO.puts("  2 workers  #{decimals(two)} s")
    IO.puts("  ratio      #{decimals(two / one)} (at most 0.65 is good on two cores)")
  end

  # What a file has wrong with it is a result. That a worker died, say, is not.
  defp tell(failures) do
    errors = for {:error, %{type: type} = error} <- failures, type != :exception, do: error
    {shown, others} = Enum.split(errors, @shown)
    Enum.each(shown, &IO.puts(:stderr, "error: " <> Exception.message(&1)))
    if others != [], do: IO.puts(:stderr, "error: #{length(others)} more calls failed")
    if errors == [], do: 0, else: 1
  end

  # Enough calls at a time that no worker waits for one; far fewer than the queue takes.
  defp parse(paths, pool, workers, progress) do
    total = length(paths)

    paths
    |> Task.async_stream(&SnakepitPort.execute("parse", [&1], pool: pool),
      max_concurrency: 2 * workers + 4,
      ordered: false,
      timeout: :infinity
    )
    |> Stream.with_index(1)
    |> Enum.reduce({[], []}, fn {{:ok, answer}, done}, {reports, failures} ->
      show(progress, done, total)

      case answer do
        {:ok, report} -> {[report | reports], failures}
        {:error, _} = failure -> {reports, [failure | failures]}
      end
    end)
  end

  defp rank([]), do: nil

  defp rank(reports) do
    reports
    |> Enum.chunk_every(@batch)
    |> Enum.map(&SnakepitPort.execute!("merge", [&1], pool: "rank"))
    |> then(&SnakepitPort.execute!("merge", [&1], pool: "rank"))
  end

  defp by_class(failures) do
    failures
    |> Enum.group_by(fn {:error, error} -> error.exception || Atom.to_string(error.type) end)
    |> Enum.map(fn {class, all} ->
      [class, length(all), Enum.count(all, fn {:error, error} -> error.traceback != nil end)]
    end)
  end

  defp timed(fun) do
    start = System.monotonic_time()
    result = fun.()
    elapsed = System.monotonic_time() - start
    {System.convert_time_unit(elapsed, :native, :microsecond) / 1_000_000, result}
  end

  defp show("bar", done, total) do
    filled = div(40 * done, total)
    bar = String.duplicate("#", filled) <> String.duplicate(".", 40 - filled)
    IO.write("\r[#{bar}] #{done}/#{total}" <> if(done == total, do: "\n", else: ""))
  end

  defp show("lines", done, total) when rem(done, 500) == 0 or done == total,
    do: IO.puts("  #{done}/#{total}")

  defp show(_, _, _), do: :ok

  defp decimals(number), do: :erlang.float_to_binary(number, decimals: 2)
end

System.halt(Demo.main(System.argv()))
