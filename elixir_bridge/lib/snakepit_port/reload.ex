defmodule SnakepitPort.Reload do
  @moduledoc """
  A configuration, or the one of the beginning again, for a supervisor that runs.

  The caller asks as for any control call. The server is told before, so that it sees which pools
  `SnakepitPort.await_ready/2` has to wait for from then on, in the order of their events: `SnakepitPort.Pools`.
  """

  alias SnakepitPort.{Call, Error, Handshake, Legacy, Link, Names}

  @doc "What becomes of each pool, by its name."
  @spec run(atom | pid, String.t() | map | keyword | nil, timeout) ::
          {:ok, %{String.t() => atom}} | {:error, Error.t()}
  def run(server, config, timeout) do
    with {:ok, link} <- Link.find(server),
         {:ok, started_with} <- origin(link),
         {:ok, args} <- try_arguments(config, started_with),
         announce = fn id -> send(link.owner, {:reloading, id}) end,
         {:ok, answer} <- Call.control(server, "reload", args, timeout, announce) do
      Legacy.report(Map.get(answer, "converted", []))
      {:ok, Map.new(answer["pools"], fn {pool, what} -> {pool, Names.change(what)} end)}
    end
  end

  defp origin(link) do
    case Link.origin(link) do
      {:ok, started_with, capabilities} ->
        if "reload" in capabilities, do: {:ok, started_with}, else: {:error, cannot()}

      {:error, error} ->
        {:error, error}
    end
  end

  defp cannot do
    message =
      "this supervisor cannot reload (it announces no capability \"reload\"); stop it and start it " <>
        "with the other configuration, or install the same release on both sides"

    %Error{type: :unknown_control, message: message}
  end

  # As for a start: a working directory that was deleted has no folder for paths to start from.
  defp try_arguments(config, started_with) do
    arguments(config, started_with)
  rescue
    error ->
      message = "the configuration could not be told: #{Exception.message(error)}"
      {:error, %Error{type: :config, message: message}}
  end

  # The supervisor knows the file it was started with. Paths mean what they meant then, wherever the working
  # directory is now.
  defp arguments(nil, {config, base_dir}) do
    with {:ok, config} <- Legacy.config(config), do: {:ok, Handshake.terms(config, base_dir)}
  end

  defp arguments(path, _) when is_binary(path), do: {:ok, %{"file" => Path.expand(path)}}
  defp arguments(config, _), do: {:ok, Handshake.terms(config)}
end
