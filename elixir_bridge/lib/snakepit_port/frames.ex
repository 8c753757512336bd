defmodule SnakepitPort.Frames do
  @moduledoc """
  The protocol's frames as bytes (`protocol/SPEC.md`), without their length: `{packet, 4}` adds and
  takes that. Pure.

  The envelopes of the hot path are built and matched by hand, so that the arguments and results
  inside them, which are external terms already, are neither copied nor looked at.
  """

  alias SnakepitPort.Error

  @version 1

  @type id :: non_neg_integer

  # SMALL_TUPLE_EXT, and the tag as SMALL_ATOM_UTF8_EXT.
  @call5 <<131, 104, 5, 119, 4, "call">>
  @call6 <<131, 104, 6, 119, 4, "call">>
  @cancel <<131, 104, 2, 119, 6, "cancel">>
  @credit <<131, 104, 3, 119, 6, "credit">>
  @control <<131, 104, 4, 119, 7, "control">>
  @tool_result <<131, 104, 4, 119, 11, "tool_result">>
  @ping <<131, 104, 2, 119, 4, "ping">>
  @null <<119, 3, "nil">>

  @doc "The protocol version spoken here."
  def version, do: @version

  # -- to the supervisor --------------------------------------------------------------------------

  @spec hello(map) :: iodata
  def hello(info), do: :erlang.term_to_binary({:hello, @version, info}, minor_version: 2)

  @doc "`args` is the external term of the arguments; `options` may be empty, which is the leanest."
  @spec call(id, String.t() | nil, String.t(), iodata, map) :: iodata
  def call(id, pool, command, args, options) when options == %{} do
    [@call5, integer(id), name(pool), binary(command), binary(args)]
  end

  def call(id, pool, command, args, options) do
    <<131, options::binary>> = :erlang.term_to_binary(options, minor_version: 2)
    [@call6, integer(id), name(pool), binary(command), binary(args), options]
  end

  @spec cancel(id) :: iodata
  def cancel(id), do: [@cancel, integer(id)]

  @spec credit(id, non_neg_integer) :: iodata
  def credit(id, n), do: [@credit, integer(id), integer(n)]

  @spec control(id, String.t(), iodata) :: iodata
  def control(id, name, args), do: [@control, integer(id), binary(name), binary(args)]

  @doc "The answer to a tool frame; `term` is the external term of the result."
  @spec tool_result(id, non_neg_integer, iodata) :: iodata
  def tool_result(id, number, term),
    do: [@tool_result, integer(id), integer(number), binary(term)]

  @spec tool_error(id, non_neg_integer, map) :: iodata
  def tool_error(id, number, error),
    do: :erlang.term_to_binary({:tool_error, id, number, error}, minor_version: 2)

  @spec ping(id) :: iodata
  def ping(n), do: [@ping, integer(n)]

  defp name(nil), do: @null
  defp name(text), do: binary(text)

  defp binary(bytes) when is_binary(bytes), do: [<<109, byte_size(bytes)::32>>, bytes]
  defp binary(iodata), do: [<<109, IO.iodata_length(iodata)::32>> | iodata]

  defp integer(n) when n < 256, do: <<97, n>>
  defp integer(n) when n < 0x80000000, do: <<98, n::32>>

  defp integer(n) do
    <<131, bytes::binary>> = :erlang.term_to_binary(n)
    bytes
  end

  # -- from the supervisor ------------------------------------------------------------------------

  @doc """
  What the port's owner has to know of a frame, and no more:

    * `{:answer, id}` - belongs to whoever made call `id`, who reads it with `answer/1`
    * `{:answer, id, names}` - the same, and files go with it
    * `{:chunk, id}` - the same, and there is more to come
    * `{:tool, id}` - call `id` asks for a tool; `SnakepitPort.Tools` reads it
    * `:send` - a message to a process; the same
    * `{:progress, id, done, total}` - how far call `id` is
    * `:event`, `:log` - an event, a log line; `pool_event/1` and `SnakepitPort.Reporter` read it
    * `{:other, frame}` - the frame as a tuple
    * `:error` - not a frame
  """
  @spec sort(binary) ::
          {:answer, id}
          | {:answer, id, [String.t()]}
          | {:chunk, id}
          | {:tool, id}
          | :send
          | {:progress, id, number, number}
          | :event
          | :log
          | {:other, tuple}
          | :error
  def sort(<<131, 104, 3, 119, 6, "result", 98, 0::1, id::31, _::binary>>), do: {:answer, id}

  def sort(<<131, 104, 3, 119, 6, "result", 110, n, 0, id::little-unit(8)-size(n), _::binary>>),
    do: {:answer, id}

  def sort(<<131, 104, 3, 119, 5, "chunk", 98, 0::1, id::31, _::binary>>), do: {:chunk, id}
  def sort(<<131, 104, 3, 119, 5, "error", 98, 0::1, id::31, _::binary>>), do: {:answer, id}
  def sort(<<131, 104, 4, 119, 5, "event", _::binary>>), do: :event
  def sort(<<131, 104, 2, 119, 3, "log", _::binary>>), do: :log
  def sort(<<131, 104, 5, 119, 4, "tool", 98, 0::1, id::31, _::binary>>), do: {:tool, id}
  # Not looked at: a pid of another node may be an atom that this one does not know.
  def sort(<<131, 104, 3, 119, 4, "send", _::binary>>), do: :send

  def sort(frame) do
    case read(frame) do
      {:result, id, payload} when is_integer(id) and is_binary(payload) -> {:answer, id}
      {:result, id, payload, names} -> with_files(id, payload, names)
      {:error, id, %{}} when is_integer(id) -> {:answer, id}
      {:chunk, id, payload} when is_integer(id) and is_binary(payload) -> {:chunk, id}
      {:event, name, %{}, %{}} when is_binary(name) -> :event
      {:log, %{}} -> :log
      {:tool, id, number, name, args} -> asked(id, number, name, args)
      {:send, _pid, message} when is_binary(message) -> :send
      {:progress, id, done, total} -> progress(id, done, total)
      tuple -> if other?(tuple), do: {:other, tuple}, else: :error
    end
  end

  defp with_files(id, payload, names) do
    if is_integer(id) and is_binary(payload) and is_list(names) and
         List.improper?(names) == false and Enum.all?(names, &is_binary/1),
       do: {:answer, id, names},
       else: :error
  end

  defp asked(id, number, name, args) do
    if is_integer(id) and is_integer(number) and is_binary(name) and is_binary(args),
      do: {:tool, id},
      else: :error
  end

  defp progress(id, done, total) do
    if is_integer(id) and is_number(done) and is_number(total),
      do: {:progress, id, done, total},
      else: :error
  end

  # What else a supervisor may send; mentioned here, too, so that `:safe` decoding knows the tags.
  defp other?({:error, nil, %{}}), do: true
  defp other?({:hello, version, %{}}), do: is_integer(version) and version >= 0
  defp other?({:ready, %{}}), do: true
  defp other?({:pong, n}), do: is_integer(n)
  defp other?(_), do: false

  @doc """
  The content of an answer or a chunk: the external term of the value, or the error. Where files go
  with a result, its id and their names, too.
  """
  @spec answer(binary) ::
          {:result | :chunk, binary}
          | {:result, id, binary, [String.t()]}
          | {:error, Error.t()}
  def answer(<<131, 104, 3, 119, 6, "result", 98, _::32, 109, n::32, term::binary-size(n)>>) do
    {:result, term}
  end

  def answer(
        <<131, 104, 3, 119, 6, "result", 110, k, 0, _::binary-size(k), 109, n::32,
          term::binary-size(n)>>
      ) do
    {:result, term}
  end

  def answer(<<131, 104, 3, 119, 5, "chunk", 98, _::32, 109, n::32, term::binary-size(n)>>) do
    {:chunk, term}
  end

  def answer(frame) do
    case read(frame) do
      {tag, _id, term} when tag in [:result, :chunk] and is_binary(term) -> {tag, term}
      {:result, _id, _term, _names} = result -> result
      {:error, _id, %{} = error} -> {:error, Error.from_wire(error)}
      _ -> {:error, %Error{type: :protocol_error, message: "the answer is not a legal frame"}}
    end
  end

  @doc "Of an event about a pool: its name, the pool, and the metadata; else `nil`."
  @spec pool_event(binary) :: {String.t(), String.t(), map} | nil
  def pool_event(<<131, 104, 2, 119, 3, "log", _::binary>>), do: nil

  def pool_event(<<131, 104, 4, 119, 5, "event", 109, _::32, family::binary-size(5), _::binary>>)
      when family != "pool.",
      do: nil

  def pool_event(frame) do
    case read(frame) do
      {:event, name, _, %{"pool" => pool} = metadata} -> {name, pool, metadata}
      _ -> nil
    end
  end

  @doc "The whole frame as a tuple; `:error` if it is no term that may be read."
  @spec read(binary) :: tuple | :error
  def read(<<131, 80, _::binary>>), do: :error

  def read(frame) do
    case :erlang.binary_to_term(frame, [:safe, :used]) do
      {tuple, used} when is_tuple(tuple) and used == byte_size(frame) -> tuple
      _ -> :error
    end
  rescue
    ArgumentError -> :error
  end
end
