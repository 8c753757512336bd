defmodule SnakepitPort.Handshake do
  @moduledoc """
  From options to a supervisor that has said hello; or the reason why there is none, and nothing left.
  """

  alias SnakepitPort.{Error, Frames, Legacy, Program, SharedMemory}

  # The largest frame that {packet, 4} takes.
  @max_frame_bytes 0x7FFFFFFF

  # What a stop may take by the defaults of the configuration, in ms: of a supervisor that does not say.
  @stop_time 7_500

  # How long a supervisor that closed its input may take to exit, in ms.
  @last_words 1_000

  @type offer :: %{
          max_frame_bytes: pos_integer,
          shm: SharedMemory.t() | nil,
          capabilities: [String.t()],
          call_timeouts: map,
          stop_time: non_neg_integer,
          base_dir: String.t() | nil
        }

  @doc """
  Starts a supervisor, whose port belongs to the calling process, and waits for its hello. What is
  offered there are the largest frame that it accepts, shared memory, its capabilities, how long calls may take
  that do not say, and how long a stop may; with it is where
  relative paths of a configuration in terms start from. If `parent`
  ends before that, so does the calling process, which traps exits, and the program with it; if it is told to stop, that
  is told.
  """
  @spec run(keyword, pid) :: {:ok, port, pos_integer | nil, offer} | {:error | :stopped, Error.t()}
  def run(opts, parent) do
    with {:ok, config} <- Legacy.config(opts[:config]),
         terms = terms(config),
         {:ok, port} <- Program.open(opts[:python], if(is_binary(config), do: config)) do
      os_pid = with {:os_pid, os_pid} <- Port.info(port, :os_pid), do: os_pid

      case greet(port, hello(terms), parent, opts) do
        {:ok, offer} ->
          {:ok, port, os_pid, Map.put(offer, :base_dir, terms["base_dir"])}

        {:exit, reason} ->
          Program.kill(port, os_pid)
          exit(reason)

        {outcome, error} when outcome in [:error, :stopped] ->
          unless gone?(error, port), do: Program.kill(port, os_pid)
          {outcome, error}
      end
    end
  end

  defp hello(terms) do
    software =
      "snakepit_port #{version()} (Elixir #{System.version()}, OTP #{System.otp_release()})"

    info = %{
      "software" => software,
      "max_frame_bytes" => @max_frame_bytes,
      "capabilities" => ["shm", "tools"]
    }

    Map.merge(info, terms)
  end

  @doc """
  What tells a supervisor a configuration; nothing where that is a file it was started with. Relative paths
  start from the folder `base_dir`, or from the working directory.
  """
  @spec terms(String.t() | map | keyword, String.t() | nil) :: map
  def terms(config, base_dir \\ nil)
  def terms(config, _) when is_binary(config), do: %{}

  def terms(config, base_dir),
    do: %{"config" => config, "base_dir" => base_dir || File.cwd!()}

  defp version do
    case :application.get_key(:snakepit_port, :vsn) do
      {:ok, version} -> version
      :undefined -> "unknown"
    end
  end

  defp gone?(%Error{status: status}, _port) when status != nil, do: true
  # It exits by itself, and may have more to say on stderr.
  defp gone?(%Error{type: :config}, port), do: Program.await_exit(port)
  defp gone?(_, _), do: false

  defp greet(port, hello, parent, opts) do
    # Not a byte has been written yet, so this is never refused for a busy port.
    :erlang.port_command(port, Frames.hello(hello), [:nosuspend])
    await_hello(port, parent, opts[:start_timeout], opts[:python])
  rescue
    # It exited before the hello could be written.
    ArgumentError -> await_hello(port, parent, @last_words, opts[:python])
  end

  defp await_hello(port, parent, timeout, python) do
    receive do
      {^port, {:data, frame}} ->
        greeted(Frames.read(frame))

      {^port, {:exit_status, status}} ->
        {:error, Program.exit_before_hello(status, python)}

      {:EXIT, ^port, reason} ->
        {:error, Program.end_before_hello(reason, python)}

      # Until the server enters its loop, nobody else would see these two.
      {:EXIT, ^parent, reason} ->
        {:exit, reason}

      {:system, _from, {:terminate, reason}} ->
        message = "it was stopped before the supervisor said hello (#{inspect(reason)})"
        {:stopped, %Error{type: :supervisor_down, message: message}}
    after
      timeout ->
        message = "the supervisor did not say hello within #{timeout} ms (start_timeout)"
        {:error, %Error{type: :timeout, message: message}}
    end
  end

  defp greeted({:hello, version, %{"max_frame_bytes" => max} = info}) when is_integer(max) do
    if version == Frames.version() do
      Legacy.report(Map.get(info, "converted", []))
      capabilities = with list when not is_list(list) <- info["capabilities"], do: []

      {:ok,
       %{
         max_frame_bytes: max,
         shm: SharedMemory.new(info["shm"]),
         capabilities: capabilities,
         call_timeouts: with(timeouts when not is_map(timeouts) <- info["call_timeouts"], do: %{}),
         stop_time: stop_time(info, @stop_time),
         base_dir: nil
       }}
    else
      message =
        "the supervisor speaks protocol version #{inspect(version)}, this host speaks version " <>
          "#{Frames.version()}; install the same release on both sides"

      {:error, %Error{type: :protocol_version, message: message}}
    end
  end

  defp greeted({:error, _, %{} = error}), do: {:error, Error.from_wire(error)}

  defp greeted(_) do
    message = "what was started does not say hello as a supervisor does"
    {:error, %Error{type: :protocol_error, message: message}}
  end

  @doc "How long a stop may take by the configuration, in ms, where a supervisor says so; else the default."
  @spec stop_time(map, non_neg_integer) :: non_neg_integer
  def stop_time(%{"stop_time" => ms}, _) when is_integer(ms) and ms >= 0, do: ms
  def stop_time(_, default), do: default
end
