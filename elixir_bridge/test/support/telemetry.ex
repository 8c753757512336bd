defmodule :telemetry do
  @moduledoc "Stands for the library of this name: gives a server's events to the process, or function, attached to it."

  def attach(server, to), do: :persistent_term.put({__MODULE__, server}, to)

  def execute(name, measurements, %{server: server} = metadata) do
    case :persistent_term.get({__MODULE__, server}, nil) do
      nil -> :ok
      fun when is_function(fun) -> fun.()
      pid -> send(pid, {:telemetry, name, measurements, metadata})
    end

    :ok
  end
end
