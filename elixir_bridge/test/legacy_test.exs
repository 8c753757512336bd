defmodule SnakepitPort.LegacyTest do
  @moduledoc "Configurations of Snakepit: from the application's environment, as terms, from config.exs."
  # The environment of :snakepit is everybody's.
  use ExUnit.Case, async: false
  import ExUnit.CaptureIO
  import ExUnit.CaptureLog
  import SnakepitPort.Support, only: [name: 1, temporary_path: 1]
  alias Mix.Tasks.SnakepitPort.Convert
  alias SnakepitPort.Error
  alias SnakepitPort.Support.JSON

  @adapter """
  from snakepit_port.adapter import command

  class Adapter:
      @command
      def add(self, a, b):
          return a + b
  """

  setup do
    folder = temporary_path("legacy")
    File.mkdir_p!(folder)
    File.write!(Path.join(folder, "legacy_adapter.py"), @adapter)

    on_exit(fn ->
      File.rm_rf!(folder)
      for {key, _} <- Application.get_all_env(:snakepit), do: Application.delete_env(:snakepit, key)
    end)

    {:ok, folder: folder}
  end

  defp v05(folder) do
    [
      pooling_enabled: true,
      adapter_module: Snakepit.Adapters.GRPCPython,
      grpc_port: 50_051,
      pool_config: %{
        pool_size: 1,
        python_path: [folder],
        adapter_args: ["--adapter", "legacy_adapter.Adapter"]
      }
    ]
  end

  defp serves!(context, opts) do
    server = name(context)
    start_supervised!({SnakepitPort, [name: server, logs: false] ++ opts})
    assert SnakepitPort.await_ready(server) == :ok
    assert SnakepitPort.execute("add", [1, 2], server: server) == {:ok, 3}
    stop_supervised!(server)
  end

  test "without a configuration it is the application's, and the report is logged once", context do
    Application.put_all_env([{:snakepit, v05(context.folder)}])
    log = capture_log(fn -> serves!(context, []) end)
    assert log =~ "[info]"
    assert log =~ "pooling_enabled: kept"
    assert log =~ "grpc_port: no longer needed: there is no gRPC"
    assert log =~ ~s(pool_config.adapter_args: turned into adapter = "legacy_adapter:Adapter")
    refute capture_log(fn -> serves!(context, []) end) =~ "grpc_port"
  end

  test "what is not supported is a warning", context do
    old = v05(context.folder) ++ [circuit_breaker: [enabled: true]]
    Application.put_all_env(snakepit: old)

    log = capture_log(fn -> serves!(context, []) end)
    assert log =~ "[warning]"
    assert log =~ "circuit_breaker.enabled: not supported by this version"
  end

  test "v0.6's pools, as terms, whatever the application has", context do
    Application.put_env(:snakepit, :pool_size, 3)

    pool = %{
      name: :default,
      worker_profile: :process,
      pool_size: 1,
      adapter_module: Snakepit.Adapters.GRPCPython,
      adapter_args: ["--adapter", "legacy_adapter.Adapter"],
      adapter_env: [{"PYTHONPATH", context.folder}]
    }

    assert capture_log(fn -> serves!(context, config: [pools: [pool]]) end) =~ "adapter_env: kept"
  end

  test "mistakes name the keys that were written", context do
    config = v05(context.folder) |> Keyword.put(:pool_queue_timeout, "soon")
    config = Keyword.put(config, :grpc_prt, 1) |> Keyword.put(:python_executble, "python3")

    assert {:error, %Error{type: :config, problems: problems}} =
             SnakepitPort.start_link(name: name(context), config: config)

    assert Enum.map(problems, &{&1.place, &1.hint}) == [
             {"python_executble", "did you mean python_executable?"},
             {"pool_queue_timeout", "units: ms, s, m, h, d"}
           ]
  end

  test "without any configuration there is an error that says what to give", context do
    assert {:error, %Error{type: :config, message: message}} =
             SnakepitPort.start_link(name: name(context))

    assert message =~ ~r/there is no configuration: give config:.*or set config :snakepit/
  end

  test "what a release's sys.config sets is found, and what was set since wins", context do
    path = Path.join(context.folder, "sys.config")
    File.write!(path, "[{snakepit, [{pool_size, 1}, {grpc_port, 2}]}].")

    code =
      "Application.put_env(:snakepit, :grpc_port, 3); IO.inspect(Enum.sort(SnakepitPort.Legacy.config()))"

    args = ["--erl", "-config #{path}", "-pa", Mix.Project.compile_path(), "-e", code]
    assert System.cmd("elixir", args) == {"[grpc_port: 3, pool_size: 1]\n", 0}
  end

  test "a reload tells what became of the application's, and finds none when that is gone",
       context do
    # A report of its own: another test's is to be the first of its kind.
    Application.put_all_env([{:snakepit, v05(context.folder) ++ [pool_queue_timeout: 1_234]}])
    server = name(context)
    capture_log(fn -> start_supervised!({SnakepitPort, name: server, logs: false}) end)
    Application.put_env(:snakepit, :pool_queue_timeout, 2_345)
    log = capture_log(fn -> assert {:ok, _} = SnakepitPort.reload(server) end)
    assert log =~ "pool_queue_timeout: renamed to queue_timeout = 2345"
    for {key, _} <- Application.get_all_env(:snakepit), do: Application.delete_env(:snakepit, key)
    assert {:error, %Error{type: :config, message: message}} = SnakepitPort.reload(server)
    assert message =~ "there is no configuration: give config:"
  end

  # What a conversion prints; its notes are none of it.
  defp converted(args) do
    {printed, _notes} = with_io(:stderr, fn -> capture_io(fn -> Convert.run(args) end) end)
    printed
  end

  describe "mix snakepit_port.convert" do
    setup %{folder: folder} do
      File.write!(Path.join(folder, "config.exs"), """
      import Config
      config :snakepit, #{inspect(v05(folder), limit: :infinity)}
      config :other, key: 1
      import_config "\#{config_env()}.exs"
      """)

      File.write!(Path.join(folder, "prod.exs"), """
      import Config
      config :snakepit, pool_queue_timeout: :timer.seconds(2)
      """)

      File.write!(Path.join(folder, "runtime.exs"), """
      import Config
      if config_env() == :prod, do: config(:snakepit, pool_config: %{pool_size: 1 + 1})
      """)

      {:ok, args: ["--env", "prod", Path.join(folder, "config.exs")]}
    end

    test "writes a file that serves, and says nothing more", %{folder: folder} = context do
      path = Path.join(folder, "pools.toml")
      assert converted(context.args ++ ["-o", path]) == ""
      assert File.read!(path) =~ "queue_timeout = 2000  # was pool_queue_timeout"
      assert capture_log(fn -> serves!(context, config: path) end) == ""
    end

    test "reads several files, and prints the report", %{folder: folder} = context do
      args = context.args ++ [Path.join(folder, "runtime.exs")]
      # As in Mix, a map is replaced whole.
      assert converted(args) =~ "pool_size = 2"
      report = converted(args ++ ["--report"])
      assert report =~ "pool_queue_timeout: renamed to queue_timeout = 2000\n"
      assert "[{" <> _ = converted(args ++ ["--report", "--json"])
    end

    test "says what it is for, and of TOML what is", context do
      assert capture_io(fn -> Convert.run(["--help"]) end) =~
               "mix snakepit_port.convert config/config.exs"

      told = "old.toml is TOML, not Elixir: snakepit-port convert old.toml"
      assert_raise Mix.Error, told, fn -> Convert.run(["old.toml" | context.args]) end
    end

    test "leaves a file that is there alone, and says so once", %{folder: folder, args: args} do
      path = Path.join(folder, "pools.toml")
      File.write!(path, "mine")
      told = "#{path} is there already; --force writes over it"
      assert_raise Mix.Error, told, fn -> Convert.run(args ++ ["-o", path]) end
      assert File.read!(path) == "mine"
      assert converted(args ++ ["--force", "-o", path]) == ""
      assert File.read!(path) =~ "pool_size = 1"
    end

    test "hands the evaluated files over where nobody else reads them",
         %{folder: folder} = context do
      python = Path.join(folder, "python")
      File.write!(python, "#!/bin/sh\nls -ld \"$(dirname \"$5\")\"; test -s \"$5\" && exit 3\n")
      File.chmod!(python, 0o755)

      said =
        capture_io(fn ->
          error = catch_error(Convert.run(context.args ++ ["--python", python]))
          assert error.message == "#{python} -m snakepit_port convert ended with status 3"
          assert error.mix == 3
        end)

      assert ["drwx------" <> _ | words] = String.split(said)
      refute File.exists?(List.last(words))
    end

    test "says what is wrong", %{folder: folder} do
      path = Path.join(folder, "wrong.exs")
      File.write!(path, "import Config\nconfig :snakepit, adapter_module: My.Own\n")

      json =
        capture_io(fn ->
          # Nothing more is to be said.
          assert catch_exit(Convert.run([path, "--json"])) == {:shutdown, 78}
        end)

      assert json =~ "which Python adapter this module started cannot be told from it"

      File.write!(path, "import Config\nconfig :other, key: 1\n")
      told = ~r/no `config :snakepit` in .*, read for the environment test; .*--env prod/
      assert_raise Mix.Error, told, fn -> Convert.run([path]) end

      for {code, what} <- [
            {~s(import Config\nimport_config "nowhere.exs"\n), ~r/could not read .*nowhere.exs/},
            {"import Config\nconfig :snakepit, [\n", ~r/missing terminator/},
            {"import Config\nconfig :snakepit, )\n", ~r/wrong.exs:2/},
            {<<"import Config\n# ", 255>>, ~r/wrong.exs, or what it imports, is no text in UTF-8/},
            {"import Config\nconfig :snakepit, pools: [%{adapter_args: [~r/a/]}]\n",
             ~r"^pools\[0\].adapter_args\[0\]: TOML has nothing for ~r/a/; write"},
            {"import Config\nconfig :snakepit, adapter: <<255>>\n", ~r"^adapter: TOML has nothing"}
          ] do
        File.write!(path, code)
        assert_raise Mix.Error, what, fn -> Convert.run([path]) end
      end

      missing = Path.join(folder, "nofile.exs")

      assert_raise Mix.Error, ~s(could not read file "#{missing}": no such file or directory), fn ->
        Convert.run([missing])
      end

      assert_raise Mix.Error, ~r/which file/, fn -> Convert.run([]) end
    end

    test "says in JSON what is wrong, if it is asked for that", %{folder: folder, args: args} do
      path = Path.join(folder, "wrong.exs")
      File.write!(path, ~S|raise "no\n\\ \"way\""|)

      for {args, message} <- [
            {[path], "no\n\\ \"way\""},
            {["none.toml"], "none.toml is TOML, not Elixir: snakepit-port convert none.toml"},
            {args ++ ["-o", path], "#{path} is there already; --force writes over it"}
          ] do
        json =
          capture_io(fn ->
            assert catch_exit(Convert.run(args ++ ["--json"])) == {:shutdown, 1}
          end)

        assert %{"ok" => false, "error" => %{"message" => ^message}} = JSON.decode!(json)
      end
    end

    test "names the environment it has read for", %{args: args} do
      told = capture_io(:stderr, fn -> capture_io(fn -> Convert.run(args) end) end)
      assert told =~ "note: read for the environment prod; --env takes another"
    end

    test "reads files that need the project, and prints nothing but the result", context do
      %{folder: folder} = context
      lib = Path.join(folder, "lib")
      File.mkdir!(lib)

      File.write!(Path.join(folder, "mix.exs"), """
      defmodule Needed.MixProject do
        use Mix.Project
        def project, do: [app: :needed, version: "0.1.0"]
      end
      """)

      File.write!(Path.join(lib, "needed.ex"), "defmodule Needed, do: def(size, do: 3)")

      File.write!(Path.join(folder, "runtime.exs"), """
      import Config
      config :snakepit, pooling_enabled: true, adapter_module: Snakepit.Adapters.GRPCPython,
        pool_config: %{
          pool_size: Needed.size(),
          python_path: [Application.app_dir(:needed)],
          adapter_args: ["--adapter", "a.B"]
        }
      """)

      mix = fn args ->
        libs = Path.join(Mix.Project.build_path(), "lib")
        command = "mix snakepit_port.convert runtime.exs #{args} 2>stderr"
        env = [{"ERL_LIBS", libs}, {"MIX_ENV", "dev"}, {"MIX_BUILD_PATH", nil}]
        System.cmd("/bin/sh", ["-c", command], cd: folder, env: env)
      end

      assert {"", 1} = mix.("--no-compile")
      assert File.read!(Path.join(folder, "stderr")) =~ "Needed.size/0 is undefined"
      assert {toml, 0} = mix.("")
      assert File.read!(Path.join(folder, "stderr")) =~ "Compiling 1 file"
      assert "#" <> _ = toml
      assert toml =~ "pool_size = 3"
      assert toml =~ "_build/dev/lib/needed"
      File.write!(Path.join(lib, "broken.ex"), "defmodule Broken, do: none()")
      assert {"{" <> json, 1} = mix.("--json")
      assert json =~ "the project does not compile; --no-compile"
    end
  end
end
