defmodule SnakepitPort.StreamTest do
  @moduledoc "Streams through a real supervisor and real workers."
  use ExUnit.Case, async: true
  import SnakepitPort.Support
  alias SnakepitPort.{Error, Link, LinkStream}

  setup context do
    server = start!(context, [[pool_size: context[:workers] || 1]])
    :ok = SnakepitPort.await_ready(server)
    :ok = SnakepitPort.subscribe(server)
    {:ok, link} = Link.find(server)
    {:ok, server: server, link: link, opts: [server: server]}
  end

  # Nothing of a stream is left here or in the owner's tables.
  defp nothing_left(link) do
    assert :ets.tab2list(link.streams) == []
    assert in_progress(link) == 0
    nothing_in_the_mailbox()
  end

  defp nothing_in_the_mailbox do
    {:messages, messages} = Process.info(self(), :messages)
    assert for(late <- messages, is_tuple(late), is_reference(elem(late, 0)), do: late) == []
  end

  # How far an endless generator had got when it was closed.
  defp closed_at do
    assert_receive {:snakepit_port, :log, %{line: "closed at " <> n}}
    String.to_integer(n)
  end

  test "chunks come in order, lazily, as often as it is enumerated", %{opts: opts, link: link} do
    stream = SnakepitPort.stream("count", [2000], opts)
    assert :ets.tab2list(link.streams) == []
    assert Enum.to_list(stream) == Enum.to_list(0..1999)
    assert stream |> Stream.map(&(&1 * 2)) |> Stream.filter(&(&1 < 5)) |> Enum.sum() == 6
    assert Enum.to_list(SnakepitPort.stream(:count, %{n: 0}, opts)) == []
    error = assert_raise Error, fn -> Enum.to_list(SnakepitPort.stream("add", [1, 2], opts)) end
    assert error.type == :not_a_stream
    nothing_left(link)
  end

  test "large bytes travel, and leave no file", %{opts: opts, link: link} do
    large = SnakepitPort.bytes(:binary.copy(<<0, 255>>, 500_000))
    stream = SnakepitPort.stream("give_back", [large], opts)
    assert Enum.to_list(stream) == [large]
    assert Enum.take(stream, 1) == [large]
    assert SnakepitPort.execute("add", [1, 2], opts) == {:ok, 3}
    # A process that nobody waits for removes them.
    await(fn -> File.ls!(link.shm.folder) == [] end)
    nothing_left(link)
  end

  test "one that stops early closes the generator", %{opts: opts, link: link} do
    for window <- [1, 2, 7] do
      opts = [{:window, window} | opts]
      assert Enum.take(SnakepitPort.stream("endless", [], opts), 5) == [0, 1, 2, 3, 4]
      nothing_left(link)
      assert closed_at() in 4..(5 + window)
    end

    assert Enum.take(SnakepitPort.stream("endless", [], opts), 5000) == Enum.to_list(0..4999)
    assert closed_at() < 5000 + 512
    assert SnakepitPort.get_stats(opts[:server]).cancelled == 4
  end

  @tag workers: 2
  test "two can be enumerated in turns, and calls made between", %{opts: opts, link: link} do
    numbers = SnakepitPort.stream("count", [300], opts)
    pairs = Stream.zip(numbers, SnakepitPort.stream("endless", [], opts))
    assert Enum.to_list(pairs) == for(n <- 0..299, do: {n, n})
    closed_at()

    sums =
      for n <- numbers do
        {:ok, sum} = SnakepitPort.execute("add", [n, n], opts)
        sum
      end

    assert sums == for(n <- 0..299, do: 2 * n)
    nothing_left(link)
  end

  defp suspend(stream) do
    {:suspended, first, continue} =
      Enumerable.reduce(stream, {:cont, nil}, fn chunk, _ -> {:suspend, chunk} end)

    {first, continue}
  end

  @tag workers: 2
  test "whatever fails in the first round of a zip, none is left open", context do
    %{opts: opts, link: link} = context
    endless = SnakepitPort.stream("endless", [], [{:timeout, :infinity} | opts])
    wrong = SnakepitPort.stream("count", ["x"], opts)
    raising = Stream.map([1], fn _ -> raise "no" end)

    for {streams, opened} <- [
          {[endless, wrong], 1},
          {[endless, raising], 1},
          {[endless, endless, raising], 2}
        ] do
      assert_raise RuntimeError, fn ->
        try do
          Enum.zip(streams)
        rescue
          error in Error -> raise RuntimeError, Exception.message(error)
        end
      end

      for _ <- 1..opened, do: closed_at()
      nothing_left(link)
      assert for({{SnakepitPort.Chunks, _}, _} <- Process.get(), do: true) == []
    end
  end

  test "one that is halted before it begins makes no call", %{opts: opts, link: link} do
    assert Enum.zip([], SnakepitPort.stream("endless", [], opts)) == []
    assert Enum.zip([], SnakepitPort.stream("endless", [], server: :no_such_server)) == []
    assert SnakepitPort.get_stats(opts[:server]).requests == 0
    nothing_left(link)
  end

  @tag workers: 2
  test "one that was gone on with is not closed by another of the same", context do
    %{opts: opts, link: link} = context
    stream = SnakepitPort.stream("count", [5], opts)
    {0, continue} = suspend(stream)
    {:suspended, 1, continue} = continue.({:cont, nil})
    assert Enum.zip([], stream) == []
    assert Enum.to_list(stream) == [0, 1, 2, 3, 4]
    assert {:suspended, 2, continue} = continue.({:cont, nil})
    assert continue.({:halt, :enough}) == {:halted, :enough}
    assert Process.get_keys() |> Enum.filter(&match?({SnakepitPort.Chunks, _}, &1)) == []
    nothing_left(link)
  end

  test "chunks that another receive has taken are missed", %{opts: opts, link: link} do
    for {command, args} <- [{"endless", []}, {"count", [1]}] do
      {0, continue} = suspend(SnakepitPort.stream(command, args, opts))
      assert_receive {alias, 1, _} when is_reference(alias)
      error = assert_raise ArgumentError, fn -> continue.({:cont, nil}) end
      assert error.message =~ "enumerate it in a process of its own"
      nothing_left(link)
    end

    take_next = fn _ -> assert_receive {alias, 1, _} when is_reference(alias) end

    # Without it there is another chunk, or nothing more.
    for {command, args} <- [{"endless", []}, {"count", [1]}] do
      assert_raise ArgumentError, fn ->
        SnakepitPort.execute_stream(command, args, take_next, [{:timeout, :infinity} | opts])
      end

      nothing_left(link)
    end
  end

  test "that the server went is missed, too", %{opts: opts, link: link} do
    {0, continue} = suspend(SnakepitPort.stream("endless", [], [{:timeout, :infinity} | opts]))
    stop_supervised!(opts[:server])
    refute Process.alive?(link.owner)
    assert_receive {:DOWN, _, _, owner, _} when owner == link.owner
    {:messages, messages} = Process.info(self(), :messages)
    for late when elem(late, 0) != :snakepit_port <- messages, do: receive(do: (^late -> :ok))
    assert_raise ArgumentError, fn -> continue.({:cont, nil}) end
  end

  @tag workers: 2
  test "one that was closed while it was suspended is told so", %{opts: opts} do
    stream = SnakepitPort.stream("count", [5], [{:timeout, :infinity} | opts])
    {0, continue} = suspend(stream)
    assert Enum.zip([], stream) == []
    error = assert_raise Error, fn -> continue.({:cont, nil}) end
    assert error.type == :cancelled
    assert continue.({:halt, :enough}) == {:halted, :enough}
  end

  test "another process can halt it, and nothing else", %{opts: opts, link: link} do
    stream = SnakepitPort.stream("endless", [], [{:timeout, :infinity} | opts])

    for command <- [{:halt, :enough}, {:cont, nil}] do
      {0, continue} = suspend(stream)
      me = self()

      other = fn ->
        assert_raise ArgumentError, ~r/by the process that began it, #{inspect(me)}/, fn ->
          continue.(command)
        end
      end

      case command do
        {:halt, acc} ->
          assert Task.await(Task.async(fn -> continue.(command) end)) == {:halted, acc}

        {:cont, _} ->
          assert %ArgumentError{} = Task.await(Task.async(other))
          # It goes on here.
          assert {:suspended, 1, continue} = continue.(command)
          assert {:halted, nil} = continue.({:halt, nil})
      end

      closed_at()
      assert :ets.tab2list(link.streams) == []
    end
  end

  defp stream_keys, do: for({SnakepitPort.Chunks, _} = key <- Process.get_keys(), do: key)

  test "another process can halt it while the first waits for a chunk", context do
    %{opts: opts, link: link} = context
    fifo = fifo!()
    test = self()

    consumer =
      Task.async(fn ->
        opts = [{:timeout, :infinity} | opts]
        {"line", continue} = suspend(SnakepitPort.stream("wait_between", [fifo], opts))
        send(test, {:suspended, continue})
        error = catch_error(continue.({:cont, nil}))
        {error, stream_keys(), Process.info(self(), [:messages, :monitors])}
      end)

    writer = File.open!(fifo, [:write])
    IO.puts(writer, "line")
    assert_receive {:suspended, continue}
    waits = [current_function: {LinkStream, :take, 3}, status: :waiting]
    await(fn -> Process.info(consumer.pid, [:current_function, :status]) == waits end)
    assert continue.({:halt, :enough}) == {:halted, :enough}
    assert {:ok, {error, [], left}} = Task.yield(consumer, 20_000) || Task.shutdown(consumer)
    assert %Error{type: :cancelled, command: "wait_between"} = error
    assert error.message =~ "by another process"
    assert left == [messages: [], monitors: []]
    nothing_left(link)
    File.close(writer)
  end

  test "one that another process has halted leaves nothing when it is gone on with", context do
    %{opts: opts, link: link} = context
    stream = SnakepitPort.stream("endless", [], [{:timeout, :infinity} | opts])
    monitors = Process.info(self(), :monitors)

    for last <- [
          fn continue -> assert catch_error(continue.({:cont, nil})).type == :cancelled end,
          fn continue -> assert continue.({:halt, nil}) == {:halted, nil} end,
          # It is begun again.
          fn _ -> assert {:halted, nil} = elem(suspend(stream), 1).({:halt, nil}) end
        ] do
      {0, continue} = suspend(stream)
      await(fn -> waiting() > 0 end)
      assert Task.await(Task.async(fn -> continue.({:halt, :enough}) end)) == {:halted, :enough}
      closed_at()
      last.(continue)
      assert stream_keys() == []
      assert Process.info(self(), :monitors) == monitors
      nothing_left(link)
    end
  end

  test "an error is raised after the chunks before it", %{opts: opts, link: link} do
    me = self()
    stream = SnakepitPort.stream("fail_after", [100], opts)

    error = assert_raise Error, fn -> Enum.each(stream, &send(me, {:seen, &1})) end

    assert %Error{type: :exception, exception: "ValueError", command: "fail_after"} = error
    for n <- 0..99, do: assert_received({:seen, ^n})
    nothing_left(link)

    for {command, args, type} <- [
          {"nope", [], :unknown_command},
          {"count", [], :bad_arguments},
          {"strange_after", [1], :decode}
        ] do
      stream = SnakepitPort.stream(command, args, opts)
      assert %Error{type: ^type, command: ^command} = catch_error(Enum.to_list(stream))
      assert {:error, %Error{type: ^type}} = SnakepitPort.execute_stream(command, args, & &1, opts)
    end

    nothing_left(link)
    assert {:error, %Error{type: :not_a_stream_call}} = SnakepitPort.execute("count", [1], opts)
  end

  test "execute_stream calls back in this process", %{opts: opts, link: link} do
    me = self()
    tell = &send(me, {:seen, self(), &1})
    assert SnakepitPort.execute_stream("count", [50], tell, opts) == :ok
    for n <- 0..49, do: assert_received({:seen, ^me, ^n})

    assert {:error, %Error{type: :exception, pool: "default"}} =
             SnakepitPort.execute_stream("fail_after", [2], tell, opts)

    assert_received {:seen, _, 0}
    assert_received {:seen, _, 1}

    stop = fn n -> if n == 3, do: throw({:enough, n}) end
    assert catch_throw(SnakepitPort.execute_stream("endless", [], stop, opts)) == {:enough, 3}
    closed_at()
    nothing_left(link)
  end

  defp waiting(consumer), do: elem(Process.info(consumer.pid, :message_queue_len), 1)

  # A consumer that waits at its 20th chunk, with what was granted before.
  defp waiting_consumer(stream, granted) do
    me = self()

    consumer =
      Task.async(fn ->
        wait = fn n -> if n == 20, do: say_and_wait(me, :waiting) end
        stream |> Stream.with_index(1) |> Stream.each(&wait.(elem(&1, 1))) |> Enum.take(50)
      end)

    assert_receive :waiting

    await(fn -> waiting(consumer) in granted end)

    consumer
  end

  test "a slow consumer holds the generator back", %{opts: opts} do
    stream = SnakepitPort.stream("endless", [], [{:window, 8} | opts])
    consumer = waiting_consumer(stream, 4..8)
    # All that it was granted has come; more does not.
    SnakepitPort.get_stats(opts[:server])
    assert waiting(consumer) in 4..8
    send(consumer.pid, :go_on)
    assert Task.await(consumer) == for(n <- 0..49, do: {n, n + 1})
    assert closed_at() in 49..58
  end

  test "what waits is bounded by its size, too", %{opts: opts} do
    stream = SnakepitPort.stream("blobs", [50, 100_000], opts)
    consumer = waiting_consumer(stream, 4..10)
    SnakepitPort.get_stats(opts[:server])
    assert waiting(consumer) in 4..10
    send(consumer.pid, :go_on)
    assert length(Task.await(consumer)) == 50
  end

  test "a consumer that is killed closes the generator", %{opts: opts, link: link} do
    me = self()

    {pid, monitor} =
      spawn_monitor(fn ->
        SnakepitPort.stream("endless", [], opts)
        |> Enum.each(fn n ->
          # The last thing that it asks for is not the stream.
          if n == 3, do: SnakepitPort.get_stats(opts[:server])
          if n == 5, do: say_and_wait(me, :begun)
        end)
      end)

    assert_receive :begun
    assert [{{^pid, _}}] = :ets.tab2list(link.streams)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, _, _, :killed}
    closed_at()
    :sys.get_state(opts[:server])
    nothing_left(link)
    assert SnakepitPort.execute("add", [1, 2], opts) == {:ok, 3}
  end

  test "the timeout is the whole stream's", %{opts: opts, link: link} do
    opts = [{:timeout, 1_000} | opts]
    stream = SnakepitPort.stream("endless", [], opts)
    assert %Error{type: :timeout, command: "endless"} = catch_error(Enum.each(stream, & &1))
    closed_at()

    # And of one whose consumer does not look at it.
    assert {:error,
            %Error{
              type: :timeout,
              message: "no answer within 1" <> told
            }} =
             SnakepitPort.execute_stream(
               "endless",
               [],
               fn n -> if n == 0, do: closed_at() end,
               opts
             )

    assert told =~
             "(for the whole stream, what its consumer takes included; timeout: gives it more)"

    nothing_left(link)
  end

  test "of chunks that are there when its time is over none is handed out", context do
    %{opts: opts, link: link} = context
    me = self()

    # The deadline of this process is 100 ms later.
    late = fn n ->
      send(me, {:seen, n})
      Process.send_after(me, :late, 301)
      assert_receive :late
    end

    assert {:error, %Error{type: :timeout}} =
             SnakepitPort.execute_stream("endless", [], late, [{:timeout, 200} | opts])

    refute_received {:seen, 1}
    nothing_left(link)
  end

  defp waiting do
    {:message_queue_len, length} = Process.info(self(), :message_queue_len)
    length
  end

  test "a worker that is killed fails its stream", %{opts: opts, link: link} do
    assert {:error, %Error{type: :worker_crashed, signal: "SIGKILL"}} =
             SnakepitPort.execute_stream("die_after", [1000], &send(self(), {:seen, &1}), opts)

    assert_received {:seen, 0}
    assert SnakepitPort.execute("add", [1, 2], opts) == {:ok, 3}
    nothing_left(link)
  end

  @tag :capture_log
  test "a supervisor that is killed fails its streams", %{opts: opts} do
    %{os_pid: os_pid, link: %{owner: owner}} = :sys.get_state(opts[:server])

    # A write to one that is dead would be told of before its exit status is.
    kill = fn n ->
      if n == 3 do
        kill(os_pid, "KILL")
        await(fn -> not Process.alive?(owner) end)
      end
    end

    assert {:error, error} = SnakepitPort.execute_stream("endless", [], kill, opts)
    assert %Error{type: :supervisor_down, signal: "SIGKILL", command: "endless"} = error
    nothing_in_the_mailbox()
  end

  test "chunks of a generator that pauses are not held back", %{opts: opts} do
    fifo = fifo!()
    me = self()

    task =
      Task.async(fn ->
        SnakepitPort.execute_stream("wait_between", [fifo], &send(me, {:seen, &1}), opts)
      end)

    writer = File.open!(fifo, [:write])

    for n <- 1..20 do
      IO.puts(writer, "line #{n}")
      line = "line #{n}"
      assert_receive {:seen, ^line}
    end

    File.close(writer)
    assert Task.await(task) == :ok
  end

  test "many at once", %{opts: opts, link: link} do
    # They wait for one worker, however slow that is.
    opts = [{:queue_timeout, 30_000} | opts]

    1..30
    |> Enum.map(fn n ->
      Task.async(fn ->
        assert Enum.to_list(SnakepitPort.stream("count", [n * 10], opts)) ==
                 Enum.to_list(0..(n * 10 - 1))
      end)
    end)
    |> Task.await_many(30_000)

    nothing_left(link)
  end

  test "mistakes are raised where they are made", %{opts: opts} do
    for wrong <- [[window: 0], [window: 1.5], [widow: 1], [timeout: -1]] do
      assert_raise ArgumentError, fn -> SnakepitPort.stream("count", [1], wrong ++ opts) end
      assert_raise ArgumentError, fn -> SnakepitPort.execute_stream("c", [1], & &1, wrong) end
    end

    assert_raise ArgumentError, ~r/window: .*at least 1, not 0/, fn ->
      SnakepitPort.stream("count", [1], [{:window, 0} | opts])
    end

    assert_raise ArgumentError, fn -> SnakepitPort.execute("add", [1, 2], [{:window, 1} | opts]) end
  end
end
