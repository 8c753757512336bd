defmodule SnakepitPort.SharedMemory do
  @moduledoc """
  The folder in shared memory through which large bytes travel: section 17 of `protocol/SPEC.md`.

  **Room.** A file's name holds its size, so making it is a claim that everybody sees. Then its writer
  adds up what is claimed, and takes its claim back if that is over the limit: so the limit is exact
  without a lock or a count.

  **Nothing stays.** Before a caller writes a file, and before the port's owner hands out an answer that
  names some, the names are put into the link's table. Whoever takes them from there removes the files:
  the caller when it is done, or the owner when it has died.
  """

  @enforce_keys [:folder, :threshold, :max_bytes]
  defstruct @enforce_keys

  @type t :: %__MODULE__{folder: String.t(), threshold: pos_integer, max_bytes: pos_integer}

  # As long as those that start later leave what a dead run has left in its folder: section 15 of the protocol.
  @patience 60_000

  @result ~r/\Aw[0-9]{1,9}-[0-9]{1,19}-[0-9]{1,9}-[1-9][0-9]{0,12}\z/

  @doc "From what a supervisor's hello says; `nil` if it has none."
  @spec new(term) :: t | nil
  def new(%{"folder" => folder, "threshold" => threshold, "max_bytes" => max_bytes})
      when is_binary(folder) and is_integer(threshold) and is_integer(max_bytes) do
    %__MODULE__{folder: folder, threshold: threshold, max_bytes: max_bytes}
  end

  def new(_), do: nil

  @doc """
  Writes a new file that the calling process answers for until `release/2`; `nil` if there is no room.
  """
  @spec write(t, :ets.tid(), binary) :: String.t() | nil
  def write(shm, table, data) do
    name = "h-#{System.unique_integer([:positive])}-0-#{byte_size(data)}"
    key = {:sent, self()}
    :ets.insert(table, {key, [name | names(table, key)]})
    path = path(shm, name)

    with {:ok, file} <- :file.open(path, [:raw, :write, :exclusive]) do
      written = if claimed(shm) <= shm.max_bytes, do: :file.write(file, data), else: :no_room
      :file.close(file)
      if written == :ok, do: kept(shm, table, name), else: remove(shm, [name])
    else
      {:error, _} -> nil
    end
  rescue
    # The table is gone, and so is the server.
    ArgumentError -> nil
  end

  # Whoever removes the folder has taken the table away before it looks: a file that was made while the
  # table was there is found, and any other is not left.
  defp kept(shm, table, name) do
    if there?(table) do
      name
    else
      remove(shm, [name])
      remove_folder(shm)
    end
  end

  defp there?(table), do: :ets.info(table, :id) != :undefined

  @doc """
  Removes the files that a row names, and the row; `names` are those to remove if the table is gone.

  A process of its own removes them: giving back large memory takes the system milliseconds, and
  nobody has to wait for that. The row goes last, so whatever dies in between, they are removed.
  """
  @spec release(t | nil, :ets.tid(), term, [String.t()]) :: nil
  def release(shm, table, key, names \\ [])
  def release(nil, _table, _key, _names), do: nil

  def release(shm, table, key, names) do
    for {_, [_ | _] = names} <- :ets.lookup(table, key) do
      spawn(fn ->
        remove(shm, names)
        # It may have been the last, of what `leave/2` has left.
        unless there?(table), do: remove_folder(shm)
      end)
    end

    :ets.delete(table, key)
    nil
  rescue
    # The server has gone, and removed everything but what was being read.
    ArgumentError ->
      remove(shm, names)
      remove_folder(shm)
  end

  @doc """
  Runs a function that may make calls with files, while this process waits for the answer to one that had some:
  that one's are left alone.
  """
  @spec set_aside(t | nil, :ets.tid(), (... -> result)) :: result when result: term
  def set_aside(nil, _table, fun), do: fun.()

  def set_aside(_shm, table, fun) do
    {sent, aside} = {{:sent, self()}, {:aside, self()}}
    names = names(table, sent)
    before = names(table, aside)
    move(table, [{aside, names ++ before}, {sent, []}])

    try do
      fun.()
    after
      move(table, [{sent, names}, {aside, before}])
    end
  end

  defp names(table, key) do
    for {_, names} <- :ets.lookup(table, key), name <- names, do: name
  rescue
    # The server is gone, and with it what is to be removed.
    ArgumentError -> []
  end

  # In this order: whatever ends the process in between, each name is in a row.
  defp move(table, rows) do
    for {key, names} <- rows do
      if names == [], do: :ets.delete(table, key), else: :ets.insert(table, {key, names})
    end
  rescue
    ArgumentError -> nil
  end

  @doc "Reads a file of a result. Throws `{:decode, message}` if it is not what its name says."
  @spec read(t | nil, String.t()) :: binary
  def read(nil, name), do: refuse(name, "and there is no shared memory here")

  def read(shm, name) do
    unless name =~ @result, do: refuse(name, "which is no name of a result's file")
    size = name |> String.split("-") |> List.last() |> String.to_integer()

    # Before it is opened: a pipe would keep a thread of the BEAM, and a link lead elsewhere.
    with {:ok, about} <- :file.read_link_info(path(shm, name), [:raw, time: :posix]),
         :ok <- check_file(name, about, size, shm),
         {:ok, file} <- :file.open(path(shm, name), [:raw, :read, :binary]) do
      # One more than there should be, to see that there is not.
      read = :file.read(file, size + 1)
      :file.close(file)

      case read do
        {:ok, data} when byte_size(data) == size -> data
        {:ok, data} -> refuse(name, "whose size is another (#{byte_size(data)} bytes were read)")
        other -> refuse(name, "which cannot be read: #{inspect(other)}")
      end
    else
      {:error, reason} -> refuse(name, "which cannot be read: #{:file.format_error(reason)}")
    end
  end

  defp check_file(name, about, size, shm) do
    case File.Stat.from_record(about) do
      %{type: :regular, size: ^size} when size <= shm.max_bytes ->
        :ok

      %{type: :regular, size: ^size} ->
        refuse(name, "which is larger than all of them may be (shm_max_bytes: #{shm.max_bytes})")

      %{type: :regular, size: other} ->
        refuse(name, "whose size is another (it has #{other} bytes)")

      _ ->
        refuse(name, "which is no file")
    end
  end

  defp refuse(name, why), do: throw({:decode, "a file, #{inspect(name)}, #{why}"})

  @doc "Removes files, as far as they are there. Names of others' are not followed."
  @spec remove(t, [String.t()]) :: nil
  def remove(shm, names) do
    for name <- names, not String.contains?(name, "/"), do: :file.delete(path(shm, name), [:raw])
    nil
  end

  @doc """
  Removes the folder when the supervisor is gone, and the table before that. Answers that their callers have
  yet to read stay for `patience` ms; the last of them takes the folder along.
  """
  @spec leave(t | nil, :ets.tid(), non_neg_integer) :: nil
  def leave(shm, table, patience \\ @patience)
  def leave(nil, _, _), do: nil

  def leave(shm, table, patience) do
    unread = for [names] <- :ets.match(table, {{:received, :_}, :"$1"}), name <- names, do: name
    :ets.delete(table)

    with {:ok, names} <- :file.list_dir(shm.folder) do
      remove(shm, Enum.map(names, &List.to_string/1) -- unread)
    end

    if unread != [], do: spawn(fn -> give_up(shm, unread, patience) end)
    remove_folder(shm)
  end

  # Nobody is left to tell of a caller that dies, or throws its answer away.
  defp give_up(shm, unread, patience) do
    receive do
    after
      patience -> remove(shm, unread)
    end

    remove_folder(shm)
  end

  defp remove_folder(shm) do
    :file.del_dir(shm.folder)
    nil
  end

  defp claimed(shm) do
    case :file.list_dir(shm.folder) do
      {:ok, names} -> names |> Enum.map(&size(&1, 0)) |> Enum.sum()
      {:error, _} -> :infinity
    end
  end

  # The number behind the last dash of a charlist.
  defp size([], size), do: size
  defp size([digit | rest], size) when digit in ?0..?9, do: size(rest, size * 10 + digit - ?0)
  defp size([_ | rest], _), do: size(rest, 0)

  defp path(shm, name), do: shm.folder <> "/" <> name
end
