defmodule SnakepitPort.Call do
  @moduledoc """
  One call from options to result, in the caller's process.

  The supervisor gets the timeout with the call and stops the work when it is over; its answer says
  where that was. The caller's own timer comes a little later (100 ms) and counts when there is no
  answer at all; the call is cancelled then.
  """

  alias SnakepitPort.{Error, Frames, Link, SharedMemory, Span, Terms}

  @grace 100

  # The longest that a `receive` can wait.
  @longest 0xFFFFFFFF - @grace

  # The first elements of pairs that stand for a value: section 2 of the protocol.
  @marks [:"$bytes", :"$shm"]

  # Options that Snakepit has by another name.
  @renamed %{pool_name: :pool, checkout_timeout: :queue_timeout}

  # `window` is of stream calls only, see `SnakepitPort.Chunks`; `progress` of others.
  defstruct server: SnakepitPort, pool: nil, timeout: nil, wire: %{}, window: nil, progress: nil

  @type t :: %__MODULE__{}

  @doc "Runs a command of a pool."
  @spec execute(String.t() | atom, map | list, keyword) :: {:ok, term} | {:error, Error.t()}
  def execute(command, args, opts) do
    call = options(opts, %__MODULE__{})
    command = text(command, "a command")
    args = arguments(args)
    span = Span.start(call, command)

    try do
      run(call, command, args)
    catch
      # What `:progress` does.
      kind, reason ->
        Span.stop(span, {kind, reason, __STACKTRACE__})
        :erlang.raise(kind, reason, __STACKTRACE__)
    else
      answer ->
        Span.stop(span, with({:ok, _} <- answer, do: :ok))
        answer
    end
  end

  defp run(call, command, args) do
    frame_of = &Frames.call(&1, call.pool, command, &2, call.wire)

    with {:ok, link} <- Link.find(call.server),
         {:ok, result} <- request(link, args, frame_of, timeout(call, link), asks(call)) do
      {:ok, result}
    else
      {:error, error} -> {:error, about(error, call, command)}
    end
  end

  @doc "Asks the supervisor itself. `announce` is called with the id before the question is written."
  @spec control(atom | pid, String.t(), map, timeout, (Frames.id() -> any)) ::
          {:ok, term} | {:error, Error.t()}
  def control(server, name, args, timeout, announce \\ fn _ -> :ok end) do
    # The supervisor itself reads no files: those are for the arguments of commands.
    with {:ok, link} <- Link.find(server),
         {:ok, args} <- Terms.arguments(args, nil),
         {:error, %Error{type: :timeout} = error} <-
           ask(link, &Frames.control(&1, name, args), timeout, announces(announce)) do
      message = "the supervisor has not answered #{name} within #{timeout} ms"
      {:error, %{error | message: message}}
    end
  end

  # How an answer is waited for: a function of the link, what makes a frame, and the time.
  defp asks(%{progress: nil}), do: &Link.request/3
  defp asks(%{progress: progress}), do: &Link.follow(&1, &2, &3, progress)
  defp announces(announce), do: &Link.request(&1, &2, &3, announce)

  defp request(link, args, frame_of, timeout, asks) do
    case Terms.arguments(args, link) do
      {:ok, args} ->
        ask(link, &frame_of.(&1, args), timeout, asks)

      {:files, args} ->
        try do
          ask(link, &frame_of.(&1, args), timeout, asks)
        after
          SharedMemory.release(link.shm, link.table, {:sent, self()})
        end

      {:error, error} ->
        {:error, error}
    end
  end

  defp ask(link, frame_of, timeout, asks) do
    with {:ok, answer} <- asks.(link, frame_of, wait(timeout)),
         {:result, term} <- Frames.answer(answer) do
      Terms.decode(term)
    else
      {:result, id, term, names} ->
        result = Terms.decode(term, link.shm)
        Link.have_read(link, id, names)
        result

      :timeout ->
        {:error, late(timeout)}

      {:chunk, _} ->
        {:error, %Error{type: :protocol_error, message: "a call got a chunk"}}

      {:error, error} ->
        {:error, error}
    end
  end

  @doc "How long a call may take: as it says, or as its pool does."
  @spec timeout(t, Link.t()) :: timeout
  def timeout(%{timeout: nil, pool: pool}, link) do
    with ms when ms not in 0..@longest <- Link.call_timeout(link, pool), do: :infinity
  end

  def timeout(call, _link), do: call.timeout

  @doc "How long to wait for an answer to a call with this timeout."
  @spec wait(timeout) :: timeout
  def wait(:infinity), do: :infinity
  def wait(ms), do: ms + @grace

  @doc "The error of a call without any answer."
  @spec late(timeout) :: Error.t()
  def late(timeout), do: %Error{type: :timeout, message: "no answer within #{timeout} ms"}

  @doc "An error that says what was called, if it did not."
  @spec about(Error.t(), t, String.t()) :: Error.t()
  def about(error, call, command) do
    %{error | command: error.command || command, pool: error.pool || call.pool}
  end

  @doc """
  The call with these options. As for all keyword lists the first counts of those that are given twice. Raises
  `ArgumentError` for one that is unknown or makes no sense.
  """
  @spec options(keyword, t) :: t
  # By hand, for this runs with every call; yet a misspelt option is found. From the end, so that the first counts.
  def options([], call), do: call

  def options([{:timeout, ms} | rest], call) do
    limit = wire_timeout(ms)
    call = options(rest, call)
    %{call | timeout: ms, wire: Map.put(call.wire, "timeout", limit)}
  end

  def options([{:queue_timeout, ms} | rest], call) do
    limit = wire_timeout(ms)
    call = options(rest, call)
    %{call | wire: Map.put(call.wire, "queue_timeout", limit)}
  end

  def options([{:session_id, nil} | rest], call) do
    call = options(rest, call)
    %{call | wire: Map.delete(call.wire, "session")}
  end

  def options([{:session_id, id} | rest], call) do
    id = session(id)
    call = options(rest, call)
    %{call | wire: Map.put(call.wire, "session", id)}
  end

  def options([{:pool, nil} | rest], call), do: %{options(rest, call) | pool: nil}

  def options([{:pool, pool} | rest], call) do
    pool = text(pool, "a pool")
    %{options(rest, call) | pool: pool}
  end

  def options([{:server, server} | rest], call), do: %{options(rest, call) | server: server}

  def options([{:window, n} | rest], %{window: window} = call)
      when window != nil and is_integer(n) and n > 0 do
    %{options(rest, call) | window: n}
  end

  def options([{:window, n} | _], %{window: window}) when window != nil do
    raise ArgumentError, "window: is how many chunks may wait, at least 1, not #{inspect(n)}"
  end

  def options([{:progress, fun} | rest], %{window: nil} = call)
      when is_function(fun, 2) or fun == nil do
    %{options(rest, call) | progress: fun}
  end

  def options([{:progress, other} | _], %{window: nil}) do
    raise ArgumentError,
          "progress: is a function of two arguments, done and total, not #{inspect(other)}"
  end

  def options([other | _] = options, _) when not is_tuple(other) or tuple_size(other) != 2 do
    raise ArgumentError,
          "options are a keyword list, like [timeout: 1_000], not #{shown(options)}; the command comes first, " <>
            "then its arguments, and a pool is named as an option, like [pool: :default]"
  end

  def options([{key, _} = other | _], call) do
    renamed = if name = @renamed[key], do: ", which is #{name}: here"
    known = ":server, :pool, :timeout, :queue_timeout, :session_id"
    more = if call.window, do: ", :window (a positive number)", else: ", :progress"
    known = known <> more
    raise ArgumentError, "unknown option #{inspect(other)}#{renamed}; there is #{known}"
  end

  def options(other, _) do
    raise ArgumentError, "options are a keyword list, like [timeout: 1_000], not #{inspect(other)}"
  end

  defp wire_timeout(:infinity), do: nil
  defp wire_timeout(ms) when ms in 0..@longest, do: ms

  defp wire_timeout(other) do
    raise ArgumentError,
          "a timeout is a number of milliseconds up to #{@longest}, or :infinity, not #{inspect(other)}"
  end

  @doc """
  The arguments of a call, if they are some. Raises `ArgumentError` for a keyword list: whoever writes one
  means names, or options, and as a list it would become positions, each a tuple.
  """
  @spec arguments(map | list) :: map | list
  # An improper list has no length, and is none.
  def arguments(args) when length(args) >= 0 do
    if args != [] and Enum.all?(args, &pair?/1),
      do: raise(ArgumentError, keywords(args)),
      else: args
  end

  def arguments(%struct{} = args) do
    raise ArgumentError,
          "a struct is one value: give it in a list, [%#{inspect(struct)}{}], not as the arguments: #{shown(args)}"
  end

  def arguments(args) when is_map(args), do: args

  def arguments(other) do
    raise ArgumentError,
          "arguments are a map, for names, or a list, for positions; not #{shown(other)}"
  end

  # What `SnakepitPort.bytes/1` makes is no pair of a keyword list, though it looks like one.
  defp pair?({key, _}), do: is_atom(key) and key not in @marks
  defp pair?(_), do: false

  defp keywords(args) do
    "a keyword list is no list of arguments: #{shown(args)}. Write a map for arguments with names, " <>
      "like %{#{elem(hd(args), 0)}: ...}; options, like [timeout: 1_000], come after the arguments, " <>
      "which are [] where there are none; and a tuple that begins with an atom can be given by name"
  end

  # Arguments can be large, and what is in them is nobody's business but the caller's.
  defp shown(term), do: inspect(term, limit: 5, printable_limit: 100)

  @doc """
  A name that may be given as an atom; `what` is named, for the `ArgumentError` if it is neither. `nil` is
  no name: it is what a variable holds that was not set, or a field that is not known. Nor is a binary that is
  not UTF-8: an error that held it could not be printed.
  """
  @spec text(String.t() | atom, String.t()) :: String.t()
  def text(name, what) when is_binary(name) do
    if String.valid?(name) do
      name
    else
      raise ArgumentError, "#{what} is named by a string of UTF-8, not by #{shown(name)}"
    end
  end

  def text(name, _) when is_atom(name) and name != nil, do: Atom.to_string(name)

  def text(other, what) do
    quotes = if charlist?(other), do: ", a list of characters: a string has double quotes", else: ""

    raise ArgumentError, "#{what} is named by a string or an atom, not by #{shown(other)}#{quotes}"
  end

  # Python has strings in single quotes, too.
  defp charlist?([_ | _] = list),
    do: not List.improper?(list) and List.ascii_printable?(list)

  defp charlist?(_), do: false

  @longest_session 255

  @doc "The id of a session, as `text/2`. Raises `ArgumentError` for one that the protocol does not take."
  @spec session(String.t() | atom) :: String.t()
  def session(id) do
    id = text(id, "a session")

    # Mostly bytes tell.
    if id != "" and (byte_size(id) <= @longest_session or code_points(id) <= @longest_session) do
      id
    else
      raise ArgumentError,
            "session_id: has to be a text of 1 to #{@longest_session} characters, not #{shown(id)}"
    end
  end

  defp code_points(text), do: length(String.to_charlist(text))
end
