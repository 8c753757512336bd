defmodule SnakepitPort.ThreadsTest do
  use ExUnit.Case, async: true

  import SnakepitPort.Support

  test "one worker runs several calls at a time, and says whether it has a GIL", context do
    server = start!(context, [[worker_profile: :thread, threads_per_worker: 4]])
    :ok = SnakepitPort.await_ready(server)
    :ok = SnakepitPort.subscribe(server)

    tasks =
      for _ <- 1..4 do
        Task.async(fn -> SnakepitPort.execute("meet", [4], server: server) end)
      end

    assert tasks |> Task.await_many(60_000) |> Enum.uniq() == [{:ok, "met"}]
    assert [%{os_pid: os_pid}] = SnakepitPort.workers(server)

    # Its successor tells it to those who listen now.
    kill(os_pid, "KILL")

    assert_receive {:snakepit_port, :event, [:snakepit_port, :worker, :started], _,
                    %{gil: has_gil}},
                   60_000

    if has_gil do
      assert_receive {:snakepit_port, :event, [:snakepit_port, :worker, :gil_enabled], _,
                      %{module: nil, message: _, pool: "default"}},
                     60_000
    end
  end
end
