defmodule SnakepitPort.Chunks do
  @moduledoc """
  One stream call, in its consumer's process: from options to chunks.

  The consumer grants credit as it takes chunks, so what waits in its mailbox is bounded
  (`SnakepitPort.Window`). Whatever ends it (the last chunk, an error, a consumer that stops or dies),
  the call is answered or cancelled, and nothing of it stays in the mailbox.

  **Halted before it began.** `Stream.zip/1` holds its streams suspended, each after a chunk. If one of them fails in
  the first round it halts all, but as they were before that round: what it halts is not the enumeration
  that has begun, but another one, which has not. So that no generator waits for nobody, whoever halts a
  stream that has not begun closes the enumeration of this same stream that this process has suspended for the
  first time, and not gone on with since. That is noted in the process dictionary.
  """

  alias SnakepitPort.{Call, Error, Frames, Link, Terms, Window}

  # What a worker makes of small chunks while credit is on its way.
  @window 512

  @enforce_keys [:call, :command, :link, :handle, :window, :deadline, :consumer]
  defstruct @enforce_keys ++ [owed: 0]

  @doc "The chunks as a lazy enumerable, which makes the call when it is enumerated."
  @spec stream(String.t() | atom, map | list, keyword) :: Enumerable.t()
  def stream(command, args, opts) do
    request = prepare(command, args, opts)
    key = {__MODULE__, make_ref()}

    fn
      # No call for somebody who wants nothing of it.
      {:halt, acc}, _fun ->
        with [chunks | _] <- suspended(key), do: close(resumed(key, chunks))
        {:halted, acc}

      command, fun ->
        chunks = ok!(open(request))

        with {:suspended, acc, continue} <- reduce(chunks, command, fun) do
          Process.put(key, [chunks | suspended(key)])
          {:suspended, acc, fn command -> resumed(key, chunks) && continue.(command) end}
        end
    end
  end

  # An enumerable is such a function: `Enumerable.reduce/3`.
  defp reduce(chunks, {:suspend, acc}, fun), do: {:suspended, acc, &reduce(chunks, &1, fun)}

  defp reduce(chunks, {:halt, acc}, _fun) do
    close(chunks)
    {:halted, acc}
  end

  defp reduce(chunks, {:cont, acc}, fun) do
    case take(chunks) do
      {:chunk, value, chunks} -> {chunks, fun.(value, acc)}
      :ended -> :ended
      {:error, error} -> raise error
    end
  catch
    kind, reason ->
      close(chunks)
      :erlang.raise(kind, reason, __STACKTRACE__)
  else
    {chunks, command} ->
      reduce(chunks, command, fun)

    :ended ->
      close(chunks)
      {:done, acc}
  end

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
      after
        close(chunks)
      end
    end
  end

  defp take_all(chunks, fun) do
    case take(chunks) do
      {:chunk, value, chunks} ->
        fun.(value)
        take_all(chunks, fun)

      :ended ->
        :ok

      {:error, error} ->
        {:error, error}
    end
  end

  # Here rather than when it is enumerated, so that a mistake is raised where it was made.
  defp prepare(command, args, opts) do
    call = Call.options(opts, %Call{window: @window})
    # In the frame, whatever their size: the files of a process go with the call it waits for.
    {call, Call.text(command, "a command"), Terms.arguments(Call.arguments(args), nil)}
  end

  defp open({call, command, args}) do
    window = Window.new(call.window)
    wire = Map.put(call.wire, "stream", window.under_way)

    with {:ok, args} <- args,
         {:ok, link} <- Link.find(call.server),
         {:ok, handle} <- Link.open(link, &Frames.call(&1, call.pool, command, args, wire)) do
      {:ok,
       %__MODULE__{
         call: call,
         command: command,
         link: link,
         handle: handle,
         window: window,
         deadline: deadline(Call.wait(call.timeout)),
         consumer: self()
       }}
    else
      {:error, error} -> {:error, Call.about(error, call, command)}
    end
  end

  # What is sent to the process that began is not sent to another.
  defp take(%{consumer: consumer}) when consumer != self() do
    raise ArgumentError,
          "a stream can only be gone on with by the process that began it, #{inspect(consumer)}"
  end

  # The consumer has done with the chunks that it has taken: those are what it pays for here.
  defp take(%{owed: owed} = chunks) when owed > 0 do
    Link.grant(chunks.link, chunks.handle, owed)
    take(%{chunks | owed: 0})
  end

  defp take(chunks) do
    ms = left(chunks.deadline)

    # Past the deadline there are no more values; that the stream has ended still counts.
    with {:ok, frame} <- Link.await(chunks.handle, ms),
         {:chunk, term} when ms != 0 <- Frames.answer(frame),
         {:ok, value} <- Terms.decode(term) do
      {owed, window} = Window.taken(chunks.window, byte_size(term))
      {:chunk, value, %{chunks | window: window, owed: owed}}
    else
      {:result, _} ->
        :ended

      # Nobody reads what the generator returns; closing the stream removes the files.
      {:result, _, _, _} ->
        :ended

      late when late == :timeout or elem(late, 0) == :chunk ->
        {:error, Call.about(Call.late(chunks.call.timeout), chunks.call, chunks.command)}

      {:error, error} ->
        {:error, Call.about(error, chunks.call, chunks.command)}
    end
  end

  defp close(chunks), do: Link.close(chunks.link, chunks.handle, chunks.consumer)

  defp deadline(:infinity), do: :infinity
  defp deadline(ms), do: System.monotonic_time(:millisecond) + ms

  defp left(:infinity), do: :infinity
  defp left(deadline), do: max(0, deadline - System.monotonic_time(:millisecond))

  defp ok!({:ok, chunks}), do: chunks
  defp ok!({:error, error}), do: raise(error)
end
