defmodule SnakepitPort.Reporter do
  @moduledoc """
  Hands the supervisor's events and log lines on: to `:telemetry`, to Logger, to subscribers. Events
  that tell of something wrong go to Logger, too (`SnakepitPort.Warnings`).

  A process of its own, because telemetry handlers are the application's code and Logger may make its
  callers wait: neither must hold up answers. When it cannot keep up, what is over
  10,000 waiting reports is dropped, counted, and the number logged.

  It ends after its owner, with everything handed on that the owner gave it; but when a telemetry handler or Logger
  holds it up for more than a second then, it is killed.
  """

  use GenServer
  require Logger
  alias SnakepitPort.{Frames, Names, Warnings}

  @max_waiting 10_000
  @waiting 1
  @dropped 2

  # How long it may take for a report when its owner is gone, in ms.
  @patience 1_000

  @enforce_keys [:pid, :counts]
  defstruct @enforce_keys
  @type t :: %__MODULE__{pid: pid, counts: :counters.counters_ref()}

  @doc "Starts the reporter of the calling process."
  @spec start(atom, boolean) :: t
  def start(server, logs?) do
    counts = :counters.new(2, [])
    {:ok, pid} = GenServer.start(__MODULE__, {self(), server, logs?, counts})
    %__MODULE__{pid: pid, counts: counts}
  end

  @doc "Hands on an event or log frame. Never waits."
  @spec report(t, binary) :: :ok
  def report(%__MODULE__{pid: pid, counts: counts}, frame) do
    if :counters.get(counts, @waiting) < @max_waiting do
      :counters.add(counts, @waiting, 1)
      send(pid, {:report, frame})
    else
      :counters.add(counts, @dropped, 1)
    end

    :ok
  end

  @doc "Has it end when it has handed on what it was given, for which it waits a second. The owner is to end then."
  @spec finish(t) :: :ok
  def finish(%__MODULE__{pid: pid}) do
    GenServer.stop(pid, :normal, @patience)
  catch
    :exit, _ -> :ok
  end

  @doc """
  Sends events and log lines to the calling process from now on, until it exits. Where the reporter does not answer in
  time this exits, and the subscription is taken back when it gets to it; one of before stays.
  """
  @spec subscribe(pid) :: :ok
  def subscribe(pid) do
    call = make_ref()

    try do
      GenServer.call(pid, {:subscribe, self(), call})
    catch
      :exit, {:timeout, _} = reason ->
        # Behind what it will do all the same.
        send(pid, {:unsubscribe, self(), call})
        exit(reason)
    end
  end

  @doc "Takes `subscribe/1` back; what was sent before has arrived when this returns."
  @spec unsubscribe(pid) :: :ok
  def unsubscribe(pid), do: GenServer.call(pid, {:unsubscribe, self()})

  @impl true
  def init({owner, server, logs?, counts}) do
    # What a telemetry handler starts and links may crash.
    Process.flag(:trap_exit, true)
    Process.monitor(owner)
    watch(self(), owner, counts)
    telemetry = if Code.ensure_loaded?(:telemetry), do: :telemetry

    {:ok,
     %{
       owner: owner,
       server: server,
       logs?: logs?,
       telemetry: telemetry,
       counts: counts,
       # The call that each came with, and the monitor.
       subscribers: %{},
       failed?: false
     }}
  end

  # A handler that hangs would keep it for ever: no message reaches it, and its owner may have been killed.
  defp watch(reporter, owner, counts) do
    spawn(fn ->
      for pid <- [reporter, owner], do: Process.monitor(pid)
      # So that no code of this module is held on to meanwhile: it can be loaded anew.
      :erlang.hibernate(__MODULE__, :outlive, [reporter, owner, counts])
    end)
  end

  @doc false
  def outlive(reporter, owner, counts) do
    receive do
      {:DOWN, _, _, ^reporter, _} -> :ok
      {:DOWN, _, _, ^owner, _} -> await_end(reporter, :counters.get(counts, @waiting), counts)
    end
  end

  defp await_end(reporter, waiting, counts) do
    receive do
      {:DOWN, _, _, ^reporter, _} -> :ok
    after
      @patience ->
        case :counters.get(counts, @waiting) do
          ^waiting -> Process.exit(reporter, :kill)
          fewer -> await_end(reporter, fewer, counts)
        end
    end
  end

  @impl true
  def handle_call({:subscribe, pid, _}, _from, %{subscribers: subscribers} = state)
      when is_map_key(subscribers, pid) do
    {:reply, :ok, state}
  end

  def handle_call({:subscribe, pid, call}, _from, state) do
    {:reply, :ok, put_in(state.subscribers[pid], {call, Process.monitor(pid)})}
  end

  def handle_call({:unsubscribe, pid}, _from, state), do: {:reply, :ok, forget(state, pid)}

  @impl true
  def handle_info({:report, frame}, state) do
    :counters.sub(state.counts, @waiting, 1)
    admit_drops(state)

    {:noreply, hand_on(Frames.read(frame), state)}
  end

  def handle_info({:DOWN, _, _, owner, _}, %{owner: owner} = state), do: {:stop, :normal, state}

  def handle_info({:DOWN, _, _, pid, _}, state) do
    {:noreply, %{state | subscribers: Map.delete(state.subscribers, pid)}}
  end

  def handle_info({:unsubscribe, pid, call}, state) do
    case state.subscribers do
      %{^pid => {^call, _}} -> {:noreply, forget(state, pid)}
      _ -> {:noreply, state}
    end
  end

  def handle_info(_unexpected, state), do: {:noreply, state}

  defp forget(state, pid) do
    {subscribed, subscribers} = Map.pop(state.subscribers, pid)
    with {_call, monitor} <- subscribed, do: Process.demonitor(monitor, [:flush])
    %{state | subscribers: subscribers}
  end

  defp hand_on({:event, name, %{} = measurements, %{} = metadata}, state) when is_binary(name) do
    name = Names.event(name)
    measurements = Names.keys(measurements)
    metadata = metadata |> Names.keys() |> Map.put(:server, state.server)

    Warnings.log(name, measurements, metadata)
    publish({:snakepit_port, :event, name, measurements, metadata}, state)
    execute(name, measurements, metadata, state)
  end

  defp hand_on({:log, %{"line" => line} = entry}, state) when is_binary(line) do
    entry = Names.keys(entry)
    entry = entry |> Map.put(:level, Names.level(entry[:level])) |> Map.put(:server, state.server)

    if state.logs? do
      metadata = entry |> Map.take([:pool, :worker, :source, :server]) |> Map.to_list()
      Logger.bare_log(entry.level, entry.line, metadata)
    end

    publish({:snakepit_port, :log, entry}, state)
    state
  end

  defp hand_on(_, state) do
    Logger.warning("a log line or event that cannot be read is dropped")
    state
  end

  defp execute(_, _, _, %{telemetry: nil} = state), do: state

  # The owner ends with this process, and Python with the owner: not for a library that does not work.
  defp execute(name, measurements, metadata, state) do
    state.telemetry.execute(name, measurements, metadata)
    state
  catch
    kind, reason ->
      unless state.failed? do
        Logger.warning(
          ":telemetry has failed for #{inspect(name)}, and is tried again without a word: " <>
            Exception.format(kind, reason, __STACKTRACE__)
        )
      end

      %{state | failed?: true}
  end

  defp publish(message, state) do
    for {pid, _} <- state.subscribers, do: send(pid, message)
  end

  defp admit_drops(%{counts: counts, server: server}) do
    case :counters.get(counts, @dropped) do
      0 ->
        :ok

      n ->
        :counters.sub(counts, @dropped, n)

        Logger.warning(
          "#{inspect(server)} dropped #{n} events and log lines: Logger or a telemetry handler is " <>
            "slower than they arrive"
        )
    end
  end
end
