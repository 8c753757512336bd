defmodule SnakepitPort.Options do
  @moduledoc """
  The options of a server: what there is, what they are when they are left out, and what they may be.
  """

  alias SnakepitPort.Tools

  @type t ::
          {:config, Path.t() | map | keyword}
          | {:python, String.t()}
          | {:name, atom}
          | {:logs, boolean}
          | {:tools, %{(String.t() | atom) => Tools.tool()} | [{atom, Tools.tool()}]}
          | {:start_timeout, timeout}
          | {:stop_timeout, timeout | :auto}
          | {:heartbeat_interval, timeout}

  @defaults [
    config: nil,
    python: nil,
    name: SnakepitPort,
    logs: true,
    tools: [],
    start_timeout: 15_000,
    stop_timeout: :auto,
    # Twice this is the usual `net_ticktime` of OTP's kernel, after which it takes a node for dead.
    heartbeat_interval: 30_000
  ]

  # In ms.
  @longest 0xFFFFFFFF

  # What no process can be registered as.
  @no_names [nil, true, false, :undefined]

  @doc "All options, with defaults. Raises `ArgumentError` for an unknown one, or what are none."
  @spec all([t]) :: keyword
  def all(opts) do
    unless Keyword.keyword?(opts) do
      raise ArgumentError,
            "options are a keyword list, like [config: \"pools.toml\"], not #{inspect(opts, limit: 5)}"
    end

    opts = opts |> Keyword.validate!(@defaults) |> Keyword.update!(:config, &config/1)

    check!(:name, opts, "an atom that a process can be registered as", &name?/1)

    check!(
      :python,
      opts,
      "a path, as UTF-8 text, or nil for the default",
      &(&1 == nil or path?(&1))
    )

    check!(:logs, opts, "true or false", &is_boolean/1)
    check!(:tools, opts, "functions by their names, like %{\"now\" => &now/0}", &tools?/1)

    check!(:start_timeout, opts, "milliseconds or :infinity", &timeout?/1)
    check!(:stop_timeout, opts, "milliseconds, :infinity or :auto", &(&1 == :auto or timeout?(&1)))

    check!(
      :heartbeat_interval,
      opts,
      "milliseconds from 1 on, or :infinity",
      &(&1 != 0 and timeout?(&1))
    )

    opts
  end

  @doc "The names of all options."
  @spec names :: [atom]
  def names, do: Keyword.keys(@defaults)

  @doc "The longest that a `receive` can wait, in ms."
  @spec longest :: pos_integer
  def longest, do: @longest

  defp name?(name), do: is_atom(name) and name not in @no_names

  defp tools?(tools) do
    (is_map(tools) or Keyword.keyword?(tools)) and
      Enum.all?(tools, fn {name, tool} -> is_function(tool) and tool_name?(name) end)
  end

  defp tool_name?(name),
    do: (is_atom(name) and name != nil) or (is_binary(name) and String.valid?(name))

  defp path?(python) do
    # What a variable holds that is set to nothing names no interpreter.
    is_binary(python) and python != "" and String.valid?(python) and
      not String.contains?(python, "\0")
  end

  @doc """
  What was given as `config:`, a path of characters or chardata as a string: as a list it would pass for terms.
  Raises `ArgumentError` for a path with a NUL, where a port would cut it, and for an empty one, which would be the
  working directory.
  """
  @spec config(Path.t() | map | keyword | nil) :: String.t() | map | keyword | nil
  def config(config) do
    config = if is_list(config) and not Keyword.keyword?(config), do: path(config), else: config

    if is_binary(config) and (config == "" or String.contains?(config, "\0")) do
      raise ArgumentError,
            "config: has to be the path of a file, or its keys as a map or keyword list, not #{inspect(config)}"
    end

    config
  end

  # Of what is no text either the supervisor says what is wrong.
  defp path(list) do
    IO.chardata_to_string(list)
  rescue
    _ in [ArgumentError, UnicodeConversionError] -> list
  end

  @doc "Raises `ArgumentError` for what is no time to wait."
  @spec check_timeout(timeout) :: :ok
  def check_timeout(timeout) do
    if timeout?(timeout) do
      :ok
    else
      raise ArgumentError,
            "a timeout is a number of milliseconds up to #{@longest}, or :infinity, not #{inspect(timeout)}"
    end
  end

  defp timeout?(timeout), do: timeout == :infinity or timeout in 0..@longest

  @doc "How long an OTP supervisor waits for a server to stop before it kills it."
  @spec shutdown(keyword) :: timeout
  def shutdown(opts) do
    case opts[:stop_timeout] do
      ms when is_integer(ms) -> min(ms + 1_000, @longest)
      # What the configuration lets it take is not known yet. The server keeps to that itself.
      _ -> :infinity
    end
  end

  defp check!(key, opts, what, ok?) do
    unless ok?.(opts[key]) do
      raise ArgumentError, "#{key}: has to be #{what}, not #{inspect(opts[key])}"
    end
  end
end
