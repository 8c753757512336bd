defmodule SnakepitPort.VectorsTest do
  @moduledoc "The bytes that all implementations of the protocol are tested against."
  use ExUnit.Case, async: true
  alias SnakepitPort.{Error, Frames, Support.JSON, Terms}

  @folder Path.expand("../../protocol/vectors", __DIR__)

  defp cases(file), do: @folder |> Path.join(file) |> File.read!() |> JSON.decode!()
  defp bytes(hex), do: Base.decode16!(hex, case: :lower)

  # Made without reading the bytes under test. It makes the atoms, too, that decoding has to find.
  defp term(%{"integer" => digits}), do: String.to_integer(digits)
  defp term(%{"string" => text}), do: text
  defp term(%{"bytes" => hex}), do: SnakepitPort.bytes(bytes(hex))
  defp term(%{"binary" => hex}), do: bytes(hex)
  defp term(%{"atom" => name}), do: String.to_atom(name)
  defp term(%{"list" => values}), do: Enum.map(values, &term/1)
  defp term(%{"tuple" => values}), do: List.to_tuple(Enum.map(values, &term/1))

  defp term(%{"opaque" => _, "external" => hex}),
    do: :erlang.binary_to_term(<<131, bytes(hex)::binary>>)

  defp term(%{"tensor" => %{"type" => [kind, bits], "shape" => shape, "data" => data}}) do
    %SnakepitPort.Tensor{
      type: {String.to_atom(kind), String.to_integer(bits)},
      shape: shape |> Enum.map(&String.to_integer/1) |> List.to_tuple(),
      data: bytes(data)
    }
  end

  defp term(%{"map" => entries}) do
    Map.new(entries, fn [key, value] -> {term(key), term(value)} end)
  end

  defp term(%{"float" => bits}) do
    <<float::float>> = bytes(bits)
    float
  end

  # Local funs come back, external ones are refused; the BEAM itself has forgotten R14's.
  defp refused?(%{"value" => %{"opaque" => "fun", "external" => external}}) do
    bytes(binary_part(external, 0, 2)) in [<<113>>, <<117>>]
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
      assert {:ok, iodata} = Terms.arguments(term(value), nil)

      assert iodata |> IO.iodata_to_binary() |> Base.encode16(case: :lower) == vector["bytes"],
             vector["name"]
    end
  end

  test "what is malformed is refused, where the BEAM itself does not know better" do
    for %{"name" => name, "beam" => beam, "error" => error} = vector <- cases("malformed.json") do
      result = Terms.decode(bytes(vector["bytes"]))

      if beam == "refuses" or error in ["trailing", "compressed"] do
        assert {:error, %Error{type: :decode}} = result, name
      else
        assert match?({:ok, _}, result) or match?({:error, %Error{type: :decode}}, result), name
      end
    end
  end

  # -- frames ---------------------------------------------------------------------------------------

  defp frames, do: for(%{"frame" => _} = vector <- cases("frames.json"), do: vector)

  test "every frame of a supervisor is sorted, and read as what it stands for" do
    vectors = for %{"from" => "supervisor"} = vector <- frames(), do: vector
    assert length(vectors) > 100

    for vector <- vectors, name = vector["name"], bytes = bytes(vector["bytes"]) do
      frame = term(vector["frame"])
      assert Frames.read(bytes) === frame, name

      case frame do
        {:result, id, payload} ->
          assert Frames.sort(bytes) == {:answer, id}, name
          assert Frames.answer(bytes) == {:result, payload}, name

        {:result, id, payload, files} ->
          assert Frames.sort(bytes) == {:answer, id, files}, name
          assert Frames.answer(bytes) == {:result, id, payload, files}, name

        {:chunk, id, payload} ->
          assert Frames.sort(bytes) == {:chunk, id}, name
          assert Frames.answer(bytes) == {:chunk, payload}, name

        {:error, id, error} when is_integer(id) ->
          assert Frames.sort(bytes) == {:answer, id}, name
          assert Frames.answer(bytes) == {:error, Error.from_wire(error)}, name

        {:event, _, _, _} ->
          assert Frames.sort(bytes) == :event, name

        {:log, _} ->
          assert Frames.sort(bytes) == :log, name

        {:tool, id, _, _, _} ->
          assert Frames.sort(bytes) == {:tool, id}, name

        {:send, _, _} ->
          assert Frames.sort(bytes) == :send, name

        {:progress, _, _, _} = progress ->
          assert Frames.sort(bytes) == progress, name

        other ->
          assert Frames.sort(bytes) == {:other, other}, name
      end
    end
  end

  test "every error of the protocol has its type" do
    for %{"name" => "error of type " <> type} = vector <- frames() do
      assert {:error, %Error{type: atom, message: "What happened."}} =
               Frames.answer(bytes(vector["bytes"]))

      assert Atom.to_string(atom) == type
    end
  end

  test "events about pools are found" do
    for %{"name" => "event pool." <> _ = name} = vector <- frames() do
      "event " <> event = name
      assert {^event, "some pool", %{}} = Frames.pool_event(bytes(vector["bytes"])), name
    end
  end

  # The frames that this host sends.
  defp build({:hello, 1, info}), do: Frames.hello(info)
  defp build({:call, id, pool, command, args}), do: Frames.call(id, pool, command, args, %{})

  defp build({:call, id, pool, command, args, options}),
    do: Frames.call(id, pool, command, args, options)

  defp build({:cancel, id}), do: Frames.cancel(id)
  defp build({:credit, id, n}), do: Frames.credit(id, n)
  defp build({:control, id, name, args}), do: Frames.control(id, name, args)
  defp build({:ping, n}), do: Frames.ping(n)

  defp build({:tool_result, id, number, term}), do: Frames.tool_result(id, number, term)
  defp build({:tool_error, id, number, error}), do: Frames.tool_error(id, number, error)
  defp build(_), do: nil

  test "what a host sends is written as the vectors have it" do
    built =
      for %{"from" => "host", "recommended" => true} = vector <- frames(),
          frame = term(vector["frame"]),
          iodata = build(frame) do
        assert Base.encode16(IO.iodata_to_binary(iodata), case: :lower) == vector["bytes"],
               vector["name"]

        elem(frame, 0)
      end

    tools = [:tool_error, :tool_result]

    assert Enum.sort(Enum.uniq(built)) ==
             [:call, :cancel, :control, :credit, :hello, :ping | tools]
  end

  test "a malformed frame is never a result, a chunk, an event of a pool or ready" do
    vectors = for %{"error" => _} = vector <- cases("frames.json"), do: vector
    assert length(vectors) > 80

    # The BEAM knows no limit of depth, and a hello is not what a host has to be afraid of.
    for %{"name" => name} = vector <- vectors, name != "malformed: hello that is too deep" do
      bytes = bytes(vector["bytes"])

      case Frames.sort(bytes) do
        :error ->
          :ok

        {kind, id} when kind in [:answer, :chunk] and id in 0..0xFFFFFFFFFFFFFFF ->
          assert {:error, %Error{type: type} = error} = Frames.answer(bytes), name
          assert type in [:protocol_error, :unknown], name
          assert String.valid?(Exception.message(error)), name

        # These are read by the process that deals with them, which drops what it cannot read.
        sorted when sorted == :send or elem(sorted, 0) == :tool ->
          :ok

        # An answer to nobody: there are no such calls.
        {kind, _} when kind in [:answer, :chunk] ->
          :ok

        kind when kind in [:event, :log] ->
          assert Frames.pool_event(bytes) == nil, name

        {:other, frame} ->
          flunk("#{name} is taken for #{inspect(frame)}")
      end
    end
  end
end
