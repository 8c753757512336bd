defmodule SnakepitPort.LinkStream do
  @moduledoc """
  A stream over a `SnakepitPort.Link`: how it is opened, waited for, granted credit, and closed. `SnakepitPort.Chunks`
  makes an enumerable of it.
  """

  alias SnakepitPort.{Error, Frames, Link}

  @typedoc "An open one: its call's identifier, and the alias that its chunks are sent to."
  @type t :: {Frames.id(), reference}

  # How long a stream waits for what was sent to it already, in ms: that is there.
  @patience 1_000

  @doc """
  Sends the frame of a stream call. The calling process gets its chunks with `await/4`, and has to
  `close/3` it.
  """
  @spec open(Link.t(), (Frames.id() -> iodata)) :: {:ok, t} | {:error, Error.t()}
  def open(link, frame_of) do
    id = Link.next_id(link)
    frame = frame_of.(id)

    with :ok <- Link.check_size(link, frame) do
      # It stays for any number of messages, until the monitor is taken back.
      alias = :erlang.monitor(:process, link.owner, alias: :demonitor)
      Link.register_and_write(link, {id, alias, 0}, frame)
      Link.note_besides(link, id)
      {:ok, {id, alias}}
    end
  end

  @doc """
  What a stream gets after `n` chunks: one more, or its answer. `:lost` if that was sent to its consumer, and is there
  no more. `:closed` if another process has closed it meanwhile.
  """
  @spec await(Link.t(), t, non_neg_integer, timeout) ::
          {:ok, binary} | {:error, Error.t()} | :timeout | :lost | :closed
  def await(link, stream, n, timeout) do
    with :timeout <- take(stream, n, 0) do
      if sent?(link, stream, n) do
        # An atom is larger than any number.
        with :timeout when timeout >= @patience <- take(stream, n, min(timeout, @patience)),
             do: :lost
      else
        take(stream, n, timeout)
      end
    end
  end

  defp take({_id, alias}, n, timeout) do
    receive do
      {^alias, ^n, frame} -> {:ok, frame}
      {^alias, :closed, _} -> :closed
      {^alias, _, _} -> :lost
      {:DOWN, ^alias, _, _, reason} -> {:error, Link.down(reason)}
    after
      timeout -> :timeout
    end
  end

  defp sent?(link, {id, _alias}, n) do
    case :ets.lookup(link.table, id) do
      [{_, _, sent, _}] -> sent > n
      # It was answered.
      [] -> true
    end
  rescue
    # The owner has told why it goes, or is about to.
    ArgumentError -> not Process.alive?(link.owner)
  end

  @doc "Lets the worker send so many more chunks."
  @spec grant(Link.t(), t, pos_integer) :: :ok
  # Should the port be gone, the owner goes, too, and the monitor will say why.
  def grant(link, {id, _alias}, credit), do: Link.tell(link, Frames.credit(id, credit))

  @doc """
  Cancels a stream that has not been answered. Nothing of it is or comes into the mailbox of its consumer,
  if that is who calls this: nobody can take chunks out of another's. Another consumer is told, for it may be waiting.
  Returns whether it was open until now.
  """
  @spec close(Link.t(), t, consumer :: pid) :: boolean
  def close(link, {id, alias}, consumer) do
    if consumer == self() do
      Process.demonitor(alias, [:flush])
      drop(alias)
    else
      # Before its row is taken: who finds none waits for what was sent.
      if :ets.member(link.table, id), do: send(alias, {alias, :closed, nil})
    end

    Link.cancel(link, id)
    :ets.take(link.streams, {consumer, id}) != []
  rescue
    # The owner is gone.
    ArgumentError -> consumer == self()
  end

  @doc "Whether nobody has closed a stream of this consumer's."
  @spec open?(Link.t(), t, consumer :: pid) :: boolean
  def open?(link, {id, _alias}, consumer) do
    :ets.member(link.streams, {consumer, id})
  rescue
    # The owner is gone: the monitor will say why.
    ArgumentError -> true
  end

  defp drop(alias) do
    receive do
      {^alias, _, _} -> drop(alias)
    after
      0 -> :ok
    end
  end
end
