defmodule SnakepitPort.Server do
  @moduledoc """
  Owns the port: starts the supervisor, hands out what arrives, and stops it.

  It never decodes a result, never writes a call and never waits for the application's code; see
  `SnakepitPort.Link` for who does. When the supervisor goes, this process stops with the error as its
  exit reason: callers read it there, and an OTP supervisor starts the pair anew.

  **Stopping.** Closing a port is only end-of-file to the program, and loses its exit status. So to stop,
  the supervisor gets SIGTERM, which it takes as an orderly end like end-of-file; answers of calls it
  still finishes are handed out meanwhile; and its exit status says that it is gone, and all its
  workers with it. What has not gone after `stop_timeout` is killed.
  """

  use GenServer, restart: :permanent
  require Logger
  alias SnakepitPort.{Error, Frames, Link, Program, Reporter}

  # How long a supervisor that has refused to start may take to exit, in ms.
  @last_words 1_000

  # The largest frame that {packet, 4} takes.
  @max_frame_bytes 0x7FFFFFFF

  @type option ::
          {:config, Path.t() | map | keyword}
          | {:python, Path.t()}
          | {:name, atom}
          | {:logs, boolean}
          | {:start_timeout, timeout}
          | {:stop_timeout, timeout}

  @defaults [
    config: nil,
    python: nil,
    name: SnakepitPort,
    logs: true,
    start_timeout: 15_000,
    stop_timeout: 10_000
  ]

  @doc "All options, with defaults. Raises `ArgumentError` for an unknown one."
  @spec options([option]) :: keyword
  def options(opts) do
    opts = Keyword.validate!(opts, @defaults)

    unless is_atom(opts[:name]) and opts[:name] != nil do
      raise ArgumentError, "name: has to be an atom, not #{inspect(opts[:name])}"
    end

    opts
  end

  @doc """
  Starts the supervisor and returns when it has said hello.

  Failing to start is `{:error, %SnakepitPort.Error{}}` for every caller, linked or not: unlike
  `GenServer.start_link/3`, this does not take a caller with it that does not trap exits.
  """
  @spec start_link([option]) :: {:ok, pid} | {:error, Error.t() | {:already_started, pid}}
  def start_link(opts), do: :proc_lib.start_link(__MODULE__, :boot, [self(), options(opts)])

  @doc false
  def boot(parent, opts) do
    Process.flag(:trap_exit, true)
    # A burst of answers must not be copied around by this process's garbage collections.
    Process.flag(:message_queue_data, :off_heap)

    case register(opts[:name]) do
      :ok ->
        case start(opts) do
          {:ok, state} ->
            :proc_lib.init_ack(parent, {:ok, self()})
            :gen_server.enter_loop(__MODULE__, [], state, {:local, opts[:name]})

          {:error, error} ->
            # The name is free by the time the caller tries again.
            Process.unregister(opts[:name])
            :proc_lib.init_ack(parent, {:error, error})
        end

      {:error, reason} ->
        :proc_lib.init_ack(parent, {:error, reason})
    end
  end

  defp register(name) do
    Process.register(self(), name)
    :ok
  rescue
    ArgumentError -> {:error, {:already_started, Process.whereis(name)}}
  end

  defp start(opts) do
    file = if is_binary(opts[:config]), do: opts[:config]

    with {:ok, port} <- Program.open(opts[:python], file) do
      os_pid = with {:os_pid, os_pid} <- Port.info(port, :os_pid), do: os_pid

      case greet(port, opts) do
        {:ok, info} ->
          reporter = Reporter.start(opts[:name], opts[:logs])
          Process.monitor(reporter.pid)
          link = Link.create(opts[:name], port, reporter.pid, info["max_frame_bytes"])

          {:ok,
           %{
             port: port,
             os_pid: os_pid,
             link: link,
             reporter: reporter,
             stop_timeout: opts[:stop_timeout],
             # Who waits for the pools, until they have settled; then `:settled`.
             waiting: [],
             unavailable: %{}
           }}

        {:error, error} ->
          clean_up(port, os_pid, error)
          {:error, error}
      end
    end
  end

  # -- hello --------------------------------------------------------------------------------------

  defp greet(port, opts) do
    hello = %{
      "software" =>
        "snakepit_port #{version()} (Elixir #{System.version()}, OTP #{System.otp_release()})",
      "max_frame_bytes" => @max_frame_bytes
    }

    config = opts[:config]

    hello =
      if is_nil(config) or is_binary(config),
        do: hello,
        else: Map.merge(hello, %{"config" => config, "base_dir" => File.cwd!()})

    :erlang.port_command(port, Frames.hello(hello), [:nosuspend])
    timeout = opts[:start_timeout]

    receive do
      {^port, {:data, frame}} -> greeted(Frames.read(frame))
      {^port, {:exit_status, status}} -> {:error, exit_before_hello(status)}
    after
      timeout ->
        message = "the supervisor did not say hello within #{timeout} ms (start_timeout)"
        {:error, %Error{type: :timeout, message: message}}
    end
  rescue
    # It exited before the hello could be written.
    ArgumentError ->
      receive do
        {^port, {:exit_status, status}} -> {:error, exit_before_hello(status)}
      after
        @last_words -> {:error, protocol_error("the supervisor closed its input")}
      end
  end

  defp greeted({:hello, version, %{"max_frame_bytes" => max} = info}) when is_integer(max) do
    if version == Frames.version() do
      {:ok, info}
    else
      message =
        "the supervisor speaks protocol version #{inspect(version)}, this host speaks version " <>
          "#{Frames.version()}; install the same release on both sides"

      {:error, %Error{type: :protocol_version, message: message}}
    end
  end

  defp greeted({:error, _, %{} = error}), do: {:error, Error.from_wire(error)}

  defp greeted(_) do
    {:error, protocol_error("what was started does not say hello as a supervisor does")}
  end

  defp exit_before_hello(status) do
    %{message: message} = error = Program.exit_error(status)

    %{
      error
      | message:
          "#{message}, before it said hello. Is snakepit-port installed in this interpreter, and " <>
            "is it Python 3.11 or newer?"
    }
  end

  # A supervisor that gives a reason exits by itself, before which it may have more to say on stderr.
  defp clean_up(port, os_pid, %Error{type: :config}), do: await_exit(port) || kill(port, os_pid)
  defp clean_up(port, os_pid, _), do: kill(port, os_pid)

  defp await_exit(port) do
    receive do
      {^port, {:exit_status, _}} -> :gone
    after
      @last_words -> nil
    end
  end

  defp version do
    case :application.get_key(:snakepit_port, :vsn) do
      {:ok, version} -> version
      :undefined -> "unknown"
    end
  end

  # -- what arrives -------------------------------------------------------------------------------

  @impl true
  def init(_), do: {:stop, :use_start_link}

  @impl true
  def handle_info({port, {:data, frame}}, %{port: port} = state) do
    case Frames.sort(frame) do
      {:answer, id} ->
        Link.deliver(state.link, id, frame)
        {:noreply, state}

      :report ->
        Reporter.report(state.reporter, frame)
        {:noreply, note_pool(frame, state)}

      {:other, frame} ->
        {:noreply, other(frame, state)}

      :error ->
        error = protocol_error("the supervisor sent something that is no frame, and was killed")
        kill(port, state.os_pid)
        {:stop, {error, []}, %{state | port: nil}}
    end
  end

  def handle_info({:watch, caller}, state) do
    Process.monitor(caller)
    {:noreply, state}
  end

  def handle_info({:DOWN, _, _, pid, reason}, %{reporter: %{pid: pid}} = state) do
    {:stop, reason, state}
  end

  def handle_info({:DOWN, _, _, caller, _}, state) do
    Link.forget(state.link, caller)
    {:noreply, state}
  end

  def handle_info({port, {:exit_status, status}}, %{port: port} = state) do
    {:stop, {Program.exit_error(status), []}, %{state | port: nil}}
  end

  # A port that closes without an exit status, which is not seen unless somebody else closes it.
  def handle_info({:EXIT, port, reason}, %{port: port} = state) do
    message = "the port closed: #{inspect(reason)}"
    {:stop, {%Error{type: :supervisor_down, message: message}, []}, %{state | port: nil}}
  end

  def handle_info({:EXIT, pump, reason}, %{link: %{pump: pump}} = state) do
    {:stop, reason, state}
  end

  def handle_info(_unexpected, state), do: {:noreply, state}

  defp note_pool(frame, %{unavailable: unavailable} = state) do
    case Frames.pool_event(frame) do
      {"pool.unavailable", pool, why} ->
        %{state | unavailable: Map.put(unavailable, pool, why)}

      {"pool.ready", pool, _} ->
        %{state | unavailable: Map.delete(unavailable, pool)}

      _ ->
        state
    end
  end

  defp other({:ready, _info}, %{waiting: waiting} = state) when is_list(waiting) do
    Enum.each(waiting, &GenServer.reply(&1, settled(state)))
    %{state | waiting: :settled}
  end

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
  def handle_call(:await_ready, from, %{waiting: waiting} = state) when is_list(waiting) do
    {:noreply, %{state | waiting: [from | waiting]}}
  end

  def handle_call(:await_ready, _from, state), do: {:reply, settled(state), state}

  defp settled(%{unavailable: none}) when none == %{}, do: :ok

  defp settled(%{unavailable: unavailable}) do
    causes = for {pool, why} <- Enum.sort(unavailable), do: "pool #{pool}: #{why["message"]}"
    [{pool, why} | others] = Enum.sort(unavailable)

    {:error,
     %Error{
       type: :pool_unavailable,
       message: "could not start: " <> Enum.join(causes, "; "),
       pool: if(others == [], do: pool),
       traceback: with(text when not is_binary(text) <- why["traceback"], do: nil)
     }}
  end

  # -- stopping -----------------------------------------------------------------------------------

  @impl true
  def terminate(_reason, %{port: nil}), do: :ok

  def terminate(_reason, %{port: port} = state) do
    Program.signal(state.os_pid, "TERM")

    if state.stop_timeout != :infinity,
      do: Process.send_after(self(), :stop_timeout, state.stop_timeout)

    if drain(state) == :timeout, do: kill(port, state.os_pid)
    Reporter.finish(state.reporter)
  end

  defp drain(%{port: port} = state) do
    receive do
      {^port, {:data, frame}} ->
        case Frames.sort(frame) do
          {:answer, id} -> Link.deliver(state.link, id, frame)
          :report -> Reporter.report(state.reporter, frame)
          _ -> :ok
        end

        drain(state)

      {^port, {:exit_status, _}} ->
        :gone

      {:EXIT, ^port, _} ->
        :gone

      :stop_timeout ->
        :timeout
    end
  end

  # What a killed supervisor leaves behind ends by itself: that is its part of the bargain.
  defp kill(port, os_pid) do
    if Port.info(port) do
      Program.signal(os_pid, "KILL")
      await_exit(port)
    end

    :ok
  end

  defp protocol_error(message), do: %Error{type: :protocol_error, message: message}
end
