defmodule SnakepitPort.Heartbeat do
  @moduledoc """
  Sees whether a supervisor that says nothing still works: one that hangs, or was stopped by a signal, ends no port.

  With each beat it is asked to answer (`ping`, section 9 of `protocol/SPEC.md`). If not one byte has come of it by
  the next, it is taken for dead. So it has one interval at least, two at most; and what holds up both sides,
  a machine that was suspended for one, is not taken for its fault: it had answered long before.
  """

  alias SnakepitPort.{Frames, Link}

  @enforce_keys [:interval]
  defstruct [:interval, heard: nil]

  @type t :: %__MODULE__{interval: timeout, heard: non_neg_integer | nil}

  @doc "Begins: the calling process gets the message `:heartbeat` every `interval` ms, by which it is to call `beat/2`."
  @spec start(timeout) :: t
  def start(interval), do: wait(%__MODULE__{interval: interval})

  @doc "Asks, if anything was heard since it last did."
  @spec beat(t, Link.t()) :: {:ok, t} | :silent
  def beat(%{heard: before} = heartbeat, link) do
    case Port.info(link.port, :input) do
      {:input, ^before} ->
        :silent

      {:input, bytes} ->
        Link.tell(link, Frames.ping(0))
        {:ok, wait(%{heartbeat | heard: bytes})}

      # The port is gone: the owner will hear of that.
      nil ->
        {:ok, heartbeat}
    end
  end

  defp wait(%{interval: :infinity} = heartbeat), do: heartbeat

  defp wait(%{interval: ms} = heartbeat) do
    Process.send_after(self(), :heartbeat, ms)
    heartbeat
  end
end
