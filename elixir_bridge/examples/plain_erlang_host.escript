#!/usr/bin/env escript
%% -*- erlang -*-
%% A host in plain Erlang, without the Elixir library: protocol/SPEC.md, spoken through open_port.
%% It starts a supervisor, makes one call, prints the answer and stops.
%%
%%   escript plain_erlang_host.escript PYTHON CONFIG.toml COMMAND ARGUMENT...
%%
%% Arguments are Erlang terms: escript ... pools.toml greet '<<"Ada">>'

main([Python, Config, Command | Args]) ->
    Port = open_port({spawn_executable, Python},
                     [{args, ["-m", "snakepit_port", "serve", "--config", Config]},
                      {packet, 4}, binary, exit_status]),
    send(Port, {hello, 1, #{<<"software">> => <<"plain_erlang_host">>,
                            <<"max_frame_bytes">> => 16#4000000}}),
    case next(Port) of
        {hello, 1, _Info} -> ok;
        {error, nil, Error} -> fail(Error)
    end,
    %% Calls may be made at once: they queue until their pool is ready. `nil` is the default pool.
    Id = 1,
    send(Port, {call, Id, nil, list_to_binary(Command), term_to_binary([term(A) || A <- Args])}),
    case answer(Port, Id) of
        {result, Id, Result} -> io:format("~tp~n", [binary_to_term(Result, [safe])]);
        {error, Id, Error1} -> fail(Error1)
    end,
    %% End-of-file: the supervisor finishes what is running, stops its workers and exits.
    port_close(Port);
main(_) ->
    io:format(standard_error, "plain_erlang_host.escript PYTHON CONFIG.toml COMMAND ARGUMENT...~n", []),
    halt(64).

%% The tags of SPEC section 1. `safe` refuses atoms that this program does not name somewhere.
tags() ->
    [hello, ready, result, error, chunk, tool, send, progress, event, log, pong].

%% Events, logs and the like come in between.
answer(Port, Id) ->
    case next(Port) of
        Answer when element(1, Answer) =:= result, element(2, Answer) =:= Id -> Answer;
        Answer when element(1, Answer) =:= error, element(2, Answer) =:= Id -> Answer;
        Other -> true = lists:member(element(1, Other), tags()), answer(Port, Id)
    end.

send(Port, Frame) ->
    true = port_command(Port, term_to_binary(Frame)).

next(Port) ->
    receive
        {Port, {data, Frame}} -> binary_to_term(Frame, [safe]);
        {Port, {exit_status, Status}} -> fail(#{<<"message">> => io_lib:format("exit ~p", [Status])})
    end.

term(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text ++ "."),
    {ok, Term} = erl_parse:parse_term(Tokens),
    Term.

fail(Error) ->
    io:format(standard_error, "~ts~n~ts~n", [maps:get(<<"message">>, Error),
                                             maps:get(<<"traceback">>, Error, "")]),
    halt(1).
