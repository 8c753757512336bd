defmodule SnakepitPort.PoolsTest do
  @moduledoc "What is waited for, whatever comes before the answer to a reload and after it."
  use ExUnit.Case, async: true
  alias SnakepitPort.{Error, Pools}

  @ready {"pool.ready", "a", %{"pool" => "a"}}
  @unavailable {"pool.unavailable", "a", %{"pool" => "a", "message" => "no module"}}

  defp reloaded(pools, what), do: pools |> Pools.reloading(300) |> answered(what)

  defp answered(pools, what), do: Pools.reloaded(pools, 300, %{"pools" => %{"a" => what}})

  defp after_events(pools, events), do: Enum.reduce(events, pools, &Pools.event(&2, &1))
  defp begun(events \\ []), do: %Pools{} |> after_events(events) |> Pools.ready()

  test "the beginning is over when the supervisor says so" do
    assert Pools.verdict(%Pools{}) == :wait
    assert %Pools{} |> after_events([@ready]) |> Pools.verdict() == :wait
    assert Pools.verdict(begun()) == :ok
    assert {:error, %Error{pool: "a", message: "no module"}} = Pools.verdict(begun([@unavailable]))
    assert Pools.verdict(begun([@unavailable, @ready])) == :ok
  end

  test "what several pools say is bounded, each" do
    traceback = String.duplicate("x", 9_000) <> "the end of it\n"

    events =
      for pool <- ["a", "b", "c"] do
        why = %{"message" => "no module", "traceback" => if(pool != "c", do: traceback)}
        {"pool.unavailable", pool, Map.put(why, "pool", pool)}
      end

    assert {:error, %Error{pool: nil, traceback: "pool a:\n…xx" <> rest}} =
             Pools.verdict(begun(events))

    assert [_, _] = String.split(rest, "the end of it\n\npool b:\n…xx")
    assert String.ends_with?(rest, "xthe end of it")
    assert String.length(rest) < 9_000
  end

  test "a pool that was added is waited for, until it has told" do
    added = reloaded(begun(), "added")
    assert Pools.verdict(added) == :wait
    assert added |> Pools.event(@ready) |> Pools.verdict() == :ok
    assert {:error, %Error{pool: "a"}} = added |> Pools.event(@unavailable) |> Pools.verdict()
    assert added |> reloaded("removed") |> Pools.verdict() == :ok
  end

  test "what a pool has told before the answer came is about the settings of before" do
    for what <- ["added", "replaced"] do
      pools =
        begun([@unavailable]) |> Pools.reloading(300) |> Pools.event(@unavailable) |> answered(what)

      assert Pools.verdict(pools) == :wait
      assert pools |> Pools.event(@ready) |> Pools.verdict() == :ok
    end
  end

  test "a pool that could not start is waited for when it starts anew, else not" do
    assert begun([@unavailable]) |> reloaded("resized") |> Pools.verdict() == :wait
    assert begun([@ready]) |> reloaded("replaced") |> Pools.verdict() == :ok
    assert {:error, _} = begun([@unavailable]) |> reloaded("unchanged") |> Pools.verdict()
    assert begun([@unavailable]) |> reloaded("removed") |> Pools.verdict() == :ok
  end

  test "a reload that is refused changes nothing" do
    pools = begun([@unavailable])
    assert pools |> Pools.reloading(300) |> Pools.reloaded(300, %{}) == pools
  end
end
