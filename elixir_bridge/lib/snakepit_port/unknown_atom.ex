defmodule SnakepitPort.UnknownAtom do
  @moduledoc """
  Finds the atom that made `:erlang.binary_to_term(binary, [:safe])` refuse, which it does not name.

  Runs after a refusal only. It walks the tags of the external term format without building a term;
  lists, tuples and maps just add to the number of terms still to come, so that depth costs nothing.
  """

  @doc "The name of the first atom in the external term that this BEAM does not know."
  @spec find(binary) :: {:ok, String.t()} | :error
  def find(<<131, rest::binary>>), do: walk(rest, 1)
  def find(_), do: :error

  defp walk(_, 0), do: :error

  # Atoms: SMALL_ATOM_UTF8_EXT, ATOM_UTF8_EXT, ATOM_EXT, SMALL_ATOM_EXT.
  defp walk(<<tag, _::binary>> = atom, left) when tag in [119, 118, 100, 115] do
    atom_then(atom, 0, left)
  end

  # Numbers: SMALL_INTEGER_EXT, INTEGER_EXT, NEW_FLOAT_EXT, FLOAT_EXT, SMALL_BIG_EXT, LARGE_BIG_EXT.
  defp walk(<<97, _, rest::binary>>, left), do: walk(rest, left - 1)
  defp walk(<<98, _::32, rest::binary>>, left), do: walk(rest, left - 1)
  defp walk(<<70, _::64, rest::binary>>, left), do: walk(rest, left - 1)
  defp walk(<<99, _::binary-size(31), rest::binary>>, left), do: walk(rest, left - 1)
  defp walk(<<110, n, _, _::binary-size(n), rest::binary>>, left), do: walk(rest, left - 1)
  defp walk(<<111, n::32, _, _::binary-size(n), rest::binary>>, left), do: walk(rest, left - 1)

  # Bytes: BINARY_EXT, BIT_BINARY_EXT, STRING_EXT.
  defp walk(<<109, n::32, _::binary-size(n), rest::binary>>, left), do: walk(rest, left - 1)
  defp walk(<<77, n::32, _, _::binary-size(n), rest::binary>>, left), do: walk(rest, left - 1)
  defp walk(<<107, n::16, _::binary-size(n), rest::binary>>, left), do: walk(rest, left - 1)

  # Containers: NIL_EXT, LIST_EXT (and its tail), SMALL_TUPLE_EXT, LARGE_TUPLE_EXT, MAP_EXT.
  defp walk(<<106, rest::binary>>, left), do: walk(rest, left - 1)
  defp walk(<<108, n::32, rest::binary>>, left), do: walk(rest, left + n)
  defp walk(<<104, n, rest::binary>>, left), do: walk(rest, left - 1 + n)
  defp walk(<<105, n::32, rest::binary>>, left), do: walk(rest, left - 1 + n)
  defp walk(<<116, n::32, rest::binary>>, left), do: walk(rest, left - 1 + 2 * n)

  # Identifiers and EXPORT_EXT. A pid's or reference's node is an atom in front of fixed bytes.
  defp walk(<<88, rest::binary>>, left), do: atom_then(rest, 12, left)
  defp walk(<<90, n::16, rest::binary>>, left), do: atom_then(rest, 4 + 4 * n, left)
  defp walk(<<120, rest::binary>>, left), do: atom_then(rest, 12, left)
  defp walk(<<89, rest::binary>>, left), do: atom_then(rest, 8, left)
  defp walk(<<113, rest::binary>>, left), do: walk(rest, left + 2)

  # NEW_FUN_EXT: module, index, unique, creator, then the values it closed over.
  defp walk(<<112, _::32, _, _::128, _::32, free::32, rest::binary>>, left) do
    walk(rest, left + 3 + free)
  end

  defp walk(_, _), do: :error

  defp atom_then(binary, skipped, left) do
    with {name, rest} when byte_size(rest) >= skipped <- take_atom(binary) do
      {_, rest} = :erlang.split_binary(rest, skipped)
      if known?(name), do: walk(rest, left - 1), else: {:ok, name}
    else
      _ -> :error
    end
  end

  defp take_atom(<<119, n, name::binary-size(n), rest::binary>>), do: {name, rest}
  defp take_atom(<<118, n::16, name::binary-size(n), rest::binary>>), do: {name, rest}
  defp take_atom(<<100, n::16, name::binary-size(n), rest::binary>>), do: {utf8(name), rest}
  defp take_atom(<<115, n, name::binary-size(n), rest::binary>>), do: {utf8(name), rest}
  defp take_atom(_), do: :error

  defp utf8(latin1), do: :unicode.characters_to_binary(latin1, :latin1)

  defp known?(name) do
    is_atom(:erlang.binary_to_existing_atom(name, :utf8))
  rescue
    _ in [ArgumentError, SystemLimitError] -> false
  end
end
