defmodule SnakepitPort.Call do
  @moduledoc """
  One call from options to result, in the caller's process.

  The supervisor gets the timeout with the call and stops the work when it is over; its answer says
  where that was. The caller's own timer comes a little later (100 ms) and counts when there is no
  answer at all; the call is cancelled then.
  """

  alias SnakepitPort.{Error, Frames, Link, SharedMemory, Terms}

  @default_timeout 60_000
  @grace 100

  # The longest that a `receive` can wait.
  @longest 0xFFFFFFFF - @grace

  defstruct server: SnakepitPort, pool: nil, timeout: @default_timeout, wire: %{}

  @doc "Runs a command of a pool."
  @spec execute(String.t() | atom, map | list, keyword) :: {:ok, term} | {:error, Error.t()}
  def execute(command, args, opts) do
    call = options(opts, %__MODULE__{})
    command = text(command)
    frame_of = &Frames.call(&1, call.pool, command, &2, call.wire)

    with {:error, error} <- request(call.server, args, frame_of, call.timeout) do
      {:error, %{error | command: error.command || command, pool: error.pool || call.pool}}
    end
  end

  @doc "Asks the supervisor itself."
  @spec control(atom | pid, String.t(), map, timeout) :: {:ok, term} | {:error, Error.t()}
  def control(server, name, args, timeout) do
    request(server, args, &Frames.control(&1, name, &2), timeout)
  end

  defp request(server, args, frame_of, timeout) do
    with {:ok, link} <- Link.find(server) do
      case Terms.arguments(args, link) do
        {:ok, args} ->
          ask(link, &frame_of.(&1, args), timeout)

        {:files, args} ->
          answer = ask(link, &frame_of.(&1, args), timeout)
          SharedMemory.release(link.shm, link.table, {:sent, self()})
          answer

        {:error, error} ->
          {:error, error}
      end
    end
  end

  defp ask(link, frame_of, timeout) do
    with {:ok, answer} <- Link.request(link, frame_of, wait(timeout)),
         {:result, term} <- Frames.answer(answer) do
      Terms.decode(term)
    else
      {:result, id, term, names} ->
        result = Terms.decode(term, link.shm)
        Link.have_read(link, id, names)
        result

      :timeout ->
        {:error, %Error{type: :timeout, message: "no answer within #{timeout} ms"}}

      {:error, error} ->
        {:error, error}
    end
  end

  defp wait(:infinity), do: :infinity
  defp wait(ms), do: ms + @grace

  # By hand, for this runs with every call; yet a misspelt option is found.
  defp options([], call), do: call

  defp options([{:timeout, ms} | rest], call) do
    options(rest, %{call | timeout: ms, wire: Map.put(call.wire, "timeout", wire_timeout(ms))})
  end

  defp options([{:queue_timeout, ms} | rest], call) do
    options(rest, %{call | wire: Map.put(call.wire, "queue_timeout", wire_timeout(ms))})
  end

  defp options([{:pool, nil} | rest], call), do: options(rest, call)
  defp options([{:pool, pool} | rest], call), do: options(rest, %{call | pool: text(pool)})
  defp options([{:server, server} | rest], call), do: options(rest, %{call | server: server})

  defp options([other | _], _) do
    raise ArgumentError,
          "unknown option #{inspect(other)}; execute takes :server, :pool, :timeout, :queue_timeout"
  end

  defp wire_timeout(:infinity), do: nil
  defp wire_timeout(ms) when ms in 0..@longest, do: ms

  defp wire_timeout(other) do
    raise ArgumentError,
          "a timeout is a number of milliseconds or :infinity, not #{inspect(other)}"
  end

  defp text(name) when is_binary(name), do: name
  defp text(name) when is_atom(name), do: Atom.to_string(name)
end
