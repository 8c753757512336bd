defmodule SnakepitPort.Support.JSON do
  @moduledoc "Reads JSON, for the vectors only: OTP 25 has no reader of its own."

  @spec decode!(binary) :: term
  def decode!(text) do
    {value, rest} = value(skip(text))
    "" = skip(rest)
    value
  end

  defp value("null" <> rest), do: {nil, rest}
  defp value("true" <> rest), do: {true, rest}
  defp value("false" <> rest), do: {false, rest}
  defp value("\"" <> rest), do: string(rest, [])
  defp value("[" <> rest), do: list(skip(rest), [])
  defp value("{" <> rest), do: object(skip(rest), [])

  defp value(text) do
    [number] = Regex.run(~r/^-?\d+(\.\d+)?([eE][+-]?\d+)?/, text, capture: :first)
    rest = binary_part(text, byte_size(number), byte_size(text) - byte_size(number))

    case Integer.parse(number) do
      {integer, ""} -> {integer, rest}
      {_, "." <> _} -> {String.to_float(number), rest}
      {integer, exponent} -> {String.to_float("#{integer}.0#{exponent}"), rest}
    end
  end

  defp list("]" <> rest, []), do: {[], rest}

  defp list(text, items) do
    {item, rest} = value(text)

    case skip(rest) do
      "," <> rest -> list(skip(rest), [item | items])
      "]" <> rest -> {Enum.reverse(items, [item]), rest}
    end
  end

  defp object("}" <> rest, []), do: {%{}, rest}

  defp object("\"" <> text, pairs) do
    {key, rest} = string(text, [])
    ":" <> rest = skip(rest)
    {value, rest} = value(skip(rest))

    case skip(rest) do
      "," <> rest -> object(skip(rest), [{key, value} | pairs])
      "}" <> rest -> {Map.new([{key, value} | pairs]), rest}
    end
  end

  defp string("\"" <> rest, read), do: {IO.iodata_to_binary(Enum.reverse(read)), rest}

  # What is beyond 16 bits is written as two escapes.
  defp string(<<"\\u", high::binary-size(4), "\\u", low::binary-size(4), rest::binary>>, read)
       when high >= "d800" and high < "dc00" do
    utf16 = <<String.to_integer(high, 16)::16, String.to_integer(low, 16)::16>>
    string(rest, [:unicode.characters_to_binary(utf16, :utf16) | read])
  end

  defp string(<<"\\u", code::binary-size(4), rest::binary>>, read) do
    string(rest, [<<String.to_integer(code, 16)::utf8>> | read])
  end

  for {letter, byte} <- [{?n, ?\n}, {?t, ?\t}, {?r, ?\r}, {?b, ?\b}, {?f, ?\f}] do
    defp string(<<?\\, unquote(letter), rest::binary>>, read),
      do: string(rest, [unquote(byte) | read])
  end

  defp string(<<?\\, byte, rest::binary>>, read), do: string(rest, [byte | read])
  defp string(<<byte, rest::binary>>, read), do: string(rest, [byte | read])

  defp skip(<<space, rest::binary>>) when space in ~c" \n\r\t", do: skip(rest)
  defp skip(text), do: text
end
