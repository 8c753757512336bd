defmodule SnakepitPort.SoakTest do
  @moduledoc """
  64 callers on four pools lose nothing. `scripts/soak` runs this with more calls, and shows how far
  it is.
  """
  use ExUnit.Case, async: false
  import SnakepitPort.Support, only: [start!: 2]

  @callers 64
  @pools ~w(north east south west)

  @tag timeout: :infinity
  test "64 callers on four pools get each their own answer, every time", context do
    {calls, show} =
      case System.get_env("SNAKEPIT_PORT_SOAK_CALLS") do
        nil -> {20_000, false}
        text -> {String.to_integer(text), true}
      end

    server = start!(context, for(name <- @pools, do: [name: name]))
    :ok = SnakepitPort.await_ready(server)
    each = div(calls, @callers)

    progress = fn caller, n ->
      if show and caller == 1 and rem(n, max(div(each, 10), 1)) == 0,
        do: IO.puts("  #{div(100 * n, each)} %")
    end

    callers =
      for caller <- 1..@callers do
        pool = Enum.at(@pools, rem(caller, length(@pools)))

        Task.async(fn ->
          for n <- 1..each do
            assert SnakepitPort.execute("echo", [{caller, n}], server: server, pool: pool) ==
                     {:ok, {caller, n}}

            progress.(caller, n)
          end
        end)
      end

    {microseconds, _} = :timer.tc(Task, :await_many, [callers, :infinity])
    seconds = microseconds / 1_000_000
    stats = SnakepitPort.get_stats(server)
    assert {stats.requests, stats.errors, stats.queued, stats.busy} == {@callers * each, 0, 0, 0}
    assert for({_, pool} <- stats.pools, do: pool.requests) |> Enum.sum() == @callers * each

    if show,
      do: IO.puts("#{@callers * each} calls in #{seconds} s, each answered once, no error")
  end
end
