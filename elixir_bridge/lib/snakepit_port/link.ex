defmodule SnakepitPort.Link do
  @moduledoc """
  The callers' side of a port: how a call is registered, written, waited for and given up.

  A caller encodes its frame, registers itself in an ETS table and writes to the port **itself**. The
  port's owner (`SnakepitPort.Server`) sees answers only. Measured against an owner that also writes,
  and against a writer process, this took a quarter off the BEAM's CPU time for a call and carried a
  fifth more calls: one message fewer per call, and callers write in parallel. What makes it safe:

    * **Registered before answered.** The row `{id, alias, callers}`, of a stream `{id, alias, chunks, callers}`, of a
      call whose progress is told `{id, alias, :follows, callers}`, is in the table before the first byte is
      written, so the owner always finds whom an answer belongs to. Whoever *takes* the row
      (the owner for an answer, the caller for its timeout, the owner for a dead caller) has settled
      the call; that is why it is settled once.
    * **Late answers cannot arrive.** The caller waits on an alias that ends with its monitor of the
      owner. After a timeout a late answer is dropped by the BEAM, not by code.
    * **No caller hangs.** It monitors the owner, whose exit reason says why; and its own timer runs
      in its own `receive`, for which neither the owner nor the supervisor need to be alive. The timer
      can be trusted because *writing never blocks*: `Port.command/2` would suspend the caller for
      as long as the supervisor does not read, so `:nosuspend` is used. When the port is busy, the
      frame is left in the outbox, and `SnakepitPort.Pump`, the only process that may be suspended,
      writes it when there is room. While the pump is at work, everybody goes through the outbox, so
      calls are written in the order they came.
    * **Memory is bounded** while the supervisor does not read: the outbox holds one frame per waiting
      caller, taken out again when the caller gives up, and one small cancel for each call that was
      written before; of those there are as many as fit into the pipe. The pump's mailbox holds at
      most a message or two (`busy` says that it is running already).
    * **A caller that dies** has its call cancelled. The owner monitors each calling process once, for
      as long as it lives, rather than once for each call; the row `{caller, id}` says what it last
      asked for. One is enough, because a process waits for one answer at a time. It can have any
      number of streams besides, and calls whose progress it is told while it makes others; so those have rows of
      their own, `{caller, id}` in order.

    * **Files of an answer** are named in the row `{{:received, id}, names}` before the answer is handed
      out. Whoever takes that row removes them: the caller when it has read them, or has given up; the
      owner when nobody waited, or the caller is dead.

  The server's name is the name of the table as well, and the row `:link` holds this struct. So a
  caller finds everything with one lookup, and the table is gone when the owner is.
  """

  alias SnakepitPort.{Error, Frames, Pump, SharedMemory}

  @enforce_keys [
    :table,
    :streams,
    :outbox,
    :owner,
    :port,
    :pump,
    :ids,
    :busy,
    :reporter,
    :max_frame_bytes
  ]
  defstruct [:shm | @enforce_keys]

  @type t :: %__MODULE__{
          table: :ets.tid(),
          streams: :ets.tid(),
          outbox: :ets.tid(),
          owner: pid,
          port: port,
          pump: pid,
          ids: :atomics.atomics_ref(),
          busy: :atomics.atomics_ref(),
          reporter: pid,
          max_frame_bytes: pos_integer,
          shm: SharedMemory.t() | nil
        }

  # For a pool that is not there, in ms: as of those where nothing is set.
  @call_timeout 60_000

  # Identifiers from here to 2^31 are 32-bit integers on the wire: one shape for the fast paths.
  @first_id 256

  # -- the owner's part ---------------------------------------------------------------------------

  @doc "Makes the link of the calling process, whose table is named `table`. Nobody finds it before `publish/1`."
  @spec create(atom, port, pid, pos_integer, SharedMemory.t() | nil) :: t
  def create(table, port, reporter, max_frame_bytes, shm \\ nil) do
    ^table = :ets.new(table, [:named_table, :public, write_concurrency: true])
    outbox = :ets.new(:outbox, [:ordered_set, :public])
    ids = :atomics.new(1, signed: false)
    :atomics.put(ids, 1, @first_id - 1)
    busy = :atomics.new(1, [])

    %__MODULE__{
      # Not the name: the next server of that name has a table of its own, and the same identifiers.
      table: :ets.whereis(table),
      streams: :ets.new(:streams, [:ordered_set, :public]),
      outbox: outbox,
      owner: self(),
      port: port,
      pump: Pump.start_link(port, outbox, busy),
      ids: ids,
      busy: busy,
      reporter: reporter,
      max_frame_bytes: max_frame_bytes,
      shm: shm
    }
  end

  @doc "Has callers find a link, by the name of its table."
  @spec publish(t) :: :ok
  def publish(link) do
    :ets.insert(link.table, {:link, link})
    :ok
  end

  @doc """
  Notes what a reload has to know: the `config:` that the server was given, the folder that relative paths in
  it start from, if it is no file, and what the supervisor can do. In a row of its own, for every call copies
  the link.
  """
  @spec note_origin(t, String.t() | map | keyword | nil, String.t() | nil, [String.t()]) :: :ok
  def note_origin(link, config, base_dir, capabilities) do
    :ets.insert(link.table, {:origin, {config, base_dir}, capabilities})
    :ok
  end

  @doc "Notes how long calls of each pool may take that do not say, in ms; `nil` is for ever."
  @spec note_call_timeouts(t, %{String.t() => non_neg_integer | nil}) :: :ok
  def note_call_timeouts(link, timeouts) do
    # Calls that name no pool go to the one named `default`, else to the only one.
    default =
      case timeouts do
        %{"default" => ms} -> [{nil, ms}]
        _ -> for {_, ms} <- timeouts, map_size(timeouts) == 1, do: {nil, ms}
      end

    rows = for {pool, ms} <- default ++ Map.to_list(timeouts), do: {{:call_timeout, pool}, ms}
    :ets.insert(link.table, rows)
    before = :ets.select(link.table, [{{{:call_timeout, :_}, :_}, [], [:"$_"]}])
    for {key, _} <- before -- rows, do: :ets.delete(link.table, key)
    :ok
  end

  @doc "How long a call of a pool may take that does not say; `nil` is for ever."
  @spec call_timeout(t, String.t() | nil) :: non_neg_integer | nil
  def call_timeout(link, pool) do
    case :ets.lookup(link.table, {:call_timeout, pool}) do
      [{_, timeout}] -> timeout
      [] -> @call_timeout
    end
  rescue
    # The owner is gone: the monitor will say why.
    ArgumentError -> @call_timeout
  end

  # -- the callers' part --------------------------------------------------------------------------

  @doc """
  The link of a server that runs on this node, by its name or pid. Raises `ArgumentError` as `check/1`.
  """
  @spec find(atom | pid) :: {:ok, t} | {:error, Error.t()}
  def find(server) do
    :ok = check(server)
    lookup(server)
  end

  @doc "Raises `ArgumentError` for what cannot be a server."
  @spec check(atom | pid) :: :ok
  def check(server) when is_atom(server) or is_pid(server), do: :ok

  def check(other) do
    raise ArgumentError,
          "a SnakepitPort server is given by its name, an atom, or by its pid, and comes first " <>
            "where a function takes one: this is none: #{inspect(other)}#{looked_up(other)}"
  end

  # As `GenServer.server/0` has them: a server may be found so besides, through a `PartitionSupervisor` for one.
  defp looked_up(name) when elem(name, 0) in [:via, :global],
    do: "; GenServer.whereis/1 has the pid that goes by it"

  defp looked_up(_), do: ""

  # Its table and its port can only be reached there.
  defp lookup(server) when is_pid(server) and node(server) != node() do
    message =
      "#{inspect(server)} is a process of the node #{node(server)}, and a SnakepitPort server works for its own " <>
        "node; call there: :erpc.call(#{inspect(node(server))}, SnakepitPort, :execute, [...])"

    {:error, %Error{type: :supervisor_down, message: message}}
  end

  defp lookup(server) do
    name = if is_pid(server), do: registered_name(server), else: server
    [{_, link}] = :ets.lookup(name, :link)
    {:ok, link}
  rescue
    _ in [ArgumentError, MatchError] -> not_running(server)
  end

  @doc "What `note_origin/4` has noted."
  @spec origin(t) ::
          {:ok, {String.t() | map | keyword | nil, base_dir :: String.t() | nil}, [String.t()]}
          | {:error, Error.t()}
  def origin(link) do
    [{_, started_with, capabilities}] = :ets.lookup(link.table, :origin)
    {:ok, started_with, capabilities}
  rescue
    _ in [ArgumentError, MatchError] -> not_running(link.owner)
  end

  @doc "The error of a server that is not there."
  @spec not_running(atom | pid) :: {:error, Error.t()}
  def not_running(server) do
    message = "no SnakepitPort server #{inspect(server)} is running: #{why(server)}"
    {:error, %Error{type: :supervisor_down, message: message}}
  end

  defp why(server) do
    if other?(server),
      do:
        "that is another process, such as the supervisor of one; give the name that the server was started with",
      else:
        "none was started by that name, or it has stopped (the log says why), and its supervisor may be starting " <>
          "it again#{meant(server)}"
  end

  # Servers are mostly named as modules, pools never. Not all that asks for a server can be asked of one pool.
  defp meant(server) do
    if is_atom(server) and not String.starts_with?(Atom.to_string(server), "Elixir."),
      do:
        ". If that is a pool: calls and recycle name it as an option, pool: #{inspect(server)}; statistics of one " <>
          "are get_stats().pools[#{inspect(Atom.to_string(server))}]",
      else: ""
  end

  @doc """
  Whether a name or a pid is that of a process which is no server. What runs on other nodes is not looked at.

  Such a process must neither be asked nor stopped: most end of a question that they do not know, supervisors among them.
  """
  @spec other?(atom | pid) :: boolean
  def other?(name) when is_atom(name) do
    with pid when is_pid(pid) <- Process.whereis(name), do: other?(pid), else: (_ -> false)
  end

  def other?(pid) when node(pid) != node(), do: false

  def other?(pid) do
    # Not by its table, which it has when the supervisor has said hello.
    Process.alive?(pid) and
      :proc_lib.translate_initial_call(pid) != {SnakepitPort.Server, :boot, 2}
  end

  defp registered_name(pid) do
    case Process.info(pid, :registered_name) do
      {:registered_name, name} -> name
      _ -> nil
    end
  end

  @doc """
  Sends the frame that `frame_of` makes of an identifier, and waits up to `timeout` for its answer.
  `announce` is called with the identifier before it is written, and not if it is too large for that.
  """
  @spec request(t, (Frames.id() -> iodata), timeout, (Frames.id() -> any)) ::
          {:ok, answer :: binary} | {:error, Error.t()} | :timeout
  def request(link, frame_of, timeout, announce \\ fn _ -> :ok end) do
    id = next_id(link)
    frame = frame_of.(id)

    with :ok <- check_size(link, frame) do
      announce.(id)
      # Made in the function that receives: so the receive skips what was in the mailbox before.
      alias = :erlang.monitor(:process, link.owner, alias: :reply_demonitor)
      register_and_write(link, {id, alias}, frame)

      receive do
        {^alias, answer} -> {:ok, answer}
        {:DOWN, ^alias, _, _, reason} -> {:error, down(reason)}
      after
        timeout -> give_up(link, id, alias)
      end
    end
  end

  @doc """
  As `request/3`, and calls `progress` in this process with what the command tells of it. When that raises or
  throws, the call is cancelled.
  """
  @spec follow(t, (Frames.id() -> iodata), timeout, (number, number -> any)) ::
          {:ok, answer :: binary} | {:error, Error.t()} | :timeout
  def follow(link, frame_of, timeout, progress) do
    id = next_id(link)
    frame = frame_of.(id)

    with :ok <- check_size(link, frame) do
      until = if timeout != :infinity, do: now() + timeout
      # It stays for any number of messages, as that of a stream.
      alias = :erlang.monitor(:process, link.owner, alias: :demonitor)
      register_and_write(link, {id, alias, :follows}, frame)
      note_besides(link, id)

      try do
        with :timeout <- await_answer(link, alias, until, progress), do: give_up(link, id, alias)
      catch
        kind, reason ->
          cancel(link, id)
          :erlang.raise(kind, reason, __STACKTRACE__)
      after
        Process.demonitor(alias, [:flush])
        drop_told(alias)
        note_last(link, id)
        forget_besides(link, id)
      end
    end
  end

  defp await_answer(link, alias, until, progress) do
    receive do
      {^alias, {:progress, done, total}} ->
        # It may take its time, and make calls itself.
        if until == nil or now() < until,
          do: SharedMemory.set_aside(link.shm, link.table, fn -> progress.(done, total) end)

        await_answer(link, alias, until, progress)

      {^alias, :follows, answer} ->
        {:ok, answer}

      {:DOWN, ^alias, _, _, reason} ->
        {:error, down(reason)}
    after
      if(until, do: max(until - now(), 0), else: :infinity) -> :timeout
    end
  end

  defp drop_told(alias) do
    receive do
      {^alias, _} -> drop_told(alias)
      {^alias, _, _} -> drop_told(alias)
    after
      0 -> :ok
    end
  end

  defp now, do: System.monotonic_time(:millisecond)

  @doc """
  Has a call cancelled should this process die, whatever it asks for meanwhile: the row of the call itself is
  overwritten by the next one.
  """
  @spec note_besides(t, Frames.id()) :: :ok
  def note_besides(link, id) do
    :ets.insert(link.streams, {{self(), id}})
    :ok
  rescue
    # The owner is gone: the monitor will say why.
    ArgumentError -> :ok
  end

  # The calls that were made meanwhile took its place in the row that tells what a dead caller has left behind: the
  # answer may have files, which are yet to be read.
  defp note_last(link, id) do
    :ets.insert(link.table, {self(), id})
    :ok
  rescue
    ArgumentError -> :ok
  end

  @doc "The process that waits for a call, and whom it works for (`$callers`); nobody if the call is settled."
  @spec callers(t, Frames.id()) :: [pid]
  def callers(link, id) do
    case :ets.lookup(link.table, id) do
      [row] -> elem(row, tuple_size(row) - 1)
      [] -> []
    end
  rescue
    # The owner is gone, and with it whoever asks.
    ArgumentError -> []
  end

  @doc "Takes `note_besides/2` back."
  @spec forget_besides(t, Frames.id()) :: :ok
  def forget_besides(link, id) do
    :ets.delete(link.streams, {self(), id})
    :ok
  rescue
    ArgumentError -> :ok
  end

  @doc "An identifier for a call, which no other has."
  @spec next_id(t) :: Frames.id()
  def next_id(link), do: :atomics.add_get(link.ids, 1, 1)

  @doc "An error of type `:frame_too_large` for a frame that the supervisor does not accept."
  @spec check_size(t, iodata) :: :ok | {:error, Error.t()}
  def check_size(link, frame) do
    size = IO.iodata_length(frame)

    if size <= link.max_frame_bytes do
      :ok
    else
      message =
        "the call is a frame of #{size} bytes; the supervisor accepts #{link.max_frame_bytes} " <>
          "(max_frame_bytes)#{left_out(link.shm)}"

      {:error, %Error{type: :frame_too_large, message: message}}
    end
  end

  defp left_out(nil), do: ""

  defp left_out(shm) do
    ". Bytes and tensors of #{shm.threshold} bytes or more are in it only where shared memory has no room " <>
      "for them (shm_max_bytes: #{shm.max_bytes}); text always is"
  end

  @doc "Writes a frame that nobody waits for. Never waits itself."
  @spec tell(t, iodata) :: :ok
  def tell(link, frame) do
    write(link, next_id(link), frame)
  rescue
    # The port is gone, so the owner is going too.
    ArgumentError -> :ok
  end

  @doc "Removes the files of an answer, when the caller has read them."
  @spec have_read(t, Frames.id(), [String.t()]) :: :ok
  def have_read(link, id, names) do
    SharedMemory.release(link.shm, link.table, {:received, id}, names)
    :ok
  end

  @doc "Has the owner learn of the calling process's death, from now on."
  @spec watch(t) :: :ok
  def watch(link) do
    # First the message, then a row: if it is killed between the two, nothing stays for ever.
    unless :ets.member(link.table, self()) do
      send(link.owner, {:watch, self()})
      # No call has this id.
      :ets.insert(link.table, {self(), 0})
    end

    :ok
  rescue
    # The table is gone, so the owner is going too.
    ArgumentError -> :ok
  end

  @doc "Has the answer to a frame find `row`, to which the callers are added, and writes the frame. Never waits."
  @spec register_and_write(t, tuple, iodata) :: :ok
  def register_and_write(link, row, frame) do
    watch(link)
    id = elem(row, 0)
    callers = [self() | Process.get(:"$callers") || []]
    :ets.insert(link.table, [:erlang.append_element(row, callers), {self(), id}])
    write(link, id, frame)
  rescue
    # The table or the port is gone, so the owner is going too: the monitor will say why.
    ArgumentError -> :ok
  end

  defp write(link, id, frame) do
    if :atomics.get(link.busy, 1) == 1 or
         not :erlang.port_command(link.port, frame, [:nosuspend]) do
      :ets.insert(link.outbox, {id, frame})
      Pump.wake(link.pump, link.busy)
    end

    :ok
  end

  defp give_up(link, id, alias) do
    Process.demonitor(alias, [:flush])

    receive do
      {^alias, answer} when is_binary(answer) -> {:ok, answer}
      {^alias, :follows, answer} -> {:ok, answer}
    after
      0 ->
        cancel(link, id)
        :timeout
    end
  end

  @doc "Gives a call up: nobody waits for its answer."
  @spec cancel(t, Frames.id()) :: :ok
  def cancel(link, id) do
    case :ets.take(link.table, id) do
      [_] ->
        if :ets.take(link.outbox, id) == [],
          do: write(link, next_id(link), Frames.cancel(id)),
          else: send(link.owner, {:not_asked, id})

      # The answer is on its way to whom it cannot reach any more.
      [] ->
        SharedMemory.release(link.shm, link.table, {:received, id})
    end

    :ok
  rescue
    ArgumentError -> :ok
  end

  @doc "The error of an owner that ended for this reason."
  @spec down(term) :: Error.t()
  def down({%Error{} = error, _}), do: error

  # It was looked up before that.
  def down(:noproc),
    do: %Error{type: :supervisor_down, message: "the SnakepitPort server has just stopped"}

  def down(reason) when reason in [:normal, :shutdown] do
    message = "the SnakepitPort server was stopped before the call was answered"
    %Error{type: :supervisor_down, message: message}
  end

  def down(reason) do
    message = "the SnakepitPort server stopped: #{Exception.format_exit(reason)}"
    %Error{type: :supervisor_down, message: message}
  end
end
