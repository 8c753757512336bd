defmodule SnakepitPort.Terms do
  @moduledoc """
  Arguments and results, as the opaque binaries in which frames carry them.

  Both directions run in the caller's process: a large result costs the caller, not the port's owner.
  """

  alias SnakepitPort.{Bulk, Error, Link, SharedMemory, Tensor, UnknownAtom}

  @compressed 80
  @export_ext 113
  @new_fun_ext 112

  # Named in the module that decodes with `:safe`: others may not be loaded yet.
  @doc false
  def atoms, do: [:nan, :infinity, :neg_infinity, :s, :u, :f, :bf, :c]

  @doc "One external term. Atoms are written as UTF-8, as the protocol recommends."
  @spec encode(term) :: binary
  def encode(term), do: :erlang.term_to_binary(term, minor_version: 2)

  @doc """
  Arguments as one external term; with `:files` if bytes were written to files, for which the calling
  process then answers (`SnakepitPort.SharedMemory`). An error of type `:encode` for a tensor that is
  none; its message begins with `what`.
  """
  @spec arguments(term, Link.t() | nil, String.t()) ::
          {:ok | :files, iodata} | {:error, Error.t()}
  def arguments(term, link, what \\ "the arguments") do
    threshold = threshold(link)

    if :erlang.external_size(term) >= threshold do
      if Bulk.packable?(term, threshold),
        do: pack(term, link, what),
        else: {:ok, :erlang.term_to_iovec(term, minor_version: 2)}
    else
      binary = encode(term)
      if mentions?(binary, Tensor), do: pack(term, nil, what), else: {:ok, binary}
    end
  end

  defp threshold(%{shm: %{threshold: threshold}}), do: threshold
  # An atom is larger than any number.
  defp threshold(_), do: :infinity

  defp pack(term, link, what) do
    if link, do: Link.watch(link)
    put = if link, do: &put(&1, link), else: fn _ -> nil end
    packed = :erlang.term_to_iovec(Bulk.pack(term, put), minor_version: 2)
    {if(link, do: :files, else: :ok), packed}
  catch
    kind, reason ->
      # Nobody else would before this process ends, or makes another call that has files.
      if link, do: SharedMemory.release(link.shm, link.table, {:sent, self()})

      case {kind, reason} do
        {:throw, {:encode, message}} ->
          {:error, %Error{type: :encode, message: "#{what} cannot be sent: #{message}"}}

        _ ->
          :erlang.raise(kind, reason, __STACKTRACE__)
      end
  end

  defp put(data, link) do
    if byte_size(data) >= link.shm.threshold, do: SharedMemory.write(link.shm, link.table, data)
  end

  # An atom cannot be there without its name, and looking for that is nearly free, with a
  # pattern that is compiled once.
  defp mentions?(binary, atom) do
    pattern =
      case :persistent_term.get({__MODULE__, atom}, nil) do
        nil ->
          pattern = :binary.compile_pattern(Atom.to_string(atom))
          :persistent_term.put({__MODULE__, atom}, pattern)
          pattern

        pattern ->
          pattern
      end

    :binary.match(binary, pattern) != :nomatch
  end

  @doc """
  Reads what Python sent. An error of type `:decode` for what must not be read: atoms this BEAM does
  not know (they would stay for ever), compressed terms (a small one can inflate to gigabytes),
  external funs and those of `:erl_eval` (whoever calls what it was given would run Python's choice of code; of other
  funs Python can make some, too: call none that comes from there, unless you know what it is), bytes after the term, files that are not there or not what their names say, and anything
  that is no term. The message begins with `holds`.
  """
  @spec decode(binary, SharedMemory.t() | nil, String.t()) :: {:ok, term} | {:error, Error.t()}
  def decode(binary, shm \\ nil, holds \\ "the result holds") do
    with {:refuse, what} <- read(binary, shm),
         do: {:error, %Error{type: :decode, message: "#{holds} #{what}, and was not read"}}
  end

  defp read(<<131, @compressed, _::binary>>, _), do: {:refuse, "a compressed term"}

  defp read(binary, shm) do
    {term, used} = :erlang.binary_to_term(binary, [:safe, :used])

    cond do
      used != byte_size(binary) ->
        {:refuse, "#{byte_size(binary) - used} bytes after the term"}

      foreign_fun?(binary, term) ->
        {:refuse, "a fun that Python can have made, like &Module.function/1"}

      mentions?(binary, :"$tensor") or mentions?(binary, :"$shm") ->
        unpack(term, shm)

      true ->
        {:ok, term}
    end
  rescue
    ArgumentError -> {:refuse, why_unreadable(binary)}
  end

  defp unpack(term, shm) do
    {:ok, Bulk.unpack(term, &SharedMemory.read(shm, &1))}
  catch
    {:decode, what} -> {:refuse, what}
  end

  # A fun cannot be there without the byte of its tag, and looking for a byte is nearly free.
  defp foreign_fun?(binary, term) do
    (:binary.match(binary, <<@export_ext>>) != :nomatch or
       :binary.match(binary, <<@new_fun_ext>>) != :nomatch) and foreign_fun?(term)
  end

  defp foreign_fun?([head | tail]), do: foreign_fun?(head) or foreign_fun?(tail)
  defp foreign_fun?(term) when is_tuple(term), do: foreign_fun?(Tuple.to_list(term))
  defp foreign_fun?(term) when is_map(term), do: foreign_fun?(:maps.to_list(term))

  defp foreign_fun?(fun) when is_function(fun) do
    info = Function.info(fun)

    # `erl_eval` runs what stands in the variables of its funs.
    info[:type] == :external or info[:module] == :erl_eval or foreign_fun?(info[:env])
  end

  defp foreign_fun?(_), do: false

  defp why_unreadable(binary) do
    case UnknownAtom.find(binary) do
      {:ok, name} ->
        "the atom #{inspect(name)}, which this BEAM does not know; return a string instead, or " <>
          "mention the atom in Elixir code that is loaded"

      :error ->
        "nothing this BEAM can read"
    end
  end
end
