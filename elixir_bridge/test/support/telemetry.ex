defmodule :telemetry do
  @moduledoc "Stands for the library of this name: hands a server's events to the process attached to it."

  def attach(server, pid), do: :persistent_term.put({__MODULE__, server}, pid)

  def execute(name, measurements, %{server: server} = metadata) do
    if pid = :persistent_term.get({__MODULE__, server}, nil) do
      send(pid, {:telemetry, name, measurements, metadata})
    end

    :ok
  end
end
