defmodule SnakepitPort.BulkTest do
  @moduledoc "Large bytes, and tensors: how they travel, and that nothing of them stays."
  use ExUnit.Case, async: true
  import ExUnit.CaptureLog
  import SnakepitPort.Support
  alias SnakepitPort.{Delivery, Error, Link, SharedMemory, Tensor, Terms}

  @large 1024 * 1024

  defp start_shm!(context, supervisor \\ []) do
    config = Keyword.put(config([[]]), :supervisor, [{:shm_threshold, 65_536} | supervisor])
    server = start!(context, [[]], config: config)
    :ok = SnakepitPort.await_ready(server)
    {:ok, link} = Link.find(server)
    {server, link}
  end

  defp folder! do
    folder = temporary_path("bulk")
    File.mkdir!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    folder
  end

  defp files(link), do: File.ls!(link.shm.folder)

  defp rows(link) do
    for {{what, _}, names} when what in [:sent, :aside, :received] <- :ets.tab2list(link.table),
        do: names
  end

  # A process of its own removes files.
  defp await_nothing(link), do: await(fn -> files(link) == [] and rows(link) == [] end)

  defp execute(server, command, args, opts \\ []),
    do: SnakepitPort.execute(command, args, [{:server, server} | opts])

  test "large bytes come back, and no frame has them", context do
    {server, link} = start_shm!(context)
    data = :crypto.strong_rand_bytes(@large)
    bytes = SnakepitPort.bytes(data)

    # Sent in frames, this would be refused.
    small = %{link | max_frame_bytes: 1000}
    :ets.insert(server, {:link, small})

    for value <- [bytes, [bytes, %{"a" => {bytes, 1}}], %{bytes => [1]}] do
      assert {:ok, ^value} = execute(server, "echo", [value])
    end

    assert {:ok, ["bytes", _]} =
             with({:ok, t} <- execute(server, "kind", [bytes]), do: {:ok, Tuple.to_list(t)})

    assert {:ok, ^bytes} = execute(server, "echo", %{value: bytes})
    :ets.insert(server, {:link, link})
    # Opaque to Python, so it is not looked into.
    assert {:ok, [[1 | ^bytes]]} = execute(server, "echo", [[[1 | bytes]]])
    await_nothing(link)
  end

  test "what lies in files is as large as shm_threshold says, each for itself", context do
    {_server, link} = start_shm!(context)
    bytes = &SnakepitPort.bytes(:binary.copy("x", &1))
    assert {:ok, _} = Terms.arguments([bytes.(65_535), bytes.(65_535)], link)
    assert {:files, _} = Terms.arguments([bytes.(65_535), bytes.(65_536)], link)
    assert [_] = files(link)
  end

  test "those in the arguments of a stream travel like others, and stay no longer", context do
    {server, link} = start_shm!(context)
    bytes = SnakepitPort.bytes(:crypto.strong_rand_bytes(@large))
    stream = SnakepitPort.stream("give_back", [bytes], server: server)
    :ets.insert(server, {:link, %{link | max_frame_bytes: 1000}})
    assert Enum.to_list(stream) == [bytes]
    await_nothing(link)
    # Asked for nothing, it has not begun.
    suspend = fn chunk, _ -> {:suspend, chunk} end
    {:suspended, nil, continue} = Enumerable.reduce(stream, {:suspend, nil}, suspend)
    assert files(link) == []
    assert {:suspended, ^bytes, continue} = continue.({:cont, nil})
    # The result may be there already; the arguments are not.
    assert :ets.lookup(link.table, {:sent, self()}) == []
    await(fn -> not Enum.any?(files(link), &String.starts_with?(&1, "h-")) end)
    assert {:halted, nil} = continue.({:halt, nil})
    :ok = SnakepitPort.execute_stream("give_back", [bytes], &send(self(), &1), server: server)
    assert_received ^bytes
    text = :binary.copy("x", @large)

    assert {:error, %Error{type: :frame_too_large, message: message}} =
             SnakepitPort.execute_stream("give_back", [bytes, text], & &1, server: server)

    assert message =~ "only where shared memory has no room for them (shm_max_bytes: "
    none = %Tensor{type: {:u, 8}, shape: {2}, data: <<0>>}

    assert {:error, %Error{type: :encode, command: "give_back"}} =
             SnakepitPort.execute_stream("give_back", [bytes, none], & &1, server: server)

    await_nothing(link)
  end

  test "a tensor is a NumPy array, large or small", context do
    {server, link} = start_shm!(context)

    for count <- [3, 100_000] do
      numbers = for n <- 1..(2 * count), do: n * 1.0
      data = for n <- numbers, into: <<>>, do: <<n::float-32-native>>
      twice = for n <- numbers, into: <<>>, do: <<2 * n::float-32-native>>
      tensor = %Tensor{type: {:f, 32}, shape: {2, count}, data: data}
      assert {:ok, {"float32", rows, result}} = execute(server, "array", [tensor])
      assert Enum.concat(rows) == numbers
      assert result == %{tensor | data: twice}
      assert {:ok, %{"deep" => [^tensor]}} = execute(server, "echo", [%{"deep" => [tensor]}])
    end

    await_nothing(link)
  end

  test "a tensor that is none is refused, and leaves nothing", context do
    {server, link} = start_shm!(context)
    large = SnakepitPort.bytes(:binary.copy(<<1>>, @large))

    for {tensor, text} <- [
          {%Tensor{type: {:f, 8}, shape: {1}, data: <<0>>}, "no type {:f, 8}"},
          {%Tensor{type: {:u, 8}, shape: [1], data: <<0>>}, "shape"},
          {%Tensor{type: {:u, 8}, shape: {-1}, data: <<0>>}, "shape"},
          {%Tensor{type: {:u, 8}, shape: {2}, data: [0, 0]}, "binary"},
          {%Tensor{type: {:u, 16}, shape: {2, 3}, data: <<0>>}, "needs 12 bytes, and has 1"},
          {%{__struct__: Tensor, foo: 1}, "a tensor has a type, a shape and data"}
        ],
        args <- [[tensor], [large, tensor]] do
      assert {:error, %Error{type: :encode, message: message}} = execute(server, "echo", args)
      assert message =~ text
    end

    await_nothing(link)
  end

  test "the type of what is asked for its problem has the maps that have one" do
    {:ok, specs} = Code.Typespec.fetch_specs(Tensor)
    {_, [spec]} = List.keyfind(specs, {:problem, 1}, 0)
    assert Macro.to_string(Code.Typespec.spec_to_quoted(:problem, spec)) =~ "optional(any())"
    assert Tensor.problem(%{__struct__: Tensor}) =~ "a type, a shape and data"
  end

  test "calls that cannot be made leave the owner one monitor", context do
    {server, link} = start_shm!(context)
    none = %Tensor{type: {:u, 8}, shape: {2}, data: :binary.copy("x", @large)}
    call = fn -> SnakepitPort.execute("echo", [none], server: server) end
    for _ <- 1..10, do: assert({:error, %Error{type: :encode}} = call.())
    # What it was sent is dealt with.
    :sys.get_state(server)
    {:monitors, monitors} = Process.info(link.owner, :monitors)
    assert Enum.count(monitors, &(&1 == {:process, self()})) == 1
  end

  test "what the supervisor itself is asked with travels in frames", context do
    {server, link} = start_shm!(context)
    large = SnakepitPort.bytes(:binary.copy(<<1>>, @large))
    tensor = %Tensor{type: {:u, 8}, shape: {@large}, data: elem(large, 1)}

    for {value, found} <- [{large, "bytes"}, {tensor, "a tuple"}] do
      config = config([[adapter_args: %{value: value}]])
      assert {:error, %Error{type: :config} = error} = SnakepitPort.reload(server, config: config)
      assert Exception.message(error) =~ "adapter_args.value: expected a string"
      assert Exception.message(error) =~ "found #{found}"
    end

    await_nothing(link)
  end

  test "what has no room travels in frames", context do
    for limit <- [0, 1000, @large + 1000] do
      {server, _} = start_shm!(%{context | test: :"limit #{limit}"}, shm_max_bytes: limit)
      value = for byte <- [1, 2], do: SnakepitPort.bytes(:binary.copy(<<byte>>, @large))
      assert {:ok, ^value} = execute(server, "echo", [value])
      stop_supervised!(server)
    end
  end

  test "a caller that gives up, and one that dies, leave nothing", context do
    {server, link} = start_shm!(context)
    fifo = fifo!()
    bytes = SnakepitPort.bytes(:binary.copy(<<1>>, @large))
    test = self()
    running = Task.async(fn -> execute(server, "finish_with", [fifo]) end)
    await(fn -> SnakepitPort.get_stats(server).busy == 1 end)

    assert {:error, %Error{type: :timeout}} = execute(server, "echo", [bytes], timeout: 0)
    assert {:error, %Error{type: :timeout}} = execute(server, "echo", [bytes], timeout: 20)
    stream = &SnakepitPort.execute_stream("give_back", [bytes], fn _ -> :ok end, &1)
    assert {:error, %Error{type: :timeout}} = stream.(server: server, timeout: 20)
    await_nothing(link)

    for call <- [fn -> execute(server, "echo", [bytes]) end, fn -> stream.(server: server) end] do
      caller =
        spawn(fn ->
          send(test, :calling)
          call.()
        end)

      assert_receive :calling
      await(fn -> SnakepitPort.get_stats(server).queued == 1 end)
      assert [_] = files(link)
      Process.exit(caller, :kill)
      await_nothing(link)
    end

    File.write!(fifo, "go\n")
    assert {:ok, _} = Task.await(running)
  end

  test "what a caller that dies has set aside is removed, however often it has", context do
    {_server, link} = start_shm!(context)
    test = self()
    aside = &SharedMemory.set_aside(link.shm, link.table, &1)
    write = fn -> "h-" <> _ = SharedMemory.write(link.shm, link.table, "12345") end

    caller =
      spawn(fn ->
        Link.watch(link)
        write.()

        aside.(fn ->
          write.()
          aside.(fn -> say_and_wait(test, :aside) end)
        end)
      end)

    assert_receive :aside
    assert [[_, _]] = rows(link)
    Process.exit(caller, :kill)
    await_nothing(link)
  end

  test "an answer that nobody waits for leaves nothing", context do
    {_server, link} = start_shm!(context)
    frame = IO.iodata_to_binary([<<131, 104, 4, 119, 6, "result", 98, 0, 0, 1, 0, 109, 0::32>>])
    File.write!(Path.join(link.shm.folder, "w9-1-0-5"), "12345")
    Delivery.deliver(link, 256, frame, ["w9-1-0-5"])
    await_nothing(link)
  end

  test "an answer that is read while the server stops can be read", context do
    {server, link} = start_shm!(context)
    path = Path.join(link.shm.folder, "w9-1-0-5")
    File.write!(path, "12345")
    :ets.insert(link.table, {{:received, 256}, ["w9-1-0-5"]})
    stop_supervised!(server)
    assert SharedMemory.read(link.shm, "w9-1-0-5") == "12345"
    Link.have_read(link, 256, ["w9-1-0-5"])
    refute File.exists?(link.shm.folder)
  end

  test "an answer that is not read after that is removed in the end" do
    folder = folder!()
    shm = %SharedMemory{folder: folder, threshold: 1, max_bytes: 1000}
    table = :ets.new(:table, [:public])
    File.write!(Path.join(folder, "w9-1-0-5"), "12345")
    :ets.insert(table, {{:received, 256}, ["w9-1-0-5"]})
    SharedMemory.leave(shm, table, 0)
    await(fn -> not File.exists?(folder) end)
  end

  test "what dies while it reads an answer is found, whatever it has called meanwhile", context do
    {server, link} = start_shm!(context)
    before = Link.next_id(link)
    progress = fn _, _ -> assert execute(server, "add", [1, 2]) == {:ok, 3} end
    assert {:ok, _} = SnakepitPort.execute("work", [1], server: server, progress: progress)
    assert [{_, last}] = :ets.lookup(link.table, self())
    assert last == before + 1
  end

  test "who reads, or writes, while the server stops leaves nothing", context do
    {server, link} = start_shm!(context)
    left = Path.join(link.shm.folder, "h-1-0-5")
    File.write!(left, "12345")
    File.write!(Path.join(link.shm.folder, "w9-1-0-5"), "12345")
    :ets.insert(link.table, {{:received, 256}, ["w9-1-0-5"]})

    caller =
      Task.async(fn ->
        assert_receive {:held, reporter}
        await(fn -> not File.exists?(left) end)
        SharedMemory.write(link.shm, link.table, "12345")
        assert SharedMemory.read(link.shm, "w9-1-0-5") == "12345"
        Link.have_read(link, 256, ["w9-1-0-5"])
        :telemetry.attach(server, self())
        send(reporter, :go_on)
      end)

    # The server waits for its reporter when it has left the folder.
    :telemetry.attach(server, fn -> say_and_wait(caller.pid, {:held, self()}) end)

    stop_supervised!(server)
    Task.await(caller)
    await(fn -> not File.exists?(link.shm.folder) end)
  end

  test "nothing stays when the server stops, or its supervisor is killed", context do
    {server, link} = start_shm!(context)
    assert {:ok, _} = execute(server, "make_bytes", [@large])
    stop_supervised!(server)
    refute File.exists?(link.shm.folder)

    {server, link} = start_shm!(%{context | test: :killed})
    log = capture_log(fn -> kill_supervisor(server, link) end)
    assert log =~ "killed by SIGKILL"
  end

  defp kill_supervisor(server, link) do
    File.write!(Path.join(link.shm.folder, "h-1-0-5"), "12345")
    ref = Process.monitor(server)
    kill(os_pid(server), "KILL")
    assert_receive {:DOWN, ^ref, _, _, _}, 10_000
    await(fn -> not File.exists?(link.shm.folder) end)
  end

  test "files may take as much as all may, and of one that has no room nothing stays" do
    folder = folder!()
    shm = %SharedMemory{folder: folder, threshold: 1, max_bytes: 5}
    table = :ets.new(:table, [:public])
    name = SharedMemory.write(shm, table, "12345")
    assert SharedMemory.write(shm, table, "1") == nil
    assert File.ls!(folder) == [name]
  end

  test "a file that is not what its name says is refused" do
    folder = folder!()
    shm = %SharedMemory{folder: folder, threshold: 1, max_bytes: 1000}
    File.write!(Path.join(folder, "w1-1-0-5"), "1234")
    File.write!(Path.join(folder, "w1-1-1-5"), "123456")
    File.write!(Path.join(folder, "h-1-0-5"), "12345")

    for name <- ["w1-1-0-5", "w1-1-1-5", "h-1-0-5", "w1-1-2-5", "../w1-1-0-5", "w1-1-0-5\n", ""] do
      assert {:decode, "a file, " <> _} = catch_throw(SharedMemory.read(shm, name))
      result = SnakepitPort.Terms.decode(:erlang.term_to_binary([{:"$shm", name}]), shm)
      assert {:error, %Error{type: :decode, message: "the result holds a file" <> _}} = result

      assert {:error, %Error{type: :decode}} =
               SnakepitPort.Terms.decode(:erlang.term_to_binary({:"$shm", name}))
    end
  end

  test "a pipe is not waited for, a link not followed, and none is larger than all may be" do
    folder = folder!()
    shm = %SharedMemory{folder: folder, threshold: 1, max_bytes: 5}
    File.write!(Path.join(folder, "h-1-0-5"), "12345")
    File.ln_s!("h-1-0-5", Path.join(folder, "w1-1-0-5"))
    {_, 0} = System.cmd("mkfifo", [Path.join(folder, "w1-1-1-5")])
    File.write!(Path.join(folder, "w1-1-2-6"), "123456")
    File.write!(Path.join(folder, "w1-1-3-5"), "12345")
    assert SharedMemory.read(shm, "w1-1-3-5") == "12345"
    read = fn name -> catch_throw(SharedMemory.read(shm, name)) |> elem(1) end
    assert read.("w1-1-0-5") =~ "which is no file"
    assert read.("w1-1-1-5") =~ "which is no file"
    assert read.("w1-1-2-6") =~ "larger than all of them may be (shm_max_bytes: 5)"
  end

  test "no file outside of the folder is removed, whatever it is called by whom" do
    folder = temporary_path("bulk")
    other = folder <> "_other"
    Enum.each([folder, other], &File.mkdir!/1)
    on_exit(fn -> Enum.each([folder, other], &File.rm_rf!/1) end)
    shm = %SharedMemory{folder: folder, threshold: 1, max_bytes: 1000}
    kept = Path.join(other, "h-1-0-5")
    Enum.each([kept, Path.join(folder, "h-1-0-5")], &File.write!(&1, "12345"))
    SharedMemory.remove(shm, ["../#{Path.basename(other)}/h-1-0-5", "h-1-0-5"])
    assert File.exists?(kept)
    assert File.ls!(folder) == []
  end
end
