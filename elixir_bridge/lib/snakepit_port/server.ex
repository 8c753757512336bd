defmodule SnakepitPort.Server do
  @moduledoc """
  Owns the port: starts the supervisor, hands out what arrives, and stops it.

  It never decodes a result (but that of a reload), never writes a call and never waits for the application's
  code; see `SnakepitPort.Link` for who does. When the supervisor goes, this process stops with the error as its
  exit reason: callers read it there, and an OTP supervisor starts the pair anew.

  **Stopping.** Closing a port is only end-of-file to the program, and loses its exit status. So to stop,
  the supervisor gets SIGTERM, which it takes as an orderly end like end-of-file; answers of calls it
  still finishes are handed out meanwhile; and its exit status says that it is gone, and all its
  workers with it. What has not gone after `stop_timeout` is killed, and that is logged.
  """

  use GenServer
  require Logger

  alias SnakepitPort.{
    Call,
    Delivery,
    Error,
    Frames,
    Handshake,
    Heartbeat,
    Link,
    Options,
    Pools,
    Program,
    Reporter,
    SharedMemory,
    Terms,
    Tools
  }

  # How much longer than the configuration lets a supervisor take to stop it is waited for, in ms. The sum of its
  # defaults is 10,500.
  @stop_margin 3_000

  @doc """
  Starts the supervisor and returns when it has said hello.

  Failing to start is `{:error, %SnakepitPort.Error{}}` for every caller, linked or not: unlike
  `GenServer.start_link/3`, this does not take a caller with it that does not trap exits. Logger gets the error, too.
  """
  @spec start_link([Options.t()]) :: {:ok, pid} | {:error, Error.t() | {:already_started, pid}}
  def start_link(opts), do: :proc_lib.start_link(__MODULE__, :boot, [self(), Options.all(opts)])

  @doc false
  def boot(parent, opts) do
    Process.flag(:trap_exit, true)
    # A burst of answers must not be copied around by this process's garbage collections.
    Process.flag(:message_queue_data, :off_heap)
    # Of several servers each line tells which it is about, that of a crash as well.
    Logger.metadata(server: opts[:name])

    case register(opts[:name]) do
      :ok ->
        case try_start(opts, parent) do
          {:ok, state} ->
            :proc_lib.init_ack(parent, {:ok, self()})
            :gen_server.enter_loop(__MODULE__, [], state, {:local, opts[:name]})

          {outcome, error} ->
            if outcome == :error, do: log_failure(opts[:name], error)
            # The name is free by the time the caller tries again.
            Process.unregister(opts[:name])
            Process.unlink(parent)
            :proc_lib.init_ack(parent, {:error, error})
            # Who waits for the pools already finds the error here.
            exit({:shutdown, {error, []}})
        end

      {:error, reason} ->
        # So that a caller who traps exits has the answer, and no message of a process it does not know.
        Process.unlink(parent)
        :proc_lib.init_ack(parent, {:error, reason})
    end
  end

  # An OTP supervisor that starts it again tells nobody why that has failed, but in reports that Elixir's Logger
  # leaves out.
  defp log_failure(name, error) do
    Logger.error("#{inspect(name)} could not start: #{Exception.message(error)}")
  end

  # Whatever cannot be done here, a working directory that was deleted for one, is no reason to take the
  # caller along.
  defp try_start(opts, parent) do
    start(opts, parent)
  rescue
    error ->
      message = "the supervisor could not be started: #{Exception.message(error)}"
      {:error, %Error{type: :config, message: message}}
  end

  defp register(name) do
    Process.register(self(), name)
    :ok
  rescue
    ArgumentError ->
      case Process.whereis(name) do
        # It has just ended.
        nil -> register(name)
        pid -> {:error, {:already_started, pid}}
      end
  end

  defp start(opts, parent) do
    with :ok <- free_table(opts[:name]),
         {:ok, port, os_pid, offer} <- Handshake.run(opts, parent) do
      reporter = Reporter.start(opts[:name], opts[:logs], os_pid)
      Process.monitor(reporter.pid)
      link = Link.create(opts[:name], port, reporter.pid, offer.max_frame_bytes, offer.shm)
      Link.note_origin(link, opts[:config], offer.base_dir, offer.capabilities)
      Link.note_call_timeouts(link, offer.call_timeouts)
      for {name, tool} <- opts[:tools], do: Tools.put(link, Call.text(name, "a tool"), tool)
      Link.publish(link)
      Reporter.started(reporter)

      {:ok,
       %{
         name: opts[:name],
         port: port,
         os_pid: os_pid,
         link: link,
         reporter: reporter,
         heartbeat: Heartbeat.start(opts[:heartbeat_interval]),
         tools: Tools.start_link(link),
         # The calls that have asked for a tool.
         asking: %{},
         stop_timeout: opts[:stop_timeout],
         # What the configuration lets it take to stop.
         stop_time: offer.stop_time,
         pools: %Pools{},
         # Who waits for the pools: a call by its process, and a monitor of that.
         waiting: %{}
       }}
    end
  end

  defp free_table(name) do
    if :ets.whereis(name) == :undefined do
      :ok
    else
      message = "name: there is an ETS table #{inspect(name)} already; give the server another name"
      {:error, %Error{type: :config, message: message}}
    end
  end

  # What a report of its end shows: nothing of the rest helps whoever reads that.
  @impl true
  def format_status(:terminate, [_dictionary, state]) do
    Map.take(state, [:name, :os_pid])
  end

  def format_status(_, [_dictionary, state]), do: [data: [{~c"State", state}]]

  # -- what arrives -------------------------------------------------------------------------------

  # Never called: `boot/2` enters the loop when it has a state.
  @impl true
  def init(_), do: {:stop, :use_start_link}

  @impl true
  def handle_info({port, {:data, frame}}, %{port: port} = state) do
    case take(frame, state) do
      :error ->
        message = "the supervisor sent something that is no frame, and was killed"
        Program.kill(port, state.os_pid)
        down(%Error{type: :protocol_error, message: message}, state)

      state ->
        # What arrives next may be long in coming; until then its bytes would stay.
        if byte_size(frame) > 1_000_000, do: send(self(), :collect)
        {:noreply, state}
    end
  end

  def handle_info(:collect, state) do
    :erlang.garbage_collect()
    {:noreply, state}
  end

  def handle_info(:heartbeat, state) do
    case Heartbeat.beat(state.heartbeat, state.link) do
      {:ok, heartbeat} ->
        {:noreply, %{state | heartbeat: heartbeat}}

      :silent ->
        Program.kill(state.port, state.os_pid)

        message =
          "the supervisor hung, and was killed: it has said nothing, nor answered, for heartbeat_interval " <>
            "(#{state.heartbeat.interval} ms)"

        down(%Error{type: :supervisor_down, message: message}, state)
    end
  end

  def handle_info({:watch, caller}, state) do
    Process.monitor(caller)
    {:noreply, state}
  end

  def handle_info({:reloading, id}, state) do
    {:noreply, %{state | pools: Pools.reloading(state.pools, id)}}
  end

  def handle_info({:not_asked, id}, state) do
    {:noreply, %{state | pools: Pools.reloaded(state.pools, id, %{})}}
  end

  def handle_info({:DOWN, _, _, pid, reason}, %{reporter: %{pid: pid}} = state) do
    {:stop, reason, state}
  end

  def handle_info({:DOWN, _, _, caller, _}, state) do
    Delivery.forget(state.link, caller)
    {:noreply, %{state | waiting: Map.delete(state.waiting, caller)}}
  end

  def handle_info({port, {:exit_status, status}}, %{port: port} = state) do
    down(Program.exit_error(status), state)
  end

  # Somebody wrote to a supervisor that does not read any more, mostly because it just died.
  def handle_info({:EXIT, port, reason}, %{port: port} = state) do
    Program.signal(state.os_pid, "KILL")
    message = "the supervisor died, or closed its input and was killed (#{inspect(reason)})"
    down(%Error{type: :supervisor_down, message: message}, state)
  end

  def handle_info({:EXIT, pid, reason}, %{link: %{pump: pump}, tools: tools} = state)
      when pid in [pump, tools] do
    {:stop, reason, state}
  end

  def handle_info(_unexpected, state), do: {:noreply, state}

  # A frame, to whom it is for. Returns the state, or `:error` if it is none.
  defp take(frame, state) do
    case Frames.sort(frame) do
      {:answer, id} ->
        state = note_reload(id, frame, state)
        Delivery.deliver(state.link, id, frame)
        no_longer_asks(id, state)

      {:answer, id, names} ->
        Delivery.deliver(state.link, id, frame, names)
        no_longer_asks(id, state)

      {:chunk, id} ->
        Delivery.pass(state.link, id, frame)
        state

      :event ->
        Reporter.report(state.reporter, :event, frame)
        note_pool(frame, state)

      :log ->
        Reporter.report(state.reporter, :log, frame)
        state

      {:tool, id} ->
        Tools.run(state.tools, frame)
        put_in(state.asking[id], true)

      :send ->
        Tools.deliver(state.tools, frame)
        state

      {:progress, id, done, total} ->
        Delivery.progress(state.link, id, done, total)
        state

      {:other, frame} ->
        other(frame, state)

      :error ->
        :error
    end
  end

  defp no_longer_asks(id, %{asking: asking} = state) when is_map_key(asking, id) do
    Tools.close(state.tools, id)
    %{state | asking: Map.delete(asking, id)}
  end

  defp no_longer_asks(_id, state), do: state

  # Callers find the error in the exit reason, which they monitor. Only with an entry in its stacktrace do
  # OTP's and Elixir's reports take it for an exception, and print its message.
  defp down(error, state) do
    {:stop, {error, [{__MODULE__, :handle_info, 2, []}]}, %{state | port: nil}}
  end

  defp note_pool(frame, state) do
    case Frames.pool_event(frame) do
      nil -> state
      event -> tell_waiting(%{state | pools: Pools.event(state.pools, event)})
    end
  end

  defp note_reload(id, frame, %{pools: pools} = state) do
    if MapSet.member?(pools.reloads, id) do
      answer = reload_answer(frame)
      with %{"call_timeouts" => %{} = new} <- answer, do: Link.note_call_timeouts(state.link, new)
      stop_time = Handshake.stop_time(answer, state.stop_time)
      tell_waiting(%{state | pools: Pools.reloaded(pools, id, answer), stop_time: stop_time})
    else
      state
    end
  end

  defp reload_answer(frame) do
    with {:result, term} <- Frames.answer(frame),
         {:ok, %{} = answer} <- Terms.decode(term) do
      answer
    else
      _ -> %{}
    end
  end

  defp other({:ready, _info}, state), do: tell_waiting(%{state | pools: Pools.ready(state.pools)})

  # That it came is what counts.
  defp other({:pong, _}, state), do: state

  defp other({:error, nil, %{} = error}, state) do
    Logger.error("the supervisor complains: " <> Exception.message(Error.from_wire(error)))
    state
  end

  defp other(frame, state) do
    Logger.warning("a frame that was not asked for is ignored: #{elem(frame, 0)}")
    state
  end

  # -- the pools ----------------------------------------------------------------------------------

  @impl true
  def handle_call(:await_ready, {caller, _} = from, state) do
    {:noreply, tell_waiting(%{state | waiting: wait(state.waiting, caller, from)})}
  end

  # Somebody's mistake is no reason to stop, and to put the whole state into the log.
  def handle_call(_unknown, _from, state), do: {:reply, {:error, :unknown_call}, state}

  @impl true
  def handle_cast(_unknown, state), do: {:noreply, state}

  # A process waits for one call at a time: it has given up the one before.
  defp wait(waiting, caller, from) do
    case waiting do
      %{^caller => {_, monitor}} -> %{waiting | caller => {from, monitor}}
      _ -> Map.put(waiting, caller, {from, Process.monitor(caller)})
    end
  end

  defp tell_waiting(%{waiting: none} = state) when none == %{}, do: state

  defp tell_waiting(%{waiting: waiting} = state) do
    case Pools.verdict(state.pools) do
      :wait ->
        state

      verdict ->
        for {_, {from, monitor}} <- waiting do
          Process.demonitor(monitor, [:flush])
          GenServer.reply(from, verdict)
        end

        %{state | waiting: %{}}
    end
  end

  # -- stopping -----------------------------------------------------------------------------------

  @impl true
  def terminate(_reason, %{port: nil, link: link}), do: SharedMemory.leave(link.shm, link.table)

  def terminate(_reason, %{port: port} = state) do
    Program.signal(state.os_pid, "TERM")
    limit = stop_limit(state)
    if limit != :infinity, do: Process.send_after(self(), :stop_timeout, limit)

    if drain(state) == :timeout do
      # First this: a handler of Logger may take for ever.
      Program.kill(port, state.os_pid)
      Logger.warning(killed(limit, state))
    end

    SharedMemory.leave(state.link.shm, state.link.table)
    Reporter.finish(state.reporter)
  end

  defp stop_limit(%{stop_timeout: :auto, stop_time: ms}),
    do: min(ms + @stop_margin, Options.longest())

  defp stop_limit(%{stop_timeout: timeout}), do: timeout

  defp killed(limit, state) do
    advice =
      if limit < state.stop_time,
        do:
          ". Its configuration lets it take #{state.stop_time} ms (shutdown_grace_period, then " <>
            "cancel_grace_period and worker_shutdown_grace_period): leave stop_timeout: out, or make it longer",
        else: ""

    "#{inspect(state.name)}: the supervisor has not stopped within #{limit} ms, and was killed, with whatever it " <>
      "still ran#{advice}"
  end

  defp drain(%{port: port} = state) do
    receive do
      {^port, {:data, frame}} ->
        # Nobody is left to be told of what is no frame.
        case take(frame, state) do
          :error -> drain(state)
          state -> drain(state)
        end

      {^port, {:exit_status, _}} ->
        :gone

      {:EXIT, ^port, _} ->
        :gone

      {:watch, caller} ->
        Process.monitor(caller)
        drain(state)

      {:DOWN, _, _, caller, _} ->
        Delivery.forget(state.link, caller)
        drain(state)

      :stop_timeout ->
        :timeout
    end
  end
end
