defmodule SnakepitPort.WindowTest do
  use ExUnit.Case, async: true
  alias SnakepitPort.Window
  doctest Window

  @bytes 1_048_576

  test "it never closes, and never grows beyond its limits" do
    :rand.seed(:exsss, {1, 2, 3})

    for _ <- 1..300 do
      most = :rand.uniform(600)
      window = Window.new(most)
      assert window.under_way in 1..2

      Enum.reduce(1..200, {window.under_way, window}, fn taken, {granted, window} ->
        size = Enum.random([0, 1, 50, 5000, 300_000, 2 * @bytes])
        before = window.under_way
        {credit, window} = Window.taken(window, size)
        granted = granted + credit
        assert window.under_way == granted - taken
        assert window.under_way == before - 1 + credit
        assert window.under_way in 1..most
        assert credit == 0 or window.under_way * size <= max(@bytes, size)
        {granted, window}
      end)
    end
  end

  test "small chunks open it, large ones close it" do
    taken = fn window, times, size ->
      Enum.reduce(1..times, window, fn _, window -> elem(Window.taken(window, size), 1) end)
    end

    assert taken.(Window.new(512), 1, 100).under_way <= 4
    window = taken.(Window.new(512), 2000, 100)
    assert window.under_way > 256
    window = taken.(window, 512, @bytes)
    assert window.under_way == 1
    # One is no sign of more.
    assert taken.(window, 1, 100).under_way == 1
    assert taken.(window, 2000, 100).under_way > 256
  end
end
