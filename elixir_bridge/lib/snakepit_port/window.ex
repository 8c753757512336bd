defmodule SnakepitPort.Window do
  @moduledoc """
  How many chunks of a stream may be under way: granted, and not yet taken by the consumer. Pure.

  It begins small, while nobody knows how large the chunks are, and doubles as they are taken, up to
  `most` chunks or about a mebibyte, but never below one chunk. So the memory that waiting chunks
  take is bounded by their size, not only by their number.
  """

  @first 2
  @bytes 1_048_576

  # How fast a large chunk is forgotten, when smaller ones follow: by a tenth for each.
  @decay 10

  @enforce_keys [:most, :size, :under_way]
  defstruct @enforce_keys ++ [largest: 1]

  @type t :: %__MODULE__{}

  @doc "A window of at most so many chunks. Its `under_way` is the credit that goes with the call."
  @spec new(pos_integer) :: t
  def new(most), do: %__MODULE__{most: most, size: min(most, @first), under_way: min(most, @first)}

  @doc """
  The consumer took a chunk of so many bytes; returns the credit to grant, often none.

      iex> {2, window} = SnakepitPort.Window.taken(SnakepitPort.Window.new(3), 100)
      iex> {0, window} = SnakepitPort.Window.taken(window, 100)
      iex> {2, _window} = SnakepitPort.Window.taken(window, 100)
  """
  @spec taken(t, non_neg_integer) :: {credit :: non_neg_integer, t}
  def taken(%__MODULE__{under_way: under_way, size: size} = window, bytes) do
    largest = max(bytes, window.largest - div(window.largest, @decay))
    under_way = under_way - 1

    if under_way * 2 > size do
      {0, %{window | under_way: under_way, largest: largest}}
    else
      size = min(min(2 * size, window.most), max(1, div(@bytes, max(1, largest))))
      credit = max(0, size - under_way)
      {credit, %{window | size: size, under_way: under_way + credit, largest: largest}}
    end
  end
end
