defmodule SnakepitPort.SessionTest do
  @moduledoc "Calls that belong together, with a real supervisor."
  use ExUnit.Case, async: true
  import SnakepitPort.Support
  alias SnakepitPort.Error

  @closed [:snakepit_port, :session, :closed]

  setup context do
    server = start!(context, [[pool_size: 3, affinity: :strict_queue]])
    :ok = SnakepitPort.await_ready(server)
    {:ok, server: server}
  end

  defp pid!(server, session) do
    {:ok, pid} = SnakepitPort.execute_in_session(session, "pid", [], server: server)
    pid
  end

  test "calls of a session run on one worker, of whatever process they are", %{server: server} do
    for session <- ["a", :b, "c"] do
      pids =
        1..20
        |> Enum.map(fn _ -> Task.async(fn -> pid!(server, session) end) end)
        |> Task.await_many(10_000)

      assert [_] = Enum.uniq(pids)
    end
  end

  test "a session whose worker died says so once", %{server: server} do
    :ok = SnakepitPort.subscribe(server)
    pid = pid!(server, "s")
    {_, 0} = System.cmd("kill", ["-KILL", "#{pid}"])
    assert_receive {:snakepit_port, :event, @closed, %{requests: 1}, metadata}, 10_000
    assert %{pool: "default", session: "s", reason: "worker_gone"} = metadata

    assert {:error, %Error{type: :session_worker_unavailable, worker_id: "default-" <> _}} =
             SnakepitPort.execute_in_session("s", "pid", [], server: server)

    assert pid!(server, "s") != pid
  end

  test "the longest name of a session is 255 characters, whatever they take", %{server: server} do
    for character <- ["x", "ž", "e\u0301"] do
      session = String.duplicate(character, div(255, length(String.codepoints(character))))
      assert is_integer(pid!(server, session))
    end
  end

  test "a session can be closed", %{server: server} do
    pid!(server, "s")
    assert SnakepitPort.close_session("s", server: server, pool: nil) == {:ok, true}
    assert SnakepitPort.close_session("s", server: server, pool: :default) == {:ok, false}
  end
end
