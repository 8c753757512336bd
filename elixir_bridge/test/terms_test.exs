defmodule SnakepitPort.TermsTest do
  use ExUnit.Case, async: true
  alias SnakepitPort.{Error, Terms, UnknownAtom}

  doctest SnakepitPort.Names
  doctest SnakepitPort, only: [bytes: 1]

  # One of everything a term can hold.
  defp everything do
    [
      [0, 255, 256, -1, 0x7FFFFFFF, -0x80000000, Bitwise.bsl(1, 70), -Bitwise.bsl(1, 3000)],
      [0.0, 1.5, "binary", <<1::3>>, ~c"charlist", [1 | 2], [], {}, {1, {2}}, %{}],
      %{"a" => %{b: [nil, true, :é]}, [] => []},
      [self(), make_ref(), hd(Port.list()), fn -> everything() end],
      List.to_tuple(Enum.to_list(1..300)),
      ~D[2024-02-29]
    ]
  end

  # In a BEAM of its own: this one has loaded what names them.
  test "every atom of SPEC section 2 is known, whatever else is loaded" do
    names = ~w(nan infinity neg_infinity s u f bf c)

    term =
      <<131, 108, length(names)::32>> <> for(name <- names, into: <<>>, do: atom(name)) <> <<106>>

    code =
      "{:ok, [_ | _]} = SnakepitPort.Terms.decode(Base.decode64!(#{inspect(Base.encode64(term))}))"

    ebin = Application.app_dir(:snakepit_port, "ebin")
    assert {_, 0} = System.cmd("elixir", ["-pa", ebin, "-e", code], stderr_to_stdout: true)
  end

  defp atom(name), do: <<119, byte_size(name), name::binary>>

  test "terms come back" do
    for term <- everything(), do: assert(Terms.decode(Terms.encode(term)) == {:ok, term})
  end

  test "a tensor that is none is refused, and what is in an improper list stays as it is" do
    none = {:"$tensor", {:u, 8}, {2}, <<0>>}
    assert {:error, %Error{type: :decode}} = Terms.decode(Terms.encode([none]))
    improper = [[1 | none], [1 | {:"$shm", "w9-1-0-5"}]]
    assert Terms.decode(Terms.encode(improper)) == {:ok, improper}
  end

  test "an unknown atom is found wherever it is" do
    for version <- [1, 2], term <- everything() do
      <<131, before::binary>> = :erlang.term_to_binary(term, minor_version: version)
      assert UnknownAtom.find(<<131, before::binary>>) == :error

      for unknown <- [
            <<119, 9, "unseen_é">>,
            <<118, 9::16, "unseen_é">>,
            <<100, 8::16, "unseen_", 0xE9>>,
            <<115, 8, "unseen_", 0xE9>>
          ] do
        binary = <<131, 104, 2, before::binary, unknown::binary>>
        assert UnknownAtom.find(binary) == {:ok, "unseen_é"}
        assert {:error, %Error{type: :decode, message: message}} = Terms.decode(binary)
        assert message =~ ~s("unseen_é")
        assert_raise ArgumentError, fn -> String.to_existing_atom("unseen_é") end
      end
    end
  end

  test "an unknown atom is found inside pids and external funs" do
    for term <- [
          <<88, 119, 8, "unseen@1", 0::96>>,
          <<90, 3::16, 119, 8, "unseen@1", 0::128>>,
          <<120, 119, 8, "unseen@1", 0::96>>,
          <<89, 119, 8, "unseen@1", 0::64>>,
          <<113, 119, 8, "unseen@1", 119, 2, "ok", 97, 1>>
        ] do
      assert UnknownAtom.find(<<131, 108, 1::32, term::binary, 106>>) == {:ok, "unseen@1"}
    end
  end

  test "whatever bytes come, the answer is a term or an error" do
    :rand.seed(:exsss, {1, 2, 3})
    whole = Terms.encode(everything())

    for _ <- 1..2000 do
      at = :rand.uniform(byte_size(whole)) - 1
      {head, <<_, tail::binary>>} = :erlang.split_binary(whole, at)

      for binary <- [<<head::binary, :rand.uniform(256) - 1, tail::binary>>, head] do
        assert match?({:ok, _}, Terms.decode(binary)) or
                 match?({:error, %Error{type: :decode}}, Terms.decode(binary))
      end
    end
  end

  test "funs that any program can make are refused wherever they are, in place of nothing else" do
    fun = Function.capture(String, :upcase, 1)
    {interpreted, _} = Code.eval_string("fn _, _ -> :erlang.halt() end")
    holds = holding(fun)

    for term <- [
          interpreted,
          [interpreted],
          holds,
          fun,
          [fun],
          [1 | fun],
          {1, fun},
          %{a: fun},
          %{fun => 1},
          [[{%{a: [fun]}}]]
        ] do
      assert {:error, %Error{type: :decode, message: message}} = Terms.decode(Terms.encode(term))
      assert message =~ "a fun that Python can have made"
    end

    # The byte of its tag, as text.
    assert Terms.decode(Terms.encode(["q", %{q: 113}])) == {:ok, ["q", %{q: 113}]}
  end

  defp holding(fun), do: fn -> fun end
end
