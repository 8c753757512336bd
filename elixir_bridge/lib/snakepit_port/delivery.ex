defmodule SnakepitPort.Delivery do
  @moduledoc """
  The owner's side of a `SnakepitPort.Link`: what arrives goes to whom it belongs.
  """

  alias SnakepitPort.{Frames, Link, SharedMemory}

  @doc "Gives an answer to whom it belongs, if anybody still waits for it."
  @spec deliver(Link.t(), Frames.id(), binary) :: :ok
  def deliver(link, id, frame) do
    hand_out(:ets.take(link.table, id), frame)
    :ok
  end

  @doc "The same for an answer that files go with."
  @spec deliver(Link.t(), Frames.id(), binary, [String.t()]) :: :ok
  def deliver(%{shm: nil} = link, id, frame, _names), do: deliver(link, id, frame)

  def deliver(link, id, frame, names) do
    :ets.insert(link.table, {{:received, id}, names})

    unless hand_out(:ets.take(link.table, id), frame),
      do: SharedMemory.release(link.shm, link.table, {:received, id})

    :ok
  end

  @doc "Gives a chunk to whom its stream belongs, if anybody still wants it."
  @spec pass(Link.t(), Frames.id(), binary) :: :ok
  def pass(link, id, frame) do
    # Counted when it is sent: what the row counts can be waited for.
    with n when is_integer(n) <- hand_out(:ets.lookup(link.table, id), frame),
         do: :ets.update_element(link.table, id, {3, n + 1})

    :ok
  end

  @doc "Tells how far a call is, if its caller wants to know."
  @spec progress(Link.t(), Frames.id(), number, number) :: :ok
  def progress(link, id, done, total) do
    with [{_, alias, :follows, _}] <- :ets.lookup(link.table, id),
         do: send(alias, {alias, {:progress, done, total}})

    :ok
  end

  # What a stream gets is numbered: its consumer sees when something was taken away. The answer to a call that has
  # its progress told is marked, among what else comes to the same alias.
  defp hand_out([{_, alias, _}], frame), do: send(alias, {alias, frame})

  defp hand_out([{_, alias, n, _}], frame) do
    send(alias, {alias, n, frame})
    n
  end

  defp hand_out([], _), do: nil

  @doc "Cancels what a dead caller left behind, and removes its files."
  @spec forget(Link.t(), pid) :: :ok
  def forget(link, caller) do
    for {_, id} <- :ets.take(link.table, caller), do: Link.cancel(link, id)

    for id <- :ets.select(link.streams, [{{{caller, :"$1"}}, [], [:"$1"]}]) do
      :ets.delete(link.streams, {caller, id})
      Link.cancel(link, id)
    end

    for key <- [:sent, :aside], do: SharedMemory.release(link.shm, link.table, {key, caller})
    :ok
  end
end
