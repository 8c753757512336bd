defmodule Vectors.MalformedFrames do
  import Vectors

  def cases, do: malformed_calls() ++ malformed_frames()

  defp malformed(name, from, bytes, id \\ atom(nil)),
    do: %{name: "malformed: " <> name, from: from, bytes: hex(bytes), error: id}

  # A term that is no frame of the protocol.
  defp wrong(name, from, term, id \\ atom(nil)), do: malformed(name, from, external(term), id)

  # What a call or control call of a readable identifier gets wrong is answered to that identifier.
  defp malformed_calls do
    args = external([1])
    whole = external({:call, 300, "p", "add", args, %{"timeout" => 1}})
    plain = external({:call, 300, "p", "add", args})
    id = int(300)

    cuts =
      for cut <- [1, 5, 20], {name, bytes} <- [{"call with options", whole}, {"call", plain}] do
        bytes = binary_part(bytes, 0, byte_size(bytes) - cut)
        malformed("#{name} without its last #{cut} bytes", "host", bytes, id)
      end

    cuts ++
      [
        wrong("call without arguments", "host", {:call, 300, "p", "add"}, id),
        wrong("call of its identifier alone", "host", {:call, 300}, id),
        wrong("call of nothing", "host", {:call}),
        wrong("call with too much", "host", {:call, 300, "p", "add", args, %{}, 1}, id),
        wrong("call with an identifier below zero", "host", {:call, -1, "p", "add", args}),
        wrong("call with a float as identifier", "host", {:call, 300.0, "p", "add", args}),
        wrong("call with a binary as identifier", "host", {:call, "300", "p", "add", args}),
        wrong("call with no identifier", "host", {:call, nil, "p", "add", args}),
        wrong("call with true as identifier", "host", {:call, true, "p", "add", args}),
        wrong("call with 2^60", "host", {:call, 0x1000000000000000, "p", "add", args}),
        malformed(
          "call with a negative identifier in four bytes",
          "host",
          head("call", 5, :recommended) <>
            <<98, -1::32>> <> inner("p") <> inner("add") <> inner(args)
        ),
        wrong("call with a number as pool", "host", {:call, 300, 1, "add", args}, id),
        wrong("call with a number as command", "host", {:call, 300, "p", 1, args}, id),
        wrong("call with a list as command", "host", {:call, 300, "p", ~c"add", args}, id),
        wrong("call with arguments unpacked", "host", {:call, 300, "p", "add", [1]}, id),
        wrong(
          "call with wrapped arguments",
          "host",
          {:call, 300, "p", "add", {:"$bytes", args}},
          id
        ),
        wrong(
          "call with a wrapped command",
          "host",
          {:call, 300, "p", {:"$bytes", "add"}, args},
          id
        ),
        wrong("call with an atom as arguments", "host", {:call, 300, "p", "add", :a}, id),
        wrong(
          "call with a bit string as arguments",
          "host",
          {:call, 300, "p", "add", <<1::1>>},
          id
        ),
        wrong("call with a list as options", "host", {:call, 300, "p", "add", args, []}, id),
        wrong("call with nil as options", "host", {:call, 300, "p", "add", args, nil}, id),
        wrong(
          "call with bytes in its options",
          "host",
          {:call, 300, "p", "add", args, %{"session" => <<255>>}},
          id
        ),
        wrong("call whose pool is not UTF-8", "host", {:call, 300, <<255>>, "add", args}, id),
        wrong("call whose command is not UTF-8", "host", {:call, 300, "p", <<255>>, args}, id),
        malformed("call with a byte behind", "host", plain <> <<0>>, id),
        malformed("call with a second call behind", "host", plain <> plain, id),
        malformed("call with options and a byte behind", "host", whole <> <<0>>, id),
        malformed(
          "call whose pool claims 4 GiB",
          "host",
          head("call", 5, :recommended) <> <<98, 300::32, 109, 0xFFFFFFFF::32, "p">>,
          id
        ),
        malformed(
          "call whose arguments claim 4 GiB",
          "host",
          binary_part(plain, 0, byte_size(plain) - byte_size(args) - 4) <>
            <<0xFFFFFFFF::32>> <> args,
          id
        ),
        malformed(
          "call that claims 4 billion elements",
          "host",
          <<131, 105, 0xFFFFFFFF::32, 119, 4, "call", 98, 300::32>>,
          id
        ),
        wrong("control call without arguments", "host", {:control, 300, "stats"}, id),
        wrong("control call with a number as name", "host", {:control, 300, 1, args}, id),
        wrong("control call with a map unpacked", "host", {:control, 300, "stats", %{}}, id),
        wrong("control call with no identifier", "host", {:control, nil, "stats", args}),
        malformed(
          "control call with a byte behind",
          "host",
          external({:control, 300, "stats", args}) <> <<0>>,
          id
        )
      ]
  end

  # Everything else is answered to no identifier.
  defp malformed_frames do
    payload = external([1])
    deep = Enum.reduce(1..300, [], fn _, inner -> [inner] end)

    [
      malformed("nothing", "host", ""),
      malformed("the version alone", "host", <<131>>),
      malformed("a tuple's tag alone", "host", <<131, 104>>),
      malformed("text", "host", "hello\n"),
      malformed("a frame without version", "host", <<104, 2, 119, 4, "ping", 97, 1>>),
      malformed("a frame of another version", "host", <<130, 104, 2, 119, 4, "ping", 97, 1>>),
      malformed(
        "a compressed frame",
        "supervisor",
        compressed({:log, %{"line" => "x"}})
      ),
      wrong("an atom", "host", :ping),
      wrong("a list", "host", [:ping, 1]),
      wrong("a map", "host", %{ping: 1}),
      wrong("a number", "host", 1),
      wrong("an empty tuple", "host", {}),
      malformed("an empty large tuple", "host", <<131, 105, 0::32>>),
      wrong("a binary as tag", "host", {"ping", 1}),
      wrong("a number as tag", "host", {1, 1}),
      malformed(
        "a huge number as tag",
        "host",
        external({Integer.pow(2, 40_000), 1})
      ),
      wrong("true as tag", "host", {true, 1}),
      wrong("a tag that no frame has", "host", {:bogus, 300}),
      wrong("a tag in capitals", "host", {:PING, 1}),
      malformed(
        "a tag too long",
        "host",
        <<131, 104, 2, 118, 300::16>> <> String.duplicate("a", 300) <> <<97, 1>>
      ),
      malformed("a tag that is not UTF-8", "host", <<131, 104, 2, 119, 1, 255, 97, 1>>),
      malformed("a tag cut", "host", <<131, 104, 2, 119, 4, "pi">>),
      wrong("hello of a binary version", "host", {:hello, "1", %{}}),
      wrong("hello of a negative version", "host", {:hello, -1, %{}}),
      wrong("hello of a list", "host", {:hello, 1, []}),
      wrong("hello of its version alone", "host", {:hello, 1}),
      wrong("hello that is too deep", "host", {:hello, 1, %{"config" => deep}}),
      malformed(
        "hello with a key twice",
        "host",
        head("hello", 3, :recommended) <>
          <<97, 1, 116, 2::32, 109, 1::32, "a", 97, 1, 109, 1::32, "a", 97, 2>>
      ),
      wrong("ready of a list", "supervisor", {:ready, []}),
      wrong("failed of a binary", "worker", {:failed, "no"}),
      wrong("result of no call", "supervisor", {:result, nil, payload}),
      wrong("result of a list", "supervisor", {:result, 300, [1]}),
      wrong("result of 2^60", "supervisor", {:result, 0x1000000000000000, payload}),
      wrong("result of a negative identifier", "supervisor", {:result, -1, payload}),
      wrong("result with too much", "supervisor", {:result, 300, payload, 1}),
      wrong("result whose files are a text", "supervisor", {:result, 300, payload, "w1-300-0-5"}),
      wrong("result whose files are numbers", "supervisor", {:result, 300, payload, [[300]]}),
      wrong("result with more than files", "supervisor", {:result, 300, payload, [], []}),
      wrong("result without payload", "supervisor", {:result, 300}),
      malformed(
        "result with a byte behind",
        "supervisor",
        external({:result, 300, payload}) <> <<0>>
      ),
      malformed(
        "result cut",
        "supervisor",
        binary_part(external({:result, 300, payload}), 0, 23)
      ),
      wrong("error of a binary", "supervisor", {:error, 300, "no"}),
      wrong("error of an atom as identifier", "supervisor", {:error, :a, %{}}),
      wrong(
        "error whose text is not UTF-8",
        "supervisor",
        {:error, 300, %{"message" => <<255>>}}
      ),
      wrong("chunk of no call", "supervisor", {:chunk, nil, payload}),
      wrong("chunk of a number", "supervisor", {:chunk, 300, 1}),
      wrong("credit below zero", "host", {:credit, 300, -1}),
      wrong("credit of a float", "host", {:credit, 300, 1.0}),
      wrong("credit of 2^60", "host", {:credit, 300, 0x1000000000000000}),
      wrong("cancel of nothing", "host", {:cancel}),
      wrong("cancel of no call", "host", {:cancel, nil}),
      wrong("cancel with too much", "host", {:cancel, 300, 1}),
      wrong("tool with a number as name", "supervisor", {:tool, 300, 1, 1, payload}),
      wrong("tool with a binary as identifier", "supervisor", {:tool, 300, "1", "a", payload}),
      wrong("tool result unpacked", "host", {:tool_result, 300, 1, [1]}),
      wrong("tool error of a binary", "host", {:tool_error, 300, 1, "no"}),
      wrong("message unpacked", "supervisor", {:send, 1, [1]}),
      wrong("message to a name", "supervisor", {:send, "pid", payload}),
      wrong("progress in words", "supervisor", {:progress, 300, "half", "all"}),
      wrong("event with a number as name", "supervisor", {:event, 1, %{}, %{}}),
      wrong("event without metadata", "supervisor", {:event, "pool.ready", %{}}),
      wrong("event with a list as metadata", "supervisor", {:event, "pool.ready", %{}, []}),
      wrong("log of a binary", "supervisor", {:log, "line"}),
      wrong("ping of a float", "host", {:ping, 1.0}),
      wrong("recall of a number", "pool", {:recall, 300}),
      wrong("recalled with a text", "worker", {:recalled, [300, "301"]}),
      wrong("pong of a binary", "supervisor", {:pong, "1"}),
      malformed("ping with a byte behind", "host", external({:ping, 1}) <> <<0>>)
    ]
  end
end
