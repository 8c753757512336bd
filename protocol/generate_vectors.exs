# Writes protocol/vectors/*.json. Run it with a real BEAM, OTP 25 or newer:
#
#     elixir protocol/generate_vectors.exs
#
# Both implementations are tested against these files. What is in them:
#
# terms.json      bytes, and the value they stand for. "canonical" says whether the BEAM writes the
#                 value in these bytes, so that encoding the value must give them back.
# malformed.json  bytes that have to be refused, with the kind of error. "beam" is the BEAM's own
#                 verdict by binary_to_term(_, [safe]); it is laxer here and there.
#
# A value is an object with one key, except for opaque terms:
#
#     {"integer": "12"}  {"float": "3ff8000000000000"} (the 64 bits)  {"string": "text"}
#     {"bytes": "ff00"}  {"atom": "ok"}  {"list": [...]}  {"tuple": [...]}  {"map": [[key, value], ...]}
#     {"opaque": "pid", "external": "58..."}  without the version byte

defmodule Json do
  def encode(map) when is_map(map) do
    entries = for {key, value} <- Enum.sort(map), do: [encode(to_string(key)), ": ", encode(value)]
    ["{", Enum.intersperse(entries, ", "), "}"]
  end

  def encode(list) when is_list(list),
    do: ["[", list |> Enum.map(&encode/1) |> Enum.intersperse(", "), "]"]

  def encode(bool) when is_boolean(bool), do: to_string(bool)
  def encode(atom) when is_atom(atom), do: encode(to_string(atom))
  def encode(text) when is_binary(text), do: [?", for(<<char::utf8 <- text>>, do: char(char)), ?"]

  defp char(char) when char in [?", ?\\], do: [?\\, char]
  defp char(char) when char in 32..126, do: char
  defp char(char) when char < 0x10000, do: escape(char)

  defp char(char) do
    rest = char - 0x10000
    [escape(0xD800 + div(rest, 0x400)), escape(0xDC00 + rem(rest, 0x400))]
  end

  defp escape(unit), do: :io_lib.format("\\u~4.16.0b", [unit])
end

defmodule Vectors do
  @folder Path.join(__DIR__, "vectors")

  def write(file, cases) do
    names = Enum.map(cases, & &1.name)
    [] = names -- Enum.uniq(names)
    lines = cases |> Enum.map(&Json.encode/1) |> Enum.intersperse(",\n")
    File.mkdir_p!(@folder)
    File.write!(Path.join(@folder, file), ["[\n", lines, "\n]\n"])
  end

  def hex(bytes), do: Base.encode16(bytes, case: :lower)

  @doc "What the BEAM writes, with atoms as OTP 26 writes them and maps in a fixed order."
  def external(term), do: :erlang.term_to_binary(term, [:deterministic, minor_version: 2])
end

defmodule Terms do
  import Vectors

  @doc "A case made of a term: the BEAM encodes it."
  def of(name, term, value), do: make(name, external(term), term, value)

  @doc "A case made of bytes, which the BEAM has to understand as the term."
  def read(name, bytes, term, value) do
    # `=:=` also tells 1 from 1.0.
    ^term = :erlang.binary_to_term(bytes)
    make(name, bytes, term, value)
  end

  @doc "A case of a term that Python takes for opaque: its bytes are its value."
  def opaque(name, kind, <<131, raw::binary>> = bytes) do
    term = :erlang.binary_to_term(bytes)
    make(name, bytes, term, %{opaque: kind, external: hex(raw)})
  end

  @doc "The same, for terms that the BEAM no longer reads itself."
  def historic(name, kind, <<131, raw::binary>> = bytes) do
    %{name: name, bytes: hex(bytes), canonical: true, value: %{opaque: kind, external: hex(raw)}}
  end

  # What is opaque goes back as it came, however it was written.
  defp make(name, bytes, _term, %{opaque: _} = value),
    do: %{name: name, bytes: hex(bytes), canonical: true, value: value}

  defp make(name, bytes, term, value),
    do: %{name: name, bytes: hex(bytes), canonical: external(term) == bytes, value: value}

  def int(value), do: %{integer: Integer.to_string(value)}
  def float(value), do: %{float: hex(<<value::float>>)}
  def str(value), do: %{string: value}
  def atom(value), do: %{atom: value}
  def list(values), do: %{list: values}
  def tuple(values), do: %{tuple: values}
  def map(entries), do: %{map: Enum.map(entries, &Tuple.to_list/1)}
end

defmodule Malformed do
  import Vectors

  def of(name, error, bytes) do
    beam =
      try do
        :erlang.binary_to_term(bytes, [:safe])
        "accepts"
      rescue
        ArgumentError -> "refuses"
      end

    %{name: name, error: error, bytes: hex(bytes), beam: beam}
  end
end

# -- terms ------------------------------------------------------------------------------------------

import Terms

node_name = <<119, 13, "nonode@nohost">>
old_node_name = <<100, 13::16, "nonode@nohost">>
long_name = String.duplicate("é", 255)
power = fn base, exponent -> Integer.pow(base, exponent) end

integers =
  for value <- [
        0, 1, 255, 256, -1, 2_147_483_647, 2_147_483_648, -2_147_483_648, -2_147_483_649,
        9_223_372_036_854_775_807, 9_223_372_036_854_775_808, -9_223_372_036_854_775_808,
        -9_223_372_036_854_775_809, 18_446_744_073_709_551_615, 18_446_744_073_709_551_616
      ] do
    of("integer #{value}", value, int(value))
  end ++
    [
      of("integer of 255 bytes", power.(256, 255) - 1, int(power.(256, 255) - 1)),
      of("integer of 256 bytes", power.(256, 255), int(power.(256, 255))),
      of("negative integer of 300 bytes", -power.(256, 299), int(-power.(256, 299))),
      read("small integer in four bytes", <<131, 98, 7::32>>, 7, int(7)),
      read("small integer as big integer", <<131, 110, 3, 1, 7, 0, 0>>, -7, int(-7)),
      read("big integer of no bytes", <<131, 110, 0, 0>>, 0, int(0)),
      read("large big integer of one byte", <<131, 111, 1::32, 0, 200>>, 200, int(200))
    ]

floats =
  for value <- [0.0, 1.5, -1.5, 0.1, 1.7976931348623157e308, -2.2250738585072014e-308, 5.0e-324] do
    of("float #{value}", value, float(value))
  end ++
    [
      %{
        name: "float -0.0",
        bytes: hex = Vectors.hex(<<131, 70, 128, 0::56>>),
        canonical: true,
        value: %{float: String.slice(hex, 4, 16)}
      },
      read(
        "float as text",
        <<131, 99, "1.50000000000000000000e+00", 0::40>>,
        1.5,
        float(1.5)
      ),
      read("float as short text", <<131, 99, "-2.5", 0::216>>, -2.5, float(-2.5))
    ]

binaries = [
  of("empty binary", "", str("")),
  of("binary", "hello world", str("hello world")),
  of("binary beyond ASCII", "héllo – 日本語 🐍", str("héllo – 日本語 🐍")),
  of("binary with NUL and quotes", <<0, ?", ?\\, 10>>, str(<<0, ?", ?\\, 10>>)),
  of("binary of 255 bytes", String.duplicate("a", 255), str(String.duplicate("a", 255))),
  of("binary of 256 bytes", String.duplicate("a", 256), str(String.duplicate("a", 256))),
  of("bytes", {:"$bytes", <<255, 0, 128>>}, %{bytes: "ff0080"}),
  of("bytes that are UTF-8", {:"$bytes", "text"}, %{bytes: "74657874"}),
  of("no bytes", {:"$bytes", ""}, %{bytes: ""}),
  of("bytes in a list", [{:"$bytes", <<255>>}, "a"], list([%{bytes: "ff"}, str("a")])),
  of("bytes as a key", %{{:"$bytes", <<255>>} => 1}, map([{%{bytes: "ff"}, int(1)}])),
  read(
    "bytes with a Latin-1 atom",
    <<131, 104, 2, 100, 6::16, "$bytes", 109, 1::32, 255>>,
    {:"$bytes", <<255>>},
    %{bytes: "ff"}
  ),
  read(
    "bytes with a short Latin-1 atom in a large tuple",
    <<131, 105, 2::32, 115, 6, "$bytes", 109, 1::32, 255>>,
    {:"$bytes", <<255>>},
    %{bytes: "ff"}
  ),
  read(
    "bytes with a long UTF-8 atom",
    <<131, 104, 2, 118, 6::16, "$bytes", 109, 1::32, 255>>,
    {:"$bytes", <<255>>},
    %{bytes: "ff"}
  )
]

atoms =
  for name <- ["true", "false", "nil", "undefined", "", "Elixir.String", "with space", "é", "日本"] do
    of("atom #{inspect(name)}", String.to_atom(name), atom(name))
  end ++
    [
      of("atom of 255 characters", String.to_atom(long_name), atom(long_name)),
      of("atoms for floats", [:nan, :infinity, :neg_infinity], list(Enum.map(~w(nan infinity neg_infinity), &atom/1))),
      read("atom in Latin-1", <<131, 100, 1::16, 233>>, :é, atom("é")),
      read("short atom in Latin-1", <<131, 115, 1, 233>>, :é, atom("é")),
      read("true in Latin-1", <<131, 100, 4::16, "true">>, true, atom("true")),
      read("short nil in Latin-1", <<131, 115, 3, "nil">>, nil, atom("nil")),
      read("false with a long length", <<131, 118, 5::16, "false">>, false, atom("false")),
      read("atom with a long length", <<131, 118, 2::16, "ok">>, :ok, atom("ok"))
    ]

ints = fn values -> list(Enum.map(values, &int/1)) end
floats_of = fn values -> list(Enum.map(values, &float/1)) end
float_run = Enum.map(1..200, &(&1 / 7))
integer_run = Enum.map(1..200, &(&1 * 1000))
mixed_run = Enum.map(1..40, &(&1 * 20))
bytes_run = Enum.to_list(0..255)

lists = [
  of("empty list", [], list([])),
  of("list", [1, "a", :b, 2.5, nil], list([int(1), str("a"), atom("b"), float(2.5), atom("nil")])),
  of("charlist", 'abc', ints.('abc')),
  of("all bytes as a charlist", bytes_run, ints.(bytes_run)),
  of("charlist beyond bytes", 'a–', ints.('a–')),
  of("list of one list", [[]], list([list([])])),
  of("nested lists", [[1, [2.0]], [[[]]]], list([list([int(1), list([float(2.0)])]), list([list([list([])])])])),
  of("run of floats", float_run, floats_of.(float_run)),
  of("run of integers", integer_run, ints.(integer_run)),
  of("run of integers of two sizes", mixed_run, ints.(mixed_run)),
  of("run of negative integers", Enum.map(integer_run, &(-&1)), ints.(Enum.map(integer_run, &(-&1)))),
  of("floats, then others", float_run ++ [1, nil], list(Enum.map(float_run, &float/1) ++ [int(1), atom("nil")])),
  of("integers that grow big", Enum.map(0..70, &power.(2, &1)), ints.(Enum.map(0..70, &power.(2, &1)))),
  read("list of small integers", <<131, 108, 3::32, 97, 1, 97, 2, 97, 3, 106>>, [1, 2, 3], ints.([1, 2, 3])),
  read("empty charlist", <<131, 107, 0::16>>, [], list([])),
  read("list of no elements", <<131, 108, 0::32, 106>>, [], list([])),
  read("list in two pieces", <<131, 108, 1::32, 97, 1, 107, 1::16, 2>>, [1, 2], ints.([1, 2])),
  read("list in three pieces", <<131, 108, 1::32, 97, 1, 108, 1::32, 97, 2, 108, 1::32, 97, 3, 106>>, [1, 2, 3], ints.([1, 2, 3])),
  read("tail of no elements", <<131, 108, 0::32, 97, 1>>, 1, int(1))
]

tuples = [
  of("empty tuple", {}, tuple([])),
  of("pair", {:ok, "a"}, tuple([atom("ok"), str("a")])),
  of("pair of binaries", {"$bytes", "a"}, tuple([str("$bytes"), str("a")])),
  of("three with the atom of bytes", {:"$bytes", "a", 1}, tuple([atom("$bytes"), str("a"), int(1)])),
  of("nested tuples", {{{}}, {1, {2}}}, tuple([tuple([tuple([])]), tuple([int(1), tuple([int(2)])])])),
  of("tuple of 255", List.to_tuple(Enum.to_list(1..255)), tuple(Enum.map(1..255, &int/1))),
  of("tuple of 256", List.to_tuple(Enum.to_list(1..256)), tuple(Enum.map(1..256, &int/1))),
  read("large tuple of one", <<131, 105, 1::32, 97, 1>>, {1}, tuple([int(1)]))
]

maps = [
  of("empty map", %{}, map([])),
  of(
    "map",
    %{"a" => 1, "b" => [1, 2, 3], "c" => "hello world"},
    map([{str("a"), int(1)}, {str("b"), ints.([1, 2, 3])}, {str("c"), str("hello world")}])
  ),
  of("map with an atom as key", %{a: %{b: 1}}, map([{atom("a"), map([{atom("b"), int(1)}])}])),
  of("map with many kinds of keys", %{1 => 1, 2.5 => 2, nil: 3, {1, 2} => 4, "s" => 5},
    map([{int(1), int(1)}, {float(2.5), int(2)}, {atom("nil"), int(3)}, {tuple([int(1), int(2)]), int(4)}, {str("s"), int(5)}])),
  of("struct", %{__struct__: Range, first: 1, last: 3, step: 1},
    map([{atom("__struct__"), atom("Elixir.Range")}, {atom("first"), int(1)}, {atom("last"), int(3)}, {atom("step"), int(1)}])),
  of("map with a list as key", %{[] => []}, map([{list([]), list([])}])),
  of("map with lists and maps in keys", %{{[1, 300], %{[2] => 'ab'}} => [%{}]},
    map([{tuple([ints.([1, 300]), map([{ints.([2]), ints.('ab')}])]), list([map([])])}])),
  of("map of 100 entries", Map.new(1..100, &{&1 * 1000, &1}), map(Enum.map(1..100, &{int(&1 * 1000), int(&1)})))
  # The order of a large map is the BEAM's own affair.
  |> Map.put(:canonical, false)
]

fun = fn ending ->
  body = <<1, 0::128, 3::32, 1::32, 119, 8, "no_where", 97, 3, 98, 12345::32, 88>> <> node_name <> <<50::32, 0::32, 0::32>> <> ending
  <<131, 112, byte_size(body) + 4::32>> <> body
end

opaques = [
  opaque("pid", "pid", external(:erlang.list_to_pid('<0.50.0>'))),
  opaque("pid of another node", "pid", <<131, 88, 119, 3, "a@b", 7::32, 9::32, 1_700_000_000::32>>),
  opaque("pid as OTP 25 writes it", "pid", <<131, 88>> <> old_node_name <> <<50::32, 0::32, 0::32>>),
  opaque("pid with a short creation", "pid", <<131, 103>> <> old_node_name <> <<50::32, 0::32, 0>>),
  opaque("port", "port", external(:erlang.list_to_port('#Port<0.5>'))),
  opaque("port with 32 bits", "port", <<131, 89>> <> node_name <> <<5::32, 0::32>>),
  opaque("port with 64 bits", "port", <<131, 120>> <> node_name <> <<power.(2, 40)::64, 0::32>>),
  opaque("port with a short creation", "port", <<131, 102>> <> node_name <> <<5::32, 0>>),
  opaque("reference", "reference", external(:erlang.list_to_ref('#Ref<0.1.2.3>'))),
  opaque("reference with a short creation", "reference", <<131, 114, 3::16>> <> node_name <> <<0, 1::32, 2::32, 3::32>>),
  opaque("reference of one number", "reference", <<131, 101>> <> node_name <> <<5::32, 0>>),
  opaque("reference of five words", "reference", <<131, 90, 5::16, 119, 3, "a@b", 1::32, 1::32, 2::32, 3::32, 4::32, 5::32>>),
  opaque("function by name", "fun", external(&:erlang.abs/1)),
  opaque("function", "fun", fun.(<<97, 1>>)),
  opaque("function that holds a binary", "fun", fun.(<<109, 1::32, 255>>)),
  opaque("function that holds nested terms", "fun",
    fun.(<<116, 1::32, 108, 1::32, 70, 0::64, 106, 104, 3, 77, 1::32, 3, 160, 110, 1, 0, 9, 119, 1, "a">>)),
  opaque("function that holds a function", "fun", fun.(binary_part(fun.(<<106>>), 1, byte_size(fun.(<<106>>)) - 1))),
  historic("function as R14 wrote it", "fun",
    <<131, 117, 1::32, 103>> <> old_node_name <> <<50::32, 0::32, 0, 100, 8::16, "no_where", 97, 3, 98, 12345::32, 97, 1>>),
  opaque("bit string", "bitstring", external(<<5::3>>)),
  opaque("bit string of 17 bits", "bitstring", external(<<1, 2, 1::1>>)),
  opaque("improper list", "improper_list", external([1 | 2])),
  opaque("improper list of binaries", "improper_list", external(["a", "b" | "c"])),
  opaque("improper list in an improper list", "improper_list", external([[1 | 2] | 3])),
  of("opaque terms in a map", %{"p" => :erlang.list_to_pid('<0.50.0>'), [1 | 2] => <<1::1>>},
    map([
      {%{opaque: "improper_list", external: Vectors.hex(binary_part(external([1 | 2]), 1, 10))}, %{opaque: "bitstring", external: "4d000000010180"}},
      {str("p"), %{opaque: "pid", external: Vectors.hex(binary_part(external(:erlang.list_to_pid('<0.50.0>')), 1, 28))}}
    ]))
]

depth = fn n, inner -> String.duplicate(<<108, 1::32>>, n) <> inner <> String.duplicate(<<106>>, n) end
nested = fn n -> Enum.reduce(1..n, list([]), fn _, inner -> list([inner]) end) end

edges = [
  read("255 lists around an empty one", <<131>> <> depth.(255, <<106>>), Enum.reduce(1..255, [], &[&1 && &2]), nested.(255))
]

Vectors.write("terms.json", Enum.concat([integers, floats, binaries, atoms, lists, tuples, maps, opaques, edges]))

# -- malformed terms --------------------------------------------------------------------------------

compressed = :erlang.term_to_binary(List.duplicate("text", 100), [:compressed, minor_version: 2])
<<131, 80, _::binary>> = compressed

malformed = [
  {"nothing", :truncated, ""},
  {"the version alone", :truncated, <<131>>},
  {"another version", :version, <<130, 97, 1>>},
  {"no version", :version, <<97, 1>>},
  {"a byte behind the term", :trailing, <<131, 97, 1, 0>>},
  {"a second term", :trailing, <<131, 97, 1, 131, 97, 1>>},
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
  {"NaN in a run of floats", :malformed, <<131, 108, 20::32>> <> String.duplicate(<<70, 0::64>>, 10) <> <<70, 0x7FF8::16, 0::48>> <> String.duplicate(<<70, 0::64>>, 9) <> <<106>>},
  {"run of floats cut", :truncated, <<131, 108, 20::32>> <> String.duplicate(<<70, 0::64>>, 19) <> <<70, 0::32>>},
  {"run of integers cut", :truncated, <<131, 108, 20::32>> <> String.duplicate(<<98, 0::32>>, 19) <> <<98, 0>>},
  {"run of small integers cut", :truncated, <<131, 108, 20::32>> <> String.duplicate(<<97, 0>>, 19) <> <<97>>},
  {"binary cut", :truncated, <<131, 109, 5::32, "abcd">>},
  {"binary of 4 GiB", :truncated, <<131, 109, 0xFFFFFFFF::32, "abcd">>},
  {"binary without length", :truncated, <<131, 109, 0, 0>>},
  {"binary that is not UTF-8", :utf8, <<131, 109, 2::32, 255, 254>>},
  {"binary with a surrogate", :utf8, <<131, 109, 3::32, 0xED, 0xA0, 0x80>>},
  {"binary with an overlong character", :utf8, <<131, 109, 2::32, 0xC0, 0x80>>},
  {"binary that ends inside a character", :utf8, <<131, 109, 1::32, 0xC3>>},
  {"key that is not UTF-8", :utf8, <<131, 116, 1::32, 109, 1::32, 255, 97, 1>>},
  {"improper list with a binary that is not UTF-8", :utf8, <<131, 108, 1::32, 97, 1, 109, 1::32, 255>>},
  {"bytes cut", :truncated, <<131, 104, 2, 119, 6, "$bytes", 109, 5::32, "abcd">>},
  {"bytes without a binary", :malformed, <<131, 104, 2, 119, 6, "$bytes", 97, 1>>},
  {"bytes of a bit string", :malformed, <<131, 104, 2, 119, 6, "$bytes", 77, 1::32, 3, 160>>},
  {"charlist cut", :truncated, <<131, 107, 5::16, "abcd">>},
  {"list cut in its elements", :truncated, <<131, 108, 2::32, 97, 1>>},
  {"list without tail", :truncated, <<131, 108, 1::32, 97, 1>>},
  {"list of 4 billion", :truncated, <<131, 108, 0xFFFFFFFF::32>>},
  {"list of 2 billion that claims lists of 2 billion", :truncated, <<131, 108, 0x7FFFFFFF::32, 108, 0x7FFFFFFF::32>>},
  {"tuple cut", :truncated, <<131, 104, 2, 97, 1>>},
  {"tuple of 4 billion", :truncated, <<131, 105, 0xFFFFFFFF::32, 97, 1>>},
  {"map of 4 billion", :truncated, <<131, 116, 0xFFFFFFFF::32, 97, 1>>},
  {"map without its last value", :truncated, <<131, 116, 1::32, 97, 1>>},
  {"key twice", :duplicate_key, <<131, 116, 2::32, 97, 1, 97, 2, 97, 1, 97, 3>>},
  {"keys 1 and 1.0", :duplicate_key, external(%{1 => "a", 1.0 => "b"})},
  {"keys 1 and true", :duplicate_key, external(%{1 => "a", true => "b"})},
  {"atom and binary of one text as keys", :duplicate_key, external(%{"a" => 1, :a => 2})},
  {"list keys that are equal in Python", :duplicate_key, external(%{[1] => 1, [1.0] => 2})},
  {"big integer cut", :truncated, <<131, 110, 5, 0, 1, 2, 3, 4>>},
  {"big integer without sign", :truncated, <<131, 110, 0>>},
  {"large big integer of 4 GiB", :truncated, <<131, 111, 0xFFFFFFFF::32, 0, 1>>},
  {"atom cut", :truncated, <<131, 119, 5, "abcd">>},
  {"atom without length", :truncated, <<131, 100, 0>>},
  {"atom that is not UTF-8", :malformed, <<131, 119, 1, 255>>},
  {"atom with a surrogate", :malformed, <<131, 119, 3, 0xED, 0xA0, 0x80>>},
  {"atom of 256 characters", :limit, <<131, 118, 256::16>> <> String.duplicate("a", 256)},
  {"Latin-1 atom of 256 characters", :limit, <<131, 100, 256::16>> <> String.duplicate("a", 256)},
  {"pid cut", :truncated, <<131, 88>> <> node_name <> <<50::32, 0::32, 0::24>>},
  {"pid without node", :malformed, <<131, 88, 109, 1::32, "a", 50::32, 0::32, 0::32>>},
  {"pid with nothing", :truncated, <<131, 88>>},
  {"port cut", :truncated, <<131, 120>> <> node_name <> <<50::64>>},
  {"reference of no words", :malformed, <<131, 90, 0::16>> <> node_name <> <<0::32>>},
  {"reference of six words", :malformed, <<131, 90, 6::16>> <> node_name <> <<0::32, 0::192>>},
  {"reference cut", :truncated, <<131, 90, 3::16>> <> node_name <> <<0::32, 0::64>>},
  {"function by name cut", :truncated, <<131, 113, 119, 1, "a", 119, 1, "b", 97>>},
  {"function by name with a binary", :malformed, <<131, 113, 119, 1, "a", 109, 1::32, "b", 97, 1>>},
  {"function by name with a float as arity", :malformed, <<131, 113, 119, 1, "a", 119, 1, "b", 70, 0::64>>},
  {"function cut", :truncated, binary_part(fun.(<<97, 1>>), 0, 60)},
  {"function without its variable", :truncated, fun.("")},
  {"function that says it is longer", :malformed, <<131, 112, 500::32>> <> binary_part(fun.(<<97, 1>>), 6, byte_size(fun.(<<97, 1>>)) - 6)},
  {"function with an unknown tag", :tag, fun.(<<1>>)},
  {"function with 4 billion variables", :truncated, <<131, 112, 100::32, 1, 0::128, 3::32, 0xFFFFFFFF::32, 119, 1, "a", 97, 1, 97, 1, 88>> <> node_name <> <<0::96, 97, 1>>},
  {"bit string cut", :truncated, <<131, 77, 2::32, 3, 160>>},
  {"bit string with 9 bits in a byte", :malformed, <<131, 77, 1::32, 9, 160>>},
  {"bit string with no bits in its last byte", :malformed, <<131, 77, 1::32, 0, 160>>},
  {"bit string of no bytes and three bits", :malformed, <<131, 77, 0::32, 3>>},
  {"compressed term", :compressed, compressed},
  {"compressed term in a list", :tag, <<131, 108, 1::32>> <> binary_part(compressed, 1, byte_size(compressed) - 1) <> <<106>>},
  {"256 lists around an empty one", :truncated, <<131>> <> String.duplicate(<<108, 1::32>>, 256)},
  {"257 lists", :limit, <<131>> <> depth.(256, <<108, 1::32, 97, 1, 106>>)},
  {"257 tuples", :limit, <<131>> <> String.duplicate(<<104, 1>>, 257) <> <<97, 1>>},
  {"257 maps in keys", :limit, <<131>> <> String.duplicate(<<116, 1::32>>, 257) <> String.duplicate(<<97, 1>>, 258)},
  {"100,000 tuples", :limit, <<131>> <> String.duplicate(<<104, 1>>, 100_000) <> <<97, 1>>}
]

Vectors.write("malformed.json", Enum.map(malformed, fn {name, error, bytes} -> Malformed.of(name, error, bytes) end))
