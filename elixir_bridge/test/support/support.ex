defmodule SnakepitPort.Support do
  @moduledoc "Starting servers for tests: real ones, and such that misbehave."

  import ExUnit.Callbacks

  @here __DIR__

  @doc "A name no other test has."
  def name(context), do: Module.concat(context.module, context.test)

  @doc "Starts a server with the adapter of these tests under its own name; returns the name."
  def start!(context, pools \\ [[]], opts \\ []) do
    name = name(context)
    opts = Keyword.merge([name: name, logs: false, config: config(pools)], opts)
    start_supervised!({SnakepitPort, opts})
    name
  end

  @doc "The configuration of pools that serve the adapter of these tests."
  def config(pools \\ [[]]) do
    base = [name: "default", adapter: "bridge_adapter", python_path: [@here], pool_size: 1]
    [pools: Enum.map(pools, &Keyword.merge(base, &1))]
  end

  @doc "Options of a server whose supervisor is `peer.py` in the given mode."
  def peer(context, mode, opts \\ []) do
    path = temporary_path("peer_#{mode}")

    File.write!(
      path,
      "#!/bin/sh\necho $$ > $0.pid\nexec #{python()} #{Path.join(@here, "peer.py")} #{mode}\n"
    )

    File.chmod!(path, 0o755)
    on_exit(fn -> Enum.each([path, path <> ".pid"], &File.rm/1) end)
    Keyword.merge([name: name(context), python: path, logs: false, config: []], opts)
  end

  @doc "The process id of the program that was started with options of `peer/3`."
  def peer_pid(opts), do: opts[:python] |> Kernel.<>(".pid") |> File.read!() |> String.trim()

  @doc "The interpreter that servers are started with by default."
  def python do
    {:ok, python} = SnakepitPort.Program.interpreter(nil)
    python
  end

  @doc "Starts a server with `peer/3`; returns its name."
  def start_peer!(context, mode, opts \\ []) do
    start_supervised!({SnakepitPort, peer(context, mode, opts)}, restart: :temporary)
    name(context)
  end

  @doc "A path that nobody else has, not even another run of these tests. What the test puts there, it removes."
  def temporary_path(what) do
    unique = "#{System.pid()}_#{System.unique_integer([:positive])}"
    Path.join(System.tmp_dir!(), "snakepit_port_#{what}_#{unique}")
  end

  @doc "The path of a new named pipe."
  def fifo! do
    path = temporary_path("fifo")
    {"", 0} = System.cmd("mkfifo", [path])
    on_exit(fn -> File.rm!(path) end)
    path
  end

  @doc "Whether an operating system process is there (a zombie is not)."
  def alive?(os_pid) do
    case File.read("/proc/#{os_pid}/stat") do
      {:ok, stat} -> not (stat =~ ~r/\) Z /)
      {:error, :enoent} -> false
      {:error, :esrch} -> false
    end
  end

  @doc "Returns when the process is gone; the test's own timeout bounds it."
  def await_gone(os_pid), do: await(fn -> not alive?(os_pid) end)

  @doc "Returns when `done?` says so. Only for what nothing tells us about."
  def await(done?) do
    unless done?.() do
      :erlang.yield()
      await(done?)
    end
  end

  @doc "Has `pid` know that this process is as far as that, and waits until it is told to `:go_on`."
  def say_and_wait(pid, message) do
    send(pid, message)
    receive do: (:go_on -> :ok)
  end

  @doc "How many calls and streams are in a link's table."
  def in_progress(link), do: Enum.count(:ets.tab2list(link.table), &is_integer(elem(&1, 0)))

  @doc "The process id of a server's supervisor."
  def os_pid(server), do: :sys.get_state(server).os_pid

  def kill(os_pid, signal), do: {"", 0} = System.cmd("/bin/sh", ["-c", "kill -#{signal} #{os_pid}"])
end
