defmodule SnakepitPort.MixProject do
  use Mix.Project

  def project do
    [
      app: :snakepit_port,
      version: "0.1.0",
      elixir: "~> 1.14",
      start_permanent: Mix.env() == :prod,
      elixirc_paths: if(Mix.env() == :test, do: ["lib", "test/support"], else: ["lib"]),
      description: "Named pools of Python workers behind one port",
      deps: []
    ]
  end

  def application, do: [extra_applications: [:logger]]
end
