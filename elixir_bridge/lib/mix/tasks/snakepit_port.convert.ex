defmodule Mix.Tasks.SnakepitPort.Convert do
  @shortdoc "Writes a configuration of Snakepit as one of snakepit-port"

  @moduledoc """
  Writes what Elixir's configuration files set for Snakepit v0.5 or v0.6 as TOML for snakepit-port.

      mix snakepit_port.convert config/config.exs -o pools.toml
      mix snakepit_port.convert config/config.exs config/runtime.exs --env prod -o pools.toml
      mix snakepit_port.convert config/config.exs --report

  The files are evaluated as Mix does it, so what they import and compute is there; of several, later ones
  win. What they compute, from `System.get_env/1` for one, is written as it is now, secrets included. The project is
  compiled before, for files that use its modules.

  The result is printed, or written to the file after `-o`: rather that than `>`, which takes along what Mix
  says of dependencies that it compiles first. What the files print goes to stderr.

    * `--env` - the environment they are read for. Default: Mix's
    * `-o`, `--output` - the file to write
    * `--force` - write over a file that is there
    * `--report` - print what became of each key
    * `--json` - print JSON, of what is wrong, too, but for options that are
    * `--no-compile` - do not compile the project, where that fails and the files do not need it
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
    compile: :boolean,
    python: :string,
    help: :boolean
  ]

  # SPEC section 15.
  @bad_config 78

  # The statuses of a command that has said why: its own 1, and those of SPEC section 15. A Python that cannot
  # run it ends with 1 as well, but has nothing on stdout then.
  @said_why [1, 64, 70, @bad_config]

  @impl true
  def run(argv) do
    {opts, files} = OptionParser.parse!(argv, strict: @switches, aliases: [o: :output])
    if opts[:help], do: Mix.shell().info(@moduledoc), else: run(files, opts)
  end

  defp run(files, opts) do
    check(files, opts)
    env = String.to_atom(opts[:env] || to_string(Mix.env()))
    compiles? = Keyword.get(opts, :compile, true) and Mix.Project.get() != nil

    config =
      to_stderr(fn ->
        if compiles?, do: compile()
        read(files, env)
      end)

    check_values(config)
    hand_over(config, opts)
    IO.puts(:stderr, "note: read for the environment #{env}; --env takes another")
  rescue
    error -> if opts[:json], do: refuse_as_json(error), else: reraise(error, __STACKTRACE__)
  end

  defp check([], _), do: Mix.raise("which file? mix snakepit_port.convert config/config.exs")

  defp check(files, opts) do
    if toml = Enum.find(files, &(Path.extname(&1) == ".toml")),
      do: Mix.raise("#{toml} is TOML, not Elixir: snakepit-port convert #{toml}")

    if opts[:output] && !opts[:force] && match?({:ok, _}, File.lstat(opts[:output])),
      do: Mix.raise("#{opts[:output]} is there already; --force writes over it")
  end

  # What that prints: stdout is for the result.
  defp to_stderr(fun) do
    stdout = Process.group_leader()
    Process.group_leader(self(), Process.whereis(:standard_error))

    try do
      fun.()
    after
      Process.group_leader(self(), stdout)
    end
  end

  defp compile do
    ours = Path.dirname(:code.which(__MODULE__))
    Mix.Task.run("compile")

    # From Elixir 1.15 that takes off the code path what the project does not depend on, if ERL_LIBS has it.
    Code.append_path(ours)
  catch
    :exit, {:shutdown, _} ->
      Mix.raise("the project does not compile; --no-compile is for files that do not need it")
  end

  defp read(files, env) do
    config = files |> Enum.map(&read_file(&1, env)) |> Enum.reduce(&Config.Reader.merge(&2, &1))

    config[:snakepit] ||
      Mix.raise(
        "there is no `config :snakepit` in #{Enum.join(files, ", ")}, read for the environment #{env}; " <>
          "for another one: --env prod"
      )
  end

  defp read_file(file, env) do
    Config.Reader.read!(file, env: env, target: :host)
  rescue
    # A file that is not there, or that no Elixir can read. What its code raises has a stacktrace that helps.
    # (The last but one is of Elixir 1.16.)
    error in [File.Error, SyntaxError, TokenMissingError, MismatchedDelimiterError, CompileError] ->
      Mix.raise(Exception.message(error))

    error in UnicodeConversionError ->
      Mix.raise("#{file}, or what it imports, is no text in UTF-8: #{Exception.message(error)}")
  end

  # Bytes that are no text never reach whoever knows the keys. Nor do structs: what is in one is Elixir's own affair,
  # and in a compiled regular expression not the same in all releases.
  defp check_values(config) do
    with {path, value} <- no_value(config, []) do
      place = path |> Enum.reverse() |> Enum.map_join(&key/1) |> String.trim_leading(".")

      Mix.raise(
        "#{place}: TOML has nothing for #{inspect(value, limit: 5, printable_limit: 100)}; write a text, a number, " <>
          "true or false, or a list or map of such values, or leave the key out",
        exit_status: @bad_config
      )
    end
  end

  defp key(index) when is_integer(index), do: "[#{index}]"
  defp key(key) when is_atom(key) or is_binary(key), do: ".#{key}"
  defp key(key), do: ".#{inspect(key)}"

  # Where one is, and what it is.
  defp no_value(text, path) when is_binary(text),
    do: unless(String.valid?(text), do: {path, text})

  defp no_value(%_{} = struct, path), do: {path, struct}
  defp no_value(map, path) when is_map(map), do: map |> Map.to_list() |> no_value(path)
  defp no_value(tuple, path) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> no_value(path)

  defp no_value([_ | _] = list, path) do
    unless List.improper?(list), do: list |> Enum.with_index() |> Enum.find_value(&of(&1, path))
  end

  defp no_value(_, _), do: nil

  defp of({{key, value}, _}, path), do: no_value(key, path) || no_value(value, [key | path])
  defp of({value, index}, path), do: no_value(value, [index | path])

  defp hand_over(config, opts) do
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

  defp convert(path, opts) do
    python =
      case Program.interpreter(opts[:python]) do
        {:ok, python} -> python
        {:error, error} -> Mix.raise(Exception.message(error))
      end

    flags = for flag <- [:force, :report, :json], opts[flag], do: "--#{flag}"
    output = if opts[:output], do: ["-o", opts[:output]], else: []
    args = ["-P", "-m", "snakepit_port", "convert", path] ++ flags ++ output
    {text, status} = System.cmd(python, args, env: [{"PYTHONUTF8", "1"}])
    IO.write(text)

    cond do
      status == 0 ->
        :ok

      status in @said_why and (text != "" or !opts[:json]) ->
        exit({:shutdown, status})

      true ->
        message = "#{python} -m snakepit_port convert ended with status #{status}"
        Mix.raise(message, exit_status: status)
    end
  end

  # As the command itself has what is no mistake in a configuration.
  defp refuse_as_json(error) do
    message = error |> Exception.message() |> json()
    IO.puts(~s({"ok": false, "error": {"message": #{message}}}))

    exit({:shutdown, if(is_struct(error, Mix.Error), do: error.mix, else: 1)})
  end

  defp json(text) do
    text = if String.valid?(text), do: text, else: inspect(text)
    ~s("#{for <<char::utf8 <- text>>, into: "", do: json_character(char)}")
  end

  defp json_character(char) when char in [?", ?\\], do: <<?\\, char>>

  defp json_character(char) when char < 32,
    do: "\\u" <> String.pad_leading(Integer.to_string(char, 16), 4, "0")

  defp json_character(char), do: <<char::utf8>>
end
