%% Copyright 2024 The Authors.
%% @doc Keeps things by key.
-module(store).
-behaviour(gen_server).

-export([open/1, read/2]).

-include("store.hrl").
-define(LIMIT, 10).

-record(entry, {
    key :: binary(),
    value :: binary()
}).

-type entries() :: #{binary() => binary()}.

%% @doc Opens a store.
-spec open(string()) -> entries().
open(Path) ->
    Lines = load(Path),
    maps:from_list(Lines).

read(Store, Key) when is_map(Store) ->
    maps:get(Key, Store, undefined);
read(_, _) ->
    undefined.

load(Path) ->
    {ok, Data} = file:read_file(Path),
    case binary:split(Data, <<"\n">>, [global]) of
        [] ->
            [];
        Lines ->
            [{Line, Line} || Line <- Lines]
    end.
