defmodule SnakepitPort.LinkTest do
  use ExUnit.Case, async: true
  alias SnakepitPort.{Chunks, Delivery, Error, Frames, Heartbeat, Link, LinkStream}

  # This process is the owner, of a program that returns every frame.
  setup context do
    args = ["-c", "exec cat 2>/dev/null"]
    port = Port.open({:spawn_executable, "/bin/sh"}, [:binary, packet: 4, args: args])
    link = Link.create(SnakepitPort.Support.name(context), port, self(), 1000)
    Link.publish(link)
    {:ok, link: link}
  end

  defp request(link, timeout) do
    test = self()

    pid =
      spawn_link(fn ->
        send(test, {:done, Link.request(link, &Frames.ping/1, timeout)})
        receive do: (:end -> :ok)
      end)

    assert_receive {:watch, ^pid}
    # Its first row has the id 0, of no call.
    SnakepitPort.Support.await(fn -> match?([{_, id}] when id > 0, :ets.lookup(link.table, pid)) end)

    pid
  end

  test "an answer that is on its way when the caller gives up does not arrive", %{link: link} do
    pid = request(link, 1_000)
    [{^pid, id}] = :ets.lookup(link.table, pid)
    # Taken by the owner, but not sent yet.
    [{^id, alias, _}] = :ets.take(link.table, id)
    assert_receive {:done, :timeout}
    send(alias, {alias, "late"})
    assert Process.info(pid, :messages) == {:messages, []}
    # It was answered, so there is nothing to cancel: what comes back is the call alone.
    %{port: port} = link
    assert_receive {^port, {:data, _}}
    send(port, {self(), {:command, "last"}})
    assert_receive {^port, {:data, "last"}}
  end

  test "an answer is delivered once", %{link: link} do
    pid = request(link, :infinity)
    [{^pid, id}] = :ets.lookup(link.table, pid)
    Delivery.deliver(link, id, "first")
    Delivery.deliver(link, id, "second")
    assert_receive {:done, {:ok, "first"}}
    assert Process.info(pid, :messages) == {:messages, []}
    assert :ets.lookup(link.table, id) == []
  end

  test "a chunk that is on its way when its stream is closed does not arrive", %{link: link} do
    test = self()

    pid =
      spawn_link(fn ->
        {:ok, {id, alias} = stream} = LinkStream.open(link, &Frames.ping/1)
        send(test, {:open, id, alias})
        receive do: (:close -> send(test, {:closed, LinkStream.close(link, stream, self())}))
        receive do: (:end -> :ok)
      end)

    assert_receive {:open, id, alias}
    assert [{{^pid, ^id}}] = :ets.tab2list(link.streams)
    Delivery.pass(link, id, "arrived")
    send(pid, :close)
    assert_receive {:closed, :ok}
    send(alias, {alias, 1, "late"})
    Delivery.pass(link, id, "later")
    assert Process.info(pid, :messages) == {:messages, []}
    assert :ets.tab2list(link.streams) == []
    %{port: port} = link

    for frame <- [Frames.ping(id), Frames.cancel(id)], data = IO.iodata_to_binary(frame) do
      assert_receive {^port, {:data, ^data}}
    end
  end

  test "a process that dies has all its streams cancelled, and its last call", %{link: link} do
    test = self()

    {pid, monitor} =
      spawn_monitor(fn ->
        streams = for _ <- 1..3, do: LinkStream.open(link, &Frames.ping/1)
        send(test, {:open, for({:ok, {id, _}} <- streams, do: id)})
        Link.request(link, &Frames.ping/1, :infinity)
      end)

    assert_receive {:open, ids}

    called = fn -> elem(hd(:ets.lookup(link.table, pid)), 1) not in ids end
    SnakepitPort.Support.await(called)
    [{_, id}] = :ets.lookup(link.table, pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, _, _, :killed}
    Delivery.forget(link, pid)
    %{port: port} = link

    for id <- [id | ids], data = IO.iodata_to_binary(Frames.cancel(id)) do
      assert_receive {^port, {:data, ^data}}
    end

    assert :ets.tab2list(link.streams) == []
    assert Enum.map(:ets.tab2list(link.table), &elem(&1, 0)) == [:link]
  end

  test "frames go through the outbox in order while the pump is at work", %{link: link} do
    # As if the pump were waiting for room.
    :atomics.put(link.busy, 1, 1)
    for _ <- 1..3, do: request(link, :infinity)
    SnakepitPort.Support.await(fn -> :ets.info(link.outbox, :size) == 3 end)
    assert [first, second, third] = Enum.map(:ets.tab2list(link.outbox), &elem(&1, 0))
    assert first < second and second < third
    send(link.pump, :wake)
    %{port: port} = link

    for id <- [first, second, third] do
      frame = IO.iodata_to_binary(Frames.ping(id))
      assert_receive {^port, {:data, data}}
      assert data == frame
    end

    assert :ets.tab2list(link.outbox) == []
  end

  test "past its deadline a stream has no more chunks, but may have ended" do
    for ms <- [1, :infinity],
        answer <- [{:chunk, "term"}, {:result, "term"}, {:result, 1, "term", []}] do
      assert Chunks.in_time(answer, ms) == answer
    end

    assert Chunks.in_time({:chunk, "term"}, 0) == :timeout

    for answer <- [{:result, "term"}, {:result, 1, "term", []}, {:error, %Error{}}],
        do: assert(Chunks.in_time(answer, 0) == answer)
  end

  describe "a heartbeat" do
    test "goes on as long as anything is heard", %{link: %{port: port} = link} do
      heartbeat = Heartbeat.start(1)

      Enum.reduce(1..5, heartbeat, fn _, heartbeat ->
        assert_receive :heartbeat
        assert {:ok, heartbeat} = Heartbeat.beat(heartbeat, link)
        assert_receive {^port, {:data, _ping}}
        heartbeat
      end)

      Port.close(port)
      assert {:ok, _} = Heartbeat.beat(heartbeat, link)
    end

    test "finds silence, but not before it has asked", context do
      # It keeps the pipe open, or its port would end.
      silent = [:binary, packet: 4, args: ["-c", "exec cat 3>&1 >/dev/null"]]
      port = Port.open({:spawn_executable, "/bin/sh"}, silent)
      link = Link.create(:"#{context.test} silent", port, self(), 1000)
      heartbeat = Heartbeat.start(:infinity)
      assert {:ok, heartbeat} = Heartbeat.beat(heartbeat, link)
      assert Heartbeat.beat(heartbeat, link) == :silent
    end
  end
end
