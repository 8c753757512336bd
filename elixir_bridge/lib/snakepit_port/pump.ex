defmodule SnakepitPort.Pump do
  @moduledoc """
  The one process that waits while the supervisor does not read. See `SnakepitPort.Link`.

  `busy` is 1 from the moment somebody wakes it until it has found the outbox empty.
  """

  @doc "Starts the pump of the calling process, with which it ends."
  @spec start_link(port, :ets.tid(), :atomics.atomics_ref()) :: pid
  def start_link(port, outbox, busy) do
    owner = self()

    spawn_link(fn ->
      Process.monitor(owner)
      loop(port, outbox, busy)
    end)
  end

  @doc "Has the pump write what is in the outbox; to be called after putting something there."
  @spec wake(pid, :atomics.atomics_ref()) :: :ok
  def wake(pump, busy) do
    if :atomics.exchange(busy, 1, 1) == 0, do: send(pump, :wake)
    :ok
  end

  defp loop(port, outbox, busy) do
    receive do
      :wake -> if run(port, outbox, busy) == :ok, do: loop(port, outbox, busy)
      {:DOWN, _, _, _, _} -> :ok
    end
  end

  defp run(port, outbox, busy) do
    drain(port, outbox, busy)
  rescue
    # The port or the table is gone, so the owner is going too.
    ArgumentError -> :gone
  end

  defp drain(port, outbox, busy) do
    case :ets.first(outbox) do
      :"$end_of_table" ->
        :atomics.put(busy, 1, 0)
        if :ets.first(outbox) == :"$end_of_table", do: :ok, else: drain_again(port, outbox, busy)

      id ->
        for {_, frame} <- :ets.take(outbox, id), do: Port.command(port, frame)
        drain(port, outbox, busy)
    end
  end

  # Somebody put a frame there while `busy` still was 1, and so did not wake anybody.
  defp drain_again(port, outbox, busy) do
    :atomics.put(busy, 1, 1)
    drain(port, outbox, busy)
  end
end
