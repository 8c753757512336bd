defmodule SnakepitPort.Error do
  @moduledoc """
  What went wrong with a call, or with the supervisor.

  `type` says what to do about it; section 11 of `protocol/SPEC.md` has the table. The other fields
  are `nil` (`problems`: empty) where they are not known.

    * `message` - what happened and what to do next, in a sentence or two
    * `exception`, `traceback` - the Python class and Python's own text of where it was raised
    * `pool`, `worker_id`, `command` - where
    * `signal`, `status`, `stderr` - of a worker or supervisor that died: the signal's name or the
      exit status, and the last lines a worker or its starter wrote to stderr
    * `problems` - of a configuration: maps with `:place`, `:message`, `:hint`, `:file`, `:line`

  `Exception.message/1` puts all of it into one text, and `inspect/2` shows that text after the type: so OTP's
  reports of a server that stopped, or could not start, can be read. `structs: false` shows the fields.
  """

  @types ~w(
    exception unknown_command bad_arguments decode encode frame_too_large timeout queue_timeout
    cancelled pool_saturated pool_unavailable unknown_pool worker_crashed worker_busy
    session_worker_unavailable session_limit not_a_stream_call not_a_stream unknown_tool tool_error unknown_control
    shutting_down supervisor_down protocol_error protocol_version config
  )a
  @type_of Map.new(@types, &{Atom.to_string(&1), &1})

  @longest_text 40_000

  @problem_keys ~w(place message hint file line)a

  @type t :: %__MODULE__{
          type: atom,
          message: String.t(),
          exception: String.t() | nil,
          traceback: String.t() | nil,
          pool: String.t() | nil,
          worker_id: String.t() | nil,
          command: String.t() | nil,
          signal: String.t() | nil,
          status: integer | nil,
          stderr: String.t() | nil,
          problems: [map]
        }

  defexception [
    :type,
    :message,
    :exception,
    :traceback,
    :pool,
    :worker_id,
    :command,
    :signal,
    :status,
    :stderr,
    problems: []
  ]

  @impl true
  def message(%__MODULE__{} = error) do
    [headline(error), problems_left(error), quoted(error)]
    |> List.flatten()
    |> Enum.join("\n")
  end

  @doc """
  The error a supervisor's error map stands for. A type this version does not know becomes
  `:unknown`, with its name in the message; values of the wrong kind are left out.
  """
  @spec from_wire(map) :: t
  def from_wire(map) do
    named = text(map, "type") || "no type"
    message = text(map, "message") || "the supervisor gave no message"

    {type, message} =
      case @type_of do
        %{^named => type} -> {type, message}
        _ -> {:unknown, "#{message} (an error of type #{inspect(named)})"}
      end

    %__MODULE__{
      type: type,
      message: message,
      exception: text(map, "exception"),
      traceback: text(map, "traceback"),
      pool: text(map, "pool"),
      worker_id: text(map, "worker"),
      command: text(map, "command"),
      signal: text(map, "signal"),
      status: with(status when not is_integer(status) <- map["status"], do: nil),
      stderr: text(map, "stderr"),
      problems: problems(map["problems"])
    }
  end

  @doc "The map that an error of this host's becomes for Python."
  @spec to_wire(t) :: map
  def to_wire(error) do
    for {key, value} <- [
          {"type", Atom.to_string(error.type)},
          {"message", error.message},
          {"traceback", error.traceback}
        ],
        is_binary(value),
        into: %{},
        do: {key, utf8(value)}
  end

  # An exception's message may hold any bytes, and any number of them; these fit into the smallest frame there is.
  defp utf8(text) do
    text = if String.valid?(text), do: text, else: inspect(text)
    if byte_size(text) <= @longest_text, do: text, else: beginning(text) <> "…"
  end

  defp beginning(text) do
    case :unicode.characters_to_binary(binary_part(text, 0, @longest_text)) do
      {:incomplete, whole, _} -> whole
      whole -> whole
    end
  end

  defp text(map, key) do
    case map do
      %{^key => value} when is_binary(value) -> if String.valid?(value), do: value
      _ -> nil
    end
  end

  defp problems(list) when is_list(list) do
    for %{} = problem <- list do
      Map.new(@problem_keys, &{&1, problem[Atom.to_string(&1)]})
    end
  end

  defp problems(_), do: []

  @doc "Its message and where it was, without what `Exception.message/1` quotes."
  @spec headline(t) :: String.t()
  def headline(error) do
    # Of others it is in the message, which says more than that.
    raised? = error.exception && error.type in [:exception, :bad_arguments]
    class = if raised?, do: "#{error.exception}: ", else: ""

    # Of a configuration it names what the supervisor was asked, which is none of the pools' commands.
    command = if error.type != :config, do: error.command

    where =
      for {word, value} when value != nil <- [
            command: command,
            pool: error.pool,
            worker: error.worker_id
          ],
          do: "#{word} #{value}"

    "#{class}#{error.message}" <> if(where == [], do: "", else: " (#{Enum.join(where, ", ")})")
  end

  # The supervisor's own message has them in it mostly.
  defp problems_left(error) do
    for problem <- error.problems,
        not Enum.all?([problem.place, problem.message], &says?(error.message, &1)),
        do: problem(problem)
  end

  defp says?(_, nil), do: true

  defp says?(text, words),
    do: is_binary(text) and is_binary(words) and String.contains?(text, words)

  defp problem(%{} = problem) do
    at =
      for {word, value} when value != nil <- [{"", problem.file}, {"line ", problem.line}],
          do: "#{word}#{value}"

    at = if at == [], do: "", else: "#{Enum.join(at, ", ")}, "
    place = if problem.place in [nil, ""], do: "", else: "#{problem.place}: "
    hint = if problem.hint in [nil, ""], do: "", else: " (#{problem.hint})"
    "  #{at}#{place}#{problem.message}#{hint}"
  end

  defp quoted(error) do
    for {title, text} when text not in [nil, ""] <- [
          {"Python's traceback:", error.traceback},
          {"The last words on stderr:", error.stderr}
        ],
        do: ["", title, String.trim_trailing(text)]
  end
end

defimpl Inspect, for: SnakepitPort.Error do
  # Not `Exception.message/1`: where that fails, it shows what `inspect/2` makes of the error.
  def inspect(error, opts) do
    "#SnakepitPort.Error<#{error.type}: #{SnakepitPort.Error.message(error)}>"
  rescue
    _ -> Inspect.Any.inspect(error, opts)
  end
end
