defmodule SnakepitPort.Pools do
  @moduledoc """
  Which pools are still starting, and which cannot: what `SnakepitPort.await_ready/2` waits for and says. Pure.

  Those of the beginning count until the supervisor says `ready`. Those that a reload has added, or has
  start anew because they could not, count until an event says how that went. What comes before the answer to the
  reload is about the settings of before. The owner follows a reload from before it is written.
  """

  alias SnakepitPort.{Error, Frames}

  # How much is shown of the traceback of one pool among several, in characters.
  @longest 4_000

  # Pool => error; names; ids of the reloads that are not answered.
  defstruct ready?: false, unavailable: %{}, unsettled: MapSet.new(), reloads: MapSet.new()

  @type t :: %__MODULE__{
          ready?: boolean,
          unavailable: %{String.t() => Error.t()},
          unsettled: MapSet.t(String.t()),
          reloads: MapSet.t(Frames.id())
        }

  @doc "The supervisor says that the pools of the beginning have settled."
  @spec ready(t) :: t
  def ready(pools), do: %{pools | ready?: true}

  @doc "Takes what `SnakepitPort.Frames.pool_event/1` has read."
  @spec event(t, {String.t(), String.t(), map}) :: t
  def event(pools, {"pool.unavailable", pool, why}) do
    error = Error.from_wire(Map.put(why, "type", "pool_unavailable"))
    settle(%{pools | unavailable: Map.put(pools.unavailable, pool, error)}, pool)
  end

  def event(pools, {"pool.ready", pool, _}), do: forget(pools, pool)
  def event(pools, _), do: pools

  defp forget(pools, pool) do
    settle(%{pools | unavailable: Map.delete(pools.unavailable, pool)}, pool)
  end

  defp settle(pools, pool), do: %{pools | unsettled: MapSet.delete(pools.unsettled, pool)}

  @doc "A reload with this id is about to be written."
  @spec reloading(t, Frames.id()) :: t
  def reloading(pools, id), do: %{pools | reloads: MapSet.put(pools.reloads, id)}

  @doc "The result of that reload; an empty map if it has failed."
  @spec reloaded(t, Frames.id(), map) :: t
  def reloaded(pools, id, answer) do
    pools = %{pools | reloads: MapSet.delete(pools.reloads, id)}
    changes = with changes when not is_map(changes) <- answer["pools"], do: %{}
    Enum.reduce(changes, pools, &change(&2, &1))
  end

  # Its events, should more of them come, are about one of that name that a later reload adds.
  defp change(pools, {pool, "removed"}), do: forget(pools, pool)

  defp change(pools, {pool, what}) do
    again? = what in ["replaced", "resized"] and is_map_key(pools.unavailable, pool)

    # What it told before is replaced by what it is waited for to tell.
    if what == "added" or again?,
      do: %{pools | unsettled: MapSet.put(pools.unsettled, pool)},
      else: pools
  end

  @doc "How the pools have started; `:wait` if some have not settled yet."
  @spec verdict(t) :: :wait | :ok | {:error, Error.t()}
  def verdict(%{ready?: ready?, unsettled: unsettled, unavailable: unavailable}) do
    if ready? and MapSet.size(unsettled) == 0, do: settled(Enum.sort(unavailable)), else: :wait
  end

  defp settled([]), do: :ok
  defp settled([{_, error}]), do: {:error, error}

  defp settled(several) do
    causes = for {pool, error} <- several, do: "\n  #{pool}: #{error.message}"
    message = "#{length(several)} pools could not start:#{causes}"
    {:error, %Error{type: :pool_unavailable, message: message, traceback: tracebacks(several)}}
  end

  defp tracebacks(several) do
    texts = for {pool, %{traceback: "" <> text}} <- several, do: "pool #{pool}:\n#{ending(text)}"
    if texts != [], do: Enum.join(texts, "\n\n")
  end

  # There, where it was raised.
  defp ending(text) do
    text = String.trim_trailing(text)

    if String.length(text) <= @longest,
      do: text,
      else: "…" <> String.slice(text, -@longest, @longest)
  end
end
