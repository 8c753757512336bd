# mix run examples/quickstart.exs
SnakepitPort.run_as_script(
  fn ->
    {:ok, 3} = SnakepitPort.execute("add", [1, 2])
    {:error, error} = SnakepitPort.execute("add", ["one", 2])
    IO.puts(SnakepitPort.execute!("greet", %{name: "Ada"}))
    IO.puts(Exception.message(error))
  end,
  config: Path.join(__DIR__, "pools.toml")
)
