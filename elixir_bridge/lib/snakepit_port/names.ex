defmodule SnakepitPort.Names do
  @moduledoc """
  Turns the names a supervisor sends into atoms, if they are in these tables; others stay strings.
  So no name that comes over the link makes an atom.
  """

  # Section 10 of the protocol.
  @events ~w(
    pool.ready pool.unavailable pool.saturated pool.reloaded pool.reload_failed pool.removed
    worker.started worker.start_failed worker.recycled worker.health_check_failed worker.stopped
    worker.gil_enabled worker.thread_safety
    request.executed session.closed
  )

  # Measurements, metadata, entries of the log; statistics and workers (section 9).
  @keys ~w(
    workers startup_ms reload_ms queued attempt retry_in_ms uptime_ms requests queue_us run_us
    pool message traceback worker os_pid python reason status command outcome session
    gil module kind commands stderr
    source level line
    errors queue_timeouts pool_saturated available busy run_id pools
    state timeouts cancelled worker_crashes started start_failures sessions retries
    id memory_bytes memory_limit_bytes busy_ms waiting reload
  )

  @levels ~w(debug info warning error)

  # What a reload does to a pool (section 9.2).
  @changes ~w(added removed resized replaced unchanged)

  @event_of Map.new(@events, fn event ->
              {event, [:snakepit_port | Enum.map(String.split(event, "."), &String.to_atom/1)]}
            end)
  @key_of Map.new(@keys, &{&1, String.to_atom(&1)})
  @level_of Map.new(@levels, &{&1, String.to_atom(&1)})
  @change_of Map.new(@changes, &{&1, String.to_atom(&1)})

  @doc """
  The name of a telemetry event.

      iex> SnakepitPort.Names.event("worker.started")
      [:snakepit_port, :worker, :started]
      iex> SnakepitPort.Names.event("worker.promoted")
      [:snakepit_port, "worker", "promoted"]
  """
  @spec event(String.t()) :: [atom | String.t()]
  def event(name) do
    case @event_of do
      %{^name => words} -> words
      _ -> [:snakepit_port | String.split(name, ".")]
    end
  end

  @doc """
  A map with its known keys as atoms; values stay what they are.

      iex> SnakepitPort.Names.keys(%{"pool" => "default", "colour" => "red"})
      %{:pool => "default", "colour" => "red"}
  """
  @spec keys(map) :: map
  def keys(map), do: Map.new(map, fn {key, value} -> {Map.get(@key_of, key, key), value} end)

  @doc "What a reload does to a pool."
  @spec change(term) :: term
  def change(what), do: Map.get(@change_of, what, what)

  @doc "The Logger level of a log line."
  @spec level(term) :: Logger.level()
  def level(name), do: Map.get(@level_of, name, :info)
end
