defmodule SnakepitPort.ToolsTest do
  @moduledoc "What commands ask of this host and tell it, through a real supervisor and real workers."
  use ExUnit.Case, async: true
  import ExUnit.CaptureLog
  import SnakepitPort.Support
  alias SnakepitPort.{Error, Link, Tools}

  setup context do
    server = start!(context, [[pool_size: context[:workers] || 1]])
    :ok = SnakepitPort.await_ready(server)
    {:ok, link} = Link.find(server)
    {:ok, server: server, link: link}
  end

  defp run(server, command, args, opts \\ []),
    do: SnakepitPort.execute(command, args, [{:server, server} | opts])

  defp register(server, name, tool), do: :ok = SnakepitPort.register_tool(server, name, tool)

  # A tool that says that it runs, and waits to be told what to return.
  defp desk(server) do
    test = self()

    register(server, "desk", fn ->
      send(test, {:asked, self()})
      receive do: ({:answer, answer} -> answer)
    end)
  end

  defp asked do
    assert_receive {:asked, tool}, 10_000
    tool
  end

  describe "tools" do
    test "are run for commands", %{server: server} do
      register(server, "double", &(2 * &1))
      register(server, :none, fn -> nil end)
      register(server, "pair", fn a, b -> {a, b} end)
      assert run(server, "ask", ["double", 21]) == {:ok, 42}
      assert run(server, "ask", ["none"]) == {:ok, nil}

      assert run(server, "ask", ["pair", %{"k" => [1, 2.5]}, "žluť"]) ==
               {:ok, {%{"k" => [1, 2.5]}, "žluť"}}

      register(server, "double", &(20 * &1))
      assert run(server, "ask", ["double", 21]) == {:ok, 420}
      assert {:ok, {"unknown_tool", message}} = run(server, "why_not", ["dubble", 21])
      assert message =~ ~s|no such tool; did you mean "double"? (tools: double, none, pair)|
      assert SnakepitPort.unregister_tool(server, "double") == {:ok, true}
      assert SnakepitPort.unregister_tool(server, "double") == {:ok, false}
      assert {:ok, {"unknown_tool", message}} = run(server, "why_not", ["dubble", 21])
      assert message == "the host has no such tool (tools: none, pair)"
    end

    test "travel as arguments do", %{server: server} do
      register(server, "give_back", & &1)
      bytes = SnakepitPort.bytes(<<0, 255>>)
      assert run(server, "ask", ["give_back", bytes]) == {:ok, bytes}
      large = SnakepitPort.bytes(:binary.copy("x", 1_000_000))
      register(server, "large", fn -> large end)
      assert run(server, "ask", ["large"]) == {:ok, large}
      # Pids and the like are Python's to carry, and come back.
      register(server, "me?", &(&1 == self()))
      assert run(server, "ask", ["me?", self()]) == {:ok, false}
    end

    @tag workers: 3
    test "of many commands at once are not mixed up", %{server: server} do
      register(server, "double", &(2 * &1))

      answers =
        1..200
        |> Task.async_stream(&run(server, "ask", ["double", &1]), max_concurrency: 50)
        |> Enum.map(fn {:ok, {:ok, answer}} -> answer end)

      assert answers == Enum.map(1..200, &(2 * &1))
    end

    @tag workers: 2
    test "may make calls", %{server: server} do
      register(server, "add", fn a, b -> SnakepitPort.execute!("add", [a, b], server: server) end)
      assert run(server, "ask", ["add", 1, 2]) == {:ok, 3}
    end

    test "know who called their command, and for whom", %{server: server} do
      test = self()

      register(server, "callers", fn ->
        send(test, {:callers, Process.get(:"$callers")})
        1
      end)

      for call <- [
            fn -> run(server, "ask", ["callers"]) end,
            fn -> run(server, "ask", ["callers"], progress: fn _, _ -> :ok end) end,
            fn -> Enum.to_list(SnakepitPort.stream("ask_each", ["callers"], server: server)) end
          ] do
        call.()
        assert_receive {:callers, [^test]}
        %Task{pid: pid} = task = Task.async(call)
        Task.await(task, 10_000)
        assert_receive {:callers, [^pid, ^test]}
      end
    end

    test "that fail raise in the command, with the reason", %{server: server} do
      register(server, "raises", fn -> raise ArgumentError, "no such luck" end)
      register(server, "throws", fn -> throw(:ball) end)
      register(server, "exits", fn -> exit(:tired) end)
      register(server, "dies", fn -> Process.exit(self(), :kill) end)
      register(server, "leaves", fn -> Process.exit(self(), :normal) end)
      register(server, "long", fn -> raise String.duplicate("x", 3_000_000) end)
      marked = "e" <> String.duplicate("\u0301", 30)
      # It would be cut in the middle of a character.
      register(server, "marked", fn -> raise "x" <> String.duplicate(marked, 1_000) end)
      register(server, "bytes", fn -> raise <<255, 254>> end)
      register(server, "tensor", fn -> %SnakepitPort.Tensor{type: :odd, shape: 1, data: ""} end)

      for {tool, reason} <- [
            {"raises", "** (ArgumentError) no such luck"},
            {"throws", "** (throw) :ball"},
            {"exits", "** (exit) :tired"},
            {"dies", "the process that ran it has ended: killed"},
            {"leaves", "the process that ran it has ended: normal"},
            {"long", "** (RuntimeError) xxx"},
            {"marked", "** (RuntimeError) xe"},
            {"bytes", "<<"}
          ] do
        capture_log(fn ->
          assert {:ok, {"tool_error", message}} = run(server, "why_not", [tool])
          assert message =~ reason
          assert byte_size(message) < 50_000
        end)
      end

      assert {:ok, {"encode", "the result cannot be sent: " <> _}} =
               run(server, "why_not", ["tensor"])

      huge = String.duplicate("x", 1_000_000)
      assert {:ok, {"unknown_tool", _}} = run(server, "why_not", [huge])

      assert run(server, "why_not", ["raises", 1, 2]) ==
               {:ok, {"bad_arguments", "it takes 0 arguments, and was given [1, 2]"}}

      {result, log} = with_log([metadata: [:server]], fn -> run(server, "ask", ["raises"]) end)

      assert {:error,
              %Error{type: :exception, exception: "snakepit_port.adapter.ToolError"} = error} =
               result

      assert log =~ ~r/server=.* tool raises failed: .*ArgumentError. no such luck/
      assert log =~ "tools_test.exs:"

      assert error.message == "tool raises: ** (ArgumentError) no such luck (tool_error)"
      assert run(server, "add", [1, 2]) == {:ok, 3}
    end

    test "given to start_link are there from the beginning, and after a restart", context do
      name = Module.concat(__MODULE__, "Given")
      opts = [name: name, logs: false, config: config(), tools: [answer: fn -> 42 end]]
      start_supervised!({SnakepitPort, opts}, id: name)
      assert SnakepitPort.execute("ask", ["answer"], server: name) == {:ok, 42}
      register(name, "other", fn -> 43 end)

      capture_log(fn ->
        ref = Process.monitor(name)
        kill(os_pid(name), "KILL")
        assert_receive {:DOWN, ^ref, _, _, _}, 10_000
        await(fn -> match?({:ok, _}, Link.find(name)) end)
      end)

      assert SnakepitPort.execute("ask", ["answer"], server: name) == {:ok, 42}
      assert {:ok, {"unknown_tool", _}} = SnakepitPort.execute("why_not", ["other"], server: name)
      assert context.server != name
    end

    test "that a module exports are those of its newest code; others are gone with the second load",
         %{server: server} do
      module = Module.concat(__MODULE__, "Loaded")

      load = fn n ->
        # As a reload of code does it: what was old goes, and what was there is old.
        :code.purge(module)
        :code.delete(module)

        code =
          quote do
            def exported, do: unquote(n)
            def anonymous, do: fn -> unquote(n) end
          end

        Module.create(module, code, Macro.Env.location(__ENV__))
      end

      load.(1)
      register(server, "exported", Function.capture(module, :exported, 0))
      register(server, "anonymous", module.anonymous())
      load.(2)
      assert run(server, "ask", ["exported"]) == {:ok, 2}
      assert run(server, "ask", ["anonymous"]) == {:ok, 1}
      load.(3)
      assert run(server, "ask", ["exported"]) == {:ok, 3}

      capture_log(fn ->
        assert {:ok, {"tool_error", message}} = run(server, "why_not", ["anonymous"])
        assert message =~ "BadFunctionError"
      end)
    end
  end

  test "a result that is too large is an error of the tool", context do
    name = Module.concat(__MODULE__, "Small")
    config = [{:supervisor, [max_frame_bytes: "1MiB"]} | config()]
    start_supervised!({SnakepitPort, name: name, logs: false, config: config}, id: name)
    register(name, "huge", fn -> String.duplicate("x", 2_000_000) end)

    assert {:ok, {"frame_too_large", message}} =
             SnakepitPort.execute("why_not", ["huge"], server: name)

    assert message =~
             ~r/^the result takes a frame of 2000\d+ bytes, over max_frame_bytes \(1048576\)$/

    assert context.server != name
  end

  describe "a tool that runs" do
    test "ends when its command asks for the next one", %{server: server} do
      desk(server)
      register(server, "double", &(2 * &1))
      tools = :sys.get_state(server).tools
      fifo = fifo!()
      task = Task.async(fn -> run(server, "ask_after", ["desk", fifo]) end)
      File.write!(fifo, "go on")
      tool = asked()
      ref = Process.monitor(tool)
      [{^tool, {id, number}}] = Map.to_list(:sys.get_state(tools).running)
      args = :erlang.term_to_binary([21])
      Tools.run(tools, :erlang.term_to_binary({:tool, id, number + 1, "double", args}))
      assert_receive {:DOWN, ^ref, _, _, :shutdown}, 10_000
      Task.shutdown(task)
    end

    test "ends with the call, when that is cancelled", %{server: server} do
      desk(server)
      :ok = SnakepitPort.subscribe(server)
      caller = spawn(fn -> run(server, "ask_and_say", ["desk"]) end)
      ref = Process.monitor(asked())
      Process.exit(caller, :kill)
      assert_receive {:DOWN, ^ref, _, _, :shutdown}, 10_000
      assert_receive {:snakepit_port, :log, %{line: "stopped"}}, 10_000
      assert run(server, "add", [1, 2]) == {:ok, 3}
    end

    test "ends with the server, and its caller has an answer", %{server: server} do
      desk(server)
      task = Task.async(fn -> run(server, "ask", ["desk"]) end)
      ref = Process.monitor(asked())
      monitor = Process.monitor(server)

      capture_log(fn ->
        Process.exit(Process.whereis(server), :kill)
        assert_receive {:DOWN, ^monitor, _, _, _}, 10_000
      end)

      assert_receive {:DOWN, ^ref, _, _, _}, 10_000
      assert {:error, %Error{type: :supervisor_down}} = Task.await(task, 20_000)
    end

    test "may finish while the server stops", %{server: server} do
      desk(server)
      task = Task.async(fn -> run(server, "ask", ["desk"]) end)
      tool = asked()
      stopping = Task.async(fn -> SnakepitPort.stop(server) end)
      # It reads no messages from then on: so it has begun to.
      await(fn -> Process.info(tool, :links) != nil and not alive_for_calls?(server) end)
      send(tool, {:answer, "late, but not too late"})
      assert Task.await(task, 20_000) == {:ok, "late, but not too late"}
      assert Task.await(stopping, 20_000) == :ok
    end

    test "asked while the server stops is run as well", %{server: server} do
      path = fifo!()
      test = self()

      register(server, "late", fn ->
        send(test, :late)
        7
      end)

      :ok = SnakepitPort.subscribe(server)
      task = Task.async(fn -> run(server, "ask_after", ["late", path]) end)
      assert_receive {:snakepit_port, :log, %{line: "begun"}}, 10_000
      stopping = Task.async(fn -> SnakepitPort.stop(server) end)
      await(fn -> not alive_for_calls?(server) end)
      File.write!(path, "go on")
      assert Task.await(task, 20_000) == {:ok, 7}
      assert_received :late
      assert Task.await(stopping, 20_000) == :ok
    end

    test "leaves nothing behind when it is over", %{server: server, link: link} do
      register(server, "double", &(2 * &1))
      for n <- 1..20, do: {:ok, _} = run(server, "ask", ["double", n])
      large = SnakepitPort.bytes(:binary.copy("x", 1_000_000))
      register(server, "large", fn -> large end)
      # In a file.
      assert run(server, "ask", ["large"]) == {:ok, large}
      state = :sys.get_state(server)
      assert state.asking == %{}
      await(fn -> :sys.get_state(state.tools).running == %{} end)
      assert in_progress(link) == 0
      assert :ets.tab2list(link.outbox) == []
    end
  end

  # Whether it is in its loop.
  defp alive_for_calls?(server) do
    {:current_function, function} = Process.info(Process.whereis(server), :current_function)
    function != {SnakepitPort.Server, :drain, 1}
  end

  describe "messages" do
    test "come to processes, in order and before the answer", %{server: server} do
      assert run(server, "tell", [self(), 1, "two", [3.0]]) == {:ok, nil}
      for message <- [1, "two", [3.0]], do: assert_receive(^message, 10_000)
      refute_received _
    end

    test "to processes that are gone, or that cannot be read, are dropped", %{server: server} do
      gone = spawn(fn -> :ok end)
      ref = Process.monitor(gone)
      assert_receive {:DOWN, ^ref, _, _, _}
      assert run(server, "tell", [gone, 1]) == {:ok, nil}

      log =
        capture_log(fn ->
          assert run(server, "tell_atom", [self()]) == {:ok, nil}
          assert_receive :after_it, 10_000
        end)

      assert log =~ "a message from Python is dropped: it holds the atom"
    end
  end

  describe "frames that cannot be read" do
    test "are dropped", %{server: server} do
      tools = :sys.get_state(server).tools
      encode = &:erlang.term_to_binary/1

      for frame <- ["junk", encode.({:tool, 1, 2, 3, 4}), encode.({:send, self(), 1}), encode.(1)] do
        log =
          capture_log(fn ->
            Tools.run(tools, frame)
            Tools.deliver(tools, frame)
            :sys.get_state(tools)
          end)

        assert log =~ "asks for a tool cannot be read"
        assert log =~ "a message from Python is dropped"
      end

      assert run(server, "add", [1, 2]) == {:ok, 3}
    end
  end

  describe "progress" do
    test "is told in the calling process", %{server: server, link: link} do
      test = self()
      progress = fn done, total -> send(test, {self(), done, total}) end
      assert run(server, "work", [1000], progress: progress) == {:ok, "done"}
      assert_received {^test, 0, 1000}
      assert told_until({test, 1000, 1000})
      assert in_progress(link) == 0
      refute_received _
    end

    test "is told while the command goes on", %{server: server} do
      path = fifo!()
      progress = fn done, total -> if done < total, do: File.write!(path, "go on") end
      assert run(server, "work_until", [path], progress: progress) == {:ok, nil}
    end

    test "cancels the call when the function raises", %{server: server, link: link} do
      path = fifo!()

      assert catch_throw(run(server, "work_until", [path], progress: fn _, _ -> throw(:up) end)) ==
               :up

      assert in_progress(link) == 0
      assert run(server, "add", [1, 2]) == {:ok, 3}
      refute_received _
    end

    test "may make calls, and the first is cancelled all the same when its caller dies", context do
      %{server: server, link: link} = context
      :ok = SnakepitPort.subscribe(server)
      path = fifo!()
      test = self()

      progress = fn _, _ ->
        send(test, {:nested, SnakepitPort.execute("add", [1, 2], server: server, pool: "other")})
        receive do: (:never -> :ok)
      end

      {:ok, _} = SnakepitPort.reload(server, config: config([[], [name: "other"]]))

      caller =
        spawn(fn -> run(server, "work_until", [path], progress: progress, pool: "default") end)

      assert_receive {:nested, {:ok, 3}}, 20_000
      Process.exit(caller, :kill)
      assert_receive {:snakepit_port, :log, %{line: "cancelled"}}, 20_000
      await(fn -> in_progress(link) == 0 and :ets.tab2list(link.streams) == [] end)
    end

    @tag workers: 5
    @tag :capture_log
    test "that call commands that call tools say once what went wrong", %{server: server} do
      register(server, "down", fn
        0 -> SnakepitPort.execute!("fail", ["deep down"], server: server)
        n -> SnakepitPort.execute!("ask", ["down", n - 1], server: server)
      end)

      assert {:error, error} = run(server, "ask", ["down", 3])
      assert [_, _] = String.split(error.message, "deep down")
      assert {:ok, {"tool_error", message}} = run(server, "why_not", ["down", 0])

      assert message =~
               ~r/^\*\* \(SnakepitPort.Error\) ValueError: deep down \(command fail, pool .*\)$/
    end

    test "may send large bytes, and those of the first call stay", %{server: server, link: link} do
      table = link.table
      large = SnakepitPort.bytes(:binary.copy("x", 500_000))

      progress = fn _, _ ->
        [{_, outer}] = :ets.lookup(table, {:aside, self()})

        assert {:ok, _} =
                 SnakepitPort.execute("no_such", [large], server: server, timeout: 300) |> flip()

        assert for(name <- outer, not File.exists?(Path.join(link.shm.folder, name)), do: name) ==
                 []
      end

      assert run(server, "work_with", [large], progress: progress) == {:ok, 500_000}
      await(fn -> File.ls!(link.shm.folder) == [] end)
      assert :ets.lookup(table, {:aside, self()}) == []
      assert :ets.lookup(table, {:sent, self()}) == []
    end

    defp flip({:error, error}), do: {:ok, error}

    test "of a call that times out leaves nothing", %{server: server, link: link} do
      path = fifo!()
      opts = [progress: fn _, _ -> :ok end, timeout: 300]
      assert {:error, %Error{type: :timeout}} = run(server, "work_until", [path], opts)
      assert in_progress(link) == 0
      refute_received _
    end

    test "that nobody asked for is dropped", %{server: server} do
      assert run(server, "work", [3]) == {:ok, "done"}
      refute_received _
    end

    test "of a server that goes is an error", %{server: server} do
      test = self()
      path = fifo!()
      progress = fn _, _ -> send(test, :half) end
      task = Task.async(fn -> run(server, "work_until", [path], progress: progress) end)
      assert_receive :half, 10_000

      capture_log(fn ->
        kill(os_pid(server), "KILL")
        assert {:error, %Error{type: :supervisor_down}} = Task.await(task, 20_000)
      end)
    end

    defp told_until(last) do
      receive do
        ^last -> true
        {_, _, _} -> told_until(last)
      end
    end
  end

  test "lines of host.log have a source of their own", %{server: server} do
    :ok = SnakepitPort.subscribe(server)
    assert run(server, "host_log", ["so it is", "warning"]) == {:ok, nil}

    assert_receive {:snakepit_port, :log, %{source: "log", level: :warning, line: "so it is"}},
                   10_000
  end

  # A tag, for the compiler sees what is in the test itself.
  @tag no_tool: 7
  test "what is no tool, or no progress, is told at once", %{server: server, no_tool: no_tool} do
    assert_raise ArgumentError, ~r/a tool is a function, not 7/, fn ->
      SnakepitPort.register_tool(server, "seven", no_tool)
    end

    assert_raise ArgumentError, ~r/a tool is named by a string or an atom/, fn ->
      SnakepitPort.register_tool(server, nil, fn -> 7 end)
    end

    assert_raise ArgumentError, ~r/progress: is a function of two arguments/, fn ->
      run(server, "add", [1, 2], progress: fn _ -> 7 end)
    end

    assert_raise ArgumentError, ~r/unknown option {:progress/, fn ->
      SnakepitPort.stream("count", [3], server: server, progress: fn _, _ -> 7 end)
      |> Enum.to_list()
    end

    assert_raise ArgumentError, ~r/tools: has to be functions by their names/, fn ->
      SnakepitPort.start_link(tools: %{"seven" => 7})
    end

    assert {:error, %Error{type: :supervisor_down}} =
             SnakepitPort.register_tool(:nobody, "f", fn -> 7 end)

    assert {:error, %Error{type: :supervisor_down}} = SnakepitPort.unregister_tool(:nobody, "f")
  end
end
