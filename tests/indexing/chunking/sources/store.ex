# Copyright 2024 The Authors.
defmodule Example.Store do
  @moduledoc """
  Keeps things by key.
  """

  alias Example.Entry
  import Logger
  use GenServer

  @limit 10

  defstruct [:path, :entries]

  @doc "Opens a store."
  @spec open(String.t()) :: t()
  def open(path) when is_binary(path) do
    entries = load(path)
    %__MODULE__{path: path, entries: entries}
  end

  def read(store, key), do: Map.get(store.entries, key)

  defp load(path) do
    path
    |> File.stream!()
    |> Enum.map(&String.trim/1)
  end

  defmacro locked(do: block) do
    quote do
      unquote(block)
    end
  end
end

defprotocol Example.Source do
  def read(source, key)
end

defimpl Example.Source, for: Example.Store do
  def read(store, key) do
    Example.Store.read(store, key)
  end
end

defmodule Example.StoreTest do
  use ExUnit.Case

  describe "read" do
    test "gives nothing for an unknown key" do
      assert Example.Store.read(%{}, "a") == nil
    end
  end
end
