defmodule SnakepitPort.ThreadsTest do
  use ExUnit.Case, async: true

  import SnakepitPort.Support

  test "one worker runs several calls at a time, and says whether it has a GIL", context do
    # The first worker tells, once for the pool: before anybody can subscribe.
    :telemetry.attach(name(context), self())
    server = start!(context, [[worker_profile: :thread, threads_per_worker: 4]])
    :ok = SnakepitPort.await_ready(server)

    tasks =
      for _ <- 1..4 do
        Task.async(fn -> SnakepitPort.execute("meet", [4], server: server) end)
      end

    assert tasks |> Task.await_many(60_000) |> Enum.uniq() == [{:ok, "met"}]
    assert [_] = SnakepitPort.workers(server)
    assert_receive {:telemetry, [:snakepit_port, :worker, :started], _, %{gil: has_gil}}, 60_000

    if has_gil do
      assert_receive {:telemetry, [:snakepit_port, :worker, :gil_enabled], _,
                      %{module: nil, message: _, pool: "default"}},
                     60_000
    end
  end
end
