defmodule SnakepitPort.LinkTest do
  use ExUnit.Case, async: true
  alias SnakepitPort.{Call, Chunks, Delivery, Error, Frames, Heartbeat, Link, LinkStream, Pump}
  alias SnakepitPort.{Terms, Tools}

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
    await_id(link, pid)
    pid
  end

  # The id of what a process has asked.
  defp await_id(link, pid) do
    # Its first row has the id 0, of no call.
    SnakepitPort.Support.await(fn ->
      match?([{_, id}] when id > 0, :ets.lookup(link.table, pid))
    end)

    [{^pid, id}] = :ets.lookup(link.table, pid)
    id
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
    # Nobody has asked for this.
    Delivery.progress(link, id, 1, 2)
    send(pid, :close)
    assert_receive {:closed, true}
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

  test "a call that was not written is taken back, and its owner told", %{link: link} do
    :atomics.put(link.busy, 1, 1)
    assert Link.request(link, &Frames.ping/1, 0) == :timeout
    assert :ets.tab2list(link.outbox) == []
    assert_received {:not_asked, _}
  end

  test "a frame may be as large as is accepted, and no larger", %{link: link} do
    assert Link.check_size(link, :binary.copy("x", 1000)) == :ok
    assert {:error, %Error{}} = Link.check_size(link, :binary.copy("x", 1001))
  end

  test "a call that names no pool may take what the default one, or the only one, says", context do
    timeout = fn timeouts ->
      Link.note_call_timeouts(context.link, timeouts)
      Call.timeout(%Call{}, context.link)
    end

    assert timeout.(%{"a" => 1, "default" => 2}) == 2
    assert timeout.(%{"a" => 1}) == 1
    assert timeout.(%{"a" => 1, "b" => 2}) == 60_000
    # Longer than a process can wait.
    assert timeout.(%{"a" => 0x100000000}) == :infinity
  end

  test "a caller waits a little longer than the supervisor takes" do
    assert Call.wait(1_000) in 1_001..1_100
    assert Call.wait(:infinity) == :infinity
  end

  # A process that follows a call, and waits to be told when it is told of progress; and the call's id.
  defp follow(link, told) do
    test = self()

    progress = fn done, _ ->
      send(test, {:told, done})
      receive do: (:go -> told.())
    end

    pid =
      spawn_link(fn ->
        before = Process.info(self(), :monitors)

        outcome =
          try do
            Link.follow(link, &Frames.ping/1, :infinity, progress)
          catch
            thrown -> thrown
          end

        left = {Process.info(self(), :messages), Process.info(self(), :monitors) == before}
        send(test, {outcome, left})
        receive do: (:end -> :ok)
      end)

    SnakepitPort.Support.await(fn -> :ets.info(link.streams, :size) == 1 end)
    [{{^pid, id}}] = :ets.tab2list(link.streams)
    {pid, id}
  end

  test "nothing is left of a call whose function for progress has thrown", %{link: link} do
    {pid, id} = follow(link, fn -> throw(:up) end)
    Delivery.progress(link, id, 1, 2)
    assert_receive {:told, 1}
    Delivery.progress(link, id, 2, 2)
    send(pid, :go)
    assert_receive {:up, {{:messages, []}, true}}
    assert :ets.tab2list(link.streams) == []
  end

  test "past its deadline a call ends, and is told of no more progress", %{link: link} do
    test = self()

    progress = fn done, _ ->
      send(test, {:told, done})
      receive do: (:go -> :ok)
    end

    pid =
      spawn_link(fn ->
        outcome = Link.follow(link, &Frames.ping/1, 300, progress)
        send(test, {outcome, Process.info(self(), :messages)})
      end)

    id = await_id(link, pid)
    Delivery.progress(link, id, 1, 2)

    receive do
      {:told, 1} ->
        Delivery.progress(link, id, 2, 2)
        Process.send_after(pid, :go, 301)
        assert_receive {:timeout, {:messages, []}}

      # On a busy machine its time was over before.
      {:timeout, {:messages, []}} ->
        :ok
    end

    refute_received {:told, 2}
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

  test "a frame that comes while the pump ends its work is written", %{link: link} do
    %{port: port, outbox: outbox, busy: busy} = link
    :atomics.put(busy, 1, 1)
    # The pump is not woken for it, and has looked before that.
    Link.tell(link, "late")
    Pump.rest({port, outbox, busy})
    assert_receive {^port, {:data, "late"}}
    assert :ets.tab2list(outbox) == []
    assert :atomics.get(busy, 1) == 0
  end

  test "a tool is answered once, and not at all when nobody waits for it", %{link: link} do
    %{port: port} = link
    test = self()
    tools = Tools.start_link(link)
    Tools.put(link, "one", fn -> 1 end)
    Tools.put(link, "hangs", fn -> SnakepitPort.Support.say_and_wait(test, {:hangs, self()}) end)
    ask = &Tools.run(tools, :erlang.term_to_binary({:tool, 300, &1, &2, Terms.encode([])}))
    over = fn -> SnakepitPort.Support.await(fn -> :sys.get_state(tools).running == %{} end) end
    ask.(1, "one")
    over.()
    ask.(2, "hangs")
    assert_receive {:hangs, pid}
    monitor = Process.monitor(pid)
    Tools.close(tools, 300)
    assert_receive {:DOWN, ^monitor, _, _, :shutdown}
    over.()
    send(port, {self(), {:command, "last"}})
    assert_receive {^port, {:data, answer}}
    assert {:tool_result, 300, 1, _} = Frames.read(answer)
    assert_receive {^port, {:data, "last"}}
    refute_received {^port, {:data, _}}
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
