defmodule SnakepitPort.FramesTest do
  use ExUnit.Case, async: true
  alias SnakepitPort.{Error, Frames}

  # Where the encoding of an integer changes, and the largest identifier there is.
  @ids [0, 255, 256, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000, Bitwise.bsl(1, 60) - 1]

  defp read(iodata), do: iodata |> IO.iodata_to_binary() |> :erlang.binary_to_term()
  defp write(term), do: :erlang.term_to_binary(term, minor_version: 2)

  # As before OTP 26, if not told otherwise.
  defp write_as_before(term), do: :erlang.term_to_binary(term, minor_version: 1)

  test "what is built by hand is what the protocol says" do
    for id <- @ids do
      assert read(Frames.call(id, nil, "add", "args", %{})) == {:call, id, nil, "add", "args"}
      assert read(Frames.call(id, "p", "é", "", %{})) == {:call, id, "p", "é", ""}

      assert read(Frames.call(id, "p", "c", "args", %{"timeout" => nil})) ==
               {:call, id, "p", "c", "args", %{"timeout" => nil}}

      assert read(Frames.cancel(id)) == {:cancel, id}
      assert read(Frames.credit(id, id)) == {:credit, id, id}
      assert read(Frames.control(id, "stats", "args")) == {:control, id, "stats", "args"}
    end

    assert read(Frames.hello(%{"a" => 1})) == {:hello, 1, %{"a" => 1}}
  end

  test "atoms and binaries are written as the fast paths of others look for them" do
    assert IO.iodata_to_binary(Frames.call(256, nil, "c", "ab", %{"timeout" => nil})) ==
             <<131, 104, 6, 119, 4, "call", 98, 256::32, 119, 3, "nil", 109, 1::32, "c", 109, 2::32,
               "ab", 116, 1::32, 109, 7::32, "timeout", 119, 3, "nil">>
  end

  test "answers are sorted and read in every legal encoding" do
    for id <- @ids, payload <- ["", "payload", :binary.copy("x", 300)], version <- [1, 2] do
      frame = :erlang.term_to_binary({:result, id, payload}, minor_version: version)
      assert Frames.sort(frame) == {:answer, id}
      assert Frames.answer(frame) == {:result, payload}

      frame = :erlang.term_to_binary({:chunk, id, payload}, minor_version: version)
      assert Frames.sort(frame) == {:chunk, id}
      assert Frames.answer(frame) == {:chunk, payload}

      frame = :erlang.term_to_binary({:error, id, %{"type" => "timeout"}}, minor_version: version)

      assert Frames.sort(frame) == {:answer, id}
      assert {:error, %Error{type: :timeout}} = Frames.answer(frame)
    end
  end

  test "other frames are sorted" do
    assert Frames.sort(write({:event, "pool.ready", %{}, %{}})) == :event
    assert Frames.sort(write_as_before({:event, "a.b", %{}, %{}})) == :event
    assert Frames.sort(write({:log, %{"line" => "x"}})) == :log
    assert Frames.sort(:erlang.term_to_binary({:log, %{}})) == :log
    # A process of another node, whose name this one need not know.
    pid = <<88, 119, 10, "unseen_1@x", 0::96>>
    send = <<131, 104, 3, 119, 4, "send", pid::binary, 109, 3::32, 131, 97, 1>>
    assert Frames.sort(send) == :send
    assert Frames.sort(write({:ready, %{}})) == {:other, {:ready, %{}}}
    assert Frames.sort(write({:error, nil, %{}})) == {:other, {:error, nil, %{}}}
  end

  test "what is no frame is an error" do
    for junk <- [
          "",
          "junk",
          <<131>>,
          <<131, 104, 0>>,
          write(:result),
          write({1, 2}),
          write({:call, 1, nil, "c", "a"}),
          write({:result, "1", "x"}),
          write({:result, 1, :x}),
          write({:result, 1, "x", ["a" | "b"]}),
          write({:error, 1, "text"}),
          write({:chunk, nil, "x"}),
          write({:chunk, 1, :x}),
          write_as_before({:event, :name, %{}, %{}}),
          write({:ready, %{}}) <> "x",
          <<131, 104, 1, 119, 8, "no_atom1">>,
          :erlang.term_to_binary({:ready, %{"x" => String.duplicate("x", 1000)}}, [:compressed])
        ] do
      assert Frames.sort(junk) == :error, inspect(junk)
    end
  end

  test "an answer that looks right from afar only is an error of its call" do
    for junk <- [
          <<131, 104, 3, 119, 6, "result", 98, 256::32>>,
          <<131, 104, 3, 119, 6, "result", 98, 256::32, 109, 5::32, "abc">>,
          <<131, 104, 3, 119, 6, "result", 98, 256::32, 97, 1>>,
          <<131, 104, 3, 119, 5, "error", 98, 256::32, 106>>
        ] do
      assert Frames.sort(junk) == {:answer, 256}
      assert {:error, %Error{type: :protocol_error}} = Frames.answer(junk)
    end

    for junk <- [
          <<131, 104, 3, 119, 5, "chunk", 98, 256::32, 109, 5::32, "abc">>,
          <<131, 104, 3, 119, 5, "chunk", 98, 256::32, 97, 1>>
        ] do
      assert Frames.sort(junk) == {:chunk, 256}
      assert {:error, %Error{type: :protocol_error}} = Frames.answer(junk)
    end
  end

  test "events about pools are told from others" do
    for version <- [1, 2] do
      event = fn name, metadata ->
        Frames.pool_event(
          :erlang.term_to_binary({:event, name, %{}, metadata}, minor_version: version)
        )
      end

      pool = %{"pool" => "p"}
      assert event.("pool.ready", pool) == {"pool.ready", "p", pool}
      assert {"pool.unavailable", "p", _} = event.("pool.unavailable", pool)
      assert event.("pool.ready", %{}) == nil
      assert event.("p", %{}) == nil
      assert Frames.pool_event(:erlang.term_to_binary({:log, %{}}, minor_version: version)) == nil
    end

    worker = write({:event, "worker.started", %{}, %{"pool" => "p"}})
    assert Frames.pool_event(worker) == nil
  end
end
