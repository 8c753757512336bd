defmodule SnakepitPort.Span do
  @moduledoc """
  Tells `:telemetry` of a call, in the process that makes it.

  The events are those of `:telemetry.span/3` for `[:snakepit_port, :call]`; "Calls" in `SnakepitPort` lists them. What
  the supervisor tells of a call (`request.executed`) is what a worker did; this is what its caller saw: calls that
  were refused or never answered, too, and the time until the result was read.
  """

  alias SnakepitPort.{Call, Error}

  @enforce_keys [:began, :metadata]
  defstruct @enforce_keys

  @typedoc "A call that has begun; `nil` where there is no `:telemetry` to tell of it."
  @type t :: %__MODULE__{began: integer, metadata: map} | nil

  @typedoc "How a call ended. `:halted` is a stream whose consumer wanted no more."
  @type ending ::
          :ok
          | :halted
          | {:error, Error.t()}
          | {kind :: :error | :exit | :throw, reason :: term, Exception.stacktrace()}

  # It is no dependency.
  @compile {:no_warn_undefined, :telemetry}

  @doc "A call begins."
  @spec start(Call.t(), String.t()) :: t
  def start(call, command) do
    # Who attaches a handler has it loaded: every call asks this, and mostly there is none.
    if function_exported?(:telemetry, :execute, 3) do
      began = System.monotonic_time()

      metadata = %{
        server: call.server,
        pool: call.pool,
        command: command,
        session_id: call.wire["session"],
        stream: call.window != nil,
        telemetry_span_context: make_ref()
      }

      emit(:start, %{monotonic_time: began, system_time: System.system_time()}, metadata)
      %__MODULE__{began: began, metadata: metadata}
    end
  end

  @doc "A call has ended; `measurements` are told besides its `:duration`."
  @spec stop(t, ending, map) :: :ok
  def stop(span, ending, measurements \\ %{})
  def stop(nil, _ending, _measurements), do: :ok

  def stop(span, ending, measurements) do
    now = System.monotonic_time()
    measurements = Map.merge(measurements, %{monotonic_time: now, duration: now - span.began})
    {event, more} = told(ending)
    emit(event, measurements, Map.merge(span.metadata, more))
  end

  defp told({:error, %Error{} = error}), do: {:stop, %{outcome: error.type, error: error}}

  defp told({kind, reason, stacktrace}),
    do: {:exception, %{kind: kind, reason: reason, stacktrace: stacktrace}}

  defp told(outcome), do: {:stop, %{outcome: outcome}}

  defp emit(event, measurements, metadata),
    do: :telemetry.execute([:snakepit_port, :call, event], measurements, metadata)
end
