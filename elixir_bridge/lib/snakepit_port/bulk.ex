defmodule SnakepitPort.Bulk do
  @moduledoc """
  Tensors, and bytes that lie in files: what stands for them in a term, and the way back.

  Pure but for `put` and `get`, which write and read files. An improper list is opaque to Python, so
  what is in one stays as it is.
  """

  alias SnakepitPort.Tensor

  @typedoc "The name of a new file with these bytes, or `nil` if they are to stay in the term."
  @type put :: (binary -> String.t() | nil)

  @typedoc "The bytes of a file."
  @type get :: (String.t() -> binary)

  @doc "Whether `pack/2` would change a term: it has a tensor, or bytes of `threshold` or more."
  @spec packable?(term, pos_integer | :infinity) :: boolean
  def packable?(term, least) when length(term) >= 0, do: any_packable?(term, least)
  def packable?(%Tensor{}, _), do: true
  def packable?({:"$bytes", data}, least) when is_binary(data), do: byte_size(data) >= least
  def packable?(term, least) when is_tuple(term), do: any_packable?(Tuple.to_list(term), least)
  def packable?(term, least) when is_map(term), do: any_packable?(:maps.to_list(term), least)
  def packable?(_, _), do: false

  defp any_packable?([], _), do: false
  defp any_packable?([head | tail], least), do: packable?(head, least) or any_packable?(tail, least)

  @doc """
  What stands for a term on the wire. Throws `{:encode, message}` for a tensor that is none.
  """
  @spec pack(term, put) :: term
  def pack(term, put) when length(term) >= 0, do: Enum.map(term, &pack(&1, put))

  def pack(%Tensor{} = tensor, put) do
    if problem = Tensor.problem(tensor), do: throw({:encode, problem})

    data =
      case put.(tensor.data) do
        nil -> tensor.data
        name -> {:"$shm", name}
      end

    {:"$tensor", tensor.type, tensor.shape, data}
  end

  def pack({:"$bytes", data} = bytes, put) when is_binary(data) do
    case put.(data) do
      nil -> bytes
      name -> {:"$shm", name}
    end
  end

  def pack(term, put) when is_tuple(term), do: each_element(term, &pack(&1, put))
  def pack(term, put) when is_map(term), do: each_entry(term, &pack(&1, put))
  def pack(term, _), do: term

  @doc """
  What a term on the wire stands for. Throws what `get` throws, and `{:decode, message}` for a tensor
  that is none.
  """
  @spec unpack(term, get) :: term
  def unpack(term, get) when length(term) >= 0, do: Enum.map(term, &unpack(&1, get))
  def unpack({:"$shm", name}, get) when is_binary(name), do: {:"$bytes", get.(name)}

  def unpack({:"$tensor", type, shape, data}, get) do
    data = with {:"$shm", name} <- data, do: get.(name)
    tensor = %Tensor{type: type, shape: shape, data: data}
    if problem = Tensor.problem(tensor), do: throw({:decode, problem})
    tensor
  end

  def unpack(term, get) when is_tuple(term), do: each_element(term, &unpack(&1, get))
  def unpack(term, get) when is_map(term), do: each_entry(term, &unpack(&1, get))
  def unpack(term, _), do: term

  defp each_element(tuple, fun), do: tuple |> Tuple.to_list() |> Enum.map(fun) |> List.to_tuple()

  # By pairs, for a struct is no Enumerable.
  defp each_entry(map, fun) do
    Map.new(:maps.to_list(map), fn {key, value} -> {fun.(key), fun.(value)} end)
  end
end
