defmodule SnakepitPort.Program do
  @moduledoc """
  The supervisor as an operating system process: finding its interpreter, starting it, saying how it
  ended, and ending it.
  """

  alias SnakepitPort.Error

  # The virtual environment of a checkout of the whole repository, which is this project's parent.
  @checkout Path.expand("../../..", __DIR__)

  # From the numbers that Linux and macOS share.
  @signals %{
    1 => "SIGHUP",
    2 => "SIGINT",
    3 => "SIGQUIT",
    4 => "SIGILL",
    6 => "SIGABRT",
    8 => "SIGFPE",
    9 => "SIGKILL",
    11 => "SIGSEGV",
    13 => "SIGPIPE",
    15 => "SIGTERM"
  }

  @last_words 1_000

  @doc """
  Starts the supervisor; its port belongs to the calling process. `config_file` may be `nil`.
  """
  @spec open(String.t() | nil, String.t() | nil) :: {:ok, port} | {:error, Error.t()}
  def open(python, config_file) do
    # -P: a file of the working directory must not be imported in place of a library.
    serve = ["-P", "-m", "snakepit_port", "serve"]
    args = if config_file, do: serve ++ ["--config", Path.expand(config_file)], else: serve

    with {:ok, executable} <- interpreter(python) do
      options = [:binary, :exit_status, :use_stdio, :hide, packet: 4, args: args]

      try do
        {:ok, Port.open({:spawn_executable, executable}, options)}
      rescue
        error in ErlangError ->
          config_error("#{executable} cannot be started: #{inspect(error.original)}")
      end
    end
  end

  @doc """
  The supervisor's interpreter: what is given, else `$SNAKEPIT_PORT_PYTHON`, else `.venv/bin/python`
  of the repository this project was compiled in, else `python3` on `PATH`. A release runs elsewhere, where
  anybody may have made a folder of that name: there that is left out.
  """
  @spec interpreter(String.t() | nil, %{String.t() => String.t()}) ::
          {:ok, String.t()} | {:error, Error.t()}
  def interpreter(python, env \\ System.get_env())

  def interpreter(nil, env) do
    checkout = Path.join(@checkout, ".venv/bin/python")

    case env do
      %{"SNAKEPIT_PORT_PYTHON" => named} when named != "" -> interpreter(named, env)
      %{"RELEASE_ROOT" => _} -> interpreter("python3", env)
      _ -> interpreter(if(File.exists?(checkout), do: checkout, else: "python3"), env)
    end
  end

  def interpreter(python, _env) do
    path = if String.contains?(python, "/"), do: Path.expand(python), else: python

    case System.find_executable(path) do
      nil ->
        config_error(
          "there is no Python interpreter #{path}; give python: the path of one that has " <>
            "snakepit-port installed, or set SNAKEPIT_PORT_PYTHON"
        )

      found ->
        {:ok, found}
    end
  end

  @doc "Why the supervisor is gone, from its exit status as a port reports it."
  @spec exit_error(non_neg_integer) :: Error.t()
  def exit_error(status) when status > 128 do
    signal = Map.get(@signals, status - 128, "signal #{status - 128}")
    why = if signal == "SIGKILL", do: " (perhaps out of memory?)", else: ""
    message = "the supervisor was killed by #{signal}#{why}"
    %Error{type: :supervisor_down, message: message, signal: signal, status: status}
  end

  # Its server has not asked it to: that awaits this status, and tells nobody.
  def exit_error(0) do
    message =
      "the supervisor has stopped, as somebody else told it to by SIGTERM, SIGINT or SIGHUP (systemd does that, " <>
        "unless the unit has KillMode=mixed)"

    %Error{type: :supervisor_down, message: message, status: 0}
  end

  def exit_error(status), do: exited(status)

  defp exited(status) do
    message = "the supervisor exited with status #{status}"
    %Error{type: :supervisor_down, message: message, status: status}
  end

  @doc "`exit_error/1` of a supervisor that has not said hello, and what to do about its interpreter."
  @spec exit_before_hello(non_neg_integer, String.t() | nil, %{String.t() => String.t()}) ::
          Error.t()
  def exit_before_hello(status, python, env \\ System.get_env()) do
    # With 0 any program may have ended, that is none.
    %{message: message} = error = if status == 0, do: exited(0), else: exit_error(status)
    %{error | message: "#{message}, before it said hello#{remedy(status, python, env)}"}
  end

  @doc "As `exit_before_hello/2`, of one whose port has ended first, and with it what tells its status."
  @spec end_before_hello(term, String.t() | nil) :: Error.t()
  def end_before_hello(reason, python) do
    message = "the supervisor closed its input, or died, before it said hello (#{inspect(reason)})"

    %Error{type: :supervisor_down, message: message <> remedy(1, python, System.get_env())}
  end

  # 1: Python has no such module, or that lacks one it needs. 2: it is too old to know -P. 126 and 127: a
  # shell, or what stands in for one as pyenv does, cannot run it or has not found it.
  defp remedy(status, python, env) when status in [1, 2, 126, 127] do
    {:ok, python} = interpreter(python)
    project = Path.join(@checkout, "pyproject.toml")
    package = if File.exists?(project), do: @checkout, else: "PATH-OR-GIT-URL-OF-SNAKEPIT-PORT"

    ". Its interpreter, #{python}, has to be Python 3.11 or newer with snakepit-port installed: run " <>
      "#{python} -m pip install #{package}, or give python: another interpreter#{suspects(env)}"
  end

  defp remedy(_, _, _), do: "; what it wrote to stderr may say why"

  # Variables that can keep any Python from starting, or from finding what is installed.
  defp suspects(env) do
    case for name <- ~w(PYTHONHOME PYTHONPATH PYTHONIOENCODING), env[name], do: "$" <> name do
      [] -> ""
      set -> ". If it is, what it wrote to stderr says why; #{Enum.join(set, ", ")} may be to blame"
    end
  end

  @doc "Sends a signal (`\"TERM\"`, `\"KILL\"`). The process may be gone already."
  @spec signal(pos_integer | nil, String.t()) :: :ok
  def signal(nil, _), do: :ok

  def signal(os_pid, name) do
    # By the shell's own kill: a slim container has no program of that name.
    System.cmd("/bin/sh", ["-c", "kill -#{name} #{os_pid}"], stderr_to_stdout: true)
    :ok
  end

  @doc """
  Kills it, and waits until it is gone. What it leaves behind ends by itself: that is the supervisor's
  part of the bargain.
  """
  @spec kill(port, pos_integer | nil) :: :ok
  def kill(port, os_pid) do
    receive do
      # The number may be another process's by now.
      {^port, {:exit_status, _}} -> :ok
    after
      0 ->
        signal(os_pid, "KILL")
        await_exit(port)
        :ok
    end
  end

  @doc "Whether it exits within #{@last_words} ms."
  @spec await_exit(port) :: boolean
  def await_exit(port) do
    receive do
      {^port, {:exit_status, _}} -> true
    after
      @last_words -> false
    end
  end

  defp config_error(message), do: {:error, %Error{type: :config, message: message}}
end
