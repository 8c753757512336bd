defmodule SnakepitPort.Chunks do
  @moduledoc """
  One stream call, in its consumer's process: from options to chunks.

  The consumer grants credit as it takes chunks, so what waits in its mailbox is bounded
  (`SnakepitPort.Window`). Whatever ends it (the last chunk, an error, a consumer that stops or dies),
  the call is answered or cancelled, and nothing of it stays in the mailbox. When another process has halted it, that
  is so as soon as the consumer halts it, too, or goes on: nobody else can tidy up there.

  **Halted before it began.** `Stream.zip/1` holds its streams suspended, each after a chunk. If one of them fails in
  the first round it halts all, but as they were before that round: what it halts is not the enumeration
  that has begun, but another one, which has not. So that no generator waits for nobody, whoever halts a
  stream that has not begun closes the enumeration of this same stream that this process has suspended for the
  first time, and not gone on with since. That is noted in the process dictionary.
  """

  alias SnakepitPort.{Call, Error, Frames, Link, LinkStream, SharedMemory, Span, Terms, Window}

  # What a worker makes of small chunks while credit is on its way.
  @window 512

  @enforce_keys [:call, :command, :link, :handle, :window, :deadline, :consumer, :span]
  defstruct @enforce_keys ++ [owed: 0, taken: 0, files?: false]

  @doc "The chunks as a lazy enumerable, which makes the call when it is enumerated."
  @spec stream(String.t() | atom, map | list, keyword) :: Enumerable.t()
  def stream(command, args, opts) do
    request = prepare(command, args, opts)
    key = {__MODULE__, make_ref()}

    # An enumerable is such a function: `Enumerable.reduce/3`.
    &begin(request, key, &1, &2)
  end

  defp begin(request, key, {:cont, acc}, fun) do
    chunks = ok!(open(request))

    with {:suspended, acc, continue} <- reduce(chunks, {:cont, acc}, fun) do
      # Those that another process has halted are none any more.
      {others, halted} = Enum.split_with(suspended(key), &open?/1)
      Enum.each(halted, &close(&1, :halted))
      Process.put(key, [chunks | others])
      {:suspended, acc, fn command -> resumed(key, chunks) && continue.(command) end}
    end
  end

  # Nothing has been asked for yet.
  defp begin(request, key, {:suspend, acc}, fun),
    do: {:suspended, acc, &begin(request, key, &1, fun)}

  # And nothing will be.
  defp begin(_request, key, {:halt, acc}, _fun) do
    with [chunks | _] <- suspended(key), do: close(resumed(key, chunks), :halted)
    {:halted, acc}
  end

  defp reduce(chunks, {:suspend, acc}, fun), do: {:suspended, acc, &resume(chunks, &1, fun)}

  defp reduce(chunks, {:halt, acc}, _fun) do
    close(chunks, :halted)
    {:halted, acc}
  end

  # What is sent to the process that began is not sent to another. It goes on.
  defp reduce(%{consumer: consumer}, {:cont, _}, _) when consumer != self() do
    raise ArgumentError,
          "a stream can only be gone on with by the process that began it, #{inspect(consumer)}"
  end

  defp reduce(chunks, {:cont, acc}, fun) do
    case take(chunks) do
      {:chunk, value, chunks} -> {chunks, fun.(value, acc)}
      ending -> ending
    end
  catch
    kind, reason ->
      close(chunks, {kind, reason, __STACKTRACE__})
      :erlang.raise(kind, reason, __STACKTRACE__)
  else
    {:error, error} ->
      close(chunks, {:error, error})
      raise error

    {chunks, command} ->
      reduce(chunks, command, fun)

    :ok ->
      close(chunks, :ok)
      {:done, acc}
  end

  # It may have been closed meanwhile, by who halted the same stream before it began, or by another process.
  defp resume(chunks, {:cont, _} = command, fun) do
    unless chunks.consumer != self() or open?(chunks) do
      close(chunks, :halted)
      error = %Error{type: :cancelled, message: "the stream was closed while it was suspended"}
      raise Call.about(error, chunks.call, chunks.command)
    end

    reduce(chunks, command, fun)
  end

  defp resume(chunks, command, fun), do: reduce(chunks, command, fun)

  defp open?(chunks), do: LinkStream.open?(chunks.link, chunks.handle, chunks.consumer)

  # Several, if a stream is zipped with itself.
  defp suspended(key), do: Process.get(key, [])

  defp resumed(key, chunks) do
    case Enum.reject(suspended(key), &(&1.handle == chunks.handle)) do
      [] -> Process.delete(key)
      others -> Process.put(key, others)
    end

    chunks
  end

  @doc "Calls `fun` with each chunk."
  @spec each(String.t() | atom, map | list, (term -> any), keyword) :: :ok | {:error, Error.t()}
  def each(command, args, fun, opts) do
    with {:ok, chunks} <- open(prepare(command, args, opts)) do
      try do
        take_all(chunks, fun)
      catch
        kind, reason ->
          close(chunks, {kind, reason, __STACKTRACE__})
          :erlang.raise(kind, reason, __STACKTRACE__)
      else
        {chunks, ending} ->
          close(chunks, ending)
          ending
      end
    end
  end

  defp take_all(chunks, fun) do
    case take(chunks) do
      {:chunk, value, chunks} ->
        fun.(value)
        take_all(chunks, fun)

      ending ->
        {chunks, ending}
    end
  end

  # Here rather than when it is enumerated, so that a mistake is raised where it was made.
  defp prepare(command, args, opts) do
    call = Call.options(opts, %Call{window: @window})
    {call, Call.text(command, "a command"), Call.arguments(args)}
  end

  defp open({call, command, args}) do
    span = Span.start(call, command)

    with {:error, error} <- open(call, command, args, span) do
      Span.stop(span, {:error, error})
      {:error, error}
    end
  end

  defp open(call, command, args, span) do
    window = Window.new(call.window)
    wire = Map.put(call.wire, "stream", window.under_way)

    with {:ok, link} <- Link.find(call.server),
         {how, args} when how in [:ok, :files] <- Terms.arguments(args, link),
         files? = how == :files,
         {:ok, handle} <- write(link, files?, &Frames.call(&1, call.pool, command, args, wire)) do
      call = %{call | timeout: Call.timeout(call, link)}

      {:ok,
       %__MODULE__{
         call: call,
         command: command,
         link: link,
         handle: handle,
         window: window,
         deadline: deadline(Call.wait(call.timeout)),
         consumer: self(),
         span: span,
         files?: files?
       }}
    else
      {:error, error} -> {:error, Call.about(error, call, command)}
    end
  end

  defp write(link, files?, frame_of) do
    with {:error, error} <- LinkStream.open(link, frame_of) do
      if files?, do: release(link)
      {:error, error}
    end
  end

  # A process waits for one thing at a time, and so has one row for the files of what it has sent. From its
  # call to its first chunk a stream is waited for without a break, and then its arguments have been read.
  defp release(link), do: SharedMemory.release(link.shm, link.table, {:sent, self()})

  # The consumer has done with the chunks that it has taken: those are what it pays for here.
  defp take(%{owed: owed} = chunks) when owed > 0 do
    LinkStream.grant(chunks.link, chunks.handle, owed)
    take(%{chunks | owed: 0})
  end

  defp take(chunks) do
    ms = left(chunks.deadline)

    with {:ok, frame} <- await(chunks, ms),
         {:chunk, term} <- in_time(Frames.answer(frame), ms),
         {:ok, value} <- Terms.decode(term) do
      {owed, window} = Window.taken(chunks.window, byte_size(term))
      taken = chunks.taken + 1
      {:chunk, value, %{chunks | window: window, owed: owed, taken: taken, files?: false}}
    else
      {:result, _} ->
        :ok

      # Nobody reads what the generator returns; closing the stream removes the files.
      {:result, _, _, _} ->
        :ok

      :closed ->
        error = %Error{type: :cancelled, message: "the stream was closed by another process"}
        {:error, Call.about(error, chunks.call, chunks.command)}

      :timeout ->
        too_late(Call.late(chunks.call.timeout), chunks)

      {:error, %Error{type: :timeout} = error} ->
        too_late(error, chunks)

      {:error, error} ->
        {:error, Call.about(error, chunks.call, chunks.command)}
    end
  end

  # Whether Python or the consumer was slow is not known here: chunks that are ready wait for credit.
  defp too_late(error, %{call: call, command: command}) do
    message =
      error.message <>
        " (for the whole stream, what its consumer takes included; timeout: gives it more)"

    {:error, Call.about(%{error | message: message}, call, command)}
  end

  @doc """
  What an answer counts for when `ms` are left. Past the deadline there are no more values; that the stream has ended
  still counts.
  """
  @spec in_time(answer, timeout) :: answer | :timeout when answer: tuple
  def in_time({:chunk, _}, 0), do: :timeout
  def in_time(answer, _ms), do: answer

  defp await(chunks, ms) do
    answer = LinkStream.await(chunks.link, chunks.handle, chunks.taken, ms)
    # Whatever that is, nobody is going to read them any more.
    if chunks.files?, do: release(chunks.link)
    if answer == :lost, do: raise(ArgumentError, lost())
    answer
  end

  defp lost do
    "chunks of a stream are no longer in the mailbox of #{inspect(self())}: something else has received them, as a " <>
      "GenServer or GenStage does between its callbacks, where a stream cannot be kept suspended (enumerate it in a " <>
      "process of its own); or the same step of the enumeration is taken a second time"
  end

  defp close(chunks, ending) do
    if LinkStream.close(chunks.link, chunks.handle, chunks.consumer),
      do: Span.stop(chunks.span, ending, %{chunks: chunks.taken})
  end

  defp deadline(:infinity), do: :infinity
  defp deadline(ms), do: System.monotonic_time(:millisecond) + ms

  defp left(:infinity), do: :infinity
  defp left(deadline), do: max(0, deadline - System.monotonic_time(:millisecond))

  defp ok!({:ok, chunks}), do: chunks
  defp ok!({:error, error}), do: raise(error)
end
