defmodule Mix.Tasks.SnakepitPort.Convert do
  @shortdoc "Writes a configuration of Snakepit as one of snakepit-port"

  @moduledoc """
  Writes what Elixir's configuration files set for Snakepit v0.5 or v0.6 as TOML for snakepit-port.

      mix snakepit_port.convert config/config.exs
      mix snakepit_port.convert config/config.exs config/runtime.exs --env prod -o pools.toml
      mix snakepit_port.convert config/config.exs --report

  The files are evaluated as Mix does it, so what they import and compute is there; of several, later ones
  win. The result is printed, or written to the file after `-o`.

    * `--env` - the environment they are read for. Default: Mix's
    * `-o`, `--output` - the file to write
    * `--force` - write over a file that is there
    * `--report` - print what became of each key
    * `--json` - print JSON
    * `--python` - interpreter with snakepit-port installed, as in `SnakepitPort.start_link/1`
  """

  use Mix.Task
  alias SnakepitPort.Program

  @switches [
    env: :string,
    output: :string,
    force: :boolean,
    report: :boolean,
    json: :boolean,
    python: :string
  ]

  @impl true
  def run(argv) do
    {opts, files} = OptionParser.parse!(argv, strict: @switches, aliases: [o: :output])
    if files == [], do: Mix.raise("which file? mix snakepit_port.convert config/config.exs")
    config = read(files, String.to_atom(opts[:env] || to_string(Mix.env())))

    path = Path.join(System.tmp_dir!(), "snakepit_port_convert_#{System.pid()}.etf")
    File.write!(path, :erlang.term_to_binary(config), [:exclusive])

    try do
      convert(path, opts)
    after
      File.rm(path)
    end
  end

  defp read(files, env) do
    config =
      files
      |> Enum.map(&Config.Reader.read!(&1, env: env, target: :host))
      |> Enum.reduce(&Config.Reader.merge(&2, &1))

    config[:snakepit] || Mix.raise("there is no `config :snakepit` in #{Enum.join(files, ", ")}")
  rescue
    # A file that is not there, or that no Elixir can read. What its code raises has a stacktrace that helps.
    # (The last but one is of Elixir 1.16.)
    error in [File.Error, SyntaxError, TokenMissingError, MismatchedDelimiterError, CompileError] ->
      Mix.raise(Exception.message(error))
  end

  defp convert(path, opts) do
    python =
      case Program.interpreter(opts[:python]) do
        {:ok, python} -> python
        {:error, error} -> Mix.raise(Exception.message(error))
      end

    flags = for flag <- [:force, :report, :json], opts[flag], do: "--#{flag}"
    output = if opts[:output], do: ["-o", opts[:output]], else: []
    args = ["-P", "-m", "snakepit_port", "convert", path] ++ flags ++ output

    case System.cmd(python, args, env: [{"PYTHONUTF8", "1"}]) do
      {text, 0} -> IO.write(text)
      {text, status} -> refuse(text, status)
    end
  end

  defp refuse(text, status) do
    IO.write(text)
    Mix.raise("the configuration cannot be converted", exit_status: status)
  end
end
