defmodule SnakepitPort.VectorsTest do
  @moduledoc "The bytes that all implementations of the protocol are tested against."
  use ExUnit.Case, async: true
  alias SnakepitPort.{Error, Support.JSON, Terms}

  @folder Path.expand("../../protocol/vectors", __DIR__)

  defp cases(file), do: @folder |> Path.join(file) |> File.read!() |> JSON.decode!()
  defp bytes(hex), do: Base.decode16!(hex, case: :lower)

  # Made without reading the bytes under test. It makes the atoms, too, that decoding has to find.
  defp term(%{"integer" => digits}), do: String.to_integer(digits)
  defp term(%{"string" => text}), do: text
  defp term(%{"bytes" => hex}), do: SnakepitPort.bytes(bytes(hex))
  defp term(%{"atom" => name}), do: String.to_atom(name)
  defp term(%{"list" => values}), do: Enum.map(values, &term/1)
  defp term(%{"tuple" => values}), do: List.to_tuple(Enum.map(values, &term/1))

  defp term(%{"opaque" => _, "external" => hex}),
    do: :erlang.binary_to_term(<<131, bytes(hex)::binary>>)

  defp term(%{"map" => entries}) do
    Map.new(entries, fn [key, value] -> {term(key), term(value)} end)
  end

  defp term(%{"float" => bits}) do
    <<float::float>> = bytes(bits)
    float
  end

  # Local funs come back, external ones are refused; the BEAM itself has forgotten R14's.
  defp refused?(%{"value" => %{"opaque" => "fun", "external" => <<tag::binary-size(2), _::binary>>}}) do
    bytes(tag) in [<<113>>, <<117>>]
  end

  defp refused?(_), do: false

  test "every term is read as what it stands for, or is an external fun" do
    for vector <- cases("terms.json"), name = vector["name"] do
      if refused?(vector) do
        assert {:error, %Error{type: :decode}} = Terms.decode(bytes(vector["bytes"])), name
      else
        assert {:ok, term(vector["value"])} === Terms.decode(bytes(vector["bytes"])), name
      end
    end
  end

  test "what the BEAM writes is written the same" do
    for %{"canonical" => true, "value" => value} = vector <- cases("terms.json"),
        not is_map_key(value, "opaque") do
      assert Base.encode16(Terms.encode(term(value)), case: :lower) == vector["bytes"],
             vector["name"]
    end
  end

  test "what is malformed is refused, where the BEAM itself does not know better" do
    for %{"name" => name, "beam" => beam, "error" => error} = vector <- cases("malformed.json") do
      result = Terms.decode(bytes(vector["bytes"]))

      if beam == "refuses" or error in ["trailing", "compressed"] do
        assert {:error, %Error{type: :decode}} = result, name
      else
        assert {:ok, _} = result, name
      end
    end
  end
end
