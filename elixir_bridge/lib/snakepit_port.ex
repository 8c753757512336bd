defmodule SnakepitPort do
  @moduledoc """
  Runs Python in named pools of workers, behind one operating system process and one port.

      {:ok, _} = SnakepitPort.start_link(config: "pools.toml")
      :ok = SnakepitPort.await_ready()
      {:ok, 3} = SnakepitPort.execute("add", [1, 2])

  Functions and options are named as Snakepit's, so `alias SnakepitPort, as: Snakepit` carries code over.

  In an application it is a child of a supervisor, which starts it again when the Python side goes:

      children = [{SnakepitPort, config: "pools.toml"}]

  Results are `{:ok, term}` or `{:error, %SnakepitPort.Error{}}`. How terms become Python values and come
  back is the table in section 2 of `protocol/SPEC.md`.

  ## Logs and telemetry

  Events of pools, workers and requests (section 10 of `protocol/SPEC.md`) are emitted to `:telemetry` as
  `[:snakepit_port, :worker, :started]` where the application has it, and are sent to subscribers.
  Metadata have the name of the server as `:server` besides what the section lists. Measurements of `worker.recycled`
  and `worker.stopped` have `:memory_bytes` where the pool limits memory: what the worker had when it was last measured. Lines that Python
  prints go to Logger with the metadata `:pool`, `:worker`, `:source` and `:server`: those of stdout as
  information, those of stderr, where `logging` prints by default, as warnings, and what goes through Python's
  `snakepit_port.logs.Handler` with its own level. What the bridge itself logs, and what tools log, has the metadata
  `:server`, too.

  ### The supervisor

  The bridge adds two events of the supervisor itself: `[:snakepit_port, :supervisor, :started]`, and `:stopped` with the
  measurement `:uptime_ms` and the `:reason` `"shutdown"` or `"crashed"` (and a `:message`). Both have its `:os_pid`. Of a
  supervisor that is killed `:stopped` is the last event: its workers have no `[:snakepit_port, :worker, :stopped]`.

  ### Calls

  Each call is told to `:telemetry` in the process that makes it, as by `:telemetry.span/3`:
  `[:snakepit_port, :call, :start]`, and then `[:snakepit_port, :call, :stop]`, or `:exception` where a function for `:progress` or the
  consumer of a stream raises. A process that is killed while it waits tells nothing more; nor does a stream that is kept suspended.

    * Measurements: `:monotonic_time`, `:system_time` (of `:start`), `:duration` (of the others), in native units, as
      `System.convert_time_unit/3` takes them; `:chunks` (of a stream that has ended), how many its consumer had taken
    * Metadata: `:server`, `:pool` (`nil` where the call names none), `:command`, `:session_id`, `:stream` (whether it is one),
      `:telemetry_span_context` (the same in both events of a call)
    * Of `:stop` also `:outcome`: `:ok`, `:halted` (a stream whose consumer wanted no more), or the type of the error, such as
      `:timeout`; then the whole error is there as `:error`
    * Of `:exception` also `:kind`, `:reason` and `:stacktrace`

  ### What is dropped, and what is always logged

  Where Logger or a telemetry handler is slower than what they are given, log lines beyond 10,000 that wait are dropped,
  and events beyond 20,000; how many is logged.

  Of events that tell of something wrong Logger gets a line, too, with the same metadata: a pool that is
  unavailable (an error), workers that do not start, crash or are killed for what they did, a reload whose workers do
  not start, doubts about threads (warnings). `SnakepitPort.Warnings` lists them. `logs: false` does not silence
  these; Logger does, and telemetry has them still:

      Logger.put_module_level(SnakepitPort.Warnings, :none)
  """

  alias SnakepitPort.{Call, Chunks, Error, Link, Names, Options, Reload, Reporter, Server, Tools}

  @control_timeout 5_000
  @start_timeout 30_000

  @typedoc """
  The name of a running server, or its pid. Of a pid of another node only `await_ready/2` and `stop/1` can make
  use: call the others there, with `:erpc.call/4`.
  """
  @type server :: atom | pid

  @typedoc "What `recycle/2` has replaced."
  @type recycled :: {:worker, String.t()} | {:pool, String.t() | atom}

  @doc """
  Starts the Python supervisor and returns as soon as it has accepted the configuration; its pools
  start after that, see `await_ready/2`. Calls may be made at once: they wait for their pool,
  for their `:queue_timeout` at most.

    * `:config` - the path of a TOML file, or the same keys as a map or keyword list. Relative
      paths start from the working directory, those inside a TOML file from its folder. A configuration of
      Snakepit v0.5 or v0.6 works, too, in each of these forms, and is what `config :snakepit` set if
      this option is not given; what became of each key is logged once
    * `:python` - interpreter with snakepit-port installed, Python 3.11 or newer. Default:
      `$SNAKEPIT_PORT_PYTHON`, else `.venv/bin/python` of the checkout this was compiled in, though not in a release,
      else `python3`. Workers run in their own pool's interpreter, whichever this is
    * `:name` - an atom, default `SnakepitPort`. An ETS table of the same name is made
    * `:logs` - whether Python's output goes to Logger, default `true`. What goes wrong does in any case, see
      "Logs and telemetry" above
    * `:tools` - functions that commands may call, by their names; see `register_tool/3`
    * `:start_timeout` - ms until the supervisor must have said hello, default 15,000
    * `:stop_timeout` - ms it may take to stop before it is killed, which is logged. Default: `:auto`, 3 s more than
      the configuration lets it take by `shutdown_grace_period`, and then the longest `cancel_grace_period` and
      `worker_shutdown_grace_period` of a pool: together 10.5 s where these are not set. A shorter one cuts them short
    * `:heartbeat_interval` - ms between two looks at whether the Python supervisor, which is another process than its
      workers, still says anything; default 30,000. One that has not answered from one to the next is killed, and the
      server ends with an error, as when it dies. `:infinity` leaves it alone, in a debugger for one

  Errors: of type `:config` (with `problems`) for a configuration that is wrong or an interpreter
  that is missing, `:protocol_version`, `:timeout`, `:supervisor_down`, `:protocol_error`. Unlike with
  `GenServer.start_link/3` a caller that does not trap exits survives them. Each is logged as well, with every attempt:
  where an OTP supervisor starts a server again nobody else would say why that fails.
  """
  @spec start_link([Options.t()]) :: {:ok, pid} | {:error, Error.t() | {:already_started, pid}}
  def start_link(opts \\ []), do: Server.start_link(opts)

  @doc "For OTP supervisors. The `id` is the server's name, so there can be several."
  @spec child_spec([Options.t()]) :: Supervisor.child_spec()
  def child_spec(opts) do
    options = Options.all(opts)
    start = {__MODULE__, :start_link, [opts]}
    %{id: options[:name], start: start, shutdown: Options.shutdown(options)}
  end

  @doc """
  Waits until every pool is ready or has failed to start.

  Of the latter the error, of type `:pool_unavailable`, names all and says why, with Python's tracebacks; the others
  can be used, and the supervisor keeps trying. After `reload/2` it waits for the pools that were added, too, and for
  those that could not start before. The timeout can be given alone, for the default server.
  """
  @spec await_ready(server | timeout, timeout) :: :ok | {:error, Error.t()}
  def await_ready(server \\ SnakepitPort, timeout \\ @start_timeout)

  def await_ready(timeout, @start_timeout) when is_integer(timeout) or timeout == :infinity do
    await_ready(SnakepitPort, timeout)
  end

  def await_ready(server, timeout) do
    :ok = Link.check(server)
    # Before it is asked: what it answered would stay in the mailbox.
    :ok = Options.check_timeout(timeout)

    if Link.other?(server),
      do: Link.not_running(server),
      else: GenServer.call(server, :await_ready, timeout)
  catch
    :exit, {:noproc, _} ->
      Link.not_running(server)

    :exit, {:timeout, _} ->
      message = "the pools have neither started nor failed within #{timeout} ms"
      {:error, %Error{type: :timeout, message: message}}

    :exit, {{%Error{} = error, _}, _} ->
      {:error, error}

    :exit, {{:shutdown, {%Error{} = error, _}}, _} ->
      {:error, error}

    :exit, {reason, _} ->
      gone(server, reason)
  end

  # As those who wait for an answer are told it: these reasons alone say nothing.
  defp gone(_server, reason) when reason in [:normal, :shutdown, :killed],
    do: {:error, Link.down(reason)}

  defp gone(server, reason) do
    message = "#{inspect(server)}: #{Exception.format_exit(reason)}"
    {:error, %Error{type: :supervisor_down, message: message}}
  end

  @doc """
  Runs a command of a pool's adapter and waits for its result.

  A map of arguments becomes keywords, a list positions. A keyword list is neither and raises `ArgumentError`,
  as options in the place of arguments do. A binary arrives as `str` and has to be UTF-8; see `bytes/1` for the
  others.

    * `:pool` - default: the pool named `default`, else the only one
    * `:timeout` - ms until the call fails with `:timeout` and its work is stopped, or `:infinity`.
      Default: the pool's `call_timeout`, which is 60,000 unless the configuration sets it
    * `:queue_timeout` - ms the call may wait for a worker, or `:infinity`. Default: the pool's
    * `:session_id` - ties the call to the worker that took the session's first one, as the pool's
      `affinity` says
    * `:progress` - a function that is called in this process with what the command tells of its progress, done
      and total (not of streams), up to ten times a second: `fn done, total -> IO.puts("\#{done} of \#{total}") end`
    * `:server` - default `SnakepitPort`

  As for all keyword lists the first counts of options that are given twice: `opts ++ [timeout: 10_000]` sets a default.

  A process that dies while it waits has its call cancelled: so `Task.shutdown/2` cancels a call that was made in a
  `Task`. The answer never comes later than 100 ms
  after the timeout, whatever the Python side does, unless a function for `:progress` is at work then. The time counts from when the call is written: what it
  takes this process to encode large arguments comes before that, and to read a large result after it.
  """
  @spec execute(String.t() | atom, map | list, keyword) :: {:ok, term} | {:error, Error.t()}
  def execute(command, args \\ %{}, opts \\ []), do: Call.execute(command, args, opts)

  @doc "`execute/3` that returns the result alone, and raises the `SnakepitPort.Error`."
  @spec execute!(String.t() | atom, map | list, keyword) :: term
  def execute!(command, args \\ %{}, opts \\ []), do: ok!(execute(command, args, opts))

  @doc """
  The values that a generator yields, as a lazy enumerable.

      SnakepitPort.stream("lines", ["big.csv"]) |> Stream.map(&parse/1) |> Enum.take(10)

  The generator is started when the enumeration begins, runs ahead of it by a bounded number of chunks, and is
  closed when the enumeration stops early or its process dies: its `finally` blocks run. What it
  returns is left out. A command that returns something else than an iterator is an error `:not_a_stream`, unless
  that is `None`: a stream of no values. Whoever suspends an enumeration goes on with it in the same process;
  another one gets an `ArgumentError`, and can only halt it. Then the first gets an error of type `:cancelled`, at once
  if it waits for a chunk, else when it goes on. What is under way stays in its mailbox until then, or until it
  halts the stream, too, and so do a monitor of the server and a key in its process dictionary. Halting a stream
  that has not begun, as `Stream.zip/1` may do, closes an enumeration of the same stream that this process keeps
  suspended.

    * `:window` - chunks under way at most, default 512; fewer are when they are large
    * `:timeout` - as for `execute/3`, for the whole stream, the time that its consumer takes included
    * `:pool`, `:queue_timeout`, `:session_id`, `:server` - as for `execute/3`

  Enumerating raises `SnakepitPort.Error`: for an error of the generator, after the chunks before it.

  Chunks come as messages, so nothing else may take them: where a GenServer, or a GenStage, keeps a stream suspended
  between its callbacks they end in `handle_info/2`, and going on raises `ArgumentError`. Enumerate in a process of
  its own there, such as a `Task`. In a process that has very many others waiting each chunk takes a walk through all of
  them (5,000 chunks take 34 ms, and 7 s behind 200,000 messages): another reason for a `Task`.
  """
  @spec stream(String.t() | atom, map | list, keyword) :: Enumerable.t()
  def stream(command, args \\ %{}, opts \\ []), do: Chunks.stream(command, args, opts)

  @doc """
  Calls `fun` with each value that a generator yields, in order and in this process, as `stream/3` does.

  Returns when the generator has ended, or with the error that ended it. When `fun` raises or throws, the
  generator is closed.
  """
  @spec execute_stream(String.t() | atom, map | list, (term -> any), keyword) ::
          :ok | {:error, Error.t()}
  def execute_stream(command, args \\ %{}, fun, opts \\ []) do
    unless is_function(fun, 1) do
      raise ArgumentError, "a stream is for a function of one argument, not #{inspect(fun)}"
    end

    Chunks.each(command, args, fun, opts)
  end

  @doc """
  `execute/3` as a call of a session, named by 1 to 255 characters: its calls run on one worker, so what that keeps in
  memory is there for the next. With `affinity = "strict_queue"` or `"strict_fail_fast"` never on another; when the worker is
  gone, that is said once by an error of type `:session_worker_unavailable`. With the default, `"hint"`, they go
  to another when theirs is busy.
  """
  @spec execute_in_session(String.t() | atom, String.t() | atom, map | list, keyword) ::
          {:ok, term} | {:error, Error.t()}
  def execute_in_session(session_id, command, args \\ %{}, opts \\ []) do
    Call.execute(command, args, of_session(opts, session_id))
  end

  @doc """
  `execute_stream/4` as a call of a session; see `execute_in_session/4`.
  """
  @spec execute_in_session_stream(
          String.t() | atom,
          String.t() | atom,
          map | list,
          (term -> any),
          keyword
        ) :: :ok | {:error, Error.t()}
  def execute_in_session_stream(session_id, command, args \\ %{}, fun, opts \\ []) do
    execute_stream(command, args, fun, of_session(opts, session_id))
  end

  # Here, for as an option nil means none. The first counts, and what are no options is told by whoever reads them.
  defp of_session(opts, id) do
    id = Call.session(id)
    if is_list(opts), do: [{:session_id, id} | opts], else: opts
  end

  @doc """
  Ends a session, so that its worker need not keep anything for it; returns whether there was one. Options:
  `:server`, `:pool`.
  """
  @spec close_session(String.t() | atom, keyword) :: {:ok, boolean} | {:error, Error.t()}
  def close_session(session_id, opts \\ []) do
    {server, opts} = opts |> options!([:pool, server: SnakepitPort]) |> Keyword.pop!(:server)
    # As for a call: the default pool.
    opts = Enum.reject(opts, &(&1 == {:pool, nil}))
    args = Map.put(names(opts), :session, Call.session(session_id))
    Call.control(server, "close_session", args, @control_timeout)
  end

  @doc """
  Counts of calls and workers, summed and by pool: section 9.1 of `protocol/SPEC.md`. Raises
  `SnakepitPort.Error` if the supervisor does not answer.
  """
  @spec get_stats(server) :: map
  def get_stats(server \\ SnakepitPort) do
    stats = Names.keys(control!(server, "stats"))
    pools = for {name, pool} <- stats.pools, into: %{}, do: {name, Names.keys(pool)}
    %{stats | pools: pools}
  end

  @doc "The ids of all workers. Raises as `get_stats/1`."
  @spec list_workers(server) :: [String.t()]
  def list_workers(server \\ SnakepitPort), do: Enum.map(workers(server), & &1.id)

  @doc """
  All workers, as maps with `:id`, `:pool`, `:os_pid`, `:state`, `:requests` and `:uptime_ms`; what each is at:
  `:commands`, `:busy_ms` (for how long with the first of them, or nil), `:waiting` (calls it has besides) and
  `:sessions` (strict ones bound to it); and `:memory_bytes`, what it and its children have to themselves, or nil
  where that is not known. The kernel walks all their pages for it, and calls do not wait for that. Raises as
  `get_stats/1`.
  """
  @spec workers(server) :: [map]
  def workers(server \\ SnakepitPort), do: Enum.map(control!(server, "workers"), &Names.keys/1)

  @doc """
  Has workers replaced, and returns how many that are: the worker with the id `:worker`, all workers of the
  pool `:pool`, or all. They serve on until their successors are ready; the event `worker.recycled` tells
  of each. What is replaced can be given alone, for the default server. A key that is given as `nil`, as the
  worker of an error that happened at none, raises `ArgumentError`. Where successors do not start (the event
  `worker.start_failed`, a warning for Logger), those of before serve on, and it is tried again.

      {:ok, 1} = SnakepitPort.recycle(worker: "default-1")

  The successors load the adapter as it is now. What the pool has in `preload` they have as it was: edited
  modules there take a `reload/2` with another value of a setting that workers see, such as a variable in
  `adapter_env`.
  """
  @spec recycle(server | [recycled], [recycled]) :: {:ok, non_neg_integer} | {:error, Error.t()}
  def recycle(server \\ SnakepitPort, what \\ [])
  def recycle(what, []) when is_list(what), do: recycle(SnakepitPort, what)

  def recycle(server, what) do
    args = what |> options!([:worker, :pool]) |> names()
    Call.control(server, "recycle", args, @control_timeout)
  end

  # Of what is no list Keyword.validate!/2 says nothing that helps.
  defp options!(opts, known) do
    unless Keyword.keyword?(opts) do
      raise ArgumentError, "options are a keyword list, not #{inspect(opts, limit: 5)}"
    end

    Keyword.validate!(opts, known)
  end

  # A key that is there and nil would count as left out, which means all.
  defp names(opts), do: Map.new(opts, fn {key, name} -> {key, Call.text(name, "a #{key}")} end)

  @doc """
  Has the supervisor take another configuration while it works, and returns at once what that means for
  each pool: `:added`, `:removed`, `:replaced` (its workers are, as `recycle/2` does it: no call fails),
  `:resized` (its workers can stay) or `:unchanged`.

    * `:config` - as for `start_link/1`. Default: what that was given, its relative paths starting from where
      they did then. So a file is read again, and without one what `config :snakepit` sets now is taken

  The event `pool.reloaded` says when a pool is whole on its new settings, `pool.reload_failed` why its new
  workers do not start (those of before serve on, and the supervisor keeps trying), `pool.removed` that
  nothing is left of one; whoever did not listen finds `reload: "begun"` or `"failed"` among the statistics of the
  pool until it is whole. `await_ready/2` waits for pools that were added.

      {:ok, %{"default" => :replaced}} = SnakepitPort.reload()

  A configuration with mistakes changes nothing: the error is of type `:config`, with `problems`. It is also
  for a setting of the supervisor that cannot change while it runs. A supervisor that is started again by OTP has
  the `:config` of `start_link/1`. The option can be given alone, for the default server.
  """
  @spec reload(server | [{:config, config}], [{:config, config}]) ::
          {:ok, %{String.t() => :added | :removed | :replaced | :resized | :unchanged}}
          | {:error, Error.t()}
        when config: Path.t() | map | keyword
  def reload(server \\ SnakepitPort, opts \\ [])
  def reload(opts, []) when is_list(opts), do: reload(SnakepitPort, opts)

  def reload(server, opts) do
    opts = options!(opts, [:config])
    Reload.run(server, Options.config(opts[:config]), @control_timeout)
  end

  @doc """
  What every thread of every worker is at, as texts by the id of the worker. Commands that run need not help:
  one that hangs in C is seen as well, after 0.6 s; in the `process` profile the other threads of its worker are not
  then. Threads that run without a GIL are only named. Each worker is sent a signal for it. Python's own functions go on after
  that; in a library that does not repeat them, calls that wait, as sleep(3), poll(2) and read(2) do, return
  early (EINTR). Raises as `get_stats/1`.
  """
  @spec stacks(server) :: %{String.t() => String.t()}
  def stacks(server \\ SnakepitPort), do: control!(server, "stacks")

  @doc """
  Marks a binary as Python `bytes`. Results of that type come back the same: match on them. Large ones travel through
  shared memory, where there is some. For numbers see `SnakepitPort.Tensor`.

      iex> SnakepitPort.bytes(<<255, 0>>)
      {:"$bytes", <<255, 0>>}

      {:ok, {:"$bytes", thumbnail}} = SnakepitPort.execute("shrink", [SnakepitPort.bytes(image)])
  """
  @spec bytes(binary) :: {:"$bytes", binary}
  def bytes(binary) when is_binary(binary), do: {:"$bytes", binary}

  def bytes(other) do
    raise ArgumentError, "bytes are marked in a binary, not in #{inspect(other, limit: 5)}"
  end

  @doc """
  Gives commands a function of this node, which they call as `host.call("name", ...)`, in the place of one that had the
  name before. The server can be left out.

      :ok = SnakepitPort.register_tool("user_name", fn id -> Repo.get!(User, id).name end)

  It runs in a process of its own, whose `$callers` are the process that called the command, and the callers of that: so
  what Ecto's sandbox and Mox allow that process, they allow the tool. It may take its time. When nobody waits for it
  any more, it is told to exit with the reason `:shutdown`: when the command's call is past its deadline, when the calling
  process dies, when the server stops; and when the worker dies, or, should its call be run again, when that is answered or
  asks for a tool. What it raises, throws or exits with is raised in the command, as
  `ToolError`, and a warning for Logger (`Logger.put_module_level(SnakepitPort.Tools, :none)` silences these).
  Arguments and results travel as those of commands do. A tool may make calls; one to the pool that waits for it takes a
  worker that is free.

  A function that a module exports, as `&MyApp.user_name/1`, is that of its newest code. Any other is gone when its module
  has been loaded twice since, as `recompile/0` in iex or Phoenix's code reloader do that: the command gets a
  `BadFunctionError`, until the tool is registered anew.

  A server that was started again knows the tools that `start_link/1` got as `:tools`, and no others. An error of
  type `:supervisor_down` if no such server runs.
  """
  @spec register_tool(server, String.t() | atom, fun) :: :ok | {:error, Error.t()}
  def register_tool(server \\ SnakepitPort, name, tool) do
    name = Call.text(name, "a tool")

    unless is_function(tool),
      do: raise(ArgumentError, "a tool is a function, not #{inspect(tool, limit: 5)}")

    with_tools(server, &Tools.put(&1, name, tool))
  end

  @doc "Takes a tool back; returns whether there was one. The server can be left out. Errors as `register_tool/3`."
  @spec unregister_tool(server, String.t() | atom) :: {:ok, boolean} | {:error, Error.t()}
  def unregister_tool(server \\ SnakepitPort, name) do
    name = Call.text(name, "a tool")
    with_tools(server, &{:ok, Tools.remove(&1, name)})
  end

  defp with_tools(server, change) do
    with {:ok, link} <- Link.find(server) do
      try do
        change.(link)
      rescue
        # The table is gone, and the server with it.
        ArgumentError -> Link.not_running(server)
      end
    end
  end

  @doc """
  Has events and log lines sent to the calling process, until `unsubscribe/1`, or until it exits or the server does
  (monitor the server, and subscribe again to the next):

      {:snakepit_port, :event, [:snakepit_port, :worker, :started], measurements, metadata}
      {:snakepit_port, :log, %{level: :info, line: "hello", pool: "default", worker: "default-1", ...}}

  An error of type `:timeout` if a telemetry handler or Logger holds them up: a few may come then, when that is over,
  before it is unsubscribed again.
  """
  @spec subscribe(server) :: :ok | {:error, Error.t()}
  def subscribe(server \\ SnakepitPort), do: with_reporter(server, &Reporter.subscribe/1)

  @doc """
  Ends what `subscribe/1` began for the calling process, if it did: nothing more is sent to it from then on, and what
  has been stays in its mailbox. Errors as `subscribe/1`; one of type `:timeout` when it ends later.
  """
  @spec unsubscribe(server) :: :ok | {:error, Error.t()}
  def unsubscribe(server \\ SnakepitPort), do: with_reporter(server, &Reporter.unsubscribe/1)

  defp with_reporter(server, ask) do
    with {:ok, link} <- Link.find(server), do: ask.(link.reporter)
  catch
    :exit, {:timeout, _} ->
      {:error,
       %Error{type: :timeout, message: "Logger or a telemetry handler holds the reporter up"}}

    :exit, {reason, _} ->
      gone(server, reason)
  end

  @doc """
  Stops the supervisor and all its workers, and returns when they are gone. Calls that are running, or wait for a
  worker, may finish within the configuration's `shutdown_grace_period`, or the `:stop_timeout` of `start_link/1` where
  that is shorter. Does nothing if none is running.

  A server that is the child of an OTP supervisor is started again by that. To stop it for good:
  `Supervisor.terminate_child(MyApp.Supervisor, SnakepitPort)`, with the name of the server where it has another one.
  """
  @spec stop(server) :: :ok
  def stop(server \\ SnakepitPort) do
    :ok = Link.check(server)
    unless Link.other?(server), do: GenServer.stop(server)
    :ok
  catch
    :exit, _ -> :ok
  end

  @doc """
  For scripts: starts, waits for the pools, runs `fun`, stops whatever happened, and returns what
  `fun` did. Raises `SnakepitPort.Error` if the start fails, and `ArgumentError` while a server of that name runs.

  Takes the options of `start_link/1`, and `:timeout` for `await_ready/2`. A BEAM that was started for it goes on; end
  the script with `System.halt/0` if that is not wanted.
  """
  @spec run_as_script((... -> result), keyword) :: result when result: term
  def run_as_script(fun, opts \\ []) do
    unless is_function(fun, 0) do
      raise ArgumentError, "a script is a function without arguments, not #{inspect(fun)}"
    end

    opts = options!(opts, [:timeout | Options.names()])
    {timeout, opts} = Keyword.pop(opts, :timeout, @start_timeout)

    :ok = Options.check_timeout(timeout)
    server = started!(start_link(opts))

    try do
      with {:error, error} <- await_ready(server, timeout), do: raise(error)
      fun.()
    after
      stop(server)
      # A script that traps exits has not asked for the message of this one.
      Process.unlink(server)
      receive do: ({:EXIT, ^server, _} -> :ok), after: (0 -> :ok)
    end
  end

  defp started!({:ok, pid}), do: pid
  defp started!({:error, %Error{} = error}), do: raise(error)

  defp started!({:error, {:already_started, pid}}) do
    raise ArgumentError, "a SnakepitPort server of that name is running already: #{inspect(pid)}"
  end

  defp control!(server, name), do: ok!(Call.control(server, name, %{}, @control_timeout))

  defp ok!({:ok, result}), do: result
  defp ok!({:error, error}), do: raise(error)
end
