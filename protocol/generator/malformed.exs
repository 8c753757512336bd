defmodule Vectors.Malformed do
  import Vectors
  alias Vectors.Terms

  @node <<119, 13, "nonode@nohost">>

  def cases, do: Enum.map(malformed(), fn {name, error, bytes} -> make(name, error, bytes) end)

  # `:lax` marks what a BEAM reads nevertheless. It has to refuse the rest.
  defp make(name, {:lax, error}, bytes), do: make(name, error, bytes, "may accept")

  defp make(name, error, bytes) do
    :refused =
      try do
        {name, :erlang.binary_to_term(bytes, [:safe])}
      rescue
        ArgumentError -> :refused
      end

    make(name, error, bytes, "refuses")
  end

  defp make(name, error, bytes, beam),
    do: %{name: name, error: to_string(error), bytes: hex(bytes), beam: beam}

  defp file(name), do: external({:"$shm", name})
  defp a_tensor(type, shape, data), do: external({:"$tensor", type, shape, data})

  defp malformed do
    compressed = compressed(["text", "text"])

    [
      {"nothing", :truncated, ""},
      {"the version alone", :truncated, <<131>>},
      {"another version", :version, <<130, 97, 1>>},
      {"no version", :version, <<97, 1>>},
      {"a byte behind the term", {:lax, :trailing}, <<131, 97, 1, 0>>},
      {"a second term", {:lax, :trailing}, <<131, 97, 1, 131, 97, 1>>},
      {"unknown tag", :tag, <<131, 1, 2, 3>>},
      {"unknown tag in a list", :tag, <<131, 108, 1::32, 200, 106>>},
      {"reference to a cached atom", :tag, <<131, 82, 0>>},
      {"term for a local decoder", :tag, <<131, 121, 0::64, 97, 1>>},
      {"small integer cut", :truncated, <<131, 97>>},
      {"integer cut", :truncated, <<131, 98, 1, 2, 3>>},
      {"float cut", :truncated, <<131, 70, 0::56>>},
      {"text float cut", :truncated, <<131, 99, "1.5">>},
      {"text float without a point", :malformed, <<131, 99, "15", 0::232>>},
      {"text float with a space", :malformed, <<131, 99, " 1.5", 0::216>>},
      {"text float that is none", :malformed, <<131, 99, "one.five", 0::184>>},
      {"text float with underscores", :malformed, <<131, 99, "1_0.5", 0::208>>},
      {"text float beyond the range", :malformed, <<131, 99, "1.5e999", 0::192>>},
      {"NaN", :malformed, <<131, 70, 0x7FF8::16, 0::48>>},
      {"infinity", :malformed, <<131, 70, 0x7FF0::16, 0::48>>},
      {"negative infinity", :malformed, <<131, 70, 0xFFF0::16, 0::48>>},
      {"NaN in a run of floats", :malformed,
       <<131, 108, 20::32>> <>
         String.duplicate(<<70, 0::64>>, 10) <>
         <<70, 0x7FF8::16, 0::48>> <> String.duplicate(<<70, 0::64>>, 9) <> <<106>>},
      {"run of floats cut", :truncated,
       <<131, 108, 20::32>> <> String.duplicate(<<70, 0::64>>, 19) <> <<70, 0::32>>},
      {"run of integers cut", :truncated,
       <<131, 108, 20::32>> <> String.duplicate(<<98, 0::32>>, 19) <> <<98, 0>>},
      {"run of small integers cut", :truncated,
       <<131, 108, 20::32>> <> String.duplicate(<<97, 0>>, 19) <> <<97>>},
      {"binary cut", :truncated, <<131, 109, 5::32, "abcd">>},
      {"binary of 4 GiB", :truncated, <<131, 109, 0xFFFFFFFF::32, "abcd">>},
      {"binary without length", :truncated, <<131, 109, 0, 0>>},
      {"binary that is not UTF-8", {:lax, :utf8}, <<131, 109, 2::32, 255, 254>>},
      {"binary with a surrogate", {:lax, :utf8}, <<131, 109, 3::32, 0xED, 0xA0, 0x80>>},
      {"binary with an overlong character", {:lax, :utf8}, <<131, 109, 2::32, 0xC0, 0x80>>},
      {"binary that ends inside a character", {:lax, :utf8}, <<131, 109, 1::32, 0xC3>>},
      {"key that is not UTF-8", {:lax, :utf8}, <<131, 116, 1::32, 109, 1::32, 255, 97, 1>>},
      {"improper list with a binary that is not UTF-8", {:lax, :utf8},
       <<131, 108, 1::32, 97, 1, 109, 1::32, 255>>},
      {"bytes cut", :truncated, <<131, 104, 2, 119, 6, "$bytes", 109, 5::32, "abcd">>},
      {"bytes without a binary", {:lax, :malformed}, <<131, 104, 2, 119, 6, "$bytes", 97, 1>>},
      {"bytes of a bit string", {:lax, :malformed},
       <<131, 104, 2, 119, 6, "$bytes", 77, 1::32, 3, 160>>},
      {"file without a folder", {:lax, :file}, file("w1-2-0-5")},
      {"file whose name leads out", {:lax, :malformed}, file("../w1-2-0-5")},
      {"file whose name leads elsewhere", {:lax, :malformed}, file("w1/2-0-5")},
      {"file with a name of another kind", {:lax, :malformed}, file("hello")},
      {"file with a name that goes on", {:lax, :malformed}, file("w1-2-0-5\n")},
      {"file of no bytes", {:lax, :malformed}, file("w1-2-0-0")},
      {"file whose size has no end", {:lax, :malformed}, file("w1-2-0-99999999999999")},
      {"file without a name", {:lax, :malformed}, <<131, 104, 2, 119, 4, "$shm", 97, 1>>},
      {"file whose name is cut", :truncated,
       <<131, 104, 2, 119, 4, "$shm", 109, 9::32, "w1-2-0-5">>},
      {"tensor whose data are short", {:lax, :malformed}, a_tensor({:f, 32}, {2}, <<0::56>>)},
      {"tensor whose data are long", {:lax, :malformed}, a_tensor({:f, 32}, {2}, <<0::72>>)},
      {"tensor whose file is short", {:lax, :malformed},
       a_tensor({:u, 8}, {6}, {:"$shm", "w1-2-0-5"})},
      {"tensor whose file is not there", {:lax, :file},
       a_tensor({:u, 8}, {5}, {:"$shm", "w1-2-0-5"})},
      {"tensor of an unknown type", {:lax, :malformed}, a_tensor({:f, 8}, {1}, <<0>>)},
      {"tensor of a type that is no pair", {:lax, :malformed}, a_tensor(:f, {1}, <<0>>)},
      {"tensor whose width is no number", {:lax, :malformed}, a_tensor({:f, "32"}, {1}, <<0>>)},
      {"tensor whose shape is a list", {:lax, :malformed}, a_tensor({:u, 8}, [1], <<0>>)},
      {"tensor of a negative shape", {:lax, :malformed}, a_tensor({:u, 8}, {-1}, <<0>>)},
      {"tensor of a fractional shape", {:lax, :malformed}, a_tensor({:u, 8}, {1.0}, <<0>>)},
      {"tensor of 33 dimensions", {:lax, :malformed},
       a_tensor({:u, 8}, Tuple.duplicate(1, 33), <<0>>)},
      {"tensor of a list", {:lax, :malformed}, a_tensor({:u, 8}, {1}, [0])},
      {"tensor in a tensor", {:lax, :malformed},
       a_tensor({:u, 8}, {1}, {:"$tensor", {:u, 8}, {1}, <<0>>})},
      {"charlist cut", :truncated, <<131, 107, 5::16, "abcd">>},
      {"list cut in its elements", :truncated, <<131, 108, 2::32, 97, 1>>},
      {"list without tail", :truncated, <<131, 108, 1::32, 97, 1>>},
      {"list of 4 billion", :truncated, <<131, 108, 0xFFFFFFFF::32>>},
      {"list of 2 billion that claims lists of 2 billion", :truncated,
       <<131, 108, 0x7FFFFFFF::32, 108, 0x7FFFFFFF::32>>},
      {"tuple cut", :truncated, <<131, 104, 2, 97, 1>>},
      {"tuple of 4 billion", :truncated, <<131, 105, 0xFFFFFFFF::32, 97, 1>>},
      {"map of 4 billion", :truncated, <<131, 116, 0xFFFFFFFF::32, 97, 1>>},
      {"map without its last value", :truncated, <<131, 116, 1::32, 97, 1>>},
      {"key twice", :duplicate_key, <<131, 116, 2::32, 97, 1, 97, 2, 97, 1, 97, 3>>},
      {"keys 1 and 1.0", {:lax, :duplicate_key}, external(%{1 => "a", 1.0 => "b"})},
      {"keys 1 and true", {:lax, :duplicate_key}, external(%{1 => "a", true => "b"})},
      {"atom and binary of one text as keys", {:lax, :duplicate_key},
       external(%{"a" => 1, :a => 2})},
      {"list keys that are equal in Python", {:lax, :duplicate_key},
       external(%{[1] => 1, [1.0] => 2})},
      {"big integer cut", :truncated, <<131, 110, 5, 0, 1, 2, 3, 4>>},
      {"big integer without sign", :truncated, <<131, 110, 0>>},
      {"large big integer of 4 GiB", :truncated, <<131, 111, 0xFFFFFFFF::32, 0, 1>>},
      {"atom cut", :truncated, <<131, 119, 5, "abcd">>},
      {"atom without length", :truncated, <<131, 100, 0>>},
      {"atom that is not UTF-8", :malformed, <<131, 119, 1, 255>>},
      {"atom with a surrogate", :malformed, <<131, 119, 3, 0xED, 0xA0, 0x80>>},
      {"atom of 256 characters", :limit, <<131, 118, 256::16>> <> String.duplicate("a", 256)},
      {"Latin-1 atom of 256 characters", :limit,
       <<131, 100, 256::16>> <> String.duplicate("a", 256)},
      {"pid cut", :truncated, <<131, 88>> <> @node <> <<50::32, 0::32, 0::24>>},
      {"pid without node", :malformed, <<131, 88, 109, 1::32, "a", 50::32, 0::32, 0::32>>},
      {"pid with nothing", :truncated, <<131, 88>>},
      {"port cut", :truncated, <<131, 120>> <> @node <> <<50::64>>},
      {"reference of no words", :malformed, <<131, 90, 0::16>> <> @node <> <<0::32>>},
      {"reference of six words", :malformed, <<131, 90, 6::16>> <> @node <> <<0::32, 0::192>>},
      {"reference cut", :truncated, <<131, 90, 3::16>> <> @node <> <<0::32, 0::64>>},
      {"function by name cut", :truncated, <<131, 113, 119, 1, "a", 119, 1, "b", 97>>},
      {"function by name with a binary", :malformed,
       <<131, 113, 119, 1, "a", 109, 1::32, "b", 97, 1>>},
      {"function by name with a float as arity", :malformed,
       <<131, 113, 119, 1, "a", 119, 1, "b", 70, 0::64>>},
      {"function cut", :truncated, binary_part(Terms.fun(<<97, 1>>), 0, 60)},
      {"function without its variable", :truncated, Terms.fun("")},
      {"function that says it is longer", {:lax, :malformed},
       <<131, 112, 500::32>> <>
         binary_part(Terms.fun(<<97, 1>>), 6, byte_size(Terms.fun(<<97, 1>>)) - 6)},
      {"function with an unknown tag", :tag, Terms.fun(<<1>>)},
      {"function with 4 billion variables", :truncated,
       <<131, 112, 100::32, 1, 0::128, 3::32, 0xFFFFFFFF::32, 119, 1, "a", 97, 1, 97, 1, 88>> <>
         @node <> <<0::96, 97, 1>>},
      {"bit string cut", :truncated, <<131, 77, 2::32, 3, 160>>},
      {"bit string with 9 bits in a byte", :malformed, <<131, 77, 1::32, 9, 160>>},
      {"bit string with no bits in its last byte", :malformed, <<131, 77, 1::32, 0, 160>>},
      {"bit string of no bytes and three bits", :malformed, <<131, 77, 0::32, 3>>},
      {"compressed term", {:lax, :compressed}, compressed},
      {"compressed term in a list", :tag,
       <<131, 108, 1::32>> <> binary_part(compressed, 1, byte_size(compressed) - 1) <> <<106>>},
      {"256 lists that do not end", :truncated, <<131>> <> String.duplicate(<<108, 1::32>>, 256)},
      {"257 lists", {:lax, :limit}, <<131>> <> Terms.nest(256, <<108, 1::32, 97, 1, 106>>)},
      {"257 tuples", {:lax, :limit}, <<131>> <> String.duplicate(<<104, 1>>, 257) <> <<97, 1>>},
      {"257 maps in keys", {:lax, :limit},
       <<131>> <> String.duplicate(<<116, 1::32>>, 257) <> String.duplicate(<<97, 1>>, 258)},
      {"10,000 tuples", {:lax, :limit},
       <<131>> <> String.duplicate(<<104, 1>>, 10_000) <> <<97, 1>>}
    ]
  end
end
