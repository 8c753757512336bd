# Writes the vectors of the protocol, with a real BEAM (OTP 25 or newer):
#
#     elixir protocol/generate_vectors.exs [FOLDER]
#
# FOLDER is protocol/vectors unless another is named. Every implementation is tested against these
# files, and a test holds that they are what this program writes. SPEC.md, section 18, says what
# stands in them.

defmodule Json do
  def encode(map) when is_map(map) do
    entries = for {key, value} <- Enum.sort(map), do: [encode(to_string(key)), ": ", encode(value)]

    ["{", Enum.intersperse(entries, ", "), "}"]
  end

  def encode(list) when is_list(list),
    do: ["[", list |> Enum.map(&encode/1) |> Enum.intersperse(", "), "]"]

  def encode(bool) when is_boolean(bool), do: to_string(bool)
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
  def write(cases, path) do
    names = Enum.map(cases, & &1.name)
    [] = names -- Enum.uniq(names)
    lines = cases |> Enum.map(&Json.encode/1) |> Enum.intersperse(",\n")
    File.write!(path, ["[\n", lines, "\n]\n"])
  end

  def hex(bytes), do: Base.encode16(bytes, case: :lower)
  def unhex(hex), do: Base.decode16!(hex, case: :lower)

  @doc "What the BEAM writes, with atoms as OTP 26 writes them and the keys of maps in order."
  def external(term), do: :erlang.term_to_binary(term, [:deterministic, minor_version: 2])

  @doc "The same without the version byte, as part of a larger term."
  def inner(term), do: binary_part(external(term), 1, byte_size(external(term)) - 1)

  # -- values, as the files have them ---------------------------------------------------------------

  def int(value), do: %{integer: Integer.to_string(value)}
  def float(value), do: %{float: hex(<<value::float>>)}
  def str(value), do: %{string: value}
  def bytes(value), do: %{bytes: hex(value)}
  # Not to_string, which makes an empty text of nil.
  def atom(name) when is_atom(name), do: %{atom: Atom.to_string(name)}
  def atom(name), do: %{atom: name}
  def list(values), do: %{list: values}
  def ints(values), do: list(Enum.map(values, &int/1))
  def tuple(values), do: %{tuple: values}
  def map(entries), do: %{map: Enum.map(entries, &Tuple.to_list/1)}
  def opaque(kind, raw), do: %{opaque: kind, external: hex(raw)}
  def binary(value), do: %{binary: hex(value)}

  def tensor({kind, bits}, shape, data) do
    sizes = shape |> Tuple.to_list() |> Enum.map(&to_string/1)
    %{tensor: %{type: [to_string(kind), to_string(bits)], shape: sizes, data: hex(data)}}
  end

  # -- terms, and pieces of them --------------------------------------------------------------------

  @doc "How a frame begins: its tuple and tag, written in one of the legal ways."
  def head(tag, arity, :recommended), do: <<131, 104, arity, 119, byte_size(tag)>> <> tag
  def head(tag, arity, :latin1), do: <<131, 104, arity, 100, byte_size(tag)::16>> <> tag
  def head(tag, arity, :short_latin1), do: <<131, 104, arity, 115, byte_size(tag)>> <> tag
  def head(tag, arity, :long_utf8), do: <<131, 104, arity, 118, byte_size(tag)::16>> <> tag
  def head(tag, arity, :large_tuple), do: <<131, 105, arity::32, 119, byte_size(tag)>> <> tag

  @doc "A term that is marked as compressed, and stored as it is: no two deflaters write the same."
  def compressed(term) do
    bytes = inner(term)
    size = byte_size(bytes)
    stored = <<0x78, 0x01, 1, size::little-16, 0xFFFF - size::little-16>> <> bytes
    compressed = <<131, 80, size::32>> <> stored <> <<:erlang.adler32(bytes)::32>>
    ^term = :erlang.binary_to_term(compressed)
    compressed
  end

  @doc "The term that a value of the files stands for."
  def term(%{integer: digits}), do: String.to_integer(digits)
  def term(%{string: text}), do: text
  def term(%{bytes: hex}), do: {:"$bytes", unhex(hex)}
  def term(%{binary: hex}), do: unhex(hex)
  def term(%{atom: name}), do: String.to_atom(name)
  def term(%{list: values}), do: Enum.map(values, &term/1)
  def term(%{tuple: values}), do: List.to_tuple(Enum.map(values, &term/1))
  def term(%{map: entries}), do: Map.new(entries, fn [key, value] -> {term(key), term(value)} end)
  def term(%{external: hex}), do: :erlang.binary_to_term(<<131>> <> unhex(hex))

  def term(%{tensor: %{type: [kind, bits], shape: shape, data: data}}) do
    shape = shape |> Enum.map(&String.to_integer/1) |> List.to_tuple()
    {:"$tensor", {String.to_atom(kind), String.to_integer(bits)}, shape, unhex(data)}
  end

  def term(%{float: hex}) do
    <<float::float>> = unhex(hex)
    float
  end
end

folder = List.first(System.argv()) || Path.join(__DIR__, "vectors")
File.mkdir_p!(folder)

for module <- ~w(terms malformed frames malformed_frames),
    do: Code.require_file("generator/#{module}.exs", __DIR__)

for {file, modules} <- [
      terms: [Vectors.Terms],
      malformed: [Vectors.Malformed],
      frames: [Vectors.Frames, Vectors.MalformedFrames]
    ] do
  # By apply: the modules are not known when this file is compiled.
  modules
  |> Enum.flat_map(&apply(&1, :cases, []))
  |> Vectors.write(Path.join(folder, "#{file}.json"))
end
