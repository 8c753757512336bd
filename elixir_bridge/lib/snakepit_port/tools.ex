defmodule SnakepitPort.Tools do
  @moduledoc """
  What running commands ask of this host: it runs tools for them, and passes their messages on (section 8 of
  `protocol/SPEC.md`).

  A process of its own, linked with the port's owner, which is not held up by what has to be decoded. Each tool
  runs in another one, linked with this, whose end without an answer is an answer like any other; its `$callers` are those
  of its command. When its call is over, or asks for the next one, or the server ends, it is told to exit with the reason
  `:shutdown`; one that traps exits is then left to itself.
  """

  use GenServer
  require Logger
  alias SnakepitPort.{Error, Frames, Link, Terms}

  @typedoc "Has as many arguments as the command gives it."
  @type tool :: fun

  @doc "Starts that of the calling process, for what comes over a link."
  @spec start_link(Link.t()) :: pid
  def start_link(link) do
    {:ok, pid} = GenServer.start(__MODULE__, {self(), link, Logger.metadata()})
    pid
  end

  @doc "Has commands find a function of this host by a name, until `remove/2`."
  @spec put(Link.t(), String.t(), tool) :: :ok
  def put(link, name, tool) do
    :ets.insert(link.table, {{:tool, name}, tool})
    :ok
  end

  @doc "Returns whether there was such a tool."
  @spec remove(Link.t(), String.t()) :: boolean
  def remove(link, name), do: :ets.take(link.table, {:tool, name}) != []

  @doc "Runs what a `tool` frame asks for. Never waits."
  @spec run(pid, binary) :: :ok
  def run(tools, frame), do: tell(tools, {:tool, frame})

  @doc "Passes on what a `send` frame holds. Never waits."
  @spec deliver(pid, binary) :: :ok
  def deliver(tools, frame), do: tell(tools, {:send, frame})

  @doc "Ends the tools of a call that is answered. Never waits."
  @spec close(pid, Frames.id()) :: :ok
  def close(tools, id), do: tell(tools, {:over, id})

  defp tell(tools, message) do
    send(tools, message)
    :ok
  end

  # -- the process --------------------------------------------------------------------------------

  @impl true
  def init({owner, link, metadata}) do
    Process.flag(:trap_exit, true)
    # The name of the server.
    Logger.metadata(metadata)
    # Not as OTP's parent: that it ends is no fault here, and not to be reported as one.
    Process.link(owner)
    {:ok, %{owner: owner, link: link, running: %{}}}
  end

  @impl true
  def handle_info({:tool, frame}, state) do
    case Frames.read(frame) do
      {:tool, id, number, name, args}
      when is_integer(id) and is_integer(number) and is_binary(name) and is_binary(args) ->
        state = no_longer(id, state)
        tools = self()
        link = state.link
        metadata = Logger.metadata()

        pid =
          spawn_link(fn ->
            Logger.metadata(metadata)
            Process.put(:"$callers", Link.callers(link, id))
            answer(link, id, number, result(link, name, args))
            send(tools, {:answered, self()})
          end)

        {:noreply, put_in(state.running[pid], {id, number})}

      _ ->
        Logger.warning("a frame that asks for a tool cannot be read, and is dropped")
        {:noreply, state}
    end
  end

  def handle_info({:send, frame}, state) do
    with {:send, pid, message} when is_pid(pid) <- Frames.read(frame),
         true <- is_binary(message),
         {:ok, message} <- Terms.decode(message, nil, "it holds") do
      # Another node may be slow to take it, and others are not to wait for that.
      if Process.send(pid, message, [:nosuspend]) != :ok,
        do: dropped("the node #{node(pid)} does not take more for now")
    else
      {:error, error} -> dropped(Exception.message(error))
      _ -> dropped("it is for no process that this node knows")
    end

    {:noreply, state}
  end

  def handle_info({:over, id}, state), do: {:noreply, no_longer(id, state)}

  def handle_info({:answered, pid}, state) do
    {:noreply, %{state | running: Map.delete(state.running, pid)}}
  end

  def handle_info({:EXIT, owner, _}, %{owner: owner} = state), do: {:stop, :normal, state}

  def handle_info({:EXIT, pid, reason}, state) do
    {asked, running} = Map.pop(state.running, pid)

    with {id, number} <- asked do
      message = "the process that ran it has ended: #{Exception.format_exit(reason)}"
      answer(state.link, id, number, {:error, failed(message)})
    end

    {:noreply, %{state | running: running}}
  end

  def handle_info(_unexpected, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state) do
    # This ends normally, which ends nobody who is linked.
    for {pid, _} <- state.running, do: Process.exit(pid, :shutdown)
  end

  # Nobody waits for what a call has asked until now.
  defp no_longer(id, state) do
    over = for {pid, {^id, _}} <- state.running, do: pid
    for pid <- over, do: Process.exit(pid, :shutdown)
    %{state | running: Map.drop(state.running, over)}
  end

  defp dropped(why), do: Logger.warning("a message from Python is dropped: " <> why)

  # -- a tool -------------------------------------------------------------------------------------

  defp result(link, name, args) do
    with {:ok, tool} <- find(link, name),
         {:ok, args} <- Terms.decode(args, nil, "its arguments hold"),
         :ok <- check_arity(tool, args),
         {:ok, value} <- call(name, tool, args) do
      Terms.arguments(value, nil, "the result")
    end
  end

  defp find(link, name) do
    case :ets.lookup(link.table, {:tool, name}) do
      [{_, tool}] ->
        {:ok, tool}

      [] ->
        names = :ets.select(link.table, [{{{:tool, :"$1"}, :_}, [], [:"$1"]}])
        # Comparing takes the product of both lengths.
        close = byte_size(name) < 100 && Enum.find(names, &(String.jaro_distance(&1, name) > 0.8))

        hint = if close, do: "; did you mean #{inspect(close)}?", else: ""
        known = if names == [], do: "none", else: names |> Enum.sort() |> Enum.join(", ")
        message = "the host has no such tool#{hint} (tools: #{known})"
        {:error, %Error{type: :unknown_tool, message: message}}
    end
  end

  defp check_arity(tool, args) do
    if is_list(args) and is_function(tool, length(args)) do
      :ok
    else
      {:arity, arity} = Function.info(tool, :arity)
      takes = if arity == 1, do: "1 argument", else: "#{arity} arguments"
      message = "it takes #{takes}, and was given #{inspect(args, limit: 5)}"
      {:error, %Error{type: :bad_arguments, message: message}}
    end
  end

  defp call(name, tool, args) do
    {:ok, apply(tool, args)}
  catch
    kind, reason ->
      Logger.warning("tool #{name} failed: " <> Exception.format(kind, reason, __STACKTRACE__))
      stacktrace = Exception.format_stacktrace(__STACKTRACE__)

      case reason do
        # Of a call that the tool has made. What that quotes says what its message says: as a message here it would
        # double with each tool that it passes.
        %Error{} when kind == :error ->
          message = "** (SnakepitPort.Error) #{Error.headline(reason)}"
          where = Enum.join(List.wrap(reason.traceback) ++ [stacktrace], "\n")
          {:error, %{failed(message) | traceback: where}}

        _ ->
          banner = Exception.format_banner(kind, reason, __STACKTRACE__)
          {:error, %{failed(banner) | traceback: stacktrace}}
      end
  end

  defp failed(message), do: %Error{type: :tool_error, message: message}

  defp answer(link, id, number, {:ok, term}) do
    frame = Frames.tool_result(id, number, term)

    size = IO.iodata_length(frame)

    if size <= link.max_frame_bytes do
      Link.tell(link, frame)
    else
      message =
        "the result takes a frame of #{size} bytes, over max_frame_bytes (#{link.max_frame_bytes})"

      answer(link, id, number, {:error, %Error{type: :frame_too_large, message: message}})
    end
  end

  defp answer(link, id, number, {:error, error}),
    do: Link.tell(link, Frames.tool_error(id, number, Error.to_wire(error)))
end
