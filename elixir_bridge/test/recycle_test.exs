defmodule SnakepitPort.RecycleTest do
  @moduledoc "Replacing workers by hand, with a real supervisor."
  use ExUnit.Case, async: true
  import SnakepitPort.Support
  alias SnakepitPort.Error

  @recycled [:snakepit_port, :worker, :recycled]

  test "workers are replaced, one or all, and each tells", context do
    server = start!(context, [[pool_size: 2], [name: "other"]])
    :ok = SnakepitPort.await_ready(server)
    :ok = SnakepitPort.subscribe(server)
    assert SnakepitPort.recycle(server, worker: "default-1") == {:ok, 1}
    assert_receive {:snakepit_port, :event, @recycled, %{requests: 0}, metadata}, 10_000
    assert %{pool: "default", worker: "default-1", reason: "manual"} = metadata
    assert SnakepitPort.recycle(server, pool: :other) == {:ok, 1}
    assert_receive {:snakepit_port, :event, @recycled, _, %{worker: "other-1"}}, 10_000
    assert SnakepitPort.recycle(server) == {:ok, 3}

    for _ <- 1..3,
        do: assert_receive({:snakepit_port, :event, @recycled, _, %{reason: "manual"}}, 10_000)

    assert {:error, %Error{type: :bad_arguments}} =
             SnakepitPort.recycle(server, worker: "default-1")

    assert_raise ArgumentError, fn -> SnakepitPort.recycle(server, wroker: "default-2") end
  end

  test "a worker or a pool that is nil does not mean all" do
    for what <- [:worker, :pool] do
      wrong = ~r/^a #{what} is named by a string or an atom, not by nil/
      assert_raise ArgumentError, wrong, fn -> SnakepitPort.recycle([{what, nil}]) end
      assert_raise ArgumentError, wrong, fn -> SnakepitPort.recycle(:no_server, [{what, nil}]) end
    end
  end
end
