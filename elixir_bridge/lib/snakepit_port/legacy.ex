defmodule SnakepitPort.Legacy do
  @moduledoc """
  Configurations of Snakepit v0.5 and v0.6. The supervisor knows what becomes of them and says so in its
  hello; here is where one is found, and where that is told.
  """

  require Logger
  alias SnakepitPort.Error

  @doc "What `config :snakepit, ...` set, or `nil` if nothing."
  @spec config() :: keyword | nil
  def config do
    load()

    # OTP adds the other key for itself.
    case Keyword.delete(Application.get_all_env(:snakepit), :included_applications) do
      [] -> nil
      config -> config
    end
  end

  # What a release's sys.config sets for an application is there once that is loaded. Where Snakepit itself
  # is gone, an empty application of its name is; what was set since the start goes on to count.
  defp load do
    set = Application.get_all_env(:snakepit)

    loaded =
      with {:error, _} <- Application.load(:snakepit),
           do: :application.load({:application, :snakepit, []})

    if loaded == :ok, do: Application.put_all_env(snakepit: set)
  end

  @doc """
  The configuration that was given, else the application's; an error where there is neither, for what the
  supervisor would say of that is for those who start it by hand.
  """
  @spec config(String.t() | map | keyword | nil) ::
          {:ok, String.t() | map | keyword} | {:error, Error.t()}
  def config(given) do
    case given || config() do
      nil ->
        message =
          "there is no configuration: give config: (the path of a TOML file, or its keys as a map or " <>
            "keyword list), or set config :snakepit, as for Snakepit"

        {:error, %Error{type: :config, message: message}}

      config ->
        {:ok, config}
    end
  end

  @doc """
  Logs what became of each key: a warning if something is not supported. A report that this BEAM has
  logged already is not logged again.
  """
  @spec report([map]) :: :ok
  def report([]), do: :ok

  def report(changes) do
    seen = {__MODULE__, :erlang.phash2(changes)}

    unless :persistent_term.get(seen, false) do
      :persistent_term.put(seen, true)
      lines = for %{"text" => text} <- changes, do: "\n  #{text}"

      Logger.log(
        level(changes),
        "the configuration is one of Snakepit; `mix snakepit_port.convert` or " <>
          "`snakepit-port convert` writes it anew. What became of each key:#{lines}"
      )
    end

    :ok
  end

  defp level(changes) do
    if Enum.any?(changes, &(&1["outcome"] == "unsupported")), do: :warning, else: :info
  end
end
