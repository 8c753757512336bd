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
    python: :string,
    help: :boolean
  ]

  # SPEC section 15.
  @bad_config 78

  @impl true
  def run(argv) do
    {opts, files} = OptionParser.parse!(argv, strict: @switches, aliases: [o: :output])
    if opts[:help], do: Mix.shell().info(@moduledoc), else: run(files, opts)
  end

  defp run([], _), do: Mix.raise("which file? mix snakepit_port.convert config/config.exs")

  defp run(files, opts) do
    if toml = Enum.find(files, &(Path.extname(&1) == ".toml")),
      do: Mix.raise("#{toml} is TOML, not Elixir: snakepit-port convert #{toml}")

    if opts[:output] && !opts[:force] && match?({:ok, _}, File.lstat(opts[:output])),
      do: Mix.raise("#{opts[:output]} is there already; --force writes over it")

    config = read(files, String.to_atom(opts[:env] || to_string(Mix.env())))
    folder = private_folder!()

    try do
      path = Path.join(folder, "config.etf")
      File.write!(path, :erlang.term_to_binary(config), [:exclusive])
      convert(path, opts)
    after
      File.rm_rf!(folder)
    end
  end

  # What is evaluated holds whatever secrets the environment has: nobody else is to read it, or to be there
  # before.
  defp private_folder! do
    name = "snakepit_port_convert_#{System.pid()}_#{:rand.uniform(0x7FFFFFFF)}"
    folder = Path.join(System.tmp_dir!(), name)
    # Raises where there is one of that name.
    File.mkdir!(folder)
    File.chmod!(folder, 0o700)
    folder
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
      {text, status} -> refuse(text, status, python)
    end
  end

  # What it wrote to stderr has said why.
  defp refuse(text, status, python) do
    IO.write(text)

    message =
      if status == @bad_config,
        do: "the configuration cannot be converted",
        else: "#{python} -m snakepit_port convert ended with status #{status}"

    Mix.raise(message, exit_status: status)
  end
end
