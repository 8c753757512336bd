defmodule SnakepitPort.Reporter do
  @moduledoc """
  Hands the supervisor's events and log lines on: to `:telemetry`, to Logger, to subscribers. Events
  that tell of something wrong go to Logger, too (`SnakepitPort.Warnings`).

  A process of its own, because telemetry handlers are the application's code and Logger may make its
  callers wait: neither must hold up answers. When it cannot keep up, what is too much is dropped and counted, and
  the number logged, once a second at most: log lines while 10,000 reports wait, events while 20,000 do. So
  no flood of lines takes an event away.

  It tells of the supervisor itself, too: `[:snakepit_port, :supervisor, :started]` and `:stopped`, by which whoever
  counts workers begins anew.

  It ends after its owner, with everything handed on that the owner gave it; but when a telemetry handler or Logger
  holds it up for more than a second then, it is killed.
  """

  use GenServer
  require Logger
  alias SnakepitPort.{Error, Frames, Names, Warnings}

  @max_waiting %{log: 10_000, event: 20_000}

  # Counters: of what waits, and of what was dropped of each kind.
  @waiting 1
  @dropped [log: 2, event: 3]

  @kinds %{log: "log line", event: "event"}

  @shutdown %{reason: "shutdown"}

  # How often it is told that something was dropped, in ms.
  @drops_told_every 1_000

  # How long it may take for a report when its owner is gone, in ms.
  @patience 1_000

  @enforce_keys [:pid, :counts]
  defstruct @enforce_keys
  @type t :: %__MODULE__{pid: pid, counts: :counters.counters_ref()}

  @doc "Starts the reporter of the calling process, which owns the port to the supervisor `os_pid`."
  @spec start(atom, boolean, pos_integer | nil) :: t
  def start(server, logs?, os_pid) do
    counts = :counters.new(3, [])
    {:ok, pid} = GenServer.start(__MODULE__, {self(), server, logs?, os_pid, counts})
    %__MODULE__{pid: pid, counts: counts}
  end

  @doc "Has it tell that the supervisor has started, and can be called. Never waits."
  @spec started(t) :: :ok
  def started(%__MODULE__{pid: pid}) do
    send(pid, :started)
    :ok
  end

  @doc "Hands on an event or log frame. Never waits."
  @spec report(t, :event | :log, binary) :: :ok
  def report(%__MODULE__{pid: pid, counts: counts}, kind, frame) do
    if :counters.get(counts, @waiting) < @max_waiting[kind] do
      :counters.add(counts, @waiting, 1)
      send(pid, {:report, frame})
    else
      :counters.add(counts, @dropped[kind], 1)
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
  def init({owner, server, logs?, os_pid, counts}) do
    Logger.metadata(server: server)
    # What a telemetry handler starts and links may crash.
    Process.flag(:trap_exit, true)
    Process.monitor(owner)
    watch(self(), owner, counts)
    telemetry = if Code.ensure_loaded?(:telemetry), do: :telemetry

    state = %{
      owner: owner,
      server: server,
      logs?: logs?,
      os_pid: os_pid,
      started_at: System.monotonic_time(:millisecond),
      telemetry: telemetry,
      counts: counts,
      # The call that each came with, and the monitor.
      subscribers: %{},
      failed?: false,
      # Whether what was dropped will be told soon.
      tells_drops?: false,
      # What `:stopped` will say, unless the owner goes otherwise.
      ending: @shutdown
    }

    {:ok, state}
  end

  @impl true
  def terminate(:normal, state) do
    tell_drops(state)
    uptime = System.monotonic_time(:millisecond) - state.started_at
    tell(:stopped, %{uptime_ms: uptime}, state.ending, state)
  end

  def terminate(_, _), do: :ok

  defp tell(what, measurements, metadata, state) do
    name = [:snakepit_port, :supervisor, what]
    metadata = Map.merge(metadata, %{os_pid: state.os_pid, server: state.server})
    publish({:snakepit_port, :event, name, measurements, metadata}, state)
    execute(name, measurements, metadata, state)
  end

  defp ending(reason) when reason in [:normal, :shutdown], do: @shutdown
  defp ending({%Error{message: message}, _}), do: %{reason: "crashed", message: message}
  defp ending(other), do: %{reason: "crashed", message: Exception.format_exit(other)}

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
    {:noreply, hand_on(Frames.read(frame), note_drops(state))}
  end

  def handle_info(:started, state), do: {:noreply, tell(:started, %{}, %{}, state)}

  def handle_info(:tell_drops, state) do
    tell_drops(state)
    {:noreply, %{state | tells_drops?: false}}
  end

  def handle_info({:DOWN, _, _, owner, reason}, %{owner: owner} = state) do
    {:stop, :normal, %{state | ending: ending(reason)}}
  end

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

  defp note_drops(%{tells_drops?: false} = state) do
    tells? = dropped(state) != []
    if tells?, do: Process.send_after(self(), :tell_drops, @drops_told_every)
    %{state | tells_drops?: tells?}
  end

  defp note_drops(state), do: state

  defp dropped(%{counts: counts}) do
    for {kind, index} <- @dropped, n = :counters.get(counts, index), n > 0, do: {kind, index, n}
  end

  defp tell_drops(state) do
    with [_ | _] = dropped <- dropped(state) do
      for {_, index, n} <- dropped, do: :counters.sub(state.counts, index, n)
      what = Enum.map_join(dropped, " and ", fn {kind, _, n} -> count(n, @kinds[kind]) end)

      Logger.warning(
        "#{inspect(state.server)} dropped #{what}: Logger or a telemetry handler is slower than they arrive"
      )
    end
  end

  defp count(1, what), do: "1 #{what}"
  defp count(n, what), do: "#{n} #{what}s"
end
