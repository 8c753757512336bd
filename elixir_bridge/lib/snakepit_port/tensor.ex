defmodule SnakepitPort.Tensor do
  @moduledoc """
  Numbers of one type in a shape: what a NumPy array is on the Elixir side.

      %SnakepitPort.Tensor{type: {:f, 32}, shape: {2, 3}, data: <<...>>}

  A NumPy array that a command returns arrives as one, and one in the arguments of a call arrives as
  a NumPy array, which may be written to. Where the worker has no NumPy it is a memoryview,
  if one can hold it: a float of 16 bits before Python 3.12, `{:bf, 16}`, `{:c, bits}` and what is empty take NumPy.

    * `type` - as Nx names it: `{:s, bits}` and `{:u, bits}` of 8, 16, 32 or 64, `{:f, bits}` of 16, 32 or 64,
      `{:bf, 16}`, `{:c, bits}` of 64 or 128. Booleans of NumPy are `{:u, 8}`
    * `shape` - a tuple of sizes, `{}` for a single number
    * `data` - the numbers in C order and the machine's own byte order

  With Nx nothing is copied:

      tensor = result.data |> Nx.from_binary(result.type) |> Nx.reshape(result.shape)

      %SnakepitPort.Tensor{type: Nx.type(tensor), shape: Nx.shape(tensor), data: Nx.to_binary(tensor)}
  """

  @enforce_keys [:type, :shape, :data]
  defstruct @enforce_keys

  @type t :: %__MODULE__{type: {atom, pos_integer}, shape: tuple, data: binary}

  @types Enum.concat([
           for(kind <- [:s, :u], bits <- [8, 16, 32, 64], do: {kind, bits}),
           [{:f, 16}, {:f, 32}, {:f, 64}, {:bf, 16}, {:c, 64}, {:c, 128}]
         ])

  @doc "What is wrong with a tensor, or `nil`."
  # It may lack the others, or they be of any kind: it has come from outside, or was made by hand.
  @spec problem(%{:__struct__ => __MODULE__, optional(any) => any}) :: String.t() | nil
  def problem(%__MODULE__{type: type, shape: shape, data: data}) do
    cond do
      type not in @types ->
        "there is no type #{inspect(type)} of a tensor"

      not (is_tuple(shape) and Enum.all?(Tuple.to_list(shape), &(is_integer(&1) and &1 >= 0))) ->
        "a tensor's shape is a tuple of sizes, not #{inspect(shape)}"

      not is_binary(data) ->
        "a tensor's data are a binary"

      byte_size(data) * 8 != Tuple.product(shape) * elem(type, 1) ->
        "the tensor of type #{inspect(type)} and shape #{inspect(shape)} needs " <>
          "#{div(Tuple.product(shape) * elem(type, 1), 8)} bytes, and has #{byte_size(data)}"

      true ->
        nil
    end
  end

  # A map says of itself what struct it is.
  def problem(_), do: "a tensor has a type, a shape and data"
end
