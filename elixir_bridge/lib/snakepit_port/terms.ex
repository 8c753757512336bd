defmodule SnakepitPort.Terms do
  @moduledoc """
  Arguments and results, as the opaque binaries in which frames carry them.

  Both directions run in the caller's process: a large result costs the caller, not the port's owner.
  """

  alias SnakepitPort.{Error, UnknownAtom}

  @compressed 80
  @export_ext 113

  @doc "Arguments as one external term. Atoms are written as UTF-8, as the protocol recommends."
  @spec encode(term) :: binary
  def encode(term), do: :erlang.term_to_binary(term, minor_version: 2)

  @doc """
  Reads what Python sent. An error of type `:decode` for what must not be read: atoms this BEAM does
  not know (they would stay for ever), compressed terms (a small one can inflate to gigabytes),
  external funs (whoever calls what it was given would run Python's choice of function), bytes after
  the term, and anything that is no term.
  """
  @spec decode(binary) :: {:ok, term} | {:error, Error.t()}
  def decode(<<131, @compressed, _::binary>>), do: refuse("a compressed term")

  def decode(binary) do
    {term, used} = :erlang.binary_to_term(binary, [:safe, :used])

    cond do
      used != byte_size(binary) -> refuse("#{byte_size(binary) - used} bytes after the term")
      external_fun?(binary, term) -> refuse("an external fun, like &Module.function/1")
      true -> {:ok, term}
    end
  rescue
    ArgumentError -> refuse(why_unreadable(binary))
  end

  # A fun cannot be there without the byte of its tag, and looking for a byte is nearly free.
  defp external_fun?(binary, term) do
    :binary.match(binary, <<@export_ext>>) != :nomatch and external_fun?(term)
  end

  defp external_fun?([head | tail]), do: external_fun?(head) or external_fun?(tail)
  defp external_fun?(term) when is_tuple(term), do: external_fun?(Tuple.to_list(term))
  defp external_fun?(term) when is_map(term), do: external_fun?(:maps.to_list(term))

  defp external_fun?(term) when is_function(term),
    do: Function.info(term, :type) == {:type, :external}

  defp external_fun?(_), do: false

  defp why_unreadable(binary) do
    case UnknownAtom.find(binary) do
      {:ok, name} ->
        "the atom #{inspect(name)}, which this BEAM does not know; return a string instead, or " <>
          "mention the atom in Elixir code that is loaded"

      :error ->
        "nothing this BEAM can read"
    end
  end

  defp refuse(what) do
    {:error, %Error{type: :decode, message: "the result holds #{what}, and was not read"}}
  end
end
