defmodule Vectors.Terms do
  import Vectors

  @node <<119, 13, "nonode@nohost">>
  # As the BEAM wrote it before OTP 26.
  @old_node <<100, 13::16, "nonode@nohost">>

  def cases do
    Enum.concat([
      integers(),
      floats(),
      binaries(),
      wrapped(),
      tensors(),
      atoms(),
      lists(),
      runs(),
      tuples(),
      maps(),
      identifiers(),
      functions(),
      other_opaques(),
      mixtures()
    ])
  end

  # -- ways to make a case --------------------------------------------------------------------------

  # The BEAM writes the value's term.
  defp of(name, value), do: make(name, external(term(value)), value)

  # The BEAM has to read the bytes as the value's term.
  defp read(name, bytes, value) do
    term = term(value)
    # A match also tells 1 from 1.0.
    ^term = :erlang.binary_to_term(bytes)
    make(name, bytes, value)
  end

  # What is opaque goes back as it came, however it was written. The BEAM has to read it.
  defp opaque_case(name, kind, <<131, raw::binary>> = bytes) do
    _ = :erlang.binary_to_term(bytes)
    historic(name, kind, raw)
  end

  # The BEAM itself no longer reads it.
  defp historic(name, kind, raw),
    do: %{name: name, bytes: hex(<<131>> <> raw), canonical: true, value: opaque(kind, raw)}

  defp make(name, bytes, value),
    do: %{name: name, bytes: hex(bytes), canonical: external(term(value)) == bytes, value: value}

  # -- numbers --------------------------------------------------------------------------------------

  defp integers do
    plain =
      for value <- [
            0,
            1,
            255,
            256,
            -1,
            2_147_483_647,
            2_147_483_648,
            -2_147_483_648,
            -2_147_483_649,
            9_223_372_036_854_775_807,
            9_223_372_036_854_775_808,
            -9_223_372_036_854_775_808,
            -9_223_372_036_854_775_809,
            18_446_744_073_709_551_615,
            18_446_744_073_709_551_616
          ] do
        of("integer #{value}", int(value))
      end

    plain ++
      [
        of("integer of 255 bytes", int(power(256, 255) - 1)),
        of("integer of 256 bytes", int(power(256, 255))),
        of("negative integer of 300 bytes", int(-power(256, 299))),
        read("small integer in four bytes", <<131, 98, 7::32>>, int(7)),
        read("small integer as big integer", <<131, 110, 3, 1, 7, 0, 0>>, int(-7)),
        read("big integer of no bytes", <<131, 110, 0, 0>>, int(0)),
        read("large big integer of one byte", <<131, 111, 1::32, 0, 200>>, int(200))
      ]
  end

  defp floats do
    plain =
      for value <- [
            0.0,
            1.5,
            -1.5,
            0.1,
            1.7976931348623157e308,
            -2.2250738585072014e-308,
            5.0e-324
          ] do
        of("float #{value}", float(value))
      end

    plain ++
      [
        of("float -0.0", %{float: "8000000000000000"}),
        read("float as text", <<131, 99, "1.50000000000000000000e+00", 0::40>>, float(1.5)),
        read("float as short text", <<131, 99, "-2.5", 0::216>>, float(-2.5))
      ]
  end

  # -- binaries and atoms ---------------------------------------------------------------------------

  defp binaries do
    [
      of("empty binary", str("")),
      of("binary", str("hello world")),
      of("binary beyond ASCII", str("héllo – 日本語 🐍")),
      of("binary with NUL and quotes", str(<<0, ?", ?\\, 10>>)),
      of("binary of 255 bytes", str(String.duplicate("a", 255))),
      of("binary of 256 bytes", str(String.duplicate("a", 256)))
    ]
  end

  defp wrapped do
    [
      of("bytes", bytes(<<255, 0, 128>>)),
      of("bytes that are UTF-8", bytes("text")),
      of("no bytes", bytes("")),
      of("bytes in a list", list([bytes(<<255>>), str("a")])),
      of("bytes as a key", map([{bytes(<<255>>), int(1)}])),
      read(
        "bytes with a Latin-1 atom",
        <<131, 104, 2, 100, 6::16, "$bytes", 109, 1::32, 255>>,
        bytes(<<255>>)
      ),
      read(
        "bytes with a short Latin-1 atom in a large tuple",
        <<131, 105, 2::32, 115, 6, "$bytes", 109, 1::32, 255>>,
        bytes(<<255>>)
      ),
      read(
        "bytes with a long UTF-8 atom",
        <<131, 104, 2, 118, 6::16, "$bytes", 109, 1::32, 255>>,
        bytes(<<255>>)
      )
    ]
  end

  defp tensors do
    types =
      for {kind, bits} <- [
            {:s, 8},
            {:s, 16},
            {:s, 32},
            {:s, 64},
            {:u, 8},
            {:u, 16},
            {:u, 32},
            {:u, 64},
            {:f, 16},
            {:f, 32},
            {:f, 64},
            {:bf, 16},
            {:c, 64},
            {:c, 128}
          ] do
        data = for byte <- 1..(6 * div(bits, 8)), into: <<>>, do: <<byte>>
        of("tensor of type #{kind} #{bits}", tensor({kind, bits}, {2, 3}, data))
      end

    types ++
      [
        of("tensor of one number", tensor({:u, 8}, {}, <<7>>)),
        of("tensor without numbers", tensor({:f, 32}, {0, 4}, "")),
        of("tensor of 300", tensor({:u, 8}, {300}, String.duplicate(<<255>>, 300))),
        of("tensor in a map in a list", list([map([{str("a"), tensor({:s, 8}, {1}, <<1>>)}])])),
        of("tuple that is no tensor", tuple([atom("$tensor"), int(1)])),
        read(
          "tensor in other encodings",
          <<131, 105, 4::32, 100, 7::16, "$tensor", 104, 2, 115, 1, "f", 97, 32, 104, 1, 98, 1::32,
            109, 4::32, 0::32>>,
          tensor({:f, 32}, {1}, <<0::32>>)
        )
      ]
  end

  defp atoms do
    plain =
      for name <- ~w(true false nil undefined Elixir.String é 日本) ++ ["", "with space"] do
        of("atom #{inspect(name)}", atom(name))
      end

    plain ++
      [
        of("atom of 255 characters", atom(String.duplicate("é", 255))),
        of("atoms for floats", list([atom("nan"), atom("infinity"), atom("neg_infinity")])),
        read("atom in Latin-1", <<131, 100, 1::16, 233>>, atom("é")),
        read("short atom in Latin-1", <<131, 115, 1, 233>>, atom("é")),
        read("true in Latin-1", <<131, 100, 4::16, "true">>, atom("true")),
        read("short nil in Latin-1", <<131, 115, 3, "nil">>, atom("nil")),
        read("false with a long length", <<131, 118, 5::16, "false">>, atom("false")),
        read("atom with a long length", <<131, 118, 2::16, "ok">>, atom("ok"))
      ]
  end

  # -- containers -----------------------------------------------------------------------------------

  defp lists do
    [
      of("empty list", list([])),
      of("list", list([int(1), str("a"), atom("b"), float(2.5), atom("nil")])),
      of("charlist", ints(~c"abc")),
      of("all bytes as a charlist", ints(0..255)),
      of("charlist beyond bytes", ints(~c"a–")),
      of("list of one list", list([list([])])),
      of("nested lists", list([list([int(1), list([float(2.0)])]), list([list([list([])])])])),
      read(
        "list of small integers",
        <<131, 108, 3::32, 97, 1, 97, 2, 97, 3, 106>>,
        ints([1, 2, 3])
      ),
      read("empty charlist", <<131, 107, 0::16>>, list([])),
      read("list of no elements", <<131, 108, 0::32, 106>>, list([])),
      read("list in two pieces", <<131, 108, 1::32, 97, 1, 107, 1::16, 2>>, ints([1, 2])),
      read(
        "list in three pieces",
        <<131, 108, 1::32, 97, 1, 108, 1::32, 97, 2, 108, 1::32, 97, 3, 106>>,
        ints([1, 2, 3])
      ),
      read("tail of no elements", <<131, 108, 0::32, 97, 1>>, int(1)),
      read("255 lists around an empty one", <<131>> <> nest(255, <<106>>), nested(255))
    ]
  end

  # Long lists of one kind of number, for readers and writers that have a short way for those.
  defp runs do
    integers = Enum.map(1..200, &(&1 * 1000))
    floats = Enum.map(1..200, &float(&1 / 7))

    [
      of("run of floats", list(floats)),
      of("run of integers", ints(integers)),
      of("run of integers of two sizes", ints(Enum.map(1..40, &(&1 * 20)))),
      of("run of negative integers", ints(Enum.map(integers, &(-&1)))),
      of("floats, then others", list(floats ++ [int(1), atom("nil")])),
      of("integers, then a float", list(Enum.map(integers, &int/1) ++ [float(1.0)])),
      of("integers that grow big", ints(Enum.map(0..70, &power(2, &1))))
    ]
  end

  defp tuples do
    [
      of("empty tuple", tuple([])),
      of("pair", tuple([atom("ok"), str("a")])),
      of("pair of binaries", tuple([str("$bytes"), str("a")])),
      of("three with the atom of bytes", tuple([atom("$bytes"), str("a"), int(1)])),
      of("nested tuples", tuple([tuple([tuple([])]), tuple([int(1), tuple([int(2)])])])),
      of("tuple of 255", tuple(Enum.map(1..255, &int/1))),
      of("tuple of 256", tuple(Enum.map(1..256, &int/1))),
      read("large tuple of one", <<131, 105, 1::32, 97, 1>>, tuple([int(1)]))
    ]
  end

  defp maps do
    [
      of("empty map", map([])),
      of(
        "map",
        map([{str("a"), int(1)}, {str("b"), ints([1, 2, 3])}, {str("c"), str("hello world")}])
      ),
      of("map with an atom as key", map([{atom("a"), map([{atom("b"), int(1)}])}])),
      of(
        "map with many kinds of keys",
        map([
          {int(1), int(1)},
          {float(2.5), int(2)},
          {atom("nil"), int(3)},
          {tuple([int(1), int(2)]), int(4)},
          {str("s"), int(5)}
        ])
      ),
      of("map with a list as key", map([{list([]), list([])}])),
      of(
        "map with lists and maps in keys",
        map([{tuple([ints([1, 300]), map([{ints([2]), ints(~c"ab")}])]), list([map([])])}])
      ),
      any_order(
        "struct",
        map([
          {atom("__struct__"), atom("Elixir.Range")},
          {atom("first"), int(1)},
          {atom("last"), int(3)},
          {atom("step"), int(1)}
        ])
      ),
      any_order("map of 100 entries", map(Enum.map(1..100, &{int(&1 * 1000), int(&1)})))
    ]
  end

  # The order of the keys is the BEAM's own affair, and not the same in every release.
  defp any_order(name, %{map: entries} = value) do
    inner = for entry <- entries, item <- entry, into: <<>>, do: inner(term(item))
    %{read(name, <<131, 116, length(entries)::32>> <> inner, value) | canonical: false}
  end

  # -- what is opaque -------------------------------------------------------------------------------

  defp identifiers do
    [
      opaque_case("pid", "pid", <<131, 88>> <> @node <> <<50::32, 0::32, 0::32>>),
      opaque_case(
        "pid of another node",
        "pid",
        <<131, 88, 119, 3, "a@b", 7::32, 9::32, 1_700_000_000::32>>
      ),
      opaque_case(
        "pid as OTP 25 writes it",
        "pid",
        <<131, 88>> <> @old_node <> <<50::32, 0::32, 0::32>>
      ),
      opaque_case(
        "pid with a short creation",
        "pid",
        <<131, 103>> <> @old_node <> <<50::32, 0::32, 0>>
      ),
      opaque_case("port", "port", <<131, 89>> <> @node <> <<5::32, 0::32>>),
      opaque_case(
        "port with 64 bits",
        "port",
        <<131, 120, 119, 3, "a@b", power(2, 40)::64, 9::32>>
      ),
      opaque_case("port with a short creation", "port", <<131, 102>> <> @node <> <<5::32, 0>>),
      opaque_case(
        "reference",
        "reference",
        <<131, 90, 3::16>> <> @node <> <<0::32, 3::32, 2::32, 1::32>>
      ),
      opaque_case(
        "reference with a short creation",
        "reference",
        <<131, 114, 3::16>> <> @node <> <<0, 1::32, 2::32, 3::32>>
      ),
      opaque_case("reference of one number", "reference", <<131, 101>> <> @node <> <<5::32, 0>>),
      opaque_case(
        "reference of five words",
        "reference",
        <<131, 90, 5::16, 119, 3, "a@b", 1::32, 1::32, 2::32, 3::32, 4::32, 5::32>>
      )
    ]
  end

  defp functions do
    [
      opaque_case("function by name", "fun", external(&:erlang.abs/1)),
      opaque_case("function", "fun", fun(<<97, 1>>)),
      opaque_case("function that holds a binary", "fun", fun(<<109, 1::32, 255>>)),
      opaque_case(
        "function that holds nested terms",
        "fun",
        fun(
          <<116, 1::32, 108, 1::32, 70, 0::64, 106, 104, 3, 77, 1::32, 3, 160, 110, 1, 0, 9, 119, 1,
            "a">>
        )
      ),
      opaque_case(
        "function that holds a function",
        "fun",
        fun(binary_part(fun(<<106>>), 1, byte_size(fun(<<106>>)) - 1))
      ),
      historic(
        "function as R14 wrote it",
        "fun",
        <<117, 1::32, 103>> <>
          @old_node <> <<50::32, 0::32, 0, 100, 8::16, "no_where", 97, 3, 98, 12_345::32, 97, 1>>
      )
    ]
  end

  @doc "A function of a module that does not exist, with one variable, whose bytes these are."
  def fun(variable) do
    body =
      <<1, 0::128, 3::32, 1::32, 119, 8, "no_where", 97, 3, 98, 12_345::32, 88>> <>
        @node <> <<50::32, 0::32, 0::32>> <> variable

    <<131, 112, byte_size(body) + 4::32>> <> body
  end

  defp other_opaques do
    [
      opaque_case("bit string", "bitstring", external(<<5::3>>)),
      opaque_case("bit string of 17 bits", "bitstring", external(<<1, 2, 1::1>>)),
      opaque_case("improper list", "improper_list", external([1 | 2])),
      opaque_case("improper list of binaries", "improper_list", external(["a", "b" | "c"])),
      opaque_case("improper list in an improper list", "improper_list", external([[1 | 2] | 3]))
    ]
  end

  defp mixtures do
    pid = opaque("pid", <<88>> <> @node <> <<50::32, 0::32, 0::32>>)

    [
      of(
        "opaque terms in a map",
        map([
          {opaque("improper_list", inner([1 | 2])), opaque("bitstring", inner(<<1::1>>))},
          {str("p"), pid}
        ])
      ),
      of(
        "a table",
        list([
          map([
            {str("at"), float(0.25)},
            {str("by"), pid},
            {str("tags"), list([atom("new"), str("é")])}
          ]),
          map([
            {str("at"), atom("nan")},
            {str("raw"), bytes(<<0, 255>>)},
            {str("size"), int(power(2, 64))}
          ])
        ])
      )
    ]
  end

  # -- helpers --------------------------------------------------------------------------------------

  defp power(base, exponent), do: Integer.pow(base, exponent)

  @doc "Bytes inside n lists of one element."
  def nest(n, inner),
    do: String.duplicate(<<108, 1::32>>, n) <> inner <> String.duplicate(<<106>>, n)

  defp nested(n), do: Enum.reduce(1..n, list([]), fn _, inner -> list([inner]) end)
end
