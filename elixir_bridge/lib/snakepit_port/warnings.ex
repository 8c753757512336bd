defmodule SnakepitPort.Warnings do
  @moduledoc """
  What Logger is told when something goes wrong: one line for an event of section 10 of the protocol that says so,
  with the metadata that Python's own lines have.

  | event | level |
  |---|---|
  | `pool.unavailable` | error, with Python's traceback |
  | `pool.reload_failed` | warning, with Python's traceback |
  | `worker.start_failed`, `worker.health_check_failed` | warning |
  | `worker.stopped` of a worker that crashed, or was killed for what it did; not for recycling and shutdown | warning |
  | `worker.thread_safety`; `worker.gil_enabled` by a module | warning |

  There are no more lines than events, and of those the supervisor sends a bounded number: it waits longer and
  longer, up to 15 s, before it tries what has failed again, and pauses a pool that crashes too often.

  A module of its own, so that Logger can be told to leave just these out:
  `Logger.put_module_level(SnakepitPort.Warnings, :none)`.
  """

  require Logger
  alias SnakepitPort.Error

  @doc "Logs an event if it tells of something that went wrong. Names and keys are as `SnakepitPort.Names` makes them."
  @spec log([atom | String.t()], map, map) :: :ok
  def log(event, measurements, metadata) do
    with {level, text} <- line(event, measurements, metadata) do
      where = metadata |> Map.take([:pool, :worker, :server]) |> Map.to_list()
      Logger.log(level, text, [{:source, "supervisor"} | where])
    end

    :ok
  end

  @doc "The line of an event, and its level; `nil` for events that tell of nothing wrong."
  @spec line([atom | String.t()], map, map) :: {Logger.level(), String.t()} | nil
  def line([:snakepit_port, :pool, :unavailable], _, metadata) do
    {:error, with_traceback("pool #{said(metadata, :pool)} is unavailable", metadata)}
  end

  def line([:snakepit_port, :pool, :reload_failed], _, metadata) do
    what = "pool #{said(metadata, :pool)}: no worker has started with the new settings"
    {:warning, with_traceback(what, metadata)}
  end

  def line([:snakepit_port, :worker, :start_failed], measurements, metadata) do
    again = "attempt #{said(measurements, :attempt)}, the next in #{ms(measurements[:retry_in_ms])}"
    warning(metadata, "did not start: #{said(metadata, :message)} (#{again})")
  end

  def line([:snakepit_port, :worker, :health_check_failed], _, metadata) do
    warning(metadata, "failed its health check: #{said(metadata, :message)}")
  end

  def line([:snakepit_port, :worker, :stopped], measurements, metadata) do
    if why = why(metadata[:reason], measurements) do
      warning(metadata, "#{why} (#{status(metadata[:status])})#{begun(metadata[:commands])}")
    end
  end

  # A Python that has a GIL anyway, whose threads were asked for: that is no mishap.
  def line([:snakepit_port, :worker, :gil_enabled], _, %{module: nil}), do: nil

  def line([:snakepit_port, :worker, event], _, metadata)
      when event in [:thread_safety, :gil_enabled] do
    {:warning, "worker #{said(metadata, :worker)}: #{said(metadata, :message)}"}
  end

  def line(_, _, _), do: nil

  defp why("crashed", _), do: "crashed"

  defp why("memory_limit", %{memory_bytes: size, memory_limit_bytes: limit})
       when is_integer(size) and is_integer(limit),
       do: "was killed: it had #{mib(size)} MiB of memory, and memory_limit_mb is #{mib(limit)}"

  defp why("memory_limit", _), do: "was killed: it had more memory than memory_limit_mb"

  defp why("cancelled", _),
    do: "was killed: it went on with a call that was cancelled or too late"

  defp why("protocol_error", _), do: "was killed: it broke the protocol"
  defp why("health_check_failed", _), do: "was replaced: it failed its health check"
  # It was to go; or a reason of a supervisor of tomorrow, which may be one, too.
  defp why(_, _), do: nil

  defp mib(bytes), do: div(bytes, 1024 * 1024)

  defp begun([_ | _] = commands) do
    if List.improper?(commands), do: "", else: "; it had begun: #{names(commands)}"
  end

  defp begun(_), do: ""

  defp names(commands) do
    commands
    |> Enum.frequencies()
    |> Enum.sort()
    |> Enum.map_join(", ", fn {command, count} ->
      name = said(%{name: command}, :name)
      if count == 1, do: name, else: "#{name} (#{count})"
    end)
  end

  defp warning(metadata, what), do: {:warning, "worker #{said(metadata, :worker)} #{what}"}

  defp with_traceback(what, metadata) do
    message = said(metadata, :message)
    %{traceback: traceback} = error = Error.from_wire(%{"traceback" => metadata[:traceback]})
    # That of a module that is not there is one line, which is in the message.
    known? = traceback != nil and String.contains?(message, String.trim(traceback))
    traceback = if known?, do: nil, else: traceback
    Exception.message(%{error | message: "#{what}: #{message}", traceback: traceback})
  end

  # What comes over the link can be any term, and must not end whoever logs it.
  defp said(map, key) do
    case map[key] do
      text when is_binary(text) -> if String.valid?(text), do: text, else: inspect(text)
      other -> inspect(other)
    end
  end

  defp ms(number) when is_number(number), do: "#{round(number)} ms"
  defp ms(other), do: inspect(other)

  # A number, the name of a signal, or this, of which nobody can say more.
  defp status("unknown"), do: "as the process that started it was killed"

  defp status(text) do
    case is_binary(text) and Integer.parse(text) do
      {_, ""} -> "exit status #{text}"
      _ -> said(%{status: text}, :status)
    end
  end
end
