defmodule Vectors.Frames do
  import Vectors

  @ids [
    0,
    255,
    256,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    0x100000000,
    0xFFFFFFFFFFFFFFF
  ]

  @error_types ~w(
    exception unknown_command bad_arguments decode encode frame_too_large timeout queue_timeout
    cancelled pool_saturated pool_unavailable unknown_pool worker_crashed worker_busy
    session_worker_unavailable session_limit not_a_stream_call not_a_stream unknown_tool tool_error unknown_control
    shutting_down protocol_error protocol_version config
  )

  def cases do
    Enum.concat([
      greetings(),
      calls(),
      answers(),
      errors(),
      streams(),
      tools(),
      controls(),
      reports(),
      other_encodings()
    ])
  end

  # -- ways to make a case --------------------------------------------------------------------------

  # The BEAM writes the frame, in the encoding that SPEC.md recommends.
  defp of(name, from, tag, elements) do
    value = tuple([atom(tag) | elements])
    make(name, from, external(term(value)), true, value)
  end

  # The BEAM has to read the bytes as the frame.
  defp read(name, from, bytes, tag, elements) do
    value = tuple([atom(tag) | elements])
    term = term(value)
    ^term = :erlang.binary_to_term(bytes)
    make(name, from, bytes, false, value)
  end

  defp make(name, from, bytes, recommended, value) do
    %{name: name, from: from, bytes: hex(bytes), recommended: recommended, frame: value}
  end

  defp payload(value), do: binary(external(term(value)))
  defp texts(pairs), do: map(Enum.map(pairs, fn {key, text} -> {str(key), str(text)} end))

  # -- hello, ready, failed -------------------------------------------------------------------------

  defp greetings do
    [
      of("hello of a host", "host", :hello, [
        int(1),
        map([
          {str("max_frame_bytes"), int(67_108_864)},
          {str("software"), str("snakepit_port 0.1.0")}
        ])
      ]),
      of("hello with a configuration", "host", :hello, [
        int(1),
        map([
          {str("base_dir"), str("/srv/app")},
          {str("config"),
           map([
             {str("pools"),
              list([map([{str("adapter"), str("my_app.adapter")}, {str("name"), str("default")}])])}
           ])},
          {str("max_frame_bytes"), int(131_072)}
        ])
      ]),
      of("hello with a configuration as a keyword list", "host", :hello, [
        int(1),
        map([{str("config"), list([tuple([atom("pools"), list([])])])}])
      ]),
      of("hello of another version", "host", :hello, [int(300), map([])]),
      of("hello of a supervisor", "supervisor", :hello, [
        int(1),
        map([
          {str("call_timeouts"), map([{str("default"), int(60_000)}])},
          {str("capabilities"), list([str("streams"), str("sessions")])},
          {str("max_frame_bytes"), int(67_108_864)},
          {str("os_pid"), int(4711)},
          {str("pools"),
           list([
             map([
               {str("name"), str("default")},
               {str("pool_size"), int(4)},
               {str("worker_profile"), str("process")}
             ])
           ])},
          {str("python"), str("3.11.7")},
          {str("run_id"), str("4711-1385198-0a1b2c")},
          {str("software"), str("snakepit-port 0.1.0")},
          {str("stop_time"), int(10_000)}
        ])
      ]),
      of("hello of a supervisor with shared memory", "supervisor", :hello, [
        int(1),
        map([
          {str("capabilities"), list([str("shm")])},
          {str("max_frame_bytes"), int(67_108_864)},
          {str("shm"),
           map([
             {str("folder"), str("/dev/shm/snakepit-port-4711-1385198-0a1b2c")},
             {str("max_bytes"), int(1_073_741_824)},
             {str("threshold"), int(262_144)}
           ])}
        ])
      ]),
      of("hello to a worker", "pool", :hello, [
        int(1),
        map([
          {str("adapter"), str("my_app.adapter:Model")},
          {str("adapter_args"), map([{str("path"), str("model.bin")}])},
          {str("direct_calls"), list([])},
          {str("max_answer_bytes"), int(1_048_576)},
          {str("max_frame_bytes"), int(67_108_864)},
          {str("pool"), str("default")},
          {str("python_path"), list([str("/srv/app/lib")])},
          {str("software"), str("snakepit-port 0.1.0")},
          {str("thread_safety_checks"), atom(false)},
          {str("threads"), atom(nil)},
          {str("tools"), atom(true)},
          {str("unsafe_modules"), map([])},
          {str("worker"), str("default-1")}
        ])
      ]),
      of("hello of a worker", "worker", :hello, [
        int(1),
        map([
          {str("executable"), str("/usr/bin/python3")},
          {str("os_pid"), int(4712)},
          {str("python"), str("3.9.18")},
          {str("software"), str("snakepit-port 0.1.0")}
        ])
      ]),
      of("ready of a supervisor", "supervisor", :ready, [
        map([{str("pools"), texts([{"default", "ready"}, {"gpu", "unavailable"}])}])
      ]),
      of("ready of a worker", "worker", :ready, [
        map([
          {str("commands"), list([str("add"), str("größe")])},
          {str("gil"), atom(true)},
          {str("idempotent"), list([str("add")])},
          {str("thread_safe"), atom(nil)}
        ])
      ]),
      of("failed", "worker", :failed, [
        texts([
          {"exception", "ModuleNotFoundError"},
          {"message", "No module named 'numpy'"},
          {"traceback", "Traceback (most recent call last):\n"},
          {"type", "pool_unavailable"}
        ])
      ])
    ]
  end

  # -- calls and their answers ----------------------------------------------------------------------

  defp calls do
    args = payload(ints([1, 300]))

    for id <- @ids do
      of("call #{id}", "host", :call, [int(id), str("default"), str("add"), args])
    end ++
      [
        of("call to no named pool", "host", :call, [int(300), atom(nil), str("add"), args]),
        of("call to a pool named nil", "host", :call, [int(300), str("nil"), str("add"), args]),
        of("call with keywords", "host", :call, [
          int(300),
          str("default"),
          str("add"),
          payload(map([{str("a"), int(1)}, {str("b"), bytes(<<255>>)}]))
        ]),
        of("call with names beyond ASCII", "host", :call, [
          int(300),
          str("größe"),
          str("計算"),
          args
        ]),
        of("call of a function by module", "host", :call, [
          int(300),
          str("default"),
          str("math:sqrt"),
          args
        ]),
        of("call with empty names", "host", :call, [int(300), str(""), str(""), args]),
        of("call with arguments that are no term", "host", :call, [
          int(300),
          str("default"),
          str("add"),
          binary(<<255, 0>>)
        ]),
        of("call with a timeout", "host", :call, [
          int(300),
          str("default"),
          str("add"),
          args,
          map([{str("timeout"), int(5000)}])
        ]),
        of("call with every option", "host", :call, [
          int(300),
          atom(nil),
          str("add"),
          args,
          map([
            {str("queue_timeout"), atom(nil)},
            {str("session"), str("user-7")},
            {str("stream"), int(16)},
            {str("timeout"), int(60_000)}
          ])
        ]),
        of("call with an option of a later version", "host", :call, [
          int(7),
          str("default"),
          str("add"),
          args,
          map([{str("priority"), list([int(1), map([])])}])
        ]),
        of("cancel", "host", :cancel, [int(300)])
      ]
  end

  defp answers do
    for id <- @ids do
      of("result #{id}", "supervisor", :result, [int(id), payload(int(42))])
    end ++
      [
        of("result with a file", "supervisor", :result, [
          int(300),
          binary(external({:"$shm", "w1-300-0-262144"})),
          list([str("w1-300-0-262144")])
        ]),
        of("result with two files and a large identifier", "supervisor", :result, [
          int(0x100000000),
          payload(int(42)),
          list([str("w12-4294967296-0-300000"), str("w12-4294967296-1-400000")])
        ]),
        of("result of 300 bytes", "supervisor", :result, [
          int(300),
          payload(str(String.duplicate("x", 300)))
        ]),
        of("result that is not looked into", "supervisor", :result, [int(300), binary("")])
      ]
  end

  defp errors do
    for id <- @ids do
      of("error #{id}", "supervisor", :error, [
        int(id),
        texts([{"message", "The deadline passed."}, {"type", "timeout"}])
      ])
    end ++
      for type <- @error_types do
        of("error of type #{type}", "supervisor", :error, [
          int(300),
          texts([{"message", "What happened."}, {"type", type}])
        ])
      end ++
      [
        of("error of a command", "supervisor", :error, [
          int(300),
          texts([
            {"command", "add"},
            {"exception", "json.decoder.JSONDecodeError"},
            {"message", "Expecting value – line 1"},
            {"pool", "default"},
            {"traceback", "Traceback (most recent call last):\n  File \"adapter.py\", line 3\n"},
            {"type", "exception"},
            {"worker", "default-1"}
          ])
        ]),
        of("error of a worker killed", "supervisor", :error, [
          int(300),
          texts([
            {"message", "The worker was killed."},
            {"signal", "SIGKILL"},
            {"stderr", "last words\n"},
            {"type", "worker_crashed"}
          ])
        ]),
        of("error of a worker that exited", "supervisor", :error, [
          int(300),
          map([
            {str("message"), str("The worker exited.")},
            {str("status"), int(3)},
            {str("type"), str("worker_crashed")}
          ])
        ]),
        of("error of a later version", "supervisor", :error, [
          int(300),
          map([
            {str("advice"), list([str("wait")])},
            {str("message"), str("What happened.")},
            {str("type"), str("unheard_of")}
          ])
        ]),
        of("error of no call", "supervisor", :error, [
          atom(nil),
          texts([{"message", "A frame is not legal."}, {"type", "protocol_error"}])
        ]),
        of("error of a configuration", "supervisor", :error, [
          atom(nil),
          map([
            {str("message"), str("The configuration has one mistake.")},
            {str("problems"),
             list([
               map([
                 {str("file"), str("snakepit.toml")},
                 {str("hint"), str("did you mean pool_size?")},
                 {str("line"), int(3)},
                 {str("message"), str("unknown key")},
                 {str("place"), str("pools[0].pool_sise")}
               ])
             ])},
            {str("type"), str("config")}
          ])
        ])
      ]
  end

  defp streams do
    [
      of("chunk", "supervisor", :chunk, [int(300), payload(list([float(0.5)]))]),
      of("chunk 7", "supervisor", :chunk, [int(7), payload(atom(nil))]),
      of("chunk of a large identifier", "supervisor", :chunk, [
        int(0x100000000),
        payload(tuple([]))
      ]),
      of("chunk of 300 bytes", "supervisor", :chunk, [
        int(0x7FFFFFFF),
        payload(str(String.duplicate("x", 300)))
      ]),
      of("chunk that is not looked into", "supervisor", :chunk, [int(300), binary("")]),
      of("call for a stream", "host", :call, [
        int(300),
        atom(nil),
        str("count"),
        payload(ints([3])),
        map([{str("stream"), int(0)}])
      ]),
      of("credit", "host", :credit, [int(300), int(16)]),
      of("credit of nothing", "host", :credit, [int(0), int(0)]),
      of("credit without end", "host", :credit, [int(300), int(0xFFFFFFFFFFFFFFF)])
    ]
  end

  # -- tools, messages, control calls ---------------------------------------------------------------

  defp tools do
    [
      of("tool", "supervisor", :tool, [int(300), int(1), str("lookup"), payload(ints([1]))]),
      of("tool result", "host", :tool_result, [int(300), int(1), payload(str("found"))]),
      of("tool error", "host", :tool_error, [
        int(300),
        int(1),
        texts([{"message", "There is no tool lookup."}, {"type", "unknown_tool"}])
      ]),
      of("send", "supervisor", :send, [pid(), payload(tuple([atom("progress"), int(5)]))]),
      of("progress", "supervisor", :progress, [int(300), int(5), int(2000)]),
      of("progress in floats", "supervisor", :progress, [int(300), float(0.5), float(1.0)])
    ]
  end

  defp pid, do: opaque("pid", <<88, 119, 13, "nonode@nohost", 50::32, 0::32, 0::32>>)

  defp controls do
    some = payload(map([{str("pool"), str("default")}]))

    for name <- ~w(stats workers recycle reload stacks close_session) do
      of("control call #{name}", "host", :control, [int(300), str(name), some])
    end ++
      for id <- @ids do
        of("control call #{id}", "host", :control, [int(id), str("stats"), payload(map([]))])
      end ++
      [
        of("recall", "pool", :recall, [list([int(300), int(301)])]),
        of("recalled", "worker", :recalled, [list([int(301)])]),
        of("ping", "host", :ping, [int(7)]),
        of("pong", "supervisor", :pong, [int(7)]),
        # 18 bytes with their length: shorter than any result.
        of("pong 1000", "supervisor", :pong, [int(1000)]),
        of("ping of a large number", "host", :ping, [int(0x7FFFFFFFFFFFFFFFFFFF)])
      ]
  end

  # -- events and logs ------------------------------------------------------------------------------

  @events [
    {"pool.ready", ~w(startup_ms workers), ~w(pool)},
    {"pool.unavailable", [], ~w(message pool stderr traceback)},
    {"pool.saturated", ~w(queued), ~w(pool)},
    {"pool.reloaded", ~w(reload_ms workers), ~w(pool)},
    {"pool.reload_failed", [], ~w(message pool stderr traceback)},
    {"pool.removed", [], ~w(pool)},
    {"worker.started", ~w(startup_ms), ~w(gil os_pid pool python worker)},
    {"worker.gil_enabled", [], ~w(message module pool worker)},
    {"worker.thread_safety", [], ~w(commands kind message pool worker)},
    {"worker.start_failed", ~w(attempt retry_in_ms), ~w(message pool stderr traceback worker)},
    {"worker.recycled", ~w(memory_bytes memory_limit_bytes requests uptime_ms),
     ~w(pool reason worker)},
    {"worker.health_check_failed", [], ~w(message pool worker)},
    {"worker.stopped", ~w(requests uptime_ms), ~w(commands pool reason status worker)},
    {"request.executed", ~w(queue_us run_us), ~w(command outcome pool worker)},
    {"session.closed", ~w(requests), ~w(pool reason session)}
  ]

  # The metadata that are no texts.
  defp about("os_pid"), do: int(4712)
  defp about("gil"), do: atom(true)
  defp about("commands"), do: list([str("add"), str("größe")])
  defp about("module"), do: atom(nil)
  defp about(key), do: str("some " <> key)

  defp reports do
    for {name, measurements, metadata} <- @events do
      of("event #{name}", "supervisor", :event, [
        str(name),
        map(Enum.map(measurements, &{str(&1), int(1500)})),
        map(Enum.map(metadata, &{str(&1), about(&1)}))
      ])
    end ++
      [
        of("event of a later version", "supervisor", :event, [
          str("worker.sang"),
          map([{str("loudness"), float(11.0)}]),
          map([{str("songs"), list([str("é")])}])
        ]),
        of("log", "supervisor", :log, [
          texts([
            {"level", "info"},
            {"line", "größe – 7"},
            {"pool", "default"},
            {"source", "stdout"},
            {"worker", "default-1"}
          ])
        ]),
        of("log of the supervisor", "supervisor", :log, [
          map([
            {str("level"), str("warning")},
            {str("line"), str("snakepit.toml: pools[0]: the folder is not there")},
            {str("pool"), atom(nil)},
            {str("source"), str("supervisor")},
            {str("worker"), atom(nil)}
          ])
        ])
      ]
  end

  # -- other legal encodings ------------------------------------------------------------------------

  # One of each frame, with elements that the BEAM encodes.
  defp samples do
    args = payload(ints([1, 300]))
    info = map([{str("message"), str("x")}, {str("type"), str("timeout")}])

    [
      {"host", :hello, [int(1), info]},
      {"supervisor", :ready, [info]},
      {"worker", :failed, [info]},
      {"host", :call, [int(300), str("p"), str("add"), args]},
      {"host", :call, [int(300), atom(nil), str("add"), args, info]},
      {"supervisor", :result, [int(300), args]},
      {"supervisor", :error, [int(300), info]},
      {"supervisor", :chunk, [int(300), args]},
      {"host", :credit, [int(300), int(1)]},
      {"host", :cancel, [int(300)]},
      {"supervisor", :tool, [int(300), int(1), str("lookup"), args]},
      {"host", :tool_result, [int(300), int(1), args]},
      {"host", :tool_error, [int(300), int(1), info]},
      {"supervisor", :send, [pid(), args]},
      {"supervisor", :progress, [int(300), int(1), int(2)]},
      {"host", :control, [int(300), str("stats"), args]},
      {"supervisor", :event, [str("pool.ready"), map([]), info]},
      {"supervisor", :log, [info]},
      {"pool", :recall, [list([int(300), int(1)])]},
      {"worker", :recalled, [list([int(300)])]},
      {"host", :ping, [int(1)]},
      {"supervisor", :pong, [int(1)]}
    ]
  end

  defp other_encodings do
    envelopes =
      for {from, tag, elements} <- samples(),
          how <- [:latin1, :short_latin1, :long_utf8, :large_tuple] do
        arity = length(elements) + 1
        body = Enum.map(elements, &inner(term(&1)))
        bytes = IO.iodata_to_binary([head(to_string(tag), arity, how), body])
        read("#{tag} of #{arity}, #{how}", from, bytes, tag, elements)
      end

    envelopes ++ other_identifiers() ++ other_names() ++ other_maps()
  end

  defp other_identifiers do
    forms = [
      {"in four bytes", <<98, 7::32>>, 7},
      {"as a big integer", <<110, 1, 0, 7>>, 7},
      {"as a big integer with zeros behind", <<110, 4, 0, 44, 1, 0, 0>>, 300},
      {"as a large big integer", <<111, 2::32, 0, 44, 1>>, 300},
      {"as a big integer of no bytes", <<110, 0, 0>>, 0}
    ]

    args = payload(ints([1, 300]))
    args_bytes = inner(term(args))
    info = texts([{"type", "timeout"}])
    info_bytes = inner(term(info))
    name = <<109, 3::32, "add">>
    null = <<119, 3, "nil">>

    for {form, bytes, id} <- forms,
        {tag, from, elements, behind} <- [
          {"call", "host", [atom(nil), str("add"), args], null <> name <> args_bytes},
          {"call", "host", [str("add"), str("add"), args], name <> name <> args_bytes},
          {"control", "host", [str("add"), args], name <> args_bytes},
          {"cancel", "host", [], ""},
          {"result", "supervisor", [args], args_bytes},
          {"chunk", "supervisor", [args], args_bytes},
          {"error", "supervisor", [info], info_bytes}
        ] do
      elements = [int(id) | elements]
      bytes = head(tag, length(elements) + 1, :recommended) <> bytes <> behind
      pool = if behind == name <> name <> args_bytes, do: " with a pool", else: ""
      read("#{tag}#{pool} with an identifier #{form}", from, bytes, tag, elements)
    end
  end

  defp other_names do
    args = payload(ints([1, 300]))
    args_bytes = inner(term(args))
    begin = head("call", 5, :recommended) <> <<98, 300::32>>

    [
      of("call with atoms as names", "host", :call, [int(300), atom("p"), atom("add"), args])
      |> Map.put(:recommended, false),
      of("call with the atoms true and nil as names", "host", :call, [
        int(300),
        atom("true"),
        atom("nil"),
        args
      ])
      |> Map.put(:recommended, false),
      read(
        "call with names in Latin-1 atoms",
        "host",
        begin <> <<115, 1, 233, 100, 1::16, 233>> <> args_bytes,
        :call,
        [int(300), atom("é"), atom("é"), args]
      ),
      read(
        "call to no named pool, in Latin-1",
        "host",
        begin <> <<100, 3::16, "nil", 109, 3::32, "add">> <> args_bytes,
        :call,
        [int(300), atom(nil), str("add"), args]
      ),
      of("control call with an atom as name", "host", :control, [int(300), atom("stats"), args])
      |> Map.put(:recommended, false),
      read(
        "error of no call, in Latin-1",
        "supervisor",
        head("error", 3, :recommended) <> <<100, 3::16, "nil", 116, 0::32>>,
        :error,
        [atom(nil), map([])]
      )
    ]
  end

  defp other_maps do
    args = payload(ints([1, 300]))

    [
      of("call with options that are empty", "host", :call, [
        int(300),
        str("p"),
        str("add"),
        args,
        map([])
      ])
      |> Map.put(:recommended, false),
      of("call with atoms in its options", "host", :call, [
        int(300),
        str("p"),
        str("add"),
        args,
        map([{atom("session"), atom("seven")}])
      ])
      |> Map.put(:recommended, false),
      read(
        "log with a Latin-1 atom and a number in four bytes",
        "supervisor",
        head("log", 2, :recommended) <>
          <<116, 2::32, 109, 1::32, "a", 100, 4::16, "true", 109, 1::32, "b", 98, 7::32>>,
        :log,
        [map([{str("a"), atom("true")}, {str("b"), int(7)}])]
      )
    ]
  end
end
