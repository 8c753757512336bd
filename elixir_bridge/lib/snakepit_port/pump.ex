defmodule SnakepitPort.Pump do
  @moduledoc """
  The one process that waits while the supervisor does not read. See `SnakepitPort.Link`.

  `busy` is 1 from the moment somebody wakes it until it has found the outbox empty.
  """

  # Most of the time it waits, in OTP's loop: code of this module can be loaded anew then.
  use GenServer

  @doc "Starts the pump of the calling process, with which it ends."
  @spec start_link(port, :ets.tid(), :atomics.atomics_ref()) :: pid
  def start_link(port, outbox, busy) do
    {:ok, pump} = GenServer.start_link(__MODULE__, {self(), {port, outbox, busy}})
    pump
  end

  @doc "Has the pump write what is in the outbox; to be called after putting something there."
  @spec wake(pid, :atomics.atomics_ref()) :: :ok
  def wake(pump, busy) do
    if :atomics.exchange(busy, 1, 1) == 0, do: send(pump, :wake)
    :ok
  end

  @impl true
  def init({owner, state}) do
    # The link ends it only when the owner does not end normally.
    Process.monitor(owner)
    {:ok, state}
  end

  @impl true
  def handle_info(:wake, state) do
    drain(state)
    {:noreply, state}
  rescue
    # The port or the table is gone, so the owner is going too.
    ArgumentError -> {:stop, :normal, state}
  end

  def handle_info({:DOWN, _, _, _, _}, state), do: {:stop, :normal, state}

  defp drain({port, outbox, _busy} = state) do
    case :ets.first(outbox) do
      :"$end_of_table" ->
        rest(state)

      id ->
        for {_, frame} <- :ets.take(outbox, id), do: Port.command(port, frame)
        drain(state)
    end
  end

  @doc false
  def rest({_port, outbox, busy} = state) do
    :atomics.put(busy, 1, 0)

    # Somebody may have put a frame there while `busy` still was 1, and so not have waked anybody.
    if :ets.first(outbox) != :"$end_of_table" do
      :atomics.put(busy, 1, 1)
      drain(state)
    end
  end
end
